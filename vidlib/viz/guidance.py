"""What a graph's guidance does to an episode, and frames against tuples: GgHM's Figure 1 and its hybrid weight."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.viz import heatmap, style

LINES = {"trained": {"linestyle": "-", "marker": "o"}, "untrained": {"linestyle": "--", "marker": "s"}}


@style.figure
def similarities(
    panels: Mapping[str, np.ndarray],
    truth: Sequence[int],
    names: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """One panel for each of ``panels``: rows are queries, columns the episode's classes, numbers in per cent.

    ``panels`` maps a panel's name to ``[Q W]`` values in 0 to 1; ``truth [Q]`` is each query's class. Queries stand in
    the order of their classes; the cell of a query's own class has a frame.
    """
    rows = table(panels, truth, names)
    order = np.argsort(truth, kind="stable")
    widest = 0.07 * min(24, max(map(len, names)))
    size = (1.2 + widest + len(panels) * (0.62 * len(names) + 0.5), 1.6 + widest + 0.3 * len(truth))
    fig = style.new_figure(style.page(*size, lines=True), "constrained")
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (panel, values) in zip(axes, panels.items(), strict=True):
        queries = pd.Index([names[truth[i]] for i in order], name="query, by its class" if ax is axes[0] else None)
        shown = pd.DataFrame(100 * np.asarray(values)[order], queries, [style.wrap(name, 24) for name in names])
        image = heatmap.cells(ax, shown, np.char.mod("%.0f", shown), letters=24)
        for row, query in enumerate(order):
            box = (truth[query] + 0.03, row + 0.04)
            ax.add_patch(plt.Rectangle(box, 0.94, 0.92, fill=False, edgecolor=style.RED, linewidth=1.6))
        ax.set_title(style.wrap(panel, 9 * len(names)), fontsize=style.NORMAL, loc="left")
    style.bar(image, axes[-1], "per cent (red frame: the query's class)", fraction=0.05, pad=0.03)
    style.heading(fig, title)
    style.remember(fig, rows)
    return fig


def table(panels: Mapping[str, np.ndarray], truth: Sequence[int], names: Sequence[str]) -> pd.DataFrame:
    """The drawn numbers, for ``style.save``: columns panel, query, true, class, share (0 to 1)."""
    rows = []
    for panel, values in panels.items():
        values = np.asarray(values, float)
        if values.shape != (len(truth), len(names)):
            raise UserError(
                f"{panel}: {len(truth)} queries and {len(names)} classes need {len(truth)} x {len(names)} values, not "
                f"{' x '.join(map(str, values.shape))}"
            )
        for (query, column), value in np.ndenumerate(values):
            row = {"panel": panel, "query": query, "true": names[truth[query]], "class": names[column]}
            rows.append(row | {"share": value})
    return pd.DataFrame(rows)


@style.figure
def hybrid(rows: pd.DataFrame, *, way: int, title: str = "") -> Figure:
    """One panel per world: accuracy in per cent against alpha, from frames alone to tuples alone, with its interval.

    ``rows`` has the columns world, weights ("trained" or "untrained"), alpha, accuracy, interval (per cent). The
    panels share the accuracy axis; a star marks each line's best alpha.
    """
    style.need(rows, "a figure of hybrid weights", "world", "weights", "alpha", "accuracy", "interval")
    worlds = list(dict.fromkeys(rows["world"]))
    fig = style.new_figure(style.page(1.2 + 4.1 * len(worlds), 4.2), "constrained")
    axes = fig.subplots(1, len(worlds), sharey=True, squeeze=False)
    for ax, world in zip(axes[0], worlds, strict=True):
        for number, (weights, look) in enumerate(LINES.items()):
            line = rows[(rows["world"] == world) & (rows["weights"] == weights)].sort_values("alpha")
            if not len(line):
                continue
            colour = (style.BLUE, style.RED)[number]
            x, y, half = (line[name].to_numpy(float) for name in ("alpha", "accuracy", "interval"))
            ax.plot(x, y, color=colour, label=weights, markersize=4.5, linewidth=1.5, **look)
            ax.fill_between(x, y - half, y + half, color=colour, alpha=0.18, linewidth=0)
            best = int(np.argmax(y))
            ax.plot(x[best], y[best], marker="*", color=colour, markersize=13, markeredgecolor=style.INK, zorder=4)
        ax.axhline(100 / way, color=style.GREY, linewidth=1.0, linestyle=(0, (1, 2)), label="chance")
        alpha = "alpha (0 frames, 1 tuples)" if style.narrow() else "alpha: 0 frames alone, 1 tuples alone"
        style.dress(ax, alpha, "val accuracy (%),\nband: 95% over episodes" if ax is axes[0, 0] else "")
        ax.set_title(world, fontsize=style.NORMAL, loc="left")
        ax.set_ylim(0, 103)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": 3} if style.narrow() else {"loc": "outside right center"}
    fig.legend(handles, labels, fontsize=style.SMALL, frameon=False, **place)
    style.heading(fig, title)
    style.remember(fig, rows)
    return fig
