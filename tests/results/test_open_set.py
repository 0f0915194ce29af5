"""Open set by hand: AUROC by counting pairs, thresholds, shares, intervals; and queries that no class of theirs has."""

import dataclasses

import numpy as np
import pytest

from tests.tiny import Tiny, TinyClips, sampler, texts
from vidlib.basics.errors import UserError
from vidlib.data.episodes import EpisodeSampler, Outside
from vidlib.results import open_set
from vidlib.training.evaluate_episodes import evaluate, evaluate_outside

EPISODES = 60


@pytest.fixture(scope="module")
def asked() -> dict:
    method = Tiny().eval()

    def both(split: str) -> tuple:
        listed = (method, TinyClips(split, 1.0), sampler(split, way=2, query=2), EPISODES, texts(split))
        return evaluate(*listed, device="cpu", keep_parts=True), evaluate_outside(*listed, device="cpu")

    return {split: both(split) for split in ("val", "test")}


def test_unknown_queries_are_of_none_of_the_episodes_classes_and_follow_from_its_number():
    inside = sampler("test", way=3, shot=(1, 2, 1), query=2)
    outside = Outside(inside)
    rows = TinyClips("test").rows
    for i in range(40):
        own, other = inside[i], outside[i]
        assert len(other.query) == len(own.query) == len(set(other.query.tolist()))
        assert not {rows[row].cls for row in other.query} & set(own.classes)
        assert np.array_equal(own.support, other.support) and np.array_equal(own.class_ids, other.class_ids)
        assert np.array_equal(other.query, Outside(sampler("test", way=3, shot=(1, 2, 1), query=2))[i].query)
    named = [outside.classes[c] for c in outside.asked(40)]
    assert named == [rows[row].cls for i in range(40) for row in outside[i].query]
    drawn = np.concatenate([outside[i].query for i in range(40)])
    assert len(set(drawn.tolist())) == len(rows), "every video is drawn sometimes"
    assert outside.checksum(5) != inside.checksum(5)


def test_an_episode_of_all_classes_leaves_none_outside():
    with pytest.raises(UserError, match="way: 5 of the 5 classes.*leave 0 videos.*fewer ways"):
        Outside(sampler("test", way=5))
    assert isinstance(Outside(sampler("test", way=4, query=1)), EpisodeSampler)
    with pytest.raises(UserError, match="leave 6 videos.*8 queries"):
        Outside(sampler("test", way=4, query=2))


def literal_auroc(known, unknown) -> float:
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in known for b in unknown]
    return sum(wins) / len(wins)


def test_auroc_counts_pairs_and_the_curve_encloses_it():
    known, unknown = np.array([0.9, 0.5, 0.5, 0.8, 0.2]), np.array([0.1, 0.5, 0.8, 0.3])
    assert open_set.auroc(known, unknown) == pytest.approx(literal_auroc(known, unknown))
    assert open_set.auroc(unknown, known) == pytest.approx(1 - literal_auroc(known, unknown))
    false, true = open_set.curve(known, unknown)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(literal_auroc(known, unknown))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.95, 1.0])
def test_the_threshold_is_the_largest_that_keeps_the_share(kept):
    known = np.random.default_rng(0).random(37).round(2)
    limit = open_set.threshold(known, kept)
    assert (known >= limit).mean() >= kept
    larger = sorted(v for v in known if v > limit)
    assert not larger or (known >= larger[0]).mean() < kept


@pytest.mark.parametrize("score", open_set.SCORES)
def test_what_is_measured_is_what_the_scores_say(asked, score):
    (known, unknown), (val, _) = asked["test"], asked["val"]
    found = open_set.measure(known, unknown, val, score=score, kept=0.9)

    def by_hand(evaluation) -> np.ndarray:
        rows = [row for logits in evaluation.logits for row in logits.astype(float)]
        return np.array([max(row) if score == "logit" else max(np.exp(row) / np.exp(row).sum()) for row in rows])

    inside, outside = by_hand(known), by_hand(unknown)
    assert found["auroc"] == pytest.approx(literal_auroc(inside, outside)) and 0 < found["auroc"] < 1
    assert found["threshold"] == pytest.approx(open_set.threshold(by_hand(val), 0.9))
    assert found["known_kept"] == pytest.approx((inside >= found["threshold"] - 1e-12).mean())
    assert found["unknown_rejected"] == pytest.approx((outside < found["threshold"] - 1e-12).mean())
    assert set(found["auroc_half"]) == {"episodes", "videos", "classes"}
    draws, rng = [], np.random.default_rng(1)
    for _ in range(400):  # episodes drawn anew, each with its own queries of both kinds
        chosen = rng.integers(EPISODES, size=EPISODES)
        rows = (chosen[:, None] * 4 + np.arange(4)).ravel()
        draws.append(open_set.auroc(inside[rows], outside[rows]))
    assert found["auroc_half"]["episodes"] == pytest.approx(1.96 * np.std(draws), rel=0.25)


def test_no_answer_to_an_unknown_query_is_right(asked):
    known, unknown = asked["test"]
    assert unknown.accuracy == 0 and not (unknown.truth == unknown.predicted).any() and known.accuracy > 0.5
    assert open_set.auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    cool, warm = (open_set.scores(known, "softmax", t) for t in (1.0, 3.0))
    assert (warm < cool).all() and np.argmax(warm) == np.argmax(cool), "two ways keep their order at any temperature"


def test_what_cannot_be_scored_is_said(asked):
    known, _ = asked["test"]
    with pytest.raises(UserError, match="kept no logits"):
        open_set.scores(dataclasses.replace(known, logits=None))
    with pytest.raises(UserError, match="score: 'margin' is not one of logit, softmax"):
        open_set.scores(known, "margin")
