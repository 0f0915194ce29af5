"""Each tower has its panels, what trains nothing is a band, and both panels show the same accuracies."""

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
    frozen, tuned = figure.axes[:2], figure.axes[2:]
    for pair, tower in ((frozen, "clip-mini frozen"), (tuned, "clip-mini tuned")):
        assert pair[0].get_title(loc="left") == tower
        for ax, column in zip(pair, ladder.PANELS, strict=True):
            (bars,) = ax.containers
            part = rows()[(rows()["column"] == tower) & (rows()["trained (M)"] > 0)]
            assert bars.lines[0].get_xydata().tolist() == part[[column, "accuracy"]].to_numpy().tolist()
            assert set(part["name"]) <= {text.get_text() for text in ax.texts}
            assert ax.get_xscale() == "log" and ax.get_ylim() == frozen[0].get_ylim()
    for ax in frozen:
        band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
        assert band.intervaly.tolist() == pytest.approx([22, 24])
        words = [text.get_text() for text in ax.texts]
        assert "grey: nothing trained, 22.0 (frozen CLIP) to 24.0 (SimpleShot)" in words
    assert not any(ax.patches for ax in tuned), "nothing is still there"
    plt.close(figure)


def test_no_rows_is_one_sentence():
    with pytest.raises(UserError, match="at least one row"):
        ladder.plot(rows().iloc[:0])
