"""M2-CLIP's adapters (arXiv 2401.11649): temporal enhancement and difference for frames, and one for sentences.

Legend: `B` videos, `T` frames, `N` patches (`h` x `w`), `D` width of a token, `W` width of an adapter, `L` words.

A temporal branch is ``up(conv(down(x)))`` without any non-linearity (released code), where ``conv`` sees every channel
alone. All convolutions and all biases start at zero, so that a new adapter is the identity to the last bit.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class Enhancement(nn.Module):
    """``[B T N D] -> [B T N D]``, without the residual: three neighbouring frames mixed at every token's place."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.up = nn.Linear(width, dim)
        _start_at_zero(self)

    def forward(self, x: Tensor) -> Tensor:
        y = rearrange(self.down(x), "b t n w -> b w t n")
        kernel = rearrange(self.conv.weight, "w 1 k -> w 1 k 1")  # one call for all places, and no copy of y
        y = F.conv2d(y, kernel, self.conv.bias, padding=(1, 0), groups=len(kernel))
        return self.up(rearrange(y, "b w t n -> b t n w"))


class Difference(nn.Module):
    """``[B T N D] -> [B T N D]``, without the residual: what changed since the frame before, mixed over 3 x 3 patches.

    ``grid``: rows and columns of patches. The first frame's change is zero.
    """

    def __init__(self, dim: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.down = nn.Linear(dim, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up = nn.Linear(width, dim)
        _start_at_zero(self)

    def forward(self, x: Tensor) -> Tensor:
        change = torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], dim=1)
        size = {"b": len(x), "h": self.grid[0]}
        y = self.conv(rearrange(self.down(change), "b t (h w) c -> (b t) c h w", h=size["h"]))
        return self.up(rearrange(y, "(b t) c h w -> b t (h w) c", b=size["b"]))


class TEDAdapter(nn.Module):
    """``[(B T) P+N D] -> [(B T) P+N D]``: ``x + enhancement(x)``, on the patch tokens also ``+ difference(x)``.

    ``prefix`` P tokens come first, the class token. ``branches``: which of "enhancement" and "difference" there are;
    both see the same x.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        frames: int,
        grid: tuple[int, int],
        branches: Sequence[str] = ("enhancement", "difference"),
        prefix: int = 1,
    ) -> None:
        super().__init__()
        self.frames, self.prefix = frames, prefix
        self.enhancement = Enhancement(dim, width) if "enhancement" in branches else None
        self.difference = Difference(dim, width, grid) if "difference" in branches else None

    def forward(self, x: Tensor) -> Tensor:
        x = y = rearrange(x, "(b t) n d -> b t n d", t=self.frames)
        if self.enhancement is not None:
            y = y + self.enhancement(x)
        if self.difference is not None:
            y = y + F.pad(self.difference(x[:, :, self.prefix :]), (0, 0, self.prefix, 0))
        return rearrange(y, "b t n d -> (b t) n d")


class FrameAdapter(nn.Module):
    """``[B T D] -> [B T D]``: a frame's feature plus an enhancement from the frames beside it."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.enhancement = Enhancement(dim, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + rearrange(self.enhancement(rearrange(x, "b t d -> b t 1 d")), "b t 1 d -> b t d")


class TextAdapter(nn.Module):
    """``[... D] -> [... D]``: ``x + up(GELU(down(x)))``.

    Only the biases start at zero (released code): a new text adapter already changes what the tower says.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        for layer in (self.down, self.up):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(x)))


def _start_at_zero(branch: nn.Module) -> None:
    for part in (branch.conv.weight, branch.conv.bias, branch.down.bias, branch.up.bias):
        nn.init.zeros_(part)
