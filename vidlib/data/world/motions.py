"""Motions of the embedded world: what moves how, and nothing about what it looks like.

A motion is a function of the phase t in 0..1. It returns one ``Pose`` per acting thing in a box that runs from -1 to 1
(x to the right, y down); the renderer shrinks the box, puts it somewhere and picks the things. ``v`` holds what a
motion leaves open (a side, a turn, a number of rounds), drawn anew for every clip.
"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Pose(NamedTuple):
    """Where a thing is in the action's box, its size and turn beside its own, how solid it is, and what covers what."""

    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    angle: float = 0.0  # radians, clockwise
    alpha: float = 1.0
    layer: int = 0  # higher is nearer


class Open(NamedTuple):
    """What an action leaves open. ``side`` is -1 or 1, ``turn`` an angle in 0..2 pi, ``part`` a number in 0..1."""

    side: int = 1
    turn: float = 0.0
    part: float = 0.5


Motion = Callable[[float, Open], list[Pose]]


def between(t: float, start: float = 0.0, end: float = 1.0) -> float:
    """0 before ``start``, 1 after ``end``, straight between."""
    return min(1.0, max(0.0, (t - start) / (end - start)))


def hill(t: float) -> float:
    """0, 1 in the middle, 0 again."""
    return 1 - abs(2 * t - 1)


def hop(t: float, hops: float) -> float:
    """Height 0..1 of something that bounces ``hops`` times."""
    u = t * hops % 1
    return 4 * u * (1 - u)


def line(x: float, y: float) -> Motion:
    """From (-x, -y) to (x, y)."""
    return lambda t, v: [Pose(x * (2 * t - 1), y * (2 * t - 1))]


def there_and_back(x: float, y: float) -> Motion:
    """From (-x, -y) to (x, y) and back again."""
    return lambda t, v: [Pose(x * (2 * hill(t) - 1), y * (2 * hill(t) - 1))]


def corner(x: float, y: float, across_first: bool) -> Motion:
    """Along one side of the box, then along the next, ending at (x, y)."""

    def motion(t: float, v: Open) -> list[Pose]:
        one, two = 2 * between(t, 0, 0.5) - 1, 2 * between(t, 0.5, 1) - 1
        return [Pose(x * one, y * two) if across_first else Pose(x * two, y * one)]

    return motion


def resize(at: Callable[[float], float], x: float = 0.0, y: float = 0.0) -> Motion:
    """Size by phase (0 small, 1 large) while moving from (-x, -y) to (x, y)."""
    return lambda t, v: [Pose(x * (2 * t - 1), y * (2 * t - 1), 0.4 + 1.2 * at(t))]


def resize_two(one: Callable[[float], float], two: Callable[[float], float]) -> Motion:
    """Two things side by side that change size."""
    return lambda t, v: [Pose(-v.side, 0, 0.4 + one(t)), Pose(v.side, 0, 0.4 + two(t))]


def fade(at: Callable[[float], float], things: int = 1) -> Motion:
    return lambda t, v: [Pose((2 * i - things + 1) * v.side, 0, alpha=at(t)) for i in range(things)]


def turn(at: Callable[[float], float]) -> Motion:
    """Turns by phase, in right angles clockwise."""
    return lambda t, v: [Pose(angle=math.pi / 2 * at(t))]


def circle(turn: int, rounds: float = 1.0) -> Motion:
    """Round a circle, clockwise on the screen where ``turn`` is 1."""

    def motion(t: float, v: Open) -> list[Pose]:
        at = v.turn + turn * 2 * math.pi * rounds * t
        return [Pose(math.cos(at), math.sin(at))]

    return motion


def pair(at: Callable[[float], float], x: float, y: float) -> Motion:
    """Two things at +-(x, y) times ``at``: 1 far from each other, 0 touching."""
    return lambda t, v: [
        Pose(-v.side * x * (0.28 + 0.72 * at(t)), -v.side * y * (0.28 + 0.72 * at(t))),
        Pose(v.side * x * (0.28 + 0.72 * at(t)), v.side * y * (0.28 + 0.72 * at(t))),
    ]


def pass_by(x: float, y: float) -> Motion:
    """Two things that change places on two tracks beside each other."""

    def motion(t: float, v: Open) -> list[Pose]:
        at = v.side * (2 * t - 1)
        return [Pose(x * at - 0.34 * y, y * at - 0.34 * x), Pose(-x * at + 0.34 * y, -y * at + 0.34 * x)]

    return motion


def both(x: float, y: float) -> Motion:
    """Two things beside each other that move alike."""
    return lambda t, v: [
        Pose(x * (2 * t - 1) - 0.6 * y, y * (2 * t - 1) - 0.6 * x),
        Pose(x * (2 * t - 1) + 0.6 * y, y * (2 * t - 1) + 0.6 * x),
    ]


def follow(x: float, y: float) -> Motion:
    """One thing in front, another behind it on the same track."""
    return lambda t, v: [
        Pose(x * (1.1 * t - 0.1), y * (1.1 * t - 0.1)),
        Pose(x * (1.1 * t - 1), y * (1.1 * t - 1)),
    ]


def push(x: float, y: float) -> Motion:
    """One thing comes up to another that stands still, and moves it on."""

    def motion(t: float, v: Open) -> list[Pose]:
        front = -1 + 1.3 * t
        pushed = max(-0.05, front + 0.7)
        return [Pose(x * front, y * front), Pose(x * pushed, y * pushed)]

    return motion


def cover(at: Callable[[float], float], x: float, y: float, large_moves: bool = True, front: bool = True) -> Motion:
    """The first thing is large, the second small; ``at`` 1 is over each other, 0 apart; one stands in the middle.

    ``front``: the moving one is nearer.
    """

    def motion(t: float, v: Open) -> list[Pose]:
        away = 1.35 * v.side * (1 - at(t))
        large, small = ((x * away, y * away), (0.0, 0.0)) if large_moves else ((0.0, 0.0), (x * away, y * away))
        return [Pose(*large, layer=int(large_moves == front)), Pose(*small, layer=int(large_moves != front))]

    return motion


def through(front: bool) -> Motion:
    """The small thing goes past the large one, nearer or farther than it."""
    return lambda t, v: [Pose(0, 0, layer=0 if front else 2), Pose(1.1 * v.side * (2 * t - 1), 0, layer=1)]


def split(at: Callable[[float], float]) -> Motion:
    """Two equal halves that are one thing where ``at`` is 0."""

    def motion(t: float, v: Open) -> list[Pose]:
        x, y, size = math.cos(v.turn) * at(t), math.sin(v.turn) * at(t), 1.3 - 0.45 * at(t)
        return [Pose(-x, -y, size), Pose(x, y, size)]

    return motion


def pile(at: Callable[[float], float]) -> Motion:
    """One thing stands, another is beside it (0) or on top of it (1), lifted over on the way."""

    def motion(t: float, v: Open) -> list[Pose]:
        a = at(t)
        rise, over = between(a, 0, 0.55), between(a, 0.45, 0.9)
        return [Pose(0, 0.6), Pose(v.side * (1 - over), 0.6 - 1.6 * rise + 0.5 * between(a, 0.85, 1))]

    return motion


def up(t: float) -> float:
    return t


def down(t: float) -> float:
    return 1 - t


def valley(t: float) -> float:
    return 1 - hill(t)


def zigzag(x: float, y: float) -> Motion:
    """Along (x, y) in a zigzag of two and a half teeth."""

    def motion(t: float, v: Open) -> list[Pose]:
        tooth = v.side * 0.55 * (2 * abs(2 * (2.5 * t % 1) - 1) - 1)
        return [Pose(x * (2 * t - 1) + y * tooth, y * (2 * t - 1) + x * tooth)]

    return motion


def swing(t: float, v: Open) -> list[Pose]:
    """A pendulum, twice to and fro."""
    at = v.turn + 4 * math.pi * t
    return [Pose(math.sin(at), 0.5 * math.cos(at) ** 2, angle=-0.6 * math.sin(at))]


def jump(x: float) -> Motion:
    """In one arc over the top from -x to x."""
    return lambda t, v: [Pose(-x * math.cos(math.pi * t), -1.2 * math.sin(math.pi * t))]


def bounce(x: float) -> Motion:
    """In three hops from -x to x."""
    return lambda t, v: [Pose(x * (2 * t - 1), 0.4 - 0.9 * hop(t + v.part / 3, 3))]


def drop(t: float, v: Open) -> list[Pose]:
    """A fall, then two hops, the second lower."""
    return [Pose(0, 1 - 2 * (1 - (t / 0.35) ** 2) if t < 0.35 else 1 - 1.1 * (1.35 - t) * hop(t - 0.35, 3.08))]


def shake(t: float, v: Open) -> list[Pose]:
    """Five times to and fro."""
    return [Pose(0.5 * math.sin(v.turn + 10 * math.pi * t), 0)]


def dance(t: float, v: Open) -> list[Pose]:
    """Two things opposite each other on a circle, once round."""
    x, y = math.cos(v.turn + v.side * 6.3 * t), math.sin(v.turn + v.side * 6.3 * t)
    return [Pose(x, y), Pose(-x, -y)]


def cover_vertically(at: Callable[[float], float]) -> Motion:
    """The large thing comes over the small one from above, or leaves it upwards."""
    return lambda t, v: cover(at, 0, -1)(t, Open(1))
