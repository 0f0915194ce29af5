"""ActionCLIP's temporal heads against their released code, and their starts."""

import pytest
import torch
from einops import rearrange

from tests.conftest import close, golden
from vidlib.basics.errors import UserError
from vidlib.layers.temporal_heads import HEADS, Conv1D, Transf, TransfCls

RELEASED = {"meanp": "meanP", "conv1d": "Conv_1D", "lstm": "LSTM", "transf": "Transf", "transf_cls": "Transf_cls"}


def released(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    _, tensors = golden("actionclip_visual_prompt")
    prefix = f"state.{RELEASED[name]}."
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    table = state.pop("frame_position_embeddings.weight", None)
    if name == "transf":
        state["positions"] = table[:8]
    if name == "transf_cls":
        state = {key.removeprefix("transformer.").replace("transformer_enc", "encoder"): v for key, v in state.items()}
        state["token"], state["positions"] = state.pop("cls_token")[0], state.pop("pos_embed")[0]
    renamed = {"shift.": "conv.", "lstm_visual.": "lstm.", "transformer.resblocks.": "blocks."}
    for theirs, ours in renamed.items():
        state = {key.replace(theirs, ours): value for key, value in state.items()}
    head = HEADS[name](32, 8, heads=2, released=True)
    head.load_state_dict(state)
    return head.eval(), tensors


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_equals_the_released_head(name, grad):
    head, tensors = released(name)
    with torch.set_grad_enabled(grad):
        assert close(head(tensors["input.x"]), tensors[f"output.{RELEASED[name]}"])


def test_equals_the_released_convolution_at_its_start():
    _, tensors = golden("actionclip_visual_prompt")
    x, wanted = tensors["input.x"], tensors["output.Conv_1D_initial_shift"]
    assert close(Conv1D(32, 8, released=True)(x), wanted)
    assert not close(Conv1D(32, 8)(x), wanted)


@pytest.mark.parametrize("released", [True, False])
def test_the_convolution_starts_as_a_shift_and_runs_over_time(released):
    head, x = Conv1D(8, 5, released=released), torch.randn(2, 5, 8)
    shifted = x.clone()
    shifted[:, :, :2] = torch.cat([torch.zeros(2, 1, 2), x[:, :-1, :2]], dim=1)
    shifted[:, :, 6:] = torch.cat([x[:, 1:, 6:], torch.zeros(2, 1, 2)], dim=1)
    assert close(head(x), (shifted + x).mean(1)) != released
    torch.nn.init.normal_(head.conv.weight)
    by_channel = [
        torch.nn.functional.conv1d(x[:, None, :, c], head.conv.weight[c : c + 1], padding=1) for c in range(8)
    ]
    wanted = rearrange(torch.cat(by_channel, dim=1), "b c t -> b t c")
    assert close(head(x), (wanted + x).mean(1)) != released


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_one_feature_for_each_video_alone(name):
    head, x = HEADS[name](16, 5).eval(), torch.randn(3, 5, 16)
    features = head(x)
    assert features.shape == (3, 16)
    assert torch.allclose(head(x[1:2]), features[1:2], atol=1e-6)
    order_matters = not torch.allclose(head(x.flip(1)), features, atol=1e-5)
    assert order_matters == (name != "meanp")


@pytest.mark.parametrize("name", HEADS)
def test_gradients_reach_every_parameter_and_the_frames(name):
    head, x = HEADS[name](16, 5), torch.randn(3, 5, 16, requires_grad=True)
    head(x).square().sum().backward()
    assert x.grad.abs().sum(-1).min() > 0
    assert [n for n, p in head.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_starts_and_sizes():
    head = Transf(512, 8)
    assert sum(p.numel() for p in head.parameters()) == 6 * 3_152_384 + 8 * 512
    assert abs(head.blocks[0].mlp.c_fc.weight.std() - 0.02) < 1e-3 and abs(head.positions.std() - 0.02) < 1e-3
    assert abs(head.blocks[0].attn.out_proj.weight.std() - 0.02) < 1e-3
    assert abs(head.blocks[0].attn.in_proj_weight.std() - (2 / 2048) ** 0.5) < 1e-3  # torch's own
    assert head.blocks[0].mlp.c_fc.bias.abs().sum() == 0 and head.blocks[0].ln_1.eps == 1e-12
    token = TransfCls(64, 8)
    assert token.positions.shape == (9, 64) and abs(token.positions.std() - 0.02) < 2e-3
    assert abs(token.encoder.layers[5].linear1.weight.std() - 0.02) < 1e-3
    assert len(token.encoder.layers) == 6 and token.encoder.layers[0].dropout.p == 0.1


def test_only_the_encoder_with_a_token_has_dropout():
    x = torch.randn(2, 5, 16)
    for name in HEADS:
        head = HEADS[name](16, 5).train()
        assert torch.equal(head(x), head(x)) == (name != "transf_cls")


@pytest.mark.parametrize(("name", "heads"), [("transf", 5), ("transf_cls", 1)])
def test_a_width_that_the_heads_do_not_divide_is_refused(name, heads):
    with pytest.raises(UserError, match="heads must divide the width 12"):
        HEADS[name](12, 5, heads=heads)
