"""Accuracy over classes and seeds: what is drawn is what was given, the best above."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from vidlib.basics.errors import UserError
from vidlib.results import runs
from vidlib.results.intervals import half_width
from vidlib.viz import distribution, style

SEEDS = {"turning": (20.0, 30.0, 40.0), "growing": (70.0, 72.0, 80.0), "fading": (50.0, 50.0, 56.0)}


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"name": name, "seed": seed, "accuracy": value}
        for name, values in SEEDS.items()
        for seed, value in enumerate(values)
    )


def means(ax) -> dict[float, float]:
    """Where the marks stand: height -> accuracy."""
    return {y: x for line in ax.lines if line.get_marker() == "o" for x, y in zip(*line.get_data(), strict=True)}


def test_the_best_stands_above_with_its_seeds_their_mean_and_its_interval(rows):
    ax = distribution.plot(rows, chance=25, title="three seeds")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["growing", "fading", "turning"]
    low, high = ax.get_ylim()
    assert low > high, "from above"
    assert means(ax) == pytest.approx({0: 74, 1: 52, 2: 30})
    dots = [tuple(at) for group in ax.collections for at in group.get_offsets()]
    assert sorted(dots) == sorted(
        (v, i) for i, name in enumerate(("growing", "fading", "turning")) for v in SEEDS[name]
    )
    bars = [line.get_xdata() for line in ax.lines if line.get_marker() != "o" and len(set(line.get_ydata())) == 1]
    half = half_width(np.array(SEEDS["growing"]))
    assert any(bar == pytest.approx([74 - half, 74 + half]) for bar in bars)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chance (25%)"]
    assert "3 seeds" in ax.get_xlabel() and len(style.drawn(ax)) == 9


def test_one_seed_has_no_interval(rows):
    ax = distribution.plot(rows[rows["seed"] == 0])
    assert "one seed" in ax.get_xlabel()
    assert not [line for line in ax.lines if line.get_marker() != "o" and np.isfinite(line.get_xdata()).any()]


def test_methods_stand_beside_each_other_in_the_order_of_the_first(rows):
    other = rows.assign(method="frozen", accuracy=100 - rows["accuracy"])
    ax = distribution.plot(pd.concat([rows.assign(method="trained"), other]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["growing", "fading", "turning"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["trained", "frozen"]
    looks = {(line.get_marker(), to_hex(line.get_color())) for line in ax.lines if line.get_marker() in ("o", "s")}
    assert looks == {("o", style.BLUE.lower()), ("s", style.ORANGE.lower())}


def test_of_many_classes_the_best_and_the_worst_are_drawn_and_all_are_kept():
    rows = pd.DataFrame({"name": [f"class {i}" for i in range(90)], "seed": 0, "accuracy": np.arange(90.0)})
    ax = distribution.plot(rows)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == distribution.MOST and (names[0], names[-1]) == ("class 89", "class 0")
    assert ax.get_ylabel() == "the best and the worst 20 of 90" and len(style.drawn(ax)) == 90


def test_rows_are_read_from_runs(tmp_path):
    same = []
    for seed, value in enumerate((0.25, 0.5)):
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "params.json").write_text(json.dumps({"seed": seed}))
        (tmp_path / str(seed) / "result.json").write_text(json.dumps({"test": {"per_class": {"growing": value}}}))
        same.append(runs.Run(tmp_path / str(seed), tmp_path / str(seed), "finished", None))
    rows = distribution.of_runs({"MA-FSAR": same})
    assert rows.to_dict("list") == {
        "method": ["MA-FSAR"] * 2, "name": ["growing"] * 2, "seed": [0, 1], "accuracy": [25.0, 50.0]
    }  # fmt: skip
    distribution.plot(rows)


def test_rows_that_cannot_be_drawn_are_named(rows):
    with pytest.raises(UserError, match="accuracy not there"):
        distribution.plot(rows.drop(columns="accuracy"))
    with pytest.raises(UserError, match="at least one row"):
        distribution.plot(rows[:0])
