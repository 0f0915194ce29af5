"""STRM's parts as the released code's equations read: one frame, one query, one tuple at a time, in float64.

Weights are dicts of ``module.weight`` and ``module.bias`` under our names.
"""

from itertools import combinations

import torch
from torch import Tensor

from tests.literal.trx import positions


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return weights[f"{name}.weight"].double() @ x + weights[f"{name}.bias"].double()


def enriched_patches(patches: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The patches ``[P C]`` of one frame -> the same shape."""
    patches = patches.double()
    x = patches + positions(*patches.shape)
    rows = []
    for i in range(len(x)):
        query = linear(x[i], weights, "query")
        scores = torch.stack([query @ linear(x[j], weights, "key") for j in range(len(x))])
        shares = torch.exp(scores - scores.max())
        shares = shares / shares.sum()
        context = sum(shares[j] * linear(x[j], weights, "value") for j in range(len(x)))
        y = x[i] + weights["gamma"].double() * context
        hidden = linear(y, weights, "mlp.0").clamp(min=0)
        hidden = linear(hidden, weights, "mlp.2").clamp(min=0)
        rows.append(y + linear(hidden, weights, "mlp.4"))
    return torch.stack(rows)


def enriched_frames(frames: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The frames ``[T C]`` of one video -> the same shape."""
    frames = frames.double()
    x = frames + positions(*frames.shape)
    mixed = [linear(linear(column, weights, "over_time.0").clamp(min=0), weights, "over_time.2") for column in x.T]
    x = x + torch.stack(mixed).T
    rows = [linear(linear(row, weights, "over_channels.0").clamp(min=0), weights, "over_channels.2") for row in x]
    return x + torch.stack(rows)


def similarity(query: Tensor, supports: list[Tensor], weights: dict[str, Tensor], name: str, cardinality: int) -> float:
    """The classifier's logit of one query ``[T C]`` and one class's supports, one cardinality."""

    def tuples(video: Tensor) -> list[Tensor]:
        chosen = combinations(range(len(video)), cardinality)
        return [linear(torch.cat([video[t].double() for t in places]), weights, name).clamp(min=0) for places in chosen]

    theirs = [one for video in supports for one in tuples(video)]
    ours = tuples(query)
    return -sum(min(float((one - other).norm()) for other in theirs) for one in ours) / len(ours)
