"""CLIP-FSAR (Wang et al., IJCV 2023, arXiv 2303.02982): CLIP fully fine-tuned, prototypes modulated by the class text.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` joint-space width, `K` training
classes.

The whole image tower is trained; the text tower gives fixed class features, not normalised. One temporal Transformer
serves both roles: a query's T frames attend to each other; a support's frames attend together with its class text as a
(T+1)-th token, of which the first T come back. Supports of a class are averaged before (``merge_before``, text with
them) or after the Transformer, and a metric (OTAM, lambda 0.5, both directions) compares prototypes with queries.

Loss: ``CE(metric) + w CE(text)``, where the text term classifies the mean backbone feature of every support and query
among all training classes: ``scale * cos``, with a learned scale that starts at 1. Inference: "visual" (released
default), "text", or "combined", ``p_text^a p_visual^(1-a)``: a product of powers, where MA-FSAR has an arithmetic mix.

``variant="released"`` differs from ``variant="paper"`` in two places: the cosine of the training text term has
+0.01 in its denominator, and the visual distribution is ``softmax(-d / 8)`` whatever T is, where paper has ``-d / T``.
Both have the +0.01 of the released code's frame cosine in the denominator, as the metric has it by default.
Also in the released code, and outside this file: test frames are drawn at random in each segment, the best checkpoint
is picked on the test list, weight decay is read from another key, and the loss is divided by 4 accumulated tasks.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.layers.attention import TemporalTransformer
from vidlib.methods.base import (
    BY_SHOTS,
    Features,
    FewShotMethod,
    Match,
    check_weight,
    class_means,
    cosine,
    one_of,
    tagged,
    untagged,
)

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone
    from vidlib.data.episodes import Targets


class CLIPFSAR(FewShotMethod):
    """CLIP-FSAR on a CLIP backbone.

    metric, metric_options: the frame metric; None as options means lambda 0.5 for OTAM. metric_scale: factor on its
    logits (released code: 1, no temperature). text_loss_weight: w, 3.0 on SSv2, 1.5 on Kinetics and UCF101, 1.2 on
    HMDB51. inference: "visual" | "text" | "combined", with text_coefficient a (released code: 0.9).
    shots: a class is the "prototype" that its supports' frames make (paper), or "distance"s to each are averaged.
    merge_before: average K supports before the Transformer (released 5-shot recipes) rather than after.
    dropout, ffn_dropout: of the Transformer (released code: 0.2, 0.05). finetune: "full", or "frozen" (ablation).
    """

    needs_clip = True
    support_text = True
    shot_rules = BY_SHOTS
    from_features = {"finetune": "frozen"}

    def __init__(
        self,
        backbone: "CLIPBackbone",
        frames: int = 8,
        *,
        metric: str = "otam",
        metric_options: Mapping | None = None,
        metric_scale: float = 1.0,
        text_loss_weight: float = 3.0,
        inference: str = "visual",
        text_coefficient: float = 0.9,
        shots: str = "prototype",
        merge_before: bool = True,
        dropout: float = 0.2,
        ffn_dropout: float = 0.05,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.variant = one_of("variant", variant, ("paper", "released"))
        self.inference = one_of("inference", inference, ("visual", "text", "combined"))
        self.text_coefficient = check_weight("text_coefficient", text_coefficient)
        self.text_loss_weight = text_loss_weight
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        self.merge_before = merge_before
        self.context = TemporalTransformer(backbone.embed_dim, dropout=dropout, ffn_dropout=ffn_dropout)
        self.scale = nn.Parameter(torch.ones(1))
        if metric_options is None:
            metric_options = {"lam": 0.5} if metric == "otam" else {}
        self.use_metric(metric, metric_scale, metric_options)
        self.tune(finetune)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """See ``embed_frames``."""
        return self.embed_frames(self.frame_features(clips), text, role)

    def embed_frames(self, frames: Tensor, text: Tensor | None, role: str) -> Features:
        """``embed`` after the backbone: ``frames [B T C]``, ``text [B C]`` or None for a query.

        ``pooled`` [B C], their mean; a support's ``frames`` [B T C], of which a class is the mean, its text still to
        come with ``merge_before``; and ``metric.*``, the modulated frames for the metric. Outside training a support
        has these too: the only one of its class, it is the prototype, and need not be modulated in every episode.
        """
        features = {"pooled": frames.mean(1)}
        if role == "query":
            return features | tagged(self.metric.prepare(self.modulate(frames, None)), "metric")
        if self.shots == "distance":
            return features | tagged(self.metric.prepare(self.modulate(frames, text)), "metric")
        if self.merge_before and (self.training or text is None):
            return features | {"frames": frames}
        modulated = self.modulate(frames, text)
        features["frames"] = frames if self.merge_before else modulated
        return features if self.training else features | tagged(self.metric.prepare(modulated), "metric")

    def modulate(self, frames: Tensor, text: Tensor | None) -> Tensor:
        """The temporal Transformer on ``frames [B T C]``; ``text [B C]`` is one more token to attend to.

        What that token itself becomes is never read, and not computed.
        """
        seen = frames if text is None else torch.cat([frames, text[:, None].to(frames.dtype)], dim=1)
        return self.context(frames, seen, seen)

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts "q2s" (metric logits) and "q2t" (scale x cosine with the episode's texts), ``[E Q W]``."""
        episodes, way = text.shape[:2]
        prototypes, classes = untagged(support, "metric"), labels
        if self.shots == "prototype" and (labels.shape[1] > way or not prototypes):
            frames = class_means(support["frames"], labels, way)
            if self.merge_before:
                flat = self.modulate(frames.flatten(0, 1), text.flatten(0, 1))
                frames = rearrange(flat, "(e w) t c -> e w t c", e=episodes)
            prototypes = self.metric.prepare(frames)
            classes = torch.arange(way, device=labels.device).expand(episodes, way)
        q2s = self.metric.compare(prototypes, classes, untagged(query, "metric"), way)
        parts = {"q2s": q2s, "q2t": self.scale * cosine(query["pooled"], text)}
        weight = {"visual": 0.0, "text": 1.0, "combined": self.text_coefficient}[self.inference]
        match = Match(q2s if self.inference == "visual" else self.mix(parts, weight), {}, parts)
        if targets is not None:
            match.losses["q2s"] = F.cross_entropy(q2s.flatten(0, 1), targets.query_labels.flatten())
            logits = self.class_logits(torch.cat([support["pooled"], query["pooled"]], dim=1), targets.all_text)
            truth = targets.class_ids.gather(1, torch.cat([labels, targets.query_labels], dim=1))
            match.losses["text"] = self.text_loss_weight * F.cross_entropy(logits.flatten(0, 1), truth.flatten())
        return match

    def class_logits(self, pooled: Tensor, all_text: Tensor) -> Tensor:
        """``pooled [E V C]``, ``all_text [K C]`` -> ``[E V K]``, the training text term's logits."""
        return self.scale * cosine(pooled, all_text[None], eps=0.01 if self.variant == "released" else 0.0)

    def mix(self, parts: Mapping[str, Tensor], weight: float) -> Tensor:
        """``log(p_text^a p_visual^(1-a))``, ``p_visual = softmax(-d / T)``; not normalised, as in the released code."""
        visual = parts["q2s"] / (8 if self.variant == "released" else self.frames)
        return weight * parts["q2t"].log_softmax(-1) + (1 - weight) * visual.log_softmax(-1)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the released head (``context2.*``, ``scale``) and, where present, its image tower (``backbone.*``)."""
        names = {
            "0.norm": "norm",
            "0.fn.to_q": "to_q",
            "0.fn.to_k": "to_k",
            "0.fn.to_v": "to_v",
            "0.fn.to_out.0": "to_out",
            "1.net.0": "ffn.0",
            "1.net.3": "ffn.3",
        }
        head, tower = {}, {}
        for key, value in state.items():
            if key.startswith("backbone."):
                tower[key.removeprefix("backbone.")] = value
            elif key.startswith("context2.layers.0."):
                module, kind = key.removeprefix("context2.layers.0.").rsplit(".", 1)
                head[f"{names[module]}.{kind}"] = value
        self.context.load_state_dict(head)
        with torch.no_grad():
            self.scale.copy_(state["scale"])
        if tower:
            self.backbone.visual.load_state_dict(tower)
