"""Ordered differences: what changes from frame to frame, in its order, through one small projection; a floor of ours.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` feature width, `D` ``width``.

    v = [P (f_2 - f_1), ..., P (f_T - f_{T-1})]            logit of class w = scale cos(v_query, mean of w's v_support)

``f`` are the frozen backbone's frame features, ``P`` [D C] is all that is trained (C D numbers, no bias). Appearance
that stays cancels, and order is kept: whatever is meant to read motion has this to beat. No paper: a floor of ours.
There is no released code, and both variants are the same. Text plays no part.
"""

from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor, nn

from vidlib.basics.errors import UserError
from vidlib.methods.base import Features, FewShotMethod, Match, class_means, cosine, judged, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets


class OrderedDifferences(FewShotMethod):
    """width: numbers that a step between two frames is projected to. scale: factor on the cosine."""

    uses_text = False
    by_role = False
    from_features = {}

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        width: int = 64,
        scale: float = 10.0,
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        one_of("variant", variant, ("paper", "released"))
        if frames < 2 or width < 1:
            raise UserError(
                f"ordered_differences needs 2 frames or more and a width of at least 1: got {frames} and {width}"
            )
        self.projection = nn.Linear(backbone.embed_dim, width, bias=False)
        self.scale = scale

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``path`` [B (T-1)*D]; the same for both roles."""
        return {"path": self.path(self.frame_features(clips))}

    def path(self, frames: Tensor) -> Tensor:
        """Frame features ``[B T C]`` -> projected steps, joined in order, ``[B (T-1)*D]``."""
        return rearrange(self.projection(frames.diff(dim=1)), "b t d -> b (t d)")

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Part "q2s" ``[E Q W]``, the logits."""
        logits = self.scale * cosine(query["path"], class_means(support["path"], labels, text.shape[1]))
        return judged(logits, targets)
