"""CLIP-FSAR's head as its equations read: one video at a time, the class text a token like any other."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.literal import otam


def transformer(tokens: Tensor, w: dict[str, Tensor], heads: int = 8) -> Tensor:
    """``x = tokens + MSA(LN tokens)``, ``y = x + FFN(x)``, tokens [N C]."""
    normed = F.layer_norm(tokens, tokens.shape[1:], w["norm.weight"], w["norm.bias"])
    query, key, value = (normed @ w[f"to_{name}.weight"].T for name in "qkv")
    mixed = []
    for q, k, v in zip(*(x.chunk(heads, dim=1) for x in (query, key, value)), strict=True):
        mixed.append((q @ k.T / math.sqrt(q.shape[1])).softmax(dim=1) @ v)
    x = tokens + torch.cat(mixed, dim=1) @ w["to_out.weight"].T + w["to_out.bias"]
    hidden = F.gelu(x @ w["ffn.0.weight"].T + w["ffn.0.bias"])
    return x + hidden @ w["ffn.3.weight"].T + w["ffn.3.bias"]


def logits(
    supports: Tensor, labels: Tensor, queries: Tensor, texts: Tensor, w: dict[str, Tensor], lam: float = 0.5
) -> Tensor:
    """One episode, frames [S T C] and [Q T C] as the tower gives them, labels [S], texts [W C] -> OTAM logits [Q W].

    Supports of a class are averaged first, then meet their text.
    """
    prototypes = []
    for c, text in enumerate(texts):
        frames = supports[labels == c].mean(dim=0)
        prototypes.append(transformer(torch.cat([frames, text[None]]), w)[: len(frames)])
    modulated = torch.stack([transformer(query, w) for query in queries])
    return otam.logits(torch.stack(prototypes), torch.arange(len(texts)), modulated, lam)
