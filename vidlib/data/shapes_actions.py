"""The actions of the embedded world: what moves how, and nothing about what it looks like.

An action is a function of the phase t in 0..1. It returns one ``Pose`` per acting thing in a box that runs from -1 to 1
(x to the right, y down); the renderer shrinks the box, puts it somewhere, and picks the things. ``v`` holds what an action
leaves open (a side, a turn, a number of rounds), drawn anew for every clip.
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


class Action(NamedTuple):
    """``things``: how many act. ``cast``: "alike" for equal things, "cover" for a large and a small one, of which one hides the other."""

    split: str
    name: str
    things: int
    motion: Motion
    cast: str = ""


def _between(t: float, start: float = 0.0, end: float = 1.0) -> float:
    """0 before ``start``, 1 after ``end``, straight between."""
    return min(1.0, max(0.0, (t - start) / (end - start)))


def _back(t: float) -> float:
    """0, 1 in the middle, 0 again."""
    return 1 - abs(2 * t - 1)


def _hop(t: float, hops: float) -> float:
    """Height 0..1 of something that bounces ``hops`` times."""
    u = t * hops % 1
    return 4 * u * (1 - u)


def _line(x: float, y: float) -> Motion:
    """From (-x, -y) to (x, y)."""
    return lambda t, v: [Pose(x * (2 * t - 1), y * (2 * t - 1))]


def _return(x: float, y: float) -> Motion:
    """From (-x, -y) to (x, y) and back again."""
    return lambda t, v: [Pose(x * (2 * _back(t) - 1), y * (2 * _back(t) - 1))]


def _corner(x: float, y: float, across_first: bool) -> Motion:
    """Along one side of the box, then along the next, ending at (x, y)."""

    def motion(t: float, v: Open) -> list[Pose]:
        one, two = 2 * _between(t, 0, 0.5) - 1, 2 * _between(t, 0.5, 1) - 1
        return [Pose(x * one, y * two) if across_first else Pose(x * two, y * one)]

    return motion


def _size(at: Callable[[float], float], x: float = 0.0, y: float = 0.0) -> Motion:
    """Size by phase (0 small, 1 large) while moving from (-x, -y) to (x, y)."""
    return lambda t, v: [Pose(x * (2 * t - 1), y * (2 * t - 1), 0.4 + 1.2 * at(t))]


def _sizes(one: Callable[[float], float], two: Callable[[float], float]) -> Motion:
    """Two things side by side that change size."""
    return lambda t, v: [Pose(-v.side, 0, 0.4 + one(t)), Pose(v.side, 0, 0.4 + two(t))]


def _alpha(at: Callable[[float], float], things: int = 1) -> Motion:
    return lambda t, v: [Pose((2 * i - things + 1) * v.side, 0, alpha=at(t)) for i in range(things)]


def _angle(at: Callable[[float], float]) -> Motion:
    """Turns by phase, in right angles clockwise."""
    return lambda t, v: [Pose(angle=math.pi / 2 * at(t))]


def _round(turn: int, rounds: float = 1.0) -> Motion:
    """Round a circle, clockwise on the screen where ``turn`` is 1."""

    def motion(t: float, v: Open) -> list[Pose]:
        at = v.turn + turn * 2 * math.pi * rounds * t
        return [Pose(math.cos(at), math.sin(at))]

    return motion


def _pair(at: Callable[[float], float], x: float, y: float) -> Motion:
    """Two things at +-(x, y) times ``at``: 1 far from each other, 0 touching."""
    return lambda t, v: [
        Pose(-v.side * x * (0.28 + 0.72 * at(t)), -v.side * y * (0.28 + 0.72 * at(t))),
        Pose(v.side * x * (0.28 + 0.72 * at(t)), v.side * y * (0.28 + 0.72 * at(t))),
    ]


def _pass(x: float, y: float) -> Motion:
    """Two things that change places on two tracks beside each other."""

    def motion(t: float, v: Open) -> list[Pose]:
        at = v.side * (2 * t - 1)
        return [Pose(x * at - 0.34 * y, y * at - 0.34 * x), Pose(-x * at + 0.34 * y, -y * at + 0.34 * x)]

    return motion


def _both(x: float, y: float) -> Motion:
    """Two things beside each other that move alike."""
    return lambda t, v: [
        Pose(x * (2 * t - 1) - 0.6 * y, y * (2 * t - 1) - 0.6 * x),
        Pose(x * (2 * t - 1) + 0.6 * y, y * (2 * t - 1) + 0.6 * x),
    ]


def _follow(x: float, y: float) -> Motion:
    """One thing in front, another behind it on the same track."""
    return lambda t, v: [
        Pose(x * (1.1 * t - 0.1), y * (1.1 * t - 0.1)),
        Pose(x * (1.1 * t - 1), y * (1.1 * t - 1)),
    ]


def _push(x: float, y: float) -> Motion:
    """One thing comes up to another that stands still, and moves it on."""

    def motion(t: float, v: Open) -> list[Pose]:
        front = -1 + 1.3 * t
        pushed = max(-0.05, front + 0.7)
        return [Pose(x * front, y * front), Pose(x * pushed, y * pushed)]

    return motion


def _cover(at: Callable[[float], float], x: float, y: float, large_moves: bool = True, front: bool = True) -> Motion:
    """The first thing is large, the second small; ``at`` 1 is over each other, 0 apart; one stands in the middle.

    ``front``: the moving one is nearer.
    """

    def motion(t: float, v: Open) -> list[Pose]:
        away = 1.35 * v.side * (1 - at(t))
        large, small = ((x * away, y * away), (0.0, 0.0)) if large_moves else ((0.0, 0.0), (x * away, y * away))
        return [Pose(*large, layer=int(large_moves == front)), Pose(*small, layer=int(large_moves != front))]

    return motion


def _through(front: bool) -> Motion:
    """The small thing goes past the large one, nearer or farther than it."""
    return lambda t, v: [Pose(0, 0, layer=0 if front else 2), Pose(1.1 * v.side * (2 * t - 1), 0, layer=1)]


def _split(at: Callable[[float], float]) -> Motion:
    """Two equal halves that are one thing where ``at`` is 0."""

    def motion(t: float, v: Open) -> list[Pose]:
        x, y, size = math.cos(v.turn) * at(t), math.sin(v.turn) * at(t), 1.3 - 0.45 * at(t)
        return [Pose(-x, -y, size), Pose(x, y, size)]

    return motion


def _pile(at: Callable[[float], float]) -> Motion:
    """One thing stands, another is beside it (0) or on top of it (1), lifted over on the way."""

    def motion(t: float, v: Open) -> list[Pose]:
        a = at(t)
        rise, over = _between(a, 0, 0.55), _between(a, 0.45, 0.9)
        return [Pose(0, 0.6), Pose(v.side * (1 - over), 0.6 - 1.6 * rise + 0.5 * _between(a, 0.85, 1))]

    return motion


def _up(t: float) -> float:
    return t


def _down(t: float) -> float:
    return 1 - t


def _valley(t: float) -> float:
    return 1 - _back(t)


def _zigzag(x: float, y: float) -> Motion:
    """Along (x, y) in a zigzag of two and a half teeth."""

    def motion(t: float, v: Open) -> list[Pose]:
        tooth = v.side * 0.55 * (2 * abs(2 * (2.5 * t % 1) - 1) - 1)
        return [Pose(x * (2 * t - 1) + y * tooth, y * (2 * t - 1) + x * tooth)]

    return motion


ACTIONS: tuple[Action, ...] = (
    # up and down, there and back
    Action("train", "rising straight up", 1, _line(0, -1)),
    Action("train", "falling straight down", 1, _line(0, 1)),
    Action("train", "moving up then back down", 1, _return(0, -1)),
    Action("train", "moving down then back up", 1, _return(0, 1)),
    Action("train", "moving from the lower left to the upper right", 1, _line(1, -1)),
    Action("train", "moving from the upper right to the lower left", 1, _line(-1, 1)),
    Action("train", "moving to the upper right corner then back", 1, _return(1, -1)),
    Action("train", "moving to the lower left corner then back", 1, _return(-1, 1)),
    # round a corner
    Action("train", "moving right then up", 1, _corner(1, -1, True)),
    Action("train", "moving right then down", 1, _corner(1, 1, True)),
    Action("train", "moving left then up", 1, _corner(-1, -1, True)),
    Action("train", "moving left then down", 1, _corner(-1, 1, True)),
    Action("train", "moving up then left", 1, _corner(-1, -1, False)),
    Action("train", "moving down then right", 1, _corner(1, 1, False)),
    # curves, teeth and hops
    Action("train", "circling clockwise", 1, _round(1)),
    Action("train", "circling anticlockwise", 1, _round(-1)),
    Action("train", "jumping over the top from left to right", 1,
           lambda t, v: [Pose(-math.cos(math.pi * t), -1.2 * math.sin(math.pi * t))]),
    Action("train", "jumping over the top from right to left", 1,
           lambda t, v: [Pose(math.cos(math.pi * t), -1.2 * math.sin(math.pi * t))]),
    Action("train", "swinging from side to side", 1,
           lambda t, v: [Pose(math.sin(at := v.turn + 4 * math.pi * t), 0.5 * math.cos(at) ** 2, angle=-0.6 * math.sin(at))]),
    Action("train", "zigzagging upwards", 1, _zigzag(0, -1)),
    Action("train", "zigzagging downwards", 1, _zigzag(0, 1)),
    Action("train", "bouncing along to the right", 1, lambda t, v: [Pose(2 * t - 1, 0.4 - 0.9 * _hop(t + v.part / 3, 3))]),
    Action("train", "bouncing along to the left", 1, lambda t, v: [Pose(1 - 2 * t, 0.4 - 0.9 * _hop(t + v.part / 3, 3))]),
    Action("train", "dropping and bouncing", 1,
           lambda t, v: [Pose(0, 1 - 2 * (1 - (t / 0.35) ** 2) if t < 0.35 else 1 - 1.1 * (1.35 - t) * _hop(t - 0.35, 3.08))]),
    Action("train", "shaking quickly", 1, lambda t, v: [Pose(0.5 * math.sin(v.turn + 10 * math.pi * t), 0)]),
    # size
    Action("train", "growing", 1, _size(_up)),
    Action("train", "shrinking", 1, _size(_down)),
    Action("train", "growing while rising", 1, _size(_up, 0, -0.8)),
    Action("train", "shrinking while falling", 1, _size(_down, 0, 0.8)),
    Action("train", "growing while moving to the right", 1, _size(_up, 0.8, 0)),
    Action("train", "shrinking while moving to the left", 1, _size(_down, -0.8, 0)),
    Action("train", "one thing growing while another is shrinking", 2, _sizes(_up, _down)),
    # coming and going
    Action("train", "appearing slowly", 1, _alpha(_up)),
    Action("train", "fading away", 1, _alpha(_down)),
    Action("train", "blinking off and on again", 1, _alpha(lambda t: abs(2 * (2 * t % 1) - 1))),
    Action("train", "two things fading away", 2, _alpha(_down, 2)),
    Action("train", "two things appearing", 2, _alpha(_up, 2)),
    # turning
    Action("train", "turning clockwise", 1, _angle(lambda t: 3.6 * t)),
    Action("train", "turning anticlockwise", 1, _angle(lambda t: -3.6 * t)),
    Action("train", "tilting to the left", 1, _angle(_down)),
    Action("train", "tilting to the right", 1, _angle(_up)),
    Action("train", "turning clockwise then back", 1, _angle(lambda t: 2.2 * _back(t))),
    # two things
    Action("train", "two things coming together from top and bottom", 2, _pair(_down, 0, 1)),
    Action("train", "two things moving apart to the top and bottom", 2, _pair(_up, 0, 1)),
    Action("train", "two things coming together from the corners", 2, _pair(_down, 1, -1)),
    Action("train", "two things moving apart to the corners", 2, _pair(_up, 1, -1)),
    Action("train", "two things swapping top and bottom", 2, _pass(0, 1)),
    Action("train", "two things rising together", 2, _both(0, -1)),
    Action("train", "two things falling together", 2, _both(0, 1)),
    Action("train", "two things moving to the right together", 2, _both(1, 0)),
    Action("train", "two things circling each other", 2,
           lambda t, v: [Pose(math.cos(v.turn + v.side * 6.3 * t), math.sin(v.turn + v.side * 6.3 * t)),
                         Pose(-math.cos(v.turn + v.side * 6.3 * t), -math.sin(v.turn + v.side * 6.3 * t))]),
    Action("train", "one thing following another upwards", 2, _follow(0, -1)),
    Action("train", "one thing following another downwards", 2, _follow(0, 1)),
    Action("train", "pushing something upwards", 2, _push(0, -1)),
    Action("train", "pushing something downwards", 2, _push(0, 1)),
    Action("train", "putting one thing on top of another", 2, _pile(_up)),
    Action("train", "taking one thing off the top of another", 2, _pile(_down)),
    Action("train", "splitting in two", 2, _split(_up), "alike"),
    Action("train", "two things joining into one", 2, _split(_down), "alike"),
    # hiding
    Action("train", "passing behind something", 2, _through(False), "cover"),
    Action("train", "passing in front of something", 2, _through(True), "cover"),
    Action("train", "covering something from above", 2,
           lambda t, v: _cover(_up, 0, -1)(t, Open(1)), "cover"),
    Action("train", "uncovering something upwards", 2,
           lambda t, v: _cover(_down, 0, -1)(t, Open(1)), "cover"),
    Action("train", "coming out from behind something", 2, _cover(_down, 1, 0, large_moves=False, front=False), "cover"),
    # val
    Action("val", "moving from the upper left to the lower right", 1, _line(1, 1)),
    Action("val", "moving from the lower right to the upper left", 1, _line(-1, -1)),
    Action("val", "two things growing", 2, _sizes(_up, _up)),
    Action("val", "two things shrinking", 2, _sizes(_down, _down)),
    Action("val", "turning anticlockwise then back", 1, _angle(lambda t: -2.2 * _back(t))),
    Action("val", "appearing then fading away", 1, _alpha(_back)),
    Action("val", "two things moving apart then coming together", 2, _pair(_back, 1, 0)),
    Action("val", "hiding behind something", 2, _cover(_up, 1, 0, large_moves=False, front=False), "cover"),
    # test: mostly in groups that show the same frames in another order
    Action("test", "moving from left to right", 1, _line(1, 0)),
    Action("test", "moving from right to left", 1, _line(-1, 0)),
    Action("test", "moving right then back left", 1, _return(1, 0)),
    Action("test", "moving left then back right", 1, _return(-1, 0)),
    Action("test", "growing then shrinking", 1, _size(_back)),
    Action("test", "shrinking then growing", 1, _size(_valley)),
    Action("test", "two things coming together", 2, _pair(_down, 1, 0)),
    Action("test", "two things moving apart", 2, _pair(_up, 1, 0)),
    Action("test", "two things coming together then moving apart", 2, _pair(_valley, 1, 0)),
    Action("test", "two things passing each other", 2, _pass(1, 0)),
    Action("test", "covering something", 2, _cover(_up, 1, 0), "cover"),
    Action("test", "uncovering something", 2, _cover(_down, 1, 0), "cover"),
    Action("test", "pushing something to the right", 2, _push(1, 0)),
    Action("test", "pushing something to the left", 2, _push(-1, 0)),
    Action("test", "tilting to the right then to the left", 1, _angle(lambda t: math.sin(2 * math.pi * t))),
    Action("test", "fading away then appearing again", 1, _alpha(_valley)),
)
