"""Each tower has a look, what trains nothing is a band, and both panels show the same accuracies."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from vidlib.basics.errors import UserError
from vidlib.viz import ladder


def rows():
    def row(column, name, accuracy, trained, seconds):
        return {"column": column, "name": name, "accuracy": accuracy, "half": 1.0, "over": "seeds"} | {
            "trained (M)": trained,
            "seconds": seconds,
        }

    return pd.DataFrame(
        [
            row("clip-mini frozen", "TRX", 39.0, 0.09, 20.0),
            row("clip-mini frozen", "MA-FSAR", 37.0, 0.4, 120.0),
            row("clip-mini tuned", "TRX", 35.0, 4.2, 200.0),
            row("clip-mini frozen", "frozen CLIP", 22.0, 0.0, 0.0),
            row("clip-mini frozen", "SimpleShot", 24.0, 0.0, 0.0),
        ]
    )


def test_points_and_band():
    figure = ladder.plot(rows(), title="motion")
    for ax, column in zip(figure.axes, ladder.PANELS, strict=True):
        points = [container.lines[0].get_xydata().tolist() for container in ax.containers]
        known = rows().set_index(["column", "name"])[column]
        assert points[0] == [[known["clip-mini frozen", "TRX"], 39.0], [known["clip-mini frozen", "MA-FSAR"], 37.0]]
        assert points[1] == [[known["clip-mini tuned", "TRX"], 35.0]]
        assert ax.patches[0].get_extents().transformed(ax.transData.inverted()).intervaly.tolist() == pytest.approx(
            [22, 24]
        )
        words = [text.get_text() for text in ax.texts]
        assert "grey: nothing trained, 22.0 (frozen CLIP) to 24.0 (SimpleShot)" in words and words.count("TRX") == 2
        assert ax.get_xscale() == "log"
    plt.close(figure)


def test_no_rows_is_one_sentence():
    with pytest.raises(UserError, match="at least one row"):
        ladder.plot(rows().iloc[:0])
