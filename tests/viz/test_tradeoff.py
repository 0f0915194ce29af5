"""Trained classes against new ones: every configuration at its place, told apart by its group."""

import pandas as pd
from matplotlib import pyplot as plt

from vidlib.viz import tradeoff


def test_points_bars_and_chance():
    rows = pd.DataFrame(
        [
            {"name": "CLIP", "group": "steps", "trained": 20.0, "trained_half": 2.0, "new": 15.0, "new_half": 3.0},
            {"name": "tuned", "group": "steps", "trained": 60.0, "trained_half": 3.0, "new": 25.0, "new_half": 4.0},
            {"name": "no text", "group": "towers", "trained": 50.0, "trained_half": 3.0, "new": 22.0, "new_half": 4.0},
        ]
    )
    ax = tradeoff.plot(rows, title="Trade-off", chance={"trained": 1.6, "new": 6.2})
    points = [container.lines[0].get_xydata().tolist() for container in ax.containers]
    assert points == [[[20.0, 15.0], [60.0, 25.0]], [[50.0, 22.0]]]
    assert len({container.lines[0].get_marker() for container in ax.containers}) == 2
    assert {text.get_text() for text in ax.texts} == {"CLIP", "tuned", "no text"}
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert {line.get_xdata()[0] for line in dotted} == {1.6, 0} and {line.get_ydata()[1] for line in dotted} == {1, 6.2}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["steps", "towers"]
    plt.close(ax.figure)
