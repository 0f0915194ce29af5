"""What ActionCLIP and M2-CLIP share: videos and sentences in one space, losses over a batch, scores of class texts.

Legend: `B` clips of a batch, `T` frames, `C` joint-space width, `K` classes, `P` templates, `L` tokens of a sentence.

A method is three functions: ``embed`` sees one video, ``encode_text`` a sentence, ``score`` sets videos against the
texts of all classes; ``losses`` trains. A video's features depend on no other video, so that testing embeds each once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.words import sentence
from vidlib.data.labelled import LabelledBatch
from vidlib.layers.gathering import gather
from vidlib.matching.base import at_least_float32, full_precision
from vidlib.methods.base import FewShotMethod
from vidlib.params import open_choices

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone

Features = dict[str, Tensor]
LABEL_WORDS = ("{}",)


@dataclass
class Outcome:
    """How a batch came out: the weighted terms of the loss, over the batch of all processes; ``hits [B]`` bool, which
    of this process's clips are told right; ``parts``: named tensors on the way, for tests and figures."""

    losses: dict[str, Tensor]
    hits: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        return torch.stack(list(self.losses.values())).sum()


class VideoTextMethod(nn.Module, ABC):
    """A paper's model of videos and sentences on a CLIP.

    ``templates``: the sentences around a class's text; in training one is drawn per clip, in testing all are used.
    ``masks_words``: whether ``losses`` wants masked sentences. ``SENTENCE``: what words are masked
    in, where a vocabulary is wanted. ``uses_text``: whether class texts play a part in scores
    (a classifier of fixed classes has none, and cannot meet new ones). ``rates``: start of a parameter's name -> its
    part of the learning rate, the longest start that fits wins. ``attention_calls``, ``sources``, ``choices``,
    ``released_unused``, ``released_missing``, ``missing``: as in ``FewShotMethod``.
    """

    attention_calls: tuple[str, ...] = ("local",)
    needs_clip = True
    adapts_blocks = needs_maps = False
    masks_words = False
    uses_text = True
    SENTENCE: ClassVar[str] = ""
    templates: tuple[str, ...] = LABEL_WORDS
    rates: Mapping[str, float] = {}
    sources: ClassVar[Mapping[str, str]] = open_choices.Sources()
    released_unused: tuple[str, ...] = ()
    released_missing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __init__(self, backbone: "CLIPBackbone", frames: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.frames = frames
        self.choices: dict[str, object] = {}

    @abstractmethod
    def embed(self, clips: Tensor) -> Features:
        """``clips [B T 3 H W]`` -> tensors with leading ``B``; ``video [B C]`` among them, not normalised."""

    @abstractmethod
    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids ``[N L] -> [N C]``, with gradients, not normalised."""

    @abstractmethod
    def score(self, features: Features, text: Tensor) -> Tensor:
        """What ``embed`` gave, ``text [P K C]`` -> probabilities ``[B K]`` of the K classes."""

    @abstractmethod
    def losses(self, batch: LabelledBatch) -> Outcome:
        """The terms of the loss of a batch."""

    def forward(self, batch: LabelledBatch) -> Outcome:
        return self.losses(batch)

    def encode_video(self, clips: Tensor) -> Tensor:
        """``[B T 3 H W] -> [B C]``, not normalised."""
        return self.embed(clips)["video"]

    @torch.no_grad()
    def class_text(self, names: Sequence[str], at_once: int = 256) -> Tensor:
        """The readable texts of K classes in every template -> ``[P K C]``."""
        device = next(self.backbone.trunk.parameters()).device
        ids = self.backbone.tokenize([sentence(template, name) for template in self.templates for name in names])
        found = torch.cat([self.encode_text(part.to(device)) for part in ids.split(at_once)])
        return found.unflatten(0, (len(self.templates), len(names)))

    def scores(self, clips: Tensor, names: Sequence[str]) -> Tensor:
        """``clips [B T 3 H W]``, the texts of K classes -> probabilities ``[B K]``."""
        return self.score(self.embed(clips), self.class_text(names))

    check_frames, unsettled = FewShotMethod.check_frames, FewShotMethod.unsettled
    trainable, parameter_parts = FewShotMethod.trainable, FewShotMethod.parameter_parts


def similarities(video: Tensor, text: Tensor) -> Tensor:
    """Cosines, in no less than float32: ``[B C], [N C] -> [B N]``."""
    video, text = at_least_float32(video), at_least_float32(text)
    with full_precision(video):
        return F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).mT


def contrast(video: Tensor, text: Tensor, labels: Tensor, scale: Tensor | float, released: bool) -> Tensor:
    """ActionCLIP's symmetric Kullback-Leibler loss of a batch whose labels may repeat; over all processes' clips.

    ``video [B C]``, ``text [B C]``: each clip's own sentence, ``labels [B]``. With ``S = scale * cos(video, text)`` and
    a target row q for each clip, ``(KL(q, softmax S) + KL(q, softmax S^T)) / 2``, summed over a row and averaged over
    rows.
    ``q`` is even over the clips of the same label (the paper's 0/1 ground truth as a distribution), or in the released
    code softmax of ten times that 0/1 matrix, which leaves the others a little.
    """
    video, text, labels = gather(video), gather(text), gather(labels)
    same = at_least_float32((labels[:, None] == labels).to(video.dtype))
    target = (10 * same).softmax(-1) if released else same / same.sum(-1, keepdim=True)
    logits = scale * similarities(video, text)
    both = [F.kl_div(each.log_softmax(-1), target, reduction="batchmean") for each in (logits, logits.mT)]
    return (both[0] + both[1]) / 2


def retrieved(video: Tensor, text: Tensor, labels: Tensor) -> Tensor:
    """Which of this process's clips ``[B]`` find a sentence of their own class among the batch's: bool [B]."""
    with torch.no_grad():
        best = similarities(video, text).argmax(-1)
        return labels[best] == labels
