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
    raw = next(line for line in loss.lines if line.get_gid() == "raw")
    np.testing.assert_allclose(raw.get_ydata(), metrics["loss"])
    assert {"q2s", "q2t"} <= set(named(loss))
    points = named(accuracy)["validation classes"]
    assert points.get_xdata().tolist() == [50, 100] and points.get_ydata().tolist() == [50, 50]
    assert "chance (20%)" in named(accuracy)
    mean = next(line for name, line in named(accuracy).items() if name.startswith("training"))
    assert mean.get_ydata()[50] == pytest.approx(100 * metrics["accuracy"][48:53].mean())
    assert "nats" in loss.get_ylabel() and "%" in accuracy.get_ylabel() and "episode" in accuracy.get_xlabel()


def test_a_short_run_is_drawn_as_points(metrics):
    loss, _ = curves.training(metrics[:4].drop(columns=["val_accuracy", "loss.q2s", "loss.q2t"]))
    assert named(loss)["total"].get_marker() == "o" and len(named(loss)["total"].get_xdata()) == 4


def test_missing_columns_are_named(metrics):
    with pytest.raises(UserError, match="accuracy"):
        curves.training(metrics.drop(columns="accuracy"))
    with pytest.raises(UserError, match="every row"):
        curves.training(metrics[:0])
