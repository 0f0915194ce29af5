"""AIM (Yang et al., ICLR 2023, arXiv 2302.03024) as a few-shot method: its adapted tower under a frame metric.

Legend: `B` videos, `T` frames, `N` patches, `D` tower width, `E` episodes, `W` way, `Q` queries.

The CLIP image tower is frozen except ``ln_post``. In every block, with the block's own attention and ``ln_1``:

1. temporal: each spatial position's T tokens attend to each other; adapter without skip; ``x = x + A_T(MSA(LN x))``.
   With ``num_tadapter=2`` another adapter, with skip, acts on LN x before the attention.
2. spatial: adapter with skip; ``x = x + A_S(MSA(LN x))``.
3. joint: ``x = x + MLP(LN x) + s A_J(LN x)``.

A temporal embedding (T x D, zero at first) is added to every token before ``ln_pre``. The frame features are the class
tokens after ``ln_post``; the released code drops CLIP's projection, ``project=True`` keeps it. Of a tower that reads
otherwise (average or attention pooling) they are what it reads, and ``ln_post`` is the norm that it reads through. As a
few-shot method AIM has no text: the loss is cross-entropy on the metric's logits, as MA-FSAR's comparison under the
same metric.

Paper and released code agree on all of this; ``variant="released"`` differs in nothing and is accepted. Drop path acts
on the temporal and joint adapters in training, here per video.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from vidlib.basics.errors import UserError
from vidlib.layers.adapter import Adapter, DropPath
from vidlib.layers.attention import block_attention
from vidlib.methods.base import BY_SHOTS, Features, FewShotMethod, Match, judged, one_of

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone
    from vidlib.data.episodes import Targets


class LayerAdapters(nn.Module):
    """What AIM adds to one block."""

    def __init__(self, dim: int, ratio: float, num_tadapter: int, drop_path: float) -> None:
        super().__init__()
        self.temporal_in = Adapter(dim, ratio, skip=True) if num_tadapter == 2 else None
        self.temporal = Adapter(dim, ratio, skip=False)
        self.spatial = Adapter(dim, ratio, skip=True)
        self.joint = Adapter(dim, ratio, skip=False)
        self.drop = DropPath(drop_path)


class AIM(FewShotMethod):
    """AIM's tower with a frame metric.

    ratio: adapter width / D (paper 0.25). adapter_scale: s (paper 0.5; 1.0 on SSv2). num_tadapter: 1, or 2 (SSv2).
    drop_path: rate at the last block, rising linearly from 0 (paper 0.2, for 30 to 50 epochs of K400 or SSv2).
    project: apply CLIP's projection after ``ln_post``; AIM drops it; what a few-shot use does is unknown to us.
    metric, metric_options, metric_scale: the frame metric and a factor on its logits; AIM has none.
    shots: the metric averages the "distance"s of K supports, or they become one "prototype"; AIM has none.
    """

    adapts_blocks = True
    released_unused = (r"^cls_head\.",)  # of the data set it was trained on
    by_role = False
    attention_calls = ("temporal", "local")
    shot_rules = BY_SHOTS

    def __init__(
        self,
        backbone: "CLIPBackbone",
        frames: int = 8,
        *,
        metric: str = "otam",
        metric_options: Mapping | None = None,
        metric_scale: float = 1.0,
        shots: str = "distance",
        ratio: float = 0.25,
        adapter_scale: float = 0.5,
        num_tadapter: int = 1,
        drop_path: float = 0.2,
        project: bool = False,
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames, backbone.embed_dim if project else backbone.pooled_dim)
        one_of("variant", variant, ("paper", "released"))
        self.shots = one_of("shots", shots, ("prototype", "distance"))
        one_of("num_tadapter", num_tadapter, (1, 2))
        if not 0 <= drop_path < 1:
            raise UserError(f"drop_path must lie from 0 to below 1, got {drop_path}.")
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.scale, self.project = adapter_scale, project
        rates = [drop_path * i / max(1, backbone.layers - 1) for i in range(backbone.layers)]
        self.adapters = nn.ModuleList(LayerAdapters(backbone.width, ratio, num_tadapter, rate) for rate in rates)
        self.temporal_embedding = nn.Parameter(torch.zeros(frames, backbone.width))
        backbone.ln_post.requires_grad_(True)
        self.use_metric(metric, metric_scale, metric_options)

    def features(self, clips: Tensor) -> Tensor:
        """``[B T 3 H W] -> [B T D]`` (``[B T C]`` with ``project``)."""
        x = self.frame_tokens(clips) + repeat(self.temporal_embedding, "t d -> (b t) 1 d", b=len(clips))
        x = self.backbone.ln_pre(x)
        for i, (block, layer) in enumerate(zip(self.backbone.blocks, self.adapters, strict=True)):
            x = self.adapted_block(block, layer, x, self.tokens_kept(i, x))
        return rearrange(self.backbone.read(x, self.project), "(b t) d -> b t d", t=self.frames)

    def adapted_block(self, block: nn.Module, layer: LayerAdapters, x: Tensor, keep: int) -> Tensor:
        """One block on ``x [(B T) P+N D]``; the first ``keep`` tokens come back."""
        time = {"t": self.frames}
        tracks = rearrange(x, "(b t) n d -> (b n) t d", **time)
        y = layer.temporal(block_attention(block, tracks, layer.temporal_in, over_time=True))
        x = x + self.dropped(layer, rearrange(y, "(b n) t d -> (b t) n d", n=x.shape[1]))
        x = x[:, :keep] + layer.spatial(block_attention(block, x, keep=keep))
        z = block.ln_2(x)
        return x + block.ls_2(block.mlp(z)) + self.dropped(layer, self.scale * layer.joint(z))

    def dropped(self, layer: LayerAdapters, y: Tensor) -> Tensor:
        """Drop path per video on ``y [(B T) N D]``."""
        return rearrange(layer.drop(rearrange(y, "(b t) n d -> b t n d", t=self.frames)), "b t n d -> (b t) n d")

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """See ``kept``; both roles alike, no text."""
        return self.kept(self.features(clips))

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """The metric's logits ``[E Q W]`` and their cross-entropy; ``text`` only tells the way."""
        logits = self.compared(support, labels, query, text.shape[1])
        return judged(logits, targets)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the released ``ViT_CLIP``'s state dict (its keys, with or without ``backbone.``): tower and adapters.

        A classifier head (``cls_head.*``) is left aside; any other key that does not fit is an error.
        """
        ours = {"S_Adapter": "spatial", "T_Adapter_in": "temporal_in", "T_Adapter": "temporal", "MLP_Adapter": "joint"}
        tower, adapters = {}, {}
        for key, value in state.items():
            key = key.removeprefix("backbone.")
            parts = key.split(".")
            if key.startswith("cls_head."):
                continue
            if key == "temporal_embedding":
                adapters[key] = value[0]
            elif len(parts) > 3 and parts[3] in ours:
                half = {"D_fc1": "down", "D_fc2": "up"}[parts[4]]
                adapters[".".join(["adapters", parts[2], ours[parts[3]], half, parts[5]])] = value
            else:
                tower[key] = value
        tower["proj"] = self.backbone.visual.proj.detach()  # the released tower has none
        self.backbone.visual.load_state_dict(tower)
        with torch.no_grad():
            self.temporal_embedding.copy_(adapters.pop("temporal_embedding"))
        self.adapters.load_state_dict({key.removeprefix("adapters."): value for key, value in adapters.items()})
