"""Adapters on every kind of ViT: untrained they change nothing, whatever is read and wherever positions are added."""

import copy

import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from tests.methods.small import TEXT, VISION, backbone, batch
from vidlib import backbones, methods
from vidlib.backbones import ImageBackbone
from vidlib.backbones.clip import CLIPBackbone
from vidlib.basics.errors import UserError
from vidlib.layers.attention import block_attention, capture_attention
from vidlib.layers.temporal_shift import temporal_shift

SIZE = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 16}
ROPE = {"use_rot_pos_emb": True, "init_values": 0.5, "num_heads": 1}  # a head of 16, as a rotation over 2 axes wants
OPEN_CLIP = {
    "class token": {},
    "average": {"pool_type": "avg"},
    "norm after": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "attention": {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 3},
}
TRUNKS = {
    "ViT": (VisionTransformer, {"pre_norm": True}),
    "ViT, registers, scales": (VisionTransformer, {"reg_tokens": 3, "init_values": 0.5, "no_embed_class": True}),
    "ViT, average": (VisionTransformer, {"class_token": False, "global_pool": "avg"}),
    "ViT, class token, average": (VisionTransformer, {"global_pool": "avg"}),
    "ViT, registers, average": (VisionTransformer, {"class_token": False, "reg_tokens": 2, "global_pool": "avg"}),
    "SigLIP": (VisionTransformer, {"class_token": False, "global_pool": "map"}),
    "EVA01": (Eva, {"global_pool": "token", "qkv_fused": True, "init_values": 0.5}),
    "EVA02": (Eva, {**ROPE, "global_pool": "token", "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True}),
    "PE-Core": (Eva, {**ROPE, "global_pool": "map", "attn_type": "rope", "use_pre_transformer_norm": True}),
    "PE-Core, no class token": (Eva, {**ROPE, "global_pool": "map", "class_token": False, "attn_type": "rope"}),
    "DINOv3": (
        Eva,
        {**ROPE, "global_pool": "avg", "rope_type": "dinov3", "num_reg_tokens": 4, "dynamic_img_size": True},
    ),
    "mixed": (Eva, {**ROPE, "global_pool": "token", "rope_type": "mixed"}),
}
KINDS = (*OPEN_CLIP, *TRUNKS)


def tower(kind: str) -> CLIPBackbone:
    """A CLIP of that kind with random weights; timm's trunk has CLIP's projection in its head."""
    if kind in OPEN_CLIP:
        return backbone(**OPEN_CLIP[kind])
    torch.manual_seed(0)
    build, arguments = TRUNKS[kind]
    clip, visual = open_clip.CLIP(16, VISION, TEXT, quick_gelu=True), TimmModel("test_vit", 16, (16, 16))
    visual.trunk, visual.head = build(**SIZE | arguments), nn.Sequential()
    for parameter in visual.parameters():
        nn.init.normal_(parameter, std=0.2)
    clip.visual = visual
    return CLIPBackbone(clip, f"small {kind}")


def clips(frames: int = 3) -> torch.Tensor:
    return torch.randn(2, frames, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def own(backbone: CLIPBackbone, x: torch.Tensor) -> torch.Tensor:
    return backbone.encode_image(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def close(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool(torch.allclose(one, two, atol=2e-5, rtol=1e-4)) and bool(two.std() > 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_adapters_equal_the_towers_own_features(kind):
    x = clips()
    with torch.no_grad():
        aim = methods.build("aim", tower(kind), frames=3, project=True).eval()
        assert close(aim.features(x), own(aim.backbone, x))
        unprojected = methods.build("aim", tower(kind), frames=3).eval().features(x)
        assert unprojected.shape == (2, 3, aim.backbone.pooled_dim)
        plain = methods.build("ma_fsar", tower(kind), frames=3, global_temporal=None, text_token=False).eval()
        assert close(plain.tower(x, None, "query"), own(plain.backbone, x))
        m2 = methods.build("m2clip", tower(kind), frames=3, classes=2, heads=["contrastive", "visual"]).eval()
        found = m2.embed(x)
        assert close(found["frames"], own(m2.backbone, x)) and found["logits"].shape == (2, 2)
        joint = methods.build("actionclip", tower(kind), frames=1, visual_prompt="joint").eval()
        joint.time_embedding.zero_()
        assert close(joint.encode_video(x[:, :1]), own(joint.backbone, x)[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_a_tower_gives_its_own_features_and_their_gradients(kind):
    plain, x = tower(kind), clips()[0]
    plain.unfreeze()
    found = []
    for training in (False, True):
        features = plain.features(x, training)
        gradients = torch.autograd.grad(features.square().sum(), [*plain.trunk.parameters()], allow_unused=True)
        found.append([features, *(g for g in gradients if g is not None)])
    assert len(found[0]) == len(found[1]) and found[0][0].std() > 1e-3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * one.detach().abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
def test_extra_tokens_are_seen_and_untrained_adapters_change_no_bit_of_it(kind):
    x, text = clips(), torch.randn(2, 16)
    method = methods.build("ma_fsar", tower(kind), frames=3).eval()
    with torch.no_grad():
        with_tokens = method.tower(x, text, "support")
        assert torch.equal(with_tokens, method.tower(x, text, "support", adapters=False))
        assert not torch.allclose(with_tokens, own(method.backbone, x), atol=1e-4)
        prompted = methods.build("actionclip", tower(kind), frames=3, visual_prompt="shift").eval().encode_video(x)
        joint = methods.build("actionclip", tower(kind), frames=3, visual_prompt="joint").eval()
        joint.time_embedding.zero_()
        turned = joint.encode_video(x[:, [2, 0, 1]])
    assert torch.isfinite(prompted).all()
    if method.backbone.prefix == 0:  # without time and a first frame's tokens the frames are a set
        assert torch.allclose(turned, joint.encode_video(x), atol=1e-4)


@pytest.mark.parametrize("kind", ["average", "ViT, registers, average", "SigLIP", "PE-Core", "DINOv3", "mixed"])
def test_every_adapter_trains_and_the_tower_does_not(kind):
    method = methods.build("aim", tower(kind), frames=3).train()
    method.features(clips()).square().sum().backward()
    last = method.adapters[-1]
    assert last.spatial.up.weight.grad.abs().sum() > 0 and method.temporal_embedding.grad.abs().sum() > 0
    norm = {id(p) for p in method.backbone.ln_post.parameters()}
    assert {id(p) for p in method.backbone.parameters() if p.requires_grad} == norm


@pytest.mark.parametrize("kind", ["EVA02", "PE-Core", "DINOv3", "mixed"])
def test_rotary_positions_turn_patches_alone(kind):
    vit = tower(kind).vit
    block, trunk, patches = vit.blocks[1], vit.trunk, 16
    x = torch.randn(2, vit.prefix + patches + 2, 16)  # two extra tokens
    rope = trunk.rope.get_embed(shape=(4, 4))
    rope = rope[1] if trunk.rope_mixed else rope
    inner, half = block.block.attn, getattr(block.block.attn, "rotate_half", False)

    def literal(x: torch.Tensor, turned: bool) -> torch.Tensor:
        if inner.qkv is None:
            q, k, v = inner.q_proj(x), inner.k_proj(x), inner.v_proj(x)
        else:
            bias = (
                None
                if getattr(inner, "q_bias", None) is None
                else torch.cat([inner.q_bias, inner.k_bias, inner.v_bias])
            )
            bias = inner.qkv.bias if bias is None else bias
            q, k, v = nn.functional.linear(x, inner.qkv.weight, bias).chunk(3, -1)
        q, k, v = (t[:, None] for t in (q, k, v))  # one head
        at = slice(vit.prefix, vit.prefix + patches)
        if turned:
            for t in (q, k):
                t[:, :, at] = apply_rot_embed_cat(t[:, :, at].clone(), rope, half=half)
        return inner.proj(inner.norm(((q @ k.mT / 16**0.5).softmax(-1) @ v)[:, 0]))

    with torch.no_grad():
        y = block.ln_1(x)
        assert close(block.attn(y, y, y)[0], literal(y, True))
        assert close(block_attention(block, x, over_time=True), block.ls_1(literal(y, False)))
        assert not torch.allclose(literal(y, True), literal(y, False), atol=1e-4)


def test_what_stands_for_the_class_token():
    x = torch.randn(2, 19, 16)
    assert torch.equal(tower("ViT, registers, scales").class_token(x), x[:, 0])
    assert torch.equal(tower("ViT, class token, average").class_token(x), x[:, 0]), "there, though it is not read"
    assert torch.equal(tower("average").class_token(x), x[:, 0])
    assert torch.equal(tower("ViT, registers, average").class_token(x), x[:, 2:].mean(1)), "registers are no class"
    assert torch.equal(tower("SigLIP").class_token(x), x.mean(1))
    with pytest.raises(UserError, match="'replace' needs a class token, and small SigLIP has none; use 'append'"):
        methods.build("ma_fsar", tower("SigLIP"), temporal_token="replace")
    methods.build("ma_fsar", tower("PE-Core"), temporal_token="replace")


def test_a_shift_leaves_what_stands_before_the_patches():
    x = torch.randn(6, 2 + 4, 16)
    shifted = temporal_shift(x, 3, prefix=2)
    assert torch.equal(shifted[:, :2], x[:, :2])
    assert torch.equal(shifted[:, 2:], temporal_shift(x[:, 1:], 3)[:, 1:])


@pytest.mark.parametrize("kind", ["ViT, registers, scales", "SigLIP", "PE-Core", "DINOv3"])
def test_captured_attention_stands_as_a_plain_clips_and_changes_no_bit(kind):
    method, x = methods.build("aim", tower(kind), frames=3).eval(), clips()
    with torch.no_grad():
        plain = method.features(x)
        with capture_attention(method) as maps:
            assert torch.equal(method.features(x), plain)
    assert set(maps) == {(layer, call) for layer in (0, 1) for call in ("temporal", "local")}
    local = maps[1, "local"]
    others = max(0, method.backbone.prefix - 1)
    assert local.shape[-2:] == (17 + others, 17 + others)
    assert torch.allclose(local.sum(-1), torch.ones(()), atol=1e-5)
    first = local[..., 0, 1:17]
    if method.backbone.prefix == 0:
        assert local[..., 0].eq(0).all() and torch.allclose(first, local[..., 1:, 1:].mean(-2), atol=1e-6)
    assert maps[1, "temporal"].shape[-2:] == (3, 3)
    frozen = methods.build("otam", tower(kind), frames=3).eval()
    with torch.no_grad(), capture_attention(frozen) as seen:  # the tower runs its blocks itself
        frozen.embed(x, None, "query")
    assert set(seen) == {(0, "local"), (1, "local")} and torch.allclose(seen[1, "local"], local, atol=1e-5)


def test_an_image_model_adapts_without_texts_and_wants_a_clip_where_a_method_reads_some():
    trunk = VisionTransformer(**SIZE | {"num_classes": 0, "reg_tokens": 2})
    method = methods.build("aim", ImageBackbone(trunk, "small DINO", 16), frames=3).eval()
    asked = batch()
    asked.text = method.backbone.encode_text(["a"] * asked.text.shape[1])[None].expand(len(asked.text), -1, -1)
    assert torch.isfinite(method(asked).logits).all()
    for name in ("ma_fsar", "m2clip", "actionclip", "clip_fsar"):
        with pytest.raises(UserError, match=f"'{name}' adapts a CLIP, and small DINO is none"):
            methods.build(name, ImageBackbone(trunk, "small DINO", 16), **({"classes": 2} if name == "m2clip" else {}))


@pytest.mark.parametrize(
    "name", ["EVA02-E-14", "RN50", "convnext_tiny", "resnet-mini", "vit_relpos_medium_patch16_cls_224"]
)
def test_blocks_of_another_kind_are_refused_in_a_sentence_that_says_what_is_right(name):
    with (
        torch.device("meta"),
        pytest.raises(UserError, match="no known kind .*give clip-mini, a CLIP ViT such as") as said,
    ):
        methods.build("aim", backbones.load(name, ""))
    assert "\n" not in str(said.value)
    if name == "convnext_tiny":
        with torch.device("meta"), pytest.raises(UserError, match="visual_prompt 'shift' adapts a ViT's blocks"):
            methods.build("actionclip", backbones.load(name, ""), visual_prompt="shift")


def test_a_copy_has_its_own_blocks_and_no_parameter_two_names():
    first = tower("EVA02")
    assert not any("vit" in name.split(".") for name in first.state_dict())
    second, x = copy.deepcopy(first), clips()
    with torch.no_grad():
        for parameter in second.visual.parameters():
            parameter.mul_(2)
        aim = [methods.build("aim", each, frames=3, project=True).eval() for each in (first, second)]
        one, two = (each.features(x) for each in aim)
        assert not torch.allclose(one, two) and close(two, own(second, x)) and close(one, own(first, x))
