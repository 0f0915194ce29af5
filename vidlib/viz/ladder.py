"""The fair ladder: accuracy against trained parameters and against training seconds, each tower with a look."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vidlib.basics.errors import UserError
from vidlib.viz import style

PANELS = {"trained (M)": "trained parameters (millions, log scale)", "seconds": "training (seconds, log scale)"}
MARKERS = "oDs^v"


@style.figure
def plot(rows: pd.DataFrame, *, title: str = "", chance: float = 20.0, figure: Figure | None = None) -> Figure:
    """``rows``: column, name, accuracy, half (per cent), over, "trained (M)", seconds. What trains nothing has no place
    on a log axis: it is a grey band."""
    if not len(rows):
        raise UserError("rows: a ladder needs at least one row")
    fig = style.new_figure(style.page(12.0, 6.6, lines=style.narrow()), figure, "constrained")
    axes = fig.subplots(2, 1) if style.narrow() else fig.subplots(1, 2, sharey=True)
    trained = rows[rows["trained (M)"] > 0]
    still = rows[~(rows["trained (M)"] > 0)]
    for ax, (column, words) in zip(axes, PANELS.items(), strict=True):
        for look, (name, part) in zip(_looks(), rows.groupby("column", sort=False), strict=False):
            here = part[part["trained (M)"] > 0]
            ax.errorbar(here[column], here["accuracy"], yerr=here["half"], label=name, **look)
        ax.axhline(chance, color=style.INK, linestyle=":", linewidth=0.9)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _room(
            ax,
            trained[column],
            [
                *trained["accuracy"] + trained["half"],
                *trained["accuracy"] - trained["half"],
                *still["accuracy"],
                chance,
            ],
        )
        bars = f"accuracy (%); bars: {style.interval(rows)}"
        bars = "accuracy (%)" if style.narrow() else bars if ax is axes[0] else ""
        style.dress(ax, style.wrap(words, 34) if style.narrow() else words, bars)
    axes[0].legend(fontsize=style.SMALL, frameon=False, loc="upper left", ncols=1)
    style.heading(fig, title)
    for ax, column in zip(axes, PANELS, strict=True):
        boxes = [*_floors(ax, still), *_bars(ax, trained, column)]
        points = trained[[column, "accuracy"]].to_numpy()
        style.place_labels(ax, points, list(trained["name"]), np.full(len(points), 6.0), boxes)
    style.remember(fig, rows)
    return fig


def _looks() -> list[dict]:
    edge = {"linestyle": "none", "markeredgecolor": style.INK, "markersize": 8, "elinewidth": 0.9, "capsize": 2}
    return [{"marker": marker, "color": colour} | edge for marker, colour in zip(MARKERS, style.CYCLE, strict=False)]


def _room(ax: Axes, across: pd.Series, upright: list[float]) -> None:
    """Limits with room for labels, and at the right for the names of lines."""
    if len(across):
        ax.set_xlim(across.min() / 1.8, across.max() * 4)
    low, high = min(upright), max(upright)
    ax.set_ylim(low - 0.08 * (high - low) - 1, high + 0.14 * (high - low) + 1)


def _floors(ax: Axes, still: pd.DataFrame) -> list[Bbox]:
    """A band from the lowest to the highest accuracy of what trains nothing, and both in words; their box."""
    if not len(still):
        return []
    ends = [still.loc[at] for at in (still["accuracy"].idxmin(), still["accuracy"].idxmax())]
    ax.axhspan(*(end["accuracy"] for end in ends), color=style.GREY, alpha=0.18, linewidth=0)
    words = "grey: nothing trained, " + " to ".join(f"{end['accuracy']:.1f} ({end['name']})" for end in ends)
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
