"""Two CPU processes reach the loss, the gradients and the BatchNorm's statistics of one, on the same episodes."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.ddp_child import PRECISIONS, Normed, steps
from vidlib.basics.errors import UserError
from vidlib.results.runs import read_lines
from vidlib.training.step import Statistics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.training.ddp_child", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_processes_equal_one(two, tmp_path, precision):
    own = steps(tmp_path, precision)
    ranks = [torch.load(two / precision / f"gradients{rank}.pt") for rank in (0, 1)]
    assert own.keys() == ranks[0].keys() and own["text_scale"].dtype == PRECISIONS[precision]
    assert own["never"].isnan().all() and not own["sometimes"].isnan().any()
    moved = ("running_mean", "running_var", "num_batches_tracked")
    for rank in ranks:
        assert own["num_batches_tracked"] == 10 and own["running_var"].std() > 0.01
        for name in moved:
            torch.testing.assert_close(rank[name], own[name])
    used = [name for name in own if name not in ("never", *moved)]
    norm = torch.cat([own[name].flatten() for name in used]).norm()
    for rank in ranks:
        assert rank["never"].isnan().all()
        off = torch.cat([(rank[name] - own[name]).flatten() for name in used]).norm()
        assert off <= (1e-9 if precision == "64-true" else 1e-4) * norm
    one, both = (read_lines(folder / "metrics.jsonl") for folder in (tmp_path, two / precision))
    assert [line["episode"] for line in both] == [3, 5]
    for a, b in zip(one, both, strict=True):
        for name in ("loss", "loss.visual", "loss.text", "grad_norm"):
            assert b[name] == pytest.approx(a[name], rel=1e-9 if precision == "64-true" else 1e-5), name
        assert a["accuracy"] == b["accuracy"]


def test_parts_of_a_batch_have_no_statistics_of_it():
    two = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match="a BatchNorm is trained here.*give devices 1"):
        Statistics(two, Normed(), together=True)
    assert Statistics(two, Normed().eval(), together=True).norms == []
