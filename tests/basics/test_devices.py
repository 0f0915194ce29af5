"""One process is one process, whatever a batch system says of the allocation that it runs in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.small import write_clip
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "x",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
ALLOCATIONS = {
    "slurm": SLURM,
    "another rank of slurm": SLURM
    | {"SLURM_PROCID": "3", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NODELIST": "n[1-2]"},
    "lsf": {
        "LSB_JOBID": "5",
        "LSB_DJOB_RANKFILE": "/nowhere",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_RANK": "1",
        "JSM_NAMESPACE_SIZE": "4",
    },
    "mpi": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2"},
    "left over": {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "1"},
}


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_a_process_in_an_allocation_stands_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ALLOCATIONS[name].items():
        monkeypatch.setenv(variable, value)
    fabric = make_fabric("cpu")
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)


def test_nodes_have_as_many_processes_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="2 processes on this node of 3 in all; give every node as many"):
        make_fabric("cpu")


def test_predict_runs_in_an_allocation(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    command = [sys.executable, "-m", "vidlib.cli", "predict", str(tmp_path / "a.mp4"), "--classes", "a cross,a bar"]
    done = subprocess.run(command, env=os.environ | SLURM, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "a cross" in done.stdout
