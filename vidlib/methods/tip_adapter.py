"""Tip-Adapter (Zhang et al., ECCV 2022, arXiv 2207.09519), training-free: a cache of the supports beside CLIP's texts.

    logits = scale cos(x, text) + alpha sum_i exp(-beta (1 - cos(x, x_i))) onehot(y_i)

``x`` is the mean of a video's frame features, ``scale`` the tower's own; the sum is over the supports, as the paper has
it, so that a class with more of them weighs more. The paper's images are videos here; its fine-tuned cache
(Tip-Adapter-F) and its search of alpha and beta on each data set are left out. Of alpha 1, 3, 10 and beta 2, 5.5, 20
the pair 10, 20 was best on val (the mean of motion and scene, 1 and 5 shot, 1,000 episodes each, clip-mini); the
paper's first guess is 1, 5.5.
"""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from vidlib.matching.base import full_precision
from vidlib.methods.base import Features, cosine, positive
from vidlib.methods.pooled import PooledMethod

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class TipAdapter(PooledMethod):
    """alpha: the cache against the texts. beta: how soon a support that is unlike the query stops counting."""

    uses_text = True
    needs_clip = True

    def __init__(
        self, backbone: "Backbone", frames: int = 8, *, alpha: float = 10.0, beta: float = 20.0, variant: str = "paper"
    ) -> None:
        super().__init__(backbone, frames, variant)
        positive(alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta

    def scores(self, support: Tensor, labels: Tensor, query: Tensor, text: Tensor) -> Features:
        """Parts "q2s", the cache's sum with its weight, and "q2t" (zero-shot text), ``[E Q W]``; the logits add up."""
        near = (-self.beta * (1 - cosine(query, support))).exp()
        with full_precision(near):
            cache = self.alpha * near @ F.one_hot(labels, text.shape[1]).to(near)
        return {"q2s": cache, "q2t": self.backbone.logit_scale * cosine(query, text)}
