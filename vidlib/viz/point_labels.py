"""Labels beside points: none on another, on a point or outside the axes."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from vidlib.viz.paper import sizes

INK, GREY = "#222222", "#8A8A8A"


def place_labels(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    radii: Sequence[float],
    avoid: Iterable[Bbox] = (),
) -> list[Annotation]:
    """Write each text beside its point (data units; ``radii`` in typographic points) without overlaps or cut-off text.

    For one label after the other, from left to right, the places around its point are tried from near to far, and the
    first one is taken that lies inside the axes and touches no point, no earlier label and nothing in ``avoid`` (boxes
    in pixels); where none is free, the place with the least overlap. A line leads to labels that had to go far.
    Limits and layout of the axes must be final. The same input gives the same places.
    """
    ax.figure.draw_without_rendering()  # settles a layout engine, so that pixels mean something
    renderer, pixel = ax.figure.canvas.get_renderer(), ax.figure.dpi / 72
    centres = ax.transData.transform(np.asarray(points, float).reshape(-1, 2))
    taken, frame = [*discs(ax, points, radii), *avoid], ax.get_window_extent(renderer)
    order = sorted(range(len(texts)), key=lambda i: (centres[i][0], -centres[i][1], texts[i]))
    made: dict[int, Annotation] = {}
    for i in order:
        label = ax.annotate(
            texts[i],
            points[i],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=sizes().small,
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


def place_words(
    ax: Axes, edges: Sequence[tuple[float, float]], texts: Sequence[str], avoid: Iterable[Bbox] = ()
) -> list[Bbox]:
    """Write each text at an end of a band across the axes: just over or under it, or further off where that is taken.

    ``edges`` are the bands' lower and upper ends (data units). Otherwise as ``place_labels``, from the highest band to
    the lowest; returns the texts' boxes in pixels.
    """
    ax.figure.draw_without_rendering()
    renderer, pixel = ax.figure.canvas.get_renderer(), ax.figure.dpi / 72
    taken, frame = list(avoid), ax.get_window_extent(renderer)
    made: dict[int, Bbox] = {}
    for i in sorted(range(len(texts)), key=lambda i: (-edges[i][1], texts[i])):
        low, high = ax.transData.transform([(1.0, edges[i][0]), (1.0, edges[i][1])])[:, 1]
        words = {"fontsize": sizes().small, "color": INK, "ha": "center", "va": "center", "zorder": 6}
        text = ax.text(0.0, 0.0, texts[i], transform=ax.transAxes, **words)
        text.set_in_layout(False)
        box = text.get_window_extent(renderer)
        _, made[i] = _best(_ends(low, high, box.width, box.height, frame, pixel), taken, frame)
        text.set_position(ax.transAxes.inverted().transform((made[i].min + made[i].max) / 2))
        taken.append(made[i])
    return [made[i] for i in range(len(texts))]


def discs(ax: Axes, points: Sequence[tuple[float, float]], radii: Sequence[float]) -> list[Bbox]:
    """The boxes in pixels around points (data units) of these radii (typographic points)."""
    pixel, centres = ax.figure.dpi / 72, ax.transData.transform(np.asarray(points, float).reshape(-1, 2))
    return [Bbox.from_extents(*(c - r * pixel), *(c + r * pixel)) for c, r in zip(centres, radii, strict=True)]


def _ends(
    low: float, high: float, width: float, height: float, frame: Bbox, pixel: float
) -> Iterator[tuple[int, Bbox]]:
    """Boxes along a band from ``low`` to ``high``, in pixels: (lines away from it, box), right before left."""
    for ring in range(8):
        for bottom in (high + 3 * pixel + ring * height, low - 3 * pixel - (ring + 1) * height):
            for left in (frame.x1 - width - 3 * pixel, frame.x0 + 3 * pixel):
                yield ring, Bbox.from_bounds(left, bottom, width, height)


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
