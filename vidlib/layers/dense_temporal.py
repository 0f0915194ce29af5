"""Learnable dense temporal modelling of feature maps: GgHM's patch and channel temporal relations.

Source: GgHM (arXiv 2308.09346), known to us through notes on it; no code was released. What the notes leave open is an
argument whose docstring says so. Also open, and left out: an FFN after attention, positions within a frame.

`B` videos, `T` frames, `C` channels, `h w` places of a map, `N` = h w, flattened row by row.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

SHIFTED = ("others", "grid")
STARTS = ("shift", "identity")


class PlaceAttention(nn.Module):
    """Self-attention among the places of one frame, ``[B N C] -> [B N C]``.

    residual: ``x + MSA(LN x)`` with an output projection that starts at zero, so that it begins as the identity; else
        ``MSA(x)`` alone. Heads, norm and residual are unknown to us.
    """

    def __init__(self, dim: int, heads: int = 8, residual: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads is {heads}, which does not divide the maps' {dim} channels")
        self.heads, self.residual = heads, residual
        self.norm = nn.LayerNorm(dim) if residual else nn.Identity()
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        if residual:
            nn.init.zeros_(self.to_out.weight)
            nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.to_qkv(self.norm(x)), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mixed = self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))
        return x + mixed if self.residual else mixed


class PatchRelation(nn.Module):
    """Patch temporal relation: some places of every frame are mixed with the same place of the other frames.

    With ``F`` as (N, C, T) and ``W_1, W_2`` T x T, no bias, ``H = relu(F W_1) W_2 + F``; the patch shift keeps ``F``
    at some places and takes ``H`` at the others; then ``gamma SA(shifted) + (1 - gamma) SA(F)``.

    gap: of N places those whose number is a multiple of gap are the grid (a positive whole number, unknown to us).
    shifted: which places take H: "others", all but the grid, as the notes print it, or "grid" (not verified: the text
        calls the shift sparse).
    gamma: weight of the shifted branch, 0 to 1 (value unknown to us).
    shared: both branches use the same attention (inferred: the paper uses one symbol).
    """

    def __init__(
        self,
        dim: int,
        frames: int,
        gap: int = 2,
        gamma: float = 0.5,
        shifted: str = "others",
        heads: int = 8,
        shared: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if gap < 1:
            raise ValueError(f"gap is {gap}; the patch shift needs a whole number from 1")
        self.gap, self.gamma, self.shifted = gap, gamma, shifted
        self.first = nn.Linear(frames, frames, bias=False)
        self.second = nn.Linear(frames, frames, bias=False)
        self.attention = PlaceAttention(dim, heads, residual)
        self.plain_attention = self.attention if shared else PlaceAttention(dim, heads, residual)

    def shift(self, x: Tensor) -> Tensor:
        """The temporal MLP and the patch shift, ``[B N C T] -> [B N C T]``."""
        mixed = self.second(F.relu(self.first(x))) + x
        grid = torch.arange(x.shape[1], device=x.device) % self.gap == 0
        moved = ~grid if self.shifted == "others" else grid
        return torch.where(moved[:, None, None], mixed, x)

    def forward(self, x: Tensor) -> Tensor:
        """``[B T N C] -> [B T N C]``."""
        shifted = rearrange(self.shift(rearrange(x, "b t n c -> b n c t")), "b n c t -> (b t) n c")
        plain = rearrange(x, "b t n c -> (b t) n c")
        mixed = self.gamma * self.attention(shifted) + (1 - self.gamma) * self.plain_attention(plain)
        return rearrange(mixed, "(b t) n c -> b t n c", b=len(x))


class ChannelRelation(nn.Module):
    """Channel temporal relation: every channel has its own temporal convolution, then attention within a frame.

    ``out[t, c] = sum_i K[c, i] F[t + i, c]``, frames before the first and after the last being zero.

    kernel: frames that K spans, odd (unknown to us; 3 is the usual choice).
    start: "shift": an eighth of the channels begins by taking the next frame, another the one before, as temporal shift
        modules do; "identity": every channel begins by keeping its own frame. Not stated.
    """

    def __init__(self, dim: int, kernel: int = 3, start: str = "shift", heads: int = 8, residual: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; the temporal convolution needs an odd number of frames")
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
        self.attention = PlaceAttention(dim, heads, residual)
        here, eighth = kernel // 2, dim // 8 if start == "shift" and kernel > 1 else 0
        with torch.no_grad():
            self.conv.weight.zero_()
            if eighth:
                self.conv.weight[:eighth, 0, here + 1] = 1
                self.conv.weight[eighth : 2 * eighth, 0, here - 1] = 1
            self.conv.weight[2 * eighth :, 0, here] = 1

    def forward(self, x: Tensor) -> Tensor:
        """``[B T N C] -> [B T N C]``."""
        moved = self.conv(rearrange(x, "b t n c -> (b n) c t"))
        mixed = self.attention(rearrange(moved, "(b n) c t -> (b t) n c", b=len(x)))
        return rearrange(mixed, "(b t) n c -> b t n c", b=len(x))


class DenseTemporal(nn.Module):
    """``F~ = beta F_patch + (1 - beta) F_channel``, ``[B T C h w] -> [B T C h w]``; either part may be None.

    beta: 0 to 1 (value unknown to us); of no effect where there is one part.
    """

    def __init__(self, patch: PatchRelation | None, channel: ChannelRelation | None, beta: float = 0.5) -> None:
        super().__init__()
        self.patch, self.channel, self.beta = patch, channel, beta

    def forward(self, maps: Tensor) -> Tensor:
        height = maps.shape[-2]
        x = rearrange(maps, "b t c h w -> b t (h w) c")
        if self.channel is None:
            x = self.patch(x)
        elif self.patch is None:
            x = self.channel(x)
        else:
            x = self.beta * self.patch(x) + (1 - self.beta) * self.channel(x)
        return rearrange(x, "b t (h w) c -> b t c h w", h=height)
