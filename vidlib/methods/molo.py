"""MoLo (Wang et al., CVPR 2023, arXiv 2304.00946): a token for the whole video contrasted with frames; motion features.

Legend: `E` episodes, `W` way, `S` supports, `Q` queries, `B` videos, `V` = S + Q, `T` frames, `C` width of a frame's
feature, `D` channels of the deepest map, `d` = D / factor, `h w` its places, `K` training classes.

Base branch: a learned token and the T frame features (with positions) go through one Transformer layer and a ReLU.
Motion branch: maps reduced by a 3x3x3 convolution to z; motion ``M_t = conv(z_{t+1}) - z_t``, ``t = 1..T-1``; expanded
to C channels, averaged over places, and with a token of its own through a Transformer layer of its own. Each class is
the mean of its supports' tokens. Distance: Bi-MHM between frames + 0.3 Bi-MHM between motions.

Training adds: the cross-entropy of each video among the training classes (linear on the mean base token plus the mean
motion token); the long-short contrast, 0.05 times four cross-entropies: a query's video token against a class's frames
and a class's against a query's, in either branch, ``-scale sum_t (1 - cos)`` with a learned scale; and the squared
error of a decoder that makes the difference of neighbouring input frames, as normalised, out of M. The decoder's
BatchNorm sees all videos of an episode, so it runs where the whole episode is there, in ``match``; in evaluation
neither it nor the clips are kept. The whole trunk is trained.

``variant="released"`` differs from ``variant="paper"`` in four places:
- cosines have +0.01 in their denominator;
- positions: sinusoids whose rates fall twice as fast (see ``layers.positions``);
- Bi-MHM adds up both directions, where HyRSM's equation (as remembered) divides each by its number of frames;
  ``metric_scale = T`` makes paper as sharp as the code;
- the reconstruction weighs four times its nominal value: all other terms are divided by the 4 accumulated episodes.
In the released code but outside this file: 7x7 maps and 224 pixels are written into the decoder (here it ends at the
clips' size, through the same sizes for 7 and 224), 5-shot recipes train on 1 shot, the model is evaluated on the test
list while it trains, weight decay is read from another key.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.layers.attention import TemporalTransformer
from vidlib.layers.positions import placed
from vidlib.matching import bimhm_distance, frame_cost
from vidlib.matching.base import at_least_float32, full_precision, in_pieces
from vidlib.methods.base import Features, FewShotMethod, Match, class_means, one_of, positive

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets

ACCUMULATED = 4  # episodes by which the released code divides every loss but the reconstruction


class Branch(nn.Module):
    """A learned token ahead of ``[B T C]``, positions, one Transformer layer, ReLU: ``[B 1+T C]``."""

    def __init__(self, dim: int, heads: int, dropout: float, ffn_dropout: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.context = TemporalTransformer(dim, heads, dropout=dropout, ffn_dropout=ffn_dropout)

    def forward(self, x: Tensor, place) -> Tensor:
        """``place`` adds the positions to ``[B 1+T C]``."""
        token = repeat(self.token.to(x.dtype), "1 1 c -> b 1 c", b=len(x))
        x = place(torch.cat([token, x], dim=1))
        return F.relu(self.context(x, x, x))


class Motion(nn.Module):
    """Differences of neighbouring reduced maps: ``[B T D h w] -> [B T-1 d h w]``; ``tokens`` makes features of them."""

    def __init__(self, channels: int, reduced: int, dim: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(channels, reduced, 3, padding=1)
        self.shift = nn.Conv2d(reduced, reduced, 3, padding=1)
        self.expand = nn.Conv2d(reduced, dim, 1)

    def forward(self, maps: Tensor) -> Tensor:
        z = rearrange(self.reduce(rearrange(maps, "b t c h w -> b c t h w")), "b c t h w -> b t c h w")
        following = rearrange(
            self.shift(rearrange(z[:, 1:], "b t c h w -> (b t) c h w")), "(b t) ... -> b t ...", b=len(z)
        )
        return following - z[:, :-1]

    def tokens(self, motion: Tensor) -> Tensor:
        """``[B T-1 d h w] -> [B T-1 C]``, the mean over places."""
        expanded = F.relu(self.expand(rearrange(motion, "b t c h w -> (b t) c h w")))
        return reduce(expanded, "(b t) c h w -> b t c", "mean", b=len(motion))


class Decoder(nn.Module):
    """Motion maps to pictures, ``[N d h w] -> [N 3 H W]``: thrice upsampling, 3x3 convolution, BatchNorm, ReLU.

    The three steps share the whole enlargement as 1 : 2 : 2 on a log scale: 7 -> 14 -> 56 -> 224 as released.
    """

    def __init__(self, reduced: int) -> None:
        super().__init__()
        widths = (reduced, 128, 32, 16)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.out = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        start = x.shape[-2:]
        for conv, norm, part in zip(self.convs, self.norms, (1 / 5, 3 / 5, 1), strict=True):
            now = [round(a * (b / a) ** part) for a, b in zip(start, size, strict=True)]
            x = F.relu(norm(conv(F.interpolate(x, now, mode="bilinear", align_corners=True))))
        return self.out(x)


class MoLo(FewShotMethod):
    """MoLo on the deepest maps of any backbone.

    classes: K, training classes of the auxiliary head; 0 is no head. class_loss_weight: of its cross-entropy (released:
        0.8 SSv2-Full, 0.15 SSv2-Small, 0.1 Kinetics, 0.6 UCF101, 0.4 HMDB51).
    motion: the motion branch. motion_weight: of its distance. factor: D / d.
    contrast_weight: of each of the four contrastive terms. reconstruction_weight: of the squared error (released: 0.1
        SSv2-Full and Kinetics, 0.05 the others); 0 of either, or of the class loss, is without it.
    position_a, position_b: see ``layers.positions.placed`` (released: 10 and 1; Kinetics 2048 and 0.02). heads: of both
        Transformer layers. position_dropout, dropout, ffn_dropout: after positions, attention, FFN (released rates).
    metric_scale: factor on the logits (released: 1). finetune: "full", or "frozen".
    """

    uses_text = False
    by_role = False
    needs_maps = True
    released_unused = (r"^pe\.pe$", r"^classification_layer\.")  # the head where ``classes`` is 0

    def __init__(
        self,
        backbone: "Backbone",
        frames: int = 8,
        *,
        classes: int = 0,
        class_loss_weight: float = 0.8,
        motion: bool = True,
        motion_weight: float = 0.3,
        contrast_weight: float = 0.05,
        reconstruction_weight: float = 0.1,
        factor: int = 8,
        position_a: float = 10.0,
        position_b: float = 1.0,
        heads: int = 8,
        position_dropout: float = 0.1,
        dropout: float = 0.2,
        ffn_dropout: float = 0.05,
        metric_scale: float = 1.0,
        finetune: str = "full",
        variant: str = "paper",
    ) -> None:
        dim, channels = backbone.embed_dim, backbone.map_dims[-1]
        super().__init__(backbone, frames, dim)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.variant = one_of("variant", variant, ("paper", "released"))
        positive(position_a=position_a)
        if heads < 1 or dim % heads:
            raise UserError(f"heads must divide the backbone's width {dim}, got {heads}.")
        if factor < 1 or channels < factor:
            raise UserError(f"factor must lie between 1 and the {channels} channels of the deepest map, got {factor}.")
        if motion and frames < 2:
            raise UserError(f"motion needs at least 2 frames, got frames={frames}.")
        self.class_loss_weight, self.contrast_weight = class_loss_weight, contrast_weight
        self.reconstruction_weight, self.motion_weight = reconstruction_weight, motion_weight
        self.position_a, self.position_b, self.metric_scale = position_a, position_b, metric_scale
        self.position_dropout = nn.Dropout(position_dropout)
        self.base = Branch(dim, heads, dropout, ffn_dropout)
        self.motion = Motion(channels, channels // factor, dim) if motion else None
        self.moving = Branch(dim, heads, dropout, ffn_dropout) if motion else None
        self.decoder = Decoder(channels // factor) if motion and reconstruction_weight else None
        branches = ("base", "motion") if motion else ("base",)
        scales = {name: nn.Parameter(torch.ones(1)) for name in branches if contrast_weight}
        self.scales = nn.ParameterDict(scales)
        self.class_head = nn.Linear(dim, classes) if classes and class_loss_weight else None
        self.tune(finetune)

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """See ``embed_maps``."""
        return self.embed_maps(self.frame_maps(clips)[-1], clips)

    def embed_maps(self, maps: Tensor, clips: Tensor) -> Features:
        """``maps [B T D h w]``, ``clips [B T 3 H W]`` -> ``base`` [B 1+T C] and ``motion`` [B T C], the token first.

        With a class head ``classes`` [B K]; in training, for the decoder, ``motion_maps`` [B T-1 d h w] and
        ``differences`` [B T-1 3 H W] of neighbouring frames.
        """
        frames = self.backbone.pool(rearrange(maps, "b t c h w -> (b t) c h w"))
        features = {"base": self.base(rearrange(frames, "(b t) c -> b t c", b=len(maps)), self.place)}
        if self.motion is not None:
            motion = self.motion(maps)
            features["motion"] = self.moving(self.motion.tokens(motion), self.place)
        if self.class_head is not None:
            features["classes"] = self.class_head(sum(tokens.mean(1) for tokens in features.values()))
        if self.decoder is not None and self.training:
            features |= {"motion_maps": motion, "differences": clips[:, 1:] - clips[:, :-1]}
        return features

    def place(self, x: Tensor) -> Tensor:
        """Positions for ``[B N C]``."""
        return self.position_dropout(placed(x, self.position_a, self.position_b, usual=self.variant == "paper"))

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """Parts: "q2s", the logits; "base" and "motion", their two terms; "<branch>_q2c" (a query's video token against
        a class's frames) and "<branch>_c2q", the contrastive logits. All [E Q W]."""
        way, parts, logits = text.shape[1], {}, 0
        for branch, weight in (("base", 1.0), ("motion", self.motion_weight)):
            if branch not in query:
                continue
            with full_precision(labels):
                classes = {"tokens": class_means(at_least_float32(support[branch]), labels, way)}
                found = in_pieces(self.compare, classes, {"tokens": query[branch]}, way * query[branch].shape[2] ** 2)
            distance, to_class, to_query = found.unbind(-1)
            parts[branch] = -self.metric_scale * weight * distance
            logits = logits + parts[branch]
            if branch in self.scales:
                parts[f"{branch}_q2c"] = -self.scales[branch] * to_class
                parts[f"{branch}_c2q"] = -self.scales[branch] * to_query
        match = Match(logits, {}, {"q2s": logits} | parts)
        if targets is not None:
            match.losses = self.losses(match.parts, support, labels, query, targets)
        return match

    def compare(self, support: Features, query: Features) -> Tensor:
        """``tokens`` [E W N C] and [E Q N C] -> ``[E Q W 3]``: Bi-MHM of frames, the sum of a query's video token's
        distances to a class's frames, and that of the class's to the query's."""
        released = self.variant == "released"
        cost = frame_cost(query["tokens"], support["tokens"], eps=0.01 if released else 1e-12)
        distance = bimhm_distance(cost[..., 1:, 1:], mean=not released)
        return torch.stack([distance, cost[..., 0, 1:].sum(-1), cost[..., 1:, 0].sum(-1)], dim=-1)

    def losses(
        self, parts: Features, support: Features, labels: Tensor, query: Features, targets: "Targets"
    ) -> dict[str, Tensor]:
        """ "q2s", "class", "contrast" and, in training, "reconstruction", each with its weight."""
        truth = targets.query_labels.flatten()
        losses = {"q2s": F.cross_entropy(parts["q2s"].flatten(0, 1), truth)}
        if self.class_head is not None:
            found = torch.cat([support["classes"], query["classes"]], dim=1).flatten(0, 1)
            ids = targets.class_ids.gather(1, torch.cat([labels, targets.query_labels], dim=1)).flatten()
            losses["class"] = self.class_loss_weight * F.cross_entropy(found, ids)
        if self.contrast_weight:
            terms = [
                F.cross_entropy(x.flatten(0, 1), truth) for name, x in parts.items() if name.endswith(("q2c", "c2q"))
            ]
            losses["contrast"] = self.contrast_weight * torch.stack(terms).sum()
        if "motion_maps" in query:
            wanted = torch.cat([support["differences"], query["differences"]], dim=1)
            made = self.reconstruct(torch.cat([support["motion_maps"], query["motion_maps"]], dim=1), wanted.shape[-2:])
            weight = self.reconstruction_weight * (ACCUMULATED if self.variant == "released" else 1)
            losses["reconstruction"] = weight * F.mse_loss(made, wanted)
        return losses

    def reconstruct(self, motion: Tensor, size: tuple[int, int]) -> Tensor:
        """``[E V T-1 d h w] -> [E V T-1 3 H W]``: the decoder on all videos and times together."""
        made = self.decoder(motion.flatten(0, 2), size)
        return made.unflatten(0, motion.shape[:3])

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take a released state: branches, scales, decoder and class head where they are here, the trunk if there."""
        modules = {"motion_reduce": "motion.reduce", "motion_conv": "motion.shift", "motion_up": "motion.expand"}
        if self.decoder is not None:
            modules["outc.conv"] = "decoder.out"
            modules |= {f"up{i + 1}.conv.double_conv.0": f"decoder.convs.{i}" for i in range(3)}
            modules |= {f"up{i + 1}.conv.double_conv.1": f"decoder.norms.{i}" for i in range(3)}
        for theirs, ours in (("temporal_atte_before", "base"), ("temporal_atte_before_motion", "moving")):
            within = {"0.norm": "norm", "0.fn.to_out.0": "to_out", "1.net.0": "ffn.0", "1.net.3": "ffn.3"}
            modules |= {f"{theirs}.layers.0.{a}": f"{ours}.context.{b}" for a, b in within.items()}
        if self.class_head is not None:
            modules["classification_layer"] = "class_head"
        found = {"base.token": state["class_token"], "scales.base": state["scale"]}
        found |= {"moving.token": state["class_token_motion"], "scales.motion": state["scale_motion"]}
        for key, value in state.items():
            module, _, kind = key.rpartition(".")
            if module in modules:
                found[f"{modules[module]}.{kind}"] = value
            elif module.endswith("layers.0.0.fn.to_qkv"):
                branch = "moving" if "motion" in module else "base"
                parts = zip(("to_q", "to_k", "to_v"), value.chunk(3), strict=True)
                found |= {f"{branch}.context.{name}.{kind}": part for name, part in parts}
        counted = "num_batches_tracked"  # not in old files, and no output depends on it
        own = self.state_dict().items()
        kept = {name: value for name, value in own if name.startswith("backbone.") or name.endswith(counted)}
        self.load_state_dict(kept | found)
        self.load_trunk(state)
