"""GgHM (Xing et al., ICCV 2023, arXiv 2308.09346): graph-guided hybrid matching for few-shot action recognition.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `D` channels of the deepest map, `C`
width of a frame's feature, `H` hidden width, `N` places that are guided each, `M` nodes of a graph, `R` its queries.

1. *Learnable dense temporal modelling* on the backbone's deepest map, ``F~ = beta F_patch + (1 - beta) F_channel``
   (``vidlib.layers.dense_temporal``).
2. *Graph-guided prototypes*: one node per class (the mean over its supports) and one for the query, each the mean over
   frames of F~; edges start from the labels and at 0.5 where the query is part; a graph network renews both
   (``vidlib.layers.graph``); *Select* takes the last edges of the query. They are multiplied with embedded
   features, f_FFN, and what comes out is fused with every frame: task features, of supports anew for every query. The
   graph only guides: what its nodes became is matched nowhere. ``L_graph``: the query's edges against the labels.
3. *Hybrid matching*, ``D = alpha D_tuple + (1 - alpha) D_frame`` (``vidlib.matching.hybrid``); logits ``-D``.

No code was released ("coming soon" since 2023), the paper's method section was not at hand, and we know the method
through notes on it. What they leave open is a constructor argument, listed by ``unsettled()``. Algorithm 1 (f_emb,
f_FFN, f_fuse) was not seen: its wiring here, two-layer perceptrons around one matrix product, is ours. The whole trunk
is trained. Every query has a graph of its own, so that no query's score depends on another; ``transductive=True`` puts
all of an episode's queries into one graph. There is one variant: "released" would be the same.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.layers.dense_temporal import SHIFTED, STARTS, ChannelRelation, DenseTemporal, PatchRelation
from vidlib.layers.graph import EDGES, GUIDES, Guidance
from vidlib.matching.base import class_mean
from vidlib.matching.hybrid import DISTANCES, hybrid_distances
from vidlib.methods.base import Features, FewShotMethod, Match, check_weight, class_means, class_rows, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets

CHUNK = 1 << 21  # numbers in the largest tensors of one step of ``match``
NEAR = 1e-6  # an edge is kept this far from 0 and 1 where its logarithm is taken


class GgHM(FewShotMethod):
    """GgHM on the maps of a ResNet or of a CLIP image tower.

    dense: "both", "patch", "channel" or None. gap, shifted, gamma, shared_attention, kernel, channel_start, heads,
        attention_residual, beta: see ``vidlib.layers.dense_temporal``. pool: F~ is pooled over places "before" the
        guidance, or guided at every place and pooled "after" it.
    graph: False matches F~ unguided. graph_layers, graph_width (None: half of C), edges, relative_edges: see
        ``vidlib.layers.graph``. guide: "gather": query and supports are guided by the classes' embedded features,
        weighted by the query's edges; "exchange": a support by the query's, times their edge. fuse_residual: the fused
        features are added to the frames (from zero) or take their place. graph_weight: of L_graph. graph_loss: on the
        edges after "all" layers or the "last". transductive: one graph an episode.
    alpha: 0 is frames alone, 1 tuples alone. distance: "euclidean" or "cosine". position: factor on the positional
        encoding of tuples. shots: "distance" averages over a class's supports, "features" matches their mean.
    metric_scale: factor on the logits. finetune: "full" or "frozen" trunk.
    """

    uses_text = False
    by_role = False
    needs_maps = True

    shot_rules = {"frames": {"shots": "features"}, "distances": {"shots": "distance"}}

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        dense: str | None = "both",
        gap: int = 2,
        shifted: str = "others",
        gamma: float = 0.5,
        beta: float = 0.5,
        kernel: int = 3,
        channel_start: str = "shift",
        heads: int = 8,
        shared_attention: bool = True,
        attention_residual: bool = True,
        pool: str = "before",
        graph: bool = True,
        graph_layers: int = 2,
        graph_width: int | None = None,
        edges: str = "both",
        relative_edges: bool = True,
        guide: str = "gather",
        fuse_residual: bool = True,
        graph_weight: float = 1.0,
        graph_loss: str = "all",
        transductive: bool = False,
        alpha: float = 0.5,
        distance: str = "euclidean",
        position: float = 0.1,
        shots: str = "distance",
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        channels, dim = backbone.map_dims[-1], backbone.embed_dim
        graph_width = graph_width or max(1, dim // 2)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        if variant != "paper":
            raise UserError(f"variant {variant!r} does not exist for gghm (no code was released); use 'paper'.")
        one_of("dense", dense, ("both", "patch", "channel", None))
        one_of("shifted", shifted, SHIFTED), one_of("channel_start", channel_start, STARTS)
        one_of("edges", edges, EDGES), one_of("guide", guide, GUIDES)
        gamma, beta = check_weight("gamma", gamma), check_weight("beta", beta)
        self.alpha, self.metric_scale = check_weight("alpha", alpha), metric_scale
        self.distance, self.position = one_of("distance", distance, DISTANCES), position
        self.pool = one_of("pool", pool, ("before", "after"))
        self.shots = one_of("shots", shots, ("distance", "features"))
        self.graph_loss, self.graph_weight = one_of("graph_loss", graph_loss, ("all", "last")), graph_weight
        self.dense, self.guidance = None, None
        inside = {"heads": heads, "residual": attention_residual}
        try:
            if dense is not None:
                patch = PatchRelation(channels, frames, gap, gamma, shifted, shared=shared_attention, **inside)
                channel = ChannelRelation(channels, kernel, channel_start, **inside)
                kept = (patch if dense != "channel" else None, channel if dense != "patch" else None)
                self.dense = DenseTemporal(*kept, beta)
            if graph:
                form = (edges, relative_edges, guide, fuse_residual, transductive)
                self.guidance = Guidance(dim, graph_width, graph_layers, *form)
        except ValueError as cause:
            raise UserError(f"{cause}.") from cause
        self.tune(finetune)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``frames [B T C]``, F~ pooled; with a graph ``parts [B T N H]``, what the frames bring into f_fuse."""
        maps = self.frame_maps(clips)[-1]
        if self.dense is not None:
            maps = self.dense(maps)
        if self.pool == "before":
            places = rearrange(self.backbone.pool(maps.flatten(0, 1)), "(b t) c -> b t 1 c", t=self.frames)
        else:
            apart = rearrange(maps, "b t d h w -> (b t h w) d 1 1")
            places = rearrange(self.backbone.pool(apart), "(b t n) c -> b t n c", b=len(maps), t=self.frames)
        features = {"frames": places.mean(2)}
        return features if self.guidance is None else features | {"parts": self.guidance.frame_part(places)}

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts "q2s" (the logits), "frame", "tuple" (minus the distance, scaled), "graph" (log of the last edges)."""
        way = text.shape[1]
        nodes = class_means(support["frames"].mean(2), labels, way), query["frames"].mean(2)
        edges = None if self.guidance is None else self.edges(*nodes)
        if self.shots == "features" and labels.shape[1] > way:
            support = {key: class_means(value, labels, way) for key, value in support.items()}
            labels = torch.arange(way, device=labels.device).expand(len(labels), way)

        def distances(e: slice, q: slice) -> Tensor:
            here = None if edges is None else edges[e, q, :, -1]
            guided = self.guided(_at(support, e), labels[e], _at(query, e, q), (nodes[0][e], nodes[1][e]), here, q)
            return torch.stack(hybrid_distances(*guided, self.distance, self.position), dim=-1)

        frames, dim = support["frames"].shape[2:]
        wide = 2 * dim + frames**2 + (support["parts"][0, 0, 0].numel() if "parts" in support else 0)
        apart = _in_pieces(distances, *query["frames"].shape[:2], labels.shape[1] * frames * wide)
        frame, pair = (-self.metric_scale * class_mean(x, labels, way) for x in apart.unbind(-1))
        parts = {"frame": frame, "tuple": pair}
        if edges is not None:
            parts["graph"] = edges[:, :, :way, -1].clamp(min=NEAR).log()
        logits = self.mix(parts, self.alpha)
        match = Match(logits, {}, {"q2s": logits} | parts)
        if targets is not None:
            match.losses["match"] = F.cross_entropy(match.logits.flatten(0, 1), targets.query_labels.flatten())
            if edges is not None:
                match.losses["graph"] = self.graph_weight * self.edge_loss(edges, targets.query_labels, way)
        return match

    def mix(self, parts: dict[str, Tensor], weight: float) -> Tensor:
        """Logits for another alpha: ``-(alpha D_tuple + (1 - alpha) D_frame)``, scaled."""
        return weight * parts["tuple"] + (1 - weight) * parts["frame"]

    def edges(self, classes: Tensor, query: Tensor) -> Tensor:
        """``Guidance.edges`` by pieces of episodes and, where each has its own graph, of queries."""
        way, queries, alone = classes.shape[1], query.shape[1], not self.guidance.shared
        members = way + (1 if alone else queries)
        numbers = 3 * self.guidance.f_emb[0].out_features * members**2

        def of(e: slice, q: slice) -> Tensor:
            return self.guidance.edges(classes[e], query[e, q])

        return _in_pieces(of, len(classes), queries, numbers if alone else -(-numbers // queries), split=alone)

    def guided(
        self,
        support: Features,
        labels: Tensor,
        query: Features,
        nodes: tuple[Tensor, Tensor],
        edges: Tensor | None,
        which: slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """Task features: of the queries ``[E Q T C]``, of the supports ``[E Q S T C]``, anew for each.

        ``nodes``: of classes ``[E W C]`` and of all queries; ``which`` of them are here; ``edges``: theirs, selected.
        Without a graph F~ itself, the supports ``[E 1 S T C]``.
        """
        if edges is None:
            return query["frames"], support["frames"][:, None]
        classes, every = nodes
        given, gathered = self.guidance.tasks(edges, classes, every[:, which], every)
        given = class_rows(rearrange(given, "e q w h -> e w q h"), labels)  # a support takes its class's
        given = rearrange(given, "e s q h -> e q s h")
        supports = self.guidance.fuse(support["frames"][:, None], support["parts"][:, None], given)
        return self.guidance.fuse(query["frames"], query["parts"], gathered), supports

    def edge_loss(self, edges: Tensor, query_labels: Tensor, way: int) -> Tensor:
        """L_graph: cross-entropy of a query's edges ``[E Q M layers]`` with "of one class", the mean over all."""
        truth = query_labels[..., None] == torch.arange(way, device=edges.device)
        counted = torch.ones_like(truth)
        if edges.shape[2] > way:
            truth = torch.cat([truth, query_labels[:, :, None] == query_labels[:, None]], dim=-1)
            itself = torch.eye(len(query_labels[0]), dtype=torch.bool, device=edges.device)
            counted = torch.cat([counted, ~itself.expand(len(edges), -1, -1)], dim=-1)
        edges = edges if self.graph_loss == "all" else edges[..., -1:]
        likely = torch.where(truth[..., None], edges, 1 - edges)[counted]
        return -likely.clamp(min=NEAR).log().mean()


def _at(features: Features, episodes: slice, videos: slice = slice(None)) -> Features:
    return {key: value[episodes, videos] for key, value in features.items()}


def _in_pieces(of: Callable, episodes: int, queries: int, numbers: int, split: bool = True) -> Tensor:
    """``of(episodes, queries) -> [E Q ...]`` by slices of both, so that ``numbers`` a query stay within CHUNK.

    With ``split`` False an episode's queries stay together.
    """
    e_step = max(1, CHUNK // (numbers * queries))
    q_step = max(1, CHUNK // numbers) if split and e_step == 1 else queries
    rows = [
        torch.cat([of(slice(e, e + e_step), slice(q, q + q_step)) for q in range(0, queries, q_step)], dim=1)
        for e in range(0, episodes, e_step)
    ]
    return torch.cat(rows)
