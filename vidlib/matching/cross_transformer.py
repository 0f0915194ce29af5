"""TRX, temporal-relational cross-transformers (Perrett et al., CVPR 2021): tuples of frames attend to each other.

For a cardinality w, every increasing w-tuple of frames is one feature, the concatenation of its frames. Query tuples
attend to all tuples of all supports of a class jointly; what they gather is the class prototype made for that query,
and the logit is minus the mean squared distance between the query's values and the gathered ones.

A linear layer on a concatenation is a sum of linear layers on its parts: ``prepare`` projects every frame once for each
place it can have in a tuple, ``compare`` adds. Weights keep the released names and shapes.

`E` episodes, `W` way, `K` largest shot, `S` supports, `Q` queries, `T` frames, `L` tuples, `w` places in a tuple,
`D` width, `C` projected width.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.matching.base import Features, Metric, at_least_float32, class_members, full_precision

RELEASED_WIDTH = 1152  # C in the released code, for frames of 2048 (ResNet-50) and of 512 (ResNet-18) alike
CHUNK = 1 << 21  # numbers in the largest tensors of one step of ``compare``: 8 MB; 128 MB was 4 times slower on a CPU


def sinusoids(frames: int, dim: int, like: Tensor) -> Tensor:
    """0.1 times the usual sine and cosine encoding, base 10000, ``[T D]`` (released code)."""
    time = torch.arange(frames, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / dim))
    waves = torch.stack([torch.sin(time * rate), torch.cos(time * rate)], dim=-1)
    return 0.1 * rearrange(waves, "t d two -> t (d two)")[:, :dim].to(like.dtype)


class CrossTransformer(nn.Module):
    """One cardinality: projections, the norm of the keys, attention, distance."""

    def __init__(self, dim: int, out_dim: int, cardinality: int, dropout: float) -> None:
        super().__init__()
        self.cardinality = cardinality
        self.dropout = nn.Dropout(dropout)
        self.k_linear = nn.Linear(dim * cardinality, out_dim)
        self.v_linear = nn.Linear(dim * cardinality, out_dim)
        self.norm_k = nn.LayerNorm(out_dim)

    def project(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """``[... T D]`` -> a frame's part of a key and of a value at each place in a tuple, twice ``[... T w C]``."""
        frames = frames.to(self.k_linear.weight.dtype)
        frames = self.dropout(frames + sinusoids(*frames.shape[-2:], like=frames))
        places = [rearrange(m.weight, "c (w d) -> (w c) d", w=self.cardinality) for m in (self.k_linear, self.v_linear)]
        key, value = (F.linear(frames, place).unflatten(-1, (self.cardinality, -1)) for place in places)
        return key, value

    def tuples(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[... T w C]`` -> normalised keys and plain values of all tuples, twice ``[... L C]``."""
        index = torch.combinations(torch.arange(key.shape[-3]), self.cardinality).to(key.device)  # [L w]

        def joined(parts: Tensor, linear: nn.Linear) -> Tensor:
            return sum(parts[..., w, :].index_select(-2, index[:, w]) for w in range(self.cardinality)) + linear.bias

        keys, norm = joined(key, self.k_linear), self.norm_k
        weight, bias = norm.weight.to(keys.dtype), norm.bias.to(keys.dtype)
        return F.layer_norm(keys, norm.normalized_shape, weight, bias, norm.eps), joined(value, self.v_linear)

    def logits(
        self, support: Sequence[Tensor], index: Tensor, present: Tensor | None, query: Sequence[Tensor]
    ) -> Tensor:
        """Parts of supports [E S T w C] and queries [E Q T w C] -> [E Q W].

        ``index [E W K]`` names each class's supports; ``present [E W K]`` is False where a class has fewer than K.
        """
        query_keys, query_values = self.tuples(*query)
        episodes = torch.arange(len(index), device=index.device)[:, None, None]
        grouped = (x[episodes, index] for x in self.tuples(*support))
        keys, values = (rearrange(x, "e w k l c -> e w (k l) c") for x in grouped)
        scores = rearrange(query_keys, "e q l c -> e 1 (q l) c") @ keys.mT / math.sqrt(keys.shape[-1])
        if present is not None:
            tuples = keys.shape[2] // index.shape[2]
            absent = ~present.repeat_interleave(tuples, dim=-1)
            scores = scores.masked_fill(absent[:, :, None], -torch.inf)
        gathered = scores.softmax(dim=-1) @ values
        squared = (rearrange(query_values, "e q l c -> e 1 (q l) c") - gathered).square().sum(dim=-1)
        return -reduce(squared, "e w (q l) -> e q w", "mean", q=query_values.shape[1])


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
        """``[... T D]`` -> ``key<w>`` and ``value<w>``, ``[... T w C]``, for each cardinality w."""
        most = max(head.cardinality for head in self.transformers)
        if frames.shape[-2] < most:
            raise ValueError(f"TRX with cardinality {most} needs at least {most} frames, not {frames.shape[-2]}")
        parts = {head.cardinality: head.project(frames) for head in self.transformers}
        return {f"{name}{w}": x for w, pair in parts.items() for name, x in zip(("key", "value"), pair, strict=True)}

    def compare(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """See ``Metric.compare``. Memory is bounded by working through episodes, then queries, in pieces."""
        members = class_members(labels, way)
        shots = members.sum(dim=1)  # [E W]
        most = int(shots.max())
        index = rearrange(~members, "e s w -> e w s").to(torch.uint8).argsort(dim=-1, stable=True)[..., :most]
        balanced = most * way == labels.shape[1]
        present = None if balanced else torch.arange(most, device=labels.device) < shots[..., None]
        per_head = [self._compare(head, support, index, present, query) for head in self.transformers]
        return self.scale * torch.stack(per_head).mean(dim=0)

    @staticmethod
    def _compare(
        head: CrossTransformer, support: Features, index: Tensor, present: Tensor | None, query: Features
    ) -> Tensor:
        names = f"key{head.cardinality}", f"value{head.cardinality}"
        with full_precision(index):
            ours, theirs = ([at_least_float32(x[name]) for name in names] for x in (query, support))
            episodes, queries, frames, _, width = ours[0].shape
            tuples = math.comb(frames, head.cardinality)
            numbers = index.shape[1] * tuples * (width + index.shape[2] * tuples)  # of one query: values and scores
            e_step, q_step = max(1, CHUNK // (numbers * queries)), max(1, CHUNK // numbers)
            pieces = []
            for e in range(0, episodes, e_step):
                at = slice(e, e + e_step)
                there, mask = [x[at] for x in theirs], None if present is None else present[at]
                parts = [
                    head.logits(there, index[at], mask, [x[at, q : q + q_step] for x in ours])
                    for q in range(0, queries, q_step)
                ]
                pieces.append(torch.cat(parts, dim=1))
            return torch.cat(pieces)


def released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``TRX.load_state_dict`` wants, out of a released checkpoint's state; its order of cardinalities is kept.

    Left out: the trunk, the table of positions (computed here) and norm_v (made by the released code, never used).
    """
    ours = ("k_linear", "v_linear", "norm_k")
    found = {key[key.index("transformers.") :]: x for key, x in state.items() if "transformers." in key}
    return {key: x for key, x in found.items() if key.split(".")[2] in ours}
