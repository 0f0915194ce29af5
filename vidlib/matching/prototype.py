"""Metrics blind to order: a video is the mean of its frames.

`E` episodes, `W` way, `S` support videos, `Q` query videos, `T` frames, `D` width.
"""

from torch import Tensor

from vidlib.matching.base import Features, Metric, class_mean, frame_cost, pairwise, pool


class MeanPrototype(Metric):
    """ProtoNet (Snell et al., 2017) on frame averages: a class is the mean of its support videos.

    kind: "euclidean", logit = -|q - p|^2 (the original's); "cosine", logit = cos(q, p) - 1.
    eps: for "cosine" only, see ``frame_cost``. How few-shot papers pool their "ProtoNet" rows is unknown to us.
    """

    def __init__(self, kind: str = "euclidean", eps: float = 0.01, scale: float = 1.0) -> None:
        super().__init__(scale)
        if kind not in ("euclidean", "cosine"):
            raise ValueError(f"kind is '{kind}'; MeanPrototype knows 'euclidean' and 'cosine'")
        self.kind, self.eps = kind, eps

    def prepare(self, frames: Tensor) -> Features:
        """``[... T D] -> mean [... D]``, float32 or better."""
        return {"mean": pool(frames)}

    def compare(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """See ``Metric.compare``: prototypes ``[E W D]`` first, then one distance a class."""
        prototypes = class_mean(support["mean"].mT, labels, way).mT
        if self.kind == "cosine":
            return -self.scale * _mean_cost(query["mean"], prototypes, self.eps)
        one, other = pairwise(query["mean"], prototypes)
        return -self.scale * (one - other).square().sum(dim=-1)


class Cosine(Metric):
    """Cosine of frame averages, its mean over the class's support videos: the plainest metric, and the TSN baseline's.

    ``distance = 1 - cos``, so a logit lies between -2 and 0 (times ``scale``); ``eps`` as in ``frame_cost``.
    """

    def __init__(self, eps: float = 0.01, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.eps = eps

    def prepare(self, frames: Tensor) -> Features:
        """``[... T D] -> mean [... D]``, float32 or better."""
        return {"mean": pool(frames)}

    def distance(self, support: Features, query: Features) -> Tensor:
        """``mean`` [E S D] and [E Q D] -> [E Q S]."""
        return _mean_cost(query["mean"], support["mean"], self.eps)


def _mean_cost(query: Tensor, support: Tensor, eps: float) -> Tensor:
    """``frame_cost`` of videos with one frame each: ``[E Q D], [E S D] -> [E Q S]``."""
    return frame_cost(query[..., None, :], support[..., None, :], eps)[..., 0, 0]
