"""Many methods side by side: accuracy against shots and ways, and what an episode costs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.viz import style

MARKERS = "osD^vPX*<>hd"
DASHES = ("-", "--", ":")
VARIED = {"shot": "support videos per class (shot)", "way": "classes in an episode (way)"}
EMBED, MATCH = style.SKY, style.BLUE


@style.figure
def accuracy(rows: pd.DataFrame, *, way: int, title: str = "") -> Figure:
    """One panel for each of what is varied: accuracy in per cent with its interval, one line per method.

    ``rows`` has the columns method, varied ("shot" or "way"), value, accuracy, interval (per cent). ``way`` is that of
    the panel of shots, for its line of chance. Methods whose name begins with "frozen " are grey. The key lists them
    from the best to the worst at the largest value of the first panel.
    """
    style.need(rows, "a figure by shots and ways", "method", "varied", "value", "accuracy", "interval")
    panels = [name for name in VARIED if name in set(rows["varied"])]
    size = style.page(1.9 + 4.6 * len(panels), 5.2, lines=style.narrow())
    fig = style.new_figure(size, "constrained")
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)
    looks = _looks(list(dict.fromkeys(rows["method"])))
    for ax, varied in zip(axes[0], panels, strict=True):
        part = rows[rows["varied"] == varied]
        values = sorted(set(part["value"]))
        place = {value: i for i, value in enumerate(values)}  # even steps: the values are few and whole
        for number, (method, look) in enumerate(looks.items()):
            line = part[part["method"] == method].sort_values("value")
            if len(line):
                shift = 0.16 * (number / max(len(looks) - 1, 1) - 0.5)  # so that intervals do not hide each other
                at = np.array([place[value] for value in line["value"]]) + shift
                ax.errorbar(at, line["accuracy"], yerr=line["interval"], label=method, **look)
        chance = [100 / (value if varied == "way" else way) for value in values]
        ax.plot(range(len(values)), chance, color=style.GREY, linewidth=1.0, linestyle=(0, (1, 2)), label="chance")
        ax.set_xticks(range(len(values)), [str(value) for value in values])
        ax.set_ylim(0, 103)
        style.dress(
            ax,
            varied if style.narrow() else VARIED[varied],
            "accuracy (%),\nbars: 95% over episodes" if ax is axes[0, 0] else "",
        )
    _key(fig, axes[0, 0], rows, panels[0])
    style.heading(fig, title)
    style.remember(fig, rows)
    return fig


def _looks(names: Sequence[str]) -> dict[str, dict]:
    looks, number, floors = {}, 0, 0
    for name in names:
        look = {"marker": MARKERS[number % len(MARKERS)], "linestyle": DASHES[number // len(style.CYCLE) % len(DASHES)]}
        look |= {"color": style.CYCLE[:-1][number % (len(style.CYCLE) - 1)], "markersize": 6, "linewidth": 1.5}
        if name.startswith("frozen "):
            look |= {"color": style.GREY, "linestyle": ("-.", ":", "--")[floors % 3], "marker": "_x+"[floors % 3]}
            floors += 1
        else:
            number += 1
        looks[name] = look | {"markeredgecolor": style.INK, "markeredgewidth": 0.5, "elinewidth": 0.9, "capsize": 2}
    return looks


def _key(fig: Figure, ax: Axes, rows: pd.DataFrame, varied: str) -> None:
    part = rows[rows["varied"] == varied]
    last = part[part["value"] == part["value"].max()].set_index("method")["accuracy"]
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -last.get(labels[i], -1.0))
    shown = {"fontsize": style.SMALL, "frameon": False, "handlelength": 3.2}
    shown |= {"loc": "outside lower center", "ncols": 2} if style.narrow() else {"loc": "outside right center"}
    fig.legend([handles[i] for i in order], [labels[i] for i in order], **shown)


@style.figure
def cost(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Milliseconds of a test episode (embedding and matching) and MiB of a training episode, one bar per method.

    ``table`` is indexed by method, with the columns embedding, matching (ms) and "training memory (MiB)" (NaN: nothing
    is trained).
    """
    style.need(table, "a figure of costs", "embedding", "matching", "training memory (MiB)", given="table")
    size = style.page(11.0, 1.5 + 0.34 * len(table), lines=True)
    fig = style.new_figure(size, "constrained")
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    lines = range(len(table))
    bars = {"edgecolor": style.INK, "linewidth": 0.7, "height": 0.7}
    left.barh(lines, table["embedding"], color=EMBED, label="embedding all its videos", **bars)
    left.barh(lines, table["matching"], left=table["embedding"], color=MATCH, hatch="///", label="matching", **bars)
    total = table["embedding"] + table["matching"]
    for line, (whole, part) in enumerate(zip(total, table["matching"], strict=True)):
        _number(left, whole, line, f"{whole:.0f}" if style.narrow() else f"{whole:.0f}, of it {part:.2g}")
    memory = table["training memory (MiB)"]
    right.barh(lines, memory.fillna(0), color=style.ORANGE, **bars)
    for line, value in enumerate(memory):
        _number(right, np.nan_to_num(value), line, "trains nothing" if np.isnan(value) else f"{value:.0f}")
    left.set_yticks(lines, table.index, fontsize=style.NORMAL)
    left.set_ylim(len(table) - 0.4, -0.6)
    left.set_xlim(0, 1.32 * total.max())
    right.set_xlim(0, (2.2 if style.narrow() else 1.3) * max(np.nanmax(np.append(memory, 0.0)), 1.0))
    style.dress(
        left,
        "a test episode (ms)" if style.narrow() else "a test episode (ms); the second number is matching",
        grid="x",
    )
    style.dress(right, "training (MiB)" if style.narrow() else "a training episode (MiB at its peak)", grid="x")
    left.tick_params(axis="y", length=0)
    right.tick_params(axis="y", length=0)
    shown = {
        "fontsize": style.SMALL,
        "frameon": False,
        "ncols": 1 if style.narrow() else 2,
        "bbox_to_anchor": (0, 1),
        "borderaxespad": 0.2,
    }
    left.legend(loc="lower left", **shown)
    style.heading(fig, title)
    style.remember(fig, table.rename_axis("method").reset_index())
    return fig


def _number(ax: Axes, value: float, line: int, text: str) -> None:
    ax.annotate(
        text,
        (value, line),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL,
        color=style.INK,
    )
