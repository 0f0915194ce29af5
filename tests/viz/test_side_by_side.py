import numpy as np
import pandas as pd
import pytest

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import side_by_side

NAMES = (
    "MA-FSAR",
    "SloshNet",
    "GgHM",
    "CLIP-FSAR",
    "AIM",
    "OTAM",
    "TRX",
    "STRM",
    "HyRSM",
    "MoLo",
    "ProtoNet",
    "Bi-MHM",
)


@pytest.fixture
def rows() -> pd.DataFrame:
    lines = []
    for i, name in enumerate((*NAMES, "frozen clip-mini")):
        for varied, values in (("shot", (1, 2, 5)), ("way", (2, 5, 8))):
            for k, value in enumerate(values):
                accuracy = 40 + i + (5 * k if varied == "shot" else -5 * k)
                line = {"method": name, "varied": varied, "value": value}
                lines.append(line | {"accuracy": accuracy, "interval": 2.0})
    return pd.DataFrame(lines)


def test_every_method_has_a_line_of_its_own_look_and_the_key_is_sorted(rows):
    fig = side_by_side.accuracy(rows, way=5, title="as trained")
    left, right = fig.axes
    assert [ax.get_xlabel().split("(")[1] for ax in fig.axes] == ["shot)", "way)"]
    looks = {c.get_label(): (c[0].get_color(), c[0].get_linestyle(), c[0].get_marker()) for c in left.containers}
    assert len(looks) == 13 and len(set(looks.values())) == 13
    shown = [text.get_text() for text in fig.legends[0].get_texts()]
    assert shown == ["frozen clip-mini", *reversed(NAMES), "chance"]
    fig.draw_without_rendering()
    chance = next(line for line in right.lines if line.get_label() == "chance")
    np.testing.assert_allclose(chance.get_ydata(), [50, 20, 12.5])
    assert not overlapping(boxes(fig.legends[0].get_texts()))


def test_one_panel_where_only_one_thing_was_varied(rows):
    fig = side_by_side.accuracy(rows[rows["varied"] == "shot"], way=5)
    assert len(fig.axes) == 1


def test_costs_are_stacked_and_written_out():
    table = pd.DataFrame(
        {"embedding": [80.0, 60.0], "matching": [4.0, 0.5], "training memory (MiB)": [120.0, np.nan]},
        index=["TRX", "frozen resnet-mini"],
    )
    fig = side_by_side.cost(table, title="an episode")
    left, right = fig.axes
    widths = [bar.get_width() for container in left.containers for bar in container]
    assert widths == [80.0, 60.0, 4.0, 0.5]
    assert {text.get_text() for text in left.texts} == {"84, of it 4", "60, of it 0.5"}
    assert {text.get_text() for text in right.texts} == {"120", "trains nothing"}
    assert left.get_ylim()[0] > left.get_ylim()[1], "in the table's order, from above"


def test_what_cannot_be_drawn_is_refused(rows):
    with pytest.raises(UserError, match="interval"):
        side_by_side.accuracy(rows.drop(columns="interval"), way=5)
    with pytest.raises(UserError, match="needs at least one row"):
        side_by_side.accuracy(rows.iloc[:0], way=5)
    with pytest.raises(UserError, match="matching"):
        side_by_side.cost(pd.DataFrame({"embedding": [1.0], "training memory (MiB)": [1.0]}))
