"""Several views of a test video, clips in time and crops in space, whose probabilities are averaged."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from vidlib.data.clips import Clips
from vidlib.data.manifest import Manifest
from vidlib.data.sampling import segment_indices, view_indices
from vidlib.data.transforms import ClipTransform

PLACES = {1: (0.5,), 3: (0.0, 0.5, 1.0)}  # crops along the longer side


def test_views(
    manifest: Manifest, split: str, frames: int, clips: int, crops: int, transform: dict[str, Any]
) -> Iterator[Clips]:
    """The ``clips`` x ``crops`` views of a split's videos, each as ``Clips`` whose ``test(row)`` gives that view.

    ``crops`` is 1 (the centre) or 3. ``transform``: arguments of ``ClipTransform`` besides train and place.
    """
    for view in range(clips):
        for place in PLACES[crops]:
            look = ClipTransform(**transform, train=False, place=place)
            yield Clips(manifest, split, frames, None, look, seed=0, pick=partial(_pick, view, clips))


def _pick(view: int, views: int, total: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    return segment_indices(total, frames, rng) if rng is not None else view_indices(total, frames, view, views)
