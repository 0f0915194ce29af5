"""In training, another video of the class takes the place of one that does not decode: by rule, and named.

The rule knows (seed, episode, slot) and which files decode, nothing of processes or of what was drawn before, so that
workers and resumed runs agree: of the split's videos of that class, in an order hashed from those three, the first that
decodes and is not in the episode already; where none such is left, one that is.
"""

import hashlib
from collections.abc import Container
from typing import Any, NamedTuple

from torch import Tensor

from vidlib.basics.errors import UserError
from vidlib.data.clips import Undecodable


class Replaced(NamedTuple):
    """``video`` of ``cls`` did not decode for ``cause``; ``by`` was trained on in its place."""

    video: str
    cls: str
    cause: str
    by: str


def train(
    clips: Any, row: int, episode: int, slot: int, role: str | None, taken: Container[int]
) -> tuple[Tensor, int, Replaced | None]:
    """``clips.train(row, ...)``, or that of the video that takes its place: the clip, its row, what was replaced.

    ``role``: None of labelled clips. ``taken``: the rows of the episode. UserError where no video of the class decodes.
    """
    where = (episode, slot) if role is None else (episode, slot, role)
    try:
        return clips.train(row, *where), row, None
    except Undecodable as error:
        first = error
    lost = clips.rows[row]
    others = [i for i, other in enumerate(clips.rows) if other.cls == lost.cls and i != row]
    place = f"replace\t{clips.seed}\t{episode}\t{slot}\t"
    others.sort(key=lambda i: hashlib.sha256(f"{place}{clips.rows[i].video}".encode()).digest())
    others.sort(key=lambda i: i in taken)
    for other in others:
        try:
            clip = clips.train(other, *where)
        except Undecodable:
            continue
        return clip, other, Replaced(lost.video, lost.cls, first.cause, clips.rows[other].video)
    raise UserError(f"{first}; no other video of class {lost.cls!r} in split {clips.split} decodes either, mend some")
