"""Two optimiser steps of video-text methods with the gradients written down: run alone and under torchrun, compared."""

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed

from tests.methods.small import backbone
from tests.tiny import manifest
from vidlib.data.labelled import LabelledBatches, Sentences, vocabulary
from vidlib.methods import VIDEO_TEXT, VideoTextMethod
from vidlib.training import loop
from vidlib.training.loop import Fit, fit

PRECISIONS = ("64-true", "32-true")
FRAMES, BATCH = 3, 6


class Pictures:
    """Clips [T 3 16 16] of the tiny world: what a class shows, what is the video's own, and a little chance."""

    def __init__(self, split: str = "train"):
        self.manifest, self.split = manifest(), split
        self.rows = self.manifest.videos(split)

    def __len__(self) -> int:
        return len(self.rows)

    def _draw(self, name: str) -> Tensor:
        generator = torch.Generator().manual_seed(sum((i + 1) * ord(c) for i, c in enumerate(name)))
        return torch.randn(FRAMES, 3, 16, 16, generator=generator)

    def test(self, row: int) -> Tensor:
        return self._draw(self.rows[row].cls) + 0.5 * self._draw(self.rows[row].video)

    def train(self, row: int, step: int, slot: int) -> Tensor:
        return self.test(row) + 0.1 * self._draw(f"{step} {slot}")


def make(name: str, seed: int = 0) -> tuple[VideoTextMethod, tuple[str, ...]]:
    """A method of a few thousand weights without dropout, and the words it masks."""
    texts = Pictures().manifest.classes("train")
    if name == "actionclip":
        return VIDEO_TEXT[name](backbone(seed), FRAMES, visual_prompt="lstm"), ()
    tower = backbone(seed, text={"width": 16, "layers": 2})
    words = vocabulary(texts, ("A video of {}",))
    sizes = {"classes": len(texts), "vocabulary": len(words), "width": 6, "text_width": 4}
    method = VIDEO_TEXT[name](tower, FRAMES, dropout=0.0, **sizes)
    with torch.no_grad():  # the adapters start as the identity, where half of the gradients are zero
        for parameter in method.trainable().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7))
    return method, words


def batches(method: VideoTextMethod, words: tuple[str, ...], part: tuple[int, int] = (0, 1)) -> LabelledBatches:
    clips = Pictures()
    texts = clips.manifest.classes("train")
    sentences = Sentences(method.backbone.tokenize, texts, method.templates, 0, vocabulary=words or None)
    return LabelledBatches(clips, sentences, BATCH, 0, part=part, masks=method.masks_words)


def train(name: str, folder: Path, precision: str, steps: int = 2, **more) -> tuple[VideoTextMethod, Fit]:
    method, words = make(name)
    part = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    settings = {"lr": 1e-3, "seed": 1, "device": "cpu", "precision": precision, "folder": folder, "together": True}
    done = fit(method, batches(method, words, part), batches=steps, **settings | more)
    return method, done


def gradients(name: str, folder: Path, precision: str) -> dict[str, Tensor]:
    """The gradients of the first of two steps, by parameter."""
    found, plain = {}, loop.sum_gradients

    def spy(fabric, parameters):
        plain(fabric, parameters)
        if not found:
            found.update({str(i): p.grad.clone() for i, p in enumerate(parameters) if p.grad is not None})

    loop.sum_gradients = spy
    try:
        train(name, folder, precision)
    finally:
        loop.sum_gradients = plain
    return found


if __name__ == "__main__":
    from vidlib.basics.devices import make_fabric

    torch.set_num_threads(1)
    make_fabric("cpu", "32-true")  # starts the processes' group
    for name in VIDEO_TEXT:
        for precision in PRECISIONS:
            out = Path(sys.argv[1], name, precision)
            found = gradients(name, out, precision)
            torch.save(found, out / f"gradients{distributed.get_rank()}.pt")
