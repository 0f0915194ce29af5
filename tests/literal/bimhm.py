"""Bi-MHM as the equation reads, on plain numbers."""

import torch
from torch import Tensor

from tests.literal.otam import cosine_table


def bimhm(cost: list[list[float]]) -> float:
    """Every query frame to its nearest support frame, every support frame to its nearest query frame, all added up."""
    total = 0.0
    for row in cost:
        total += min(row)
    for column in range(len(cost[0])):
        total += min(row[column] for row in cost)
    return total


def logits(supports: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """One episode, one pair at a time: [S T D], labels [S], [Q T D] -> [Q W]; a class is its mean pair."""
    rows = []
    for query in queries:
        far = torch.tensor([bimhm(cosine_table(query, support, 0.0)) for support in supports])
        rows.append(torch.stack([-far[labels == c].mean() for c in range(int(labels.max()) + 1)]))
    return torch.stack(rows)
