"""kill -9 at any moment, then the same command again: the same weights, bit for bit, and the same metrics."""

import multiprocessing
from pathlib import Path

import pytest

from tests.training.resume_child import EPISODES, PER_STEP, train
from vidlib.results.runs import read_lines
from vidlib.training import checkpoints, loop

START = multiprocessing.get_context("forkserver")  # imports once, then forks: SIGKILL and start again are cheap
START.set_forkserver_preload(["tests.training.resume_child"])


def go(folder: Path, **how) -> int:
    """Train in a child; -9 where it killed itself."""
    child = START.Process(target=train, args=(str(folder),), kwargs=how)
    child.start()
    child.join(300)
    return child.exitcode


def outcome(folder: Path) -> tuple[bytes, list[dict]]:
    lines = read_lines(folder / "metrics.jsonl")
    return (folder / "checkpoint.safetensors").read_bytes(), [
        {**line, "seconds": 0, "selection_seconds": 0} for line in lines
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert go(folder) == 0
    weights, lines = outcome(folder)
    assert len(lines) == EPISODES // PER_STEP and len({line["loss"] for line in lines}) == len(lines)
    return weights, lines


def test_killed_again_and_again(tmp_path, undisturbed):
    for lines in (1, 5, 9, 2, 12):  # before the first checkpoint, at one, between two, and after a selection
        assert go(tmp_path, die="after a line", count=lines) == -9
    assert go(tmp_path) == 0
    weights, metrics = outcome(tmp_path)
    assert metrics == undisturbed[1]
    assert weights == undisturbed[0]


@pytest.mark.parametrize("die, count", [("half a file", 0), ("half a file", 3), ("before the rename", 4)])
def test_killed_while_writing(tmp_path, undisturbed, die, count):
    assert go(tmp_path, die=die, count=count) == -9
    before = len(read_lines(tmp_path / "metrics.jsonl"))
    assert 0 < before < EPISODES // PER_STEP
    assert go(tmp_path) == 0
    weights, metrics = outcome(tmp_path)
    assert metrics == undisturbed[1] and weights == undisturbed[0]


def test_metrics_past_the_checkpoint_are_dropped(tmp_path, undisturbed):
    """Not only do they come out equal: the lines written before the kill are written anew."""
    assert go(tmp_path, die="half a file", count=2) == -9
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 13, "loss": 99.0}\n{"step": 14, "lo')
    assert go(tmp_path) == 0
    assert outcome(tmp_path)[1] == undisturbed[1]


def test_a_state_is_kept_after_every_selection_and_in_time(tmp_path, monkeypatch):
    kept, own = [], checkpoints.save_state

    def seen(path, method, optimizers, counters, best):
        kept.append(counters["step"])
        own(path, method, optimizers, counters, best)

    monkeypatch.setattr(checkpoints, "save_state", seen)
    train(str(tmp_path / "often"))
    assert kept == [step for step in range(1, 46) if step % 4 == 0 or step % 6 == 0 or step == 45]
    monkeypatch.setattr(loop, "KEEP_SECONDS", 0.0)
    kept.clear()
    train(str(tmp_path / "always"))
    assert kept == [*range(1, 46)]
