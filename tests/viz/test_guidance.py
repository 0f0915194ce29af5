"""What the figures of guidance and of the hybrid weight show is what was handed in."""

import numpy as np
import pandas as pd
import pytest

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import guidance

NAMES = ["spinning in place", "jumping over a much larger thing", "fading away"]
TRUTH = [2, 0, 1, 0]


def panels() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4))
    return {"before guidance": values[0], "after guidance": values[1]}


def test_queries_stand_in_the_order_of_their_classes_and_their_class_has_a_frame():
    shown = panels()
    figure = guidance.similarities(shown, TRUTH, NAMES, title="Queries against classes")
    order = [1, 3, 2, 0]
    for ax, values in zip(figure.axes, shown.values(), strict=False):
        assert [text.get_text() for text in ax.texts] == [f"{100 * v:.0f}" for v in values[order].flatten()]
        framed = [(round(box.get_x()), round(box.get_y())) for box in ax.patches]
        assert framed == [(TRUTH[query], row) for row, query in enumerate(order)]
        assert not overlapping(boxes(ax.get_xticklabels()))
    rows = guidance.table(shown, TRUTH, NAMES)
    assert len(rows) == 2 * 4 * 3
    assert rows.loc[3, ["panel", "query", "true", "class"]].tolist() == ["before guidance", 1, NAMES[0], NAMES[0]]
    assert rows["share"][5] == shown["before guidance"][1, 2]


def test_values_of_another_shape_are_refused():
    with pytest.raises(UserError, match="4 queries and 3 classes need 4 x 3 values, not 3 x 4"):
        guidance.similarities({"edges": np.zeros((3, 4))}, TRUTH, NAMES)


def test_a_panel_per_world_a_line_per_weights_and_a_star_at_the_best():
    rows = [
        {"world": world, "weights": weights, "alpha": alpha, "accuracy": base + 10 * alpha * sign, "interval": 2.0}
        for world, sign in (("moving_shapes", 1), ("moving_shapes_scene", -1))
        for weights, base in (("trained", 70.0), ("untrained", 40.0))
        for alpha in (0.0, 0.5, 1.0)
    ]
    figure = guidance.hybrid(pd.DataFrame(rows), way=5, title="From frames to tuples")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["moving_shapes", "moving_shapes_scene"]
    for ax, best, value in zip(figure.axes, (1.0, 0.0), (80.0, 70.0), strict=True):
        stars = [line for line in ax.lines if line.get_marker() == "*"]
        assert [star.get_xdata()[0] for star in stars] == [best, best]
        assert stars[0].get_ydata()[0] == value
        assert any(np.allclose(line.get_ydata(), 20.0) for line in ax.lines), "chance"
    with pytest.raises(UserError, match="weights, alpha"):
        guidance.hybrid(pd.DataFrame({"world": ["a"], "accuracy": [1.0], "interval": [1.0]}), way=5)
