"""The bars of the embedded worlds: how far no trick may get, and how far who sees the drawn paths must.

They were fixed before any paper's method ran on the worlds; a world that fails one is drawn anew, the bar stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vidlib.data.catalogue import benchmarks
from vidlib.data.manifest import Manifest
from vidlib.data.sampling import segment_indices
from vidlib.data.world import oracle
from vidlib.studies import shortcuts

ORACLE, PLACE = "oracle: the drawn paths", "the actor's place in one frame"
DISTANCE = "told: how far the two are in one frame"  # no bar: it is what a method has to read, and no tower here does
TRICKS = (  # every shortcut whose name begins so
    "frozen features",
    "best single frame",
    "ordered differences",
    "global motion statistics",
    "median picture over time",
    "file",
    PLACE,
)


class Bar(NamedTuple):
    """``shortcut``: how the names of the rows begin that it is about; ``column``: "accuracy", or "order", what frames
    in order give above shuffled ones. In per cent, on val and on test."""

    world: str
    shortcut: str
    at_least: float
    at_most: float
    column: str = "accuracy"
    tower: str = ""  # any, or this one alone


BARS = (
    *(Bar("motion", trick, 0, 30) for trick in TRICKS),
    Bar("motion", ORACLE, 90, 100),
    Bar("words", "class texts alone", 40, 60, tower="clip-mini"),
    Bar("words", "frozen features, prototype", 0, 60),
    Bar("words", ORACLE, 90, 100),
    Bar("scene", "frozen features, otam", -1, 1, "order"),
    Bar("scene", "frozen features, prototype", 40, 100, tower="clip-mini"),
)


def measure(world: str, backbone: str = "clip-mini", episodes: int = 2000, barred: bool = False) -> pd.DataFrame:
    """``shortcuts.measure`` of an embedded world, 5-way 1-shot, with the rows that only the world itself can tell.

    The easy worlds have no bars and, as *scene*, no such rows. ``barred``: only what a bar is about.
    """
    asked = {bar.shortcut for bar in BARS if bar.world == world and bar.tower in ("", backbone)}
    told = any(bar.world == world and bar.shortcut == ORACLE for bar in BARS)
    others = _own(benchmarks.load(world), episodes) if told else {}
    given = {"only": tuple(asked)} if barred else {}
    return shortcuts.measure(world, backbone, episodes=episodes, others=others, **given)


def held(measured: pd.DataFrame) -> pd.DataFrame:
    """Each bar of the measured world beside the rows it is about: bar, shortcut, tower, split, measured (%), holds."""
    rows = []
    for bar, line in _asked(measured):
        value = 100 * getattr(line, bar.column)
        said = {"world": bar.world, "shortcut": line.shortcut, "tower": line.tower, "split": line.split}
        said |= {"what": bar.column, "bar": f"{bar.at_least:g} to {bar.at_most:g}", "measured (%)": value}
        rows.append(said | {"holds": bar.at_least <= value <= bar.at_most})
    return pd.DataFrame(rows)


def allowed(measured: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Shortcut -> the least and the most accuracy (%) that its bar allows; those that have one."""
    return {line.shortcut: (bar.at_least, bar.at_most) for bar, line in _asked(measured) if bar.column == "accuracy"}


def _asked(measured: pd.DataFrame) -> Iterator[tuple[Bar, Any]]:
    """Every bar of the measured world with each row that it is about."""
    for bar in (bar for bar in BARS if bar.world == measured.attrs["dataset"]):
        own = measured[measured["shortcut"].str.startswith(bar.shortcut) & measured[bar.column].notna()]
        for line in own[own["tower"].isin(["", bar.tower]) if bar.tower else own.index.notna()].itertuples():
            yield bar, line


def _own(manifest: Manifest, episodes: int) -> Mapping[str, Mapping[str, Tensor]]:
    """The oracle, and the actor's place and the two things' distance in the one frame that is best on val: similarities
    of the videos of a split."""
    told: dict[str, dict[str, Tensor]] = {ORACLE: {}, PLACE: {}, DISTANCE: {}}
    for split in shortcuts.SPLITS:
        videos = [row.video for row in manifest.videos(split)]
        told[ORACLE][split] = torch.from_numpy(oracle.similarity(manifest.name, videos))
        at = torch.stack([_places(manifest.name, video) for video in videos], dim=1)  # [T V 2 2]
        told[PLACE][split] = -torch.cdist(at[:, :, 0], at[:, :, 0])
        gap = (at[:, :, 0] - at[:, :, 1]).norm(dim=-1, keepdim=True)
        told[DISTANCE][split] = -torch.cdist(gap, gap)
    on_val = shortcuts.asked(manifest, "val", 5, 1, episodes)
    for row in (PLACE, DISTANCE):
        best = int(np.argmax([on_val.by_similarity(one).accuracy for one in told[row]["val"]]))
        told[row] = {split: each[best] for split, each in told[row].items()}
    return told


def _places(world: str, video: str) -> Tensor:
    count = len(oracle.shot(world, video).actors)
    return torch.from_numpy(oracle.places(world, video, segment_indices(count, 8)))
