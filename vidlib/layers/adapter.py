"""Bottleneck adapters, as AIM (arXiv 2302.03024, Sec. 3) and MA-FSAR (arXiv 2308.01532, Fig. 3a) place them."""

import torch
from torch import Tensor, nn


class Adapter(nn.Module):
    """``[... D] -> [... D]``: down to ``ratio * D``, GELU, up again; with ``skip`` the input is added.

    The up projection starts at zero: a new adapter is the identity (``skip``) or zero (no ``skip``), to the last bit.
    """

    def __init__(self, dim: int, ratio: float = 0.25, skip: bool = True) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.skip = skip
        self.down = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.up = nn.Linear(hidden, dim)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.act(self.down(x)))
        return x + y if self.skip else y


class DropPath(nn.Module):
    """Drop the whole branch of a random share ``rate`` of the leading axis and rescale the rest; training only."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand([x.shape[0]] + [1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1.0 - self.rate)
