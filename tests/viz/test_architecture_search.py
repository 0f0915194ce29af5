import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tests.methods.small import make
from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import architecture_search


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Three steps of a method's own numbers, the first operation growing, beside what every run records."""
    start = make("sloshnet").watched()
    rows = [{"step": i, "episode": i, "loss": 1.0, "loss.q2s": 1.0, **start} for i in (1, 2, 3)]
    for i, row in enumerate(rows):
        row["s1<s0.GP1"] = 0.4 + 0.1 * i
    return pd.DataFrame(rows)


def test_every_choice_has_its_panel_and_nothing_else_is_drawn(metrics):
    fig = architecture_search.plot(metrics, title="SloshNet's search")
    panels = [ax for ax in fig.axes if ax.lines]
    assert [ax.get_title(loc="left") for ax in panels] == [
        *("s1 from s0", "s2 from s0", "s2 from s1", "s3 from s0", "s3 from s1", "s3 from s2"),
        *("output", "temporal modules"),
    ]
    assert [len(ax.lines) for ax in panels] == [3] * 6 + [5, 2]
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), [0.4, 0.5, 0.6])
    names = [text.get_text() for text in panels[6].get_legend().get_texts()]
    assert names == ["s0", "s1", "s2", "s3", "last"]
    for ax in panels:
        low, high = ax.get_ylim()
        assert all(low <= y <= high for line in ax.lines for y in line.get_ydata()) and high - low > 0.09
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["GP1", "GP2", "Sum"]
    looks = {(line.get_color(), line.get_linestyle()) for ax in panels[:6] for line in ax.lines[:1]}
    assert len(looks) == 1  # GP1 looks the same everywhere
    assert not overlapping(boxes([ax._left_title for ax in panels] + [fig._suptitle, fig._supxlabel, fig.legends[0]]))
    plt.close(fig)


def test_a_run_without_a_search_is_refused(metrics):
    with pytest.raises(UserError, match="searched nothing"):
        architecture_search.plot(metrics[["step", "episode", "loss", "loss.q2s"]])


def test_the_end_names_the_strongest_of_every_choice():
    watched = make("sloshnet").watched() | {"s1<s0.GP1": 0.1, "s1<s0.GP2": 0.7, "s1<s0.Sum": 0.2}
    table = architecture_search.standing(watched)
    assert len(table) == 8 and table.loc["s1 from s0", "strongest"] == "GP2"
    assert table.loc["s1 from s0", "weight"] == 0.7 and "Sum 0.200" in table.loc["s1 from s0", "all"]
