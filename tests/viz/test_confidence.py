"""Reliability curves and known against unknown: what is drawn is what was given, and the key adds it up."""

import numpy as np
import pandas as pd
import pytest

from tests.viz import cases
from vidlib.basics.errors import UserError
from vidlib.viz import confidence


def lines(ax) -> list:
    """The drawn lines of methods, that of the diagonal left out."""
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def test_each_method_has_its_line_and_its_gap_in_the_key():
    rows = cases._reliability()
    ax = confidence.reliability(rows)
    keys = [text.get_text() for text in ax.get_legend().get_texts()]
    tip = rows[rows["method"] == "Tip-Adapter"]
    gap = 100 * (tip["confidence"] - tip["accuracy"]).abs().mean()
    assert keys[0] == "logistic regression (ECE 0.0)" and keys[1] == f"Tip-Adapter (ECE {gap:.1f})"
    assert np.allclose(lines(ax)[1].get_xydata(), 100 * tip[["confidence", "accuracy"]])


def test_the_area_below_a_curve_is_in_the_key_and_the_threshold_on_the_line():
    rows = pd.DataFrame({"method": "OTAM", "unknown": [0.0, 0.0, 0.5, 1.0], "known": [0.0, 0.5, 1.0, 1.0]})
    ax = confidence.open_set(rows, chosen={"OTAM": (0.5, 1.0), "another": (0.0, 0.0)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["OTAM (AUROC 87.5)"]
    assert [tuple(line.get_xydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1] == [(50.0, 100.0)]


@pytest.mark.parametrize("draw", [confidence.reliability, confidence.open_set])
def test_rows_that_cannot_be_drawn_are_named(draw):
    with pytest.raises(UserError, match="known not there|accuracy.* not there"):
        draw(pd.DataFrame({"method": ["OTAM"]}))
    with pytest.raises(UserError, match="needs at least one row"):
        draw((cases._reliability() if draw is confidence.reliability else cases._open_set())[:0])
