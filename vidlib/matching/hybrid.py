"""GgHM's hybrid prototype matching: the mean Hausdorff distance between frames and between ordered pairs of frames.

    D_frame = 1/T (sum_i min_j |s_i - q_j| + sum_j min_i |q_j - s_i|),   D_tuple the same over the L = T(T-1)/2 pairs
    of frames i1 < i2, each the concatenation of its two frames after a positional encoding.

(GgHM, arXiv 2308.09346; its combination alpha D_tuple + (1 - alpha) D_frame is the method's.) No pair is ever put
together: with ``d_ik = |a_i - b_k|^2``, ``|(a_i, a_j) - (b_k, b_l)|^2 = d_ik + d_jl``, so that the nearest pair is
``min_k (d_ik + min_{l>k} d_jl)``, in T steps for T^2 of them.

`E` episodes, `S` support videos, `Q` query videos, `T` frames, `L` pairs, `D` width, `n` pairs of videos.
"""

import torch
from einops import rearrange
from torch import Tensor

from vidlib.matching.base import at_least_float32, full_precision
from vidlib.matching.cross_transformer import sinusoids
from vidlib.matching.hausdorff import bimhm_distance

DISTANCES = ("euclidean", "cosine")
LEAST = 1e-8  # a squared distance: below, float32 cannot tell two frames apart and a root has no usable gradient


def hybrid_distances(
    query: Tensor, support: Tensor, distance: str = "euclidean", position: float = 0.1
) -> tuple[Tensor, Tensor]:
    """``query [E Q T D]``, ``support [E Q S T D]`` or ``[E 1 S T D]`` (alike for all) -> D_frame, D_tuple [E Q S].

    distance: "euclidean" as the paper writes it, or "cosine", 1 - cos. position: factor on the sine and cosine encoding
    of a frame's place, for pairs only; 0 for none. In float32 or better, whatever comes in.
    """
    with full_precision(query):
        query, support = at_least_float32(query), at_least_float32(support)
        places = 10 * position * sinusoids(*query.shape[-2:], like=query)
        if distance == "cosine":
            frame = 1 - _products(query, support) / _lengths(query, support).clamp(min=LEAST**2).sqrt()
            return bimhm_distance(frame, mean=True), _cosine_pairs(query + places, support + places)
        frame = squared_distances(query, support).clamp(min=LEAST).sqrt()
        apart = squared_distances(query + places, support + places)
        return bimhm_distance(frame, mean=True), nearest_pairs(apart) + nearest_pairs(apart.mT)


def squared_distances(query: Tensor, support: Tensor) -> Tensor:
    """``[E Q T D]``, ``[E Q|1 S T D] -> [E Q S T T]``, query frames first: by products of centred frames.

    The mean of the supports is taken off both first: what is left is of the size of the distances, not of the features.
    """
    centre = support.mean(dim=(2, 3), keepdim=True)
    query, support = query - centre[:, :, 0], support - centre
    return _lengths(query, support, torch.add) - 2 * _products(query, support)


def _products(query: Tensor, support: Tensor) -> Tensor:
    """``<q_i, s_k>``, ``[E Q S T T]``; supports alike for all queries make one matrix product an episode."""
    queries, frames = query.shape[1:3]
    if support.shape[1] == 1:
        query = rearrange(query, "e q t d -> e 1 (q t) d")
    products = query @ rearrange(support, "e g s u d -> e g d (s u)")
    return rearrange(products, "e g (q t) (s u) -> e (g q) s t u", t=frames, u=frames, g=support.shape[1])


def _lengths(query: Tensor, support: Tensor, combine=torch.mul) -> Tensor:
    """``|q_i|^2`` and ``|s_k|^2`` multiplied (or added), ``[E Q S T T]``."""
    one, other = query.square().sum(-1), support.square().sum(-1)
    return combine(rearrange(one, "e q t -> e q 1 t 1"), rearrange(other, "e q s u -> e q s 1 u"))


def nearest_pairs(apart: Tensor) -> Tensor:
    """Mean over one video's pairs i < j of the distance to the other's nearest pair k < l, ``[... T U] -> [...]``.

    ``apart`` holds the squared distances between frames.
    """
    first, second = _pairs(apart.shape[-2], apart)
    columns = rearrange(apart.reshape(-1, *apart.shape[-2:]), "n t u -> u t n").contiguous().unbind()
    later, nearest = columns[-1], None
    for column in columns[-2::-1]:
        total = column[first] + later[second]
        nearest = total if nearest is None else torch.minimum(nearest, total)
        later = torch.minimum(later, column)
    return nearest.clamp(min=LEAST).sqrt().mean(0).reshape(apart.shape[:-2])


def _cosine_pairs(query: Tensor, support: Tensor) -> Tensor:
    """The same, both ways, by cosine distance, ``-> [E Q S]``: lengths do not add up, so all L^2 cells are met."""
    first, second = _pairs(query.shape[-2], query)
    products = _products(query, support)
    products = products[..., first, :][..., first] + products[..., second, :][..., second]
    one, other = ((x[..., first] + x[..., second]) for x in (query.square().sum(-1), support.square().sum(-1)))
    lengths = rearrange(one, "e q l -> e q 1 l 1") * rearrange(other, "e q s m -> e q s 1 m")
    return bimhm_distance(1 - products / lengths.clamp(min=LEAST**2).sqrt(), mean=True)


def _pairs(frames: int, like: Tensor) -> Tensor:
    """``[2 L]``: the frames i1 < i2 of every pair."""
    return torch.combinations(torch.arange(frames, device=like.device), 2).T
