"""SloshNet's feature fusion: four stage maps brought to one shape, then mixed by a cell whose operations are searched.

`B` images, `C` channels and `h w` places of the deepest map, `C_i h_i w_i` those of stage i; `f_0..f_3` the modulated
maps, shallow first; `s_0..s_3` the states of the cell. Facts from the released code; the paper's method section was not
to be had. Released code and this file differ in nothing but ``smallest`` and in maps that do not halve from stage to
stage, which the released code cannot take.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OPERATIONS = ("GP1", "GP2", "Sum")
FIXED = {"gp1": 0, "gp2": 1, "sum": 2}  # the operation that every edge has, nothing searched
FUSIONS = ("search", "even", *FIXED, "last")
STATES = 4
EDGES = tuple((k, j) for k in range(1, STATES) for j in range(k))  # s_k reads s_j
OUTPUT_START = (0.1, 0.1, 0.1, 0.1, 0.6)  # of s_0..s_3 and of the deepest map (released code)


class Widening(nn.Module):
    """One block, ReLU -> BatchNorm -> 3x3 convolution without bias; it halves the map where that is too large."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """``[B C_in H W] -> [B C_out H' W']``: a side larger than its own in ``size`` is halved."""
        stride = [2 if side > wanted else 1 for side, wanted in zip(x.shape[-2:], size, strict=True)]
        return F.conv2d(self.norm(x.relu()), self.conv.weight, stride=stride, padding=1)


class SpatialModulation(nn.Module):
    """Every stage map in the shape of the deepest: blocks that double the channels until they are ``C``.

    A map that is still larger after its last block is averaged down. Maps with ``C`` channels and the deepest's size,
    as all of a ViT's, pass unchanged.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        deepest = dims[-1]
        self.stages = nn.ModuleList()
        for dim in dims[:-1]:
            widths = [dim] if dim <= deepest else [dim, deepest]
            while widths[-1] < deepest:
                widths.append(min(2 * widths[-1], deepest))
            self.stages.append(nn.ModuleList(Widening(a, b) for a, b in pairwise(widths)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``4 x [B C_i h_i w_i] -> 4 x [B C h w]``."""
        *shallow, deepest = maps
        size = deepest.shape[-2:]
        out = []
        for blocks, x in zip(self.stages, shallow, strict=True):
            for block in blocks:
                x = block(x, size)
            out.append(x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size))
        return [*out, deepest]


class FusionCell(nn.Module):
    """A mix of all operations on all edges, by weights that training finds; the mix itself is the final network.

    ``s_0 = f_0``; ``s_k = sum_{j<k} sum_o softmax(alpha_{kj})_o op_o(s_j, f_k)``;
    ``F = sum_i b_i s_i + b_4 f_3`` with ``b = softmax(beta)``. With ``g(x) = sigmoid(mean of x over places)``:
    GP1 ``(x, y) -> y + g(y) x``, GP2 ``(x, y) -> x + g(x) y``, Sum ``(x, y) -> x + y``.

    fusion: "search"; or, with nothing to train, "even" (every operation a third), "gp1", "gp2", "sum" (that operation
    on every edge), each with ``b`` as the search starts.
    smallest: an operation whose weight is not above it counts nothing (released code 0.01).
    """

    def __init__(self, fusion: str = "search", smallest: float = 0.0) -> None:
        super().__init__()
        self.smallest = smallest
        beta = torch.tensor(OUTPUT_START).log()
        if fusion == "search":
            self.alpha = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)))
            self.beta = nn.Parameter(beta)
            return
        alpha = torch.zeros(len(EDGES), len(OPERATIONS))
        if fusion in FIXED:
            alpha.fill_(-math.inf)[:, FIXED[fusion]] = 0.0
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("beta", beta, persistent=False)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Of the operations on each of EDGES ``[6 3]``, and of the states and the deepest map ``[5]``."""
        return self.alpha.softmax(-1), self.beta.softmax(-1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``f_0..f_3``, 4 x [B C h w] -> ``F [B C h w]``."""
        states, output = self.states(maps), self.weights()[1].to(maps[0].dtype)
        return sum(b * x for b, x in zip(output, (*states, maps[-1]), strict=True))

    def states(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``f_0..f_3 -> s_0..s_3``. Every operation is linear in its two maps, given the gates: one factor for each."""
        operations = self.weights()[0].to(maps[0].dtype)
        operations = torch.where(operations > self.smallest, operations, 0)
        states, gates, row = [maps[0]], [_gate(maps[0])], 0
        for k, new in enumerate(maps[1:], 1):
            gate, here = _gate(new), operations[row : row + k]
            state = new * sum(gp1 + gp2 * g + both for (gp1, gp2, both), g in zip(here, gates, strict=True))
            for (gp1, gp2, both), old in zip(here, states, strict=True):
                state = state + old * (gp1 * gate + gp2 + both)
            states.append(state)
            gates.append(_gate(state))
            row += k
        return states


def _gate(x: Tensor) -> Tensor:
    """``[B C h w] -> [B C 1 1]``, 0 to 1."""
    return x.mean((-2, -1), keepdim=True).sigmoid()
