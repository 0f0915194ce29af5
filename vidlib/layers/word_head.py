"""BERT's prediction head: which word of a vocabulary a token's state stands for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WordHead(nn.Module):
    """``[... C] -> [... V]``, V words; linear and bias of the last layer apart, as in M2-CLIP's released code.

    How it starts is unknown to us: torch's own start, the last bias at zero.
    """

    def __init__(self, dim: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.decoder = nn.Linear(dim, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.norm(F.gelu(self.dense(x)))) + self.bias
