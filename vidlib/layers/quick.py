"""Linear layers and self-attention by the quicker way of the device; the same parameters, names and sums.

``quicken(module)`` gives every plain ``nn.Linear`` and ``nn.MultiheadAttention`` inside the classes below, in place.

On a CPU with AVX-512 a float32 product goes to oneDNN, forward and backward, which uses those registers on every make
where the library behind ``@`` (MKL) keeps to narrower ones on CPUs that Intel did not make: 2.2 times the rate on one
AMD EPYC. On every CPU attention over few tokens (``SHORT``) is plain products, its gradients written where the packed
projection needs them: torch's fused kernel is made for long sequences. Everything else (other devices and precisions,
autocast, torch.compile, small products, masks) is as torch does it.

`B` sequences, `N` tokens, `D` width, `H` heads, `d` width of a head.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

LARGE = 2**20  # multiply-adds from which a call of oneDNN pays for itself
SHORT = 3  # attention maps are kept where they take no more room than queries, keys and values: N <= 3 d
FEW = 16  # numbers in a row up to which torch's softmax spends its time between the rows

_onednn = None
if torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _onednn = torch.ops.mkldnn._linear_pointwise

    @register_flop_formula(_onednn)
    def _flops(x_shape, w_shape, *_args, out_shape=None, **_kwargs) -> int:
        return 2 * x_shape.numel() * w_shape[0]


def _times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x [M K] @ weight [N K].T + bias``, no gradient kept."""
    return _onednn(x, weight, bias, "none", [], "")


def plain_cpu(*tensors: Tensor) -> bool:
    """Whether these are float32 on a CPU, with neither autocast nor a compiler over them."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors) and not (
        torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: ``x [... K]``, ``weight [N K]``, ``bias [N]`` -> ``[... N]``."""
    if _onednn is None or x.numel() * weight.shape[0] < LARGE or not plain_cpu(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _Product.apply(x, weight, bias)
    return _times(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """``linear`` with its gradients; a frozen weight has none, and then ``x`` is not kept."""

    @staticmethod
    def forward(ctx, x, weight, bias):  # noqa: ANN001, ANN205 - torch's own signature
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return _times(rows, weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _times(rows, weight.t()).view(*gradient.shape[:-1], -1)
        if ctx.needs_input_grad[1]:  # the narrower of the two is laid out anew
            narrow = rows.shape[1] <= x.shape[1]
            of_weight = _times(rows.t(), x.t()) if narrow else _times(x.t(), rows.t()).t()
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias


class Linear(nn.Linear):
    """``nn.Linear`` through ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class _Attention(torch.autograd.Function):
    """``[B N 3D]``, queries, keys and values beside each other -> the first ``keep`` tokens, ``[B keep D]``."""

    @staticmethod
    def forward(ctx, packed, heads, keep):  # noqa: ANN001, ANN205
        b, n, wide = packed.shape
        d = wide // (3 * heads)
        q, k, v = packed.view(b, n, 3, heads, d).permute(2, 0, 3, 1, 4).reshape(3, b * heads, n, d)
        scores = q.new_empty(len(q), keep, n)
        torch.baddbmm(scores, q[:, :keep], k.transpose(1, 2), beta=0, alpha=d**-0.5, out=scores)
        if n > FEW:
            torch.softmax(scores, -1, out=scores)
        else:
            scores.sub_(scores.amax(-1, keepdim=True)).exp_().div_(scores.sum(-1, keepdim=True))
        ctx.save_for_backward(q, k, v, scores)
        ctx.heads = heads
        return torch.bmm(scores, v).view(b, heads, keep, d).transpose(1, 2).reshape(b, keep, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        q, k, v, weights = ctx.saved_tensors
        (b, keep, _), (many, n, d) = gradient.shape, q.shape
        y = gradient.view(b, keep, ctx.heads, d).transpose(1, 2).reshape(many, keep, d)
        found = q.new_empty(3, many, n, d)
        of_q, of_k, of_v = found
        torch.bmm(weights.transpose(1, 2), y, out=of_v)
        of_scores = torch.bmm(y, v.transpose(1, 2))
        if n > FEW:
            of_scores = torch._softmax_backward_data(of_scores, weights, -1, weights.dtype)
        else:
            of_scores = of_scores.sub_((of_scores * weights).sum(-1, keepdim=True)).mul_(weights)
        of_q[:, :keep] = torch.bmm(of_scores, k).mul_(d**-0.5)
        of_q[:, keep:] = 0
        torch.baddbmm(of_k, of_scores.transpose(1, 2), q[:, :keep], beta=0, alpha=d**-0.5, out=of_k)
        return found.view(3, b, ctx.heads, n, d).permute(1, 3, 0, 2, 4).reshape(b, n, -1), None, None


class Attention(nn.MultiheadAttention):
    """torch's, with batches first; ``keep``: only the first tokens are asked for, and only they ask. Maps are torch's
    own, of all tokens."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args, keep: int | None = None, **kwargs) -> tuple:
        mask = kwargs.get("attn_mask")
        plain = not args and not kwargs.get("need_weights", True) and kwargs.keys() <= {"need_weights", "attn_mask"}
        plain &= query is key and key is value and query.ndim == 3 and self.in_proj_bias is not None
        if not plain or (mask is not None and (mask.ndim != 2 or mask.dtype == torch.bool)):
            found, weights = super().forward(query, key, value, *args, **kwargs)
            return found[:, :keep], weights
        x, dim, heads = query, self.embed_dim, self.num_heads
        b, n, _ = x.shape
        keep = n if keep is None else keep
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if 2 * keep < n and mask is None:
            q = linear(x[:, :keep], weight[:dim], bias[:dim])
            k, v = linear(x, weight[dim:], bias[dim:]).chunk(2, -1)
        else:
            packed = linear(x, weight, bias)
            if mask is None and n <= SHORT * dim // heads and plain_cpu(packed):
                return linear(_Attention.apply(packed, heads, keep), self.out_proj.weight, self.out_proj.bias), None
            q, k, v = packed.chunk(3, -1)
            q = q[:, :keep]
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        return linear(mixed, self.out_proj.weight, self.out_proj.bias), None


def quicken(module: nn.Module) -> nn.Module:
    """``module`` with the classes above; parameters, their names and whatever is derived from torch's stay."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
        elif type(part) is nn.MultiheadAttention and part.batch_first and part._qkv_same_embed_dim:
            if not (part.dropout or part.add_zero_attn) and part.bias_k is None:
                part.__class__ = Attention
    return module
