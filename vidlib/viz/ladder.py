"""The fair ladder: accuracy against trained parameters and training seconds, a line of panels for each tower."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from vidlib.basics.errors import UserError
from vidlib.viz import style

PANELS = {"trained (M)": "trained parameters (millions, log scale)", "seconds": "training steps (seconds, log scale)"}
MARKERS = "oDs^v"


@style.figure
def plot(rows: pd.DataFrame, *, title: str = "", chance: float = 20.0) -> Figure:
    """``rows``: column, name, accuracy, half (per cent), over, "trained (M)", seconds; a line of two panels for each
    column, all with one accuracy axis. What trains nothing has no place on a log axis: it is a grey band. A hollow
    mark: one run, its bar over videos."""
    if not len(rows):
        raise UserError("rows: a ladder needs at least one row")
    parts = [part for _, part in rows.groupby("column", sort=False)]
    one_below_other = style.narrow()
    tall = 6.6 if len(parts) == 1 else 4.4 * len(parts)
    fig = style.new_figure(style.page(12.0, tall * (1 + one_below_other), lines=one_below_other), "constrained")
    shape = (2 * len(parts), 1) if one_below_other else (len(parts), 2)
    axes = fig.subplots(*shape, sharey=True, squeeze=False).reshape(len(parts), 2)
    _accuracies(axes[0, 0], [*rows["accuracy"] + rows["half"], *rows["accuracy"] - rows["half"], chance])
    for pair, part, look in zip(axes, parts, _looks(), strict=False):
        for ax, (column, words) in zip(pair, PANELS.items(), strict=True):
            here = part[part["trained (M)"] > 0]
            for hollow in (False, True):
                some = here[(here["over"] == "videos") == hollow]
                face = {"markerfacecolor": "white", "markeredgecolor": look["color"]} if hollow else {}
                if len(some):
                    ax.errorbar(some[column], some["accuracy"], yerr=some["half"], **look | face)
            ax.axhline(chance, color=style.INK, linestyle=":", linewidth=0.9)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.xaxis.set_minor_locator(NullLocator())
            if len(here):
                ax.set_xlim(here[column].min() / 1.8, here[column].max() * 2.5)
            over = style.interval(here)
            if set(here["over"]) == {"seeds", "videos"}:
                over = "95% interval over seeds (hollow: over videos)"
            bars = f"accuracy (%), dotted: chance; bars: {over}"
            bars = "accuracy (%)" if one_below_other else style.wrap(bars, 34) if ax is pair[0] else ""
            style.dress(ax, style.wrap(words, 34) if one_below_other else words, bars)
        pair[0].set_title(part["column"].iloc[0], fontsize=style.NORMAL, loc="left", color=style.INK)
    style.heading(fig, title)
    for pair, part in zip(axes, parts, strict=True):
        here = part[part["trained (M)"] > 0]
        for ax, column in zip(pair, PANELS, strict=True):
            boxes = [*_floors(ax, part.drop(here.index)), *_bars(ax, here, column)]
            points = here[[column, "accuracy"]].to_numpy()
            style.place_labels(ax, points, list(here["name"]), np.full(len(points), 6.0), boxes)
    style.remember(fig, rows)
    return fig


def _looks() -> list[dict]:
    edge = {"linestyle": "none", "markeredgecolor": style.INK, "markersize": 8, "elinewidth": 0.9, "capsize": 2}
    return [{"marker": marker, "color": colour} | edge for marker, colour in zip(MARKERS, style.CYCLE, strict=False)]


def _accuracies(ax: Axes, upright: list[float]) -> None:
    """Limits with room for labels."""
    low, high = min(upright), max(upright)
    ax.set_ylim(low - 0.08 * (high - low) - 1, high + 0.1 * (high - low) + 1)


def _floors(ax: Axes, still: pd.DataFrame) -> list[Bbox]:
    """A band from the lowest to the highest accuracy of what trains nothing, and both in words; their box."""
    if not len(still):
        return []
    ends = [still.loc[at] for at in (still["accuracy"].idxmin(), still["accuracy"].idxmax())]
    ax.axhspan(*(end["accuracy"] for end in ends), color=style.GREY, alpha=0.18, linewidth=0)
    reach = " to ".join(f"{end['accuracy']:.1f} ({end['name']})" for end in ends)
    words = f"grey: nothing trained, {reach}"
    place = {"ha": "right", "va": "bottom", "fontsize": style.SMALL, "color": style.INK}
    text = ax.annotate(words, (0.995, 0.01), xycoords="axes fraction", **place)
    return [text.get_window_extent(ax.figure.canvas.get_renderer())]


def _bars(ax: Axes, rows: pd.DataFrame, column: str) -> list[Bbox]:
    """The interval of every point in pixels, so that no label is written on one."""
    ends = [
        ax.transData.transform([(r[column], r["accuracy"] + s * r["half"]) for s in (-1, 1)])
        for _, r in rows.iterrows()
    ]
    return [Bbox.from_extents(low[0] - 2, low[1], high[0] + 2, high[1]) for low, high in ends]
