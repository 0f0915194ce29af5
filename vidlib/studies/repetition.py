"""Whether a run repeats a published cell, what keeps it from that, and how it differs from the cell's recipe.

A repetition has the paper's backbone, weights, frames, metric, way, shot and views, at least 95% of the data set's
videos, the number of test episodes, and trains as long as the recipe or longer; how its recipe differs otherwise is
listed beside it. Any other run is a partial one: shown beside the figure, never as higher or lower.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vidlib.params import open_choices
from vidlib.params.base import Params, plain_options

EPISODES = 10_000  # of every published few-shot test
COVERED = 0.95  # of the videos of the data set, and of its test split
LENGTHS = ("train_episodes", "epochs")
NO_RECIPE = frozenset({"method", "dataset", "test_dataset", "seed", "report", "ablation", "test_episodes", "init"})
NO_RECIPE |= {"remove_overlap"}


def apart(row: Mapping[str, Any], wanted: Mapping[str, Any], recipe: Params | None) -> list[str]:
    """What keeps a run (a row of ``runs.load_all``) from being the cell that ``recipe`` is of; none: it repeats it.

    ``wanted``: what the cell itself was measured with, by parameter, or by constructor argument among the options.
    """
    defaults = {
        argument: each.value if each.entered else each.here for argument, each in open_choices.of(row["method"]).items()
    }
    given = defaults | _options(row) | {name: value for name, value in row.items() if known(value)}
    said = [
        f"{name} {_shown(given.get(name))} instead of {_shown(value)}"
        for name, value in wanted.items()
        if given.get(name) != value
    ]
    episodes = row.get("result.test.episodes")
    if "train_episodes" in row and known(row["train_episodes"]) and episodes != EPISODES:
        said.append(f"{_shown(episodes)} test episodes instead of {EPISODES:,}")
    if "way" in row and known(init := row.get("init")) and init:
        said.append("starts from another run (init)")
    said += covered(row.get("result.coverage"))
    if recipe is None:
        return [*said, "no recipe of this cell is at hand"]
    for name in (name for name in LENGTHS if name in type(recipe).model_fields):
        here, there = row.get(name, 0), getattr(recipe, name)
        if not here >= there:
            said.append(f"{name} {_shown(here)} instead of {_shown(there)}")
    return said


def covered(lines: Any) -> list[str]:
    """What is missing of a run's videos, where it is more than 5% of the data set or of its test split."""
    lines = [line for line in lines if line["listed"]] if isinstance(lines, list) else []
    parts = {"test videos": [line for line in lines if line["split"] == "test"], "videos": lines}
    said = []
    for what, of in parts.items():
        used = sum(min(line["present"], line.get("used", line["present"])) for line in of)
        listed = sum(line["listed"] for line in of)
        if not listed or used < COVERED * listed:
            said.append(f"{used:,} of {listed:,} {what}" if listed else f"unknown how many {what} it had")
    return said[:1]


def differences(row: Mapping[str, Any], wanted: Mapping[str, Any], recipe: Params) -> list[str]:
    """How a run's parameters are other than the recipe's; what its record does not hold is left out."""
    said = []
    for name in sorted(type(recipe).model_fields.keys() - recipe.PLACE - NO_RECIPE - wanted.keys() - {"options"}):
        here, there = row.get(name), getattr(recipe, name)
        if name == "precision" and there == "auto" or not known(here):
            continue
        if _plain(here) != _plain(there):
            said.append(f"{name} {_shown(here)} (recipe: {_shown(there)})")
    here, there = _options(row), plain_options(recipe.options)
    for name in sorted((here.keys() | there.keys()) - wanted.keys()):
        if _plain(here.get(name)) != _plain(there.get(name)):
            values = (_shown(of[name]) if name in of else "its default" for of in (here, there))
            said.append("{} {} (recipe: {})".format(name, *values))
    return said


def known(value: Any) -> bool:
    """Whether a record holds a value: a column that others have is NaN where it does not."""
    return value is not None and not (isinstance(value, float) and pd.isna(value))


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    return plain_options(row["options"]) if known(row.get("options")) else {}


def _plain(value: Any) -> Any:
    """Equal where JSON is: tuples are lists, 8.0 is 8."""
    return json.loads(json.dumps(value, default=str))


def _shown(value: Any) -> str:
    if not known(value) or value == "":
        return "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
