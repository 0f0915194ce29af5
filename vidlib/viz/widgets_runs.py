"""Views of runs: filter them, compare their curves, open their parameters; a bubble plot that names its runs."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.results import runs
from vidlib.viz import bubbles, curves
from vidlib.viz.widgets import Control, View

SHOWN = ("method", "dataset", "way", "shot", "frames", "seed", "ablation")  # what a run's line in a list says
MOST = 6  # runs that are compared at first


def browser(root: str | Path | None = None, *, where: str = "") -> View:
    """The run browser over a runs folder: controls ``where`` (a filter) and ``chosen`` (runs, by their line).

    ``where`` is as in "method=ma_fsar shot=1": every named parameter must have that value; a word without = must stand
    in the run's line. Under the curves: the chosen runs' parameters, those that differ between them first.
    """
    table = every(root)
    metrics = functools.lru_cache(256)(lambda folder: _run(folder).metrics())

    def options(where: str, chosen: tuple) -> dict[str, Sequence[str]]:
        lines = list(matching(table, where)["line"])
        if not lines:
            raise UserError(f"where: no run of {len(table)} matches {where!r}; an empty line shows all")
        return {"chosen": lines}

    def picked(chosen: Sequence[str]) -> pd.DataFrame:
        rows = table[table["line"].isin(chosen)]
        if not len(rows):
            raise UserError("chosen: no run is chosen; choose one or more in the list")
        return rows

    def draw(where: str, chosen: tuple) -> Figure:
        rows = picked(chosen)
        steps = {row.line: metrics(row.folder) for row in rows.itertuples()}
        steps = {line: own for line, own in steps.items() if {"episode", "loss", "accuracy"} <= set(own)}
        columns = ["name", "accuracy", "low", "high", "over", "split"]
        return curves.compare(steps, rows.rename(columns={"line": "name"})[columns])

    def beside(where: str, chosen: tuple) -> pd.DataFrame:
        return parameters(picked(chosen))

    lines = list(matching(table, where)["line"])
    first = tuple(comparable(matching(table, where))["line"].head(MOST)) or tuple(lines[:1])
    controls = {
        "where": Control(value=where, label="filter"),
        "chosen": Control(lines, first, label="runs", several=True),
    }
    return View(draw, controls, beside, options)


def every(root: str | Path | None = None) -> pd.DataFrame:
    """Every finished run: its parameters, and line (its name in lists), accuracy, low, high (per cent) on ``split``,
    test or val, trainable_M, gmacs. Runs without an accuracy there are left out; ``UserError`` where there is none."""
    table = runs.load_all(root)
    shown = Path(root or runs.paths.runs_dir())
    if not len(table):
        raise UserError(f"no finished run lies in {shown}; run a notebook first, or give its folder of run records")
    tested = _column(table, "result.test.accuracy")
    score = tested.fillna(_column(table, "result.val.accuracy"))
    half = _column(table, "result.test.interval").fillna(_column(table, "result.val.interval"))
    low, high = (_column(table, f"result.test.{end}") for end in ("low", "high"))
    low, high = low.fillna(score - half), high.fillna(score + half)
    table = table.assign(
        accuracy=100 * score, low=100 * low, high=100 * high, split=np.where(tested.notna(), "test", "val")
    )
    table["over"] = np.where(table["protocol"].notna(), "videos", "episodes") if "protocol" in table else "episodes"
    table["trainable_M"], table["gmacs"] = (
        _column(table, "result.cost.trainable") / 1e6,
        _column(table, "result.cost.gmacs"),
    )
    table = table[table["accuracy"].notna()].reset_index(drop=True)
    if not len(table):
        raise UserError(f"no run in {shown} has an accuracy; finish one first")
    return table.assign(line=[_line(row) for _, row in table.iterrows()])


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(table[name]) if name in table else pd.Series(np.nan, table.index)


def _line(row: pd.Series) -> str:
    said = {name: row[name] for name in SHOWN if name in row and pd.notna(row[name]) and row[name] != ""}
    words = [str(said.pop(name)) for name in ("method", "dataset") if name in said]
    words += ["on val"] if row["split"] == "val" else []
    return ", ".join([*words, *(f"{name} {_whole(value)}" for name, value in said.items()), str(row["id"])[-6:]])


def _whole(value: object) -> object:
    """A table with gaps holds whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """The newest run and those that met the same episodes as it (data, shape, number), the newest first."""
    if "result.finished" in table:
        table = table.sort_values("result.finished", ascending=False, kind="stable")
    for name in ("split", "dataset", "test_dataset", "way", "shot", "query", "test_episodes"):
        if name in table and len(table):
            table = table[table[name].map(str) == str(table[name].iloc[0])]
    return table


def matching(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The runs that ``where`` leaves; a parameter that no run has is a ``UserError``."""
    for word in where.replace(",", " ").split():
        name, equals, value = word.partition("=")
        if not equals:
            table = table[table["line"].str.contains(word, case=False, regex=False)]
            continue
        if name not in table:
            known = [column for column in table if "." not in column]
            raise UserError(
                f"where: no run has a parameter '{name}'{closest(name, known)}; write name=value, or a word"
            )
        table = table[[str(_whole(own)) == value for own in table[name]]]
    return table


def parameters(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per parameter, a column per run; those that differ come first, marked in the column "differs"."""
    own = [name for name in rows if "." not in name and name not in ("line", "low", "high", "over", "folder")]
    beside = rows.set_index("line")[own].T
    beside = beside.map(lambda value: value if isinstance(value, (list, dict)) else _whole(value)).astype(object)
    differs = [len({str(value) for value in line}) > 1 for line in beside.to_numpy()]
    beside = beside.rename_axis(columns=None)
    beside.insert(0, "differs", ["yes" if one else "" for one in differs])
    return beside.iloc[np.argsort([not one for one in differs], kind="stable")].rename_axis("parameter")


def _run(folder: str) -> runs.Run:
    return runs.Run(Path(folder), Path(folder), "finished", None)


def bubble_view(rows: pd.DataFrame, *, title: str = "") -> View:
    """A bubble plot with a list of its runs: the chosen one is ringed, and what is known of it stands under the plot.

    ``rows`` as ``bubbles.plot`` wants them, of one origin; further columns (such as id, folder) are shown with the run.
    """
    if not len(rows) or "name" not in rows:
        raise UserError("rows: a bubble view needs at least one row with a name")
    names = list(rows["name"])

    axes = bubbles.plot(rows, title=title)

    def draw(run: str) -> Figure:  # the labels' places are found once
        return bubbles.ring(axes, run).figure

    def beside(run: str) -> pd.DataFrame:
        return rows[rows["name"] == run].T.dropna().set_axis([run], axis=1) if names.count(run) == 1 else rows

    return View(draw, {"run": Control(names)}, beside)


def bubble_rows(table: pd.DataFrame) -> pd.DataFrame:
    """``every``'s runs as ``bubble_view`` draws them, one bubble each, named by their line."""
    kept = ["line", "trainable_M", "accuracy", "low", "high", "over", "gmacs", "id", "folder"]
    names = [", ".join(line.split(", ")[:1] + line.split(", ")[-2:]) for line in table["line"]]
    return table[kept].assign(name=names, origin="ours", confidence="measured").drop(columns="line")
