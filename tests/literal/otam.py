"""OTAM as the recursion reads: plain numbers, one pair of videos and one cell at a time."""

import math

import torch
from torch import Tensor


def cosine_cost(query: list[list[float]], support: list[list[float]], eps: float) -> list[list[float]]:
    """Table of 1 - cosine between the frames of two videos, query frames down, support frames across."""
    table = []
    for q in query:
        row = []
        for s in support:
            dot = sum(a * b for a, b in zip(q, s, strict=True))
            norms = math.sqrt(sum(a * a for a in q)) * math.sqrt(sum(b * b for b in s))
            row.append(1 - dot / (norms + eps))
        table.append(row)
    return table


def softmin(values: list[float], lam: float) -> float:
    """-lam log(sum(exp(-x / lam))), taken relative to the least value."""
    least = min(values)
    return least - lam * math.log(sum(math.exp((least - x) / lam) for x in values))


def otam(cost: list[list[float]], lam: float) -> float:
    """The last cell of one pair's cumulative table; the costs get a column of zeros on either side."""
    table = [[0.0, *row, 0.0] for row in cost]
    columns = len(table[0])
    cumulative = [[0.0] * columns for _ in table]
    for m in range(1, columns):
        cumulative[0][m] = table[0][m] + cumulative[0][m - 1]
    for row in range(1, len(table)):
        for m in range(1, columns):
            before = [cumulative[row - 1][m - 1], cumulative[row][m - 1]]
            if m == 1 or m == columns - 1:
                before.append(cumulative[row - 1][m])
            cumulative[row][m] = table[row][m] + softmin(before, lam)
    return cumulative[-1][-1]


def both_directions(cost: list[list[float]], lam: float) -> float:
    """Query along support, and support along query."""
    return otam(cost, lam) + otam([list(column) for column in zip(*cost, strict=True)], lam)


def cosine_table(query: Tensor, support: Tensor, eps: float) -> list[list[float]]:
    """``cosine_cost`` of frames [T D] and [U D]."""
    lengths = query.norm(dim=1)[:, None] * support.norm(dim=1)
    return (1 - query @ support.T / (lengths + eps)).tolist()


def logits(supports: Tensor, labels: Tensor, queries: Tensor, lam: float, eps: float = 0.01) -> Tensor:
    """One episode, one pair and one cell at a time: [S T D], labels [S], [Q T D] -> [Q W]; a class is its mean pair."""
    rows = []
    for query in queries:
        far = torch.tensor([both_directions(cosine_table(query, support, eps), lam) for support in supports])
        rows.append(torch.stack([-far[labels == c].mean() for c in range(int(labels.max()) + 1)]))
    return torch.stack(rows)
