"""Shortcuts as bars: each at its place and length, its interval, chance, and the band of what is allowed."""

import pytest

from tests.viz import cases
from vidlib.basics.errors import UserError
from vidlib.viz import shortcuts


def test_bars_bands_and_chance():
    rows = cases._shortcuts()
    ax = shortcuts.plot(rows, allowed={"file: size, duration, rate, packets": (0, 30), "oracle": (90, 100)})
    names = rows["shortcut"].unique().tolist()
    bars = {each.get_label(): each for each in ax.containers if each.get_label() in ("val", "test")}
    for split, each in bars.items():
        own = rows[rows["split"] == split]
        assert [patch.get_width() for patch in each] == pytest.approx((100 * own["accuracy"]).tolist())
        middles = [patch.get_y() + patch.get_height() / 2 for patch in each]
        assert [names[round(middle)] for middle in middles] == own["shortcut"].tolist()
        ends = each.errorbar.lines[2][0].get_segments()
        assert [(s[0][0], s[1][0]) for s in ends] == [
            pytest.approx(pair) for pair in (100 * own[["low", "high"]]).itertuples(index=False, name=None)
        ]
    bands = [patch for each in ax.containers if each not in bars.values() for patch in getattr(each, "patches", [])]
    assert [(names[round(b.get_y() + 0.5)], b.get_x(), b.get_x() + b.get_width()) for b in bands] == [
        ("file: size, duration, rate, packets", 0, 30),
        ("oracle", 90, 100),
    ]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [20]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chance", "allowed", "val", "test"]


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(UserError, match="needs the columns shortcut, .*; chance not there"):
        shortcuts.plot(cases._shortcuts().drop(columns="chance"))
