"""What an evaluation holds of either kind of trial: numbers by hand, files of today and of earlier days, pairs."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import LATER, Evaluation, harmonic, paired
from vidlib.results.intervals import cell, gap_of_shares, half_width, seed_interval, wilson
from vidlib.results.over_draws import over_classes, over_videos

CLASSES = tuple("abcdefg")
SURE = np.eye(7)[[0, 1, 2, 3]] * 0.5 + np.linspace(0.1, 0, 7)  # of four videos: a, b, c, d
OF_VIDEOS = {"split": "test", "classes": CLASSES, "checksum": "sum", "how": "1 view of each video", "seconds": 0.5}


def of_videos(truth: list[int], probabilities: np.ndarray = SURE) -> Evaluation:
    return Evaluation.of_videos(np.array(truth), probabilities, **OF_VIDEOS, controls={"text_order": "own"})


def of_episodes() -> Evaluation:
    """Two episodes of two ways, two queries in each: three of four are right, the last by a near-tie. Three videos a
    class, class 0 has rows 0 to 2."""
    asked = [
        SimpleNamespace(class_ids=np.array(ids), query_labels=np.array([0, 1]), query=np.array(q), support=np.array(s))
        for ids, q, s in (([4, 2], [12, 7], [14, 6]), ([1, 4], [3, 12], [4, 13]))
    ]
    logits = [np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([[0.0, 1.0], [0.5, 0.50001]])]
    known = {"split": "val", "classes": CLASSES, "of_row": np.repeat(np.arange(7), 3)}
    source = SimpleNamespace(**known, checksum=lambda number: f"list of {number}")
    return Evaluation.of_episodes(source, asked, logits, None, "embed once", 0.25)


def test_what_is_counted_of_videos():
    one = of_videos([0, 1, 3, 6])
    assert one.accuracy == 0.5 and one.top5 == 0.75 and one.chance == pytest.approx(1 / 7)
    assert one.ends == wilson(2, 4) and one.interval == pytest.approx(0.5 - one.ends[0])
    assert one.confusion[3, 2] == 1 and one.confusion.sum() == 4
    table = one.per_class().set_index("class")
    assert table.loc["d", "accuracy"] == 0 and np.isnan(table.loc["c", "accuracy"]) and table.loc["a", "videos"] == 1
    with pytest.raises(UserError, match="test video 2 are not finite"):
        of_videos([0, 1, 3, 6], np.where(np.arange(4)[:, None] == 2, np.nan, SURE))


def test_what_is_counted_of_episodes():
    one = of_episodes()
    assert one.accuracy == 0.75 and one.per_trial.tolist() == [1.0, 0.5] and one.near_ties == 1
    assert one.truth.tolist() == [4, 2, 1, 4] and one.predicted.tolist() == [4, 2, 4, 4]
    assert one.per_class()["queries"].tolist() == [0, 1, 1, 0, 2, 0, 0] and one.checksum == "list of 2"
    assert str(one).startswith("75.0% ± ") and "over 2 episodes (95% interval over episodes" in str(one)
    each, videos = np.array([1.0, 0.5]), np.array([[14, 6, 12, 7], [4, 13, 3, 12]])
    by = {
        "episodes": half_width(each),
        "videos": over_videos(each, videos, np.repeat(np.arange(7), 3)),
        "classes": over_classes(each, np.array([[4, 2], [1, 4]]), 7),
    }
    assert one.intervals == pytest.approx(by) and one.interval == one.intervals["episodes"]
    assert f"± {100 * by['videos']:.1f} videos, ± {100 * by['classes']:.1f} classes" in str(one)


@pytest.mark.parametrize("one", [of_videos([0, 1, 3, 6]), of_episodes()], ids=["videos", "episodes"])
def test_survives_saving(one, tmp_path):
    one.controls = {"frame_order": "shuffled", "text_order": "own"}
    one.save(tmp_path / "one.npz")
    again = Evaluation.load(tmp_path / "one.npz")
    assert again.summary() == one.summary() and again.trial == one.trial and again.controls == one.controls
    assert paired(one, again).difference == 0 and again.classes == one.classes


def test_files_of_earlier_days_are_read(tmp_path):
    """The keys are those of every run folder that there is, written here by hand."""
    same = {"split": "test", "classes": np.array(CLASSES), "checksum": "sum", "seconds": 0.5}
    same["controls"] = np.array([["frame_order", "in order"], ["text_order", "own"]])
    rows = {"episode": [0, 0, 1, 1], "truth": [4, 2, 1, 4], "predicted": [4, 2, 4, 4], "margin": [1.0, 3.0, 1.0, 1e-5]}
    rows = {name: np.array(values) for name, values in rows.items()}
    np.savez_compressed(
        tmp_path / "episodes.npz", **same, mode="each episode", per_episode=np.array([1.0, 0.5]), **rows
    )
    old = Evaluation.load(tmp_path / "episodes.npz")
    assert (old.trial, old.how, old.accuracy, old.near_ties) == ("episode", "each episode", 0.75, 1)
    assert (
        np.isnan(old.intervals["videos"]) and "videos and classes unknown" in str(old)
        and "videos and classes unknown" in str(paired(old, old))
    )  # fmt: skip
    assert old.summary()["intervals"]["videos"] is None and "videos and classes unknown" in cell([old.summary()])
    assert paired(of_episodes(), replace(old, checksum="list of 2")).intervals["videos"] == 0, "one of both knows"
    of_then = {key: value for key, value in old.summary().items() if key != "intervals"}
    assert cell([of_then]).endswith("episodes, videos and classes unknown")
    videos = {"views": "2 views of each video", "truth": np.array([0, 1, 3, 6]), "probabilities": SURE.astype("f4")}
    np.savez_compressed(tmp_path / "test.npz", **same, **videos)
    old = Evaluation.load(tmp_path / "test.npz")
    assert (old.trial, old.how, old.accuracy, old.top5) == ("video", "2 views of each video", 0.5, 0.75)
    assert old.controls == {"frame_order": "in order", "text_order": "own"} and old.classes == CLASSES
    for one in (old, of_episodes()):
        one.save(tmp_path / "new.npz")
        before = tmp_path / ("test.npz" if one.trial == "video" else "episodes.npz")
        added = set(LATER) if one.trial == "episode" else set()
        assert set(np.load(tmp_path / "new.npz").files) == set(np.load(before).files) | added


def test_the_record_has_the_keys_that_readers_know():
    shared = {
        "accuracy",
        "interval",
        "intervals",
        "interval_note",
        "checksum",
        "split",
        "seconds",
        "controls",
        "per_class",
    }
    assert set(of_episodes().summary()) == shared | {"episodes", "mode", "near_ties"}
    record = of_videos([0, 1, 3, 6]).summary()
    assert set(record) == shared | {"videos", "views", "top5", "chance", "classes", "low", "high"}
    assert (record["low"], record["high"]) == wilson(2, 4) and set(record["intervals"]) == {"videos", "classes"}
    assert set(of_episodes().summary()["intervals"]) == {"episodes", "videos", "classes"}
    assert record["per_class"] == {"a": 1.0, "b": 1.0, "d": 0.0, "g": 0.0} and record["classes"] == 7
    note = "95% interval over {}, conditional on one trained model and one set of classes"
    assert record["interval_note"] == note.format("videos")
    assert of_episodes().summary()["interval_note"] == note.format("episodes")


def test_pairs_are_of_the_same_trials():
    better, worse = of_videos([0, 1, 2, 6]), of_videos([0, 1, 3, 6])
    gap = paired(better, worse)
    ends = gap_of_shares(np.array([0.0, 0.0, 1.0, 0.0]))
    assert (gap.difference, gap.trials) == (0.25, 4) and gap.interval == pytest.approx(
        max(0.25 - ends[0], ends[1] - 0.25)
    )
    assert str(gap).startswith("+25.0 ± ") and str(gap).endswith("points over 4 paired videos")
    with pytest.raises(UserError, match="different videos"):
        paired(better, replace(worse, checksum="another"))


def test_interval_over_seeds_is_students_t():
    mean, half = seed_interval([0.5, 0.6, 0.7], single=0.01)
    assert mean == pytest.approx(0.6)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    assert seed_interval([0.5], single=0.01) == (0.5, 0.01)


def test_harmonic_mean():
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3) and harmonic(0.0, 0.9) == 0.0
