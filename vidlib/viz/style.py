"""One style for every figure: colours that the colour-blind tell apart, that differ in grey, and shapes beside them.

The two origins of a number never share a look: what we ran is a blue disc with an interval, what a paper printed is an
orange, hatched square. A dashed outline is a figure that nobody checked.
"""

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from vidlib.paths import atomic_write

# From Okabe and Ito's palette, ordered from dark to light so that grey keeps the order.
INK, BLUE, RED, GREEN, ORANGE, SKY, GREY = "#222222", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#8A8A8A"
CYCLE = (BLUE, ORANGE, GREEN, RED, SKY, GREY)
LOOK: Mapping[str, dict] = {
    "ours": {"marker": "o", "facecolor": BLUE, "edgecolor": INK, "hatch": None},
    "published": {"marker": "s", "facecolor": "#F6D58E", "edgecolor": "#7A5200", "hatch": "/////"},
}
UNCHECKED = ("recalled", "seed")
SHORT_MARKS = {"recalled": "[recalled, unchecked]", "seed": "[unchecked]"}
SMALL, NORMAL, TITLE = 8.0, 9.5, 11.0
DPI = 150


def new_axes(width: float, height: float, **kwargs: object) -> Axes:
    """A new figure of ``width`` by ``height`` inches with one axes."""
    return plt.subplots(figsize=(width, height), **kwargs)[1]


def dress(ax: Axes, xlabel: str = "", ylabel: str = "", grid: str | None = "both") -> Axes:
    """Labels, a light grid behind the data, no box."""
    ax.set_xlabel(xlabel, fontsize=NORMAL)
    ax.set_ylabel(ylabel, fontsize=NORMAL)
    ax.tick_params(labelsize=SMALL + 0.5, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    if grid:
        ax.grid(True, axis=grid, color="#E4E4E4", linewidth=0.7)
        ax.set_axisbelow(True)
    return ax


def title(ax: Axes, text: str, pad: float = 7.0) -> None:
    """A title over ``ax``, flush left and wrapped to its width; last, when the layout has settled."""
    if text:
        ax.figure.draw_without_rendering()
        inches = ax.get_position().width * ax.figure.get_figwidth()
        ax.set_title(wrap(text, title_width(inches)), fontsize=TITLE, loc="left", color=INK, pad=pad)


def title_width(inches: float) -> int:
    """Characters of a title that surely fit into so many inches."""
    return int(inches * 72 / (TITLE * 0.56))


def wrap(text: str, width: int) -> str:
    """``text`` broken into lines of at most ``width`` characters; line breaks already there stay."""
    return "\n".join(
        itertools.chain.from_iterable(textwrap.wrap(line, max(width, 8)) or [""] for line in text.split("\n"))
    )


def save(fig: Figure, folder: str | Path, name: str, data: pd.DataFrame, formats: Sequence[str] = ("png",)) -> Path:
    """Write ``name``.png (or other ``formats``) and ``name``.csv, the table that was drawn; returns the first picture.

    Each file is written to a temporary name and renamed; nothing is cut off, since the page grows to hold all text.
    """
    folder = Path(folder)
    for ending in formats:
        with atomic_write(folder / f"{name}.{ending}") as temporary:
            fig.savefig(temporary, format=ending, dpi=DPI, bbox_inches="tight", facecolor="white")
    with atomic_write(folder / f"{name}.csv") as temporary:
        data.to_csv(temporary, index=False)
    return folder / f"{name}.{formats[0]}"


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred running mean over ``window`` values, over what there is at both ends; NaN values are left out."""
    return pd.Series(np.asarray(values, float)).rolling(max(1, window), center=True, min_periods=1).mean().to_numpy()


def place_labels(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    radii: Sequence[float],
    avoid: Iterable[Bbox] = (),
    fontsize: float = SMALL,
) -> list[Annotation]:
    """Write each text beside its point (data units; ``radii`` in typographic points) without overlaps or cut-off text.

    For one label after the other, from left to right, the places around its point are tried from near to far, and the
    first one is taken that lies inside the axes and touches no point, no earlier label and nothing in ``avoid`` (boxes
    in pixels); where none is free, the place with the least overlap. A line leads to labels that had to go far.
    Limits and layout of the axes must be final. The same input gives the same places.
    """
    fig = ax.figure
    fig.draw_without_rendering()  # settles a layout engine, so that pixels mean something
    renderer, pixel = fig.canvas.get_renderer(), fig.dpi / 72
    centres = ax.transData.transform(np.asarray(points, float).reshape(-1, 2))
    discs = [Bbox.from_extents(*(c - r * pixel), *(c + r * pixel)) for c, r in zip(centres, radii, strict=True)]
    taken, frame = [*discs, *avoid], ax.get_window_extent(renderer)
    order = sorted(range(len(texts)), key=lambda i: (centres[i][0], -centres[i][1], texts[i]))
    made: dict[int, Annotation] = {}
    for i in order:
        label = ax.annotate(
            texts[i],
            points[i],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=fontsize,
            ha="center",
            va="center",
            color=INK,
            linespacing=1.05,
            zorder=6,
        )
        label.set_in_layout(False)
        box = label.get_window_extent(renderer)
        ring, box = _best(_places(centres[i], radii[i] * pixel, box.width, box.height, pixel), taken, frame)
        label.set_position(tuple((np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2 - centres[i]) / pixel))
        taken.append(box)
        if ring >= 2:
            edge = np.clip(centres[i], box.min, box.max)
            leader = ax.annotate(
                "",
                points[i],
                xytext=tuple((edge - centres[i]) / pixel),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkA": 0, "shrinkB": radii[i]},
                zorder=5,
            )
            leader.set_in_layout(False)
        made[i] = label
    return [made[i] for i in range(len(texts))]


def _places(centre: np.ndarray, radius: float, width: float, height: float, pixel: float) -> Iterator[tuple[int, Bbox]]:
    """Boxes around a point: (ring, box), rings from near to far, in each ring the sides before the corners."""
    width, height = width + 3 * pixel, height + 2 * pixel  # a little air
    for ring in range(12):
        gap = radius + (2 + 8 * ring) * pixel
        for angle in (0, 180, 90, 270, 45, 315, 135, 225, 22.5, 157.5, 337.5, 202.5):
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle = centre + np.array([c * (gap + width / 2), s * (gap + height / 2)])
            yield ring, Bbox.from_bounds(middle[0] - width / 2, middle[1] - height / 2, width, height)


def _best(places: Iterable[tuple[int, Bbox]], taken: list[Bbox], frame: Bbox) -> tuple[int, Bbox]:
    """The first free place, else the first of those with the least overlap."""
    least, best = math.inf, None
    for place in places:
        overlap = _overlap(place[1], taken, frame)
        if overlap < least:
            least, best = overlap, place
        if overlap < 0.5:
            break
    return best


def _overlap(box: Bbox, taken: Iterable[Bbox], frame: Bbox) -> float:
    """Area of ``box``, in pixels, that lies on something taken or outside the frame."""
    inside = Bbox.intersection(box, frame)
    total = box.width * box.height - (inside.width * inside.height if inside else 0.0)
    for other in taken:
        common = Bbox.intersection(box, other)
        total += common.width * common.height if common else 0.0
    return total
