"""SloshNet's long-term module, short-term module and fusion cell as they are told: place by place, edge by edge.

`weights` holds a module's own parameters by name; everything in float64.
"""

import math

import torch
from torch import Tensor


def long_term(video: Tensor, weights: dict[str, Tensor], heads: int) -> Tensor:
    """``[T C h w] -> [T C h w]``: at every place, the frames of that place attend to each other."""
    weights = {name: x.double() for name, x in weights.items()}
    video = video.double()
    out = torch.empty_like(video)
    for i in range(video.shape[2]):
        for j in range(video.shape[3]):
            out[:, :, i, j] = _block(video[:, :, i, j], weights, heads)
    return out


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-12) * weight + bias


def _block(x: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
    """One sequence ``[N C]`` through the block."""
    frames, dim = x.shape
    width = dim // heads
    q, k, v = (_norm(x, w["norm_1.weight"], w["norm_1.bias"]) @ w["qkv.weight"].T + w["qkv.bias"]).split(dim, dim=-1)
    mixed = torch.zeros_like(x)
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        for t in range(frames):
            scores = torch.stack([q[t, at] @ k[u, at] / math.sqrt(width) for u in range(frames)])
            shares = torch.exp(scores) / torch.exp(scores).sum()
            mixed[t, at] = sum(share * v[u, at] for u, share in enumerate(shares))
    x = x + mixed @ w["out.weight"].T + w["out.bias"]
    hidden = _norm(x, w["norm_2.weight"], w["norm_2.bias"]) @ w["fc1.weight"].T + w["fc1.bias"]
    hidden = hidden / (1 + torch.exp(-1.702 * hidden))
    return x + hidden @ w["fc2.weight"].T + w["fc2.bias"]


def fusion(maps: list[Tensor], operations: Tensor, output: Tensor) -> Tensor:
    """Four maps of one image ``[C h w]``, softmaxed weights ``[6 3]`` and ``[5]`` -> ``[C h w]``."""

    def gate(x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x.mean((1, 2))))[:, None, None]

    def gp1(x: Tensor, y: Tensor) -> Tensor:
        return y + gate(y) * x

    def gp2(x: Tensor, y: Tensor) -> Tensor:
        return x + gate(x) * y

    def both(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    states, edge = [maps[0]], 0
    for k in (1, 2, 3):
        total = torch.zeros_like(maps[0])
        for j in range(k):
            for o, operation in enumerate((gp1, gp2, both)):
                total = total + operations[edge, o] * operation(states[j], maps[k])
            edge += 1
        states.append(total)
    return sum(b * x for b, x in zip(output, (*states, maps[3]), strict=True))
