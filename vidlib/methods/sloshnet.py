"""SloshNet (Xing et al., AAAI 2023, arXiv 2301.07944): searched fusion of stage maps, long- and short-term modelling.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `T` frames, `C` channels and `h w` places of the
backbone's deepest map, `D` width of a frame's feature.

1. The four stage maps of every frame take the deepest's shape (spatial modulation), and a cell whose operations are
   searched mixes them (``layers.fusion_search``): ``F [B T C h w]``.
2. ``F' = 2 g_0 long(F) + 2 g_1 short(F)``, ``g = softmax(gamma)``, both factors 1 at the start. The long-term module is
   a Transformer block over the T frames of one place, the short-term module a gate from adjacent frames.
3. The mean over places is a frame's feature (a ViT reads it out as its class token); TRX on the cardinalities given,
   {1} being a frame-level prototype matcher ({1, 2} on SSv2), compares.

Loss: cross-entropy of the queries. The whole trunk is trained, and everything above it; ``architecture`` names the
parameters that the released recipe gives an optimiser of their own (Adam, lr 3e-3, betas 0.5 and 0.999, decay 1e-3).
The search is single-level: all parameters learn from one training loss (released code; whether the paper means a
two-level search is not known, its method section was not to be had), and the mix that it ends with is the network.

``variant="released"`` differs from ``variant="paper"`` in ``DEFECTS``, each of which ``defects`` can also name alone:

- "mixes_videos": the long-term attention runs over the places of all videos of a set (an episode's supports, or its
  queries), frame by frame, where the paper means the frames of one place. Supports of all classes mix, and a query's
  logits depend on the other queries. Such a method embeds sets: ``whole_episode`` is True.
- "scrambles_time": the long-term output, C numbers for each of T frames, is read as T numbers for each of C channels:
  with T = 8 every frame's output comes to lie in C / 8 channels of every frame.
- "leaves_betas": beta and gamma learn with the network's optimiser, only alpha with the architecture's.

And, in ``variant="released"`` alone, an operation whose weight is 0.01 or less is left out.
Also in the released code, and outside this file: training normalises by mean 0.45 and deviation 0.225, the test by
ImageNet's; supports take random frames at test; the best weights are picked on the test list; which videos mix depends
on the number of GPUs; ``--weight_decay`` is never read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.layers.fusion_search import EDGES, FUSIONS, OPERATIONS, FusionCell, SpatialModulation
from vidlib.matching.cross_transformer import released_state
from vidlib.methods.base import Features, FewShotMethod, Match, one_of, tagged, untagged

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import EpisodeBatch, Targets

DEFECTS = ("mixes_videos", "scrambles_time", "leaves_betas")
SMALLEST = 0.01  # weight of an operation that the released code leaves out
OUTPUTS = ("s0", "s1", "s2", "s3", "last")
RELEASED_NAMES = (  # names in the released state dict -> names here
    (r"^resnet\.", "backbone.trunk."),
    (r"^spatial_modulation\.spatial_modulation\.(\d+)\.(\d+)\.bn2", r"modulation.stages.\1.\2.norm"),
    (r"^spatial_modulation\.spatial_modulation\.(\d+)\.(\d+)\.conv2", r"modulation.stages.\1.\2.conv"),
    (r"^beta1$", "fusion.beta"),
    (r"^gamma1$", "gamma"),
    (r"^cmm\.mlp\.", "short_term."),
    (r"^cmm\.([qk])conv", r"short_term.conv_\1"),
    (r"^cmm\.", "short_term."),
    (r"^cstm\.resblocks\.0\.", "long_term."),
    (r"^long_term\.ln_", "long_term.norm_"),
    (r"^long_term\.attn\.in_proj_", "long_term.qkv."),
    (r"^long_term\.attn\.out_proj", "long_term.out"),
    (r"^long_term\.mlp\.c_fc", "long_term.fc1"),
    (r"^long_term\.mlp\.c_proj", "long_term.fc2"),
)


class LongTerm(nn.Module):
    """One pre-norm Transformer block without positions: ``y = x + MSA(LN x)``, ``z = y + MLP(LN y)``, QuickGELU."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dim, eps=1e-12), nn.LayerNorm(dim, eps=1e-12)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences ``[L N C] -> [L N C]``; the N members of a sequence attend to each other."""
        q, k, v = rearrange(self.qkv(self.norm_1(x)), "l n (three m c) -> three l m n c", three=3, m=self.heads)
        x = x + self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "l m n c -> l n (m c)"))
        hidden = self.fc1(self.norm_2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class ShortTerm(nn.Module):
    """What changes from one frame to the next gates a frame's values: ``-sigmoid(MLP(K k_{t+1} - Q q_t)) v_t``.

    K and Q are 3x3 convolutions over places, channel by channel, that all heads share. The last frame has no next one:
    its difference is 0, and its gate a half. No biases, no residual; the minus sign is the released code's.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, width = heads, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.conv_q = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.conv_k = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.fc1, self.fc2 = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B T C h w] -> [B T C h w]``."""
        q, k, v = rearrange(self.qkv(rearrange(x, "b t c h w -> b t h w c")), "... (three c) -> three ... c", three=3)
        change = self._convolved(self.conv_k, k[:, 1:]) - self._convolved(self.conv_q, q[:, :-1])
        change = F.pad(change, (0, 0) * 3 + (0, 1))
        gate = self.fc2(F.gelu(self.fc1(change))).sigmoid()
        return rearrange(-gate * v, "b t h w c -> b t c h w")

    def _convolved(self, conv: nn.Module, x: Tensor) -> Tensor:
        maps = conv(rearrange(x, "b t h w (m c) -> (b t m) c h w", m=self.heads))
        return rearrange(maps, "(b t m) c h w -> b t h w (m c)", b=len(x), m=self.heads)


class SloshNet(FewShotMethod):
    """SloshNet on any backbone with stage maps.

    fusion: "search", or a fixed one: "even", "gp1", "gp2", "sum" (``layers.fusion_search``), "last" (the deepest map
    alone). long_term: the long-term module, or nothing in its place: its residual stays. short_term: the short-term
    module; without it there is no gamma. cardinalities: of TRX's tuples, (1,), or (1, 2) on SSv2. projection: TRX's
    width (None: 1152, or 9/4 of a width below 512). dropout: TRX's. metric_scale: factor on the logits (released: 1).
    heads: of the long- and of the short-term module; they divide C. finetune: "full", or "frozen" (ablation).
    defects: some of ``DEFECTS``; None means all of them in ``variant="released"`` and none in ``variant="paper"``.
    """

    uses_text = False
    by_role = False
    needs_maps = True
    released_unused = (r"resnet\.fc\..*", r"transformers\.\d+\.(pe\.pe|norm_v\..*)")

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        fusion: str = "search",
        long_term: bool = True,
        short_term: bool = True,
        cardinalities: Sequence[int] = (1,),
        projection: int | None = None,
        dropout: float = 0.1,
        metric_scale: float = 1.0,
        heads: Sequence[int] = (8, 16),
        defects: Sequence[str] | None = None,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.variant = one_of("variant", variant, ("paper", "released"))
        self.defects = _checked(DEFECTS if variant == "released" else ()) if defects is None else _checked(defects)
        self.tune(finetune)
        channels = backbone.map_dims[-1]
        if any(channels % number for number in heads):
            raise UserError(f"heads: {tuple(heads)} must each divide the {channels} channels of the deepest map.")
        one_of("fusion", fusion, FUSIONS)
        if fusion != "last":
            self.modulation = SpatialModulation(backbone.map_dims)
            self.fusion = FusionCell(fusion, SMALLEST if variant == "released" else 0.0)
        self.fuses = fusion != "last"
        self.long_term = LongTerm(channels, heads[0]) if long_term else None
        self.short_term = ShortTerm(channels, heads[1]) if short_term else None
        if short_term:
            self.gamma = nn.Parameter(torch.zeros(2))
        options = {"cardinalities": tuple(cardinalities), "out_dim": projection, "dropout": dropout}
        self.use_metric("trx", metric_scale, options)

    @property
    def architecture(self) -> tuple[str, ...]:
        """Names of the parameters that have an optimiser of their own."""
        return ("alpha",) if "leaves_betas" in self.defects else ("alpha", "beta", "gamma")

    @property
    def whole_episode(self) -> bool:
        """Whether an embedding depends on the other videos of its set, so that nothing can be embedded once."""
        return "mixes_videos" in self.defects and self.long_term is not None

    def forward(self, batch: "EpisodeBatch") -> Match:
        """As ever; where videos of a set mix, one episode's supports, then its queries, and so on."""
        if not self.whole_episode:
            return super().forward(batch)
        support = _stacked([self.embed(clips, None, "support") for clips in batch.support])
        query = _stacked([self.embed(clips, None, "query") for clips in batch.query])
        return self.match(support, batch.support_labels, query, batch.text, batch.targets)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """What the matcher keeps of a video, ``metric.*``; with "mixes_videos" the B clips are one set."""
        return self.embed_maps(self.frame_maps(clips))

    def embed_maps(self, maps: Sequence[Tensor]) -> Features:
        """``embed`` after the backbone, from its stage maps, 4 x [B T C_i h_i w_i]."""
        return tagged(self.metric.prepare(self.frames_of(self.fused(maps))), "metric")

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """Stage maps, 4 x [B T C_i h_i w_i] -> ``F [B T C h w]``."""
        if not self.fuses:
            return maps[-1]
        flat = self.fusion(self.modulation([x.flatten(0, 1) for x in maps]))
        return rearrange(flat, "(b t) c h w -> b t c h w", t=maps[0].shape[1])

    def frames_of(self, fused: Tensor) -> Tensor:
        """``F [B T C h w] -> [B T D]``: both temporal modules, then the mean over places."""
        x = fused if self.long_term is None else self.long_range(fused)
        if self.short_term is not None:
            long, short = 2 * self.gamma.softmax(-1).to(x.dtype)
            x = long * x + short * self.short_term(fused)
        return rearrange(self.backbone.pool(x.flatten(0, 1)), "(b t) d -> b t d", t=x.shape[1])

    def long_range(self, x: Tensor) -> Tensor:
        """The long-term module, ``[B T C h w] -> [B T C h w]``, with the defects that the method has."""
        b, t, _, h, w = x.shape
        sizes = {"b": b, "h": h, "w": w}
        if "mixes_videos" in self.defects:
            out = self.long_term(rearrange(x, "b t c h w -> t (b h w) c"))
            out = rearrange(out, "t n c -> n t c")
        else:
            out = self.long_term(rearrange(x, "b t c h w -> (b h w) t c"))
        if "scrambles_time" in self.defects:
            out = rearrange(out, "n t c -> n (t c)")
            return rearrange(out, "(b h w) (c t) -> b t c h w", t=t, **sizes)
        return rearrange(out, "(b h w) t c -> b t c h w", **sizes)

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Part "q2s", the matcher's logits ``[E Q W]``; ``text [E W ...]`` tells no more than the number of ways."""
        way = text.shape[1]
        return self.metric_match(untagged(support, "metric"), labels, untagged(query, "metric"), way, targets)

    def watched(self) -> dict[str, float]:
        """The search as it stands: "s1<s0.GP1", ...: weight of an operation on an edge; "out.s0", ..., "out.last": of
        the states and the deepest map in the output; "branch.long", "branch.short": of the temporal modules."""
        found = {}
        with torch.no_grad():
            if self.fuses:
                operations, output = (weights.tolist() for weights in self.fusion.weights())
                for (k, j), row in zip(EDGES, operations, strict=True):
                    found |= {f"s{k}<s{j}.{name}": value for name, value in zip(OPERATIONS, row, strict=True)}
                found |= {f"out.{name}": value for name, value in zip(OUTPUTS, output, strict=True)}
            if self.short_term is not None:
                found |= dict(zip(("branch.long", "branch.short"), self.gamma.softmax(-1).tolist(), strict=True))
        return {name: round(value, 5) for name, value in found.items()}

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the released weights: trunk (``resnet.*``) where present, fusion, temporal modules, matcher."""
        ours: dict[str, Tensor] = {f"metric.{key}": value for key, value in released_state(state).items()}
        alphas: dict[str, Tensor] = {}
        for key, value in state.items():
            key = key.replace("module.", "")  # of several GPUs
            if any(re.fullmatch(unused, key) for unused in self.released_unused) or key.startswith("transformers."):
                continue
            if key.startswith("darts_model.alpha_normal."):
                alphas[key] = value
                continue
            for theirs, name in RELEASED_NAMES:
                key = re.sub(theirs, name, key)
            ours[key] = value.flatten() if key in ("fusion.beta", "gamma") else value
        ours["fusion.alpha"] = torch.cat([alphas[key] for key in sorted(alphas)])
        if not any(key.startswith("resnet.") for key in state):
            ours |= {f"backbone.{key}": value for key, value in self.backbone.state_dict().items()}
        self.load_state_dict(ours)


def _stacked(found: Sequence[Features]) -> Features:
    return {key: torch.stack([one[key] for one in found]) for key in found[0]}


def _checked(defects: Sequence[str]) -> frozenset[str]:
    """``defects`` as a set; UserError for one that is not in ``DEFECTS``."""
    defects = (defects,) if isinstance(defects, str) else defects
    for name in defects:
        if name not in DEFECTS:
            raise UserError(f"defects: {name!r} is no defect of the released SloshNet; {suggest(name, DEFECTS)}")
    return frozenset(defects)
