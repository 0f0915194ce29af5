"""OTAM (Cao et al., CVPR 2020): frames of two videos aligned in order, softly, at the cost of their cosine distances.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` feature width.

Frame features of the backbone, which is trained whole; the metric (``vidlib.matching.otam``) adds no weights. A class's
logit is minus the mean alignment cost to its support videos.

OTAM has no official code. ``variant="released"`` is the recursion that the author of TRX published and that CLIP-FSAR,
HyRSM and MoLo carry: 0.01 is added to the product of norms in the cosine. ``variant="paper"`` has the plain cosine.
Also in that code and not in ours: ``log sum exp`` is written out and becomes infinite beyond a cost of about 10.3. It
takes the first row of the table hard where the paper is soft, which is the same number (one predecessor has no choice).
"""

from typing import TYPE_CHECKING

from vidlib.methods.base import BY_SHOTS, MetricMethod, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class OTAM(MetricMethod):
    """lam: softness of the alignment. bidirectional: sum the costs of both paddings, else pad the support side alone.

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
        lam: float = 0.1,
        bidirectional: bool = True,
        shots: str = "distance",
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        self.choices = {"lam": lam, "bidirectional": bidirectional}
        eps = 0.01 if one_of("variant", variant, ("paper", "released")) == "released" else 1e-12
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        self.use_metric("otam", metric_scale, {"lam": lam, "bidirectional": bidirectional, "eps": eps})
        self.tune(finetune)
