"""Figures are drawn without a screen and closed after each test; drawing must not warn."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def frames() -> np.ndarray:
    """A small clip: 4 frames of 24 x 32 pixels."""
    return np.random.default_rng(0).integers(0, 255, (4, 24, 32, 3)).astype(np.uint8)


def boxes(artists) -> list:
    """Extents in pixels of artists that show something, after drawing their figure."""
    artists = [a for a in artists if a.get_visible() and getattr(a, "get_text", lambda: "x")()]
    artists[0].figure.draw_without_rendering()
    renderer = artists[0].figure.canvas.get_renderer()
    return [a.get_window_extent(renderer) for a in artists]


def overlapping(extents: list) -> list[tuple[int, int]]:
    """Pairs of boxes that share more than a sliver."""
    pairs = []
    for i, one in enumerate(extents):
        for j, other in enumerate(extents[:i]):
            common = one.intersection(one, other)
            if common is not None and common.width > 1 and common.height > 1:
                pairs.append((j, i))
    return pairs


def words_over_words(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie over each other; slanted ones, whose boxes are larger than they are, left out."""
    hidden = _beyond_limits(figure)
    words = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]
    words = [text for text in words if text.get_rotation() % 90 == 0]
    return [(words[i].get_text(), words[j].get_text()) for i, j in overlapping(boxes(words))]


def _beyond_limits(figure: Figure) -> set[Text]:
    """Texts of ticks beyond the limits of their axes, which are not drawn."""
    hidden = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        hidden |= {t for tick in ticks if not low <= tick.get_loc() <= high for t in (tick.label1, tick.label2)}
    return hidden
