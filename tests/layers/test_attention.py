"""A block's own attention, the temporal Transformer, and maps that do not change what is computed."""

import pytest
import torch
from torch.nn import functional as F

from tests.methods.small import FRAMES, backbone, make
from vidlib.layers.attention import TemporalTransformer, block_attention, capture_attention


def test_block_attention_is_the_blocks_own_branch():
    block, x = backbone().blocks[0], torch.randn(2, 5, 16)
    with torch.no_grad():
        assert torch.equal(block_attention(block, x), block.attention(block.ln_1(x)))
        scaled = block_attention(block, x, torch.nn.Tanh())
        assert torch.equal(scaled, block.attention(torch.tanh(block.ln_1(x))))


def test_temporal_transformer_size_and_formula():
    assert sum(p.numel() for p in TemporalTransformer(512).parameters()) == 3_149_824
    layer = TemporalTransformer(16, heads=2, ffn=20).double()
    q, k = torch.randn(3, 4, 16).double(), torch.randn(3, 6, 16).double()
    norm = layer.norm
    a, b, c = layer.to_q(norm(q)), layer.to_k(norm(k)), layer.to_v(norm(k))
    heads = [(a[..., s] @ b[..., s].mT / 8**0.5).softmax(-1) @ c[..., s] for s in (slice(0, 8), slice(8, 16))]
    x = layer.to_out(torch.cat(heads, -1)) + q
    y = layer.ffn[3](F.gelu(layer.ffn[0](x))) + x
    assert torch.allclose(layer(q, k, k), y, atol=1e-12)
    x = torch.randn(2, 3, 16)
    assert torch.equal(TemporalTransformer(16, zero_init=True)(x, x, x), x)


@pytest.mark.parametrize(
    ("name", "calls"),
    [("ma_fsar", ("temporal", "local")), ("aim", ("temporal", "local")), ("frozen_clip", ("local",)),
     ("clip_fsar", ("local",))],
)  # fmt: skip
def test_capture_leaves_every_bit_and_names_the_calls(name, calls):
    method, clips = make(name).eval(), torch.randn(2, FRAMES, 3, 16, 16)
    text = torch.randn(2, 16) if method.support_text else None
    with torch.no_grad():
        before = method.embed(clips, text, "support")
        with capture_attention(method) as maps:
            during = method.embed(clips, text, "support")
        after = method.embed(clips, text, "support")
    assert all(torch.equal(before[k], during[k]) and torch.equal(before[k], after[k]) for k in before)
    assert set(maps) == {(layer, call) for layer in range(2) for call in calls}
    tokens = 5 + {"ma_fsar": 2}.get(name, 0)
    assert all(maps[layer, "local"].shape == (2 * FRAMES, 2, tokens, tokens) for layer in range(2))
    if "temporal" in calls:
        assert maps[0, "temporal"].shape == (2 * (5 if name == "aim" else 1), 2, FRAMES, FRAMES)
    assert all(torch.allclose(m.sum(-1), torch.ones(())) for m in maps.values())


def test_captured_weights_are_the_ones_used():
    method, clips = make("frozen_clip").eval(), torch.randn(1, FRAMES, 3, 16, 16)
    seen = []
    block = method.backbone.blocks[0]
    handle = block.attn.register_forward_hook(lambda module, args, output: seen.append((args[0], output[0])))
    with torch.no_grad(), capture_attention(method) as maps:
        method.embed(clips, None, "query")
    handle.remove()
    x, out = seen[0]
    value = x @ block.attn.in_proj_weight[32:].T + block.attn.in_proj_bias[32:]
    mixed = torch.cat([maps[0, "local"][:, h] @ value[..., 8 * h : 8 * h + 8] for h in range(2)], dim=-1)
    assert torch.allclose(block.attn.out_proj(mixed), out, atol=1e-5)


def test_hooks_are_gone_after_an_error():
    method = make("frozen_clip")
    with pytest.raises(RuntimeError, match="stop"), capture_attention(method):
        raise RuntimeError("stop")
    assert not any(block.attn._forward_hooks for block in method.backbone.blocks)
