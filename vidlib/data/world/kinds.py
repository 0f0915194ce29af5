"""The classes of the worlds *motion*, *scene* and *words*: 24 to train on, 16 for val, 16 for test.

*motion*: two of eight relations, one after the other. On a circle of the eight, neighbours make the val classes, those
three apart the test classes, those two or four apart train, each pair in both orders. Counting the circle in threes
turns val into test and leaves train as it is: neither is the harder by design. Each relation comes first as often as
any other, and second too; frames without their order do not tell a class from its reverse. The two things look the
same in every clip.

*words*: a look and one relation. The four classes of a look differ in the relation alone. No look of val or test is one
of train's.

*scene*: what is there; four kinds of 14 each, six of them train, four val, four test.
"""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np

from vidlib.data.world import stage
from vidlib.data.world.drawing import COLOURS, PATTERNS, SHAPES
from vidlib.data.world.relations import RELATIONS
from vidlib.data.world.scenes import COUNTS, Scene, article, plural


class Kind(NamedTuple):
    """A class: its split, its name, and how one of its clips is drawn."""

    split: str
    name: str
    shot: Callable[[np.random.Generator], stage.Shot]


def _motion() -> tuple[Kind, ...]:
    split_of = {1: "val", 2: "train", 3: "test", 4: "train"}
    return tuple(
        Kind(split_of[min((i - j) % 8, (j - i) % 8)], f"{a} something, then {b} it", partial(stage.related, (a, b)))
        for (i, a), (j, b) in permutations(enumerate(RELATIONS), 2)
    )


LOOKS = {
    "train": ("red circle", "green triangle", "cyan cross", "purple bar", "white moon", "pink square"),
    "val": ("orange star", "blue ring", "black circle", "yellow moon"),
    "test": ("yellow cross", "black ring", "blue star", "orange triangle"),
}


def _words() -> tuple[Kind, ...]:
    """The looks of a split have the even and the odd of the eight relations in turn."""
    return tuple(
        Kind(split, f"{article(look)} {one} something", partial(stage.related, (one,), look=tuple(look.split())))
        for split, looks in LOOKS.items()
        for i, look in enumerate(looks)
        for one in tuple(RELATIONS)[i % 2 :: 2]
    )


def _scenes() -> list[list[Scene]]:
    """Four lists of 14: a coloured shape, a number of a shape, a shape on a ground, two coloured shapes."""
    colours, lists = [*COLOURS, *COLOURS], [[], [], [], []]
    for i in range(14):
        a, shape, turned, pattern = (
            colours[i],
            SHAPES[3 * i % 8],
            SHAPES[(3 * i + i // 8) % 8],
            PATTERNS[i // 3 % 4],
        )
        b, left, right, count = colours[i + 3], SHAPES[i % 8], SHAPES[(i + 3) % 8], 2 + i % 3
        lists[0].append(Scene("", article(f"{a} {shape}"), 1, (a,), (shape,)))
        lists[1].append(Scene("", f"{COUNTS[count - 1]} {plural(turned)}", count, (), (turned,)))
        lists[2].append(Scene("", f"{article(shape)} on a {pattern} ground", 1, (), (shape,), pattern))
        two = f"{article(f'{a} {left}')} and {article(f'{b} {right}')}"
        lists[3].append(Scene("", two, 2, (a, b), (left, right)))
    return lists


def _scene() -> tuple[Kind, ...]:
    place = ("train", "val", "test", "train", "train", "val", "test")
    return tuple(
        Kind(place[i % 7], scene.name, partial(stage.shown, scene))
        for each in _scenes()
        for i, scene in enumerate(each)
    )


KINDS: dict[str, tuple[Kind, ...]] = {"motion": _motion(), "scene": _scene(), "words": _words()}
