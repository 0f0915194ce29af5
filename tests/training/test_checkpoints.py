"""Checkpoints: trainable weights and buffers alone, strict on reading, whole on disk."""

import pytest
import torch
from safetensors import safe_open

from tests.tiny import Tiny
from vidlib.basics.errors import UserError
from vidlib.training import checkpoints


def moved(seed: int = 1) -> Tiny:
    torch.manual_seed(seed)
    method = Tiny()
    for parameter in method.parameters():
        parameter.data = torch.randn_like(parameter)
    method.seen += 5
    return method


def test_only_what_training_changes_is_saved_and_comes_back(tmp_path):
    method, path = moved(), tmp_path / "a.safetensors"
    checkpoints.save_trainable(method, path, {"step": 3, "val_accuracy": None})
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
    assert names == {n for n, _ in method.named_parameters() if not n.startswith("backbone")} | {"seen"}
    other = Tiny()
    tower = other.backbone.weight.clone()
    assert checkpoints.load_trainable(other, path) == {"step": 3, "val_accuracy": None}
    assert torch.equal(other.backbone.weight, tower) and other.seen == 5
    assert all(torch.equal(a, b) for a, b in zip(other.head.parameters(), method.head.parameters(), strict=True))


def test_state_brings_the_optimiser_back_exactly(tmp_path):
    def step(method, optimizer, seed):
        torch.manual_seed(seed)
        for p in method.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        method.never.grad = None
        optimizer.step()

    first = moved()
    one = torch.optim.AdamW(first.parameters(), lr=0.1)
    step(first, one, 1)
    best = {"head.0.bias": torch.ones(3)}
    checkpoints.save_state(tmp_path / "s.safetensors", first, [one], {"step": 1, "best": {"accuracy": 0.5}}, best)
    second = moved()
    two = torch.optim.AdamW(second.parameters(), lr=0.1)
    counters, kept = checkpoints.load_state(tmp_path / "s.safetensors", second, [two])
    assert counters == {"step": 1, "best": {"accuracy": 0.5}} and torch.equal(kept["head.0.bias"], torch.ones(3))
    step(first, one, 2)
    step(second, two, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert len(one.state) == len(two.state) == len([p for p in first.parameters() if p.requires_grad]) - 1


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: delattr(m, "never"), "has never, which this method does not train"),
        (lambda m: m.register_parameter("more", torch.nn.Parameter(torch.ones(1))), "lacks more"),
        (
            lambda m: setattr(m, "text_scale", torch.nn.Parameter(torch.ones(2))),
            r"text_scale of shape \(1,\) instead of",
        ),
        (lambda m: m.head.requires_grad_(False), "head.0.bias, which this method does not train"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, change, words):
    checkpoints.save_trainable(moved(), tmp_path / "a.safetensors")
    other = Tiny()
    change(other)
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(UserError, match=words):
        checkpoints.load_trainable(other, tmp_path / "a.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="nothing.safetensors does not exist"):
        checkpoints.load_trainable(Tiny(), tmp_path / "nothing.safetensors")
    path = tmp_path / "a.safetensors"
    checkpoints.save_trainable(moved(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="a.safetensors cannot be read"):
        checkpoints.load_trainable(Tiny(), path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    checkpoints.save_trainable(moved(), path, {"step": 1})

    def fails(tensors, name, **rest):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(UserError, match="a.safetensors cannot be written: disk full; what was there before is unchang"):
        checkpoints.save_trainable(moved(), path, {"step": 2})
    assert checkpoints.load_trainable(Tiny(), path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
