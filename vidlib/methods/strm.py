"""STRM (Thatipelli et al., CVPR 2022, arXiv 2112.05132): patches, then frames, enriched by their context, under TRX.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `P` patches, `D` channels of the map,
`C` feature width (for a ResNet C = D), `L` tuples of a video, `w` places in a tuple.

1. Each frame's map is max-pooled to a grid of P patches. Patch enrichment: positions, self-attention without
   1/sqrt(C), added with a learned weight gamma that starts at 0, then an MLP with residual; the mean over patches is
   the frame's feature. On a CLIP tower every patch is first read out into the joint space, as a frame's feature is.
2. Query-class similarity classifier, on these frames: tuples through a linear layer and ReLU; a class is as far as, on
   average over the query's tuples, the nearest tuple of its supports (Euclidean).
3. Frame enrichment: positions, then an MLP over time and one over channels, each with residual (an MLP-mixer).
4. TRX, on pairs. Loss ``CE(TRX) + 0.1 CE(similarity)``, score ``TRX + 0.1 similarity``.

Everything is trained, the backbone too. The equations are those of the released code; the paper's text is not among
our sources. ``variant="released"`` computes what that code computes. Its classifier sits in a plain list, hence
 - it is never trained and never saved: a fixed random projection, here frozen and drawn from the run's seed;
 - evaluation mode does not reach it, so its dropout adds noise to every test score: not repeated here;
 - released files lack its weights, and a score that needs them is refused (``similarity_weight=0`` does without).
``variant="paper"`` trains and saves it. A map smaller than the grid is repeated up to it in "released", while in
"paper" it keeps its own size. The loss divided by 16 accumulated episodes is a recipe's choice here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.matching.base import Metric, at_least_float32, class_members, full_precision, in_pieces
from vidlib.matching.cross_transformer import released_state, sinusoids
from vidlib.methods.base import Features, FewShotMethod, Match, one_of, tagged, untagged

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets


class PatchEnrichment(nn.Module):
    """The patches of one frame attend to each other: ``[... P C] -> [... P C]``."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(1))
        half = dim // 2
        self.mlp = nn.Sequential(
            nn.Linear(dim, half), nn.ReLU(), nn.Linear(half, half), nn.ReLU(), nn.Linear(half, dim)
        )

    def forward(self, patches: Tensor) -> Tensor:
        x = self.dropout(patches + sinusoids(*patches.shape[-2:], like=patches))
        query, key, value = self.query(x), self.key(x), self.value(x)
        with full_precision(x):  # not scaled, the scores of 2048 channels would leave float16's range
            shares = (at_least_float32(query) @ at_least_float32(key).mT).softmax(-1)
        x = x + self.gamma * (shares.to(value.dtype) @ value)
        return x + self.mlp(x)


class FrameEnrichment(nn.Module):
    """The frames of a video mixed over time and over channels: ``[... T C] -> [... T C]``."""

    def __init__(self, frames: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.over_time = nn.Sequential(nn.Linear(frames, frames), nn.ReLU(), nn.Linear(frames, frames))
        self.over_channels = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, frames: Tensor) -> Tensor:
        x = self.dropout(frames + sinusoids(*frames.shape[-2:], like=frames))
        x = x + self.over_time(x.mT).mT
        return x + self.over_channels(x)


class SimilarityClassifier(Metric):
    """The query-class similarity classifier; several cardinalities are averaged, as TRX's are (released code).

    A linear layer on concatenated frames is a sum of linear layers: ``prepare`` holds each frame's part at each place.
    """

    def __init__(self, dim: int, cardinalities: Sequence[int], dropout: float, scale: float) -> None:
        super().__init__(scale)
        self.cardinalities = tuple(cardinalities)
        self.dropout = nn.Dropout(dropout)
        self.linears = nn.ModuleList(nn.Linear(dim * w, dim // 2) for w in self.cardinalities)

    def prepare(self, frames: Tensor) -> Features:
        """``[... T C]`` -> ``part<w>`` [... T w C/2] for each cardinality w."""
        parts = {}
        for w, linear in zip(self.cardinalities, self.linears, strict=True):
            place = rearrange(linear.weight, "h (w c) -> (w h) c", w=w)
            parts[f"part{w}"] = F.linear(self.dropout(frames.to(place.dtype)), place).unflatten(-1, (w, -1))
        return parts

    def compare(self, support: Features, labels: Tensor, query: Features, way: int) -> Tensor:
        """See ``Metric.compare``."""
        members = class_members(labels, way)
        with full_precision(labels):
            distances = []
            for w, linear in zip(self.cardinalities, self.linears, strict=True):
                theirs, ours = (self._tuples(at_least_float32(x[f"part{w}"]), linear) for x in (support, query))
                tuples, width = ours.shape[2:]
                numbers = tuples * (theirs.shape[1] * theirs.shape[2] + way * width)  # of one query
                support_tuples = {"tuples": theirs, "members": members}
                distances.append(in_pieces(nearest, support_tuples, {"tuples": ours}, numbers))
        return -self.scale * torch.stack(distances).mean(dim=0)

    @staticmethod
    def _tuples(parts: Tensor, linear: nn.Linear) -> Tensor:
        """``[... T w H] -> [... L H]``: every increasing tuple of frames."""
        index = torch.combinations(torch.arange(parts.shape[-3]), parts.shape[-2]).to(parts.device)  # [L w]
        places = (parts[..., w, :].index_select(-2, index[:, w]) for w in range(parts.shape[-2]))
        return (sum(places) + linear.bias).relu()


def nearest(support: Features, query: Features) -> Tensor:
    """Mean over a query's tuples of the distance to the nearest tuple of a class: ``tuples`` [E S M H] and ``members``
    [E S W] bool of ``support``, ``tuples`` [E Q L H] of ``query`` -> ``[E Q W]``.

    The search needs no gradient and no exact distance; that of the tuples it finds is then taken exactly.
    """
    support, members, query = support["tuples"], support["members"], query["tuples"]
    flat = rearrange(support, "e s m h -> e (s m) h")
    with torch.no_grad():
        dots = rearrange(query, "e q l h -> e (q l) h") @ flat.mT
        squared = flat.square().sum(-1)[:, None] - 2 * dots  # + |query|^2, the same for all
        least, place = rearrange(squared, "e n (s m) -> e n s m", s=support.shape[1]).min(dim=-1)
        video = least[..., None].masked_fill(~members[:, None], torch.inf).argmin(dim=2)  # [E QL W]
        index = video * support.shape[2] + place.gather(2, video)
    found = flat[torch.arange(len(flat), device=flat.device)[:, None, None], index]  # [E QL W H]
    found = rearrange(found, "e (q l) w h -> e q l w h", q=query.shape[1])
    return (query[:, :, :, None] - found).norm(dim=-1).mean(dim=2)


class STRM(FewShotMethod):
    """grid: rows and columns of patches. cardinalities: sizes of the tuples. similarity_weight: of the similarity
    classifier, in the loss and in the score; 0 is without it. patch_enrichment, frame_enrichment: False is without.

    out_dim: TRX's width, None is the released 1152 (9/4 of a feature narrower than 512). dropout: after each positional
    encoding and before the similarity classifier. metric_scale: factor on all logits (released code: 1).
    finetune: "full", or "frozen" (what STRM adds trains, the backbone does not).
    """

    uses_text = False
    by_role = False
    from_features = {"finetune": "frozen", "patch_enrichment": False}
    needs_maps = "patch_enrichment"
    # positions are computed here, norm_v is made and never used; the classifier is in no real file
    released_unused = (r"(^|\.)pe\.pe$", r"^transformers\.\d+\.norm_v\.")
    released_missing = (r"^similarity\.",)

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        grid: Sequence[int] = (4, 4),
        cardinalities: Sequence[int] = (2,),
        patch_enrichment: bool = True,
        frame_enrichment: bool = True,
        similarity_weight: float = 0.1,
        out_dim: int | None = None,
        dropout: float = 0.1,
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        dim = backbone.embed_dim
        super().__init__(backbone, frames, dim)
        self.choices = {"similarity_weight": similarity_weight}
        self.variant = one_of("variant", variant, ("paper", "released"))
        if len(grid) != 2 or min(grid) < 1 or similarity_weight < 0:
            raise UserError(
                f"grid wants rows and columns, each at least 1, and similarity_weight nothing below 0, got "
                f"{tuple(grid)} and {similarity_weight}."
            )
        self.grid, self.similarity_weight = tuple(grid), similarity_weight
        self.patch_enrichment = PatchEnrichment(dim, dropout) if patch_enrichment else None
        self.frame_enrichment = FrameEnrichment(frames, dim, dropout) if frame_enrichment else nn.Identity()
        options = {"cardinalities": cardinalities, "out_dim": out_dim, "dropout": dropout}
        self.use_metric("trx", metric_scale, options)
        self.similarity = SimilarityClassifier(dim, cardinalities, dropout, metric_scale) if similarity_weight else None
        if self.similarity and self.variant == "released":
            self.similarity.requires_grad_(False)
        self.lacks_similarity = False  # True once a file without the classifier's weights was read
        self.tune(finetune)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``metric.*``, TRX's projections of the enriched frames, and ``similarity.*``, the classifier's."""
        if self.patch_enrichment is None:
            return self.embed_frames(self.frame_features(clips))
        return self.embed_frames(self.enriched_patches(self.frame_maps(clips)[-1]))

    def enriched_patches(self, maps: Tensor) -> Tensor:
        """Deepest maps ``[B T D h w]`` -> frames ``[B T C]``: the mean of each frame's enriched patches."""
        size, videos = maps.shape[-2:], len(maps)
        read = self.backbone.pool(rearrange(maps, "b t d h w -> (b t h w) d 1 1"))  # the same for a ResNet
        read = rearrange(read, "(n h w) c -> n c h w", h=size[0], w=size[1])
        grid = self.grid if self.variant == "released" else tuple(map(min, self.grid, size))
        patches = rearrange(F.adaptive_max_pool2d(read, grid), "(b t) c h w -> b t (h w) c", b=videos)
        return self.patch_enrichment(patches).mean(dim=-2)

    def embed_frames(self, frames: Tensor) -> Features:
        """``embed`` after the patches: ``frames [B T C]``."""
        similarity = tagged(self.similarity.prepare(frames), "similarity") if self.similarity else {}
        return similarity | tagged(self.metric.prepare(self.frame_enrichment(frames)), "metric")

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts "q2s" (TRX) and "similarity" (the classifier, unweighted), ``[E Q W]``."""
        if self.lacks_similarity:
            raise UserError(
                "the released file holds no weights of the similarity classifier (they were never saved), so its score "
                "cannot be repeated: build STRM with similarity_weight=0 for the score of its tuples alone."
            )
        way = text.shape[1]
        match = self.metric_match(untagged(support, "metric"), labels, untagged(query, "metric"), way, targets)
        if self.similarity:
            near = untagged(support, "similarity"), labels, untagged(query, "similarity")
            logits = match.parts["similarity"] = self.similarity.compare(*near, way)
            match.logits = match.logits + self.similarity_weight * logits
            if targets is not None:
                entropy = F.cross_entropy(logits.flatten(0, 1), targets.query_labels.flatten())
                match.losses["similarity"] = self.similarity_weight * entropy
        return match

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take ``attn_pat``, ``fr_enrich``, ``transformers`` and, where present, the trunk and the classifier."""
        state = {key.replace(".module.", "."): value for key, value in state.items()}
        mixer = {"Tok_MLP": "over_time", "Bot_MLP": "over_channels"}
        if self.patch_enrichment is not None:
            names = {f"Bot_MLP.{name}": f"mlp.{i}" for name, i in (("inp_fc", 0), ("hid_fc", 2), ("out_fc", 4))}
            names |= {"query_proj": "query", "key_proj": "key", "value_conv": "value", "gamma": "gamma"}
            _take(self.patch_enrichment, state, "attn_pat", names)
        if not isinstance(self.frame_enrichment, nn.Identity):
            names = {f"{a}.{b}_fc": f"{ours}.{i}" for a, ours in mixer.items() for b, i in (("inp", 0), ("out", 2))}
            _take(self.frame_enrichment, state, "fr_enrich", names)
        self.metric.load_state_dict(released_state(state))
        if self.similarity:
            names = {f"{i}.clsW": f"linears.{i}" for i in range(len(self.similarity.linears))}
            self.lacks_similarity = not any(key.startswith("new_dist_loss_post_pat.") for key in state)
            if not self.lacks_similarity:
                _take(self.similarity, state, "new_dist_loss_post_pat", names)
        self.load_trunk(state)


def _take(module: nn.Module, state: Mapping[str, Tensor], prefix: str, names: Mapping[str, str]) -> None:
    """Fill ``module`` with what stands under ``prefix``, a module ``theirs`` becoming ``ours`` in ``names``."""
    found = {}
    for theirs, ours in names.items():
        start = f"{prefix}.{theirs}"
        found |= {
            f"{ours}{key.removeprefix(start)}": value
            for key, value in state.items()
            if key == start or key.startswith(f"{start}.")
        }
    module.load_state_dict(found)
