"""What could be known of the clips of *motion* and *words* by who sees the drawn paths: the top of what a method can
reach, and two tricks that only the world itself can try."""

from collections.abc import Sequence

import numpy as np

from vidlib.data.world import worlds
from vidlib.data.world.stage import Shot

STEPS = 32
DEPTH = 0.15  # what passing behind counts beside the path's length, which is 1


def similarity(world: str, videos: Sequence[str]) -> np.ndarray:
    """[V V]: how well the paths of actor and partner in one clip fit on those of another, turned, mirrored and scaled
    to suit best; 1 for equal ones. Time is the way gone. In *words* equal looks of the actors add 1.

    The best turn of one path onto another is the phase of their complex inner product (Procrustes).
    """
    shots = [shot(world, video) for video in videos]
    ways = [_way(each.paths()) for each in shots]
    paths, depths = np.stack([path for path, _ in ways]), np.stack([depth for _, depth in ways])
    fit = np.maximum(np.abs(paths.conj() @ paths.T), np.abs(paths @ paths.T))
    apart = ((depths[:, None] - depths[None]) ** 2).mean(-1)
    same = [[a.looks[0] == b.looks[0] for b in shots] for a in shots] if world == "words" else 0
    return fit - DEPTH * apart + np.array(same, float)


def shot(world: str, video: str) -> Shot:
    """What a clip of a world that has paths is drawn from; an error for the others."""
    drawn = worlds.drawn(world, video)
    if not isinstance(drawn, Shot) or not drawn.looks:
        raise ValueError(f"{world} has no actor whose path could be told")
    return drawn


def places(world: str, video: str, frames: np.ndarray) -> np.ndarray:
    """Where actor and partner are in the pictures ``frames`` (numbers) of a clip: [T 2 2], in parts of the side."""
    drawn = shot(world, video)
    seen = [[drawn.views[i].of(thing) for _, thing in drawn.actors[i]] for i in frames]
    return np.array([[(thing.x, thing.y) for thing in pair] for pair in seen])


def _way(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paths [T A 3] -> their middle taken off, at equal parts of the way gone, of length 1, complex [STEPS*2]; and the
    actor's depth there [STEPS]."""
    places = paths[:, :2, 0] + 1j * paths[:, :2, 1]
    gone = np.concatenate([[0], (np.abs(np.diff(places, axis=0)).sum(1) + 1e-6).cumsum()])
    at = np.linspace(0, gone[-1], STEPS)
    even = np.stack([np.interp(at, gone, line.real) + 1j * np.interp(at, gone, line.imag) for line in places.T], 1)
    even = (even - even.mean()).ravel()
    return even / np.linalg.norm(even), np.interp(at, gone, paths[:, 0, 2])
