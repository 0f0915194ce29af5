"""Two CPU processes reach the loss and the gradients of one, on the same episodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.ddp_child import PRECISIONS, steps
from vidlib.results.runs import read_lines

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
    used = [name for name in own if name != "never"]
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
