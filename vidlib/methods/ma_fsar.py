"""MA-FSAR: multimodal adaptation of CLIP for few-shot action recognition (arXiv 2308.01532; v1 was called MA-CLIP).

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `N` patches, `D` tower width,
`C` joint-space width, `F_S`, `F_Q` frame features of a support and a query video, `F_T` a class text feature.

Both CLIP towers are frozen. In every block of the image tower, with the block's own frozen attention and norms:

1. GT-MSA: the class tokens of the T frames attend to each other; an adapter without skip;
   ``x_GT = x_cls + Adapter(MSA(LN x_cls))``.
2. Local: ``[X ; x_GT]`` in the query branch (LST-MSA), ``[X ; x_GT ; FC(F_T)]`` in the support branch (LM-MSA), within
   each frame; an adapter with skip, ``Z = X + Adapter(MSA(LN [...]))``; only the first 1+N tokens go on.
3. Joint: ``X' = Z + MLP(LN Z) + s Adapter(LN Z)``, no skip.

TPCM then lets a video's frames attend to each other, guided by the class text in the support branch, and a metric
compares prototypes with queries. ``L = a/2 (L_S2T + L_Q2T) + (1-a) L_Q2S`` and, at inference,
``p = a p_Q2T + (1-a) p_Q2S``: an arithmetic mix. A query video never meets its class text.

At initialisation every adapter contributes exactly zero. No code was released: there is only ``variant="paper"``. The
paper's abstract, captions and readers' notes were at hand, its method section was not: what they leave open is a
constructor argument, listed by ``unsettled()``. That ViT-B/16 trains 18.54 M parameters here is no check of any of it:
the configuration was chosen to fit that count.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.layers.adapter import Adapter
from vidlib.layers.attention import TemporalTransformer, block_attention
from vidlib.methods.base import (
    BY_SHOTS,
    Features,
    FewShotMethod,
    Match,
    arithmetic_mix,
    check_weight,
    cosine,
    one_of,
    some_of,
    tagged,
    untagged,
)

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone
    from vidlib.data.episodes import Targets

LOSSES = ("q2s", "s2t", "q2t")


class LayerAdapters(nn.Module):
    """What MA-FSAR adds to one block; a part that is None is left out."""

    def __init__(self, dim: int, ratio: float, temporal: bool, local: bool, joint: bool) -> None:
        super().__init__()
        self.temporal = Adapter(dim, ratio, skip=False) if temporal else None
        self.local = Adapter(dim, ratio, skip=True) if local else None
        self.joint = Adapter(dim, ratio, skip=False) if joint else None


class MAFSAR(FewShotMethod):
    """MA-FSAR on a CLIP backbone. "unknown": to us, who had no method section at hand; see ``open_choices.yaml``.

    metric, metric_options: the name and arguments of the frame metric (paper: OTAM, others plug in).
    metric_scale: factor on the metric's logits before softmax; unknown.
    ratio: adapter width / D; 0.25 from AIM and the parameter count.
    scale: s of the joint adapter; 0.5 from AIM.
    global_temporal: GT-MSA over "class" tokens (paper), over "all" tokens as AIM (ablation), or None.
    temporal_token: x_GT is "append"ed to a frame's tokens or takes the class token's place ("replace"); unknown.
    temporal_residual: x_GT includes x_cls itself; unknown (AIM has the residual).
    text_token: LM-MSA, the class text as one more token in the support branch (paper); False is the ablation.
    text_projection: the FC from text to token is "per_layer" or "shared"; unknown, chosen to fit the parameter count.
    local_adapter, joint: the local and the joint adaptation (paper); False is the ablation.
    share_adapters: one set of adapters for both branches; unknown, chosen to fit the parameter count.
    temporal_embedding: a learned T x D embedding on all tokens before ``ln_pre``, starting at zero, as AIM; unknown,
        chosen to fit the parameter count.
    tpcm: where the text is added in the support's TPCM: "query-key" | "query" | "output"; "concat" appends it as one
        more frame (CLIP-FSAR); "self" is plain self-attention; None leaves TPCM out. Unknown.
    tpcm_heads, tpcm_ffn, tpcm_dropout, tpcm_zero_init: its size and start; unknown, the size was chosen to fit the
        parameter count.
    losses: which of "q2s", "s2t", "q2t" are trained (paper: all); the weights of the others do not change.
    mix_weight: a, in the loss and at inference; unknown.
    temperature: factor on text cosines; unknown; None takes CLIP's own logit scale.
    learned: some of "mix", "temperature", which are trained from the values given, at ten times the rate (ablation,
        ours). The text losses train the temperature. A fourth loss, the cross entropy of the mixed score, trains its a
        and nothing else; the weights of the other losses stay.
    text_set: L_S2T and L_Q2T choose among the "episode"'s classes or all "train"ing classes; unknown.
    kl: "video" to text only, or "both" directions averaged as ActionCLIP; unknown.
    pooled: the text losses read the frame mean "before" or "after" TPCM; unknown (Figure 2 draws it before).
    shots: K supports become one "prototype" by averaging, or the metric averages their "distance"s; unknown.
    finetune: "adapters", or "full" to train the image tower as well (ablation).
    """

    needs_clip = adapts_blocks = True
    shot_rules = BY_SHOTS
    rates = {"mix_logit": 10.0, "log_temperature": 10.0}

    def __init__(
        self,
        backbone: "CLIPBackbone",
        frames: int = 8,
        *,
        metric: str = "otam",
        metric_options: Mapping | None = None,
        metric_scale: float = 1.0,
        ratio: float = 0.25,
        scale: float = 0.5,
        global_temporal: str | None = "class",
        temporal_token: str = "append",
        temporal_residual: bool = True,
        text_token: bool = True,
        text_projection: str = "per_layer",
        local_adapter: bool = True,
        joint: bool = True,
        share_adapters: bool = True,
        temporal_embedding: bool = True,
        tpcm: str | None = "query-key",
        tpcm_heads: int = 8,
        tpcm_ffn: int = 2048,
        tpcm_dropout: float = 0.0,
        tpcm_zero_init: bool = False,
        losses: Sequence[str] | str = LOSSES,
        mix_weight: float = 0.5,
        temperature: float | None = None,
        learned: Sequence[str] = (),
        text_set: str = "episode",
        kl: str = "video",
        pooled: str = "before",
        shots: str = "prototype",
        finetune: str = "adapters",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        if variant != "paper":
            raise UserError(f"variant {variant!r} does not exist for ma_fsar (no code was released); use 'paper'.")
        losses = tuple(losses.replace(",", " ").split() if isinstance(losses, str) else losses)
        if not losses or set(losses) - set(LOSSES):
            raise UserError(f"losses must be one or more of {', '.join(LOSSES)}, got {losses!r}.")
        check_weight("mix_weight", mix_weight)
        learned = some_of("learned", learned, ("mix", "temperature"))
        if "mix" in learned and mix_weight in (0, 1):
            raise UserError(f"mix_weight {mix_weight!r} cannot be learned from; give one between 0 and 1.")
        self.global_temporal = one_of("global_temporal", global_temporal, ("class", "all", None))
        self.temporal_token = one_of("temporal_token", temporal_token, ("append", "replace"))
        self.tpcm_text = one_of("tpcm", tpcm, ("query-key", "query", "output", "concat", "self", None))
        self.text_set = one_of("text_set", text_set, ("episode", "train"))
        self.kl = one_of("kl", kl, ("video", "both"))
        self.pooled = one_of("pooled", pooled, ("before", "after"))
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        if self.temporal_token == "replace" and global_temporal == "class" and not backbone.has_class_token:
            raise UserError(
                f"temporal_token 'replace' needs a class token, and {backbone.name} has none; use 'append'."
            )
        one_of("text_projection", text_projection, ("per_layer", "shared"))
        one_of("finetune", finetune, ("adapters", "full"))
        self.temporal_residual, self.scale = temporal_residual, scale
        self.losses, self.mix_weight, self.temperature = losses, mix_weight, temperature
        self.support_text = text_token or tpcm in ("query-key", "query", "output", "concat")
        self.attention_calls = ("temporal", "local") if global_temporal else ("local",)

        dim, joint_dim = backbone.width, backbone.embed_dim

        def layers() -> nn.ModuleList:
            kinds = global_temporal is not None, local_adapter, joint
            return nn.ModuleList(LayerAdapters(dim, ratio, *kinds) for _ in range(backbone.layers))

        self.adapters = layers()
        self.query_adapters = None if share_adapters else layers()
        projections = {"per_layer": backbone.layers, "shared": 1}[text_projection] if text_token else 0
        self.text_projections = nn.ModuleList(nn.Linear(joint_dim, dim) for _ in range(projections))
        self.temporal_embedding = nn.Parameter(torch.zeros(frames, dim)) if temporal_embedding else None
        if tpcm and (tpcm_heads < 1 or joint_dim % tpcm_heads):
            raise UserError(f"tpcm_heads must divide the width {joint_dim} of the joint space, got {tpcm_heads}.")
        self.tpcm = (
            TemporalTransformer(joint_dim, tpcm_heads, tpcm_ffn, tpcm_dropout, tpcm_dropout, tpcm_zero_init)
            if tpcm
            else None
        )
        self.mix_logit = nn.Parameter(torch.tensor(mix_weight).logit()) if "mix" in learned else None
        self.log_temperature = None
        if "temperature" in learned:
            self.log_temperature = nn.Parameter(torch.tensor(temperature or backbone.logit_scale).log())
        self.use_metric(metric, metric_scale, metric_options)
        if finetune == "full":
            backbone.visual.requires_grad_(True)

    def tower(self, clips: Tensor, text: Tensor | None, role: str, adapters: bool = True) -> Tensor:
        """``clips [B T 3 H W]``, ``text [B C]`` or None (no text token) -> F, ``[B T C]``.

        ``adapters=False`` takes the adapters and the temporal embedding away and keeps the extra tokens: the same
        tower, to the last bit, before training.
        """
        x = self.frame_tokens(clips)
        if adapters and self.temporal_embedding is not None:
            x = x + repeat(self.temporal_embedding, "t d -> (b t) 1 d", b=len(clips))
        x = self.backbone.ln_pre(x)
        layers = self.adapters if role == "support" or self.query_adapters is None else self.query_adapters
        for i, (block, layer) in enumerate(zip(self.backbone.blocks, layers, strict=True)):
            token = None
            if text is not None and self.text_projections:
                token = self.text_projections[i % len(self.text_projections)](text)
            x = self.adapted_block(block, layer, x, token, adapters, self.tokens_kept(i, x))
        return rearrange(self.backbone.read(x), "(b t) c -> b t c", t=self.frames)

    def adapted_block(
        self, block: nn.Module, layer: LayerAdapters, x: Tensor, text: Tensor | None, adapters: bool, keep: int
    ) -> Tensor:
        """One block on ``x [(B T) P+N D]``, ``text [B D]`` a token or None; the first ``keep`` tokens come back."""
        time = {"t": self.frames}
        extra = []
        if self.global_temporal == "all":
            if adapters:
                tracks = rearrange(x, "(b t) n d -> (b n) t d", **time)
                y = layer.temporal(block_attention(block, tracks, over_time=True))
                x = x + rearrange(y, "(b n) t d -> (b t) n d", n=x.shape[1])
        elif self.global_temporal == "class":
            cls = rearrange(self.backbone.class_token(x), "(b t) d -> b t d", **time)
            y = layer.temporal(block_attention(block, cls, over_time=True)) if adapters else torch.zeros_like(cls)
            token = rearrange(cls + y if self.temporal_residual else y, "b t d -> (b t) 1 d")
            if self.temporal_token == "append":
                extra.append(token)
            else:
                x = torch.cat([token, x[:, 1:]], dim=1)
        if text is not None:
            extra.append(repeat(text, "b d -> (b t) 1 d", **time))
        y = block_attention(block, torch.cat([x, *extra], dim=1) if extra else x, keep=keep)
        x = x[:, :keep] + (layer.local(y) if adapters and layer.local is not None else y)
        z = block.ln_2(x)
        x = x + block.ls_2(block.mlp(z))
        return x + self.scale * layer.joint(z) if adapters and layer.joint is not None else x

    def modulate(self, frames: Tensor, text: Tensor | None) -> Tensor:
        """TPCM: F ``[B T C]``, F_T ``[B C]`` or None -> F~ ``[B T C]``; without text it is self-attention."""
        if self.tpcm is None:
            return frames
        if text is None or self.tpcm_text == "self":
            return self.tpcm(frames, frames, frames)
        text = repeat(text, "b c -> b t c", t=self.frames)
        if self.tpcm_text == "query-key":
            return self.tpcm(frames + text, frames + text, frames)
        if self.tpcm_text == "query":
            return self.tpcm(frames + text, frames, frames)
        if self.tpcm_text == "output":
            return self.tpcm.feed_forward(self.tpcm.attend(frames, frames, frames) + text)
        joined = torch.cat([frames, text[:, :1]], dim=1)
        return self.tpcm(joined, joined, joined)[:, : self.frames]

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``pooled`` [B C], ``frames`` F~ [B T C] and, but for prototypes, ``metric.*``; a query's text is ignored."""
        if role == "query" or not self.support_text:
            text = None
        before = self.tower(clips, text, role)
        after = self.modulate(before, text)
        features = {"pooled": (before if self.pooled == "before" else after).mean(1), "frames": after}
        if role == "support" and self.shots == "prototype":
            return features
        return features | tagged(self.metric.prepare(after), "metric")

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts "q2s", "q2t" are logits ``[E Q W]`` of the two distributions; ``logits`` is the log of their mix."""
        way = text.shape[1]
        candidates, classes = untagged(support, "metric"), labels
        if self.shots == "prototype":
            candidates, classes = self.prototypes(support["frames"], labels, way)
        q2s = self.metric.compare(candidates, classes, untagged(query, "metric"), way)
        parts = {"q2s": q2s, "q2t": self.text_logits(query["pooled"], text)}
        weight = self.mix_weight if self.mix_logit is None else self.mix_logit.sigmoid().item()
        match = Match(self.mix(parts, weight), {}, parts)
        if targets is not None:
            match.losses = self.loss_terms(q2s, support["pooled"], labels, query["pooled"], text, targets)
            if self.mix_logit is not None:
                match.losses["mix"] = self.mix_loss(parts, targets)
        return match

    def mix(self, parts: Mapping[str, Tensor], weight: float) -> Tensor:
        """``log p`` of ``p = a p_Q2T + (1-a) p_Q2S`` for any ``a`` in [0, 1]; no new training is needed to vary it."""
        return arithmetic_mix(parts["q2t"], parts["q2s"], weight)

    def parameter_parts(self) -> dict[str, nn.Module | list[nn.Parameter]]:
        """For the table of parts: the adapters by what they adapt, instead of by block."""
        parts = super().parameter_parts()
        layers = [*parts.pop("adapters"), *(parts.pop("query_adapters", None) or [])]
        names = {"temporal": "GT-MSA adapters", "local": "local adapters", "joint": "joint adapters"}
        for attribute, name in names.items():
            modules = [getattr(layer, attribute) for layer in layers]
            parts[name] = [p for module in modules if module is not None for p in module.parameters()]
        return parts

    def text_logits(self, pooled: Tensor, text: Tensor) -> Tensor:
        """``pooled [E V C]``, ``text [E M C]`` -> temperature x cosine, ``[E V M]``."""
        factor = self.backbone.logit_scale if self.temperature is None else self.temperature
        return (factor if self.log_temperature is None else self.log_temperature.exp()) * cosine(pooled, text)

    def mix_loss(self, parts: Mapping[str, Tensor], targets: "Targets") -> Tensor:
        """Cross entropy of the mixed score; its gradient reaches a alone."""
        text, metric = (parts[name].detach().log_softmax(-1) for name in ("q2t", "q2s"))
        log_p = torch.logaddexp(F.logsigmoid(self.mix_logit) + text, F.logsigmoid(-self.mix_logit) + metric)
        return F.nll_loss(log_p.flatten(0, 1), targets.query_labels.flatten())

    def loss_terms(
        self, q2s: Tensor, support: Tensor, labels: Tensor, query: Tensor, text: Tensor, targets: "Targets"
    ) -> dict[str, Tensor]:
        """The three terms with their weights: a/2, a/2 and 1-a."""
        class_ids, truth = {"s2t": labels, "q2t": targets.query_labels}, text.shape[1]
        if self.text_set == "train":
            class_ids = {name: targets.class_ids.gather(1, ids) for name, ids in class_ids.items()}
            text, truth = targets.all_text.expand(len(labels), -1, -1), len(targets.all_text)
        terms = {"q2s": (1 - self.mix_weight) * F.cross_entropy(q2s.flatten(0, 1), targets.query_labels.flatten())}
        for name, pooled in (("s2t", support), ("q2t", query)):
            similarity = self.text_logits(pooled, text)
            terms[name] = self.mix_weight / 2 * similarity_kl(similarity, F.one_hot(class_ids[name], truth), self.kl)
        return {name: terms[name] for name in self.losses}


def similarity_kl(logits: Tensor, truth: Tensor, direction: str = "video") -> Tensor:
    """KL(truth || softmax logits), mean over videos, then episodes; ``logits``, ``truth [E V M]``, truth 1 for a fit.

    Rows of ``truth`` are normalised, so several right texts share the mass. ``direction="both"`` averages in the same
    from text to video, over the texts that some video fits (ActionCLIP's form; MA-FSAR's is unknown to us).
    """
    truth = truth.to(logits.dtype)
    if direction == "both":
        return (similarity_kl(logits, truth) + similarity_kl(logits.transpose(1, 2), truth.transpose(1, 2))) / 2
    mass = truth.sum(-1)
    kl = F.kl_div(logits.log_softmax(-1), truth / mass[..., None].clamp(min=1), reduction="none").sum(-1)
    return (kl.sum(1) / (mass > 0).sum(1)).mean()
