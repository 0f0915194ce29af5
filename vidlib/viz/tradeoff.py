"""Accuracy on trained classes against accuracy on new ones: one point per configuration, with both intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from vidlib.viz import style

MARKERS = "osD^vPX<>*hp"


@style.figure
def plot(
    rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "", chance: Mapping[str, float] | None = None
) -> Axes:
    """``rows``: name, group, trained, trained_half, new, new_half (per cent); over: what the bars are
    over, where known. A group has one colour and one marker.

    ``chance``: "trained" and "new" in per cent, drawn as dotted lines.
    """
    ax = ax or style.new_axes(7.5, 5.5)
    groups = list(dict.fromkeys(rows["group"]))
    for i, group in enumerate(groups):
        part = rows[rows["group"] == group]
        ax.errorbar(
            part["trained"],
            part["new"],
            xerr=part["trained_half"],
            yerr=part["new_half"],
            fmt=MARKERS[i % len(MARKERS)],
            color=style.CYCLE[i % len(style.CYCLE)],
            markeredgecolor=style.INK,
            markersize=8,
            elinewidth=0.9,
            capsize=2,
            label=group,
        )
    for name, axis in (("trained", ax.axvline), ("new", ax.axhline)):
        if chance and name in chance:
            axis(chance[name], color=style.INK, linestyle=":", linewidth=0.9)
    below = f"accuracy on trained classes (%); bars: {style.interval(rows)}"
    style.dress(ax, style.wrap(below, 38) if style.narrow() else below, "accuracy on new classes (%)")
    key = {"loc": "lower left", "ncols": 2, "bbox_to_anchor": (0, 1)} if style.narrow() else style.BESIDE
    ax.legend(fontsize=style.SMALL, frameon=False, **key)
    style.title(ax, title, pad=26 if style.narrow() else 7)
    centres = np.column_stack([rows["trained"], rows["new"]])
    style.place_labels(
        ax, centres, [style.wrap(name, 24) for name in rows["name"]], np.full(len(rows), 6.0), _bars(ax, rows)
    )
    style.remember(ax, rows)
    return ax


def _bars(ax: Axes, rows: pd.DataFrame) -> list[Bbox]:
    """Both intervals of every point in pixels, so that no label is written on one."""
    ax.figure.draw_without_rendering()
    bars, air = [], 2 * ax.figure.dpi / 72
    for row in rows.itertuples():
        across = [(row.trained - row.trained_half, row.new), (row.trained + row.trained_half, row.new)]
        upright = [(row.trained, row.new - row.new_half), (row.trained, row.new + row.new_half)]
        for ends in (across, upright):
            (x0, y0), (x1, y1) = ax.transData.transform(ends)
            bars.append(Bbox.from_extents(x0 - air, y0 - air, x1 + air, y1 + air))
    return bars
