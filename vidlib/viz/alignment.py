"""How two clips align in time: the distances between their frames, and the path that OTAM takes through them.

`Tq` frames of the query, `Ts` of the support clip, `W` classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.viz import filmstrip, style

AIR = 0.12  # between cells and frames, in cells
FEWEST = 6  # frames that a row has room for, so that those of a shorter clip do not grow over their words


@style.figure
def plot(
    cost: np.ndarray,
    path: np.ndarray | None = None,
    ax: Axes | None = None,
    *,
    query: np.ndarray | None = None,
    support: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """A cell for each pair of frames, dark where they are near, and the path through it as a line with dots.

    ``cost [Tq Ts]`` are distances between frames (``matching.frame_cost``), ``path [P 2]`` the aligned pairs (query
    frame, support frame) in order (``matching.otam_path``). ``query [Tq H W 3]`` and ``support [Ts H W 3]``, if given,
    are shown beside their rows and above their columns.
    """
    cost = np.asarray(cost, float)
    if cost.ndim != 2 or not cost.size:
        raise UserError(f"cost: an alignment needs [query frames, support frames], not {list(cost.shape)}")
    rows, columns = cost.shape
    for name, clip, count in (("query", query, rows), ("support", support, columns)):
        if clip is not None and len(clip) != count:
            raise UserError(f"{name}: {len(clip)} frames do not fit {count} frames of the distances")
    ax = ax if ax is not None else style.new_axes(6.4, 5.6)
    image = ax.imshow(cost, cmap="Blues_r", interpolation="none", extent=(0, columns, rows, 0))
    left = top = 0.0
    if query is not None:
        left = _column(ax, query)
    if support is not None:
        top = _row(ax, support)
    if path is not None and len(path):
        q, s = np.asarray(path, float).T + 0.5
        ax.plot(s, q, color="white", linewidth=3.4, zorder=3)
        ax.plot(s, q, color=style.RED, marker="o", markersize=4, linewidth=1.6, markeredgecolor="white", zorder=4)
    style.dress(ax, "frame of the support clip", "frame of the query", grid=None)
    ax.set_xticks(np.arange(columns) + 0.5, range(1, columns + 1))
    ax.set_yticks(np.arange(rows) + 0.5, range(1, rows + 1))
    ax.set_xlim(left, columns)
    ax.set_ylim(rows, top)
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    style.bar(image, ax, "distance of frames (cosine, 0 to 2)", fraction=0.04)
    style.remember(ax, table(cost, path))
    style.title(ax, title)
    return ax


def _column(ax: Axes, clip: np.ndarray) -> float:
    """The query's frames left of their rows; the new left limit."""
    wide = min(clip.shape[2] / clip.shape[1], 2.0)
    whole = filmstrip.joined(clip, axis=0)
    ax.imshow(whole, extent=(-wide - AIR, -AIR, len(clip) - 0.02, 0.02), interpolation="none")
    return -wide - AIR


def _row(ax: Axes, clip: np.ndarray) -> float:
    """The support's frames over their columns; the new upper limit."""
    tall = min(clip.shape[1] / clip.shape[2], 2.0)
    whole = filmstrip.joined(clip)
    ax.imshow(whole, extent=(0.02, len(clip) - 0.02, -AIR, -tall - AIR), interpolation="none")
    return -tall - AIR


def table(cost: np.ndarray, path: np.ndarray | None = None) -> pd.DataFrame:
    """The drawn numbers: query_frame and support_frame (from 1), distance, step (place on the path, or NaN)."""
    steps = {(int(q), int(s)): i for i, (q, s) in enumerate(path if path is not None else ())}
    return pd.DataFrame(
        {"query_frame": q + 1, "support_frame": s + 1, "distance": value, "step": steps.get((q, s), np.nan)}
        for (q, s), value in np.ndenumerate(np.asarray(cost, float))
    )


@style.figure
def episode(
    query: np.ndarray,
    supports: np.ndarray,
    names: Sequence[str],
    distances: Sequence[float],
    shares: Sequence[float],
    cost: np.ndarray,
    path: np.ndarray | None = None,
    *,
    truth: int,
    shown: int,
    title: str = "",
) -> Figure:
    """One query of an episode: its frames, one support clip of each class with its distance, and one alignment.

    ``query [T H W 3]``, ``supports [W T H W 3]`` (pixels), ``names [W]``; ``distances [W]`` between the query and those
    clips, ``shares [W]`` (0 to 1) of the method's score. ``cost`` and ``path`` are between the query and the clip of
    class ``shown``; ``truth`` is the query's class. The table is that of ``plot``, with the classes' rows beside it.
    """
    ways = len(names)
    if not len(supports) == len(distances) == len(shares) == ways:
        raise UserError(f"supports, distances and shares: there must be one for each of {ways} classes")
    count, shape = query.shape[0], query.shape[1] / query.shape[2]
    letter = style.SMALL / 72
    wide, margins = style.page(12.0, 1.0)[0], (13 if style.narrow() else 8) * letter
    slots = max(count, FEWEST)
    side = (wide - margins) * (1.0 if style.narrow() else 0.53) / (1.04 * slots)  # inches of a frame
    pitch = shape + 1.9 * letter / side  # from one clip to the next, in frames
    strips, square = (1 + ways) * pitch * side, 0.34 * wide
    tall = (strips + 0.85 * wide if style.narrow() else max(strips, square)) + 8 * letter
    fig = style.new_figure((wide, tall))
    outer = {
        "left": (4.5 if style.narrow() else 1) * letter / wide,
        "right": 1 - 7.5 * letter / wide,
        "top": 1 - 3.4 * letter / tall,
    }
    outer |= {"bottom": 4.5 * letter / tall}
    if style.narrow():
        grid = fig.add_gridspec(2, 1, height_ratios=(strips, 0.8 * wide), hspace=0.1, **outer)
    else:
        grid = fig.add_gridspec(1, 2, width_ratios=(0.55, 0.45), wspace=0.12, **outer)
    left = fig.add_subplot(grid[0])
    guess = int(np.argmax(shares))
    _strip(left, query, 0.0, f"query: {names[truth]}", style.ORANGE)
    for line, clip in enumerate(supports, 1):
        cls = line - 1
        marks = [f"distance {distances[cls]:.2f}", f"{100 * shares[cls]:.0f}%"]
        marks += [word for word, of in (("guess", guess), ("true", truth), ("aligned", shown)) if cls == of]
        known = f" ({', '.join(marks)})"
        room = int(1.04 * slots * side / (0.62 * letter)) - len(known)
        name = names[cls] if len(names[cls]) <= room else f"{names[cls][: max(room, 6) - 1].rstrip()}…"
        words = name + known
        _strip(left, clip, line * pitch, words, style.BLUE, bold=cls == shown)
    left.set_xlim(-0.05, slots * 1.04)
    left.set_ylim(ways * pitch + shape, shape - pitch)
    left.set_aspect("equal")
    left.set_anchor("NW")
    left.set_axis_off()
    plot(cost, path, fig.add_subplot(grid[1]), query=query, support=supports[shown])
    rows = [{"class": n, "distance": d, "share": s} for n, d, s in zip(names, distances, shares, strict=True)]
    style.remember(fig, pd.DataFrame(rows).assign(true=[i == truth for i in range(ways)]))
    if title:
        style.heading(fig, title)
    return fig


def _strip(ax: Axes, clip: np.ndarray, top: float, words: str, color: str, bold: bool = False) -> None:
    """One clip as a row of frames, its words above."""
    shape = clip.shape[1] / clip.shape[2]
    ax.imshow(filmstrip.joined(clip), extent=(0, len(clip) * 1.04 - 0.04, top + shape, top), interpolation="none")
    weight = "bold" if bold else "normal"
    ax.text(0, top - 0.06, words, fontsize=style.SMALL, color=style.INK, weight=weight, va="bottom")
    ax.plot([-0.03, -0.03], [top, top + shape], color=color, linewidth=2.5)
