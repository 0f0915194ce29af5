import numpy as np
import pytest
import torch

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import filmstrip


def test_clip_shows_every_frame_in_order(frames):
    ax = filmstrip.clip(frames, title="a clip")
    assert len(ax.images) == 4
    for image, frame in zip(ax.images, frames, strict=True):
        np.testing.assert_array_equal(image.get_array(), frame)
    lefts = [image.get_extent()[0] for image in ax.images]
    assert lefts == sorted(lefts)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3", "4"]


def test_episode_has_a_row_per_class_with_its_own_clips(frames):
    support = np.stack([frames // (1 + i) for i in range(3)])
    query = np.stack([255 - frames // (1 + i) for i in range(6)])
    classes = ["left", "two things coming together slowly", "up"]
    fig = filmstrip.episode(support, [2, 0, 1], query, [0, 0, 1, 1, 2, 2], classes, title="embedded world, 3-way")
    grid = np.reshape(fig.axes, (3, 2))
    np.testing.assert_array_equal(grid[0, 0].images[0].get_array(), support[1][0])  # class 0 is support 1
    np.testing.assert_array_equal(grid[2, 0].images[0].get_array(), support[0][0])
    np.testing.assert_array_equal(grid[1, 1].images[3].get_array(), query[2][3])
    assert "2 per class, 1 shown" in grid[0, 1].get_title(loc="left")
    names = [grid[row, 0].texts[0] for row in range(3)]
    assert [" ".join(t.get_text().split()) for t in names] == classes
    page = fig.bbox
    for box in boxes([*names, *fig.texts]):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    assert not overlapping(boxes([*names, *fig.texts, grid[0, 0]._left_title, grid[0, 1]._left_title]))


def test_several_shots_and_an_unbalanced_support(frames):
    clips = np.stack([frames] * 3)
    fig = filmstrip.episode(clips, [0, 0, 1], clips[:2], [0, 1], ["a", "b"], each=2)
    grid = np.reshape(fig.axes, (4, 2))
    assert [len(ax.images) for ax in grid[:, 0]] == [4, 4, 4, 0]
    assert "1 to 2 per class" in grid[0, 0].get_title(loc="left")


def test_back_to_pixels():
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    normal = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_array_equal(filmstrip.to_uint8(normal, mean, std), pixels.numpy())


def test_a_wrong_layout_is_named(frames):
    with pytest.raises(UserError, match=r"not \[4, 3, 24, 32\]"):
        filmstrip.clip(frames.transpose(0, 3, 1, 2))
