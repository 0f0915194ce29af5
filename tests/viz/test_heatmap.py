"""The heat map of videos and texts: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from vidlib.basics.errors import UserError
from vidlib.viz import heatmap

NAMES = ["closing", "opening", "turning"]


def test_rows_are_centred_and_the_nearest_text_is_marked():
    cosines = {"before": np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.0], [0.5, 0.5, 0.6]]), "after": np.eye(3)}
    figure = heatmap.similarities(cosines, NAMES, title="Videos and texts")
    panels = figure.axes[:2]
    assert "before: 2 of 3" in panels[0].get_title(loc="left").replace("\n", " ")
    assert "after: 3 of 3" in panels[1].get_title(loc="left").replace("\n", " ")
    drawn = panels[0].collections[0].get_array()
    assert np.allclose(drawn, cosines["before"] - cosines["before"].mean(1, keepdims=True))
    assert panels[0].collections[0].get_clim() == panels[1].collections[0].get_clim(), "one scale for both"
    assert panels[0].lines[0].get_xdata().tolist() == [0.5, 0.5, 2.5]
    plt.close(figure)


def test_the_table_holds_every_cosine():
    table = heatmap.table({"before": np.arange(4.0).reshape(2, 2)}, NAMES[:2])
    assert table.loc[(table["videos"] == "opening") & (table["text"] == "closing"), "cosine"].item() == pytest.approx(2)
    assert len(table) == 4


def test_a_cell_holds_its_accuracy_and_interval_and_what_is_not_there_is_blank():
    rows = pd.DataFrame(
        {"way": [2, 2, 5], "shot": [1, 5, 1], "accuracy": [60.0, 80.0, 40.0], "half": [1.0, 2.0, 3.0], "panel": "OTAM"}
    )
    figure = heatmap.grid(rows, down="way", across="shot")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["60.0\n±1.0", "80.0\n±2.0", "40.0\n±3.0"]
    assert np.ma.filled(ax.collections[0].get_array(), -1).ravel().tolist() == [60, 80, 40, -1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2", "5"] and ax.get_title(loc="left") == "OTAM"
    with pytest.raises(UserError, match="half not there"):
        heatmap.grid(rows.drop(columns="half"), down="way", across="shot")
    plt.close(figure)
