"""Clips as strips of frames, and a drawn episode as one strip per class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.viz import style

GAP = 0.06  # between frames, in widths of a frame


def to_uint8(clip: object, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """A normalised clip ``[T C H W]`` (tensor or array) back to pixels, uint8 ``[T H W C]``."""
    array = np.asarray(clip, dtype=np.float32)
    shape = (1, -1, 1, 1)
    array = array * np.reshape(np.asarray(std, np.float32), shape) + np.reshape(np.asarray(mean, np.float32), shape)
    return (np.clip(array.transpose(0, 2, 3, 1), 0, 1) * 255).round().astype(np.uint8)


def joined(images: np.ndarray, fill: float = 255, axis: int = 1) -> np.ndarray:
    """Images ``[T H W ...]`` beside each other (``axis`` 0: one under the other), gaps of ``fill`` between them.

    One image is drawn many times faster than T.
    """
    gap = air(images.shape[1 + axis])
    room = [(0, 0)] * (images.ndim - 1)
    room[axis] = (0, gap)
    whole = np.concatenate([np.pad(image, room, constant_values=fill) for image in images], axis)
    return whole[:, :-gap] if axis else whole[:-gap]


def air(pixels: int) -> int:
    """Pixels between images of this width in ``joined``."""
    return max(1, round(0.04 * pixels))


@style.figure
def clip(
    frames: np.ndarray, ax: Axes | None = None, *, title: str = "", numbers: bool = True, edge: str | None = None
) -> Axes:
    """One clip ``[T H W 3]`` (uint8, or float from 0 to 1) as a row of frames, in time from left to right.

    ``numbers`` writes the frames' numbers, from 1, below; ``edge`` is the colour of a line round each frame.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise UserError(f"frames: a clip is [frames, height, width, 3], not {list(frames.shape)}")
    count, height, width, _ = frames.shape
    tall, own = height / width, ax is None
    if own:
        ax = style.new_axes(min(1.3 * count, 13.0), min(1.3 * count, 13.0) / count * tall + 0.5)
    for number, frame in enumerate(frames):
        left = number * (1 + GAP)
        ax.imshow(frame, extent=(left, left + 1, tall, 0), interpolation="none", aspect="equal")
        if edge:
            ax.add_patch(plt.Rectangle((left, 0), 1, tall, fill=False, edgecolor=edge, linewidth=1.2, clip_on=False))
    ax.set_xlim(0, count * (1 + GAP) - GAP)
    ax.set_ylim(tall, 0)
    ax.set_xticks([n * (1 + GAP) + 0.5 for n in range(count)] if numbers else [])
    ax.set_xticklabels([str(n + 1) for n in range(count)] if numbers else [])
    ax.set_yticks([])
    ax.tick_params(length=0, labelsize=style.SMALL, pad=1)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, fontsize=style.NORMAL, loc="left", color=style.INK)
    if own:
        style.remember(ax, pd.DataFrame({"frame": range(1, count + 1)}))
    return ax


def table(support_labels: Sequence[int], query_labels: Sequence[int], classes: Sequence[str]) -> pd.DataFrame:
    """A drawn episode's clips: columns side (support or query), clip (from 0), label, class."""
    sides = {"support": support_labels, "query": query_labels}
    return pd.DataFrame(
        {"side": side, "clip": clip, "label": int(label), "class": classes[label]}
        for side, labels in sides.items()
        for clip, label in enumerate(labels)
    )


@style.figure
def episode(
    support: np.ndarray,
    support_labels: Sequence[int],
    query: np.ndarray,
    query_labels: Sequence[int],
    classes: Sequence[str],
    *,
    title: str = "",
    each: int = 1,
) -> Figure:
    """A drawn episode: one row per class, its support clips on the left and its query clips on the right.

    ``support [S T H W 3]`` and ``query [Q T H W 3]`` are pixels (uint8, or float from 0 to 1), labels count from 0 in
    the order of ``classes``. At most ``each`` clips a class are drawn on a side, and the headings say how many there
    are. Returns the figure.
    """
    support, query = np.asarray(support), np.asarray(query)
    sides = ((support, np.asarray(support_labels), "support"), (query, np.asarray(query_labels), "query"))
    rows, count = len(classes), support.shape[1]
    lines = rows * each
    wide = style.page(1.0 + 2 * 5.6, 1.0)[0]
    letters = 14 if style.narrow() else 22
    longest = max(len(line) for name in classes for line in style.wrap(name, letters).split("\n"))
    margin = max(
        0.5 if style.narrow() else 1.0, 0.0108 * style.NORMAL * 0.83 * longest + 0.2
    )  # room for the class names
    strip = (wide - margin - 0.33) / 2 if style.sizes().width else 5.6  # inches across one side
    tall = strip / (count * (1 + GAP) - GAP) * support.shape[2] / support.shape[3]
    words = max(style.wrap(name, letters).count("\n") + 1 for name in classes)
    air = max(0.1, (1.15 * words + 0.4) * style.NORMAL / 72 / each - tall)  # a name fits its line
    width = margin + 2 * strip + 0.33
    title = style.wrap(title, style.title_width(width))
    above = 0.38 + (0.2 * len(title.split("\n")) + 0.1 if title else 0.0)
    height = above + lines * (tall + air) + 0.15
    fig = style.new_figure((width, height))
    grid = fig.subplots(
        lines,
        2,
        squeeze=False,
        gridspec_kw={
            "left": margin / width,
            "right": 1 - 0.08 / width,
            "top": 1 - above / height,
            "bottom": 0.25 / height,
            "wspace": 0.25 / strip,
            "hspace": air / tall,
        },
    )
    for column, (clips, labels, name) in enumerate(sides):
        for label in range(rows):
            shown = clips[labels == label][:each]
            for line in range(each):
                ax = grid[label * each + line, column]
                if line < len(shown):
                    clip(
                        shown[line],
                        ax,
                        numbers=label == rows - 1 and line == min(each, len(shown)) - 1,
                        edge=style.BLUE if column == 0 else style.ORANGE,
                    )
                else:
                    ax.set_axis_off()
        most, least = (f(np.bincount(labels, minlength=rows)) for f in (max, min))
        of = f"{most} per class" if most == least else f"{least} to {most} per class"
        what = "labelled" if column == 0 else "to be classified"
        part = f", {each} shown" if most > each else ""
        heading = f"{name}, {of}{part}" if style.narrow() else f"{name}, {of}{part}: {what}"
        grid[0, column].set_title(heading, fontsize=style.NORMAL, loc="left", color=style.INK, pad=5)
    for label, name in enumerate(classes):
        ax = grid[label * each, 0]
        middle = 0.5 - (each - 1) / 2 * (1 + air / tall)  # of the class's lines, in heights of the first
        ax.text(
            -0.012,
            middle,
            style.wrap(name, letters),
            transform=ax.transAxes,
            ha="right",
            va="center",
            fontsize=style.NORMAL,
            color=style.INK,
        )
    style.remember(fig, table(support_labels, query_labels, classes))
    if title:
        fig.text(0.08 / width, 1 - 0.08 / height, title, fontsize=style.TITLE, ha="left", va="top", color=style.INK)
    return fig
