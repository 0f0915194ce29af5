"""Testing of video-text methods against doing it one video at a time; the controls."""

import numpy as np
import pytest
import torch

from tests.training.labelled_child import Pictures, make
from vidlib.results.accuracy import paired
from vidlib.training.evaluate_videos import recognise


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
    assert found[""].how == "2 views of each video" and found[""].classes == classes
    assert not np.allclose(found["frames_shuffled"].probabilities, found[""].probabilities)
    assert found["texts_permuted"].controls == {"frame_order": "in order", "text_order": "permuted"}
    assert paired(found[""], found["texts_permuted"]).trials == len(views[0])
