"""Single pictures with captions, from the same drawing as the clips: what clip-mini and resnet-mini learn from.

Captions speak of shape, colour, size, place, count, tilt, overlap and ground; never of a motion.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidlib.data.world.drawing import (
    COLOURS,
    SHAPES,
    Ground,
    Thing,
    draw,
    paint_ground,
    some_colour,
    some_ground,
    stands_out,
    vary,
)
from vidlib.data.world.said import SIZES, bucket, place, tilt
from vidlib.data.world.scenes import COUNTS, article, plural

PIXELS = 64
LEAST, MIDDLING = 0.055, 0.16  # radius of the smallest thing spoken of; of the largest whose look is the question
PREFIXES = ("", "", "a photo of ", "a photo of ", "a picture of ", "this is ", "there is ", "we see ")
LIGHT = 0.15


def _some(rng: np.random.Generator, *choices: str) -> str:
    return choices[int(rng.integers(len(choices)))]


class _Drawn:
    """A thing with the words that say what it is: ``look`` (colour, shape), the rest from ``rng``."""

    def __init__(
        self,
        rng: np.random.Generator,
        look: tuple[str, str],
        like: "_Drawn | None" = None,
        told: bool = False,
        least: float = LEAST,
    ):
        self.colour, self.shape = look
        self.told = told  # whether its words always name colour and shape
        angle = 0.35 * (2 * rng.random() - 1) if rng.random() < 0.6 else math.pi * (2 * rng.random() - 1)
        size = least + 0.075 * rng.random() + 0.12 * rng.random() ** 2
        alpha = 0.25 + 0.3 * rng.random() if rng.random() < 0.12 else 1.0
        if like:
            size, alpha = like.thing.size * (0.9 + 0.2 * rng.random()), like.thing.alpha
        x, y = 0.08 + 0.84 * rng.random(), 0.08 + 0.84 * rng.random()
        self.thing = Thing(self.shape, vary(rng, COLOURS[self.colour], 0.05), x, y, size, angle, alpha)

    def words(self, rng: np.random.Generator, count: int = 1) -> str:
        """'a small red star', 'two faint blue things'."""
        parts = ["faint" if self.thing.alpha < 1 else ""]
        parts += [bucket(self.thing.size, SIZES) if rng.random() < 0.6 else ""]
        named = rng.random() < 0.9 or self.told
        if not named and rng.random() < 0.5 and count == 1:
            return " ".join(filter(None, ["something", *parts, self.colour]))
        parts += [self.colour if not named or self.told or rng.random() < 0.88 else ""]
        noun = self.shape if named else "thing"
        parts += [noun if count == 1 else plural(noun)]
        words = " ".join(filter(None, parts))
        return article(words) if count == 1 else f"{COUNTS[count - 1]} {words}"

    def where(self) -> str:
        return place(self.thing.x, self.thing.y)

    def placed(self, rng: np.random.Generator, always: bool = False) -> str:
        """Words with a place and a tilt, mostly."""
        parts = [self.words(rng)]
        if rng.random() < 0.3:
            parts.append(tilt(self.thing.angle))
        if always or rng.random() < 0.93:
            parts.append(self.where())
        return " ".join(filter(None, parts))


def _relation(rng: np.random.Generator, one: _Drawn, two: _Drawn) -> str:
    """Two things and how they lie to each other."""
    dx, dy = two.thing.x - one.thing.x, two.thing.y - one.thing.y
    gap = math.hypot(dx, dy) - one.thing.size - two.thing.size
    near = _some(rng, "together", "close together", "touching each other") if gap < 0.04 else ""
    far = _some(rng, "apart", "far apart") if gap > 0.25 else ""
    if (near or far) and rng.random() < 0.35:
        both = f"{one.words(rng)} and {two.words(rng)}"
        subject = both if one.told else _some(rng, "two things", "two shapes", both)
        middle = place((one.thing.x + two.thing.x) / 2, (one.thing.y + two.thing.y) / 2) if near else ""
        return " ".join(filter(None, [subject, near or far, middle]))
    if rng.random() < 0.5:
        return f"{one.placed(rng, True)} and {two.placed(rng, True)}"
    if abs(dx) > abs(dy):
        side = "to the left of" if dx > 0 else "to the right of"
    else:
        side = "above" if dy > 0 else "below"
    if near and rng.random() < 0.3:
        side = "beside" if abs(dx) > abs(dy) else side
    return f"{one.placed(rng)} {side} {two.words(rng)}"


def _overlap(rng: np.random.Generator, back: _Drawn, front: _Drawn) -> str:
    """One thing over another; ``front`` is moved onto ``back``."""
    turn, share = 2 * math.pi * rng.random(), 0.2 + 0.55 * rng.random()
    reach = share * (back.thing.size + front.thing.size)
    x = min(0.94, max(0.06, back.thing.x + reach * math.cos(turn)))
    y = min(0.94, max(0.06, back.thing.y + reach * math.sin(turn)))
    front.thing = front.thing.moved(x=x, y=y, alpha=1.0)
    a, b, where = back.words(rng), front.words(rng), back.where()
    return _some(
        rng,
        f"{a} behind {b} {where}",
        f"{b} in front of {a} {where}",
        f"{a} {where} covered by {b}",
        f"{b} {where} covering part of {a}",
        f"{a} half hidden behind {b} {where}",
    ).replace("covering part of", "over")


def _many(rng: np.random.Generator, first: _Drawn, count: int) -> tuple[list[_Drawn], str]:
    """Several alike, apart from each other."""
    things = [first]
    first.thing = first.thing.moved(size=min(first.thing.size, 0.14))
    while len(things) < count:
        other = _Drawn(rng, (first.colour, first.shape), like=first)
        if all(math.dist((other.thing.x, other.thing.y), (t.thing.x, t.thing.y)) > 0.2 for t in things):
            things.append(other)
    words = things[0].words(rng, count)
    xs, ys = [t.thing.x for t in things], [t.thing.y for t in things]
    if max(ys) - min(ys) < 0.2 and rng.random() < 0.8:
        return things, f"{words} side by side {place(0.5, sum(ys) / count)}"
    if max(xs) - min(xs) < 0.2 and rng.random() < 0.8:
        return things, f"{words} on top of each other {place(sum(xs) / count, 0.5)}"
    if count == 2:
        return things, f"{words}, one {things[0].where()} and one {things[1].where()}"
    return things, f"{words} {_some(rng, '', 'in the picture')}".strip()


def _look(rng: np.random.Generator, ground: Ground, avoid: tuple[str, ...] = ()) -> tuple[str, str]:
    return some_colour(rng, ground, avoid), SHAPES[int(rng.integers(len(SHAPES)))]


class Facts(NamedTuple):
    """What a still shows: its ground, the things spoken of with their colours' names, small bystanders, the caption."""

    ground: Ground
    colours: list[str]
    things: list[Thing]
    behind: list[Thing]
    caption: str

    def picture(self, pixels: int = PIXELS) -> np.ndarray:
        """uint8 [pixels pixels 3]."""
        return draw(paint_ground(self.ground, pixels), self.behind + self.things)


class Other(NamedTuple):
    """The still of a run that shows the same in another look: the ``number``-th ``what``, 'shape' or 'colour'."""

    what: str
    number: int

    def look(self, first: tuple[str, str], second: tuple[str, str], ground: Ground) -> tuple[str, str]:
        """Colour and shape from those that ``first`` stands for, the next ones in turn; never ``second``'s colour."""
        if self.what == "shape":
            return first[0], SHAPES[(SHAPES.index(first[1]) + self.number) % len(SHAPES)]
        names = [name for name in COLOURS if name != second[0] and stands_out(name, ground)]
        return names[(names.index(first[0]) + self.number) % len(names)], first[1]


def _scene(
    rng: np.random.Generator, cast: np.random.Generator, simple: float, other: Other | None = None, least: float = LEAST
) -> Facts:
    """``other``: draw the first thing with another look than ``cast`` would give it, and have every look named."""
    ground, plain, kind = some_ground(cast), cast.random() < simple, cast.random()
    first = _look(cast, ground)
    second, count = _look(cast, ground, (first[0],)), int(cast.integers(2, 5))
    first, told = other.look(first, second, ground) if other else first, other is not None
    one = _Drawn(rng, first, told=told, least=least)
    if told:
        one.thing = one.thing.moved(size=min(one.thing.size, MIDDLING))
    drawn = [one]
    if plain:
        one.thing = one.thing.moved(alpha=1.0)
        caption = f"{article(' '.join(first))} {one.where()}"
    elif kind < 0.2:
        caption = one.placed(rng)
    elif kind < 0.82:
        two = _Drawn(rng, second, told=told, least=least)
        drawn.append(two)
        if kind > 0.62:
            caption = _overlap(rng, one, two)
        else:
            if kind > 0.52:  # near each other, else seldom seen
                turn, reach = 2 * math.pi * rng.random(), one.thing.size + two.thing.size + 0.03 * rng.random()
                x, y = one.thing.x + reach * math.cos(turn), one.thing.y + reach * math.sin(turn)
                two.thing = two.thing.moved(x=min(0.94, max(0.06, x)), y=min(0.94, max(0.06, y)))
            caption = _relation(rng, one, two)
    else:
        drawn, caption = _many(rng, one, count)
    behind = []
    for _ in range(int(rng.integers(3)) if rng.random() < 0.4 else 0):  # small and not spoken of
        small = _Drawn(rng, _look(rng, ground)).thing.moved(size=0.045 + 0.03 * rng.random(), alpha=1.0)
        if all(math.dist((small.x, small.y), (d.thing.x, d.thing.y)) > d.thing.size + small.size for d in drawn):
            behind.append(small)
    if not plain and rng.random() < 0.35:
        texture = ground.pattern if ground.pattern != "floor" else "two-part"
        caption += _some(
            rng, f" on a {texture} ground", f" on a {ground.name} ground", f" on a {ground.name} {texture} ground"
        )
    return Facts(ground, [d.colour for d in drawn], [d.thing for d in drawn], behind, caption)


def still(
    rng: np.random.Generator, cast: np.random.Generator, simple: float = 0.3, pixels: int = PIXELS
) -> tuple[np.ndarray, str]:
    """One picture and its caption: uint8 [pixels pixels 3], str; ``simple``: the share with one thing, fully described.

    Ground, kind of scene, colours and shapes come from ``cast``, everything else from ``rng``: stills of one cast
    differ in place, size, tilt and overlap alone.
    """
    shown = _scene(rng, cast, simple)
    return shown.picture(pixels), PREFIXES[int(rng.integers(len(PREFIXES)))] + shown.caption


def stills(
    seed: int, start: int, count: int, alike: int = 1, simple: float = 0.3, pixels: int = PIXELS
) -> tuple[np.ndarray, list[str]]:
    """Stills ``start`` .. ``start + count - 1`` of a seed: uint8 [count pixels pixels 3] and their captions.

    Runs of ``alike`` stills share their cast.
    """
    pairs = []
    for i in range(start, start + count):
        cast = np.random.default_rng([seed, i // alike, 0])
        pairs.append(still(np.random.default_rng([seed, i, 1]), cast, simple, pixels))
    return np.stack([image for image, _ in pairs]), [caption for _, caption in pairs]


def _crowd(rng: np.random.Generator, least: float) -> Facts:
    """Three or four things of different colours apart from each other, three of them spoken of."""
    ground, drawn = some_ground(rng), []
    for _ in range(int(rng.integers(3, 5))):
        one = _Drawn(rng, _look(rng, ground, tuple(d.colour for d in drawn)), told=True, least=least)
        one.thing = one.thing.moved(size=min(one.thing.size, MIDDLING), alpha=1.0)
        for _ in range(12):
            if all(math.dist((one.thing.x, one.thing.y), (d.thing.x, d.thing.y)) > 0.8 * (one.thing.size + d.thing.size)
                   for d in drawn):  # fmt: skip
                drawn.append(one)
                break
            one.thing = one.thing.moved(x=0.08 + 0.84 * rng.random(), y=0.08 + 0.84 * rng.random())
    told = [f"{article(f'{d.colour} {d.shape}')} {d.where()}" for d in drawn[:3]]
    caption = f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]
    return Facts(ground, [d.colour for d in drawn], [d.thing for d in drawn], [], caption)


def runs(
    seed: int,
    number: int,
    plan: Sequence[tuple[str, int, int]],
    simple: float = 0.3,
    least: float = LEAST,
    light: float = LIGHT,
    pixels: int = PIXELS,
) -> tuple[np.ndarray, list[str], list[Facts]]:
    """Batch ``number`` of a seed in runs of stills that differ in one thing alone: images, captions, what they show.

    -> uint8 [B pixels pixels 3] and two lists of B. ``plan``: (what differs, stills in a run, runs). 'shape', 'colour':
    the same picture with the first thing in another look, and each caption names it; 'place': stills of one cast, which
    differ in place, size, tilt and overlap; '': nothing is shared; 'crowd': neither, with three or four things apart.
    Each still has a light of its own, 1 - ``light`` to 1 + ``light`` times the drawing's.
    """
    images, captions, told = [], [], []
    for kind, (what, length, count) in enumerate(plan):
        for run in range(count):
            for i in range(length):
                same, own = [seed, number, kind, run, 0], [seed, number, kind, run, 1 + i]
                other = Other(what, i) if what in ("shape", "colour") else None
                rng = np.random.default_rng([*same, 1] if other else own)
                if what == "crowd":
                    shown = _crowd(rng, least)
                else:
                    cast = np.random.default_rng([*same, 0] if what else [*own, 1])
                    shown = _scene(rng, cast, simple, other, least)
                told.append(shown)
                gain = 1 + light * (2 * np.random.default_rng([*own, 2]).random() - 1)
                images.append(np.clip(shown.picture(pixels) * np.float32(gain) + 0.5, 0, 255).astype(np.uint8))
                captions.append(_some(rng, *PREFIXES) + shown.caption)
    return np.stack(images), captions, told


def facts(seed: int, start: int, count: int, simple: float = 0.3) -> list[Facts]:
    """What stills ``start`` .. ``start + count - 1`` of a seed show, each with a cast of its own."""
    return [
        _scene(np.random.default_rng([seed, i, 1]), np.random.default_rng([seed, i, 0]), simple)
        for i in range(start, start + count)
    ]


def plain_stills(seed: int, count: int, pixels: int = PIXELS) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Pictures of one thing, evenly over nine places, with its ``shape``, ``colour`` and ``place``: to test naming."""
    images, facts = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i, 2])
        ground = some_ground(rng)
        drawn = _Drawn(rng, _look(rng, ground))
        x, y = (0.5 + 0.21 * (cell - 1) + 0.06 * (2 * rng.random() - 1) for cell in (i % 3, i // 3 % 3))
        size = 0.1 + 0.06 * rng.random()
        drawn.thing = drawn.thing.moved(x=x, y=y, size=size, alpha=1.0, angle=0.3 * (2 * rng.random() - 1))
        images.append(draw(paint_ground(ground, pixels), [drawn.thing]))
        facts.append({"shape": drawn.shape, "colour": drawn.colour, "place": place(x, y)})
    return np.stack(images), facts
