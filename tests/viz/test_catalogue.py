"""Benchmarks side by side: a marker per split at its number of videos, a cell per pair with what the lists share."""

import pandas as pd
from matplotlib import pyplot as plt

from vidlib.viz import catalogue


def test_sizes_stand_at_their_numbers():
    rows = pd.DataFrame(
        [("a", "train", 1000), ("a", "val", 100), ("b", "train", 50), ("b", "test", 20)],
        columns=["benchmark", "split", "videos"],
    )
    ax = catalogue.sizes(rows, title="sizes")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {"train": [[1000, 0], [50, 1]], "val": [[100, 0]], "test": [[20, 1]]}
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"] and ax.get_xscale() == "log"
    plt.close(ax.figure)


def test_a_cell_says_how_many_test_classes_are_trained_on():
    rows = pd.DataFrame(
        [("a", "a", 3, 3, 5), ("a", "b", 2, 4, 1500), ("b", "a", 0, 3, None), ("b", "b", 4, 4, None)],
        columns=["trained", "tested", "classes", "of", "videos"],
    ).astype({"videos": "Int64"})
    ax = catalogue.overlap(rows, title="overlap")
    written = {(text.get_position(), text.get_text()) for text in ax.texts if text.get_text()}
    assert written == {((1.5, 0.5), "2\n1,500 v")}
    shade = ax.collections[0].get_array()
    assert shade[0, 1] == 50 and shade[1, 0] == 0 and shade.mask.diagonal().all()
    plt.close(ax.figure)
