"""ActionCLIP's post-network visual prompts (arXiv 2109.08472): the features of T frames become one of a video.

`B` videos, `T` frames, `C` width of the features. Every head is built with ``(dim, frames, heads, released)``, whether
it needs them or not, and maps ``[B T C] -> [B C]``. Sizes and starts are those of the released code: linear layers
normal with deviation 0.02 and no bias, packed attention projections as torch starts them.

``released`` changes ``Conv1D`` alone: there the released code reinterprets the memory of ``[T C]`` as ``[C T]`` where a
transpose was meant, so that its convolution runs over a mixture of time and channels.
"""

from collections import OrderedDict

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError

STD = 0.02
CLS_HEADS = 8  # of TransfCls, whatever the tower has


class MeanP(nn.Module):
    """The mean over frames: no parameters."""

    def __init__(self, dim: int, frames: int, heads: int = 8, released: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Conv1D(nn.Module):
    """A depthwise convolution over time, three frames wide, plus its input; then the mean.

    It starts as a temporal shift: the first quarter of the channels takes the frame before, the last the frame after,
    the others stay.
    """

    def __init__(self, dim: int, frames: int, heads: int = 8, released: bool = False) -> None:
        super().__init__()
        self.released = released
        self.conv = nn.Conv1d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        channel = torch.arange(dim, device=self.conv.weight.device)
        tap = 1 - (channel < dim // 4).long() + (channel >= dim + (-dim) // 4).long()
        with torch.no_grad():
            self.conv.weight.copy_(F.one_hot(tap, 3)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(len(x), *x.shape[:0:-1]) if self.released else rearrange(x, "b t c -> b c t")
        return (rearrange(self.conv(y), "b c t -> b t c") + x).mean(1)


class LSTM(nn.Module):
    """One forward layer of C units, plus its input; then the mean."""

    def __init__(self, dim: int, frames: int, heads: int = 8, released: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return (self.lstm(x)[0] + x).mean(1)


class QuickGELU(nn.Module):
    """CLIP's activation, ``x sigmoid(1.702 x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A pre-norm Transformer block with CLIP's activation and names, ``[B T C] -> [B T C]``; no mask."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-12)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-12)
        layers = {"c_fc": nn.Linear(dim, 4 * dim), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * dim, dim)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transf(nn.Module):
    """Learned positions and six pre-norm blocks, plus the input without positions; then the mean.

    ``positions [T C]``: the released table has a row for each of CLIP's text positions, of which the first T are used.
    ``heads``: as many as the text tower (8 for ViT-B).
    """

    def __init__(self, dim: int, frames: int, heads: int = 8, released: bool = False) -> None:
        super().__init__()
        _divides(heads, dim)
        self.positions = nn.Parameter(torch.randn(frames, dim) * STD)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(6))
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.positions
        for block in self.blocks:
            y = block(y)
        return (y + x).mean(1)


class TransfCls(nn.Module):
    """A class token and learned positions through torch's own encoder: six post-norm layers of 8 heads, ReLU, 2048
    hidden units, dropout 0.1, and a last norm. The token comes out, without mean and without the input."""

    def __init__(self, dim: int, frames: int, heads: int = 8, released: bool = False) -> None:
        super().__init__()
        _divides(CLS_HEADS, dim)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, dim), std=STD))
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1 + frames, dim), std=STD))
        layer = nn.TransformerEncoderLayer(dim, CLS_HEADS, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([repeat(self.token.to(x.dtype), "1 c -> b 1 c", b=len(x)), x], dim=1)
        return self.encoder(x + self.positions)[:, 0]


HEADS: dict[str, type[nn.Module]] = {
    "meanp": MeanP,
    "conv1d": Conv1D,
    "lstm": LSTM,
    "transf": Transf,
    "transf_cls": TransfCls,
}


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):  # an attention's output too, but not its packed input
        nn.init.normal_(module.weight, std=STD)
        nn.init.zeros_(module.bias)


def _divides(heads: int, dim: int) -> None:
    if dim % heads:
        raise UserError(f"heads must divide the width {dim} of the features, got {heads}.")
