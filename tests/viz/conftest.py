"""Figures are drawn without a screen and closed after each test; drawing must not warn."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest


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


def overlapping(found: list) -> list[tuple[int, int]]:
    """Pairs of boxes that share more than a sliver."""
    pairs = []
    for i, one in enumerate(found):
        for j, other in enumerate(found[:i]):
            common = one.intersection(one, other)
            if common is not None and common.width > 1 and common.height > 1:
                pairs.append((j, i))
    return pairs
