"""The actions of the embedded world: split, name, number of things, motion."""

import math
from typing import NamedTuple

from vidlib.data.world.motions import (
    Motion,
    both,
    bounce,
    circle,
    corner,
    cover,
    cover_vertically,
    dance,
    down,
    drop,
    fade,
    follow,
    hill,
    jump,
    line,
    pair,
    pass_by,
    pile,
    push,
    resize,
    resize_two,
    shake,
    split,
    swing,
    there_and_back,
    through,
    turn,
    up,
    valley,
    zigzag,
)


class Action(NamedTuple):
    """``things``: how many act. ``cast``: "alike" for equal ones, "cover" for a large one and one it can hide."""

    split: str
    name: str
    things: int
    motion: Motion
    cast: str = ""


ACTIONS: tuple[Action, ...] = (
    # up and down, there and back
    Action("train", "rising straight up", 1, line(0, -1)),
    Action("train", "falling straight down", 1, line(0, 1)),
    Action("train", "moving up then back down", 1, there_and_back(0, -1)),
    Action("train", "moving down then back up", 1, there_and_back(0, 1)),
    Action("train", "moving from the lower left to the upper right", 1, line(1, -1)),
    Action("train", "moving from the upper right to the lower left", 1, line(-1, 1)),
    Action("train", "moving to the upper right corner then back", 1, there_and_back(1, -1)),
    Action("train", "moving to the lower left corner then back", 1, there_and_back(-1, 1)),
    # round a corner
    Action("train", "moving right then up", 1, corner(1, -1, True)),
    Action("train", "moving right then down", 1, corner(1, 1, True)),
    Action("train", "moving left then up", 1, corner(-1, -1, True)),
    Action("train", "moving left then down", 1, corner(-1, 1, True)),
    Action("train", "moving up then left", 1, corner(-1, -1, False)),
    Action("train", "moving down then right", 1, corner(1, 1, False)),
    # curves, teeth and hops
    Action("train", "circling clockwise", 1, circle(1)),
    Action("train", "circling anticlockwise", 1, circle(-1)),
    Action("train", "jumping over the top from left to right", 1, jump(1)),
    Action("train", "jumping over the top from right to left", 1, jump(-1)),
    Action("train", "swinging from side to side", 1, swing),
    Action("train", "zigzagging upwards", 1, zigzag(0, -1)),
    Action("train", "zigzagging downwards", 1, zigzag(0, 1)),
    Action("train", "bouncing along to the right", 1, bounce(1)),
    Action("train", "bouncing along to the left", 1, bounce(-1)),
    Action("train", "dropping and bouncing", 1, drop),
    Action("train", "shaking quickly", 1, shake),
    # size
    Action("train", "growing", 1, resize(up)),
    Action("train", "shrinking", 1, resize(down)),
    Action("train", "growing while rising", 1, resize(up, 0, -0.8)),
    Action("train", "shrinking while falling", 1, resize(down, 0, 0.8)),
    Action("train", "growing while moving to the right", 1, resize(up, 0.8, 0)),
    Action("train", "shrinking while moving to the left", 1, resize(down, -0.8, 0)),
    Action("train", "one thing growing while another is shrinking", 2, resize_two(up, down)),
    # coming and going
    Action("train", "appearing slowly", 1, fade(up)),
    Action("train", "fading away", 1, fade(down)),
    Action("train", "blinking off and on again", 1, fade(lambda t: abs(2 * (2 * t % 1) - 1))),
    Action("train", "two things fading away", 2, fade(down, 2)),
    Action("train", "two things appearing", 2, fade(up, 2)),
    # turning
    Action("train", "turning clockwise", 1, turn(lambda t: 3.6 * t)),
    Action("train", "turning anticlockwise", 1, turn(lambda t: -3.6 * t)),
    Action("train", "tilting to the left", 1, turn(down)),
    Action("train", "tilting to the right", 1, turn(up)),
    Action("train", "turning clockwise then back", 1, turn(lambda t: 2.2 * hill(t))),
    # two things
    Action("train", "two things coming together from top and bottom", 2, pair(down, 0, 1)),
    Action("train", "two things moving apart to the top and bottom", 2, pair(up, 0, 1)),
    Action("train", "two things coming together from the corners", 2, pair(down, 1, -1)),
    Action("train", "two things moving apart to the corners", 2, pair(up, 1, -1)),
    Action("train", "two things swapping top and bottom", 2, pass_by(0, 1)),
    Action("train", "two things rising together", 2, both(0, -1)),
    Action("train", "two things falling together", 2, both(0, 1)),
    Action("train", "two things moving to the right together", 2, both(1, 0)),
    Action("train", "two things circling each other", 2, dance),
    Action("train", "one thing following another upwards", 2, follow(0, -1)),
    Action("train", "one thing following another downwards", 2, follow(0, 1)),
    Action("train", "pushing something upwards", 2, push(0, -1)),
    Action("train", "pushing something downwards", 2, push(0, 1)),
    Action("train", "putting one thing on top of another", 2, pile(up)),
    Action("train", "taking one thing off the top of another", 2, pile(down)),
    Action("train", "splitting in two", 2, split(up), "alike"),
    Action("train", "two things joining into one", 2, split(down), "alike"),
    # hiding
    Action("train", "passing behind something", 2, through(False), "cover"),
    Action("train", "passing in front of something", 2, through(True), "cover"),
    Action("train", "covering something from above", 2, cover_vertically(up), "cover"),
    Action("train", "uncovering something upwards", 2, cover_vertically(down), "cover"),
    Action(
        "train", "coming out of hiding behind something", 2, cover(down, 1, 0, large_moves=False, front=False), "cover"
    ),
    # val
    Action("val", "moving from the upper left to the lower right", 1, line(1, 1)),
    Action("val", "moving from the lower right to the upper left", 1, line(-1, -1)),
    Action("val", "two things growing", 2, resize_two(up, up)),
    Action("val", "two things shrinking", 2, resize_two(down, down)),
    Action("val", "turning anticlockwise then back", 1, turn(lambda t: -2.2 * hill(t))),
    Action("val", "appearing then fading away", 1, fade(hill)),
    Action("val", "two things moving apart then coming together", 2, pair(hill, 1, 0)),
    Action("val", "hiding behind something", 2, cover(up, 1, 0, large_moves=False, front=False), "cover"),
    # test: mostly in groups that show the same frames in another order
    Action("test", "moving from left to right", 1, line(1, 0)),
    Action("test", "moving from right to left", 1, line(-1, 0)),
    Action("test", "moving right then back left", 1, there_and_back(1, 0)),
    Action("test", "moving left then back right", 1, there_and_back(-1, 0)),
    Action("test", "growing then shrinking", 1, resize(hill)),
    Action("test", "shrinking then growing", 1, resize(valley)),
    Action("test", "two things coming together", 2, pair(down, 1, 0)),
    Action("test", "two things moving apart", 2, pair(up, 1, 0)),
    Action("test", "two things coming together then moving apart", 2, pair(valley, 1, 0)),
    Action("test", "two things passing each other", 2, pass_by(1, 0)),
    Action("test", "covering something", 2, cover(up, 1, 0), "cover"),
    Action("test", "uncovering something", 2, cover(down, 1, 0), "cover"),
    Action("test", "pushing something to the right", 2, push(1, 0)),
    Action("test", "pushing something to the left", 2, push(-1, 0)),
    Action("test", "tilting to the right then to the left", 1, turn(lambda t: math.sin(2 * math.pi * t))),
    Action("test", "fading away then appearing again", 1, fade(valley)),
)
