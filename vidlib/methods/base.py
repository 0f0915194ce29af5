"""What every few-shot method shares: the cut into embed and match, episodes, and what is trained.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `T` frames, `C` joint-space width, `K` training classes.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.matching import build_metric
from vidlib.params import open_choices

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import EpisodeBatch, Targets

Features = dict[str, Tensor]

# A ResNet's children by their place in a Sequential, as released codes keep them -> torchvision's and timm's names.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@dataclass
class Match:
    """How episodes came out: ``logits [E Q W]``, the weighted terms of the loss, and named partial logits."""

    logits: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The sum of ``losses``; they are there when ``match`` was given targets."""
        return torch.stack(list(self.losses.values())).sum()


class FewShotMethod(nn.Module, ABC):
    """A paper's model as two functions: ``embed`` sees one video, ``match`` sees embeddings of whole episodes.

    What is trained is what has ``requires_grad``; the towers of ``self.backbone`` stay in evaluation mode and frozen
    unless a method says otherwise. ``uses_text``: whether class texts matter at all; ``support_text``: whether
    ``embed`` wants the class text of a support video.
    ``needs_clip``: whether the method reads class texts, so that no image model will do; ``adapts_blocks``: whether it
    adapts a ViT's blocks (``vidlib.backbones.vit``); ``needs_maps``: whether it reads the tower's stage maps,
    or the argument that makes it read them.
    ``by_role``: whether ``embed`` depends on the role; where not, a video is embedded once for both.
    ``attention_calls``: what a block's attention is called for, in order, in one pass of the tower. ``sources``: for
    each constructor argument that no source settles, what is known of it (``open_choices.yaml``; a class of one's own
    may have a dict); ``choices`` holds the values taken.
    ``shot_rules``: the constructor arguments by which K supports of a class are averaged frame by frame before they are
    compared ("frames"), or compared each and their distances averaged ("distances"); empty where neither is meant.
    ``from_features``: the constructor arguments under which all before ``match`` reads ``frame_features`` of a tower
    that is left alone, so that stored ones do (``data.features``); None where it reads more of the tower.
    ``learns``: whether something is left to train then.
    ``released_unused``, ``released_missing``: regular expressions of the keys that files of the released code hold and
    nothing here needs, and of the parameters here that such files lack. ``missing``: what a released checkpoint left as
    it was built.
    """

    uses_text = True
    support_text = False
    needs_clip = adapts_blocks = False
    needs_maps: bool | str = False
    by_role = True
    attention_calls: tuple[str, ...] = ("local",)
    sources: ClassVar[Mapping[str, str]] = open_choices.Sources()
    shot_rules: Mapping[str, Mapping[str, object]] = {}
    shots = "distance"
    from_features: Mapping[str, object] | None = None
    learns = True
    released_unused: tuple[str, ...] = ()
    released_missing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __init__(self, backbone: "Backbone", frames: int, feature_dim: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)  # a method before may have trained parts of it
        self.frames = frames
        self.feature_dim = feature_dim
        self.choices: dict[str, object] = {}

    @abstractmethod
    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``clips [B T 3 H W]``, ``text [B C]`` or None, role "support" or "query" -> tensors with leading ``B``."""

    @abstractmethod
    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """``support [E S ...]``, ``labels [E S]``, ``query [E Q ...]``, ``text [E W C]``; losses with ``targets``."""

    def forward(self, batch: "EpisodeBatch") -> Match:
        """Embed all videos of the episodes, then match. Supports come with their own class text, queries never."""
        episodes = len(batch.support)
        if batch.support.ndim == 4 and not (self.by_role or self.support_text):  # stored features: one small call
            features = self.embed(torch.cat([batch.support, batch.query], dim=1).flatten(0, 1), None, "query")
            parts = [len(batch.support_labels[0]), batch.query.shape[1]]
            both = {key: value.unflatten(0, (episodes, -1)).split(parts, dim=1) for key, value in features.items()}
            support, query = ({key: value[i] for key, value in both.items()} for i in (0, 1))
            return self.match(support, batch.support_labels, query, batch.text, batch.targets)
        text = class_rows(batch.text, batch.support_labels).flatten(0, 1) if self.support_text else None
        support = self.embed(rearrange(batch.support, "e s ... -> (e s) ..."), text, "support")
        query = self.embed(rearrange(batch.query, "e q ... -> (e q) ..."), None, "query")
        support, query = (
            {key: rearrange(value, "(e n) ... -> e n ...", e=episodes) for key, value in features.items()}
            for features in (support, query)
        )
        return self.match(support, batch.support_labels, query, batch.text, batch.targets)

    def use_metric(self, name: str, scale: float = 1.0, options: Mapping | None = None) -> None:
        """Compare frames ``[T feature_dim]`` by this metric; one put in place after training has untrained weights.

        ``scale`` is a factor on its logits. A wrong name or option is a UserError. Embed videos anew after a change.
        """
        try:
            metric = build_metric(name, dim=self.feature_dim, frames=self.frames, **{"scale": scale, **(options or {})})
        except (TypeError, ValueError) as cause:
            raise UserError(f"metric {name!r} cannot be built: {cause}") from cause
        like = next(self.backbone.trunk.parameters())
        self.metric = metric.to(like.device, like.dtype).train(self.training)

    def check_frames(self, clips: Tensor) -> None:
        """UserError where ``clips [B T ...]`` are of another length than the method was built for."""
        if clips.shape[1] != self.frames:
            raise UserError(f"clips have {clips.shape[1]} frames, but the method was built with frames={self.frames}.")

    def tune(self, finetune: str) -> None:
        """ "full": train the whole image tower; "frozen": none of it."""
        if one_of("finetune", finetune, ("full", "frozen")) == "full":
            self.backbone.unfreeze()

    def frame_features(self, clips: Tensor) -> Tensor:
        """``[B T 3 H W] -> [B T C]``: the backbone's feature of every frame; stored ones ``[B T C]`` as they are."""
        self.check_frames(clips)
        if clips.ndim == 3:
            return clips
        features = self.backbone.features(rearrange(clips, "b t c h w -> (b t) c h w"), self.training)
        return rearrange(features, "(b t) c -> b t c", t=self.frames)

    def frame_maps(self, clips: Tensor) -> list[Tensor]:
        """``[B T 3 H W] -> 4 x [B T D_i h_i w_i]``: the backbone's stage maps of every frame, shallow first."""
        self.check_frames(clips)
        if clips.ndim == 3:
            name = type(self).__name__
            raise UserError(f"{name} reads the tower's maps, and a store holds frames' features; give features=never")
        maps = self.backbone.stages(rearrange(clips, "b t c h w -> (b t) c h w"))
        return [rearrange(x, "(b t) d h w -> b t d h w", t=self.frames) for x in maps]

    def kept(self, frames: Tensor) -> Features:
        """What ``compared`` needs of ``frames [B T C]``: ``metric.*``; and themselves, where a class averages them."""
        features = tagged(self.metric.prepare(frames), "metric")
        return features | {"frames": frames} if self.shots == "prototype" else features

    def compared(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """The metric's logits ``[E Q W]`` of what ``kept`` gave, by ``shots``: "prototype" averages the frames of a
        class, "distance" the distances to its supports. The only support of its class is what it is under both."""
        candidates = untagged(support, "metric")
        if self.shots == "prototype" and labels.shape[1] > way:
            candidates, labels = self.prototypes(support["frames"], labels, way)
        return self.metric.compare(candidates, labels, untagged(query, "metric"), way)

    def prototypes(self, frames: Tensor, labels: Tensor, way: int) -> tuple[Features, Tensor]:
        """Supports' ``frames [E S T C]`` averaged by class, prepared for the metric, and their labels ``[E W]``."""
        classes = torch.arange(way, device=labels.device).expand(len(labels), way)
        return self.metric.prepare(class_means(frames, labels, way)), classes

    def metric_match(
        self, support: Features, labels: Tensor, query: Features, way: int, targets: "Targets | None" = None
    ) -> Match:
        """``match`` of a backbone under a metric: its logits, part "q2s" too, and their cross-entropy with targets."""
        if self.shots == "prototype" and labels.shape[1] > way:
            support, labels = self.prototypes(support["frames"], labels, way)
        logits = self.metric.compare(support, labels, query, way)
        return judged(logits, targets)

    def load_trunk(self, state: Mapping[str, Tensor]) -> None:
        """Take a released ResNet where ``state`` holds one: ``resnet.*`` or ``backbone.*``, torchvision's children
        counted through (0 the first convolution, 7 the last stage), with DataParallel's ``module.`` or without."""
        found = (re.fullmatch(r"(?:resnet|backbone)\.(?:module\.)?(\d+)\.(.+)", key) for key in state)
        trunk = {f"{CHILDREN.get(m[1], m[1])}.{m[2]}": state[m[0]] for m in found if m}
        if trunk:
            self.backbone.trunk.load_state_dict(trunk)

    def frame_tokens(self, clips: Tensor) -> Tensor:
        """``[B T 3 H W] -> [(B T) P+N D]``: the backbone's tokens before ``ln_pre``."""
        self.check_frames(clips)
        return self.backbone.tokens(rearrange(clips, "b t c h w -> (b t) c h w"))

    def tokens_kept(self, layer: int, x: Tensor) -> int:
        """How many tokens a block must give back: in training only the class token of the last is ever read, where a
        tower reads it.

        In evaluation it is all of them, so that every matrix has the shape that open_clip gives it, and the same bits.
        """
        last = self.training and layer == self.backbone.layers - 1
        return 1 if last and self.backbone.reads_class_token else x.shape[1]

    def unsettled(self) -> list[tuple[str, object, str]]:
        """Choices that no source settles: (constructor argument, value here, what the sources say)."""
        return open_choices.listed(type(self), self.sources, self.choices)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def parameter_parts(self) -> dict[str, nn.Module | list[nn.Parameter]]:
        """What ``results.cost.parameters`` lists: both towers, then what the method adds, by name."""
        parts = {"image tower": self.backbone.trunk}
        if self.backbone.has_text:
            parts["text tower"] = self.backbone  # a parameter counts in the first part that has it
        parts |= {name: module for name, module in self.named_children() if name != "backbone"}
        return parts | {name: [p] for name, p in self.named_parameters(recurse=False)}


class MetricMethod(FewShotMethod):
    """A backbone under a frame metric, put in place by ``use_metric`` in ``__init__``; it is cut as the metric is."""

    uses_text = False
    by_role = False
    from_features = {"finetune": "frozen"}

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """What the metric keeps of a video's frames ``[B T C]``."""
        return self.metric.prepare(self.frame_features(clips))

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Part "q2s" ``[E Q W]``, the logits."""
        return self.metric_match(support, labels, query, text.shape[1], targets)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the trunk: a metric without weights has nothing else in a released file."""
        self.load_trunk(state)


BY_SHOTS = {"frames": {"shots": "prototype"}, "distances": {"shots": "distance"}}


def class_rows(table: Tensor, labels: Tensor) -> Tensor:
    """``table [E W ...]`` at ``labels [E S]`` -> ``[E S ...]``."""
    return table[torch.arange(len(table), device=table.device)[:, None], labels]


def class_means(x: Tensor, labels: Tensor, way: int) -> Tensor:
    """``x [E S ...]`` averaged over each class's supports, ``labels [E S]`` -> ``[E W ...]``; unbalanced is fine."""
    member = F.one_hot(labels, way).to(x.dtype)
    weight = member / member.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("esw,es...->ew...", weight, x)


def cosine(x: Tensor, y: Tensor, eps: float = 0.0) -> Tensor:
    """``x [E V C]``, ``y [E M C]`` -> ``x.y / (|x||y| + eps)``, ``[E V M]``, in no less than float32."""
    x, y = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, y))
    lengths = x.norm(dim=-1)[:, :, None] * y.norm(dim=-1)[:, None] + eps
    return (x[:, :, None] * y[:, None]).sum(-1) / lengths.clamp(min=1e-12)


def arithmetic_mix(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """``log(a softmax(first) + (1-a) softmax(second))`` over the last axis, for any ``a`` in [0, 1]."""
    log = [math.log(w) if w > 0 else -math.inf for w in (weight, 1 - weight)]
    return torch.logaddexp(log[0] + first.log_softmax(-1), log[1] + second.log_softmax(-1))


def check_blocks(what: str, backbone: "Backbone") -> None:
    """UserError where ``what`` adapts a ViT's blocks and the tower has none that it knows."""
    if not hasattr(backbone, "blocks"):
        trunk = getattr(backbone.visual, "trunk", backbone.visual)
        kind = type(trunk.blocks[0] if type(trunk).__name__ in ("Eva", "VisionTransformer") else trunk).__name__
        raise UserError(
            f"{what} adapts a ViT's blocks, and those of backbone {backbone.name} are of no known kind ({kind}); give "
            "clip-mini, a CLIP ViT such as ViT-B-16-quickgelu, or a ViT of timm such as vit_base_patch14_dinov2."
        )


def check_weight(name: str, weight: float) -> float:
    """``weight``, or UserError where it is no mixing weight."""
    if not 0 <= weight <= 1:
        raise UserError(f"{name} must lie between 0 and 1, got {weight!r}.")
    return weight


def positive(**values: float) -> None:
    """UserError naming the first that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{name} must be above 0, got {value!r}.")


def one_of(name: str, value: object, choices: tuple) -> object:
    """``value``, or UserError naming the argument and what it may be."""
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value


def some_of(name: str, values: Sequence[str], choices: Sequence[str]) -> tuple[str, ...]:
    """``values`` in the order of ``choices``, or UserError naming the first that is none of them, and the nearest."""
    if isinstance(values, str):
        raise UserError(f"{name} must be a list of names, got {values!r}; write [{values!r}].")
    for value in values:
        if value not in choices:
            raise UserError(f"{name} has {value!r}, which is unknown; {suggest(value, choices, cutoff=0.4)}")
    return tuple(choice for choice in choices if choice in values)


def judged(
    logits: Tensor, targets: "Targets | None", parts: Mapping[str, Tensor] | None = None, of: Tensor | None = None
) -> Match:
    """``logits [E Q W]`` with their ``parts`` (else "q2s", the logits) and, with targets, the loss "q2s": the
    cross-entropy of ``of``, or of the logits."""
    match = Match(logits, {}, {"q2s": logits} if parts is None else dict(parts))
    if targets is not None:
        scored = logits if of is None else of
        match.losses["q2s"] = F.cross_entropy(scored.flatten(0, 1), targets.query_labels.flatten())
    return match


def tagged(features: Features, tag: str) -> Features:
    """Prefix keys, so that a metric's features and a method's own can share one dict; ``untagged`` takes them back."""
    return {f"{tag}.{key}": value for key, value in features.items()}


def untagged(features: Features, tag: str) -> Features:
    return {key.removeprefix(f"{tag}."): value for key, value in features.items() if key.startswith(f"{tag}.")}
