"""Logistic regression of many problems: the optimum by its gradient, and what scipy finds from the objective alone."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.nn import functional as F

from vidlib.layers.softmax_regression import fit


def problem(samples: int, width: int, way: int, problems: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors close together, as a CLIP's are, and labels of which every class has at least one."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(problems, samples, width, generator=g) + 3 * torch.randn(1, 1, width, generator=g)
    labels = torch.stack([torch.arange(samples)[torch.randperm(samples, generator=g)] % way for _ in range(problems)])
    return F.normalize(x, dim=-1), labels


@pytest.mark.parametrize("strength", [0.1, 30.0, 1e4])
@pytest.mark.parametrize(("samples", "width", "way"), [(5, 64, 5), (25, 64, 5), (9, 3, 4), (40, 16, 20)])
def test_the_gradient_is_zero_at_what_is_found(samples, width, way, strength):
    x, labels = problem(samples, width, way)
    w, b = (found.requires_grad_() for found in fit(x, labels, way, strength))
    logits = x.double() @ w + b[:, None]
    loss = strength * F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") + w.square().sum() / 2
    loss.backward()
    assert max(w.grad.abs().max(), b.grad.abs().max()) < 1e-8 * (1 + strength) * samples
    assert w.shape == (4, width, way) and w.dtype == torch.float64


def test_scipy_finds_the_same():
    x, labels = problem(12, 6, 3, problems=1)
    w, b = fit(x, labels, 3, 20.0)
    rows, truth = x[0].double().numpy(), labels[0].numpy()

    def objective(flat: np.ndarray) -> float:
        weights, bias = flat[:18].reshape(6, 3), flat[18:]
        total = 0.5 * (weights**2).sum()
        for row, own in zip(rows, truth, strict=True):
            scores = row @ weights + bias
            total += 20.0 * (np.log(np.exp(scores).sum()) - scores[own])
        return total

    found = optimize.minimize(objective, np.zeros(21), options={"gtol": 1e-7, "maxiter": 5000}).x
    assert np.allclose(w[0].numpy(), found[:18].reshape(6, 3), atol=1e-3)
    assert np.allclose((b[0] - b[0].mean()).numpy(), found[18:] - found[18:].mean(), atol=1e-3)


def test_a_problem_is_solved_alone_as_in_company_and_a_shift_moves_the_bias_alone():
    x, labels = problem(10, 8, 4)
    w, b = fit(x, labels, 4, 50.0)
    alone, _ = fit(x[2:3], labels[2:3], 4, 50.0)
    assert torch.allclose(w[2:3], alone, atol=1e-7)
    shift = torch.ones(8)
    moved, bias = fit(x.double() + shift, labels, 4, 50.0)
    assert torch.allclose(moved, w, atol=1e-7) and torch.allclose(bias, b - (shift.double() @ w), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fit(x, labels, 4, 50.0)[0], w)
