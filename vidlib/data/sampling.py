"""Which frames of a video: TSN segments, and what the papers' released code takes.

Every function gives int64 indices from 0 within ``range(total)``, in rising order unless it says otherwise. A random
form draws from the ``rng`` passed in and from nothing else; without one
a form is deterministic. A video shorter than asked for repeats frames.
"""

import math

import numpy as np

from vidlib.basics.errors import UserError


def segment_indices(total: int, frames: int, rng: np.random.Generator | None = None, length: int = 1) -> np.ndarray:
    """TSN: ``frames`` equal segments, one frame of each, int64 [frames * length].

    With ``rng`` a random frame of each segment (training), without the middle one (testing). A video of ``frames``
    frames or fewer gives every frame, repeated evenly without ``rng`` and at random with it. ``length`` takes that many
    neighbouring frames a segment (testing only). ActionCLIP's released ``Action_DATASETS`` counts the same from 1.

    Source: Temporal Segment Networks (Wang et al. 2016); MA-FSAR's paper samples "following TSN" without the formula.
    """
    _check(total, frames)
    if rng is not None:
        if total <= frames:
            repeats = [rng.integers(0, total) for _ in range(frames - total)]
            return np.sort(np.array([*range(total), *repeats], np.int64))
        ticks = [i * total // frames for i in range(frames + 1)]
        return np.array([rng.integers(low, high) for low, high in zip(ticks, ticks[1:], strict=False)], np.int64)
    if frames == length == 1:
        return np.array([total // 2], np.int64)
    if total <= frames * length:
        return np.arange(frames * length, dtype=np.int64) * total // (frames * length)
    starts = (np.arange(frames) * total / frames + (total / frames - length) / 2).astype(np.int64)
    return (starts[:, None] + np.arange(length)).ravel()


def view_indices(total: int, frames: int, view: int, views: int) -> np.ndarray:
    """Temporal view ``view`` (from 0) of ``views``: of each of ``frames`` equal segments the frame at the share
    ``(view + 1/2) / views`` of its length, int64 [frames]. One view is the segments' centres.

    Papers test on several clips of a video without saying how they are placed; this is ours.
    """
    _check(total, frames)
    if not 0 <= view < views:
        raise UserError(f"view {view} of {views}: views count from 0")
    if views == 1:
        return segment_indices(total, frames)
    places = (np.arange(frames) + (view + 0.5) / views) * total / frames
    return np.minimum(places.astype(np.int64), total - 1)


def trx_indices(total: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """TRX's released ``get_seq``: evenly spaced from near the first frame to near the last, int64 [frames].

    With ``rng`` the first and last frame each move inwards by up to 5; without, by 1 where that leaves enough frames.
    The released code drops videos shorter than ``frames``; here they repeat frames.
    """
    _check(total, frames)
    if total == frames:
        return np.arange(total, dtype=np.int64)
    if rng is not None:
        pad = max(0, int(min(5, (total - frames) / 2)))
        first, last = int(rng.integers(0, pad + 1)), int(rng.integers(total - 1 - pad, total))
    else:
        first, last = (1, total - 2) if total - 3 >= frames else (0, total - 1)
    return np.linspace(first, last, frames).astype(np.int64)


def clip_fsar_segment_indices(total: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """CLIP-FSAR's released segments, int64 [frames].

    Without ``rng`` the rounded middles of the segments. With it a random frame of each of ``frames`` segments of
    ``total // frames`` frames (the rest at the end is never taken): what its configurations of Something-Something
    (sampling rate 50) do, at test too. Shorter videos repeat frames (random form: not settled by the golden values).
    """
    _check(total, frames)
    if rng is None:
        middles = np.round((np.arange(frames) + 0.5) * total / frames).astype(np.int64)  # ties to even, as there
        return np.minimum(middles, total - 1)
    size = total // frames
    if not size:
        return segment_indices(total, frames, rng)
    return np.array([rng.integers(i * size, (i + 1) * size) for i in range(frames)], np.int64)


def clip_fsar_interval_indices(
    total: int, frames: int, interval: int, fps: float, target_fps: float = 12.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """CLIP-FSAR's released sampling of Kinetics (``interval`` 35), int64 [frames]: ``frames`` spread over a clip.

    ``fps`` is the video's, ``target_fps`` what the interval is meant for, both in frames a second. With ``rng`` the
    clip starts at random, without it in the middle. As released, the last index is placed with the unscaled interval,
    so that in short videos the indices run backwards until they are cut at 0; kept, for checkpoints were tested so.
    """
    _check(total, frames)
    clip = frames * interval * fps / target_fps
    if clip > total:
        clip = total // frames * frames
    spare = max(total - clip + 1, 0)
    start = spare / 2 if rng is None else spare * float(rng.random())
    return np.linspace(start, start + clip - interval, frames).clip(0, total - 1).astype(np.int64)


def clip_fsar_spanning_indices(total: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """``clip_fsar_interval_indices`` of a video shorter than the clip it asks for, int64 [frames].

    For 8 frames at interval 35 and 12 frames a second that is any video below 23 seconds, so every Kinetics clip; the
    video's own rate then plays no part.
    """
    return clip_fsar_interval_indices(total, frames, 35, fps=math.inf, rng=rng)


RULES = {  # (total, frames, rng or None) -> indices
    "segments": segment_indices,
    "even segments": clip_fsar_segment_indices,
    "ends": trx_indices,
    "span": clip_fsar_spanning_indices,
}


def _check(total: int, frames: int) -> None:
    if total < 1 or frames < 1:
        raise UserError(f"frames can be sampled from 1 or more, and 1 or more of them: got {frames} of {total}")
