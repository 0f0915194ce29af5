"""``make bench-gpu`` at tiny sizes on the CPU: every part runs, its equalities hold, and what time forbids is named."""

import json
import math

import pytest

from benchmarks import gpu


@pytest.fixture(scope="module")
def found():
    return json.loads(json.dumps(gpu.measure(tiny=True, seconds=900)))


def test_every_part_is_there_and_equalities_hold(found):
    assert not found["failed"] and not found["left_out"]
    assert found["holds"] == {"deterministic": True, "resumed": True}
    assert gpu.PARTS.keys() <= found.keys()
    assert found["repeated"]["broken_off_apart"] > 0, "the broken run was another"
    speeds = found["embedding"], found["embedding, compiled"]
    for rows in speeds:
        assert rows.keys() == {f"clip-mini, {kind}" for kind in ("vidlib", "open_clip", "timm")}
    assert all(row["videos_per_second"] > 0 and row["share"] > 0 for rows in speeds for row in rows.values())
    ours, plain = (speeds[0][f"clip-mini, {kind}"]["gflop_per_video"] for kind in ("vidlib", "open_clip"))
    assert math.isclose(ours, plain) and ours > 0.1


def test_training_stands_against_full_tuning(found):
    rows = found["training"]
    assert rows.keys() == set(gpu.NAMES) and rows["otam"]["memory_of_full_tuning"] == 1
    assert rows["ma_fsar"]["trained"] < rows["otam"]["trained"] < rows["clip_fsar"]["trained"]
    assert all(row["memory_mib"] > 1 and row["steps_per_second"] > 0 for row in rows.values())
    assert found["training, compiled"]["aim"]["compiled"]["graphs"] >= 1


def test_numbers_of_the_other_parts(found):
    assert found["matching"].keys() == {"otam", "bimhm", "trx"} and found["precision"]["queries"] == 10
    assert 0 < found["precision"]["largest_difference"] < 0.1 * found["precision"]["largest_logit"]
    loading = found["loading"]
    need = found["embedding"]["clip-mini, vidlib"]["videos_per_second"] / loading["videos_per_second_of_one_worker"]
    assert loading["workers_that_keep_up"] == {"clip-mini": math.ceil(need)}


def test_without_time_every_part_is_named(monkeypatch):
    found = gpu.measure(tiny=True, seconds=-1)
    assert found["left_out"] == dict.fromkeys(gpu.PARTS, "no time left") and not found["failed"]
    monkeypatch.setattr(gpu, "PARTS", {"peak": (0, lambda b: 1 / 0), "loading": (0, lambda b: __import__("no_such"))})
    found = gpu.measure(tiny=True, seconds=900)
    assert "ZeroDivisionError" in found["failed"]["peak"] and "no_such" in found["left_out"]["loading"]
