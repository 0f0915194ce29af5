import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tests.viz.conftest import boxes, overlapping
from vidlib.viz import style


def luminance(color: str) -> float:
    return float(np.dot([0.2126, 0.7152, 0.0722], plt.matplotlib.colors.to_rgb(color)))


def test_ours_and_published_differ_in_shape_hatch_and_grey():
    ours, published = style.LOOK["ours"], style.LOOK["published"]
    assert ours["marker"] != published["marker"] and ours["hatch"] != published["hatch"]
    assert abs(luminance(ours["facecolor"]) - luminance(published["facecolor"])) > 0.3


def test_save_writes_picture_and_the_drawn_table(tmp_path):
    data = pd.DataFrame({"x": [1.5, 2.5], "name": ["a", "b, c"]})
    ax = style.new_axes(2, 2)
    picture = style.save(ax.figure, tmp_path / "figures", "some", data, formats=("png", "svg"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figures" / "some.csv"), data)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["some.csv", "some.png", "some.svg"]


def test_smooth_is_a_centred_mean_that_leaves_nan_out():
    assert style.smooth([1, 2, 3, 4], 3).tolist() == [1.5, 2, 3, 3.5]
    assert style.smooth([1, np.nan, 3], 3).tolist() == [1, 2, 3]


def test_titles_are_wrapped_to_the_axes():
    ax = style.new_axes(4, 3)
    style.title(ax, "a title that is far too long for one line of such a narrow figure and must break")
    title = next(t for t in (ax.title, ax._left_title) if t.get_text())
    assert boxes([title])[0].x1 <= ax.figure.bbox.x1


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_crowded_points_do_not_overlap_and_are_not_cut_off(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.1, 0.9, (14, 2))
    points[1] = points[0]  # two at one place
    ax = style.new_axes(7, 6)
    ax.scatter(*points.T, s=100)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    labels = style.place_labels(ax, points, [f"method {i}" + "\nlonger" * (i % 2) for i in range(14)], [5.6] * 14)
    extents = boxes(labels)
    assert not overlapping(extents)
    frame = ax.get_window_extent()
    assert all(
        frame.x0 - 1 <= b.x0 and b.x1 <= frame.x1 + 1 and frame.y0 - 1 <= b.y0 and b.y1 <= frame.y1 + 1 for b in extents
    )
    centres = ax.transData.transform(points)
    assert not any(box.contains(*centre) for box in extents for centre in centres)


def test_label_places_are_deterministic():
    def places():
        ax = style.new_axes(4, 4)
        ax.set_xlim(0, 1)
        return [a.get_position() for a in style.place_labels(ax, [(0.5, 0.5), (0.52, 0.5)], ["one", "two"], [6, 6])]

    assert places() == places()
