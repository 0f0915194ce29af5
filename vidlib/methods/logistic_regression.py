"""Logistic regression of each episode on frozen features: plain transfer, the baseline of every few-shot method.

    w, b = least of  C sum_i CE(w x_i + b, y_i) + |w|^2 / 2  over the episode's supports      logits = w x_query + b

``x`` is the mean of a video's frame features, divided by its length. Chen et al. (ICLR 2019) and Tian et al. (ECCV
2020) set such a classifier beside the episodic methods; here it is solved to the optimum (``softmax_regression``),
so that nothing of an optimiser is left to choose. Of nine ``C`` from 0.1 to 10,000, 100 was best on val (the mean of
motion and scene, 1 and 5 shot, 1,000 episodes each, clip-mini). No released code: both variants are the same.
"""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from vidlib.layers import softmax_regression
from vidlib.matching.base import at_least_float32, full_precision
from vidlib.methods.base import Features, positive
from vidlib.methods.pooled import PooledMethod

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class LogisticRegression(PooledMethod):
    """strength: the ``C`` above, larger is less regularised."""

    def __init__(
        self, backbone: "Backbone", frames: int = 8, *, strength: float = 100.0, variant: str = "paper"
    ) -> None:
        super().__init__(backbone, frames, variant)
        positive(strength=strength)
        self.strength = strength

    def scores(self, support: Tensor, labels: Tensor, query: Tensor, text: Tensor) -> Features:
        """Part "q2s" ``[E Q W]``, the logits."""
        w, b = softmax_regression.fit(F.normalize(support, dim=-1), labels, text.shape[1], self.strength)
        with full_precision(query):
            return {"q2s": (F.normalize(query, dim=-1).to(w) @ w + b[:, None]).to(at_least_float32(query).dtype)}
