"""Calibration by hand: bins and their gaps by loops, a temperature by trying many, on answers drawn by chance."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.results.test_accuracy import of_videos
from tests.tiny import Tiny, TinyClips, sampler, texts
from vidlib.basics.errors import UserError
from vidlib.results import calibration
from vidlib.results.accuracy import Evaluation
from vidlib.training.evaluate_episodes import evaluate


def of_logits(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """An evaluation with one query an episode."""
    way = logits.shape[1]
    episodes = [
        SimpleNamespace(
            class_ids=np.arange(way), query_labels=np.array([own]), query=np.array([i]), support=np.array([0])
        )
        for i, own in enumerate(labels)
    ]
    names = tuple("abcdefgh"[:way])
    source = SimpleNamespace(split="test", classes=names, of_row=np.zeros(len(labels), int), checksum=str)
    return Evaluation.of_episodes(source, episodes, [row[None] for row in logits], [{} for _ in labels], "once", 0.0)


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the probability by which the label was drawn."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in chances])
    return logits, labels


def literal_bins(logits, labels, temperature, bins) -> list[tuple[float, float, int]]:
    answers = []
    for row, own in zip(logits, labels, strict=True):
        weights = [math.exp((value - max(row)) / temperature) for value in row]
        answers.append((max(weights) / sum(weights), float(int(np.argmax(row)) == own)))
    answers.sort(key=lambda answer: answer[0])
    size, more = divmod(len(answers), bins)
    found, start = [], 0
    for i in range(bins):
        part = answers[start : start + size + (i < more)]
        start += len(part)
        sure, right = (sum(values) / len(part) for values in zip(*part, strict=True))
        found.append((sure, right, len(part)))
    return found


@pytest.mark.parametrize(("temperature", "bins"), [(1.0, 10), (2.5, 7)])
def test_bins_of_equally_many_and_their_gaps(honest, temperature, bins):
    logits, labels = honest[0][:333], honest[1][:333]
    table = calibration.reliability(of_logits(logits, labels), temperature, bins)
    expected = literal_bins(logits, labels, temperature, bins)
    assert np.allclose(table[["confidence", "accuracy", "answers"]].to_numpy(), expected)
    gap = sum(n * abs(sure - right) for sure, right, n in expected) / 333
    assert calibration.ece(table) == pytest.approx(gap)
    assert (table["half"] > 0).all() and table["answers"].sum() == 333


def test_honest_answers_need_no_temperature_and_sharpened_ones_get_theirs_back(honest):
    logits, labels = honest
    assert calibration.fit_temperature(logits, labels) == pytest.approx(1, abs=0.1)
    found = calibration.fit_temperature(5 * logits, labels)
    assert found == pytest.approx(5, abs=0.5)
    tried = np.exp(np.linspace(np.log(2), np.log(12), 400))
    losses = [calibration.loss(5 * logits, labels, t) for t in tried]
    assert found == pytest.approx(tried[int(np.argmin(losses))], rel=0.01)
    assert calibration.loss(5 * logits, labels, found) <= min(losses) + 1e-9


def test_a_temperature_of_val_mends_test_and_changes_no_answer(honest):
    logits, labels = honest
    val, test = of_logits(5 * logits[:2000], labels[:2000]), of_logits(5 * logits[2000:], labels[2000:])
    found = calibration.measure(test, val)
    assert found["ece"] > 0.15 > 0.05 > found["ece_after"] and found["loss"] > found["loss_after"]
    warm = calibration.reliability(test, found["temperature"])
    assert np.average(warm["accuracy"], weights=warm["answers"]) == pytest.approx(test.accuracy)


def test_an_evaluation_of_a_method_and_one_of_videos():
    listed = (Tiny().eval(), TinyClips("test", 1.0), sampler("test", query=2), 20, texts("test"))
    evaluation = evaluate(*listed, device="cpu", keep_parts=True)
    table = calibration.reliability(evaluation, bins=4)
    assert table["answers"].tolist() == [30] * 4
    assert np.average(table["accuracy"]) == pytest.approx(evaluation.accuracy)
    videos = of_videos([0, 1, 3, 6])
    table = calibration.reliability(videos, bins=2)
    assert table["answers"].tolist() == [2, 2] and np.average(table["accuracy"]) == videos.accuracy
    with pytest.raises(UserError, match="kept no logits"):
        calibration.reliability(evaluate(*listed, device="cpu"))
