"""What the claims of actionclip.ipynb and m2clip.ipynb measure alike; what is claimed of it stands in the notebooks."""

from collections.abc import Sequence

import pandas as pd
import torch

from vidlib.layers.gathering import processes
from vidlib.results import runs
from vidlib.results.accuracy import Paired, paired
from vidlib.studies.tables import Studied, splits, tested
from vidlib.training import video_text


def lists_met(found: Studied) -> dict[str, set[str]]:
    """Split -> checksums of the videos and classes on which the runs were tested: one where all met the same."""
    return {
        split: {run.result[split]["checksum"] for same in found.values() for run in same if split in run.result}
        for split in splits(found)
    }


@torch.no_grad()
def moved_by_others(run: runs.Run) -> float:
    """How far a val video's features are from themselves beside three others, in parts of the largest feature."""
    assert processes() == 1, "the clips of other processes are gathered in training alone"
    params, opened = video_text.open_trained(run)
    clips = video_text.open_views(params, opened.method, opened.manifest, "val")[0]
    batch = torch.stack([clips.test(row) for row in range(min(4, len(clips)))])
    together, one = opened.method.encode_video(batch), opened.method.encode_video(batch[:1])
    return float((together[:1] - one).abs().max() / one.abs().max())


def text_worth(same: Sequence[runs.Run]) -> pd.DataFrame:
    """A row for each seed: top-1 on new classes with half its interval, chance, and what it is above the same run with
    class texts permuted, paired, with half its interval; fractions."""
    rows = {}
    for run in same:
        new = "novel" if "novel" in run.result else "test"
        ours = tested(run, new)
        more = paired(ours, tested(run, f"{new}_texts_permuted"))
        row = {"accuracy": ours.accuracy, "interval": ours.interval, "chance": ours.chance}
        rows[run.params["seed"]] = row | {"above permuted": more.difference, "its interval": more.interval}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def gained(after: Sequence[runs.Run], before: Sequence[runs.Run]) -> pd.DataFrame:
    """A row for each seed: top-1 on trained classes with half its interval, trained and untrained; fractions."""
    rows = {}
    for trained, untrained in zip(after, before, strict=True):
        a, b = tested(trained), tested(untrained)
        row = {"trained": a.accuracy, "interval": a.interval, "untrained": b.accuracy, "its interval": b.interval}
        rows[trained.params["seed"]] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def gap(a: runs.Run, b: runs.Run) -> Paired:
    """``a`` minus ``b`` on the same test videos."""
    return paired(tested(a), tested(b))
