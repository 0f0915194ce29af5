"""The temporal shift as ActionCLIP's in-network visual prompt uses it (arXiv 2109.08472; TSM, arXiv 1811.08383)."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def temporal_shift(x: Tensor, frames: int, div: int = 8, prefix: int = 1) -> Tensor:
    """Neighbouring frames swap channels, ``[(B T) P+N D] -> [(B T) P+N D]``; ``prefix`` P tokens, the class token
    among them, are left as they are.

    At every patch the first ``D // div`` channels come from the next frame, as many after them from the one before; the
    last and the first frame get zeros there. ActionCLIP shifts what enters a block, so the residual is shifted too.
    """
    before, patches = x[:, :prefix], rearrange(x[:, prefix:], "(b t) n d -> b t n d", t=frames)
    fold = x.shape[-1] // div
    later, earlier, still = patches.split([fold, fold, x.shape[-1] - 2 * fold], dim=-1)
    later = F.pad(later[:, 1:], (0, 0, 0, 0, 0, 1))
    earlier = F.pad(earlier[:, :-1], (0, 0, 0, 0, 1, 0))
    patches = torch.cat([later, earlier, still], dim=-1)
    return torch.cat([before, rearrange(patches, "b t n d -> (b t) n d")], dim=1)
