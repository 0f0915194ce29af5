"""How far to trust an answer: reliability curves, and known against unknown queries at every threshold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.viz import style

MARKERS = "osD^vPX*"


@style.figure
def reliability(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Accuracy against confidence, a line per method; on the dashed line an answer is right as often as it is sure.

    ``rows``: method, and what ``results.calibration.reliability`` gives: confidence, accuracy, half, answers
    (fractions). The key has each one's expected calibration error (ECE).
    """
    methods = _methods(rows, ("method", "confidence", "accuracy", "half", "answers"))
    ax = ax or _square()
    ax.plot((0, 100), (0, 100), color=style.GREY, linestyle="--", linewidth=1.0)
    for number, method in enumerate(methods):
        line = rows[rows["method"] == method]
        gap = np.average((line["confidence"] - line["accuracy"]).abs(), weights=line["answers"])
        x, y, half = (100 * line[name].to_numpy(float) for name in ("confidence", "accuracy", "half"))
        look = {"color": _colour(number), "marker": MARKERS[number % len(MARKERS)], "markeredgecolor": style.INK}
        look |= {"markersize": 5, "markeredgewidth": 0.6, "elinewidth": 0.9, "label": f"{method} (ECE {100 * gap:.1f})"}
        ax.errorbar(x, y, yerr=np.where(np.isfinite(half), half, 0), **look)
    where = "confidence (%); each mark the mean of equally many answers"
    return _finish(ax, rows, where, "accuracy (%); bars: 95%, by episode", title)


@style.figure
def open_set(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    title: str = "",
    chosen: Mapping[str, tuple[float, float]] | None = None,
) -> Axes:
    """The share of known queries that are kept against that of unknown ones, as the threshold falls: ROC curves.

    ``rows``: method, unknown, known (fractions, the ends among them). The key has the area below each (AUROC).
    ``chosen``: a method's two shares at its threshold, a mark on its line.
    """
    ax = ax or _square()
    ax.plot((0, 100), (0, 100), color=style.GREY, linestyle="--", linewidth=1.0)
    for number, method in enumerate(_methods(rows, ("method", "unknown", "known"))):
        line = rows[rows["method"] == method]
        area = np.trapezoid(line["known"], line["unknown"])
        label = f"{method} (AUROC {100 * area:.1f})"
        ax.plot(100 * line["unknown"], 100 * line["known"], color=_colour(number), linewidth=1.5, label=label)
        if chosen and method in chosen:
            at = {"marker": MARKERS[number % len(MARKERS)], "color": _colour(number), "markersize": 7}
            ax.plot(*(100 * share for share in chosen[method]), **at, markeredgecolor=style.INK)
    return _finish(ax, rows, "unknown queries kept (%)", "known queries kept (%)", title)


def _methods(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    style.need(rows, "a figure of confidence", *columns)
    return list(dict.fromkeys(rows["method"]))


def _colour(number: int) -> str:
    return style.CYCLE[number % len(style.CYCLE)]


def _square() -> Axes:
    wide = style.sizes().width
    return style.new_axes(wide, 1.25 * wide) if style.narrow() else style.new_axes(7.4, 4.8)


def _finish(ax: Axes, rows: pd.DataFrame, below: str, beside: str, title: str) -> Axes:
    style.dress(ax, style.wrap(below, 40), style.wrap(beside, 34))
    ax.set_xlim(-2, 102)
    ax.set_ylim(-2, 102)
    lines = rows["method"].nunique()
    key = {"loc": "lower left", "bbox_to_anchor": (0, 1)} if style.narrow() else style.BESIDE
    ax.legend(fontsize=style.SMALL, frameon=False, **key)
    style.remember(ax, rows)
    style.title(ax, title, pad=7 + 11 * lines if style.narrow() else 7)
    return ax
