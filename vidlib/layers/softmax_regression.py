"""Multinomial logistic regression of many small problems at once: Newton's method, to the optimum, without chance.

Legend: `E` problems, `S` samples, `C` features, `W` classes, `R` rank, at most min(S, C).

    least of   strength * sum_i CE(x_i w + b, y_i) + |w|^2 / 2        over w [C W] and b [W], b without a penalty

The optimum's ``w`` lies in the span of the centred samples, so it is sought there: R numbers a class and not C.
Newton's equations are solved by conjugate gradients, preconditioned by Boehning's bound (1992), diagonal there.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS, INNER, HALVINGS = 100, 60, 30
ENOUGH = 1e-9  # a problem is solved where its gradient is that part of the gradient at zero


def fit(x: Tensor, labels: Tensor, way: int, strength: float) -> tuple[Tensor, Tensor]:
    """``x [E S C]``, ``labels [E S]`` of ``way`` classes -> ``w [E C W]``, ``b [E W]``, float64 but on MPS."""
    x = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        middle = x.mean(1, keepdim=True)
        left, size, right = torch.linalg.svd(x - middle, full_matrices=False)
        ones = torch.ones_like(left[..., :1])
        z = torch.cat([left * size[:, None], ones], dim=-1)  # the bias is the last feature
        penalty = torch.cat([torch.ones_like(size), torch.zeros_like(size[:, :1])], dim=1)[..., None]  # [E R+1 1]
        bound = strength * z.square().sum(1)[..., None] / 2 + penalty
        found = _newton(z, F.one_hot(labels, way).to(x), strength, penalty, bound)
        w = right.mT @ found[:, :-1]
        return w, found[:, -1] - (middle @ w)[:, 0]


def _newton(z: Tensor, truth: Tensor, strength: float, penalty: Tensor, bound: Tensor) -> Tensor:
    """The least of the objective over ``[E R+1 W]``; a problem that is solved stays where it is."""

    def objective(at: Tensor) -> Tensor:
        cost = -strength * ((z @ at).log_softmax(-1) * truth).sum((1, 2), keepdim=True)
        return cost + (penalty * at.square()).sum((1, 2), keepdim=True) / 2

    def slope(at: Tensor, share: Tensor) -> Tensor:
        return strength * z.mT @ (share - truth) + penalty * at

    at = z.new_zeros(len(z), z.shape[2], truth.shape[2])
    share = (z @ at).softmax(-1)
    gradient, value = slope(at, share), objective(at)
    limit = ENOUGH * _norm(gradient)
    for _ in range(STEPS):
        going = _norm(gradient) > limit
        if not going.any():
            break
        step = _conjugate(z, share, gradient, strength, penalty, bound)
        down = (step * gradient).sum((1, 2), keepdim=True)
        length = going.to(z)
        for _ in range(HALVINGS):
            better = objective(at + length * step) <= value + 1e-4 * length * down
            if (better | ~going).all():
                break
            length = torch.where(better, length, length / 2)
        at = at + torch.where(better, length, 0) * step
        share = (z @ at).softmax(-1)
        gradient, before, value = slope(at, share), value, objective(at)
        if not (value < before).any():  # no problem moves any more: rounding is reached
            break
    return at


def _conjugate(z: Tensor, share: Tensor, gradient: Tensor, strength: float, penalty: Tensor, bound: Tensor) -> Tensor:
    """Newton's step: minus the inverse of the objective's second derivatives times ``gradient``, ``[E R+1 W]``."""
    step, rest = torch.zeros_like(gradient), -gradient
    along = scaled = _apart(rest / bound)
    energy = first = (rest * scaled).sum((1, 2), keepdim=True)
    for _ in range(INNER):
        going = energy > 1e-20 * first
        if not going.any():
            break
        moved = z @ along
        bent = share * (moved - (share * moved).sum(-1, keepdim=True))
        curved = strength * z.mT @ bent + penalty * along
        length = torch.where(going, energy / (along * curved).sum((1, 2), keepdim=True), 0)
        step, rest = step + length * along, rest - length * curved
        scaled = _apart(rest / bound)
        energy, before = (rest * scaled).sum((1, 2), keepdim=True), energy
        along = scaled + torch.where(going, energy / before, 0) * along
    return step


def _apart(values: Tensor) -> Tensor:
    """Less the mean over classes: what all classes share moves no probability, and the bias has no penalty on it."""
    return values - values.mean(-1, keepdim=True)


def _norm(values: Tensor) -> Tensor:
    return values.square().sum((1, 2), keepdim=True).sqrt()
