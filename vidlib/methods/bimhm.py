"""Bi-MHM alone: HyRSM's metric (Wang et al., CVPR 2022) on plain frame features, without its relation modules.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` feature width.

Every frame finds its nearest frame in the other video, in both directions, under cosine distance; the order of frames
plays no part. The backbone is trained whole, the metric (``vidlib.matching.hausdorff``) adds no weights.

``variant="paper"`` divides each direction by its number of frames, as the paper's equation is remembered to do;
``variant="released"`` sums, as HyRSM's code does: at 8 frames its logits are 8 times sharper.
"""

from typing import TYPE_CHECKING

from vidlib.methods.base import BY_SHOTS, MetricMethod, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class BiMHM(MetricMethod):
    """mean: average over frames where False sums; None is the variant's own.

    shots: the "distance"s of K supports are averaged (released code), or they become one "prototype".
    metric_scale: factor on the logits (released code: 1). finetune: "full", or "frozen" (nothing is left to train).
    """

    shot_rules = BY_SHOTS
    learns = False

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        mean: bool | None = None,
        shots: str = "distance",
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        paper = one_of("variant", variant, ("paper", "released")) == "paper"
        self.choices = {"mean": paper if mean is None else mean}
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        self.use_metric("bimhm", metric_scale, {"mean": self.choices["mean"]})
        self.tune(finetune)
