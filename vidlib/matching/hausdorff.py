"""Bi-MHM, the bidirectional mean Hausdorff metric (HyRSM, Wang et al., CVPR 2022): frames as sets, each to its nearest.

`E` episodes, `S` support videos, `Q` query videos, `T` frames, `D` width.
"""

from torch import Tensor

from vidlib.matching.base import Features, Metric, at_least_float32, cost_of, in_pieces


def bimhm_distance(cost: Tensor, mean: bool = False) -> Tensor:
    """``sum_i min_j cost[i, j] + sum_j min_i cost[i, j]``, ``[... Tq Ts] -> [...]``; means for the sums if ``mean``."""
    cost = at_least_float32(cost)
    query_to_support, support_to_query = cost.amin(dim=-1), cost.amin(dim=-2)
    if mean:
        return query_to_support.mean(dim=-1) + support_to_query.mean(dim=-1)
    return query_to_support.sum(dim=-1) + support_to_query.sum(dim=-1)


class BiMHM(Metric):
    """Bi-MHM between frames under cosine distance.

    mean: divide each direction by its number of frames, as the paper's equation is remembered to do; the released code
        sums, which at T = 8 makes logits 8 times sharper (default, equal to the code).
    eps: added to the product of norms, see ``frame_cost``; tiny, as in the released code, which normalises frames.
    """

    def __init__(self, mean: bool = False, eps: float = 1e-12, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.mean, self.eps = mean, eps

    def distance(self, support: Features, query: Features) -> Tensor:
        """``frames`` [E S Ts D] and [E Q Tq D] -> [E Q S]; query-specific supports: one query an episode."""

        def step(support: Features, query: Features) -> Tensor:
            return bimhm_distance(cost_of(query, support, self.eps), self.mean)

        frames = query["frames"].shape[2]
        return in_pieces(step, support, query, numbers=frames * support["frames"][0, ..., 0].numel())
