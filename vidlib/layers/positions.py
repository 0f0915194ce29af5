"""Sinusoidal positions as HyRSM and MoLo use them."""

import torch
from torch import Tensor


def sinusoids(frames: int, dim: int, usual: bool, like: Tensor) -> Tensor:
    """Sines in the even of D channels, cosines in the odd ones, ``[T D]``, in the dtype and on the device of ``like``.

    ``usual``: channels 2i and 2i+1 share the exponent 2i/D of 10000, as in the Transformer's paper; otherwise channel c
    has the exponent 2c/D, as in HyRSM's released code, where c counts both kinds.
    """
    channel = torch.arange(dim, device=like.device, dtype=torch.float32)
    exponent = (channel - channel % 2 if usual else 2 * channel) / dim
    angle = torch.arange(frames, device=like.device)[:, None] * 10000.0**-exponent
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(like.dtype)


def placed(x: Tensor, a: float, b: float, usual: bool) -> Tensor:
    """``x sqrt(D / a) + b sinusoids``, ``[B T D] -> [B T D]``: HyRSM's scaling of features against positions."""
    return x * (x.shape[-1] / a) ** 0.5 + b * sinusoids(*x.shape[-2:], usual, x)
