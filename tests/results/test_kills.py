"""A kill between any two writes of a run: the same call afterwards reuses the run or goes on with it."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.results import runs
from vidlib.results.identity import Identity

START = multiprocessing.get_context("fork")
HOW = Identity("tiny", {"a": 1}, {}, {}, "")
TRAINED = "trained.txt"  # beside the runs: a line for each step that was trained


def whole_run(root: str, fresh: bool = False, die_at: int = 0) -> None:
    """What ``training.run`` writes, in its order; dies by SIGKILL at the ``die_at``-th change of a file or folder."""
    left = iter(range(die_at - 1)) if die_at else None

    def deadly(change):
        def inner(*args, **kwargs):
            if left is not None and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **kwargs)

        return inner

    for owner, name in ((os, "replace"), (Path, "unlink"), (Path, "rename"), (paths, "append")):
        setattr(owner, name, deadly(getattr(owner, name)))
    runs.environment = dict  # it asks git
    with runs.open_run(Identity(HOW.label, HOW.values, {}, {}, root), fresh=fresh, say=lambda line: None) as run:
        if run.state == "finished":
            return
        state, weights = run.path(runs.STATE), run.path(runs.WEIGHTS)
        if not state.is_file():
            with open(Path(root) / TRAINED, "a") as file:
                file.write("trained\n")
            runs.append_line(run.path(runs.METRICS), {"step": 1})
            runs.write_json(state, {"step": 1})
        runs.write_json(weights, {})
        run.count_reading("test", "report")
        runs.write_json(run.path("episodes.npz"), {})
        run.finish({"fit": {"steps": 1}, "by": os.getpid()}, [runs.WEIGHTS, "episodes.npz"])


def go(root: Path, **how) -> int:
    child = START.Process(target=whole_run, args=(str(root),), kwargs=how)
    child.start()
    child.join(60)
    return child.exitcode


def trained(root: Path) -> int:
    return len((root / TRAINED).read_text().splitlines()) if (root / TRAINED).is_file() else 0


@pytest.mark.parametrize("fresh", [False, True])
def test_a_kill_between_any_two_writes_trains_nothing_twice(tmp_path, fresh):
    deaths, kept_after = 0, 0
    for die_at in range(1, 60):
        root = tmp_path / str(die_at)
        root.mkdir()
        assert not fresh or go(root) == 0
        if (code := go(root, fresh=fresh, die_at=die_at)) == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
        before = trained(root)
        done = [
            json.loads(file.read_text())["by"]
            for file in root.glob("*.fresh/result.json" if fresh else "*/result.json")
        ]
        kept = bool(done) or any(root.glob(f"*/{runs.STATE}"))
        kept_after += kept
        assert go(root, fresh=fresh) == 0
        assert trained(root) == before + (not kept), "what was trained is not trained again"
        home = root / HOW.id
        files = {path.name for path in home.iterdir()}
        assert files >= {"result.json", "params.json", "environment.json", runs.WEIGHTS, "episodes.npz"}
        assert runs.STATE not in files and not [*root.glob("*.fresh")]
        assert not done or json.loads((home / "result.json").read_text())["by"] == done[0], "a result is reused"
        assert len([*root.glob("*/result.json")]) == 1 + fresh
    assert deaths >= 12 and kept_after >= 6
    assert trained(root) == 1 + fresh, "and undisturbed it trains once"


def test_a_state_beside_a_finished_result_is_taken_away_where_the_run_is_reused(tmp_path):
    assert go(tmp_path) == 0
    state = tmp_path / HOW.id / runs.STATE
    state.write_text("left by a kill")
    assert go(tmp_path) == 0 and trained(tmp_path) == 1 and not state.exists()


@pytest.mark.parametrize("lost", ["params.json", "environment.json", runs.WEIGHTS, "episodes.npz"])
def test_a_run_that_lacks_a_file_is_not_finished(tmp_path, lost):
    """It is neither found, listed nor reused, but run anew; its result is kept beside."""
    assert go(tmp_path) == 0
    home = tmp_path / HOW.id
    (home / lost).unlink()
    identity = Identity(HOW.label, HOW.values, {}, {}, str(tmp_path))
    assert runs.find(identity) is None and runs.load_all(tmp_path).empty
    said = []
    runs.open_run(identity, say=said.append).close()
    assert f"has a result but lacks {lost}: it is run anew" in said[0]
    assert go(tmp_path) == 0 and trained(tmp_path) == 2
    assert (home / lost).is_file() and (home / "result.incomplete.json").is_file()


def test_a_run_whose_folder_was_deleted_writes_nothing_more(tmp_path):
    identity = Identity(HOW.label, HOW.values, {}, {}, str(tmp_path))
    writes = [
        lambda run: runs.append_line(run.folder / runs.METRICS, {"step": 2}),
        lambda run: runs.write_json(run.folder / runs.STATE, {}),
        lambda run: run.path("figures", "curve.png"),
        lambda run: run.count_reading("test", "report"),
        lambda run: run.finish({}),
    ]
    for write in writes:
        with runs.open_run(identity, say=lambda line: None) as run:
            shutil.rmtree(run.folder)
            with pytest.raises(
                UserError, match=r"tiny-\w+ is no longer this process's \(it was deleted\): nothing more"
            ):
                write(run)
        assert not run.folder.exists(), "it does not come back in parts"
    with runs.open_run(identity, say=lambda line: None) as run:
        (run.folder / "environment.json").unlink()
        with pytest.raises(UserError, match="has lost environment.json, weights: delete it"):
            run.finish({}, ["weights"])
        assert run.state == "new" and not (run.folder / "result.json").exists()
    done = runs.open_run(identity, say=lambda line: None).finish({})
    shutil.rmtree(done.folder)
    with pytest.raises(UserError, match="was deleted: run it anew"):
        done.path("figures", "curve.png")
    assert not done.folder.exists()
