"""What every metric shares: the cut into ``prepare`` and ``compare``, frame costs, means over a class's supports.

`E` episodes, `W` way, `S` support videos, `Q` query videos, `T` frames, `D` width.
"""

import contextlib

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

Features = dict[str, Tensor]


def full_precision(x: Tensor) -> contextlib.AbstractContextManager:
    """Autocast switched off on the device of ``x``: distances lose their order in half precision."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 and float16 become float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def frame_cost(query: Tensor, support: Tensor, eps: float = 0.01) -> Tensor:
    """Cosine distance between all frames: ``query [E Q Tq D]``, ``support [E S Ts D]`` -> ``[E Q S Tq Ts]`` in 0 to 2.

    ``1 - <q, s> / (|q| |s| + eps)``. The OTAM reimplementations add ``eps = 0.01`` (released code); with a tiny one it
    is the plain cosine of the papers, and a frame of zeros costs 1. Computed in float32 or better.
    """
    with full_precision(query):
        query, support = at_least_float32(query), at_least_float32(support)
        dots = einsum(query, support, "e q t d, e s u d -> e q s t u")
        norms = einsum(query.norm(dim=-1), support.norm(dim=-1), "e q t, e s u -> e q s t u")
        return 1 - dots / (norms + eps)


def class_members(labels: Tensor, way: int) -> Tensor:
    """``labels [E S]`` in 0 to way - 1 -> ``[E S W]`` bool; ValueError unless every class has a support everywhere."""
    members = labels[..., None] == torch.arange(way, device=labels.device)
    if not (members.any(dim=-2).all() & members.any(dim=-1).all()):
        if not members.any(dim=-1).all():
            wrong = labels[~members.any(dim=-1)][0].item()
            raise ValueError(f"labels holds {wrong}, but with way = {way} a label lies between 0 and {way - 1}")
        episode, cls = (~members.any(dim=-2)).nonzero()[0].tolist()
        raise ValueError(
            f"labels gives class {cls} of episode {episode} no support video; every class needs at least one"
        )
    return members


def class_mean(values: Tensor, labels: Tensor, way: int) -> Tensor:
    """Mean over each class's support videos: ``values [E Q S]``, ``labels [E S]`` -> ``[E Q W]``; shots may differ."""
    members = class_members(labels, way).to(values.dtype)
    with full_precision(values):
        return einsum(values, members / members.sum(dim=1, keepdim=True), "e q s, e s w -> e q w")


class Metric(nn.Module):
    """How two videos are compared. Two steps, so that whatever concerns one video is computed once:

    ``prepare(frames [... T D])`` -> dict of tensors with the same leading dimensions: one video's own features;
    ``compare(support, labels, query, way)`` -> logits ``[E Q W]``.

    A pairwise metric gives ``distance(support, query) -> [E Q S]``; a class's logit is then minus the mean distance to
    its supports. No query sees another. ``scale`` is a fixed factor on the logits (1 in every released code).
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def prepare(self, frames: Tensor) -> Features:
        """One video's features for ``compare``; here the frames themselves, ``[... T D]``."""
        return {"frames": frames}

    def compare(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """``support`` of [E S ...], ``labels [E S]`` int64 in 0 to way - 1, ``query`` of [E Q ...] -> logits [E Q W].

        At least float32, whatever comes in. ValueError where a class has no support or a label lies outside.
        """
        return -self.scale * class_mean(self.distance(support, query), labels, way)


def pool(frames: Tensor) -> Tensor:
    """Frame average, ``[... T D] -> [... D]``: what is left of a video without its order."""
    return at_least_float32(frames).mean(dim=-2)


def pairwise(query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """``[E Q ...], [E S ...] -> [E Q 1 ...], [E 1 S ...]``: ready to broadcast over every pair."""
    return rearrange(query, "e q ... -> e q 1 ..."), rearrange(support, "e s ... -> e 1 s ...")
