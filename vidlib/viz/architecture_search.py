"""A search over training: how the weight of every candidate moves, one panel for each choice, and where it ends.

A method's ``watched()`` names its weights GROUP.CANDIDATE, such as "s2<s0.GP1"; a run's metrics.jsonl has them step by
step. The weights of a group add up to one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.viz import style

ACROSS = 4  # panels in a row
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
EDGE = "edge"
KEY = {"frameon": False, "loc": "upper right", "ncols": 3, "handlelength": 2.6}
WORDS = {"out": "output", "branch": "temporal modules"}


def groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Watched names by group, in their order: ``{"s1<s0": ["s1<s0.GP1", ...], ..., "out": [...]}``."""
    by_group: dict[str, list[str]] = {}
    for name in names:
        group, dot, _ = name.rpartition(".")
        if dot and ("<" in group or group in WORDS):
            by_group.setdefault(group, []).append(name)
    return by_group


@style.figure
def plot(metrics: pd.DataFrame, *, x: str = "episode", title: str = "") -> Figure:
    """One panel for each choice of the search: the weight of every candidate over the training ``x``.

    ``metrics`` is a run's metrics.jsonl as a table. Candidates with the same name have the same look in all panels.
    """
    choices = groups(list(metrics))
    if not choices or not len(metrics):
        raise UserError("metrics: this run searched nothing, so there is nothing to draw")
    across = 2 if style.narrow() else ACROSS
    rows = -(-len(choices) // across)
    size = style.page(11.5, 0.5 + 2.35 * rows, lines=style.narrow())
    fig = style.new_figure(size, "constrained")
    grid = fig.subplots(rows, across, squeeze=False, sharex=True)
    for ax, (group, names) in zip(grid.flat, choices.items(), strict=False):
        for i, name in enumerate(names):
            look = {"color": style.CYCLE[i], "linestyle": DASHES[i], "linewidth": 1.6}
            ax.plot(metrics[x], metrics[name], label=name.rpartition(".")[2], **look)
        style.dress(ax)
        ax.set_title(heading(group), fontsize=style.NORMAL, loc="left", color=style.INK)
        own = _kind(group) != EDGE
        _limits(ax, metrics[names].to_numpy(float), room=_room(len(names), size[1] / rows) if own else 0.0)
        if own:
            ax.legend(
                fontsize=style.SMALL, frameon=False, loc="upper left", ncols=3, handlelength=2.6, columnspacing=1.0
            )
    for ax in grid.flat[len(choices) :]:
        ax.set_axis_off()
    fig.supxlabel(f"training {x}", fontsize=style.NORMAL)
    fig.supylabel("weight", fontsize=style.NORMAL)
    style.heading(fig, title, room=1.8 if style.narrow() else 3.0)
    style.remember(fig, metrics[[x, *(name for names in choices.values() for name in names)]])
    edges = next((ax for ax, group in zip(grid.flat, choices, strict=False) if _kind(group) == EDGE), None)
    if edges is not None:  # one key for all edges, clear of their lines
        lines = edges.get_lines()
        fig.legend(lines, [line.get_label() for line in lines], fontsize=style.SMALL, **KEY)
    return fig


def _kind(group: str) -> str:
    return EDGE if "<" in group else group


def _room(names: int, tall: float) -> float:
    """The share of a panel, about six tenths of its ``tall`` inches, that a key of so many names takes."""
    letters = 1.5 * -(-names // 3) + 1.2
    return letters * style.SMALL / 72 / (0.6 * tall)


def _limits(ax: Axes, values: np.ndarray, room: float) -> None:
    """All that there is, never so near that a thousandth looks like a jump, and ``room`` above for a key (a share)."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05) * 1.12
    bottom, top = max(0.0, middle - half), min(1.0, middle + half)
    ax.set_ylim(bottom, top + room / (1 - room) * (top - bottom))


def heading(group: str) -> str:
    """``s2<s0`` as it is read: "s2 from s0"."""
    return WORDS.get(group) or " from ".join(group.split("<"))


def standing(watched: Mapping[str, float]) -> pd.DataFrame:
    """Where the search stands: a row for each choice, the weights of its candidates and the strongest of them."""
    rows = {}
    for group, names in groups(list(watched)).items():
        weights = {name.rpartition(".")[2]: watched[name] for name in names}
        strongest = max(weights, key=weights.get)
        shown = ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())
        rows[heading(group)] = {"strongest": strongest, "weight": weights[strongest], "all": shown}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["strongest", "weight", "all"]).rename_axis("choice")
