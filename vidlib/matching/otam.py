"""OTAM, ordered temporal alignment (Cao et al., CVPR 2020), without recursion over pairs and without overflow.

The cost table of two videos gets a column of zeros on either side, where unmatched frames rest at no cost. With
``softmin(x) = -lam log sum exp(-x / lam)`` (not normalised: it may lie below the least x) the cumulative cost is

    c[0, m] = d[0, m] + c[0, m-1]
    c[l, m] = d[l, m] + softmin(c[l-1, m-1], c[l, m-1])              and, in the first real and the last padded column,
    c[l, m] = d[l, m] + softmin(c[l-1, m-1], c[l, m-1], c[l-1, m])   with c[l, 0] = 0; the distance is the last cell.

(The first row needs no choice between a hard and a soft form: the softmin of one predecessor is that predecessor.)
OTAM has no official code; this is the recursion of the reimplementation by the author of TRX, which CLIP-FSAR, HyRSM
and MoLo carry too: lam = 0.1, in CLIP-FSAR's own head 0.5. There ``log sum exp`` is written out and becomes infinite
beyond a cost of about 10.3; here the sum is taken relative to its largest term. `T` frames, `n` pairs.
"""

import torch
from einops import rearrange
from torch import Tensor

from vidlib.matching.base import Features, Metric, at_least_float32, cost_of, in_pieces


def otam_distance(cost: Tensor, lam: float = 0.1) -> Tensor:
    """Soft alignment cost in one direction, ``cost [... Tq Ts] -> [...]``, in float32 or better.

    A cell between the padded columns needs nothing of its own column, so that a step works on one column of all pairs
    at once; only the first real column is taken cell by cell, and the last padded one is a sum. The support axis is the
    padded one: the other direction is ``otam_distance(cost.mT)``.
    """
    lead = cost.shape[:-2]
    # Logarithms of weights, w = exp(-cost / lam), pairs last: a cell is one contiguous vector of n.
    weight = rearrange(at_least_float32(cost) / -lam, "... q s -> s q (...)")
    twice = weight.new_tensor(2.0).log()
    column = [weight[0, 0]]
    for cell in weight[0, 1:]:  # from above, or from either of two padded cells, whose weight is 1
        column.append(cell + torch.logaddexp(column[-1], twice))
    column = torch.stack(column)
    for cells in weight[1:]:
        column = cells + torch.cat([column[:1], torch.logaddexp(column[:-1], column[1:])])
    # Every cell of the last padded column adds the one above to what its two neighbours on the left bring: in the last
    # cell all are counted twice, but for the last row.
    column = torch.cat([column[:-1] + twice, column[-1:]])
    return (-lam * column.logsumexp(dim=0)).reshape(lead)


def otam_path(cost: Tensor) -> Tensor:
    """The best hard alignment of one pair, ``cost [Tq Ts] -> [P 2]`` int64: (query frame, support frame), in order.

    The same recursion with min for softmin; for pictures. A tie goes to the diagonal.
    """
    padded = torch.nn.functional.pad(cost.detach().double().cpu(), (1, 1)).tolist()
    last = len(padded[0]) - 1
    total: dict[tuple[int, int], float] = {}
    origin: dict[tuple[int, int], tuple[int, int]] = {}
    for q, row in enumerate(padded):
        total[q, 0] = 0.0
        for s in range(1, last + 1):
            steps = [(q - 1, s - 1), (q, s - 1)] + ([(q - 1, s)] if s in (1, last) else [])
            origin[q, s] = min((step for step in steps if step in total), key=total.__getitem__)
            total[q, s] = row[s] + total[origin[q, s]]
    cell, path = (len(padded) - 1, last), []
    while cell in origin:
        if cell[1] < last:
            path.append((cell[0], cell[1] - 1))
        cell = origin[cell]
    return torch.tensor(path[::-1], dtype=torch.int64)


class OTAM(Metric):
    """Soft ordered alignment of frames, both directions summed.

    lam: softness; 0.1 in the reimplementation, 0.5 in CLIP-FSAR (the paper's is unknown to us).
    bidirectional: add the cost of the swapped table (released code; False is query against padded support alone,
        CLIP-FSAR's SINGLE_DIRECT).
    eps: see ``frame_cost`` (released code).
    """

    def __init__(self, lam: float = 0.1, bidirectional: bool = True, eps: float = 0.01, scale: float = 1.0) -> None:
        super().__init__(scale)
        if not lam > 0:
            raise ValueError(f"lam is {lam}; OTAM's softness must be above 0, as in 0.1 or 0.5")
        self.lam, self.bidirectional, self.eps = lam, bidirectional, eps

    def distance(self, support: Features, query: Features) -> Tensor:
        """``frames`` [E S Ts D] and [E Q Tq D] -> [E Q S]; the two frame counts may differ."""

        def step(support: Features, query: Features) -> Tensor:
            cost = cost_of(query, support, self.eps)
            there = otam_distance(cost, self.lam)
            return there + otam_distance(cost.mT, self.lam) if self.bidirectional else there

        frames = query["frames"].shape[2]
        return in_pieces(step, support, query, numbers=frames * support["frames"][0, ..., 0].numel())
