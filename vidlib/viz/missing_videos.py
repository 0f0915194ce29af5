"""Accuracy on what is left of a split, for several shares of missing videos: every repeat a point with its interval."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.viz import style


@style.figure
def plot(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """``rows`` as ``vidlib.studies.missing_videos.measure`` gives it: share, repeat, accuracy, interval (per cent).

    The dashed line is the mean with nothing missing.
    """
    shares = sorted(rows["share"].unique())
    ax = ax or style.new_axes(1.6 + 1.5 * len(shares), 4.2)
    for k, share in enumerate(shares):
        same = rows[rows["share"] == share]
        at = k + np.linspace(-0.35, 0.35, len(same)) if len(same) > 1 else np.array([k])
        ax.errorbar(
            at,
            same["accuracy"],
            yerr=same["interval"],
            fmt="o" if share == 0 else "s",
            color=style.CYCLE[0 if share == 0 else 1],
            markeredgecolor=style.INK,
            markeredgewidth=0.6,
            markersize=5,
            elinewidth=0.9,
        )
    ax.axhline(rows[rows["share"] == 0]["accuracy"].mean(), color=style.INK, linestyle="--", linewidth=0.9)
    ax.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
    style.dress(ax, "videos missing, at random", style.wrap("accuracy (%), with the interval over episodes", 30))
    style.remember(ax, rows)
    style.title(ax, title)
    return ax
