"""Attention that several papers share: a frozen block's own, a small temporal Transformer, a way to look at the maps.

`B` sequences, `N` tokens, `T` frames, `D` width, `H` heads.
"""

import contextlib
from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.layers import quick


def block_attention(
    block: nn.Module, x: Tensor, inner: nn.Module | None = None, over_time: bool = False, keep: int | None = None
) -> Tensor:
    """A ViT block's attention branch, ``ls_1(MSA(ln_1 x))``, ``[B N D] -> [B keep D]``; the residual is the caller's.

    ``inner``, if given, acts between norm and attention. ``block`` has ``ln_1``, ``attn`` and ``ls_1`` as open_clip's
    ResidualAttentionBlock. Temporal and local attention both come through here, with the same weights, so one hook on
    ``block.attn`` sees both. ``over_time``: the tokens are one place's at several times, and rotary positions, where
    the tower has them, turn none. ``keep``: only the first tokens are asked for.
    """
    x = block.ln_1(x) if inner is None else inner(block.ln_1(x))
    given: dict = {"turned": False} if over_time and getattr(block.attn, "turns", False) else {}
    given |= {"keep": keep} if isinstance(block.attn, quick.Attention) else {}
    return block.ls_1(block.attn(x, x, x, need_weights=False, **given)[0][:, :keep])


class TemporalTransformer(nn.Module):
    """One Transformer layer over frames: CLIP-FSAR's prototype modulation, and the size of MA-FSAR's TPCM.

    ``x = attention(LN query, LN key, LN value) + query``; ``y = FFN(x) + x``. One LayerNorm for all three inputs, none
    before the FFN; query, key and value projections have no bias (CLIP-FSAR released code; 3,149,824 parameters at
    width 512). ``zero_init`` starts both output projections at zero, so that the layer begins as the identity.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        ffn: int = 2048,
        dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.ffn = nn.Sequential(
            nn.Linear(dim, ffn), nn.GELU(), nn.Dropout(ffn_dropout), nn.Linear(ffn, dim), nn.Dropout(ffn_dropout)
        )
        if zero_init:
            for layer in (self.to_out, self.ffn[3]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The attention branch with its residual: ``[B N D], [B M D], [B M D] -> [B N D]``."""
        q = self.to_q(self.norm(query))
        k = self.to_k(self.norm(key))
        v = self.to_v(self.norm(value))
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in (q, k, v))
        mixed = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        return self.dropout(self.to_out(mixed)) + query

    def feed_forward(self, x: Tensor) -> Tensor:
        """The FFN branch with its residual, ``[B N D] -> [B N D]``."""
        return self.ffn(x) + x

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.feed_forward(self.attend(query, key, value))


@contextlib.contextmanager
def capture_attention(method: nn.Module) -> Iterator[dict[tuple[int, str], Tensor]]:
    """Collect the attention weights of ``method.backbone.blocks`` while clips are embedded inside the ``with``.

    Yields a dict that fills as the tower runs: ``(layer, call) -> [B H N N]`` (query axis before key axis), where call
    is one of ``method.attention_calls``, "temporal" or "local", and ``B`` counts that call's sequences; a later pass
    overwrites an earlier one. The weights come from a second call to the attention module, so what the method computes
    is the same to the last bit with and without capture, on every device. A local map's tokens stand as a plain CLIP's
    do: class token, patches, others; of a tower without a class token the first row is the mean of all, the first
    column 0.
    """
    prefix = getattr(method.backbone, "prefix", 1)
    maps: dict[tuple[int, str], Tensor] = {}
    counts: dict[int, int] = {}

    def hook(layer: int, attention: nn.Module):
        def store(module: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
            call = method.attention_calls[counts.get(layer, 0) % len(method.attention_calls)]
            counts[layer] = counts.get(layer, 0) + 1
            with torch.no_grad():  # module.forward, not module(...): the hook must not see its own call
                if module is not attention:  # another library's, which adapters and its own tower both call
                    weights = attention.weights(*args, **kwargs)
                else:
                    kwargs = {**kwargs, "need_weights": True, "average_attn_weights": False}
                    weights = module.forward(*args, **kwargs)[1].detach()
            maps[layer, call] = _in_order(weights, prefix) if call == "local" else weights

        return store

    attentions = [block.attn for block in method.backbone.blocks]
    handles = [
        getattr(attention, "attention", attention).register_forward_hook(hook(i, attention), with_kwargs=True)
        for i, attention in enumerate(attentions)
    ]
    try:
        with torch.compiler.set_stance("force_eager"):  # a compiled graph has no hooks
            yield maps
    finally:
        for handle in handles:
            handle.remove()


def _in_order(weights: Tensor, prefix: int) -> Tensor:
    """``[B H N N]`` with ``prefix`` tokens before the patches -> one before them, registers behind."""
    if prefix == 0:
        return F.pad(torch.cat([weights.mean(-2, keepdim=True), weights], -2), (1, 0))
    order = [0, *range(prefix, weights.shape[-1]), *range(1, prefix)]
    return weights if prefix == 1 else weights[..., order, :][..., order]
