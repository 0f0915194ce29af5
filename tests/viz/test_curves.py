import numpy as np
import pandas as pd
import pytest

from vidlib.basics.errors import UserError
from vidlib.viz import curves


@pytest.fixture
def metrics() -> pd.DataFrame:
    steps = np.arange(1, 101)
    table = pd.DataFrame({"episode": steps, "loss": 2 - steps / 100, "accuracy": steps / 200})
    table["loss.q2s"], table["loss.q2t"] = table["loss"] / 2, table["loss"] / 2
    table["val_accuracy"] = np.where(steps % 50 == 0, 0.5, np.nan)
    return table


def named(ax) -> dict:
    return {line.get_label(): line for line in ax.lines}


def test_raw_smooth_terms_validation_and_chance(metrics):
    loss, accuracy = curves.training(metrics, title="embedded world", way=5)
    keys = [text.get_text() for ax in (loss, accuracy) for text in ax.get_legend().get_texts()]
    assert "query against supports (q2s)" in keys and not any("rows" in key for key in keys)
    assert any(key.startswith("total (mean of ") and key.endswith(" episodes)") for key in keys)
    raw = next(line for line in loss.lines if line.get_gid() == "raw")
    np.testing.assert_allclose(raw.get_ydata(), metrics["loss"])
    assert set(curves.TERMS.values()) - {curves.TERMS["s2t"]} <= set(named(loss))
    points = named(accuracy)["validation classes"]
    assert points.get_xdata().tolist() == [50, 100] and points.get_ydata().tolist() == [50, 50]
    assert "chance (20%)" in named(accuracy)
    mean = next(line for name, line in named(accuracy).items() if name.startswith("training"))
    assert mean.get_ydata()[50] == pytest.approx(100 * metrics["accuracy"][48:53].mean())
    assert "nats" in loss.get_ylabel() and "%" in accuracy.get_ylabel() and "episode" in accuracy.get_xlabel()


def test_a_short_run_is_drawn_as_points(metrics):
    loss, _ = curves.training(metrics[:4].drop(columns=["val_accuracy", "loss.q2s", "loss.q2t"]))
    assert named(loss)["total"].get_marker() == "o" and len(named(loss)["total"].get_xdata()) == 4


def test_several_seeds_are_their_mean_in_a_band_from_the_lowest_to_the_highest(metrics):
    loss = {0: 1.0, 1: 2.0, 2: 6.0}
    seeds = pd.concat([metrics.assign(seed=seed, loss=metrics["loss"] * by) for seed, by in loss.items()])
    upper, lower = curves.training(seeds)
    mean = named(upper)["total (mean of 5 episodes, 3 seeds, all in the band)"]
    middle = list(mean.get_xdata()).index(50)
    assert mean.get_ydata()[middle] == pytest.approx(3 * 1.5), "the rows' mean at episode 50 is 1.5"
    band = upper.collections[0].get_paths()[0].vertices
    reach = band[band[:, 0] == 50][:, 1]
    assert (reach.min(), reach.max()) == pytest.approx((1.5, 9.0))
    assert not [line for line in upper.lines if line.get_gid() == "raw"]
    assert named(lower)["validation classes"].get_ydata().tolist() == [50, 50]


def test_missing_columns_are_named(metrics):
    with pytest.raises(UserError, match="accuracy"):
        curves.training(metrics.drop(columns="accuracy"))
    with pytest.raises(UserError, match="needs at least one row"):
        curves.training(metrics[:0])
