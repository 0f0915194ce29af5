"""What missing videos do to a number: one method tested on what is left of a split, again and again.

Videos vanish from the web, and each lab has others left. The interval that a few-shot result carries is over episodes:
it takes the videos as given. Here parts of a split are taken away at random, to see what that leaves out.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.data.episodes import Episode, EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.params.few_shot import FewShotParams
from vidlib.training import evaluate_episodes, few_shot


def drop(manifest: Manifest, split: str, share: float, seed: int) -> Manifest:
    """``manifest`` without a random ``share`` (0 to below 1, of all its videos, to the nearest one) of a split."""
    if not 0 <= share < 1:
        raise UserError(f"missing: a share of {share} cannot be taken away; give 0 to below 1")
    rows = manifest.videos(split)
    lost = np.random.default_rng(seed).permutation(len(rows))[: round(share * len(rows))]
    gone = {rows[i].video for i in lost}
    return replace(manifest, rows=tuple(row for row in manifest.rows if row.video not in gone))


def measure(
    p: FewShotParams,
    manifest: Manifest,
    method: nn.Module,
    split: str,
    shares: Sequence[float],
    repeats: int,
    episodes: int,
) -> pd.DataFrame:
    """Test ``method`` on ``repeats`` random remainders of ``split`` for each share; every video is embedded once.

    One row per share and repeat: share, repeat, videos, accuracy and half the 95% interval over ``episodes`` (per
    cent). Share 0 keeps all videos and draws other episodes in each repeat: what changes by chance alone.
    """
    given = p.way, p.shot, p.query
    remainders = [(s, i, *_left(manifest, split, s, i, given)) for s in shares for i in range(repeats)]
    fabric = make_fabric(p.device, p.precision)
    opened = few_shot.open_split(p, manifest, method.backbone, split)
    everything = [_of_all_videos(manifest, split)]
    features = evaluate_episodes.embed_videos(method, opened.clips, everything, opened.text, fabric=fabric)
    place = {row.video: i for i, row in enumerate(manifest.videos(split))}
    tests = []
    for share, repeat, left, sampler in track(remainders, "what is left"):
        rows = [place[row.video] for row in left.videos(split)]
        kept = {role: {name: value[rows] for name, value in part.items()} for role, part in features.items()}
        listed = [sampler[i] for i in range(episodes)]
        result = evaluate_episodes.match_episodes(method, kept, sampler, listed, opened.text, fabric=fabric)
        row: dict[str, Any] = {"share": share, "repeat": repeat, "videos": len(rows)}
        tests.append(row | {"accuracy": 100 * result.accuracy, "interval": 100 * result.interval})
    return pd.DataFrame(tests)


def _left(
    manifest: Manifest, split: str, share: float, repeat: int, given: tuple[int, int, int]
) -> tuple[Manifest, EpisodeSampler]:
    """What is left, and its episodes (way, shot and query ``given``); UserError where a class has not enough."""
    left = drop(manifest, split, share, repeat)
    try:
        if gone := set(manifest.classes(split)) - set(left.classes(split)):
            raise UserError(f"class {min(gone)!r} has no video left")
        return left, EpisodeSampler(left, split, *given, few_shot.EVALUATION_SEED + repeat)
    except UserError as error:
        raise UserError(f"missing: a share of {share} is too large: {error}") from error


def table(tests: pd.DataFrame) -> pd.DataFrame:
    """One row per share: the mean over repeats, their standard deviation, the lowest and highest, the mean half
    interval that a single result would carry, and how many of those intervals hold the mean of the full split."""
    full = tests[tests["share"] == 0]["accuracy"].mean()
    rows = []
    for share, same in tests.groupby("share"):
        accuracy = same["accuracy"]
        row = {"missing": f"{share:.0%}", "videos": int(same["videos"].iloc[0]), "mean (%)": accuracy.mean()}
        row |= {"deviation": accuracy.std(), "lowest": accuracy.min(), "highest": accuracy.max()}
        holds = (accuracy - full).abs() <= same["interval"]
        row |= {"± of one result": same["interval"].mean(), "hold the full mean": f"{holds.sum()} of {len(same)}"}
        rows.append(row)
    return pd.DataFrame(rows).set_index("missing")


def _of_all_videos(manifest: Manifest, split: str) -> Episode:
    """An episode that uses every video in both roles, so that each is embedded."""
    rows, classes = manifest.videos(split), manifest.classes(split)
    number = {cls: i for i, cls in enumerate(classes)}
    every, labels = np.arange(len(rows)), np.array([number[row.cls] for row in rows])
    return Episode(0, classes, np.arange(len(classes)), every, labels, every, labels)
