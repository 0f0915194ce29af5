"""``vidlib sweep --slurm`` on a real Slurm: a node dies; under `make test-slurm` (VIDLIB_SLURM=all) the rest too."""

import os
import time

import pandas as pd
import pytest

from tests.slurm.cluster import INSTALL, NODES, Cluster, refusal
from tests.slurm.small import SIZE, Small
from vidlib.results import runs

WAITS = """import os, time
from pathlib import Path
folder = Path(os.environ["VIDLIB_RUNS"])
with open(folder / f"begun{seed}", "a") as file:
    print(os.environ["SLURMD_NODENAME"], file=file)
while not (folder / f"go{seed}").exists():
    time.sleep(0.2)"""
EVERY = pytest.mark.skipif(os.environ.get("VIDLIB_SLURM") != "all", reason="make test-slurm runs it: minutes")
SECONDS = 600  # for anything to happen on a busy machine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("submitit", reason="pip install submitit")
    if refusal():
        pytest.skip(refusal())
    with Cluster(tmp_path_factory.mktemp("slurm") / "c") as cluster:
        yield cluster


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "sbatch" in refusal() and refusal().endswith(INSTALL)


@pytest.fixture
def small(cluster, tmp_path):
    return Small(tmp_path, cluster.environment)


def until(true, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, f"{what}: not in {SECONDS} s"
        time.sleep(0.3)


def requeued_at_once(cluster) -> None:
    """What Slurm lets wait for two minutes starts now."""

    def started() -> bool:
        pending = cluster.ask("squeue", "--noheader", "--states=PENDING", "--format=%i %E").splitlines()
        for job in [line.split()[0] for line in pending if line.endswith("(null)")]:
            cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        return "1" in cluster.ask("squeue", "--noheader", "--states=RUNNING", "--Format=RestartCnt").split()

    until(started, "the second start of a requeued job")


@pytest.mark.parametrize("end", ["node", pytest.param("requeue", marks=EVERY), pytest.param("signal", marks=EVERY)])
def test_a_requeued_job_goes_on_and_nothing_is_done_twice(cluster, small, tmp_path, end):
    """Of a dead node the first job lives on; one that is requeued (preempted, out of time) is ended by Slurm."""
    small.cut("worlds", WAITS)
    seed = {"node": 0, "requeue": 1, "signal": 2}[end]
    sweep = ("sweep", "worlds", "--grid", f"seed={seed}")
    assert ": 1 cells; " in small.vidlib(*sweep, "--slurm", "partition=p", "time=60")
    begun, (job,) = tmp_path / "runs" / f"begun{seed}", (tmp_path / "runs" / "notebooks").glob("*.job")
    until(begun.exists, "the cell")
    if end == "node":
        node = begun.read_text().strip()
        assert cluster.kill(node, jobs=False) == 1
        cluster.ask(
            "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed"
        )  # Slurm's own look takes 30 s
    elif end == "requeue":
        cluster.ask("scontrol", "requeue", job.read_text().strip())
    else:
        cluster.ask("scancel", "--signal=USR2", job.read_text().strip())
    requeued_at_once(cluster)
    (log,) = (tmp_path / "runs" / "notebooks").glob(f"*.slurm/{job.read_text().strip()}_0_log.out")
    if end == "node":
        until(lambda: "waiting for process" in log.read_text(), "the second job")
        assert node in NODES and len(begun.read_text().split()) == 1
    else:
        until(lambda: len(begun.read_text().split()) == 2, "the second try")
    begun.with_name(f"go{seed}").write_text("")
    until(lambda: not cluster.ask("squeue", "--noheader"), "the table")
    (csv,) = (tmp_path / "runs" / "notebooks").glob("sweep-*.csv")
    assert list(pd.read_csv(csv)["state"]) == ["finished"], "written after the requeued job, not after the first"
    said = log.read_text()
    assert said.count("the cell is finished") == 1 and said.count("was finished already") == (end == "node")
    assert not list(csv.parent.glob("*.failed")) and not list(csv.parent.glob("*.unfinished.ipynb"))
    if end == "node":
        cluster.start(node)


@EVERY
def test_features_then_a_run_on_two_devices_then_the_table(cluster, small, tmp_path):
    size = [pair for pair in SIZE[1:] if not pair.startswith("val_")]
    said = small.vidlib(
        *("sweep", "few_shot", "--grid", "seed=0", "--set", "method=ordered_differences", *size, "val_episodes=0"),
        *("device=cpu", "devices=2", "--slurm", "partition=p", "time=60", "cpus=2", "--embed", "0"),
    )
    assert "1 stores of features" in said and ": 1 cells; " in said
    until(lambda: not cluster.ask("squeue", "--noheader"), "the table")
    (csv,) = (tmp_path / "runs" / "notebooks").glob("sweep-*.csv")
    (row,) = pd.read_csv(csv).to_dict("records")
    run = runs.read(tmp_path / "runs" / row["runs"])
    assert row["state"] == "finished" and run.params["devices"] == 2
    (store,) = (tmp_path / "data" / "features").glob("*/head.json")
    assert run.result["features"]["store"] == store.parent.name
