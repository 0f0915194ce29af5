"""The benchmarks side by side: how many videos each split has, and which training lists meet which test lists."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from vidlib.viz import heatmap, style

SPLITS = {"train": ("o", style.BLUE), "val": ("s", style.ORANGE), "test": ("D", style.GREEN)}


@style.figure
def sizes(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """``rows``: benchmark, split (train, val or test), videos. A line per benchmark, a marker per split, log scale."""
    names = list(dict.fromkeys(rows["benchmark"]))
    ax = ax or style.new_axes(8.0, 1.2 + 0.34 * len(names), lines=True)
    place = {name: i for i, name in enumerate(names)}
    for split, (marker, colour) in SPLITS.items():
        part = rows[rows["split"] == split]
        at = part["benchmark"].map(place)
        ax.plot(part["videos"], at, marker, color=colour, markeredgecolor=style.INK, markersize=7, label=split)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # the usual one writes mathematics
    ax.xaxis.set_minor_formatter(LogFormatter())
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    style.dress(ax, "videos (log scale)", "")
    ax.legend(fontsize=style.SMALL, frameon=False, **style.BESIDE)
    style.remember(ax, rows)
    style.title(ax, title)
    return ax


@style.figure
def overlap(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """``rows`` as ``auditing.overlaps`` gives them. A cell holds the test classes (column) that the training list (row)
    has too, and below it the videos in both lists where that is known; its shade is the share of the test classes.

    The diagonal is each benchmark's own protocol and is left blank.
    """
    names = list(dict.fromkeys(rows["trained"]))
    ax = ax or style.new_axes(2.6 + 0.72 * len(names), 2.0 + 0.56 * len(names))
    other = rows["trained"] != rows["tested"]
    videos = rows["videos"].map(lambda count: f"\n{count:,} v" if pd.notna(count) and count else "")
    drawn = rows.assign(
        share=(100 * rows["classes"] / rows["of"]).where(other),
        words=(rows["classes"].astype(str) + videos).where((rows["classes"] > 0) | (videos != ""), ""),
    ).pivot(index="trained", columns="tested")
    share, words = (drawn[column].loc[names, names] for column in ("share", "words"))
    share = share.rename_axis(index="trained on the training list of", columns="tested on the test list of")
    style.bar(heatmap.cells(ax, share, words.to_numpy()), ax, "test classes also trained on (%)")
    ax.set_xticks(ax.get_xticks(), names, rotation=40, ha="right", rotation_mode="anchor")
    style.remember(ax, rows)
    style.title(ax, title)
    return ax
