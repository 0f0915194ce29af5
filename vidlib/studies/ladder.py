"""The fair ladder: every method and floor on equal towers, worlds, training episodes and tries; what is run, and rows.

A column is a tower and whether it is tuned. Each method that trains has the same number of tries in each column, on val
of the world motion: rates, then scales of its logits at the best rate; the best serves all its worlds. Runs are
trained at one shot and tested at one and five.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.params.by_recipe import ORDERED, by_recipe
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.results.intervals import over_seeds
from vidlib.studies import records, tables

WORLDS = ("motion", "words", "scene")
TRAINED = ("ma_fsar", "sloshnet", "gghm", "clip_fsar", "aim", "trx", "strm", "hyrsm", "molo", ORDERED)
READERS = (ORDERED, "clip_fsar", "hyrsm", "trx")  # of stored features: their runs take a minute, others some five
METRICS = ("otam", "bimhm", "protonet")  # nothing is trained on a frozen tower
FLOORS = ("zero_shot_clip", "frozen_clip", "with_text", "simple_shot", "logistic_regression", "tip_adapter")
FROZEN, TUNED, RESNET = "clip-mini frozen", "clip-mini tuned", "resnet-mini tuned"
COLUMNS = {FROZEN: "clip-mini", RESNET: "resnet-mini", TUNED: "clip-mini"}
RATES = {FROZEN: (3e-4, 1e-3, 3e-3), RESNET: (1e-4, 3e-4, 1e-3), TUNED: (1e-4, 3e-4, 1e-3)}
SCALES = (1 / 3, 3.0)  # beside 1, of the recipe's own scale, or of the one in BEGAN
# Where the search began, for methods whose recipes take what it finds: its own runs must not move with them.
BEGAN = {"otam": 1.0, "bimhm": 3.0, "protonet": 0.2, "sloshnet": 0.2, "gghm": 0.5, "trx": 0.3, "strm": 0.5, "molo": 8.0}
SHOTS = {"test": "1-shot", "test_5shot": "5-shot"}  # of a result, the tests at each number of shots
EPISODES, TRY_EPISODES = 600, 300  # with half of it no method that adapts a tower leaves chance, so tries say nothing
SEEDS = 3
OVER = {"seeds": "", "videos": " (videos)"}  # what a half is over, where it is not over seeds
EDGES = {"smallest": min, "largest": max}
NEAR = 0.04  # above chance: less than twice what 1,000 episodes of other videos would move


@functools.cache
def settings(method: str, column: str) -> dict[str, Any] | None:
    """Tower and constructor arguments of ``method`` in ``column``; None where it has no place there."""
    tower = {"backbone": COLUMNS[column], "pretrained": COLUMNS[column]}
    params = by_recipe(method, {"dataset": "motion", "shot": 1, **tower})
    known = methods.taken(method, finetune="full")
    if column == FROZEN:
        adapts = method == "ma_fsar" or not known  # small modules in a tower that stays as it is
        tuning = {} if adapts else {"finetune": "frozen"}
    elif known:
        tuning = {"finetune": "full"}
    elif column == RESNET and method in (*FLOORS, ORDERED):  # what they stand on there, too
        tuning = {}
    else:
        return None
    own = tower | {"options": params.options | tuning}
    try:
        methods.check(params.model_copy(update=own))
    except UserError:
        return None
    return own


def run_params(method: str, column: str, world: str, **changes: Any) -> RunParams | None:
    """A run of the ladder; None where the method has no place in the column."""
    if (own := settings(method, column)) is None:
        return None
    size = {"train_episodes": EPISODES, "val_episodes": 200, "val_every": EPISODES // 2, "test_episodes": 10_000}
    scale = {"metric_scale": BEGAN[method]} if method in BEGAN else {}
    given = {"dataset": world, "shot": 1, "way": 5, "query": 1, "also_shots": [5], **own, **size, **scale, **changes}
    return by_recipe(method, given)


def tries(method: str, column: str) -> Iterator[list[RunParams]]:
    """The tries of a method in a column, in two rounds: rates, then scales, once the rates have their runs."""
    small = {"train_episodes": TRY_EPISODES, "val_episodes": 0, "val_every": 1, "report": "val", "also_shots": []}
    small |= {"test_episodes": 1000, "seed": 0}
    first = run_params(method, column, "motion", **small)
    if first is None:
        return
    rates = [first.model_copy(update={"lr": lr}) for lr in RATES[column]]
    yield rates
    leading = _best(rates)
    yield [leading.model_copy(update={"metric_scale": first.metric_scale * by}) for by in SCALES]


def best(method: str, column: str) -> RunParams:
    """The best try of a method in a column; UserError where a try has no run."""
    return _best([params for each in tries(method, column) for params in each])


def _best(tried: list[RunParams]) -> RunParams:
    """The one with the highest accuracy on val; UserError where one has no run."""
    found = [(run.result["val"]["accuracy"], -i) for i, run in enumerate(map(had, tried))]
    return tried[-max(found)[1]]


def had(params: RunParams) -> records.Record:
    """The record of a run; a UserError where there is none."""
    if (run := records.find(params)) is None:
        raise UserError(f"{params.method} has no run on {params.dataset} yet: make evidence does it")
    return run


def chains(column: str) -> list[Iterator[list[RunParams]]]:
    """The chain of each method and floor that has a place in a column."""
    return [chain(method, column) for method in (*FLOORS, *METRICS, *TRAINED) if has(method, column)]


def chain(method: str, column: str) -> Iterator[list[RunParams]]:
    """All runs of a method in a column in rounds, each to be asked for when those before have their runs."""
    if not untrained(method, column):
        yield from tries(method, column)
    yield rows(method, column)


def untrained(method: str, column: str) -> bool:
    """Whether nothing is trained there, so that there is nothing to try and one run does."""
    return method in FLOORS or column == FROZEN and method in METRICS


def rows(method: str, column: str) -> list[RunParams]:
    """The runs of a row: each world and seed, with the rate and scale of the best try."""
    if untrained(method, column):
        return [params for world in worlds(column) if (params := _untrained(method, column, world))]
    if settings(method, column) is None:
        return []
    tried = best(method, column)
    chosen = {"lr": tried.lr, "metric_scale": tried.metric_scale}
    places = [(world, seed) for world in worlds(column) for seed in seeds(tried, column, world)]
    return [run_params(method, column, world, seed=seed, **chosen) for world, seed in places]


def ablated(method: str, column: str, ablation: str) -> list[RunParams]:
    """The runs of a row with one thing changed, at the rate and scale of the method as it is."""
    return [params.model_copy(update={"ablation": ablation}) for params in rows(method, column)]


def worlds(column: str) -> tuple[str, ...]:
    """The worlds of a column: one where every video goes through a tower that is trained."""
    return WORLDS if column == FROZEN else WORLDS[:1]


def seeds(tried: RunParams, column: str, world: str) -> range:
    """The seeds of a row, with its best try. One does on scene, where all stand near the top, if videos go through a
    tower; and on a tuned CLIP, where training takes longest, of a method that was at chance in every try."""
    few = world == "scene" and tried.method not in READERS or column == TUNED and blind(tried)
    return range(1 if few else SEEDS)


def blind(tried: RunParams) -> bool:
    """Whether a best try was less than ``NEAR`` above chance, so that the search told nothing."""
    return had(tried).result["val"]["accuracy"] < 1 / tried.way + NEAR


def has(method: str, column: str) -> bool:
    """Whether a method has a place in a column."""
    if method == "with_text" and column == RESNET:  # its tower reads no texts
        return False
    one = _untrained if untrained(method, column) else run_params
    return one(method, column, "motion") is not None


def _untrained(method: str, column: str, world: str) -> RunParams | None:
    change = {"ablation": method} if method == "with_text" else {}
    return run_params("frozen_clip" if change else method, column, world, train_episodes=0, val_episodes=0, **change)


# ---------------------------------------------------------------- what came out


def studied(column: str, world: str) -> dict[str, list[runs.Run]]:
    """The records of a column on a world, by method, one for each seed; what has none is left out."""
    done = {}
    for method in (*TRAINED, *METRICS, *FLOORS):
        with contextlib.suppress(UserError):
            if has(method, column):
                done[method] = [had(params) for params in rows(method, column) if params.dataset == world]
    return {method: same for method, same in done.items() if same}


def missing(column: str, world: str) -> list[str]:
    """The methods of a column that have no record on a world, or not of every seed."""
    wanted = [method for method in (*TRAINED, *METRICS, *FLOORS) if has(method, column)]
    return [tables.label(method) for method in wanted if method not in studied(column, world)]


def results(world: str, test: str = "test") -> pd.DataFrame:
    """One row per column and method on a world: accuracy and half its interval (per cent; ``over`` seeds, or over the
    videos asked where one run is all), trained parameters (M), seconds of a training, rate, scale, seeds."""
    rows = []
    for column in COLUMNS:
        for method, same in studied(column, world).items():
            each = [run.result for run in same]
            mean, halves = over_seeds([result[test] for result in each])
            over = "seeds" if "seeds" in halves else "videos"
            name = tables.named(method, same[0])
            row = {"column": column, "method": method, "name": name, "floor": untrained(method, column)}
            row |= {"accuracy": 100 * mean, "half": 100 * halves[over], "over": over, "seeds": len(same)}
            row["trained (M)"] = each[0]["cost"]["trainable"] / 1e6
            row["seconds"] = float(np.mean([(result["fit"] or {"seconds": 0.0})["seconds"] for result in each]))
            trained = each[0]["fit"] is not None
            row |= {name: same[0].params[name] if trained else np.nan for name in ("lr", "metric_scale")}
            rows.append(row)
    return pd.DataFrame(rows)


def table() -> pd.DataFrame:
    """One row per column and method: accuracy on each world at one and five shots, what is trained, rate and scale."""
    parts = []
    for world in WORLDS:
        for test, shots in SHOTS.items():
            if len(found := results(world, test)):
                mark = found["over"].map(OVER)
                cell = found["accuracy"].map("{:.1f}".format) + found["half"].map(" ± {:.1f}".format) + mark
                parts.append(cell.set_axis(_index(found)).rename(f"{world} {shots}"))
    if not parts:
        return pd.DataFrame()
    first = results(WORLDS[0])
    facts = first[["trained (M)", "lr", "metric_scale", "seconds", "seeds"]].set_axis(_index(first))
    return pd.concat([*parts, facts], axis=1)


def place(method: str, *columns: str) -> str:
    """In lines, where a method stands in columns, by world and shots, and the best of the others."""
    lines = []
    for column, world, (test, shots) in itertools.product(columns, WORLDS, SHOTS.items()):
        ranked = results(world, test)
        ranked = ranked[ranked["column"] == column].sort_values("accuracy", ascending=False) if len(ranked) else ranked
        if method not in set(ranked.get("method", ())):
            continue
        own, other = ranked[ranked["method"] == method].iloc[0], ranked[ranked["method"] != method].iloc[0]
        rank = 1 + int((ranked["accuracy"] > own["accuracy"]).sum())
        said = [f"{row['name']} {row['accuracy']:.1f} ± {row['half']:.1f}{OVER[row['over']]}" for row in (own, other)]
        where = f"{world}, {column}, {shots}"
        lines.append(f"on record, {where}: {said[0]}, {rank} of {len(ranked)}; the best of the others: {said[1]}")
    return "\n".join(lines) or f"on record, {', '.join(columns)}: nothing of {tables.label(method)} yet"


def searched() -> str:
    """In lines, what the tries of each column leave open: for whom an end of what was tried was the best, so that
    what lies beyond might be better, and of whom no try was ``NEAR`` above chance, so that the search told nothing."""
    lines = []
    for column, rates in RATES.items():
        ends: dict[str, list[str]] = {f"{end} {what}": [] for what in ("rate", "scale") for end in EDGES}
        at_chance = []
        for method in (*TRAINED, *METRICS):
            with contextlib.suppress(UserError):
                if not has(method, column) or untrained(method, column):
                    continue
                chosen, name = best(method, column), tables.label(method)
                if searched_blindly(method, column):
                    at_chance.append(name)
                    continue
                scales = {params.metric_scale for each in tries(method, column) for params in each}
                for what, value, tried in (("rate", chosen.lr, rates), ("scale", chosen.metric_scale, scales)):
                    for end, of in EDGES.items():
                        if value == of(tried) and (what == "rate" or methods.taken(method, metric_scale=value)):
                            ends[f"{end} {what}"].append(name)
        for end, named in ends.items():
            lines += [f"{column}: the {end} tried was the best for {', '.join(named)}."] if named else []
        if at_chance:
            words = f"no try was {100 * NEAR:.0f} points above chance after {TRY_EPISODES} episodes"
            lines.append(f"{column}: of {', '.join(at_chance)} {words}: rate and scale were chosen blindly.")
    return "\n".join(lines)


FORMAT = {"trained (M)": "{:.3f}", "lr": "{:.1e}", "metric_scale": "{:.3g}", "seconds": "{:.0f}", "seeds": "{:.0f}"}


def summary() -> str:
    """How many records the ladder has, what is missing, and which code made them."""
    places = [(column, world) for column in COLUMNS for world in worlds(column)]
    every = [run for place in places for same in studied(*place).values() for run in same]
    lines = [f"{len(every)} records."]
    nothing = [" on ".join(place) for place in places if not studied(*place)]
    lines += [f"Nothing yet: {', '.join(nothing)}."] if nothing else []
    for place in places:
        if studied(*place) and (lacking := missing(*place)):
            lines.append(f"Not yet, {' on '.join(place)}: {', '.join(lacking)}.")
    earlier = [changed for run in every if (changed := records.changed(run))]
    files = ", ".join(sorted({name for changed in earlier for name in changed.split(", ")}))
    said = f"{len(earlier)} were made by earlier code: since then some or all of {files} changed"
    lines += [f"{said}; CHANGELOG.md says what moves results."] if earlier else []
    return "\n".join(lines)


def _index(found: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(found[["column", "name"]], names=["tower", "method"])


def gap(method: str, other: str, column: str, world: str, test: str = "test") -> tuple[float, float]:
    """How many points ``method`` is above ``other`` on the same episodes, and half the 95% interval over seeds; a
    UserError where one of them has no record."""
    done = studied(column, world)
    if lacking := [name for name in (method, other) if name not in done]:
        raise UserError(f"{', '.join(map(tables.label, lacking))} has no record on {world}: make evidence does it")
    ours, theirs = done[method], done[other]
    if untrained(method, column):  # one run is all that there can be
        ours = ours * len(theirs)
    if untrained(other, column):
        theirs = theirs * len(ours)
    return apart(ours, theirs, test)


def trained_once(method: str, column: str, world: str) -> bool:
    """Whether a method has one training there alone, so that it says nothing of another."""
    same = studied(column, world).get(method, [])
    return len(same) == 1 and not untrained(method, column)


def searched_blindly(method: str, column: str) -> bool:
    """Whether rate and scale of a method in a column were chosen where no try had left chance."""
    return has(method, column) and not untrained(method, column) and blind(best(method, column))


def apart(some: list[runs.Run], others: list[runs.Run], test: str = "test") -> tuple[float, float]:
    """How many points ``some`` are above ``others`` on the same episodes, seed by seed where both have it, and half the
    95% interval, as ``results`` has it: over seeds or, of one, over videos."""
    seeds = min(len(some), len(others))
    return points(*tables.apart(some[:seeds], others[:seeds], test))


def points(mean: float, halves: Mapping[str, float | None]) -> tuple[float, float]:
    """A difference and half its interval, over seeds or, of one, over videos, in points."""
    return 100 * mean, 100 * (halves.get("seeds") or halves["videos"])
