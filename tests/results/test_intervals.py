"""Intervals hold what they say: simulated coverage of each, with a fixed seed, and how they are written."""

import numpy as np
import pytest

from vidlib.results.accuracy import Evaluation, paired
from vidlib.results.intervals import cell, clustered, each_called, gap_of_shares, half_width, over_seeds, wilson

REPEATS = 400
CLASSES, VIDEOS = 24, 16  # of a test split, videos of each class


def covers(low: float, high: float, truth: float) -> bool:
    return low <= truth <= high


@pytest.mark.parametrize(("number", "share"), [(64, 0.03), (20, 0.98)])
def test_wilsons_interval_covers_where_students_t_does_not(number, share):
    rng = np.random.default_rng(7)
    drawn = (rng.random((4000, number)) < share).astype(float)
    ours = np.mean([covers(*wilson(hits.sum(), number), share) for hits in drawn])
    students = np.mean([abs(hits.mean() - share) <= half_width(hits) for hits in drawn])
    assert 0.93 <= ours <= 0.97 and students < 0.88


def test_a_share_stays_within_0_and_1():
    assert wilson(0, 20)[0] == 0 and wilson(20, 20)[1] == 1 and 0.8 < wilson(20, 20)[0] < 1
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4), "as tables print it"


def test_the_difference_of_two_shares_covers_where_few_videos_differ():
    rng = np.random.default_rng(3)
    drawn = rng.choice([-1.0, 0.0, 1.0], p=[0.01, 0.95, 0.04], size=(4000, 40))
    ours = np.mean([covers(*gap_of_shares(gaps), 0.03) for gaps in drawn])
    assert ours >= 0.93 > np.mean([abs(gaps.mean() - 0.03) <= half_width(gaps) for gaps in drawn])
    low, high = gap_of_shares(np.zeros(20))
    assert low < 0 < high, "20 videos that agree do not show that all would"


def drawn_test(rng: np.random.Generator, of_class: float, of_video: float, episodes: int = 600, way: int = 5):
    """A test whose answers go together within classes and within videos; on average 6 of 10 are right."""
    chance = 0.6 + of_class * rng.uniform(-1, 1, CLASSES)[:, None] + of_video * rng.uniform(-1, 1, (CLASSES, VIDEOS))
    truth = np.stack([rng.choice(CLASSES, way, replace=False) for _ in range(episodes)])
    video, other = rng.integers(VIDEOS, size=truth.shape), rng.integers(1, VIDEOS, size=truth.shape)
    hits = rng.random(truth.shape) < chance[truth, video]
    own = {"split": "test", "classes": tuple(map(str, range(CLASSES))), "checksum": "one", "how": "", "seconds": 0.0}
    own |= {"truth": truth.ravel(), "predicted": np.where(hits, truth, (truth + 1) % CLASSES).ravel()}
    own |= {"episode": np.repeat(np.arange(episodes), way), "query": (truth * VIDEOS + video).ravel()}
    own |= {"support": truth * VIDEOS + (video + other) % VIDEOS, "of_row": np.repeat(np.arange(CLASSES), VIDEOS)}
    return Evaluation("episode", per_trial=hits.mean(1), margin=np.ones(truth.size), **own)


@pytest.mark.parametrize(("varies", "of_class", "of_video"), [("classes", 0.3, 0.05), ("videos", 0.0, 0.4)])
def test_what_varies_is_covered_by_its_own_interval_alone(varies, of_class, of_video):
    rng = np.random.default_rng(11)
    covered = {"episodes": 0, varies: 0}
    for _ in range(REPEATS):
        one = drawn_test(rng, of_class, of_video)
        for kind in covered:
            covered[kind] += abs(one.accuracy - 0.6) <= one.intervals[kind]
    assert 0.92 <= covered[varies] / REPEATS <= 0.98 and covered["episodes"] / REPEATS < 0.85


def test_paired_differences_have_them_too():
    rng = np.random.default_rng(5)
    covered = {"episodes": 0, "classes": 0}
    for _ in range(REPEATS):
        a, b = drawn_test(rng, 0.3, 0.05), drawn_test(rng, 0.3, 0.05)
        b.truth, b.query, b.support = a.truth, a.query, a.support  # the same questions, other answers
        b.predicted = np.where(rng.random(a.truth.size) < 0.6 + (a.truth - 11.5) / 60, a.truth, a.truth + 1)
        b.per_trial = b.hits.reshape(-1, 5).mean(1)
        gap = paired(a, b)
        assert gap.difference == pytest.approx((a.hits - b.hits).mean())
        for kind in covered:
            covered[kind] += abs(gap.difference) <= gap.intervals[kind]
    assert covered["classes"] / REPEATS >= 0.92 > 0.8 > covered["episodes"] / REPEATS


def test_clusters_of_one_size_are_their_means():
    values = np.random.default_rng(0).random((6, 5))
    assert clustered(values.ravel(), np.repeat(np.arange(6), 5)) == pytest.approx(half_width(values.mean(1)))
    assert clustered(values.ravel(), np.zeros(30)) == float("inf")


def test_answers_that_are_all_alike_give_no_interval_of_their_spread():
    record = {"accuracy": 1.0, "interval": 0.071, "videos": 50, "low": 0.929, "high": 1.0}
    record["intervals"] = {"videos": 0.071, "classes": clustered(np.ones(50), np.arange(50) % 5)}
    assert cell([record]) == "100.0% (92.9 to 100.0 videos), classes unknown"
    assert each_called({"seeds": half_width(np.full(3, 0.23774))}) == "seeds unknown", "rounding is no spread"


def test_cells_call_every_interval_what_it_is():
    record = {"accuracy": 0.473, "interval": 0.009, "episodes": 2000}
    record["intervals"] = {"episodes": 0.009, "videos": 0.021, "classes": 0.069}
    assert cell([record]) == "47.3% ± 0.9 episodes, ± 2.1 videos, ± 6.9 classes"
    other = record | {"accuracy": 0.493}
    mean, halves = over_seeds([record, other])
    assert mean == pytest.approx(0.483) and halves["seeds"] == pytest.approx(half_width(np.array([0.473, 0.493])))
    assert cell([record, other]).endswith(" seeds, ± 0.9 episodes, ± 2.1 videos, ± 6.9 classes")
    videos = {"accuracy": 0.98, "interval": 0.1, "videos": 50, "low": 0.895, "high": 0.9965}
    videos["intervals"] = {"videos": 0.1, "classes": None}
    assert cell([videos]) == "98.0% (89.5 to 99.7 videos), classes unknown"
    assert (
        each_called({"episodes": 0.5, "videos": None, "classes": None}) == "± 50.0 episodes, videos and classes unknown"
    )
