"""AIM against its released code."""

import open_clip
import pytest
import torch
from einops import rearrange

from tests.conftest import close, golden
from tests.methods.small import FRAMES, backbone, batch, make
from vidlib import methods
from vidlib.backbones.clip import CLIPBackbone

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}


def released(num_tadapter: int):
    meta, tensors = golden("aim_vit")
    config = meta["config"]
    vision = {"image_size": config["input_resolution"], "patch_size": config["patch_size"], "width": config["width"]}
    vision |= {"layers": config["layers"], "head_width": config["width"] // config["heads"]}
    tower = CLIPBackbone(open_clip.CLIP(32, vision, TEXT, quick_gelu=True), "golden")
    method = methods.build(
        "aim",
        tower,
        frames=config["num_frames"],
        num_tadapter=num_tadapter,
        adapter_scale=config["adapter_scale"],
        drop_path=config["drop_path_rate"],
        variant="released",
    )
    prefix = f"state.tadapter{num_tadapter}."
    method.load_released({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return method.eval(), tensors


@pytest.mark.parametrize("num_tadapter", [1, 2])
@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_released_features_and_block(num_tadapter, grad):
    method, tensors = released(num_tadapter)
    with torch.set_grad_enabled(grad):
        features = method.features(rearrange(tensors["input.video"], "b c t h w -> b t c h w"))
        tokens = rearrange(tensors["input.tokens"], "n bt d -> bt n d")
        block = method.adapted_block(method.backbone.blocks[1], method.adapters[1], tokens, tokens.shape[1])
    wanted = tensors[f"output.features_tadapter{num_tadapter}"]
    assert close(features, rearrange(wanted, "b d t 1 1 -> b t d"))
    assert close(block, rearrange(tensors[f"output.block1_tadapter{num_tadapter}"], "n bt d -> bt n d"))


def test_a_released_state_that_does_not_fit_is_refused():
    method, tensors = released(1)
    state = {k.removeprefix("state.tadapter2."): v for k, v in tensors.items() if k.startswith("state.tadapter2.")}
    with pytest.raises(RuntimeError, match="temporal_in"):
        method.load_released(state)


def test_untrained_equals_the_frozen_tower():
    method, clips = (
        methods.build("aim", backbone(), frames=FRAMES, project=True).eval(),
        torch.randn(2, FRAMES, 3, 16, 16),
    )
    with torch.no_grad():
        frozen = method.backbone.encode_image(clips.flatten(0, 1))
        assert torch.equal(method.features(clips).flatten(0, 1), frozen)


def test_trainable_parameters_of_vit_b_16():
    from vidlib.backbones import clip

    for num_tadapter, adapters in ((1, 36), (2, 48)):
        with torch.device("meta"):
            method = methods.build("aim", clip.load("ViT-B-16-quickgelu", ""), frames=8, num_tadapter=num_tadapter)
        count = sum(p.numel() for p in method.trainable().values())
        assert count == adapters * 295_872 + 8 * 768 + 2 * 768  # adapters, temporal embedding, ln_post


def test_drop_path_acts_in_training_only_and_on_whole_videos():
    method, clips = make("aim", drop_path=0.9), torch.randn(16, FRAMES, 3, 16, 16)
    assert torch.equal(method.eval().features(clips), method.features(clips))
    method.train()
    assert not torch.equal(method.features(clips), method.features(clips))
    y = method.dropped(method.adapters[-1], torch.ones(16 * FRAMES, 5, 16)).view(16, -1)
    assert all(row.unique().numel() == 1 for row in y) and 0 < (y[:, 0] == 0).sum() <= 16
    assert method.adapters[0].drop.rate == 0


def test_text_is_not_read():
    method, episodes = make("aim").eval(), batch()
    before = method(episodes).logits
    episodes.text = torch.randn_like(episodes.text)
    assert torch.equal(before, method(episodes).logits)
