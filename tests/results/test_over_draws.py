"""The intervals over videos and classes, all that an episode has: nominal where the truth is known by construction."""

import numpy as np
import pytest

from vidlib.results.intervals import clustered, half_width, students_t
from vidlib.results.over_draws import over_classes, over_videos

CLASSES, VIDEOS, EPISODES, WAY = 8, 16, 1000, 3


def _drawn(seed, of_video, of_class=0.0):
    """Episodes whose value is the sum of what their videos and classes bring, and noise; the truth is 0."""
    rng = np.random.default_rng(seed)
    bring = of_video * rng.normal(size=(CLASSES, VIDEOS)) + of_class * rng.normal(size=(CLASSES, 1))
    classes = rng.permuted(np.tile(np.arange(CLASSES), (EPISODES, 1)), axis=1)[:, :WAY]
    first = rng.integers(VIDEOS, size=classes.shape)
    query = (first + rng.integers(1, VIDEOS, size=classes.shape)) % VIDEOS
    videos = np.concatenate([classes * VIDEOS + first, classes * VIDEOS + query], 1)
    return bring.ravel()[videos].mean(1) + rng.normal(size=EPISODES), videos, classes


CLS = np.repeat(np.arange(CLASSES), VIDEOS)
HALVES = {
    "episodes": lambda values, videos, classes: half_width(values),
    "queries": lambda values, videos, classes: clustered(values, videos[:, WAY]),
    "over_videos": lambda values, videos, classes: over_videos(values, videos, CLS),
    "over_classes": lambda values, videos, classes: over_classes(values, classes, CLASSES),
}


def _held(of_video, of_class):
    """How often each holds the truth."""
    draws = [_drawn(seed, of_video, of_class) for seed in range(300)]
    return {name: np.mean([abs(one[0].mean()) <= half(*one) for one in draws]) for name, half in HALVES.items()}


@pytest.mark.parametrize("of_video", [0.5, 2.0])
def test_fresh_videos_are_held_and_episodes_or_queries_alone_are_not_enough(of_video):
    held = _held(of_video, 0.0)
    assert 0.925 <= held["over_videos"] <= 0.98
    if of_video == 2:
        assert held["episodes"] < 0.6 and held["queries"] < 0.87


def test_fresh_classes_are_held():
    held = _held(0.5, 1.0)
    assert 0.92 <= held["over_classes"] <= 0.98 and held["over_videos"] < 0.8


def test_what_leaving_one_out_moves_the_mean_by():
    """Without noise of its own (all episodes of every pair of 3 classes, M = 2) it is the jackknife, to the digit."""
    bring, pairs = np.array([0.0, 1.0, 5.0]), np.array([[0, 1], [0, 2], [1, 2]])
    values = bring[pairs].mean(1)
    left_out = np.array([values[(pairs != c).all(1)].mean() for c in range(3)])
    jackknife = 2 / 3 * np.square(left_out - left_out.mean()).sum()
    own, again = np.square(values - values.mean()).sum() / 9, 2 * (3 - 1) / (3 - 2) - 1
    left = max(own, jackknife - again * own)
    freedom = max(1, int(2 * (left / jackknife) ** 2))
    assert over_classes(values, pairs, 3) == pytest.approx(students_t(freedom) * np.sqrt(left))


def test_too_few_to_say_is_infinite():
    values, videos, _ = _drawn(0, 1.0)
    assert over_classes(values, np.tile(np.arange(WAY), (len(values), 1)), WAY) == np.inf
    assert over_videos(values[:1], videos[:1], CLS) == np.inf
