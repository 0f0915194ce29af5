"""How often the 95% intervals of a few-shot accuracy hold the true value, over replicates of fresh videos.

    python -m vidlib.studies.coverage OUT        makes pool and record anew; killed, it goes on with the same pool

A replicate is 16 classes with 32 videos each, drawn from a pool, and a list of episodes on them, which two methods
answer. Its true values are exact, no estimates: that of all episodes which its own videos allow, and that of all which
the whole pool allows; a draw from the pool is right about it on average. A pool is finite, and holding the share f of
it would flatter an interval: how far a replicate's own videos are off the pool is set wider by 1 / sqrt(1 - f), which
is as far as from an endless one, to first order.

Legend: `K` classes, `n` videos of each, `T` frames, `W` way, `R` replicates.
"""

import sys
from collections.abc import Sequence
from itertools import product
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from vidlib.basics import paths
from vidlib.basics.digests import PACKAGE, digest, file_digest
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.results import runs
from vidlib.results.environment import environment
from vidlib.results.intervals import clustered, half_width, wilson
from vidlib.results.over_draws import over_classes, over_videos
from vidlib.studies import fresh_videos, records

WAY, CLASSES, VIDEOS, REPLICATES, SEED = 5, 16, 32, 300, 17
METHODS = ("mean of frames", "learned differences")
SHRINK = 0.1  # of the covariance within classes, towards a ball
ASKED = (*METHODS, "paired")  # the second minus the first
INTERVALS = ("episodes", "asked videos", "asked classes", "videos", "classes")  # two were tables' own until measured
UNIT = 1e-5  # of what a record keeps
NAME = "intervals"
FIELDS = ("estimate", "truth", "half", "pool", "share")
SOURCES = ("studies/coverage.py", "studies/fresh_videos.py", "results/over_draws.py", "results/intervals.py")

Record = dict[str, np.ndarray]


class Setting(NamedTuple):
    """From which group of the pool a replicate's classes are drawn, and how many episodes it has."""

    name: str
    group: str
    episodes: int


SETTINGS = (
    Setting("fresh videos", "test", 2000),
    Setting("fresh videos", "test", 10_000),
    Setting("fresh classes", "triples", 10_000),
)
CLAIMED = {"episodes": "these videos", "videos": "fresh videos", "classes": "fresh classes"}


class Methods:
    """The two that answer: the frames' mean, untrained; the steps between frames, in order, along the directions in
    which the classes of ``learned_from`` [K n T D], none of them tested, differ most (Fisher's, K - 1 of them)."""

    def __init__(self, learned_from: np.ndarray) -> None:
        x = self._steps(learned_from)
        means = x.mean(1)
        within = (x - means[:, None]).flatten(0, 1)
        covariance = (1 - SHRINK) * within.T @ within / len(within)
        covariance += SHRINK * within.square().mean() * torch.eye(covariance.shape[0])
        values, vectors = torch.linalg.eigh(covariance)
        white = vectors * values.rsqrt()
        between = torch.linalg.svd((means - means.mean(0)) @ white, full_matrices=False)[2][: len(means) - 1]
        self.directions = white @ between.T

    @staticmethod
    def _steps(features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(features).float().diff(dim=2).flatten(2)

    def __call__(self, features: np.ndarray) -> list[torch.Tensor]:
        """[K n T D] -> of each method [K n C], of length 1."""
        both = torch.from_numpy(features).float().mean(2), self._steps(features) @ self.directions
        return [torch.nn.functional.normalize(x, dim=-1) for x in both]


def exact(x: torch.Tensor, way: int = WAY) -> float:
    """The accuracy over all ``way``-way 1-shot episodes that the videos x [K n C] allow, by cosine.

    A query is right where the supports of the other classes are less like it than its own. ``F_k``: the share of class
    k's videos that are. Over all sets of W - 1 other classes, and all their videos, the chance of that is the
    elementary symmetric polynomial of degree W - 1 of the F_k over the number of sets.
    """
    total, (number, n, _) = 0.0, x.shape
    apart = ~torch.eye(n, dtype=torch.bool)
    for c in range(number):
        like = torch.einsum("qc,knc->kqn", x[c], x)
        own = like[c][apart].view(n, n - 1)
        others = torch.cat([like[:c], like[c + 1 :]]).sort(-1).values
        share = torch.searchsorted(others, own.expand(number - 1, n, n - 1).contiguous()).double() / n
        sums = [torch.ones_like(share[0]), *(torch.zeros_like(share[0]) for _ in range(way - 1))]
        for one in share:
            for j in range(way - 1, 0, -1):
                sums[j] += sums[j - 1] * one
        total += float(sums[-1].mean()) / comb(number - 1, way - 1)
    return total / number


def replicate(features: np.ndarray, methods: Methods, episodes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """On videos [K n T D], for each of ASKED: ``estimate``, the ``truth`` of these very videos, ``half`` [3 5]."""
    number, n = features.shape[:2]
    classes = rng.permuted(np.tile(np.arange(number), (episodes, 1)), axis=1)[:, :WAY]
    first = rng.integers(n, size=classes.shape)
    support, query = classes * n + first, classes * n + (first + rng.integers(1, n, size=classes.shape)) % n
    videos, cls = np.concatenate([support, query], 1), np.repeat(np.arange(number), n)
    hits, truth = [], []
    for x in methods(features):
        flat = x.flatten(0, 1)
        guess = (flat @ flat.T).numpy()[query[:, :, None], support[:, None]].argmax(-1)
        hits.append((guess == np.arange(WAY)).astype(float))
        truth.append(exact(x))
    half, estimate = [], []
    for values in (*hits, hits[1] - hits[0]):
        each = values.mean(1)
        asked = [clustered(values.ravel(), of.ravel()) for of in (query, classes)]
        half.append([half_width(each), *asked, over_videos(each, videos, cls), over_classes(each, classes, number)])
        estimate.append(each.mean())
    return {"estimate": np.array(estimate), "truth": np.array([*truth, truth[1] - truth[0]]), "half": np.array(half)}


def measure(features: np.ndarray, methods: Methods, episodes: int, replicates: int, seed: Sequence[int]) -> Record:
    """Replicates drawn from a pool [K n T D]: in UNITs ``estimate``, ``truth`` [R 3], ``half`` [R 3 5], and ``pool``
    [3], the truth of all of it, of which a replicate has the ``share`` [1], of its classes or of their videos."""
    number, n = features.shape[:2]
    share = VIDEOS / n if number == CLASSES else CLASSES / number
    if number < CLASSES or n < VIDEOS or share == 1:
        raise UserError(f"pool: {number} classes of {n} videos; a replicate takes {CLASSES} of {VIDEOS} and not all")
    whole = [exact(x) for x in methods(features)]
    kept: dict[str, list] = {"estimate": [], "truth": [], "half": []}
    for i in track(range(replicates), f"replicates of {episodes} episodes"):
        rng = np.random.default_rng([*seed, i])
        chosen = rng.permutation(number)[:CLASSES]
        own = np.stack([features[c, rng.permutation(n)[:VIDEOS]] for c in chosen])
        for name, value in replicate(own, methods, episodes, rng).items():
            kept[name].append(value)
    kept["pool"] = [*whole, whole[1] - whole[0]]
    record = {name: np.round(np.array(value) / UNIT).astype(np.int32) for name, value in kept.items()}
    return record | {"share": np.array([share])}


def table(records: Sequence[Record], settings: Sequence[Setting] = SETTINGS) -> pd.DataFrame:
    """One row for each setting, truth, method and interval: ``held`` of ``replicates``, the share ``covered`` with
    its own interval ``low`` to ``high``, the mean half ``width`` and what would have held 95% (``needed``), per cent;
    ``claimed``: whether the interval is said to be of that truth."""
    rows = []
    for record, setting in zip(records, settings, strict=True):
        here = (record["estimate"] - record["truth"]).astype(float)
        off = (record["truth"] - record["pool"]) / np.sqrt(1 - record["share"])
        for truth, miss in (("these videos", np.abs(here)), (setting.name, np.abs(here + off))):
            for (k, asked), (i, interval) in product(enumerate(ASKED), enumerate(INTERVALS)):
                half, number = record["half"][:, k, i], len(miss)
                held = int((miss[:, k] <= half).sum())
                row = {"drawn": setting.name, "episodes": setting.episodes, "truth": truth, "asked": asked}
                row |= {"interval": interval, "claimed": CLAIMED.get(interval) == truth, "held": held}
                row["replicates"] = number
                numbers = [held / number, *wilson(held, number), UNIT * half.mean()]
                numbers.append(UNIT * float(np.quantile(miss[:, k], 0.95)))
                names = ("covered", "low", "high", "width", "needed")
                rows.append(row | {name: 100 * one for name, one in zip(names, numbers, strict=True)})
    return pd.DataFrame(rows)


def load(folder: Path | None = None) -> tuple[list[Record], dict[str, Any]]:
    """The records of SETTINGS and what is said of them; those of ``records/`` where no folder is named."""
    place = folder or paths.records_dir()
    if place is None or not (place / f"{NAME}.npz").is_file():
        raise UserError(f"no record {NAME}.npz in {place}: python -m vidlib.studies.coverage OUT makes one")
    file = records.npz(place / f"{NAME}.npz")
    if lacking := {f"{s}.{name}" for s in range(len(SETTINGS)) for name in FIELDS} - file.keys():
        raise UserError(f"{place / NAME}.npz lacks {min(lacking)}: {records.DAMAGED}")
    every = [{name: file[f"{s}.{name}"] for name in FIELDS} for s in range(len(SETTINGS))]
    return every, paths.read_json(place / f"{NAME}.json", "make the record anew")


def main(out: str) -> None:
    """Make the pool and the record in folder ``out``, and print what came of it."""
    folder = paths.absolute(out)
    pool = {group: fresh_videos.pool(folder / "pool", group, n) for group, n in fresh_videos.FULL.items()}
    methods, kept = Methods(pool["train"]), {}
    for s, setting in enumerate(SETTINGS):
        record = measure(pool[setting.group], methods, setting.episodes, REPLICATES, [SEED, s])
        kept |= {f"{s}.{name}": value for name, value in record.items()}
    with paths.atomic_write(folder / f"{NAME}.npz") as part, open(part, "wb") as file:
        np.savez_compressed(file, **kept)
    encoding = [[exact(x) for x in methods(features)] for features in fresh_videos.encoded(VIDEOS)]
    said = {"way": WAY, "shot": 1, "query": 1, "classes": CLASSES, "videos": VIDEOS, "replicates": REPLICATES}
    said |= {"seed": SEED, "unit": UNIT, "asked": ASKED, "intervals": INTERVALS, "pool": fresh_videos.FULL}
    said |= {"settings": [setting._asdict() for setting in SETTINGS], "tower": fresh_videos.TOWER}
    said |= {"accuracy without and with H.264": encoding, "command": "python -m vidlib.studies.coverage OUT"}
    said |= {"code": digest([[name, file_digest(PACKAGE / name)] for name in SOURCES])}
    runs.write_json(folder / f"{NAME}.json", said | {"commit": environment()["commit"]})
    print(table(load(folder)[0]).round(1).to_string())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
