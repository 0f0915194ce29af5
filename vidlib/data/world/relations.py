"""The relations of the worlds *motion* and *words*: what one thing does with another, wherever and whichever way.

Places are complex numbers. A relation is told in a frame of its own: the partner stands at 0, the actor at -1, and both
end at a distance of 1 again, so that any relation can follow any other; ``contact`` is the distance where they touch.
"""

import cmath
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vidlib.data.world.motions import between, hill


class Pair(NamedTuple):
    """Where actor and partner are, and whether the actor is nearer (1), farther (-1) or neither (0)."""

    actor: complex
    partner: complex = 0j
    depth: int = 0


Relation = Callable[[float, float], Pair]  # (phase 0..1, contact) -> Pair


def _tap(t: float, contact: float) -> Pair:
    """Up to the partner and back."""
    return Pair(-1 + (1 - contact) * hill(t))


def _push(t: float, contact: float) -> Pair:
    """Up to the partner, which is moved on; then the actor alone draws back."""
    moved = 0.5 * between(t, 0.3, 0.8)
    return Pair(-1 + (1 - contact) * (between(t, 0, 0.3) - between(t, 0.8, 1)) + moved, moved + 0j)


def _pull(t: float, contact: float) -> Pair:
    """Up to the partner, back together with it; then the actor alone draws back."""
    moved = -0.5 * between(t, 0.3, 0.8)
    return Pair(-1 + (1 - contact) * (between(t, 0, 0.3) - between(t, 0.8, 1)) + moved, moved + 0j)


def _circle(t: float, contact: float) -> Pair:
    """Once round the partner."""
    return Pair(-cmath.exp(2j * math.pi * t))


def _swap(t: float, contact: float) -> Pair:
    """Both change places, round their middle."""
    turn = 0.5 * cmath.exp(1j * math.pi * t)
    return Pair(-0.5 - turn, -0.5 + turn)


def _behind(t: float, contact: float) -> Pair:
    """Straight through to the other side, hidden by the partner on the way."""
    return Pair(-1 + 2 * t + 0j, 0j, -1)


def _follow(t: float, contact: float) -> Pair:
    """The partner leaves first, the actor comes after it."""
    return Pair(-1 + 0.7 * between(t, 0.45, 1) + 0j, 0.7 * between(t, 0, 0.55) + 0j)


def _beside(t: float, contact: float) -> Pair:
    """Both move aside together."""
    return Pair(-1 + 0.7j * t, 0.7j * t)


RELATIONS: dict[str, Relation] = {  # in the order that ``pairs`` counts
    "tapping": _tap,
    "circling": _circle,
    "pushing": _push,
    "swapping places with": _swap,
    "pulling": _pull,
    "following": _follow,
    "passing behind": _behind,
    "walking beside": _beside,
}


def paths(names: tuple[str, ...], phases: list[float], contact: float, mirrored: tuple[bool, ...]) -> list[Pair]:
    """Actor and partner at each phase, in 0..len(names): one relation after the other, each begun where the one before
    ended; ``mirrored``: to which side a relation bends."""
    film, start = [], Pair(-1 + 0j)
    for i, (name, flip) in enumerate(zip(names, mirrored, strict=True)):
        relation, origin, axis = RELATIONS[name], start.partner, start.partner - start.actor

        def placed(at: complex, flip=flip, origin=origin, axis=axis) -> complex:
            return origin + axis * (at.conjugate() if flip else at)

        last = i == len(names) - 1
        for t in (t for t in phases if i <= t < i + 1 or (last and t >= i + 1)):
            actor, partner, depth = relation(min(1.0, t - i), contact)
            film.append(Pair(placed(actor), placed(partner), depth))
        end = relation(1.0, contact)
        start = Pair(placed(end.actor), placed(end.partner))
    return film


def pace(rng: np.random.Generator, frames: int, steps: int) -> list[float]:
    """The phase of each frame, from 0 to ``steps``: a rest, then each step at speeds that change abruptly, a rest."""
    start, end = 0.06 * float(rng.random()), 1 - 0.06 * float(rng.random())
    times, phases = [0.0, start], [0.0, 0.0]
    lengths = [0.85 + 0.3 * float(rng.random()) for _ in range(steps)]
    for i, length in enumerate(lengths):
        begin, whole = times[-1], (end - start) * length / sum(lengths)
        at, by = (0.5 + 0.3 * (float(rng.random()) - 0.5) for _ in range(2))  # a cut of speed on the way
        times += [begin + at * whole, begin + whole]
        phases += [i + by, i + 1.0]
    line = (np.arange(frames) + 0.5) / frames
    return [float(value) for value in np.interp(line, [*times, 1.0], [*phases, float(steps)])]
