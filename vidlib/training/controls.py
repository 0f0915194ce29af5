"""The controls of a test: frames in another order take time away, class texts of other classes take their meaning."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import PERMUTED, SHUFFLED

CONTROLS = ("", SHUFFLED, PERMUTED)  # "": as it is


def applied(control: str, clips: Any, text: Tensor, split: str) -> tuple[Any, Tensor]:
    """``clips`` of ``split`` and the texts of its classes under one of ``CONTROLS``; UserError for another name."""
    if control not in CONTROLS:
        raise UserError(f"control: '{control}' is not one of {', '.join(CONTROLS[1:])}, or empty")
    clips = ShuffledFrames(clips, split) if control == SHUFFLED else clips
    return clips, permuted(text) if control == PERMUTED else text


def words(control: str) -> dict[str, str]:
    """``control`` as a run's record says it."""
    return {
        "frame_order": "shuffled" if control == SHUFFLED else "in order",
        "text_order": "permuted" if control == PERMUTED else "own",
    }


class ShuffledFrames:
    """``clips`` whose test frames come in another order, fixed per video by its id: what is left without time."""

    def __init__(self, clips: Any, split: str):
        self.clips, self.manifest, self.split = clips, clips.manifest, split
        self.by_episode, self.in_memory = (getattr(clips, name, False) for name in ("by_episode", "in_memory"))
        self._names = [row.video for row in clips.manifest.videos(split)]

    def test(self, row: int) -> Tensor:
        return self._shuffled(row, self.clips.test(row))

    def drawn(self, row: int, *where: Any) -> Tensor:
        return self._shuffled(row, self.clips.drawn(row, *where))

    def _shuffled(self, row: int, clip: Tensor) -> Tensor:
        return clip[frame_order(self._names[row], len(clip))]


def frame_order(video: str, frames: int) -> Tensor:
    """The order [T] in which a video's frames are shown where they are shuffled."""
    seed = int.from_bytes(hashlib.sha256(video.encode()).digest()[:8], "big")
    return torch.from_numpy(_no_fixed_order(frames, seed))


def shuffled(clips: Tensor, videos: Sequence[str], time: int) -> Tensor:
    """``clips [B ...]`` of ``videos`` with each one's frames, which lie along ``time``, in its order."""
    orders = (frame_order(video, clips.shape[time]).to(clips.device) for video in videos)
    return torch.stack([clip.index_select(time - 1, order) for clip, order in zip(clips, orders, strict=True)])


def permuted(text: Tensor) -> Tensor:
    """``text [... K D]`` with every class given another class's row, or rows: all templates alike."""
    order = np.random.default_rng(0).permutation(text.shape[-2])
    own = np.empty_like(order)
    own[order] = np.roll(order, 1)  # one cycle through all classes: none keeps its own
    return text.index_select(-2, torch.from_numpy(own).to(text.device))


def _no_fixed_order(frames: int, seed: int) -> np.ndarray:
    """A random order of ``frames`` that is neither the given one nor its reverse (where there is another)."""
    rng, plain = np.random.default_rng(seed), np.arange(frames)
    for _ in range(64):
        order = rng.permutation(frames)
        if frames < 3 or not (np.array_equal(order, plain) or np.array_equal(order, plain[::-1])):
            break
    return order
