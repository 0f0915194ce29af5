"""TRX (Perrett et al., CVPR 2021): ordered tuples of a query's frames attend to all tuples of a class's supports.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` feature width.

Frame features of the backbone, which is trained whole, under the cross-transformer metric
(``vidlib.matching.cross_transformer``, where the equations stand): one of its heads for each cardinality, trained too.

``variant="paper"`` sums the heads' logits, as the paper is remembered to do; ``variant="released"`` takes their mean:
the same ranking, a softmax less sharp. Also in the released code, and a recipe's choice here: the loss is the sum over
queries divided by 16 accumulated episodes, plain SGD, no ImageNet normalisation of frames, no val list.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from vidlib.matching.cross_transformer import released_state
from vidlib.methods.base import MetricMethod, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone


class TRX(MetricMethod):
    """cardinalities: sizes of the tuples. out_dim: width of keys and values, None is the released 1152 (9/4 of a
    feature narrower than 512). dropout: on frames after the positional encoding.

    combine: "sum" | "mean" of the cardinalities' logits, None is the variant's own. metric_scale: a further factor on
    them (released code: 1). finetune: "full", or "frozen" (the heads alone train).
    """

    # norm_v is made and never used; the table of positions is computed here
    released_unused = (r"^transformers\.\d+\.norm_v\.", r"^transformers\.\d+\.pe\.pe$")

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        cardinalities: Sequence[int] = (2, 3),
        out_dim: int | None = None,
        dropout: float = 0.1,
        combine: str | None = None,
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        paper = one_of("variant", variant, ("paper", "released")) == "paper"
        combine = one_of("combine", combine or ("sum" if paper else "mean"), ("sum", "mean"))
        self.choices = {"combine": combine}
        options = {"cardinalities": cardinalities, "out_dim": out_dim, "dropout": dropout}
        self.use_metric("trx", metric_scale, options)
        if combine == "sum":
            self.metric.scale *= len(cardinalities)  # the metric itself takes the mean
        self.tune(finetune)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the heads (``transformers.*``, in the order of ``cardinalities``) and, where present, the trunk."""
        self.metric.load_state_dict(released_state(state))
        self.load_trunk(state)
