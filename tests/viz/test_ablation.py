import numpy as np
import pandas as pd
import pytest

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import ablation

ROWS = pd.DataFrame(
    [
        ("text off", "test", -6.1, -7.0, -5.2),
        ("frames shuffled", "test", -14.0, -15.5, -13.0),
        ("no joint adaptation", "trained", 1.0, -0.5, 2.5),
        ("4 frames", "trained", np.nan, np.nan, np.nan),
    ],
    columns=["name", "kind", "delta", "low", "high"],
)


def test_dots_intervals_and_what_was_not_run():
    ax = ablation.plot(ROWS, title="embedded world moving_shapes, 5-way 1-shot", full="MA-FSAR", baseline=57.2)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["text off", "frames shuffled", "no joint adaptation"]
    dots = {c.get_label(): c for c in ax.containers}
    test, trained = dots["changed at test, same weights"], dots["trained anew"]
    assert test.lines[0].get_xdata().tolist() == [-6.1, -14.0] and trained.lines[0].get_ydata().tolist() == [2]
    assert test.lines[0].get_marker() != trained.lines[0].get_marker()
    np.testing.assert_allclose(test.lines[2][0].get_segments()[1], [[-15.5, 1], [-13.0, 1]])
    texts = [t.get_text() for t in ax.texts]
    assert "Not run: 4 frames." in texts and "MA-FSAR: 57.2%" in texts and "+1.0" in texts
    assert "points" in ax.get_xlabel()


def test_nothing_overlaps():
    ax = ablation.plot(ROWS, title="a title " * 12, full="MA-FSAR", baseline=57.2)
    below = [t for t in ax.texts if t.get_text().startswith("Not run")]
    extents = boxes([*below, ax.xaxis.label, ax._left_title, *[t for t in ax.texts if t.get_text().startswith("MA-")]])
    assert not overlapping([*extents, ax.get_legend().get_window_extent(), ax.get_window_extent()])


def test_with_nothing_run_it_says_so():
    ax = ablation.plot(ROWS.assign(delta=np.nan))
    texts = [t.get_text() for t in ax.texts]
    assert "none run yet" in texts
    assert any(all(name in " ".join(text.split()) for name in ROWS["name"]) for text in texts)


def test_bad_rows_are_named():
    with pytest.raises(UserError, match="kind"):
        ablation.plot(ROWS.drop(columns="kind"))
    with pytest.raises(UserError, match="not guessed"):
        ablation.plot(ROWS.assign(kind="guessed"))
