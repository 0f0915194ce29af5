"""What every metric shares: the cut into ``prepare`` and ``compare``, frame costs, means over a class's supports.

`E` episodes, `W` way, `S` support videos, `Q` query videos, `T` frames, `D` width.
"""

import contextlib
import math
from collections.abc import Callable

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

Features = dict[str, Tensor]

# Numbers in the largest tensor of one step of ``compare``: 4 MB in float32, of which a step holds about five. Larger is
# slower on two CPU cores, whose cache it leaves; much smaller is too: each step costs some 40 calls.
CHUNK = 1 << 20


def full_precision(x: Tensor) -> contextlib.AbstractContextManager:
    """Autocast switched off on the device of ``x``: distances lose their order in half precision."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 and float16 become float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def frame_cost(
    query: Tensor, support: Tensor, eps: float = 0.01, lengths: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Cosine distance between all frames: ``query [E Q Tq D]``, ``support [E S Ts D]`` -> ``[E Q S Tq Ts]`` in 0 to 2.

    ``1 - <q, s> / (|q| |s| + eps)``. The OTAM reimplementations add ``eps = 0.01`` (released code); with a tiny one it
    is the plain cosine of the papers, and a frame of zeros costs 1. Computed in float32 or better.
    ``lengths``: |q| [E Q Tq] and |s| [E S Ts], where known. In memory the support axes come first, what
    ``otam_distance`` reads fastest.
    """
    with full_precision(query):
        query, support = at_least_float32(query), at_least_float32(support)
        ours, theirs = lengths or (query.norm(dim=-1), support.norm(dim=-1))
        dots = rearrange(support, "e s u d -> e (s u) d") @ rearrange(query, "e q t d -> e d (q t)")
        products = torch.addcmul(dots.new_tensor(eps), theirs.flatten(1)[:, :, None], ours.flatten(1)[:, None])
        cost = torch.addcdiv(dots.new_ones(()), dots, products, value=-1)  # one pass each over every pair of frames
        return rearrange(cost, "e (s u) (q t) -> e q s t u", u=support.shape[2], t=query.shape[2])


def cost_of(query: Features, support: Features, eps: float) -> Tensor:
    """``frame_cost`` of what ``Metric.prepare`` gave."""
    lengths = (query["lengths"], support["lengths"]) if "lengths" in query and "lengths" in support else None
    return frame_cost(query["frames"], support["frames"], eps, lengths)


def in_pieces(step: Callable[[Features, Features], Tensor], support: Features, query: Features, numbers: int) -> Tensor:
    """``step(support, query) -> [E Q ...]`` on so few episodes, then queries, at a time that memory stays bounded.

    ``numbers``: in the largest tensor that ``step`` makes, for one query; times queries at a time at most ``CHUNK``.
    """
    episodes, queries = next(iter(query.values())).shape[:2]
    e_step, q_step = _even(episodes, CHUNK // (numbers * queries)), _even(queries, CHUNK // numbers)
    rows = []
    for e in range(0, episodes, e_step):
        there = {name: x[e : e + e_step] for name, x in support.items()}
        here = (
            {name: x[e : e + e_step, q : q + q_step] for name, x in query.items()} for q in range(0, queries, q_step)
        )
        rows.append(torch.cat([step(there, piece) for piece in here], dim=1))
    return torch.cat(rows)


def _even(count: int, most: int) -> int:
    """The length of about equal pieces of ``count`` things, at most ``most`` each: a short one costs as many calls."""
    pieces = math.ceil(count / max(1, most))
    return math.ceil(count / pieces)


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
        """One video's features for ``compare``; here the frames ``[... T D]`` and their ``lengths`` [... T]."""
        return {"frames": frames, "lengths": at_least_float32(frames).norm(dim=-1)}

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
