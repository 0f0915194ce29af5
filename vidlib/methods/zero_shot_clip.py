"""Zero-shot CLIP (Radford et al., ICML 2021): the class texts alone, no support is looked at; the floor of every text.

    logit of class w = scale cos(mean of the query's frame features, text of w)

``scale`` is the tower's own; there is no number to choose. Both variants are the same.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from vidlib.methods.base import Features, cosine
from vidlib.methods.pooled import PooledMethod

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class ZeroShotCLIP(PooledMethod):
    """No arguments of its own."""

    uses_text = True
    needs_clip = True

    def __init__(self, backbone: "Backbone", frames: int = 8, *, variant: str = "paper") -> None:
        super().__init__(backbone, frames, variant)

    def scores(self, support: Tensor, labels: Tensor, query: Tensor, text: Tensor) -> Features:
        """Part "q2t" ``[E Q W]``, the logits."""
        return {"q2t": self.backbone.logit_scale * cosine(query, text)}
