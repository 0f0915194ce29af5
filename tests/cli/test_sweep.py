"""``vidlib sweep``: all cells checked first, finished ones skipped; after a failure or Ctrl-C it can go on."""

import re
import signal
import sys
import threading
import time

import pandas as pd
import pytest

from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.cli import run
from vidlib.cli import sweep as sweeping

DOES = """
import sys, time
from pathlib import Path
seed, target, log = sys.argv[1:]
Path(log).open("a").write(seed + "\\n")
{body}
Path(target).write_text("whole")
"""
TOGETHER = """
import os
Path(log + seed).write_text(os.environ["OMP_NUM_THREADS"])
end = time.monotonic() + 60
while not all(Path(log + each).is_file() for each in "012"):
    if time.monotonic() > end:
        sys.exit("the others did not start beside this one")
    time.sleep(0.05)
"""


@pytest.fixture
def does(tmp_path, monkeypatch):
    """Each cell's process is a few lines of Python that get its seed; what comes back reads which were started."""
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs" / "notebooks").mkdir(parents=True)
    log = tmp_path / "started"

    def put(body: str = "pass"):
        log.write_text("")

        def command(cell):
            target = str(run.executed(cell.request))
            return [sys.executable, "-c", DOES.format(body=body), cell.values["seed"], target, str(log)]

        monkeypatch.setattr(sweeping, "command_of", command)
        return lambda: log.read_text().split()

    return put


def sweep(*more: str, seeds: str = "0,1,2") -> int:
    return cli.main(["sweep", "worlds", "--grid", f"seed={seeds}", *more])


def summary(tmp_path) -> pd.DataFrame:
    (file,) = (tmp_path / "runs" / "notebooks").glob("sweep-*.csv")
    return pd.read_csv(file).set_index("seed")


def test_a_grid_is_read():
    assert sweeping.grid(["shot=1,5", "milestones=[[1, 2]],[[3, 4]]"]) == {
        "shot": ["1", "5"],
        "milestones": ["[[1, 2]]", "[[3, 4]]"],
    }
    for wrong, sentence in ((["shot"], "not of the form"), (["shot=1,"], "not of the form"), (["a=1", "a=2"], "twice")):
        with pytest.raises(UserError, match=sentence):
            sweeping.grid(wrong)


def test_every_wrong_cell_is_named_and_nothing_is_started(does, capsys):
    started = does()
    grid = ["--grid", "shot=1,x", "way=3,99"]
    assert cli.main(["sweep", "ma_fsar/laptop", *grid]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("shot=1 way=99: way: 99 is more than the 16 classes")
    assert lines[1] == "shot=x way=3; shot=x way=99: shot: 'x' is not a valid integer"
    assert lines[2:] == ["nothing was started"] and started() == []
    assert sweep("--set", "seed=3") == 1 and "seed: given in the grid and beside it" in capsys.readouterr().err
    assert sweep("--jobs", "0") == 1 and "jobs: 0 is not at least 1" in capsys.readouterr().err


def test_cells_that_mean_the_same_run_once(does):
    does()
    assert [cell.name for cell in sweeping.cells("worlds", {"seed": ["1", "01", "2"]})] == ["seed=1", "seed=2"]


def test_it_goes_on_after_a_failure_says_why_and_skips_what_is_finished(does, tmp_path, capsys):
    started = does("if seed == '1': print('some lines'); sys.exit('seed 1 cannot be')")
    assert sweep() == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "3 cells, 0 of them finished and skipped, 1 at a time"
    assert "expected cost: unknown for 3: vidlib estimate measures it" in said.out
    assert said.err.splitlines()[-2:] == [
        "2 finished, 0 skipped, 1 failed of 3 cells",
        "failed: seed=1: seed 1 cannot be",
    ]
    assert started() == ["0", "1", "2"]
    table = summary(tmp_path)
    assert list(table["state"]) == ["finished", "failed", "finished"] and table["why"][1] == "seed 1 cannot be"
    assert table["command"][2] == "vidlib run worlds --set seed=2"
    assert sweep("--status") == 0
    assert capsys.readouterr().out.splitlines()[1] == "seed=1: failed, seed 1 cannot be"

    started = does()
    assert sweep() == 0
    assert started() == ["1"] and "3 cells, 2 of them finished and skipped" in capsys.readouterr().out
    assert list(summary(tmp_path)["state"]) == ["skipped", "finished", "skipped"]


def test_jobs_run_side_by_side_and_share_the_threads(does, tmp_path):
    does(TOGETHER)
    assert sweep("--jobs", "3") == 0, "each waited for the others, and they came"
    given = {(tmp_path / f"started{seed}").read_text() for seed in "012"}
    assert given == {str(max(1, len(sweeping.os.sched_getaffinity(0)) // 3))}


def test_jobs_side_by_side_have_a_gpu_each(does, tmp_path, monkeypatch, capsys):
    does(TOGETHER.replace("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    assert sweep("--jobs", "3") == 0 and "seed=1: started on GPU GPU-5f" in capsys.readouterr().err
    assert [(tmp_path / f"started{seed}").read_text() for seed in "012"] == ["3", "GPU-5f", "3"]


def test_gpus_are_those_that_the_driver_lists(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweeping._gpus() == [], "there is no driver"
    told = "GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{told}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert sweeping._gpus() == ["0", "1"]


def test_a_cell_that_needs_another_cells_run_waits_for_it(does, tmp_path, monkeypatch, capsys):
    busy = "print('run folder x is in use by process 3 on here: wait'); sys.exit(1)"
    started = does(f"""
done, seen = Path(log + "done"), Path(log + "seen")
if seed == "1" and not done.exists():
    {busy}
for _ in range(600 * (seed == "0")):
    if seen.exists():
        break
    time.sleep(0.1)
done.write_text("")""")
    own = sweeping._end
    monkeypatch.setattr(sweeping, "_end", lambda cell: (tmp_path / "startedseen").touch() or own(cell))
    assert sweep("--jobs", "2", seeds="0,1") == 0
    assert sorted(started()) == ["0", "1", "1"]  # which of two that start together is first, the machine decides
    assert "waits for a run that another cell is making" in capsys.readouterr().err


def test_a_run_that_somebody_else_makes_is_a_failure(does, capsys):
    does("print('run folder x is in use by process 3 on here: wait'); sys.exit(1)")
    assert sweep(seeds="0") == 1
    assert "failed: seed=0: run folder x is in use by process 3" in capsys.readouterr().err


@pytest.fixture
def interruptible():
    """Ctrl-C means an interruption: a job that a script starts in the background is told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_nohup_ignores_stays_ignored(does, monkeypatch):
    seen, before = [], signal.signal(signal.SIGHUP, signal.SIG_IGN)
    does()
    own = sweeping._start
    look = lambda *given: seen.append(signal.getsignal(signal.SIGHUP)) or own(*given)  # noqa: E731
    monkeypatch.setattr(sweeping, "_start", look)
    assert sweep(seeds="0") == 0 and seen == [signal.SIG_IGN]
    signal.signal(signal.SIGHUP, before)


def test_ctrl_c_leaves_a_state_that_the_same_command_continues(interruptible, does, tmp_path, capsys):
    started = does("""
if seed == "1":
    try:
        Path(log + "sleeps").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        Path(log + "ended").write_text("in order")
        raise""")

    def interrupt() -> None:
        while not (tmp_path / "startedsleeps").exists():
            time.sleep(0.1)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert sweep() == 1
    assert "interrupted: the same command goes on" in capsys.readouterr().err
    assert (tmp_path / "startedended").read_text() == "in order", "no cell runs on unseen"
    assert list(summary(tmp_path)["state"]) == ["finished", "interrupted", "waiting"]
    started = does()
    assert sweep() == 0 and started() == ["1", "2"]
    assert list(summary(tmp_path)["state"]) == ["skipped", "finished", "finished"]


@pytest.mark.parametrize(
    "body, why",
    [
        ("print('step 7', flush=True); os.kill(os.getpid(), 9)", r"it was killed by signal 9 \(SIGKILL; .*memory"),
        ("print('step 7', flush=True); os.kill(os.getpid(), 11)", r"it was killed by signal 11 \(SIGSEGV\)"),
        ("print('step 7', flush=True); sys.exit(137)", r"it was killed by signal 9 \(SIGKILL; .*memory"),
        ("sys.exit(3)", "it ended with code 3"),
        ("print('step 7', flush=True); sys.exit('no such thing')", "no such thing"),
    ],
)
def test_the_reason_of_a_killed_cell_is_its_signal(does, tmp_path, capsys, body, why):
    does(f"import os; {body}")
    assert sweep(seeds="0") == 1
    assert re.fullmatch(rf"{why}.*", summary(tmp_path)["why"][0])
    assert "step 7" not in capsys.readouterr().err
