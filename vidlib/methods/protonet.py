"""ProtoNet (Snell et al., NeurIPS 2017) on frame averages: what the few-shot video papers list as their plainest row.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` feature width.

A video is the mean of its frames' features, blind to their order; the whole backbone is trained, nothing is added.
``variant="paper"``: a class is the mean of its support videos and a query's logit is ``-|q - p|^2``, the original's.
``variant="released"``: the TSN baseline of the TRX author's reimplementations, the cosine of query and support (0.01
added to the product of norms), its mean over the class's supports; its flag ``norm_sq_dist`` is ``kind="euclidean"``.
We print ``cos - 1`` where that code has ``cos``: a constant, which no softmax sees. Cosines lie within 2 of each other,
so that code's softmax is nearly flat; ``metric_scale`` sharpens it.
"""

from typing import TYPE_CHECKING

from vidlib.methods.base import MetricMethod, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class ProtoNet(MetricMethod):
    """kind: "euclidean" | "cosine", None is the variant's own; with variant "paper" a cosine is taken to the prototype.

    metric_scale: factor on the logits (released code: 1). finetune: "full", or "frozen" (nothing is left to train).
    """

    learns = False

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        kind: str | None = None,
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        released = one_of("variant", variant, ("paper", "released")) == "released"
        kind = one_of("kind", kind or ("cosine" if released else "euclidean"), ("euclidean", "cosine"))
        self.choices = {"kind": kind}
        if released and kind == "cosine":
            self.use_metric("cosine", metric_scale)
        else:
            self.use_metric("prototype", metric_scale, {"kind": kind, "eps": 1e-12})
        self.tune(finetune)
