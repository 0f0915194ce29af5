"""The papers' own figures, each with its source and how far it can be trusted.

The rows lie in ``published.yaml`` beside this file. A figure that nobody checked is never printed bare: ``mark`` adds
what its confidence is, and ``table`` and ``comparison`` only hand out marked figures or the confidence beside them.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vidlib.basics.errors import UserError
from vidlib.basics.words import nearest

COLUMNS = (
    "paper",
    "method",
    "backbone",
    "pretraining",
    "frames",
    "dataset",
    "split",
    "protocol",
    "metric",
    "value",
    "trainable_params_M",
    "gflops",
    "videos_per_s",
    "views",
    "source",
    "confidence",
)
OWN = ("trainable_params_M", "gflops", "videos_per_s", "views")  # numbers with a source and a confidence of their own
NUMBERS = ("frames", "value", *OWN)
REQUIRED = ("paper", "method", "dataset", "protocol", "metric", "value", "source", "confidence")
ITS = tuple(f"{name}_{what}" for name in OWN for what in ("source", "confidence"))
MARKS = {  # from the least to the most trusted
    "recalled": "[recalled, unchecked]",
    "seed": "[from a summary, unchecked]",
    "secondary": "[quoted by others]",
    "verified": "",
}
# Words by which the rows name somebody else's run of a method.
RERUN = "user re|user run|user log|reproduction|replication|retrain|re-run|ported|as run by later"


@functools.cache
def _read() -> pd.DataFrame:
    rows = yaml.load(
        Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    for number, row in enumerate(rows, 1):
        unknown = set(row) - set(COLUMNS)
        absent = [key for key in REQUIRED if row.get(key) is None]
        if unknown or absent or row["confidence"] not in MARKS:
            raise UserError(
                f"published.yaml: row {number} needs {', '.join(REQUIRED)}, a confidence out of "
                f"{', '.join(MARKS)} and no other keys than {', '.join(COLUMNS)}; it is {row}"
            )
    table = pd.DataFrame([_each(row, number) for number, row in enumerate(rows, 1)], columns=[*COLUMNS, *ITS])
    table[list(NUMBERS)] = table[list(NUMBERS)].astype(float)
    for column in ("confidence", *(f"{name}_confidence" for name in OWN)):
        table[column] = pd.Categorical(table[column], categories=list(MARKS), ordered=True)
    return table


def _each(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A row with the source and confidence of each number, the row's own where it has none; GMACs per view."""
    row = dict(row)
    for name in OWN:
        figure = row.get(name) if isinstance(row.get(name), dict) else {"value": row.get(name)}
        told = {"source": row["source"], "confidence": row["confidence"]} | figure
        views = told.pop("views", 1)
        if set(told) != {"value", "source", "confidence"} or told["confidence"] not in MARKS or not views > 0:
            raise UserError(
                f"published.yaml: row {number}: {name} is a number, or value with source, confidence out of "
                f"{', '.join(MARKS)} and of gflops views; it is {row[name]}"
            )
        row[name] = None if told["value"] is None else told["value"] / views
        row |= {f"{name}_source": told["source"], f"{name}_confidence": told["confidence"]}
    return row


def load() -> pd.DataFrame:
    """All figures, one row each, with the columns of ``COLUMNS``, then of ``ITS``.

    ``value`` is in per cent, ``trainable_params_M`` in millions, ``gflops`` as printed (mostly multiply-adds) for one
    clip and view, ``views`` clips times crops, NaN where the source does not say. ``confidence`` is an ordered category
    from ``recalled`` to ``verified``; with ``source`` it is of ``value``, and ``gflops_confidence`` of ``gflops``.
    """
    return _read().copy()


def rows(
    method: str | None = None,
    dataset: str | Iterable[str] | None = None,
    protocol: str | Iterable[str] | None = None,
    metric: str | None = None,
) -> pd.DataFrame:
    """The figures of a method (part of its own or its paper's name, any case), data set, protocol and metric.

    Raises ``UserError`` for a name that no row has; an empty table means that the combination was not published.
    """
    table = load()
    keep = pd.Series(True, index=table.index)
    if method is not None:
        named = table["method"].str.contains(method, case=False, regex=False)
        named |= table["paper"].str.contains(method, case=False, regex=False)
        if not named.any():
            _unknown("method", method, table["method"])
        keep &= named
    for column, wanted in (("dataset", dataset), ("protocol", protocol), ("metric", metric)):
        if wanted is None:
            continue
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in names:
            if name not in set(table[column]):
                _unknown(column, name, table[column])
        keep &= table[column].isin(names)
    return table[keep].reset_index(drop=True)


def _unknown(column: str, name: str, known: pd.Series) -> None:
    names = sorted(set(known))
    close = nearest(name, names, 3, 0.4) or names
    raise UserError(f"{column}: no published figure has {name!r}; known and near: {', '.join(close)}")


def mark(value: float, confidence: str, digits: int = 1) -> str:
    """A figure as it may be printed: ``59.1 [recalled, unchecked]``, ``88.9`` if verified, or ``not published``."""
    if confidence not in MARKS:
        raise UserError(f"confidence: {confidence!r} is none of {', '.join(MARKS)}")
    if value is None or np.isnan(value):
        return "not published"
    return f"{value:.{digits}f} {MARKS[confidence]}".rstrip()


def table(figures: pd.DataFrame) -> pd.DataFrame:
    """``rows`` made ready to print: every figure and parameter count carries its own mark, its source stands beside."""

    def marked(column: str, confidence: str, digits: int) -> list[str]:
        return [mark(value, how, digits) for value, how in zip(figures[column], figures[confidence], strict=True)]

    count, own = figures["trainable_params_M"], figures["trainable_params_M_source"]

    found = pd.DataFrame(
        {
            "method": figures["method"],
            "backbone": figures["backbone"],
            "frames": figures["frames"].map("{:.0f}".format, na_action="ignore").fillna(""),
            "dataset": figures["dataset"],
            "protocol": figures["protocol"],
            "metric": figures["metric"],
            "figure (%)": marked("value", "confidence", 1),
            "trainable (M)": marked("trainable_params_M", "trainable_params_M_confidence", 2),
            "source": figures["source"],
            "source of the count": own.where(count.notna() & (own != figures["source"]), ""),
        }
    )
    if not found["source of the count"].any():
        found = found.drop(columns="source of the count")
    return found.drop(columns=[name for name in ("frames", "metric") if found[name].nunique() < 2])


def costs(dataset: str = "Kinetics-400") -> pd.DataFrame:
    """Published backbones, frames, views, top-1 and top-5, GMACs of one view, trained parameters and videos per second,
    ready to print: one row per configuration of ``dataset`` with a published cost, every number marked with its own
    confidence."""
    figures = load()
    figures = figures[(figures["dataset"] == dataset) & figures["metric"].isin(["top1", "top5"])]
    figures = figures[figures[["gflops", "videos_per_s"]].notna().any(axis=1)]
    names = {"trainable_params_M": "trainable (M)", "gflops": "GMACs per view", "videos_per_s": "videos per second"}
    rows = []
    for key, same in figures.groupby(["method", "backbone", "frames", "protocol"], sort=False, dropna=False):
        row = dict(zip(("method", "backbone", "frames", "protocol"), key, strict=True))
        row["frames"] = "" if row["frames"] != row["frames"] else f"{row['frames']:.0f}"
        for metric, name in (("top1", "top-1 (%)"), ("top5", "top-5 (%)")):
            found = same[same["metric"] == metric]
            row[name] = mark(found["value"].iloc[0], found["confidence"].iloc[0]) if len(found) else "not published"
        first = same.iloc[0]
        row["views"] = mark(first["views"], first["views_confidence"], 0)
        row |= {name: mark(first[column], first[f"{column}_confidence"]) for column, name in names.items()}
        said = [first["source"], *(first[f"{c}_source"] for c in ("views", *names) if first[c] == first[c])]
        rows.append(row | {"source": "; ".join(dict.fromkeys(said))})
    return pd.DataFrame(rows)


def comparison(dataset: str = "SSv2-Small", protocol: str = "5-way 1-shot", reruns: bool = False) -> pd.DataFrame:
    """The rows of one data set and protocol as ``bubbles`` (default: MA-FSAR's Figure 1c).

    ``reruns`` adds other people's runs of a method.
    """
    figures = rows(dataset=dataset, protocol=protocol)
    if not reruns:
        figures = figures[~figures["method"].str.contains(RERUN, case=False)]
    return bubbles(figures, figures["method"].str.replace(", interpretation inferred", ", inferred", regex=False))


def bubbles(figures: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """``rows`` under ``names`` as ``vidlib.viz.bubbles`` draws them.

    Columns: name, backbone, trainable_M, accuracy (%), low and high (NaN: the papers print none), gmacs, origin
    ("published"), confidence and source of the accuracy, count_confidence. Unpublished counts stay NaN.
    """
    kept = {"backbone": "backbone", "trainable_params_M": "trainable_M", "value": "accuracy", "gflops": "gmacs"}
    kept |= {"confidence": "confidence", "source": "source", "trainable_params_M_confidence": "count_confidence"}
    table = figures.rename(columns=kept)[list(kept.values())].assign(name=names, low=np.nan, high=np.nan)
    columns = ["name", "backbone", "trainable_M", "accuracy", "low", "high", "gmacs", "origin", "confidence", "source"]
    columns.append("count_confidence")
    return table.assign(origin="published")[columns].reset_index(drop=True)
