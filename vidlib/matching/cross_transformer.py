"""TRX, temporal-relational cross-transformers (Perrett et al., CVPR 2021): tuples of frames attend to each other.

For a cardinality w, every increasing w-tuple of frames is one feature, the concatenation of its frames. Query tuples
attend to all tuples of all supports of a class jointly; what they gather is the class prototype made for that query,
and the logit is minus the mean squared distance between the query's values and the gathered ones.

No tuple is ever put together. A linear layer on a concatenation is a sum of linear layers: a frame has a part for each
place it can have in a tuple, and with a 0-1 matrix I that says which parts make which tuple, keys are I K and values
I V. Products of tuples are then sums of products of parts. With LN k = g (k - mean) / s + b,

    <LN k_q, LN k_s> = <g k_q, g k_s> / (s_q s_s) + <b, g k_s> / s_s + what is the same for all s, which softmax drops,

and with shares A of a query's tuples in the support tuples, B = A I their shares in the parts, and values v,

    mean |v - B V|^2 = mean |v|^2 + mean (B V V^T B^T - 2 B V v).

Nothing large may cancel there. ``prepare`` splits parts so that those of every place have the same mean, which moves no
tuple, and takes the channels' mean off keys; ``compare`` measures values from the mean of the supports.

Weights keep the released names and shapes.

`E` episodes, `W` way, `K` largest shot, `S` supports, `Q` queries, `T` frames, `L` tuples, `w` places in a tuple,
`P` parts of a video (T w), `D` width, `C` projected width.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.matching.base import Features, Metric, at_least_float32, class_members, full_precision, in_pieces

RELEASED_WIDTH = 1152  # C in the released code, for frames of 2048 (ResNet-50) and of 512 (ResNet-18) alike


def sinusoids(frames: int, dim: int, like: Tensor) -> Tensor:
    """0.1 times the usual sine and cosine encoding, base 10000, ``[T D]`` (released code)."""
    return _sinusoids(frames, dim, like.dtype, like.device, type(like))


@functools.lru_cache(maxsize=32)  # by the kind of tensor, too, since one that only counts is no number
@torch.inference_mode(False)
def _sinusoids(frames: int, dim: int, dtype: torch.dtype, device: torch.device, _: type) -> Tensor:
    time = torch.arange(frames, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / dim))
    waves = torch.stack([torch.sin(time * rate), torch.cos(time * rate)], dim=-1)
    return 0.1 * rearrange(waves, "t d two -> t (d two)")[:, :dim].to(dtype)


def incidence(frames: int, places: int, like: Tensor) -> Tensor:
    """I ``[L P]``: 1 where a part, number ``t w + place`` for frame t at a place, belongs to a tuple. One for all."""
    return _incidence(frames, places, like.dtype, like.device, type(like))


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _incidence(frames: int, places: int, dtype: torch.dtype, device: torch.device, _: type) -> Tensor:
    index = torch.combinations(torch.arange(frames), places) * places + torch.arange(places)  # [L w]
    return F.one_hot(index, frames * places).sum(dim=1).to(device, dtype)


class CrossTransformer(nn.Module):
    """One cardinality: projections, the norm of the keys, attention, distance."""

    def __init__(self, dim: int, out_dim: int, cardinality: int, dropout: float) -> None:
        super().__init__()
        self.cardinality = cardinality
        self.dropout = nn.Dropout(dropout)
        self.k_linear = nn.Linear(dim * cardinality, out_dim)
        self.v_linear = nn.Linear(dim * cardinality, out_dim)
        self.norm_k = nn.LayerNorm(out_dim)

    def prepare(self, frames: Tensor) -> Features:
        """``[... T D]`` -> what one video brings, float32 or better.

        ``key``, ``value`` [... P C], the parts; ``scale``, ``shift`` [... L], so that a score is
        ``scale_q scale_s <k_q, k_s> + shift_s``; of the tuples' values the mean ``centre`` [... C] and the mean squared
        distance from it, ``spread`` [...].
        """
        frames = frames.to(self.k_linear.weight.dtype)
        frames = self.dropout(frames + sinusoids(*frames.shape[-2:], like=frames))
        key, value = self.parts(frames, self.k_linear), self.parts(frames, self.v_linear)
        with full_precision(frames):
            tuples = incidence(frames.shape[-2], self.cardinality, key)
            key, value = self.level(key, tuples), self.level(value, tuples)
            key = key - key.mean(dim=-1, keepdim=True)
            root = key.shape[-1] ** 0.25  # either side takes half of the attention's 1 / sqrt C
            variance = ((tuples @ (key @ key.mT)) * tuples).sum(dim=-1) / key.shape[-1]
            scale = (variance + self.norm_k.eps).rsqrt() / root
            key = key * self.norm_k.weight
            shift = (key @ self.norm_k.bias.to(key.dtype) @ tuples.mT) * scale / root
            centre = tuples.mean(dim=0) @ value
            own = value - centre[..., None, :] / self.cardinality
            spread = ((own @ own.mT) * (tuples.mT @ tuples)).sum(dim=(-1, -2)) / len(tuples)
        return {"key": key, "value": value, "scale": scale, "shift": shift, "centre": centre, "spread": spread}

    def parts(self, frames: Tensor, linear: nn.Linear) -> Tensor:
        """``[... T D] -> [... T w C]``, float32 or better: added up, what ``linear`` makes of concatenated frames."""
        weight = rearrange(linear.weight, "c (w d) -> (w c) d", w=self.cardinality)
        parts = rearrange(F.linear(frames, weight), "... t (w c) -> ... t w c", w=self.cardinality)
        return at_least_float32(parts) + linear.bias / self.cardinality

    def level(self, parts: Tensor, tuples: Tensor) -> Tensor:
        """``[... T w C] -> [... P C]``: the mean of all parts at a place becomes the same for all places.

        The sum of the means stays, and so does every tuple.
        """
        often = rearrange(tuples.mean(dim=0), "(t w) -> t w 1", w=self.cardinality)  # in which share of the tuples
        means = (parts * often).sum(dim=-3, keepdim=True)
        return (parts - means + means.mean(dim=-2, keepdim=True)).flatten(-3, -2)

    def logits(self, support: Features, query: Features) -> Tensor:
        """What ``prepare`` gave, [E S ...] and [E Q ...], -> [E Q W].

        ``support["index"]`` [E W K] names each class's supports; ``support["present"]`` [E W K] is False where a class
        has fewer than K, and is left out where none has.
        """
        index, present = support["index"], support.get("present")
        (way, shot), (queries, parts) = index.shape[1:], query["key"].shape[1:3]
        episodes = torch.arange(len(index), device=index.device)[:, None, None]
        key, value, scale, shift = (support[name][episodes, index] for name in ("key", "value", "scale", "shift"))
        ours, theirs = (incidence(n // self.cardinality, self.cardinality, key) for n in (parts, key.shape[-2]))

        def products(support_parts: Tensor, query_parts: Tensor, less: Tensor | float = 0.0) -> Tensor:
            """``[E N C], [E Q P C] -> [E N (Q L)]``: a part of a support and a tuple of a query; ``less`` a part."""
            between = support_parts @ rearrange(query_parts, "e q p c -> e c (q p)") - less
            return rearrange(rearrange(between, "e n (q p) -> e n q p", q=queries) @ ours.mT, "e n q l -> e n (q l)")

        keys = products(rearrange(key, "e w k p c -> e (w k p) c"), query["key"])
        keys = rearrange(keys * query["scale"].flatten(1)[:, None], "e (v p) n -> (e v) p n", v=way * shot)
        scaled = rearrange(scale[..., None] * theirs, "e w k l p -> (e w k) l p")
        scores = torch.baddbmm(shift.flatten(0, 2)[..., None], scaled, keys)
        scores = rearrange(scores, "(e w k) l n -> e w (k l) n", w=way, k=shot)
        if present is not None:
            absent = ~present.repeat_interleave(len(theirs), dim=-1)
            scores = scores.masked_fill(absent[..., None], -torch.inf)
        shares = theirs.mT @ rearrange(scores.softmax(dim=2), "e w (k l) n -> (e w k) l n", k=shot)
        shares = rearrange(shares, "(e w k) p n -> (e w) (k p) n", w=way, k=shot)

        middle = support["centre"].mean(dim=1)[:, None]  # [E 1 C], of the supports alone: queries stay apart
        value = rearrange(value, "e w k p c -> e (w k p) c") - middle / self.cardinality
        cross = products(value, query["value"], less=value @ middle.mT / self.cardinality)
        value, cross = (rearrange(x, "e (w n) m -> (e w) n m", w=way) for x in (value, cross))
        gathered = (torch.baddbmm(cross, value @ value.mT, shares, beta=-2) * shares).sum(dim=1)
        gathered = reduce(gathered, "(e w) (q l) -> e q w", "mean", w=way, q=queries)
        own = (query["centre"] - middle).square().sum(dim=-1) + query["spread"]
        return -(own[..., None] + gathered)


class TRX(Metric):
    """The mean over cardinalities of the cross-transformers' logits (released code; the paper is remembered to sum).

    dim: width of a frame's feature.  out_dim: projected width; None is the released 1152, or 9/4 of a width below 512.
    cardinalities: sizes of the tuples, {2, 3} in the paper.  dropout: on frames after the positional encoding.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int | None = None,
        cardinalities: Sequence[int] = (2, 3),
        dropout: float = 0.1,
        scale: float = 1.0,
    ) -> None:
        super().__init__(scale)
        if not cardinalities or min(cardinalities) < 1 or len(set(cardinalities)) < len(cardinalities):
            raise ValueError(
                f"cardinalities is {tuple(cardinalities)}; TRX needs different whole numbers from 1, as (2, 3)"
            )
        out_dim = out_dim or min(RELEASED_WIDTH, dim * 9 // 4)
        self.transformers = nn.ModuleList(CrossTransformer(dim, out_dim, w, dropout) for w in cardinalities)

    def prepare(self, frames: Tensor) -> Features:
        """``[... T D]`` -> what ``CrossTransformer.prepare`` gives, the cardinality behind each name (``key2``)."""
        most = max(head.cardinality for head in self.transformers)
        if frames.shape[-2] < most:
            raise ValueError(f"TRX with cardinality {most} needs at least {most} frames, not {frames.shape[-2]}")
        return {
            f"{name}{head.cardinality}": x for head in self.transformers for name, x in head.prepare(frames).items()
        }

    def compare(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """See ``Metric.compare``. Memory is bounded by working through episodes, then queries, in pieces."""
        members = class_members(labels, way)
        shots = members.sum(dim=1)  # [E W]
        most = int(shots.max())
        order = rearrange(~members, "e s w -> e w s").to(torch.uint8).argsort(dim=-1, stable=True)
        groups = {"index": order[..., :most]}
        if most * way > labels.shape[1]:
            groups["present"] = torch.arange(most, device=labels.device) < shots[..., None]
        with full_precision(labels):
            per_head = [self._compare(head, support, groups, query) for head in self.transformers]
            return self.scale * torch.stack(per_head).mean(dim=0)

    @staticmethod
    def _compare(head: CrossTransformer, support: Features, groups: Features, query: Features) -> Tensor:
        names = ("key", "value", "scale", "shift", "centre", "spread")
        ours, theirs = (
            {name: at_least_float32(x[f"{name}{head.cardinality}"]) for name in names} for x in (query, support)
        )
        scores = [max(x["key"].shape[2], x["scale"].shape[2]) for x in (ours, theirs)]
        return in_pieces(head.logits, theirs | groups, ours, numbers=math.prod(scores) * groups["index"][0].numel())


def released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``TRX.load_state_dict`` wants, out of a released checkpoint's state; its order of cardinalities is kept.

    Left out: the trunk, the table of positions (computed here) and norm_v (made by the released code, never used).
    """
    ours = ("k_linear", "v_linear", "norm_k")
    found = {key[key.index("transformers.") :]: x for key, x in state.items() if "transformers." in key}
    return {key: x for key, x in found.items() if key.split(".")[2] in ours}
