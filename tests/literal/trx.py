"""TRX as the paper tells it: for each query, each class and each tuple of the query, one after the other.

`weights` holds one cardinality's k_linear, v_linear and norm_k, each with .weight and .bias, on concatenated frames.
"""

import math
from itertools import combinations

import torch
from torch import Tensor


def positions(frames: int, dim: int) -> Tensor:
    """Sine at even places, cosine at odd ones, a tenth as large as usual."""
    table = torch.zeros(frames, dim, dtype=torch.float64)
    for t in range(frames):
        for i in range(dim):
            angle = t / 10000 ** ((i - i % 2) / dim)
            table[t, i] = 0.1 * (math.cos(angle) if i % 2 else math.sin(angle))
    return table


def keys_and_values(video: Tensor, weights: dict[str, Tensor], cardinality: int) -> list[tuple[Tensor, Tensor]]:
    """One key and one value for each tuple of frames of ``video [T D]``."""
    video = video + positions(*video.shape)
    pairs = []
    for chosen in combinations(range(len(video)), cardinality):
        joined = torch.cat([video[t] for t in chosen])
        key = weights["k_linear.weight"] @ joined + weights["k_linear.bias"]
        key = (key - key.mean()) / torch.sqrt(((key - key.mean()) ** 2).mean() + 1e-5)
        key = key * weights["norm_k.weight"] + weights["norm_k.bias"]
        pairs.append((key, weights["v_linear.weight"] @ joined + weights["v_linear.bias"]))
    return pairs


def logit(query: Tensor, supports: list[Tensor], weights: dict[str, Tensor], cardinality: int) -> float:
    """One query ``[T D]`` against the support videos of one class; all in float64."""
    weights = {name: x.double() for name, x in weights.items()}
    ours = keys_and_values(query.double(), weights, cardinality)
    theirs = [pair for video in supports for pair in keys_and_values(video.double(), weights, cardinality)]
    total = 0.0
    for key, value in ours:
        scores = torch.tensor([float(key @ other) / math.sqrt(len(key)) for other, _ in theirs], dtype=torch.float64)
        shares = torch.exp(scores - scores.max())
        shares = shares / shares.sum()
        gathered = sum(share * other for share, (_, other) in zip(shares, theirs, strict=True))
        total += float(((value - gathered) ** 2).sum())
    return -total / len(ours)


def keys_and_values_of(video: Tensor, weights: dict[str, Tensor], cardinality: int, places: Tensor) -> tuple:
    """The same as matrices [L C], in the dtype of ``video [T D]``; ``places`` are its positions [T D]."""
    video = video + places
    joined = torch.stack(
        [torch.cat([video[t] for t in chosen]) for chosen in combinations(range(len(video)), cardinality)]
    )
    keys = joined @ weights["k_linear.weight"].T + weights["k_linear.bias"]
    keys = torch.nn.functional.layer_norm(keys, keys.shape[1:], weights["norm_k.weight"], weights["norm_k.bias"])
    return keys, joined @ weights["v_linear.weight"].T + weights["v_linear.bias"]


def logits(supports: Tensor, labels: Tensor, queries: Tensor, weights: dict[str, Tensor], cardinality: int) -> Tensor:
    """One episode, one query and one class at a time: [S T D], labels [S], [Q T D] -> [Q W]; all tuples are built."""
    places = positions(*queries.shape[1:]).to(queries)
    ours, theirs = (
        [keys_and_values_of(video, weights, cardinality, places) for video in videos] for videos in (queries, supports)
    )
    rows = []
    for query_keys, query_values in ours:
        row = []
        for c in range(int(labels.max()) + 1):
            members = [pair for pair, label in zip(theirs, labels.tolist(), strict=True) if label == c]
            keys, values = (torch.cat(x) for x in zip(*members, strict=True))
            shares = (query_keys @ keys.T / math.sqrt(keys.shape[1])).softmax(dim=1)
            row.append(-((query_values - shares @ values) ** 2).sum(dim=1).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)
