"""Testing of video-text methods against doing it one video at a time; the controls; what a result holds."""

import numpy as np
import pytest
import torch

from tests.training.labelled_child import Pictures, make
from vidlib.basics.errors import UserError
from vidlib.results.accuracy import half_width, paired
from vidlib.results.recognised import Recognised, harmonic
from vidlib.training.evaluate_videos import permuted, recognise


@pytest.mark.parametrize("name", ["actionclip", "m2clip"])
def test_equals_scoring_one_video_at_a_time(name):
    method, _ = make(name)
    views = [Pictures("test"), Pictures("test")]
    views[1].test = lambda row: Pictures("test").test(row).flip(0)
    found = recognise(method, views, controls=True)
    classes = views[0].manifest.classes("test")
    with torch.no_grad():
        each = [[method.scores(view.test(row)[None], classes)[0] for view in views] for row in range(len(views[0]))]
    expected = torch.stack([torch.stack(scores).mean(0) for scores in each])
    assert np.allclose(found[""].probabilities, expected.numpy(), atol=1e-5)
    assert [classes[k] for k in found[""].truth] == [row.cls for row in views[0].rows]
    assert found[""].views == "2 views of each video" and found[""].classes == classes
    assert not np.allclose(found["frames_shuffled"].probabilities, found[""].probabilities)
    assert found["texts_permuted"].controls == {"frame_order": "in order", "text_order": "permuted"}
    assert paired(found[""], found["texts_permuted"]).episodes == len(views[0])


def test_permuted_texts_leave_no_class_its_own():
    text = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3)
    other = permuted(text)
    assert other.shape == text.shape and not (other == text).all(-1).any()
    order = [int((text[0] == row).all(-1).nonzero()) for row in other[0]]
    assert torch.equal(other[1], text[1][order]), "all templates alike"


def result(probabilities, truth, classes=("a", "b", "c", "d", "e", "f", "g")) -> Recognised:
    return Recognised("test", classes, "sum", "1 view of each video", 0.5, np.array(truth), np.array(probabilities))


def test_what_is_counted(tmp_path):
    rows = np.eye(7)[[0, 1, 2, 3]] * 0.5 + np.linspace(0.1, 0, 7)
    one = result(rows, [0, 1, 3, 6])
    assert one.accuracy == 0.5 and one.top5 == 0.75 and one.chance == pytest.approx(1 / 7)
    assert one.interval == half_width(np.array([1.0, 1.0, 0.0, 0.0]))
    assert one.confusion[3, 2] == 1 and one.confusion.sum() == 4
    table = one.per_class().set_index("class")
    assert table.loc["d", "accuracy"] == 0 and np.isnan(table.loc["c", "accuracy"]) and table.loc["a", "videos"] == 1
    one.save(tmp_path / "one.npz")
    again = Recognised.load(tmp_path / "one.npz")
    assert again.summary() == one.summary() and np.allclose(again.probabilities, one.probabilities)
    with pytest.raises(UserError, match="test video 2 are not finite"):
        result(np.where(np.arange(4)[:, None] == 2, np.nan, rows), [0, 1, 3, 6])


def test_harmonic_mean():
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3) and harmonic(0.0, 0.9) == 0.0
