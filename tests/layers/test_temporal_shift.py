"""The temporal shift against a loop."""

import pytest
import torch

from vidlib.layers.temporal_shift import temporal_shift


@pytest.mark.parametrize(("frames", "dim", "div"), [(4, 16, 8), (3, 19, 8), (1, 16, 8), (2, 12, 3)])
def test_the_shift_is_that_of_the_definition(frames, dim, div):
    x, fold = torch.randn(2 * frames, 6, dim), dim // div
    wanted = x.clone()
    for video in range(2):
        for t in range(frames):
            at, before, after = (video * frames + t + step for step in (0, -1, 1))
            wanted[at, 1:, :fold] = x[after, 1:, :fold] if t < frames - 1 else 0
            wanted[at, 1:, fold : 2 * fold] = x[before, 1:, fold : 2 * fold] if t > 0 else 0
    shifted = temporal_shift(x, frames, div)
    assert torch.equal(shifted, wanted)
    assert torch.equal(shifted[:, 0], x[:, 0]) and not torch.equal(shifted[:, 1:], x[:, 1:])


def test_what_is_shifted_out_gets_no_gradient():
    x = torch.randn(3, 2, 8, requires_grad=True)
    temporal_shift(x, 3).sum().backward()
    lost = torch.zeros(3, 2, 8)
    lost[0, 1, 0] = lost[2, 1, 1] = 1  # the first frame has no frame before to go to, the last none after
    assert torch.equal(x.grad, 1 - lost)
