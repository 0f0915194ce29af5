"""What each part is worth: the change against the full method, with a paired interval."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from vidlib.basics.errors import UserError
from vidlib.viz import style

LOOK = {  # how an ablation came about -> marker, colour, what it is called in the key
    "test": ("o", style.BLUE, "changed at test, same weights"),
    "trained": ("s", style.RED, "trained anew"),
}


@style.figure
def plot(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    title: str = "",
    full: str = "full method",
    baseline: float | None = None,
) -> Axes:
    """One line per ablation: a dot at its accuracy minus the full method's, in points, with its interval.

    ``rows`` has the columns name, delta, low, high (points of accuracy; the paired interval of the difference) and kind
    ("test": same weights, changed at test; "trained": trained anew), and may have ``over``, what the interval is over.
    A row whose delta is NaN was not run and is listed beneath. ``baseline`` is the full method's accuracy (per cent),
    written at the zero line. The rows' order is kept.
    """
    style.need(rows, "an ablation plot", "name", "delta", "low", "high", "kind")
    strange = sorted(set(rows["kind"]) - set(LOOK))
    if strange:
        raise UserError(f"rows: kind is {' or '.join(LOOK)}, not {', '.join(map(str, strange))}")
    run, idle = rows[rows["delta"].notna()], rows[rows["delta"].isna()]
    if ax is None:
        ax = style.new_axes(9.0, 1.9 + 0.36 * max(len(run), 1) + 0.16 * (len(idle) + 2) // 3, lines=True)
    for kind, (marker, color, label) in LOOK.items():
        at = np.flatnonzero(run["kind"].to_numpy() == kind)
        if not len(at):
            continue
        part = run.iloc[at]
        reach = np.abs(part[["low", "high"]].to_numpy(float).T - part["delta"].to_numpy(float))
        ax.errorbar(
            part["delta"],
            at,
            xerr=np.nan_to_num(reach),
            fmt=marker,
            color=color,
            markersize=7,
            capsize=3.5,
            linewidth=1.5,
            markeredgecolor=style.INK,
            markeredgewidth=0.7,
            label=label,
            zorder=3,
        )
    ax.axvline(0, color=style.INK, linewidth=1.1, zorder=2)
    below = f"accuracy minus that of {full} (points); bars: paired {style.interval(rows)}"
    below = style.wrap(below, 38) if style.narrow() else below
    more = 1.5 * below.count("\n")  # letters that the axis takes besides
    style.dress(ax, below, grid="x")
    ax.set_yticks(
        range(len(run)),
        [style.wrap(str(name), 26 if style.narrow() else 44) for name in run["name"]],
        fontsize=style.NORMAL,
    )
    ax.set_ylim(len(run) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    reach = np.append(run[["low", "high", "delta"]].to_numpy(float), 0.0)
    span = max(np.nanmax(reach) - np.nanmin(reach), 2.0)
    if not len(run):
        ax.set_xlim(-1, 1)
        ax.text(
            0.5,
            0.5,
            "none run yet",
            transform=ax.transAxes,
            ha="center",
            fontsize=style.NORMAL,
            color=style.INK,
            backgroundcolor="white",
        )
    else:
        ax.set_xlim(np.nanmin(reach) - 0.06 * span, np.nanmax(reach) + 0.24 * span)
    right = ax.get_xlim()[1]
    for line, delta in enumerate(run["delta"]):
        text = f"{delta:+.1f}".replace("-", "\N{MINUS SIGN}")
        ax.text(right, line, text, ha="right", va="center", fontsize=style.SMALL + 0.5, color=style.INK)
    if baseline is not None:
        ax.annotate(
            f"{full}: {baseline:.1f}%",
            (0, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=style.SMALL,
            color=style.INK,
        )
    idle_words = f"Not run: {', '.join(map(str, idle['name']))}." if len(idle) else ""
    if len(run):
        lower = ax.transAxes + ScaledTranslation(0, -(4.2 + more) * style.NORMAL / 72, ax.figure.dpi_scale_trans)
        ax.legend(
            fontsize=style.SMALL,
            frameon=False,
            loc="upper left",
            ncols=1 if style.narrow() else 2,
            bbox_to_anchor=(0.0, 0.0),
            bbox_transform=lower,
            borderaxespad=0.0,
        )
    if idle_words:
        ax.annotate(
            style.wrap(idle_words, 52 if style.narrow() else 100),
            (0, 0),
            xycoords="axes fraction",
            xytext=(0, -(4.2 + more + (3.4 if style.narrow() else 2.3) * bool(len(run))) * style.NORMAL),
            textcoords="offset points",
            va="top",
            fontsize=style.SMALL,
            color=style.INK,
        )
    style.remember(ax, rows)
    style.title(ax, title, pad=22)
    return ax
