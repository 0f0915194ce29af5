"""M2-CLIP's adapters against their equations, written out slowly."""

import pytest
import torch
from torch.nn import functional as F

from vidlib.layers.ted_adapter import FrameAdapter, TEDAdapter, TextAdapter

VIDEOS, FRAMES, GRID, DIM, WIDTH = 2, 4, (2, 3), 6, 5
PATCHES = GRID[0] * GRID[1]


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return module


def tokens() -> torch.Tensor:
    return torch.randn(VIDEOS * FRAMES, 1 + PATCHES, DIM)


def slow_enhancement(branch, x):
    """``x [T D]`` of one place."""
    down = [F.linear(frame, branch.down.weight, branch.down.bias) for frame in x]
    out = []
    for t in range(len(x)):
        y = branch.conv.bias.clone()
        for k in range(3):
            if 0 <= t + k - 1 < len(x):
                y = y + branch.conv.weight[:, 0, k] * down[t + k - 1]
        out.append(F.linear(y, branch.up.weight, branch.up.bias))
    return torch.stack(out)


def slow_difference(branch, x):
    """``x [T N D]`` of one video's patches."""
    rows, columns = GRID
    out = torch.zeros(x.shape)
    for t in range(len(x)):
        change = x[t] - x[t - 1] if t else torch.zeros_like(x[t])
        down = F.linear(change, branch.down.weight, branch.down.bias)
        for row in range(rows):
            for column in range(columns):
                y = branch.conv.bias.clone()
                for i in range(3):
                    for j in range(3):
                        if 0 <= row + i - 1 < rows and 0 <= column + j - 1 < columns:
                            place = (row + i - 1) * columns + column + j - 1
                            y = y + branch.conv.weight[:, 0, i, j] * down[place]
                out[t, row * columns + column] = F.linear(y, branch.up.weight, branch.up.bias)
    return out


@pytest.mark.parametrize("branches", [("enhancement",), ("difference",), ("enhancement", "difference"), ()])
def test_equals_the_equations(branches):
    adapter, x = shaken(TEDAdapter(DIM, WIDTH, FRAMES, GRID, branches)), tokens()
    videos = x.unflatten(0, (VIDEOS, FRAMES))
    wanted = videos.clone()
    with torch.no_grad():
        for b in range(VIDEOS):
            if "enhancement" in branches:
                for place in range(1 + PATCHES):
                    wanted[b, :, place] += slow_enhancement(adapter.enhancement, videos[b, :, place])
            if "difference" in branches:
                wanted[b, :, 1:] += slow_difference(adapter.difference, videos[b, :, 1:])
        assert torch.allclose(adapter(x), wanted.flatten(0, 1), atol=1e-5)
    assert torch.equal(adapter(x), x) == (not branches)
    if branches == ("difference",):
        assert torch.equal(adapter(x)[:, 0], x[:, 0])


def test_begins_as_the_identity_and_can_leave_it():
    for adapter, x in ((TEDAdapter(DIM, WIDTH, FRAMES, GRID), tokens()), (FrameAdapter(DIM, WIDTH), tokens()[:, :4])):
        kept = x.clone()
        y = adapter(x)
        assert torch.equal(y, x) and torch.equal(x, kept)
        y.square().sum().backward()
        moved = {name for name, p in adapter.named_parameters() if p.grad.abs().max() > 0}
        assert moved == {name for name, _ in adapter.named_parameters() if ".conv." in name or name.endswith("up.bias")}


def test_an_adapter_can_train_a_step_without_autocast():
    adapter, x = shaken(TEDAdapter(DIM, WIDTH, FRAMES, GRID)), tokens().requires_grad_()
    adapter(x * 1).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in adapter.parameters()) and x.grad.abs().max() > 0


def test_videos_do_not_mix():
    adapter, x = shaken(TEDAdapter(DIM, WIDTH, FRAMES, GRID)), tokens()
    other = x.clone()
    other[FRAMES:] = torch.randn_like(other[FRAMES:])
    assert torch.equal(adapter(x)[:FRAMES], adapter(other)[:FRAMES])


def test_the_frame_adapter_is_a_residual_enhancement():
    adapter, x = shaken(FrameAdapter(DIM, WIDTH)), torch.randn(VIDEOS, FRAMES, DIM)
    with torch.no_grad():
        wanted = torch.stack([video + slow_enhancement(adapter.enhancement, video) for video in x])
        assert torch.allclose(adapter(x), wanted, atol=1e-5)


def test_the_text_adapter_changes_its_input_from_the_start():
    adapter, x = TextAdapter(DIM, WIDTH), torch.randn(3, 7, DIM)
    assert not adapter.down.bias.any() and not adapter.up.bias.any()
    assert torch.allclose(adapter(x), x + F.gelu(x @ adapter.down.weight.T) @ adapter.up.weight.T, atol=1e-6)
    assert not torch.allclose(adapter(x), x, atol=1e-3)
