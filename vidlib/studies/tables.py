"""The tables of a study, of episodes and of labelled videos alike, and what is printed beside them.

``studied`` maps names, methods or steps, to their finished runs, one per seed.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vidlib.basics.errors import UserError
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.data.manifest import Manifest
from vidlib.params.names import label
from vidlib.params.video_text import VIDEO_TEXT_NAMES
from vidlib.results import published, trust
from vidlib.results.accuracy import PERMUTED, SHUFFLED, Evaluation, paired
from vidlib.results.budget import budget
from vidlib.results.intervals import cell, over_seeds, seed_interval

if TYPE_CHECKING:
    from vidlib.results.runs import Run

Studied = Mapping[str, "Sequence[Run]"]
UNTRAINED = ("untrained", "prompted")  # a study's own method before its training
SPLITS = {"test": "classes that were trained", "novel": "new classes"}  # of labelled videos, tested of one run


def seeds(p: Any) -> range:
    """The seeds of a study."""
    return range(p.seed, p.seed + p.seeds)


def published_of(method: str) -> pd.DataFrame:
    """The published figures of a method, of a few-shot method those of episodes; empty where there are none."""
    try:
        figures = published.rows(method=label(method))
    except UserError:
        return published.load().iloc[:0]
    return figures if method in VIDEO_TEXT_NAMES else figures[figures["protocol"].str.fullmatch(r"\d+-way \d+-shot")]


# ---------------------------------------------------------------- what a run was tested on


def of_videos(run: Run) -> bool:
    """Whether a run is one of labelled videos, each a trial; else its trials are episodes."""
    return "protocol" in run.params


def apart(some: Sequence[Run], others: Sequence[Run], what: str = "") -> tuple[float, dict[str, float | None]]:
    """How far ``some`` are above ``others`` on the same trials, pair by pair, and its intervals; fractions. A pair of
    runs that stands for several seeds counts once."""
    pairs = {(a.id, b.id): (a, b) for a, b in zip(some, others, strict=True)}.values()
    return over_seeds([paired(tested(a, what), tested(b, what)).summary() for a, b in pairs])


def tested(run: Run, what: str = "") -> Evaluation:
    """What a run's folder, or a shipped record, keeps of a test: ``what`` as in result.json, by default the split that
    it reports."""
    report = run.params["report"]
    what = what or report
    if hasattr(run, "evaluation"):  # studies.records, which loads torch
        return run.evaluation(what)
    return Evaluation.load(run.path("episodes.npz" if what == report and not of_videos(run) else f"{what}.npz"))


def first(result: Evaluation, count: int) -> Evaluation:
    """``result`` on its first ``count`` episodes."""
    met, answers = result.episode < count, ("truth", "predicted", "episode", "margin", "query")
    own = {name: each[met] for name in answers if (each := getattr(result, name)) is not None}
    own |= {"support": None if result.support is None else result.support[:count]}
    return replace(result, per_trial=result.per_trial[:count], checksum=f"first {count}", **own)


def once(same: Sequence[Run]) -> list[Run]:
    """The runs of a name, one that stands for several seeds once: what trains nothing has no interval over seeds."""
    return list({run.id: run for run in same}.values())


def splits(studied: Studied) -> list[str]:
    """The splits that the runs report: test, and of base_to_novel novel."""
    return [split for split in SPLITS if any(split in run.result for same in studied.values() for run in same)]


def mean_interval(results: Sequence[Mapping[str, Any]], what: str) -> str:
    """``intervals.cell`` of one evaluation, over seeds where there are several."""
    return cell([result[what] for result in results])


# ---------------------------------------------------------------- tables


def _by_split(studied: Studied) -> Iterator[tuple[str, str, list[dict]]]:
    for (name, same), split in itertools.product(studied.items(), splits(studied)):
        if split in same[0].result:
            yield name, split, [run.result for run in once(same)]


def result_table(studied: Studied) -> pd.DataFrame:
    """One row per name, and of labelled videos per split: accuracy with its interval, both controls, what it trains
    and what that took; of videos top-5 and chance besides.

    Every interval is called what it is over; with several seeds accuracies are means over them, and there is one over
    seeds (Student's t) besides.
    """
    rows, index = [], []
    met = "\n".join(key for same in studied.values() for key in same[0].result)
    for name, split, results in _by_split(studied):
        of = named(name, studied[name][0])
        first, row, videos = results[0], {"method": of}, of_videos(studied[name][0])
        if videos:
            row = {"": of, "tested on": SPLITS[split] if "novel" in splits(studied) else split}
        index = list(row)
        row["top-1" if videos else "test accuracy"] = mean_interval(results, split)
        row |= trust.beside(studied, first)
        if videos:
            row["top-5"] = f"{100 * np.mean([result[split]['top5'] for result in results]):.1f}%"
            row["chance"] = f"{100 * first[split]['chance']:.1f}%"
        for control in (control for control in (SHUFFLED, PERMUTED) if control in met):
            key = f"{split}_{control}" if videos else control
            row[control.replace("_", " ")] = mean_interval(results, key) if key in first else "-"
        row |= sizes(first)
        if not videos:
            row["selected at"] = ", ".join(selected_at(result) for result in results)
        row["minutes"] = f"{sum(result['fit']['seconds'] for result in results if result['fit']) / 60:.1f}"
        rows.append(row | {"seeds": len(results)})
    return pd.DataFrame(rows).set_index(index)


def named(name: str, run: Run) -> str:
    """``label`` of the method; where another tower is what is frozen, it is not called CLIP."""
    backbone = run.params["backbone"]
    if name != "frozen_clip" or backbone == "clip-mini":
        return label(name)
    from vidlib.backbones import clip  # loads torch

    return label(name) if backbone in clip.names() else f"frozen {backbone}"


def sizes(result: Mapping[str, Any]) -> dict[str, str]:
    """The table cells of what is trained, and what a clip costs."""
    cost = result["cost"]
    return {"trained (M)": f"{cost['trainable'] / 1e6:.3f}", "GMACs": f"{cost['gmacs']:.2f}"}


def selected_at(result: Mapping[str, Any]) -> str:
    """Which step's weights were selected on val."""
    fit = result["fit"]
    return "untrained" if fit is None else f"step {fit['selected']} of {fit['steps']}"


def weights(result: Mapping[str, Any]) -> str:
    """Which weights were tested, in words."""
    if result["fit"] is None:
        return "untrained"
    return "selected on val" if result["fit"]["val_accuracy"] is not None else "of the last step"


def differences(studied: Studied, of: str) -> pd.DataFrame:
    """``of`` minus every other on the same trials, seed by seed, with its paired intervals (points): half of that over
    trials, and of those over other videos and other classes."""
    rows = []
    for name, split, _ in _by_split(studied):
        for ours, theirs in zip(studied[of], studied[name], strict=True):
            if name == of or split not in ours.result:
                continue
            gap = paired(tested(ours, split), tested(theirs, split))
            row = {f"{named(of, ours)} minus": named(name, theirs)} | ({"tested on": split} if of_videos(ours) else {})
            row |= {"seed": ours.params["seed"], "points": 100 * gap.difference}
            row |= {f"± {kind}": 100 * half for kind, half in gap.intervals.items()}
            rows.append(row | trust.beside(studied, ours.result) | {f"{gap.trial}s": gap.trials})
    return pd.DataFrame(rows).round(1)


def bubble_rows(studied: Studied, split: str = "test") -> pd.DataFrame:
    """Our runs, the untrained ones left out, as ``viz.bubbles`` draws them: per cent, and parameters in millions."""
    rows = []
    for name, same in studied.items():
        results = [run.result for run in once(same) if split in run.result]
        if not results or name in UNTRAINED:
            continue
        accuracy, low, high = bar([result[split] for result in results])
        row = {"name": named(name, same[0]), "trainable_M": results[0]["cost"]["trainable"] / 1e6, "accuracy": accuracy}
        row |= {"low": low, "high": high, "over": over(same), "gmacs": results[0]["cost"]["gmacs"]}
        row["training"] = budget(same[0].params, results[0])
        rows.append(row | {"origin": "ours", "confidence": "measured"})
    return pd.DataFrame(rows)


def bar(records: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Of one evaluation's ``summary`` for each seed the accuracy and the ends of the bar that a figure draws: over
    seeds or, of one, over its trials; per cent."""
    mean, half = seed_interval([record["accuracy"] for record in records], records[0]["interval"])
    ends = (mean - half, mean + half)
    if len(records) == 1:
        ends = tuple(records[0].get(name, end) for name, end in zip(("low", "high"), ends, strict=True))
    return 100 * mean, 100 * ends[0], 100 * ends[1]


def over(same: Sequence[Run]) -> str:
    """What the bar of these runs is over: ``3 seeds``, or of one run ``episodes`` or ``videos``."""
    return f"{len(same)} seeds" if len(same := once(same)) > 1 else "videos" if of_videos(same[0]) else "episodes"


def cost_table(studied: Studied) -> pd.DataFrame:
    """Parameters, GMACs and clips per second in evaluation mode, memory of a training step, of every name."""
    rows = {named(name, same[0]): same[0].result["cost"] for name, same in studied.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table[["total", "trainable"]] /= 1e6
    names = {"total": "all (M)", "trainable": "trained (M)", "gmacs": "GMACs per clip"}
    names |= {"clips_per_second": "clips per second", "training_memory": "training memory (MiB)"}
    return table.rename(columns=names)[list(names.values())]


def drawn(changes: pd.DataFrame, kind: str = "trained") -> pd.DataFrame:
    """A table of changes, its first row what they are set against, as ``viz.ablation.plot`` draws it; ``kind`` of
    change: trained anew, or made at test ("test")."""
    changed = changes.iloc[1:]
    changed = changed[changed["difference"].notna() | changed["accuracy"].isna()]  # the rest is not compared
    rows = pd.DataFrame({"name": changed.index, "delta": changed["difference"].to_numpy(), "kind": kind})
    rows["over"] = changed["over"].replace("", None).to_numpy() if "over" in changed else "episodes"
    rows["low"], rows["high"] = (rows["delta"] + sign * changed["half"].to_numpy() for sign in (-1, 1))
    return rows


# ---------------------------------------------------------------- words


def describe_runs(p: Any, studied: Studied, notebook: str) -> None:
    """Print which runs a table holds, over which seeds, how often each read its splits, and how to repeat them."""
    first = next(iter(studied.values()))[0]
    trial = "video" if of_videos(first) else "episode"
    print(f"Seeds: {', '.join(map(str, seeds(p)))}. Interval: {interval_note(p.seeds, trial)}.")
    for name, same in studied.items():
        run, test = same[0], same[0].result["test"]
        readings = ", ".join(f"{split} {n}" for split, n in sorted(run.readings().items()))
        how = f"evaluated by way of: {test['mode']}; " if "mode" in test else ""
        finished = run.result["finished"][:16]
        print(f"{named(name, run)}: run {run.id}, finished {finished} UTC; {how}times each split was read: {readings}.")
    for line in trust.replaced_lines(studied):
        print(line)
    print(f"Command: {command(notebook, p.changed())}")


def interval_note(number: int, trial: str = "episode") -> str:
    """What the intervals of a table with this number of seeds are."""
    said = "95% over videos (Wilson's); clustered by class, rough where other ones are meant"
    if trial == "episode":
        said = "95% over episodes (of these very videos and classes), over other videos of these classes, over other "
        said += "classes (intervals.ipynb)"
    if number == 1:
        return f"{said}; conditional on one trained model"
    return f"{said}, means of the seeds' own; over {number} seeds (Student's t), each tested on the same {trial}s"


def command(notebook: str, changed: Mapping[str, Any]) -> str:
    """The line that runs a notebook with these parameters."""
    words = {n: json.dumps(value) if isinstance(value, (dict, list)) else str(value) for n, value in changed.items()}
    options = "".join(f" -p {name} {shlex.quote(word)}" for name, word in words.items())
    return f"papermill notebooks/{notebook}.ipynb out.ipynb{options}"


def data_name(manifest: Manifest) -> str:
    """The data set's name, for an embedded world what it is not, and for incomplete data their coverage."""
    if set(worlds := manifest.name.split(" to ")) <= set(WORLDS):
        what = "the embedded world, not a benchmark" if len(worlds) == 1 else "embedded worlds, not benchmarks"
        return f"{manifest.name} ({what} of the field)"
    lacking = trust.incomplete({"coverage": manifest.coverage().table.to_dict("records")})
    return f"{manifest.name} ({lacking})" if lacking else manifest.name
