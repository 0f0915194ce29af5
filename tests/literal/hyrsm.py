"""HyRSM's head as its equations read: one episode, one query at a time, every concatenation built."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def intra_relation(x: Tensor, weights: Mapping[str, Tensor], heads: int) -> Tensor:
    """``ReLU(x + MSA(LN x))`` of one video's frames [T D]."""
    width = x.shape[1]
    normed = F.layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"])
    query, key, value = (normed @ w.T for w in weights["to_qkv.weight"].split(width))
    mixed = _heads(query, key, value, heads)
    return torch.relu(x + mixed @ weights["to_out.weight"].T + weights["to_out.bias"])


def inter_relation(supports: Tensor, query: Tensor, weights: Mapping[str, Tensor], heads: int) -> tuple[Tensor, Tensor]:
    """Supports [S T D] and a query [T D] -> the same, enhanced for each other."""
    videos = torch.cat([supports, query[None]])
    count, frames, width = videos.shape
    tokens = videos.mean(dim=1)
    mixed = _heads(*(tokens @ weights[f"to_{name}.weight"].T for name in "qkv"), heads)
    attended = mixed @ weights["to_out.weight"].T + weights["to_out.bias"]
    related = torch.relu(F.layer_norm(tokens + attended, (width,), weights["norm.weight"], weights["norm.bias"]))
    expanded = related[:, None].expand(count, frames, width)
    enhanced = torch.cat([videos, expanded], dim=2) @ weights["expand.weight"].T + weights["expand.bias"]
    return enhanced[:-1], enhanced[-1]


def _heads(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention, [N D] each, head by head."""
    found = []
    for q, k, v in zip(*(x.chunk(heads, dim=1) for x in (query, key, value)), strict=True):
        found.append((q @ k.T / math.sqrt(q.shape[1])).softmax(dim=1) @ v)
    return torch.cat(found, dim=1)


def distance(query: Tensor, support: Tensor, mean: bool) -> Tensor:
    """Bi-MHM of frames [T D] and [U D] under 1 - cosine."""
    cost = 1 - F.normalize(query, dim=1) @ F.normalize(support, dim=1).T
    near = cost.min(dim=1).values, cost.min(dim=0).values
    return sum(x.mean() if mean else x.sum() for x in near)


def logits(
    supports: Tensor,
    labels: Tensor,
    queries: Tensor,
    weights: Mapping[str, Tensor],
    heads: int,
    prototype_first: bool,
    mean: bool,
) -> Tensor:
    """One episode: frames after the intra-relation, supports [S T D], labels [S], queries [Q T D] -> [Q W]."""
    way = int(labels.max()) + 1
    if prototype_first:
        supports = torch.stack([supports[labels == c].mean(dim=0) for c in range(way)])
        labels = torch.arange(way)
    rows = []
    for query in queries:
        others, own = inter_relation(supports, query, weights, heads)
        far = torch.stack([distance(own, other, mean) for other in others])
        rows.append(-torch.stack([far[labels == c].mean() for c in range(way)]))
    return torch.stack(rows)
