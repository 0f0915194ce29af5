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
    fontsize: float | None = None,
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
            fontsize=fontsize or sizes().small,
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
