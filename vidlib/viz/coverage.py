"""How often intervals hold the true value: a row for each interval and truth, a mark for each method and their pair."""

import pandas as pd
from matplotlib.axes import Axes

from vidlib.viz import style

BAND = (93, 97)
MARKS = ("o", "s", "D", "^")


@style.figure
def plot(rows: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """``rows`` as ``vidlib.studies.coverage.table`` gives them, of one drawing: asked, interval, truth, claimed, and
    covered with its own interval from low to high (per cent). Filled: what the interval claims to be of."""
    pairs = list(dict.fromkeys(zip(rows["truth"], rows["interval"], strict=True)))
    asked = list(dict.fromkeys(rows["asked"]))
    ax = ax or style.new_axes(8.2, 1.7 + 0.36 * len(pairs), lines=True)
    ax.axvspan(*BAND, color="#D9EAD9", zorder=0)
    ax.axvline(95, color=style.GREY, linewidth=0.8)
    for k, name in enumerate(asked):
        for row in rows[rows["asked"] == name].itertuples():
            at = pairs.index((row.truth, row.interval)) + 0.22 * (k - (len(asked) - 1) / 2)
            ax.errorbar(
                row.covered,
                at,
                xerr=[[row.covered - row.low], [row.high - row.covered]],
                fmt=MARKS[k % len(MARKS)],
                color=style.CYCLE[k % len(style.CYCLE)],
                markerfacecolor=style.CYCLE[k % len(style.CYCLE)] if row.claimed else "white",
                markersize=4 if style.narrow() else 5,
                elinewidth=0.9,
            )
        ax.plot([], [], MARKS[k % len(MARKS)], color=style.CYCLE[k % len(style.CYCLE)], label=name)
    for i in range(1, len(pairs)):
        if pairs[i][0] != pairs[i - 1][0]:
            ax.axhline(i - 0.5, color=style.INK, linewidth=0.7)
    ax.set_yticks(range(len(pairs)), [f"{interval} | {truth}" for truth, interval in pairs])
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    style.dress(ax, "held the true value (% of replicates)", "", "x")
    key = {"loc": "outside lower left", "ncols": 1 if style.narrow() else len(asked), "frameon": False}
    ax.figure.legend(**key, fontsize=style.SMALL)
    style.remember(ax, rows)
    style.title(ax, title)
    return ax
