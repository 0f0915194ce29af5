"""A frozen backbone under a frame metric: what a CLIP or a ResNet gives untrained; the floor to compare with.

Frame features are the backbone's own (of a CLIP: class token, ln_post, projection); nothing is trained. Of a CLIP,
``text_weight`` mixes in its zero-shot distribution over the episode's class texts, as MA-FSAR mixes:
``p = a p_text + (1-a) p_metric``; 0 is off, and the ablation ``with_text`` takes 0.7: of nine, 0.1 to 0.9, the best on
val (under OTAM; the mean of motion and scene, 1 and 5 shot, 1,000 episodes each, clip-mini). There is no paper and no
released code: both variants are the same.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from vidlib.basics.errors import UserError
from vidlib.methods.base import (
    BY_SHOTS,
    Features,
    FewShotMethod,
    Match,
    arithmetic_mix,
    check_weight,
    cosine,
    judged,
    one_of,
)

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets


class FrozenCLIP(FewShotMethod):
    """metric, metric_options: the frame metric; metric_scale: factor on its logits; text_weight: see above.

    shots: the metric averages the "distance"s of K supports, or they become one "prototype".
    """

    by_role = False
    shot_rules = BY_SHOTS
    from_features = {}
    learns = False

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        metric: str = "otam",
        metric_options: Mapping | None = None,
        metric_scale: float = 1.0,
        shots: str = "distance",
        text_weight: float = 0.0,
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        one_of("variant", variant, ("paper", "released"))
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        self.use_metric(metric, metric_scale, metric_options)
        self.metric.requires_grad_(False)
        self.text_weight = check_weight("text_weight", text_weight)
        self.uses_text = backbone.has_text
        if text_weight and not backbone.has_text:
            raise UserError(f"text_weight is {text_weight}, but backbone {backbone.name} has no text tower; give 0")

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``pooled`` [B C], the mean over frames, and what ``kept`` gives."""
        features = self.frame_features(clips)
        return {"pooled": features.mean(1)} | self.kept(features)

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts "q2s" (metric) and, of a CLIP, "q2t" (zero-shot text) ``[E Q W]``; the loss is only for the record."""
        q2s = self.compared(support, labels, query, text.shape[1])
        parts = {"q2s": q2s}
        if self.uses_text:
            parts["q2t"] = self.backbone.logit_scale * cosine(query["pooled"], text)
        return judged(self.mix(parts, self.text_weight) if self.uses_text else q2s, targets, parts, q2s)

    def mix(self, parts: Mapping[str, Tensor], weight: float) -> Tensor:
        """``log p`` of ``p = a p_text + (1-a) p_metric``."""
        return arithmetic_mix(parts["q2t"], parts["q2s"], weight)
