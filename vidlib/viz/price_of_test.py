"""What choosing the checkpoint on test gains over choosing on val, against how many checkpoints are compared."""

import pandas as pd
from matplotlib.axes import Axes

from vidlib.viz import style

MARKERS = "osD^vPX*<>hd"


@style.figure
def plot(rows: pd.DataFrame, ax: Axes | None = None, *, pooled: str = "mean over methods", title: str = "") -> Axes:
    """A line for each method, with bars, and a bold one for the method ``pooled``, with a band where it pools three.

    ``rows``: method, k (checkpoints compared), gain, interval (points).
    """
    style.need(rows, "a figure of what choosing on test gains", "method", "k", "gain", "interval")
    ax = ax or style.new_axes(8.4, 4.6, lines=style.narrow())
    numbers = sorted(set(rows["k"]))
    names = [name for name in dict.fromkeys(rows["method"]) if name != pooled]
    for i, name in enumerate(names):
        line = rows[rows["method"] == name].sort_values("k")
        shift = 0.4 * (i / max(len(names) - 1, 1) - 0.5)  # so that intervals do not hide each other
        look = {"marker": MARKERS[i % len(MARKERS)], "linestyle": ("-", "--", ":")[i // (len(style.CYCLE) - 1) % 3]}
        look |= {"color": style.CYCLE[:-1][i % (len(style.CYCLE) - 1)], "linewidth": 0.9, "markersize": 4.5}
        at = [numbers.index(k) + shift for k in line["k"]]
        ax.errorbar(at, line["gain"], yerr=line["interval"], label=name, elinewidth=0.8, capsize=2, alpha=0.85, **look)
    line = rows[rows["method"] == pooled].sort_values("k")
    if len(line):
        at, gain, half = [numbers.index(k) for k in line["k"]], line["gain"], line["interval"]
        ax.plot(at, gain, color=style.INK, linewidth=3.0, label=pooled, zorder=4)
        if len(names) > 2:  # of two it says nothing and hides the rest
            ax.fill_between(at, gain - half, gain + half, color=style.INK, alpha=0.15, linewidth=0)
    ax.axhline(0, color=style.GREY, linewidth=1.0)
    ax.set_xticks(range(len(numbers)), [str(k) for k in numbers])
    beside = "gained on test (points)" + ("" if style.narrow() else "\nbars: 95% over seeds, band: over methods")
    style.dress(ax, "checkpoints compared", beside)
    key = {"loc": "lower left", "ncols": 2, "bbox_to_anchor": (0, 1)} if style.narrow() else style.BESIDE
    ax.legend(fontsize=style.SMALL, frameon=False, **key)
    style.title(ax, title, pad=11 * (1 + (len(names) + 2) // 2) if style.narrow() else 7)
    style.remember(ax, rows)
    return ax
