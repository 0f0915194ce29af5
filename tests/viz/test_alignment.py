"""The alignment figure shows the distances and the path that were handed in."""

import numpy as np
import pytest
import torch

from tests.viz import cases
from tests.viz.conftest import words_over_words
from vidlib.basics.errors import UserError
from vidlib.matching import otam_path
from vidlib.viz import alignment


def test_cells_path_and_frames_are_what_was_given():
    cost = cases._cost()
    path = otam_path(torch.from_numpy(cost)).numpy()
    ax = alignment.plot(cost, path, query=cases.clip(1), support=cases.clip(2))
    np.testing.assert_array_equal(ax.images[0].get_array(), cost)
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), path[:, ::-1] + 0.5)
    assert len(ax.images) == 3 and ax.get_xlim()[0] < 0 and ax.get_ylim()[1] < 0, "room for the frames"
    table = alignment.table(cost, path)
    on = table.dropna(subset="step").sort_values("step")
    np.testing.assert_array_equal(on[["query_frame", "support_frame"]], path + 1)
    assert len(table) == 64


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="query: 4 frames do not fit 8"):
        alignment.plot(cases._cost(), query=cases.clip(1)[:4])
    with pytest.raises(UserError, match=r"not \[3\]"):
        alignment.plot(np.zeros(3))


def test_an_episode_names_guess_truth_and_the_aligned_class():
    figure = cases.draw("alignment_episode", "")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words[0].startswith("query: moving") and "guess, true, aligned" in words[1] and "3.40, 10%" in words[2]


@pytest.mark.parametrize("width", ["", "column", "page"])
def test_the_frames_of_a_short_clip_do_not_grow_over_their_words(width):
    clips, cost = np.stack([cases.clip(i)[:2] for i in range(3)]), cases._cost()[:2, :2]
    given = (cases.CLASSES[:3], [1.2, 3.4, 2.2], [0.7, 0.1, 0.2], cost)
    figure = alignment.episode(clips[0], clips, *given, truth=0, shown=0, title="Query 0 of episode 0", width=width)
    assert not words_over_words(figure)
    strips = figure.axes[0]
    inches = strips.transData.transform([(0, 0), (1, 0)])[:, 0]
    assert (inches[1] - inches[0]) / figure.dpi < 1.2
