import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vidlib.layers import quick

LARGE = (64, 33, 256)  # times 256 x 512: far above the size from which another library takes over


def gradients(module, x, weigh):
    x = x.clone().requires_grad_()
    output = module(x)
    (output * weigh[tuple(slice(n) for n in output.shape)]).sum().backward()
    return output, x.grad, [p.grad for p in module.parameters()]


@pytest.mark.parametrize("wide", [512, 64])
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_a_quick_product_and_its_gradients_are_the_plain_one_s(wide, frozen):
    torch.manual_seed(0)
    plain = nn.Linear(256, wide)
    for name in frozen:
        getattr(plain, name).requires_grad_(False)
    ours = quick.quicken(copy.deepcopy(plain))
    x, weigh = torch.randn(LARGE), torch.randn(*LARGE[:2], wide)
    assert type(ours) is quick.Linear and ours.state_dict().keys() == plain.state_dict().keys()
    for one, other in zip(gradients(ours, x, weigh), gradients(plain, x, weigh), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours(x.transpose(0, 1)), plain(x).transpose(0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("x", [torch.ones(2, 256), torch.ones(LARGE, dtype=torch.float64), torch.ones(LARGE)])
def test_what_is_small_or_not_float32_or_under_autocast_is_torch_s_own(x):
    layer = nn.Linear(256, 512).to(x.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=x.shape == LARGE and x.dtype == torch.float32):
        want = layer(x)
        assert torch.equal(quick.quicken(layer)(x), want)


@pytest.mark.parametrize("tokens", [5, 24, 40])  # at 3 x 8 and beyond
@pytest.mark.parametrize("keep", [None, 1, 4])
def test_quick_attention_is_torch_s_own(tokens, keep):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(32, 4, batch_first=True)
    nn.init.normal_(plain.in_proj_bias)
    ours = quick.quicken(copy.deepcopy(plain))
    assert type(ours) is quick.Attention and type(ours.out_proj) is type(plain.out_proj)
    x, weigh = torch.randn(6, tokens, 32), torch.randn(6, tokens, 32)
    given = {"need_weights": False}
    found = gradients(_Called(ours, keep=keep, **given), x, weigh)
    want = gradients(_Called(plain, first=keep, **given), x, weigh)
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours(x, x, x)[1], plain(x, x, x)[1])  # maps


def test_masks_and_other_keys_are_torch_s_own():
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    ours = quick.quicken(copy.deepcopy(plain))
    x, other = torch.randn(2, 3, 7, 32)
    causal = torch.full((7, 7), -torch.inf).triu(1)
    for mask in (causal, causal < 0, causal.expand(12, 7, 7)):
        want = plain(x, x, x, attn_mask=mask, need_weights=False)[0]
        torch.testing.assert_close(ours(x, x, x, attn_mask=mask, need_weights=False)[0], want)
    assert torch.equal(ours(x, other, other)[0], plain(x, other, other)[0])
    padded = torch.zeros(3, 7, dtype=torch.bool)
    padded[:, 5:] = True
    want = plain(x, x, x, key_padding_mask=padded, need_weights=False)[0]
    assert torch.equal(ours(x, x, x, key_padding_mask=padded, need_weights=False)[0], want)


def test_what_is_not_the_plain_kind_stays_as_it_is():
    kinds = [nn.MultiheadAttention(32, 4), nn.MultiheadAttention(32, 4, kdim=8, batch_first=True)]
    kinds += [nn.MultiheadAttention(32, 4, 0.1, batch_first=True), nn.Bilinear(2, 2, 2)]
    before = [type(kind) for kind in kinds]
    quick.quicken(nn.ModuleList(kinds))
    assert [type(kind) for kind in kinds] == before


def test_quick_products_are_counted():
    x, layer = torch.randn(LARGE), quick.quicken(nn.Linear(256, 512))
    with FlopCounterMode(display=False) as counter:
        layer(x.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * x.numel() * 512
    with FlopCounterMode(display=False) as counter:
        F.linear(x, layer.weight).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * x.numel() * 512


class _Called(nn.Module):
    """Attention as a block calls it."""

    def __init__(self, attention, first=None, **given):
        super().__init__()
        self.attention, self.first, self.given = attention, first, given

    def forward(self, x):
        return self.attention(x, x, x, **self.given)[0][:, : self.first]
