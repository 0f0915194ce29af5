"""How accuracy spreads over classes and seeds: every seed a pale dot, their mean a mark with its interval."""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from vidlib.results.intervals import half_width
from vidlib.results.runs import Run
from vidlib.viz import style

MOST = 40  # names that are drawn
MARKERS = "osD^vP"


@style.figure
def plot(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "", chance: float | None = None) -> Axes:
    """A line per name, the best above: a dot for each seed's accuracy, a mark for their mean.

    ``rows``: name (a class, or a method), seed, accuracy (per cent); where several methods are compared, method: each
    has its colour and marker, and the means of the first one give the order. The means of several seeds have their 95%
    interval (t) over them. ``chance`` (per cent) is a dotted line. Of more than ``MOST`` names the best and the worst
    are drawn.
    """
    style.need(rows, "a figure of accuracies by name and seed", "name", "seed", "accuracy")
    drawn = rows if "method" in rows else rows.assign(method="")
    methods = list(dict.fromkeys(drawn["method"]))
    means = drawn[drawn["method"] == methods[0]].groupby("name")["accuracy"].mean()
    every = list(means.sort_values(ascending=False, kind="stable").index)
    names = every if len(every) <= MOST else every[: MOST // 2] + every[-MOST // 2 :]
    ax = ax or style.new_axes(8.0, 1.3 + (0.2 + 0.06 * len(methods)) * len(names), lines=True)
    look = {"x": "accuracy", "y": "name", "order": names, "hue": "method", "hue_order": methods, "ax": ax}
    look |= {"data": drawn[drawn["name"].isin(names)], "palette": style.CYCLE[: len(methods)]}
    sns.stripplot(**look, jitter=False, dodge=True, alpha=0.5, size=4, legend=False)
    bars = {"errorbar": _interval, "err_kws": {"linewidth": 1.2}, "dodge": 0.8 - 0.8 / len(methods)}
    marks = {"markers": list(MARKERS[: len(methods)]), "markersize": 5, "markeredgecolor": style.INK}
    sns.pointplot(**look, **bars, **marks, markeredgewidth=0.6, linestyle="none", legend=len(methods) > 1)
    if chance is not None:
        ax.axvline(chance, color=style.GREY, linestyle=":", linewidth=1.2, label=f"chance ({chance:.0f}%)")
    seeds = drawn["seed"].nunique()
    below = f"accuracy (%); mean of {seeds} seeds with its 95% interval" if seeds > 1 else "accuracy (%), one seed"
    each = drawn.groupby("method")["seed"].nunique()
    below += "; no bar: one run is all" if seeds > 1 and each.min() == 1 else ""
    beside = "" if names == every else f"the best and the worst {MOST // 2} of {len(every)}"
    style.dress(ax, style.wrap(below, 38) if style.narrow() else below, beside)
    ax.set_yticks(range(len(names)), [style.wrap(str(name), 34) for name in names], fontsize=style.SMALL)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(-2, 102)
    if ax.get_legend_handles_labels()[0]:
        key = {"loc": "lower left", "ncols": 2, "bbox_to_anchor": (0, 1)} if style.narrow() else style.BESIDE
        ax.legend(fontsize=style.SMALL, frameon=False, **key)
    style.remember(ax, rows)
    style.title(ax, title, pad=26 if style.narrow() else 7)
    return ax


def _interval(values: pd.Series) -> tuple[float, float]:
    return values.mean() - half_width(values), values.mean() + half_width(values)


def of_runs(runs: Mapping[str, Sequence[Run]], split: str = "test") -> pd.DataFrame:
    """``plot``'s rows, a name for each class of ``split``, of finished runs: the seeds of each method by its name; one
    run that stands for several has no interval."""
    return pd.DataFrame(
        {"method": method, "name": cls, "seed": run.params["seed"], "accuracy": 100 * share}
        for method, same in runs.items()
        for run in {run.id: run for run in same}.values()
        for cls, share in run.result[split]["per_class"].items()
    )
