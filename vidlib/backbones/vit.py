"""What adapters and shifts need of a ViT, under one set of names for open_clip's own kind and for timm's.

`B` images, `P` tokens before the patches, `N` patches, `D` the tower's width, `C` a frame's feature.

``blocks``, each with ``ln_1``, ``attn`` (called as torch's MultiheadAttention), ``ls_1``, ``ln_2``, ``mlp``, ``ls_2``;
``tokens(x [B 3 H W]) -> [B P+N D]`` before ``ln_pre``; ``read(x [B P+N D]) -> [B C]`` after the last block, as the
tower itself reads; with ``project=False`` what its projection would take, ``[B pooled_dim]``; ``ln_post``, the norm
that is read through. ``width`` D, ``layers``, ``heads``, ``grid`` (rows, columns of patches), ``prefix`` P.

The class token is token 0 where the tower has one (``has_class_token``), whether it is read (``reads_class_token``) or
not (average and attention pooling); registers come after it and are never it. On a trunk without one the mean of its
patch tokens stands for it (``class_token``): it carries a frame through time there, and no token that could be replaced
holds it.

Rotary positions belong to patches: tokens that a method adds get none, nor do tokens of one place at several times;
the patches of several frames in one sequence (place by place, time running fastest) get their place's.

Where the class token is read, a ViT also gives the four maps that ``vidlib.backbones`` describes: ``stages``, ``pool``.
"""

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import Attention, AttentionRope
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from vidlib.layers.attention import block_attention

PARTS = ("blocks", "tokens", "ln_pre", "ln_post", "read", "class_token", "width", "pooled_dim", "layers", "heads")
PARTS += ("grid", "prefix", "head", "has_class_token", "reads_class_token", "trained_features")
MAPS = ("stages", "pool", "map_dims")


class Adaptable:
    """A backbone whose ``vit`` is one of the two below, whose parts are then the backbone's, or None."""

    def __getattr__(self, name: str):
        vit = self.__dict__.get("vit")
        if vit is not None and (name in PARTS or (name in MAPS and vit.reads_class_token)):
            return getattr(vit, name)
        return super().__getattr__(name)

    def features(self, x: Tensor, training: bool) -> Tensor:
        """``[B 3 H W] -> [B C]``: ``encode_image``, without what no gradient reaches in ``training``."""
        short = training and getattr(self, "reads_class_token", False)
        return self.trained_features(x) if short else self.encode_image(x)


class _ViT:
    """What both kinds do alike."""

    def class_token(self, x: Tensor) -> Tensor:
        """``[B P+N D] -> [B D]``: what stands for a frame before it is read; see above."""
        return x[:, 0] if self.has_class_token else x[:, self.prefix :].mean(1)

    def trained_features(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B C]``: the tower's own feature where it reads its class token, by which alone the last block
        is asked: all that training needs, with the same gradients."""
        x = self.ln_pre(self.tokens(x))
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        x = x[:, :1] + block_attention(last, x, keep=1)
        return self.read(x + last.ls_2(last.mlp(last.ln_2(x))))

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Channels of the four maps of ``stages``: a ViT has the same width everywhere."""
        return (self.width,) * 4

    def stages(self, x: Tensor) -> list[Tensor]:
        """``[B 3 H W] -> 4 x [B D h w]``: the patch tokens after each quarter of the blocks, a ViT's four stages."""
        tokens, maps = self.ln_pre(self.tokens(x)), []
        ends = {max(1, round(self.layers * quarter / 4)) for quarter in (1, 2, 3, 4)}
        for layer, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if layer in ends:
                maps.append(tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid))
        return [maps[0]] * (4 - len(maps)) + maps

    def pool(self, deepest: Tensor) -> Tensor:
        """``[B D h w] -> [B C]``: the mean patch token, read out as the class token is. Not the tower's own feature."""
        return self.read(deepest.flatten(2).mean(-1)[:, None])


class OpenClipViT(_ViT):
    """open_clip's own VisionTransformer, read at its class token, by the mean of patches, or by attention (CoCa)."""

    prefix, has_class_token = 1, True

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.blocks = visual.transformer.resblocks
        self.width, self.pooled_dim = visual.conv1.out_channels, visual.ln_post.normalized_shape[0]
        self.layers, self.heads = len(self.blocks), self.blocks[0].attn.num_heads
        self.grid = tuple(visual.grid_size)
        self.reads_class_token = visual.pool_type == "tok" and visual.attn_pool is None

    @property
    def ln_pre(self) -> nn.Module:
        return self.visual.ln_pre

    @property
    def ln_post(self) -> nn.Module:
        return self.visual.ln_post

    def tokens(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B 1+N D]``: class token first, positions added, before ``ln_pre``; no patch dropout."""
        visual = self.visual
        patches = visual.conv1(x).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        return torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(patches.dtype)

    def read(self, x: Tensor, project: bool = True) -> Tensor:
        """``[B 1+N D] -> [B C]``: after the last block, into the joint space (ln_post, pooling, projection)."""
        if self.reads_class_token:
            return self.head(x[:, 0]) if project else self.ln_post(x[:, 0])
        pooled = self.visual._pool(x)[0]
        return pooled if self.visual.proj is None or not project else pooled @ self.visual.proj

    def head(self, cls: Tensor) -> Tensor:
        """``[... D] -> [... C]``: a class token after the last block, into the joint space (ln_post, projection)."""
        visual = self.visual
        return visual.ln_post(cls) if visual.proj is None else visual.ln_post(cls) @ visual.proj


class TimmViT(_ViT):
    """timm's VisionTransformer (DINOv2, SigLIP, ViTamin, ...) or Eva (EVA02, PE-Core, DINOv3, ...), every readout.

    ``size``: of its pictures, in pixels. ``after``: what open_clip puts behind it, its projection.
    """

    def __init__(self, trunk: nn.Module, size: int, after: nn.Module | None = None) -> None:
        self.trunk, self.after = trunk, after
        self.width = self.pooled_dim = trunk.embed_dim
        self.blocks = [TimmBlock(block, self, layer) for layer, block in enumerate(trunk.blocks)]
        self.layers, self.heads = len(self.blocks), trunk.blocks[0].attn.num_heads
        patch = trunk.patch_embed.img_size[0] // trunk.patch_embed.grid_size[0]
        self.grid = (size // patch,) * 2  # open_clip gives ViTamin-XL-384 pictures of 256
        self.prefix = trunk.num_prefix_tokens
        self.has_class_token = trunk.cls_token is not None
        self.reads_class_token = trunk.global_pool == "token"

    @property
    def ln_pre(self) -> nn.Module:
        return self.trunk.norm_pre

    @property
    def ln_post(self) -> nn.Module:
        return self.trunk.norm if isinstance(self.trunk.fc_norm, nn.Identity) else self.trunk.fc_norm

    def tokens(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B P+N D]``: class token and registers first, positions added where the tower adds any."""
        found = self.trunk._pos_embed(self.trunk.patch_embed(x))
        return found[0] if isinstance(found, tuple) else found

    def read(self, x: Tensor, project: bool = True) -> Tensor:
        """``[B P+N D] -> [B C]``: the tower's norm, pooling and, where it has one, projection."""
        pooled = self.trunk.forward_head(self.trunk.norm(x), pre_logits=not project)
        return self.after(pooled) if project and self.after is not None else pooled

    def rotation(self, layer: int, tokens: int) -> Tensor | None:
        """The rotation of each of ``tokens`` tokens behind the prefix, ``[... tokens-P 2d]``: sines, then cosines."""
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            return None
        places = rope.get_embed(shape=self.grid)
        places = places[layer] if self.trunk.rope_mixed else places
        frames, extra = divmod(tokens - self.prefix, self.grid[0] * self.grid[1])
        places = places.repeat_interleave(frames, -2) if frames > 1 else places
        if not extra:
            return places
        still = places.new_zeros(*places.shape[:-2], extra, places.shape[-1])
        still[..., places.shape[-1] // 2 :] = 1  # sine 0 and cosine 1 turn by nothing
        return torch.cat([places, still], -2)


class TimmBlock:
    """A block of timm's by the names of open_clip's; no module of its own, so that no parameter has two names."""

    def __init__(self, block: nn.Module, vit: TimmViT, layer: int) -> None:
        self.block = block
        self.attn = TimmAttention(block.attn, vit, layer)

    @property
    def ln_1(self) -> nn.Module:
        return self.block.norm1

    @property
    def ln_2(self) -> nn.Module:
        return self.block.norm2

    @property
    def mlp(self) -> nn.Module:
        return self.block.mlp

    def ls_1(self, y: Tensor) -> Tensor:
        return self._scaled(y, 1)

    def ls_2(self, y: Tensor) -> Tensor:
        return self._scaled(y, 2)

    def _scaled(self, y: Tensor, branch: int) -> Tensor:
        if hasattr(self.block, f"ls{branch}"):
            return getattr(self.block, f"ls{branch}")(y)
        gamma = getattr(self.block, f"gamma_{branch}")
        return y if gamma is None else gamma * y

    def __call__(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.ls_1(self.attn(y, y, y)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class TimmAttention(nn.Module):
    """timm's self-attention as torch's MultiheadAttention is called, with the rotary positions of its tower.

    ``turned=False``: the tokens are one place at several times, and no position turns them.
    """

    turns = True

    def __init__(self, attention: nn.Module, vit: TimmViT, layer: int) -> None:
        super().__init__()
        self.attention, self.num_heads = attention, attention.num_heads
        self.vit, self.layer = vit, layer

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        average_attn_weights: bool = True,
        turned: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """``query [B N D]``, which the other two must be -> ``[B N D]`` and, if asked for, weights ``[B H N N]``."""
        rope = self.vit.rotation(self.layer, query.shape[1]) if turned else None
        given = {} if rope is None else {"rope": rope}
        output = self.attention(query, **given)
        if not need_weights:
            return output, None
        weights = self.weights(query, **given)
        return output, weights.mean(1) if average_attn_weights else weights

    def weights(self, *args, **kwargs) -> Tensor:
        """``[B H N N]`` of a call of timm's own attention, whose hooks do not see this one."""
        seen: list[Tensor] = []
        handle = self.attention.attn_drop.register_forward_hook(lambda _module, _args, output: seen.append(output))
        fused, self.attention.fused_attn = self.attention.fused_attn, False  # the fused kernel keeps no weights
        try:
            self.attention.forward(*args, **kwargs)
        finally:
            self.attention.fused_attn = fused
            handle.remove()
        return seen[0]


def view(tower: nn.Module) -> OpenClipViT | TimmViT | None:
    """The parts of an image tower, open_clip's or timm's; None where its blocks are of another kind."""
    if isinstance(tower, VisionTransformer):
        plain = isinstance(tower.transformer.resblocks[0], ResidualAttentionBlock)
        return OpenClipViT(tower) if plain and tower.grid_size[0] == tower.grid_size[1] else None
    trunk, size, after = tower, None, None
    if isinstance(tower, TimmModel):
        trunk, size, after = tower.trunk, tower.image_size[0], tower.head
    kinds = {vision_transformer.VisionTransformer: vision_transformer.Block, eva.Eva: eva.EvaBlock}
    kind = kinds.get(type(trunk))
    attentions = (Attention, AttentionRope, eva.EvaAttention)
    if kind is None or not all(type(b) is kind and type(b.attn) in attentions for b in trunk.blocks):
        return None
    if (grid := getattr(trunk.patch_embed, "grid_size", None)) is None or grid[0] != grid[1]:
        return None
    return TimmViT(trunk, size or trunk.patch_embed.img_size[0], after)
