"""Adapters: size, start, skip; drop path."""

import torch

from vidlib.layers.adapter import Adapter, DropPath


def test_a_new_adapter_is_identity_or_zero_to_the_last_bit():
    x = torch.randn(2, 5, 12)
    assert torch.equal(Adapter(12, skip=True)(x), x)
    assert torch.equal(Adapter(12, skip=False)(x), torch.zeros_like(x))


def test_size_at_vit_b_width():
    assert sum(p.numel() for p in Adapter(768, 0.25).parameters()) == 295_872


def test_the_formula_and_the_skip():
    with_skip, without = Adapter(8, 0.5, skip=True), Adapter(8, 0.5, skip=False)
    torch.nn.init.normal_(with_skip.up.weight)
    without.load_state_dict(with_skip.state_dict())
    x = torch.randn(3, 8)
    y = torch.nn.functional.gelu(x @ without.down.weight.T) @ without.up.weight.T
    assert torch.allclose(without(x), y, atol=1e-6) and torch.allclose(with_skip(x), x + y, atol=1e-6)


def test_a_new_adapter_can_learn():
    adapter = Adapter(8)
    adapter(torch.randn(3, 8)).square().sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_drop_path_drops_whole_items_and_keeps_the_mean():
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    assert torch.equal(drop.eval()(x), x)
    y = drop.train()(x)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(y, y[:, :1, :1].expand_as(y)) and abs(y.mean() - 1) < 0.05
