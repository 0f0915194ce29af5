"""The embedded worlds keep their bars: no trick gets far, who sees the paths does, and val is as hard as test."""

import os

import pytest

from vidlib.params.by_recipe import by_recipe
from vidlib.studies import bars
from vidlib.training import few_shot
from vidlib.training.evaluate_episodes import evaluate

WHOLE = os.environ.get("VIDLIB_BARS") == "all"
APART = 5.0  # points between val and test of a trained method on motion, at most


@pytest.mark.parametrize(
    ("world", "tower"),
    [("motion", "clip-mini"), ("motion", "resnet-mini"), ("words", "clip-mini"), ("scene", "clip-mini")],
)
def test_every_bar_holds(world, tower):
    held = bars.held(bars.measure(world, tower, barred=True))
    asked = {bar.shortcut for bar in bars.BARS if bar.world == world and bar.tower in ("", tower)}
    assert all(held["shortcut"].str.startswith(name).any() for name in asked)
    assert set(held["split"]) == {"val", "test"}
    assert held["holds"].all(), held[~held["holds"]].to_string()


@pytest.mark.skipif(not WHOLE, reason="trains three methods, 15 minutes; VIDLIB_BARS=all does it")
@pytest.mark.parametrize("method", ["ma_fsar", "aim", "trx"])
def test_val_is_as_hard_as_test_for_a_trained_method(method):
    p = by_recipe(method, {"dataset": "motion", "shot": 1})
    manifest = few_shot.open_manifest(p)
    run = few_shot.run(p, manifest)
    trained, opened = few_shot.open_trained(run, manifest, "val")
    val = 100 * evaluate(trained, opened.clips, opened.sampler, run.params["test_episodes"], opened.text).accuracy
    test = 100 * run.result["test"]["accuracy"]
    assert abs(test - val) <= APART, f"{method}: val {val:.1f}, test {test:.1f}"
