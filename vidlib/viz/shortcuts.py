"""How far shortcuts get on a data set: bars from val and from test, what chance gives, and what is allowed of each."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from vidlib.viz import style

COLUMNS = ("shortcut", "split", "accuracy", "low", "high", "chance")
LOOK = {"val": style.SKY, "test": style.BLUE}


@style.figure
def plot(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    title: str = "",
    allowed: Mapping[str, tuple[float, float]] | None = None,
) -> Axes:
    """A line for each shortcut, in the order of ``rows``, and on it a bar for each split, with its interval.

    ``rows`` as ``vidlib.studies.shortcuts.measure`` gives it; fractions, drawn in per cent. ``allowed``: shortcut ->
    the least and the most (per cent) that is allowed of it, a band behind its bars. The dotted line is chance.
    """
    style.need(rows, "a figure of shortcuts", *COLUMNS)
    names, splits, allowed = rows["shortcut"].unique().tolist(), rows["split"].unique().tolist(), allowed or {}
    ax = ax or style.new_axes(9.0, 1.6 + 0.38 * len(names), lines=True)
    bands = [name for name in names if name in allowed]
    for name in bands:
        low, high = allowed[name]
        said = "allowed" if name == bands[0] else None
        ax.barh(names.index(name), high - low, 1.0, low, color="#E9E4D4", zorder=1, label=said)
    tall = 0.76 / len(splits)
    for i, split in enumerate(splits):
        own = rows[rows["split"] == split]
        at = np.array([names.index(name) for name in own["shortcut"]]) + (i - (len(splits) - 1) / 2) * tall
        values, ends = 100 * own["accuracy"].to_numpy(), 100 * own[["low", "high"]].to_numpy().T
        ax.barh(
            at,
            values,
            tall,
            xerr=np.abs(ends - values),
            color=LOOK.get(split, style.GREY),
            edgecolor=style.INK,
            linewidth=0.5,
            error_kw={"elinewidth": 0.9, "ecolor": style.INK},
            label=split,
            zorder=2,
        )
    chance = 100 * rows["chance"].iloc[0]
    ax.axvline(chance, color=style.INK, linestyle=":", linewidth=1.2, label="chance", zorder=3)
    below = f"accuracy (%); lines: {style.interval(rows.assign(over='episodes'))}"
    style.dress(ax, below, grid="x")
    ax.set_xlim(0, 100)
    wide = 24 if style.narrow() else 50
    ax.set_yticks(range(len(names)), [style.wrap(name, wide) for name in names], fontsize=style.SMALL)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    lower = ax.transAxes + ScaledTranslation(0, -4.2 * style.NORMAL / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        fontsize=style.SMALL,
        frameon=False,
        loc="upper left",
        ncols=4,
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=lower,
        borderaxespad=0.0,
        columnspacing=1.0,
        handlelength=1.4,
    )
    style.remember(ax, rows)
    style.title(ax, title)
    return ax
