"""A world of tensors and a method of a few hundred weights, for tests of training and evaluation; no video, no CLIP."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.manifest import Manifest, Row
from vidlib.methods.base import FewShotMethod, Match, class_means

FRAMES, WIDTH, TEXT = 4, 12, 6
COUNTS = {"train": 6, "val": 4, "test": 5}


def manifest(videos: int = 6) -> Manifest:
    rows = [
        Row(f"{split}/{c}/{v}.mp4", f"{split} action {c}", split)
        for split, classes in COUNTS.items()
        for c in range(classes)
        for v in range(videos)
    ]
    return Manifest("tiny", tuple(rows), Path("nowhere"), {row.video: row.video for row in rows})


class TinyClips:
    """Clips [T 1 2 2]: a path in time of the class's own, plus noise of the video's own; reads are counted."""

    def __init__(self, split: str, noise: float = 0.5, dtype: torch.dtype = torch.float32):
        self.manifest, self.split, self.noise, self.dtype, self.reads = manifest(), split, noise, dtype, 0
        self.rows = self.manifest.videos(split)

    def _draw(self, name: str, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(sum((i + 1) * ord(c) for i, c in enumerate(name)))
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def test(self, row: int) -> Tensor:
        self.reads += 1
        path = self._draw(self.rows[row].cls, FRAMES, 1, 2, 2)
        return (path + self.noise * self._draw(self.rows[row].video, FRAMES, 1, 2, 2)).to(self.dtype)

    def train(self, row: int, episode: int, slot: int, role: str = "support") -> Tensor:
        jitter = self._draw(f"{episode} {slot}", FRAMES, 1, 2, 2)
        return self.test(row) + 0.1 * jitter.to(self.dtype)


def texts(split: str) -> Tensor:
    return torch.randn(COUNTS[split], TEXT, generator=torch.Generator().manual_seed(len(split)))


def sampler(split: str, way: int = 3, shot: int | tuple[int, ...] = 1, query: int = 1, seed: int = 0) -> EpisodeSampler:
    return EpisodeSampler(manifest(), split, way, shot, query, seed)


def training(episodes: int, seed: int = 0) -> EpisodeDataset:
    return EpisodeDataset(TinyClips("train"), sampler("train", seed=seed), texts("train"), True, episodes)


class Tiny(FewShotMethod):
    """Frozen linear tower, trained head with dropout, a buffer that training moves; frames compared place by place."""

    support_text = True

    def __init__(self, dropout: float = 0.1):
        nn.Module.__init__(self)
        generator = torch.Generator().manual_seed(3)
        self.backbone = nn.Linear(4, WIDTH).requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(dropout), nn.Linear(WIDTH, TEXT))
        self.place_embedding = nn.Parameter(torch.zeros(FRAMES, TEXT))
        self.text_scale = nn.Parameter(torch.ones(1))
        self.sometimes = nn.Parameter(torch.ones(TEXT))
        self.never = nn.Parameter(torch.ones(2, 2))
        self.register_buffer("seen", torch.zeros(()))
        for parameter in [*self.backbone.parameters(), *self.head.parameters()]:
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> dict[str, Tensor]:
        assert (text is None) == (role == "query")
        if self.training:
            self.seen += len(clips)
        frames = self.head(self.backbone(clips.flatten(2))) + self.place_embedding
        return {"frames": frames + 0.1 * text[:, None] if text is not None else frames}

    def match(self, support, labels, query, text, targets=None) -> Match:
        prototypes = class_means(support["frames"], labels, text.shape[1])
        visual = -(query["frames"][:, :, None] - prototypes[:, None]).square().mean((-1, -2))
        pooled = query["frames"].mean(-2)
        if targets is not None and int(targets.class_ids[0, 0]) % 2:  # a parameter that only some episodes use
            pooled = pooled * self.sometimes
        textual = self.text_scale * torch.einsum("eqd,ewd->eqw", pooled, text.to(pooled.dtype))
        losses = {}
        if targets is not None:
            for name, logits in {"visual": visual, "text": 0.1 * textual}.items():
                losses[name] = nn.functional.cross_entropy(logits.flatten(0, 1), targets.query_labels.flatten())
        return Match(visual + 0.1 * textual, losses, {"visual": visual, "text": textual})
