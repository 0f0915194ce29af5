"""Training on labelled clips: two processes equal one, a killed run goes on bit for bit, rates by part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.labelled_child import BATCH, PRECISIONS, batches, gradients, make, train
from vidlib.basics.errors import UserError
from vidlib.methods import VIDEO_TEXT
from vidlib.results.runs import read_lines
from vidlib.training import checkpoints, step

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.training.labelled_child", str(out)]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=threads)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", VIDEO_TEXT)
def test_two_processes_with_half_a_batch_each_equal_one_with_all_of_it(two, tmp_path, name, precision):
    own = gradients(name, tmp_path, precision)
    ranks = [torch.load(two / name / precision / f"gradients{rank}.pt") for rank in (0, 1)]
    exact = precision == "64-true"
    norm = torch.cat([g.flatten() for g in own.values()]).norm()
    assert norm > 0 and next(iter(own.values())).dtype == (torch.float64 if exact else torch.float32)
    for rank in ranks:
        assert rank.keys() == own.keys()
        off = torch.cat([(rank[key] - own[key]).flatten() for key in own]).norm()
        assert off <= (1e-9 if exact else 1e-4) * norm
    one, both = (read_lines(folder / "metrics.jsonl") for folder in (tmp_path, two / name / precision))
    assert len(one) == len(both) == 2
    for a, b in zip(one, both, strict=True):
        for key in (key for key in a if key.startswith("loss") or key == "grad_norm"):
            assert b[key] == pytest.approx(a[key], rel=1e-9 if exact else 1e-5), key


@pytest.mark.parametrize("name", VIDEO_TEXT)
def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path, name, monkeypatch):
    whole, _ = train(name, tmp_path / "whole", "32-true", steps=4)
    plain, calls = step.take_step, []

    def dies(*given):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        plain(*given)

    monkeypatch.setattr("vidlib.training.loop.take_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "cut", "32-true", steps=4, checkpoint_every=2)
    monkeypatch.setattr("vidlib.training.loop.take_step", plain)
    again, done = train(name, tmp_path / "cut", "32-true", steps=4, checkpoint_every=2)
    assert done.steps == 4 and [line["step"] for line in read_lines(tmp_path / "cut" / "metrics.jsonl")] == [1, 2, 3, 4]
    one, other = checkpoints.trainable_state(whole), checkpoints.trainable_state(again)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_training_lowers_the_loss(tmp_path):
    for name in VIDEO_TEXT:
        train(name, tmp_path / name, "32-true", steps=60, lr=5e-3)
        losses = [line["loss"] for line in read_lines(tmp_path / name / "metrics.jsonl")]
        assert sum(losses[-12:]) < 0.9 * sum(losses[:12]), name


def test_every_epoch_meets_every_video_once_in_an_order_of_its_own():
    source = batches(*make("actionclip"))
    epochs = [[int(r) for i in range(source.per_epoch) for r in source.rows(e * source.per_epoch + i)] for e in (0, 1)]
    assert source.per_epoch == 6 and all(sorted(rows) == list(range(36)) for rows in epochs) and epochs[0] != epochs[1]
    again = batches(*make("actionclip"))
    assert torch.equal(source[7].clips, again[7].clips) and torch.equal(source[7].ids, again[7].ids)
    halves = [batches(*make("actionclip"), part=(rank, 2))[7] for rank in (0, 1)]
    assert torch.equal(torch.cat([half.clips for half in halves]), source[7].clips)
    assert torch.equal(torch.cat([half.ids for half in halves]), source[7].ids)
    assert torch.equal(torch.cat([half.labels for half in halves]), source[7].labels)
    names = source.clips.manifest.classes("train")
    assert [names[k] for k in source[7].labels] == [source.clips.rows[r].cls for r in source.rows(7)]
    with pytest.raises(UserError, match="cannot be shared out evenly among 4"):
        batches(*make("actionclip"), part=(0, 4))
    with pytest.raises(UserError, match="batch: 60 is more than the 36 training videos"):
        type(source)(source.clips, source.sentences, 60, 0)
    assert BATCH == 6


def test_parts_of_a_method_have_rates_of_their_own():
    method, _ = make("actionclip")
    method.rates = {"head.": 10.0, "head.lstm.bias": 2.0}
    groups = step.optimizers(method, "adamw", 1e-4, 0.2)[0].param_groups
    rates = {id(p): group["peak"] for group in groups for p in group["params"]}
    expected = {name: 1e-3 if name.startswith("head.") else 1e-4 for name in method.trainable()}
    expected |= {name: 2e-4 for name in expected if name.startswith("head.lstm.bias")}
    assert any(name.startswith("head.lstm.bias") for name in expected)
    assert {name: rates[id(p)] for name, p in method.trainable().items()} == pytest.approx(expected)
    assert all(group["lr"] == group["peak"] for group in groups)
