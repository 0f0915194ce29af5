"""The embedded worlds keep their bars: no trick gets far, who sees the paths does, and val is as hard as test."""

import os

import pytest

from vidlib.params.by_recipe import by_recipe
from vidlib.studies import bars
from vidlib.training import few_shot

WHOLE = os.environ.get("VIDLIB_BARS") == "all"


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
@pytest.mark.parametrize("method", bars.METHODS)
def test_val_is_as_hard_as_test_for_a_trained_method(method):
    p = by_recipe(method, {"dataset": "motion", "shot": 1})
    manifest = few_shot.open_manifest(p)
    val, test = bars.val_beside_test(few_shot.run(p, manifest), manifest)
    assert abs(test - val) <= bars.APART, f"{method}: val {val:.1f}, test {test:.1f}"
