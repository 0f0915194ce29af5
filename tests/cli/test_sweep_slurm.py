"""``vidlib sweep --slurm`` and ``--status`` without a Slurm: stand-ins for its commands print what the real ones do."""

import json
import os
import re
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.cli import run, sweep_slurm
from vidlib.cli import sweep as sweeping
from vidlib.params.notebooks import request
from vidlib.results import runs

SBATCH = """#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = --help ]; then
  echo "  -p, --partition=p  which"; echo "      --exclusive[=user]"; echo "  -t, --time=minutes"
  for word in mem qos cpus-per-task gpus-per-node array requeue nodes ntasks; do echo "      --$word=x"; done
else
  if [ -e refuse ]; then echo "sbatch: error: invalid partition" >&2; exit 1; fi
  echo >> count; number=$(wc -l < count); cp "$1" script.$number; echo "Submitted batch job $number"
fi
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of the stand-ins: ``script.N`` is what was submitted as job N, ``queue`` what squeue prints."""
    pytest.importorskip("submitit", reason="pip install submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "queue").write_text("")
    for name, code in {"sbatch": SBATCH, "srun": "#!/bin/sh", "squeue": f"#!/bin/sh\ncat {folder}/queue"}.items():
        (folder / name).write_text(code)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    return folder


def sweep(*more: str, seeds: str = "0,1,2") -> int:
    return cli.main(["sweep", "worlds", "--grid", f"seed={seeds}", *more])


def test_words_are_sbatchs_and_submitits(slurm):
    given = ["partition=p", "timeout_min=60", "cpus=4", "gpus-per-node=1", "mem_gb=8", "slurm_qos=x", "exclusive=true"]
    assert sweep_slurm.parameters([*given, "array_parallelism=3", "nodes=1"]) == {
        **{"partition": "p", "time": 60, "cpus_per_task": "4", "gpus_per_node": "1", "mem": "8G", "qos": "x"},
        **{"exclusive": True, "array_parallelism": 3},
    }


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["partitoin=p", "time=9"], "sbatch has no 'partitoin': did you mean 'partition'"),
        (["partition=p"], "time is missing: how many minutes"),
        (["time=1:00:00"], "time: '1:00:00' is not a whole number of minutes of at least 5"),
        (["time=9", "array_parallelism=0"], "array_parallelism: '0' is not a whole number of at least 1"),
        (["time=9", "timeout_min=9"], "timeout_min is given twice"),
        (["time=9", "array=1-3"], "array is set by the sweep itself"),
        (["time=9", "nodes=2"], "a cell runs on one node"),
        (["time"], "not of the form name=value"),
    ],
)
def test_wrong_words_are_one_sentence_and_nothing_is_submitted(slurm, capsys, pairs, said):
    assert sweep("--slurm", *pairs) == 1
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error and not (slurm / "count").exists()


def test_what_is_missing_is_said_with_what_installs_it(slurm, monkeypatch, capsys):
    assert sweep("--slurm", "time=9", "--jobs", "2") == 1 and "array_parallelism=N" in capsys.readouterr().err
    assert sweep("--embed", "0") == 1 and "vidlib data embed does it" in capsys.readouterr().err
    (slurm / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(slurm))
    assert sweep("--slurm", "time=9") == 1 and "sbatch is not on PATH" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert sweep("--slurm", "time=9") == 1 and "pip install submitit" in capsys.readouterr().err


def test_cells_become_one_array_and_only_what_is_not_queued_is_submitted_again(slurm, tmp_path, capsys):
    whole = run.executed(request("worlds", {"seed": "3"}))
    whole.parent.mkdir(parents=True)
    whole.write_text("whole")
    (slurm / "refuse").write_text("")
    assert sweep("--slurm", "time=9") == 1 and "not submitted: sbatch: error: invalid part" in capsys.readouterr().err
    (slurm / "refuse").unlink()
    words = ("--slurm", "time=60", "cpus=4", "gpus_per_node=1", "array_parallelism=2")
    assert sweep(*words, seeds="0,1,2,3") == 0
    said = capsys.readouterr().out
    assert "4 cells, 1 of them finished and skipped, 0 queued or running" in said and "job 1: 3 cells" in said
    cells, table = ((slurm / f"script.{number}").read_text() for number in (1, 2))
    wanted = ("--array=0-2%2", "--requeue", "--time=60", "--cpus-per-task=4", "--gpus-per-node=1", "--job-name=vidlib")
    assert all(f"#SBATCH {word}\n" in cells for word in wanted)
    assert "srun" in cells and cells.count("--cpus-per-task=4") == 2, "a step does not inherit it"
    assert "--dependency=afterany:1" in table and "--gpus" not in table and "--array" not in table
    (csv,) = (tmp_path / "runs" / "notebooks").glob("sweep-*.csv")
    assert list(pd.read_csv(csv)["state"]) == ["waiting"] * 3 + ["skipped"]

    (slurm / "queue").write_text("1_0\n1_2\n2\n")
    assert sweep(*words, seeds="0,1,2,3") == 0
    assert "2 queued or running" in (said := capsys.readouterr().out) and "job 3: 1 cells" in said
    assert "--array" not in (slurm / "script.3").read_text()
    assert sweep("--status", seeds="1,3,4") == 0
    assert capsys.readouterr().out.splitlines() == [
        "seed=1: not begun, submitted as job 3",
        "seed=3: finished",
        "seed=4: not begun",
        "1 finished, 0 running, 0 failed, 0 interrupted, 2 not begun of 3 cells",
    ]
    with pytest.raises(UserError, match="fresh: a requeued job"):
        found = sweeping.cells("few_shot", {"seed": ["0"]}, {"fresh": "True"})
        list(sweep_slurm.submit(found, None, {"time": 9}, None))


def test_a_job_waits_for_whoever_is_at_its_cell_then_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path))
    target = run.executed(request("worlds", {"seed": 1}))
    lock, slept = Lock(target.with_suffix(".lock")).acquire(), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        lock.release()

    answers = [(1, "run folder x is in use by process 3 on here: wait"), (-9, "step 7"), (0, "")]
    monkeypatch.setattr(sweep_slurm.time, "sleep", sleep)
    monkeypatch.setattr(sweep_slurm, "_do", lambda *words: answers.pop(0))
    job = sweep_slurm.CellJob("worlds", {"seed": 1}, "")
    with pytest.raises(SystemExit):
        job()
    assert len(slept) == 2 and f"waiting for process {os.getpid()} on " in capsys.readouterr().out
    found = sweeping.cells("worlds", {"seed": ["1"]})
    from vidlib.cli import sweep_status

    assert sweep_status.lines(found)[0].startswith("seed=1: failed, it was killed by signal 9 (SIGKILL")
    job()
    assert answers == [] and not run.failure(request("worlds", {"seed": 1})).exists()
    target.write_text("whole")
    job()
    assert capsys.readouterr().out.strip().endswith("the cell was finished already")


def test_status_reads_how_far_a_run_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path))
    asked = request("few_shot", {"seed": 3, "dataset": "scene"})
    (home,) = run.homes(asked)
    home.mkdir()
    for step in (1, 2, 3):
        runs.append_line(home / runs.METRICS, {"step": step})

    def status() -> str:
        assert cli.main(["sweep", "few_shot", "--grid", "seed=3", "--set", "dataset=scene", "--status"]) == 0
        return capsys.readouterr().out.splitlines()[0]

    assert status() == f"seed=3: interrupted, run {home.name}: step 3, no checkpoint yet"
    meta = {"step": 2, "settings": {"batches": 9, "batches_per_step": 2}}
    save_file({"x": torch.zeros(1)}, home / runs.STATE, {"vidlib": json.dumps(meta)})
    assert status() == f"seed=3: interrupted, run {home.name}: step 3 of 5, checkpoint at 2"
    lock = Lock(run.executed(asked).with_suffix(".lock")).acquire()
    running = rf"seed=3: running, process {os.getpid()} on .*heartbeat \d+ s ago.*step 3 of 5, checkpoint at 2"
    assert re.fullmatch(running, status())
    lock.release()


def test_a_store_is_made_once_for_all_cells_that_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    axes = {"seed": ["0", "1"], "frames": ["2", "4"]}
    assert sweep_slurm.stores(sweeping.cells("few_shot", axes, {"method": "otam"}), 1) == [], "it trains its tower"
    made = sweep_slurm.stores(sweeping.cells("few_shot", axes, {"method": "ordered_differences"}), 1)
    assert len(made) == 2 and made[0][:3] == ["data", "embed", "motion"] and made[0] != made[1]
