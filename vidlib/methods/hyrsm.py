"""HyRSM (Wang et al., CVPR 2022, arXiv 2204.13423): relations within a video, then between an episode's videos.

Legend: `E` episodes, `W` way, `S` supports (or class prototypes), `Q` queries, `B` videos, `T` frames, `D` width of a
frame's feature, `H` heads, `K` training classes.

Intra-relation: the frames of a video (with positions) attend to each other, ``f = ReLU(x + MSA(LN x))``.
Inter-relation, for each query: S + 1 tokens, the temporal means of the supports' and of this query's ``f``, attend to
each other, ``r = ReLU(LN(m + MHA(m)))``, and a video's r goes back to each of its frames by a 1x1 convolution of the
concatenation ``[f_t, r]``: a support is another one for every query. Bi-MHM compares the frames so made. The loss adds
the cross-entropy of every frame among the training classes. The whole trunk is trained.

Neither a concatenation nor a support's frames for a query are ever built here. A linear layer on ``[f_t, r]`` is
``a_t + g`` with ``a = A f + b`` and a gain ``g = C r``; `a` belongs to ``embed``, as do the tokens' queries and keys
and, the layer after the heads being linear too, what it makes of each head's value. Cosines of frames ``a_t + g`` come
from products of `a` and `g`.

``variant="released"`` differs from ``variant="paper"`` in two places:
- positions: the rates of its sinusoids fall twice as fast over the channels, and a cosine's differs from its sine's
  (exponent 2c/D of channel c, where c already counts both); paper has the usual encoding;
- Bi-MHM: it adds up both directions, where the paper's equation (as remembered) divides each by its number of frames;
  ``metric_scale = T`` makes paper as sharp as the code.
In the released code but outside this file: the loss is divided by 4 accumulated episodes, weight decay is read from
another key, and the model is evaluated on the test list while it trains. HyRSM++ (arXiv 2301.03330) adds a temporal
coherence term to the loss: ``coherence_weight``.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.layers.positions import placed
from vidlib.matching import bimhm_distance, class_mean, frame_cost
from vidlib.matching.base import at_least_float32, full_precision, in_pieces
from vidlib.methods.base import Features, FewShotMethod, Match, class_means, judged, one_of, positive

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets


def squares(frames: Tensor) -> Tensor:
    """Squared lengths, ``[... D] -> [...]``, in float32 or better."""
    return at_least_float32(frames).square().sum(dim=-1)


class IntraRelation(nn.Module):
    """``ReLU(x + MSA(LN x))`` over the frames of one video, ``[B T D] -> [B T D]``; no FFN (released code)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.to_qkv(self.norm(x)), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        mixed = rearrange(F.scaled_dot_product_attention(q, k, v), "b h t d -> b t (h d)")
        return F.relu(x + self.dropout(self.to_out(mixed)))


class InterRelation(nn.Module):
    """Tokens of supports and one query attend to each other and go back to the frames; frames' distances thereof.

    weights_dropout: on the attention weights; out_dropout: after the layer that follows the heads. mean: of Bi-MHM.
    """

    def __init__(self, dim: int, heads: int, weights_dropout: float, out_dropout: float, mean: bool) -> None:
        super().__init__()
        self.heads, self.mean = heads, mean
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        for layer in (self.to_q, self.to_k, self.to_v):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (dim + dim // heads)))  # released code
        self.to_out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(2 * dim, dim)
        self.weights_dropout, self.out_dropout = nn.Dropout(weights_dropout), nn.Dropout(out_dropout)

    def prepare(self, frames: Tensor) -> Features:
        """``[B T D]`` -> ``frames`` [B T D], ``squares`` [B T], ``token``, ``query``, ``key`` [B D], ``value`` [B H D].

        All but ``squares`` are linear or affine: their mean over supports is what the supports' mean frames give.
        """
        token = frames.mean(dim=1)
        value = rearrange(self.to_v(token), "b (h d) -> b h d", h=self.heads)
        after = rearrange(self.to_out.weight, "c (h d) -> h d c", h=self.heads)
        frames = F.linear(frames, self.expand.weight[:, : frames.shape[-1]], self.expand.bias)
        return {
            "frames": frames,
            "squares": squares(frames),
            "token": token,
            "query": self.to_q(token) / math.sqrt(value.shape[-1]),
            "key": self.to_k(token),
            "value": einsum(value, after, "b h d, h d c -> b h c"),
        }

    def related(self, support: Features, query: Features) -> Tensor:
        """What every frame of a video gains: ``[E Q S+1 D]``, the supports' for that query, last the query's own."""
        (episodes, queries), supports = query["token"].shape[:2], support["token"].shape[1]
        asks, keys = (
            rearrange(torch.cat([support[name], query[name]], dim=1), "e n (h d) -> e h n d", h=self.heads)
            for name in ("query", "key")
        )
        scores = rearrange(asks @ keys.mT, "e h n m -> e n m h")  # of all tokens; a query's with another's is not used
        of_supports, of_queries = scores.split([supports, queries], dim=1)
        among = repeat(of_supports[:, :, :supports], "e i j h -> e q i j h", q=queries)
        with_query = rearrange(of_supports[:, :, supports:], "e i q h -> e q i 1 h")
        own = rearrange(of_queries[:, :, supports:].diagonal(dim1=1, dim2=2), "e h q -> e q 1 1 h")
        bottom = torch.cat([of_queries[:, :, None, :supports], own], dim=3)
        weights = torch.cat([torch.cat([among, with_query], dim=3), bottom], dim=2).softmax(dim=3)  # [E Q S+1 S+1 H]
        weights = self.weights_dropout(weights).flatten(3)
        on_supports = rearrange(weights[..., : -self.heads], "e q r x -> e (q r) x")
        on_query = rearrange(weights[..., -self.heads :], "e q r h -> (e q) r h")
        mixed = on_supports @ rearrange(support["value"], "e j h c -> e (j h) c")
        mixed = rearrange(mixed, "e (q r) c -> (e q) r c", q=queries).baddbmm_(on_query, query["value"].flatten(0, 1))
        mixed = rearrange(mixed, "(e q) r c -> e q r c", e=episodes)
        own, token, bias = query["token"], support["token"], self.to_out.bias
        if self.training:
            mixed = self.out_dropout(mixed + bias)
        else:
            own, token = own + bias, token + bias
        mixed[:, :, :-1] += token[:, None]
        mixed[:, :, -1] += own
        related = F.relu(self.norm(mixed), inplace=True)
        return F.linear(related, self.expand.weight[:, related.shape[-1] :])

    def compare(self, support: Features, query: Features) -> Tensor:
        """What ``prepare`` gave, [E S ...] and [E Q ...] -> Bi-MHM distances ``[E Q S]``.

        With the frames ``a_t + v`` of a query and ``a_u + w`` of a support (v, w: gains), every dot product and squared
        length is a sum of products of a, v and w.
        """
        gain = self.related(support, query)
        ours, theirs = query["frames"], support["frames"]  # [E Q T D], [E S U D]
        aa = einsum(ours, theirs, "e q t c, e s u c -> e q t s u")
        ag = einsum(ours, gain, "e q t c, e q r c -> e q t r")
        ga = einsum(theirs, gain, "e s u c, e q r c -> e q s u r")  # a support's frames meet every gain: one product
        gg = einsum(gain, gain, "e q r c, e q o c -> e q r o")
        aw, av, va, vw, vv = ag[..., :-1], ag[..., -1], ga[..., -1], gg[..., -1, :-1], gg[..., -1, -1]
        wa = ga[..., :-1].diagonal(dim1=2, dim2=4)  # [E Q U S]: each support's own gain
        ww = gg.diagonal(dim1=-2, dim2=-1)[..., :-1]
        dots = rearrange(aa, "e q t s u -> e q s t u") + aw.mT[..., None] + (va + vw[..., None])[:, :, :, None]
        ours = _length(query["squares"], av, vv[..., None])  # [E Q T]
        theirs = _length(support["squares"][:, None], wa.mT, ww[..., None])  # [E Q S U]
        return bimhm_distance(1 - dots / ours[:, :, None, :, None] / theirs[:, :, :, None], self.mean)


def _length(aa: Tensor, ag: Tensor, gg: Tensor) -> Tensor:
    """``|a + g|`` from the products; never below the rounding error of the sum, so that no cosine explodes."""
    whole = aa + gg
    return torch.maximum(whole + 2 * ag, 1e-6 * whole).clamp(min=1e-12).sqrt()


class HyRSM(FewShotMethod):
    """HyRSM on the frame features of any backbone.

    classes: K, training classes of the auxiliary head, which every frame goes through; 0 is no head.
    class_loss_weight: of its cross-entropy (released: 0.6 SSv2-Full, 0.4 Kinetics, 0.15 the others); 0 is no head.
    intra, inter: the two relations; without inter, Bi-MHM compares the frames that every video has by itself.
    prototype_first: average a class's supports before the inter-relation (released 5-shot head), else every support has
        its relation and a class's distance is the mean over its supports (released 1-shot head). With one support per
        class the two are the same, so that True is what the released recipes compute for either shot.
    position_a, position_b: frames become ``x sqrt(D / a) + b positions`` (released: 10 and 1; Kinetics 2048 and 0.01).
    heads: of both relations. metric_scale: factor on the logits (released: 1).
    position_dropout, dropout: after positions, after the intra-relation's attention; weights_dropout, out_dropout: on
        the inter-relation's attention weights, and after its attention (released rates).
    coherence_weight: of HyRSM++'s term (0.1 to 0.3 there), 0 is HyRSM; coherence_window (frames), coherence_balance
        (squared frames), coherence_coefficient: see ``coherence``.
    finetune: "full", or "frozen".
    """

    uses_text = False
    by_role = False
    from_features = {"finetune": "frozen"}
    released_unused = (r"^pe\.pe$", r"^classification_layer\.")  # the head where ``classes`` is 0

    shot_rules = {"frames": {"prototype_first": True}, "distances": {"prototype_first": False}}

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        classes: int = 0,
        class_loss_weight: float = 0.6,
        intra: bool = True,
        inter: bool = True,
        prototype_first: bool = True,
        position_a: float = 10.0,
        position_b: float = 1.0,
        heads: int = 8,
        position_dropout: float = 0.1,
        dropout: float = 0.2,
        weights_dropout: float = 0.1,
        out_dropout: float = 0.05,
        metric_scale: float = 1.0,
        coherence_weight: float = 0.0,
        coherence_window: int = 1,
        coherence_balance: float = 1.0,
        coherence_coefficient: float = 10.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        dim = backbone.embed_dim
        super().__init__(backbone, frames, dim)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.variant = one_of("variant", variant, ("paper", "released"))
        self.prototype_first, self.metric_scale = prototype_first, metric_scale
        self.position_a, self.position_b = position_a, position_b
        self.class_loss_weight, self.coherence_weight = class_loss_weight, coherence_weight
        self.coherence_shape = (coherence_window, coherence_balance, coherence_coefficient)
        positive(position_a=position_a)
        if heads < 1 or dim % heads:
            raise UserError(f"heads must divide the backbone's width {dim}, got {heads}.")
        self.position_dropout = nn.Dropout(position_dropout)
        self.intra = IntraRelation(dim, heads, dropout) if intra else None
        rates, self.mean = (weights_dropout, out_dropout), variant == "paper"
        self.inter = InterRelation(dim, heads, *rates, mean=self.mean) if inter else None
        self.class_head = nn.Linear(dim, classes) if classes and class_loss_weight else None
        self.tune(finetune)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """See ``embed_frames``."""
        return self.embed_frames(self.frame_features(clips))

    def embed_frames(self, frames: Tensor) -> Features:
        """The backbone's ``[B T D]`` -> what ``InterRelation.prepare`` gives; without inter, ``frames`` [B T D] alone.

        With a class head ``classes`` [B T K], with HyRSM++'s term ``coherence`` [B].
        """
        frames = placed(frames, self.position_a, self.position_b, usual=self.variant == "paper")
        frames = self.position_dropout(frames)
        if self.intra is not None:
            frames = self.intra(frames)
        features = {"frames": frames} if self.inter is None else self.inter.prepare(frames)
        if self.class_head is not None:
            features["classes"] = self.class_head(frames)
        if self.coherence_weight:
            features["coherence"] = coherence(frames, *self.coherence_shape)
        return features

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Part "q2s" is the logits [E Q W]; losses "q2s", "class" and "coherence"."""
        logits = -self.metric_scale * self.distances(support, labels, query, text.shape[1])
        match = judged(logits, targets)
        if targets is not None:
            if self.class_head is not None:
                found = torch.cat([support["classes"], query["classes"]], dim=1)
                truth = targets.class_ids.gather(1, torch.cat([labels, targets.query_labels], dim=1))
                truth = repeat(truth, "e v -> (e v t)", t=found.shape[2])
                match.losses["class"] = self.class_loss_weight * F.cross_entropy(found.flatten(0, 2), truth)
            if self.coherence_weight:
                own = torch.cat([support["coherence"], query["coherence"]], dim=1)
                match.losses["coherence"] = self.coherence_weight * own.mean()
        return match

    def distances(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """``[E Q W]`` between queries and classes, in float32 or better, in pieces of bounded memory."""
        needed = [name for name in query if name not in ("classes", "coherence")]
        with full_precision(labels):
            support, query = ({name: at_least_float32(x[name]) for name in needed} for x in (support, query))
            if self.prototype_first or labels.shape[1] == way:  # of one support each, the same to the last bit
                support = {name: class_means(support[name], labels, way) for name in needed}
                if self.inter is not None:
                    support["squares"] = squares(support["frames"])
                labels = torch.arange(way, device=labels.device).expand(len(labels), way)
            compare, supports = self.compare, support["frames"].shape[1]
            numbers = supports * query["frames"].shape[2] ** 2
            if self.inter is not None:
                compare, numbers = self.inter.compare, max(numbers, (supports + 1) * query["frames"].shape[3])
            return class_mean(in_pieces(compare, support, query, numbers), labels, way)

    def compare(self, support: Features, query: Features) -> Tensor:
        """Bi-MHM distances ``[E Q S]`` of frames that have had no inter-relation."""
        return bimhm_distance(frame_cost(query["frames"], support["frames"], eps=1e-12), self.mean)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take a released state: both relations, the class head where there is one here, the trunk if it is there."""
        modules = {
            "temporal_atte_before.norm": "intra.norm",
            "temporal_atte_before.fn.to_qkv": "intra.to_qkv",
            "temporal_atte_before.fn.to_out.0": "intra.to_out",
            "temporal_atte.w_qs": "inter.to_q",
            "temporal_atte.w_ks": "inter.to_k",
            "temporal_atte.w_vs": "inter.to_v",
            "temporal_atte.fc": "inter.to_out",
            "temporal_atte.layer_norm": "inter.norm",
            "layer2.0": "inter.expand",
        }
        if self.class_head is not None:
            modules["classification_layer"] = "class_head"
        ours = {}
        for key, value in state.items():
            module, _, kind = key.rpartition(".")
            if module in modules:
                ours[f"{modules[module]}.{kind}"] = (
                    value.squeeze(-1) if module == "layer2.0" and value.ndim == 3 else value
                )
        kept = {name: value for name, value in self.state_dict().items() if name.startswith("backbone.")}
        self.load_state_dict(kept | ours)
        self.load_trunk(state)


def coherence(frames: Tensor, window: int, balance: float, coefficient: float) -> Tensor:
    """HyRSM++: frames near in time should look alike, distant ones differ; ``[B T D] -> [B]``.

    With the cosine distance d of frames i, j and n = |i - j|: ``d / (n^2 + 1)`` for n <= window, beyond it
    ``coefficient * relu(1 - exp(-(n - window)^2 / balance) - d)``; the mean over all pairs.
    On which features, and sum or mean, our sources do not state; here on what leaves the intra-relation.
    """
    with full_precision(frames):
        directions = F.normalize(at_least_float32(frames), dim=-1)
        distance = 1 - directions @ directions.mT
        time = torch.arange(frames.shape[1], device=frames.device)
        apart = (time[:, None] - time).abs().to(distance.dtype)
        near = distance / (apart.square() + 1)
        far = coefficient * F.relu(1 - torch.exp(-(apart - window).square() / balance) - distance)
        return torch.where(apart <= window, near, far).mean(dim=(1, 2))
