"""One batch over several processes: losses that look at all of it, with the gradients that one process would have.

Every process computes the loss of the whole batch from gathered features; ``loop.fit(together=True)`` divides it by the
number of processes and sums the gradients, so that each feature's gradient counts once. Shares must be equal.
"""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather, all_reduce


def processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """``[B ...] -> [W B ...]`` of all W processes, flattened to ``[(W B) ...]`` in their order; differentiable."""
    if processes() == 1:
        return x
    if x.requires_grad:
        return torch.cat(all_gather(x.contiguous()))
    parts = [torch.empty_like(x) for _ in range(processes())]
    distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def mean_over_all(values: Tensor) -> Tensor:
    """The mean of ``values [N]`` over all processes, whose numbers N may differ; zero where there is none anywhere."""
    count = torch.tensor(float(len(values)), device=values.device, dtype=torch.float64)
    total = values.sum()
    if processes() > 1:
        distributed.all_reduce(count)
        total = all_reduce(total) if values.requires_grad else _summed(total)
    return total / count.clamp(min=1).to(total.dtype)


def _summed(x: Tensor) -> Tensor:
    x = x.clone()
    distributed.all_reduce(x)
    return x
