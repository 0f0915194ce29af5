"""A method on the bench: in evaluation mode, its parameters moved away from their start, beside made-up episodes.

Legend: `E` episodes, `B` videos, `W` way, `S` supports, `Q` queries, `T` frames, `D` text width, `K` training classes.

The videos are coloured blobs that change from frame to frame. Two tensors count as equal where they differ by less than
a thousandth of the spread of the logits, which is far above rounding and far below what a leak does.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vidlib import backbones
from vidlib.basics.errors import UserError
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.methods.base import FewShotMethod, Match
from vidlib.training import step

NAMES = ("turning left", "turning right", "jumping", "falling", "growing", "standing still")  # K = 6
WAY, QUERIES, FRAMES = 3, 4, 4
PART = 1e-3  # of the spread of the logits: differences below are rounding
SHIPPED = ("clip-mini", "resnet-mini")  # backbones whose weights have the same name


class Broken(Exception):
    """What a check found to be wrong, in words."""


@dataclass
class Bench:
    """The method under test in evaluation mode, a way to make it anew, and made-up episodes."""

    cls: type[FewShotMethod]
    backbone: str
    frames: int
    options: Mapping[str, object]

    def __post_init__(self) -> None:
        self.method = self.make()
        tower = self.method.backbone
        self.size, self.texts = tower.image_size, backbones.class_texts(tower, NAMES, ("a photo of {}",)).detach()
        self.plain = self.batch()
        self.logits = self.evaluate(self.plain)
        self.tolerance = PART * float(self.logits.std()) + 1e-6 * float(self.logits.abs().max())

    def make(self, seed: int = 0) -> FewShotMethod:
        """A new one in evaluation mode, its trained parameters moved away from their start."""
        step.seed_everything(seed, 0)
        known = inspect.signature(self.cls).parameters
        classes = {"classes": len(NAMES)} if "classes" in known else {}
        for name in self.options.keys() - known.keys():
            raise UserError(f"{self.cls.__name__} has no argument {name!r}; it has {', '.join(known)}")
        tower = backbones.load(self.backbone, self.backbone if self.backbone in SHIPPED else "")
        method = self.cls(tower, frames=self.frames, **classes, **self.options)
        with torch.no_grad():
            for parameter in method.trainable().values():
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter += (0.1 * spread or 0.02) * torch.randn_like(parameter)
        return method.eval()

    def videos(self, episodes: int, videos: int, generator: torch.Generator) -> Tensor:
        """``[E V T 3 H W]``: a blurred pattern for each video, another one laid over it in each frame."""
        count = episodes * videos
        base = torch.randn(count, 1, 3, 4, 4, generator=generator)
        change = torch.randn(count, self.frames, 3, 4, 4, generator=generator)
        small = (base + 0.7 * change).flatten(0, 1)
        large = F.interpolate(small, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return rearrange(large, "(e v t) c h w -> e v t c h w", e=episodes, v=videos)

    def batch(self, episodes: int = 1, shots: Sequence[int] = (1,) * WAY, seed: int = 1) -> EpisodeBatch:
        """Episodes with targets; supports in shuffled order, of ``shots`` videos per class."""
        g = torch.Generator().manual_seed(seed)
        way = len(shots)
        labels = torch.tensor([c for c, shot in enumerate(shots) for _ in range(shot)])
        labels = torch.stack([labels[torch.randperm(len(labels), generator=g)] for _ in range(episodes)])
        ids = torch.stack([torch.randperm(len(NAMES), generator=g)[:way] for _ in range(episodes)])
        truth = torch.randint(way, (episodes, QUERIES), generator=g)
        support, query = self.videos(episodes, sum(shots), g), self.videos(episodes, QUERIES, g)
        return EpisodeBatch(support, labels, query, self.texts[ids], Targets(truth, ids, self.texts))

    def match(self, batch: EpisodeBatch) -> Match:
        with torch.no_grad():
            return self.method.eval()(batch)

    def evaluate(self, batch: EpisodeBatch) -> Tensor:
        """Logits ``[E Q W]`` in evaluation mode, without targets."""
        return self.match(replace(batch, targets=None)).logits

    def same(self, one: Tensor, other: Tensor, what: str) -> None:
        """``Broken`` where two tensors differ by more than rounding."""
        if one.shape != other.shape:
            raise Broken(f"{what}: shape {tuple(other.shape)} instead of {tuple(one.shape)}")
        gap = float((one.float() - other.float()).abs().max())
        if not gap <= self.tolerance:
            raise Broken(f"{what}: by up to {gap:.2g}, where the logits spread by {float(self.logits.std()):.2g}")
