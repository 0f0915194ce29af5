"""The benchmarks side by side: how many videos each split has, and which training lists meet which test lists."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.viz import style

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
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    style.dress(ax, "videos (log scale)", "")
    ax.legend(fontsize=style.SMALL, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
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
    place = {name: i for i, name in enumerate(names)}
    share = np.full((len(names),) * 2, np.nan)
    for row in rows.itertuples():
        i, j = place[row.trained], place[row.tested]
        if i == j:
            continue
        share[i, j] = row.classes / row.of
        if row.classes or (pd.notna(row.videos) and row.videos):
            words = f"{row.classes}" + (f"\n{row.videos:,} v" if pd.notna(row.videos) and row.videos else "")
            ink = "white" if share[i, j] > 0.6 else style.INK
            ax.text(j, i, words, ha="center", va="center", fontsize=style.SMALL - 0.5, color=ink)
    image = ax.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    style.dress(ax, "tested on the test list of", "trained on the training list of", grid=None)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.03, pad=0.02)
    style.dress_bar(bar, "test classes also trained on (%)")
    style.remember(ax, rows)
    style.title(ax, title)
    return ax
