"""MA-FSAR against its equations written out, and the identities that its adapters promise."""

import math

import pytest
import torch
from einops import rearrange

from tests.literal import ma_fsar as literal
from tests.methods.small import FRAMES, backbone, batch, make, same
from vidlib import methods
from vidlib.backbones import clip
from vidlib.basics.errors import UserError
from vidlib.methods.ma_fsar import similarity_kl

DOUBLE = torch.float64


@pytest.mark.parametrize("where", ["query-key", "query", "output", "concat", "self"])
def test_equals_the_equations_written_out(where):
    method = make("ma_fsar", tpcm=where, mix_weight=0.3, temperature=5.0).double().train()
    episodes = batch(episodes=1, shots=(2, 1, 1), queries=2, dtype=DOUBLE)
    match = method(episodes)
    p, losses = literal.episode(
        episodes.support[0],
        episodes.support_labels[0].tolist(),
        episodes.query[0],
        episodes.targets.query_labels[0].tolist(),
        episodes.text[0],
        {name: value.detach() for name, value in method.state_dict().items()},
        layers=2,
        heads=2,
        a=0.3,
        temperature=5.0,
        where=where,
    )
    assert torch.allclose(match.logits[0].exp(), torch.tensor(p, dtype=DOUBLE), rtol=1e-9, atol=1e-12)
    for name, value in losses.items():
        assert match.losses[name].item() == pytest.approx(value, rel=1e-9)


def test_trainable_parameters_of_vit_b_16():
    with torch.device("meta"):
        method = methods.build("ma_fsar", clip.load("ViT-B-16-quickgelu", ""), frames=8, metric="otam")
    counts = {name: p.numel() for name, p in method.trainable().items()}
    assert sum(counts.values()) == 18_535_168
    parts = {"adapters": 10_651_392, "text_projections": 4_727_808, "temporal_embedding": 6_144, "tpcm": 3_149_824}
    for part, count in parts.items():
        assert sum(n for name, n in counts.items() if name.startswith(part)) == count


def untouched(**arguments):
    """A method as it is before training."""
    return methods.build("ma_fsar", backbone(), frames=FRAMES, **arguments).eval()


@pytest.mark.parametrize("arguments", [{}, {"temporal_token": "replace"}, {"text_projection": "shared"}])
@pytest.mark.parametrize("role", ["support", "query"])
def test_untrained_adapters_contribute_exactly_zero(role, arguments):
    method, clips = untouched(**arguments), torch.randn(2, FRAMES, 3, 16, 16)
    text = torch.randn(2, 16) if role == "support" else None
    with torch.no_grad():
        assert torch.equal(method.tower(clips, text, role), method.tower(clips, text, role, adapters=False))


def reference_tower(method, clips, text):
    """The frozen tower with the extra tokens, put together here from open_clip's own blocks."""
    visual = method.backbone.visual
    x = visual._embeds(rearrange(clips, "b t c h w -> (b t) c h w"))
    for i, block in enumerate(visual.transformer.resblocks):
        extra = [x[:, :1]]
        if text is not None:
            extra.append(method.text_projections[i](text).repeat_interleave(FRAMES, dim=0)[:, None])
        y = x + block.attention(block.ln_1(torch.cat([x, *extra], dim=1)))[:, : x.shape[1]]
        x = y + block.mlp(block.ln_2(y))
    return rearrange(visual._pool(x)[0] @ visual.proj, "(b t) c -> b t c", t=FRAMES)


@pytest.mark.parametrize("with_text", [True, False])
def test_untrained_tower_is_the_frozen_one_with_extra_tokens(with_text):
    method, clips = untouched(), torch.randn(2, FRAMES, 3, 16, 16)
    text = torch.randn(2, 16) if with_text else None
    with torch.no_grad():
        ours = method.tower(clips, text, "support" if with_text else "query")
        assert torch.equal(ours, reference_tower(method, clips, text))
        plain = method.backbone.encode_image(clips.flatten(0, 1)).view_as(ours)
    assert not same(ours, plain)  # the extra keys do change it


@pytest.mark.parametrize(
    "switch", [{"global_temporal": None}, {"temporal_token": "replace"}, {"global_temporal": "all"}]
)
def test_untrained_tower_without_extra_tokens_is_open_clips(switch):
    method, clips = untouched(text_token=False, **switch), torch.randn(2, FRAMES, 3, 16, 16)
    with torch.no_grad():
        ours = method.tower(clips, None, "support")
        assert torch.equal(ours.flatten(0, 1), method.backbone.encode_image(clips.flatten(0, 1)))


def test_switches_leave_out_what_they_name():
    whole = untouched().trainable()
    for arguments, gone in (
        ({"global_temporal": None}, "adapters.0.temporal.up.weight"),
        ({"local_adapter": False}, "adapters.1.local.up.weight"),
        ({"joint": False}, "adapters.1.joint.up.weight"),
        ({"text_token": False}, "text_projections.0.weight"),
        ({"temporal_embedding": False}, "temporal_embedding"),
        ({"tpcm": None}, "tpcm.to_q.weight"),
        ({"text_projection": "shared"}, "text_projections.1.weight"),
    ):
        assert gone in whole
        assert gone not in untouched(**arguments).trainable(), arguments
    assert "query_adapters.0.local.up.weight" in untouched(share_adapters=False).trainable()
    assert "backbone.clip.visual.proj" in untouched(finetune="full").trainable()
    assert not any(n.startswith("backbone") for n in whole)


ABLATED = [
    {"global_temporal": "all"},
    {"global_temporal": None},
    {"temporal_token": "replace"},
    {"temporal_residual": False},
    {"text_token": False},
    {"text_projection": "shared"},
    {"local_adapter": False},
    {"joint": False},
    {"share_adapters": False},
    {"temporal_embedding": False},
    {"tpcm": None},
    {"tpcm": "query"},
    {"tpcm": "output"},
    {"tpcm": "concat"},
    {"tpcm": "self"},
    {"shots": "distance"},
    {"metric_scale": 2.0},
    {"scale": 0.1},
]


@pytest.mark.parametrize("arguments", ABLATED, ids=str)
def test_every_switch_changes_the_result_and_trains(arguments):
    episodes = batch(shots=(2, 1, 1))
    method = make("ma_fsar", **arguments).train()
    match = method(episodes)
    assert not same(match.parts["q2s"], make("ma_fsar").train()(episodes).parts["q2s"])
    match.loss.backward()
    assert [n for n, p in method.trainable().items() if p.grad is None] == []


def test_a_query_never_meets_a_text():
    method, clips = make("ma_fsar").eval(), torch.randn(2, FRAMES, 3, 16, 16)
    told, untold = method.embed(clips, torch.randn(2, 16), "query"), method.embed(clips, None, "query")
    assert all(torch.equal(told[key], untold[key]) for key in untold)
    support = method.embed(clips, torch.randn(2, 16), "support")
    assert not same(support["pooled"], untold["pooled"])


def test_text_off_needs_no_new_training():
    method, episodes = make("ma_fsar").eval(), batch()
    method.support_text = False
    without = method(episodes).parts["q2s"]
    episodes.text = torch.randn_like(episodes.text)
    assert torch.equal(without, method(episodes).parts["q2s"])


def test_the_temporal_step_is_the_only_path_between_frames_before_tpcm():
    clips = torch.randn(1, FRAMES, 3, 16, 16)
    changed = clips.clone()
    changed[:, 0] = torch.randn(3, 16, 16)
    for arguments, apart in (({}, False), ({"global_temporal": "all"}, False), ({"global_temporal": None}, True)):
        method = make("ma_fsar", **arguments).eval()
        with torch.no_grad():
            before, after = (method.tower(c, None, "query")[:, 1:] for c in (clips, changed))
        assert torch.equal(before, after) == apart


def test_training_mode_gives_the_same_features_for_less_work():
    method, clips = make("ma_fsar").double(), torch.randn(2, FRAMES, 3, 16, 16, dtype=DOUBLE)
    text = torch.randn(2, 16, dtype=DOUBLE)
    assert same(method.train().tower(clips, text, "support"), method.eval().tower(clips, text, "support"), 1e-12)


def test_the_losses_are_weighted_by_a_and_can_be_left_out():
    episodes = batch()
    whole = make("ma_fsar", mix_weight=0.5).eval()(episodes).losses
    other = make("ma_fsar", mix_weight=0.2).eval()(episodes).losses
    assert set(whole) == {"q2s", "s2t", "q2t"}
    assert same(other["q2s"], whole["q2s"] * 0.8 / 0.5) and same(other["s2t"], whole["s2t"] * 0.2 / 0.5)
    few = make("ma_fsar", losses="q2s, q2t").eval()(episodes).losses
    assert set(few) == {"q2s", "q2t"} and torch.equal(few["q2t"], whole["q2t"])


def test_the_mix_is_arithmetic_and_free_to_vary():
    method = make("ma_fsar", mix_weight=0.25).eval()
    match = method(batch())
    q2t, q2s = match.parts["q2t"].softmax(-1), match.parts["q2s"].softmax(-1)
    assert same(match.logits.exp(), 0.25 * q2t + 0.75 * q2s)
    assert same(method.mix(match.parts, 0.0).exp(), q2s) and same(method.mix(match.parts, 1.0).exp(), q2t)


def test_similarity_kl():
    logits = torch.randn(2, 4, 3)
    labels = torch.randint(3, (2, 4))
    truth = torch.nn.functional.one_hot(labels, 3)
    entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert same(similarity_kl(logits, truth), entropy)  # one right text: KL is cross-entropy
    repeated = torch.tensor([[[1.0, 1.0, 0.0]]])  # two right texts share the mass
    assert similarity_kl(torch.tensor([[[2.0, 2.0, -30.0]]]), repeated).item() == pytest.approx(0, abs=1e-6)
    assert similarity_kl(torch.zeros(1, 1, 3), repeated).item() == pytest.approx(math.log(3 / 2), rel=1e-5)
    expected = []
    for episode, fits in zip(logits, truth, strict=True):
        used = fits.sum(0) > 0  # texts that some video fits
        target = fits.T[used] / fits.T[used].sum(-1, keepdim=True)
        back = torch.special.xlogy(target, target) - target * episode.T[used].log_softmax(-1)
        expected.append(back.sum(-1).mean())
    assert same(similarity_kl(logits, truth, "both"), (entropy + torch.stack(expected).mean()) / 2)


def test_the_episodes_texts_or_all_training_texts():
    episodes = batch()
    method = make("ma_fsar", text_set="train", mix_weight=1.0, losses="q2t", temperature=3.0).eval()
    pooled = method.embed(episodes.query.flatten(0, 1), None, "query")["pooled"]
    logits = 3.0 * torch.nn.functional.cosine_similarity(pooled[:, None], episodes.targets.all_text[None], dim=-1)
    truth = episodes.targets.class_ids.gather(1, episodes.targets.query_labels).flatten()
    assert same(method(episodes).loss, torch.nn.functional.cross_entropy(logits, truth) / 2)


def test_what_is_learned_starts_where_it_was_given_and_moves_alone():
    episodes, given = batch(), {"mix_weight": 0.3, "temperature": 5.0}
    fixed = methods.build("ma_fsar", backbone(), frames=FRAMES, **given).eval()
    for learned, name in (("mix", "mix_logit"), ("temperature", "log_temperature")):
        method = methods.build("ma_fsar", backbone(), frames=FRAMES, learned=(learned,), **given).eval()
        state = fixed.state_dict()
        method.load_state_dict(state | {name: getattr(method, name).detach()})
        assert method.trainable().keys() - fixed.trainable().keys() == {name} and method.rates[name] == 10
        match = method(episodes)
        assert same(match.logits, fixed(episodes).logits)
        assert all(same(match.losses[loss], value) for loss, value in fixed(episodes).losses.items())
        match.loss.backward()
        assert getattr(method, name).grad.ndim == 0 and getattr(method, name).grad != 0
        with torch.no_grad():
            getattr(method, name).add_(1.0)
        assert not same(method(episodes).logits, match.logits)
    with pytest.raises(UserError, match="mix_weight 0 cannot be learned"):
        methods.build("ma_fsar", backbone(), frames=FRAMES, learned=("mix",), mix_weight=0)
    with pytest.raises(UserError, match="learned has 'mixx'"):
        methods.build("ma_fsar", backbone(), frames=FRAMES, learned=("mixx",))


def test_the_loss_of_the_mix_moves_the_mix_alone():
    episodes = batch()
    method = make("ma_fsar", learned=("mix",), mix_weight=0.3).eval()
    match = method(episodes)
    truth = episodes.targets.query_labels.flatten()
    assert same(match.losses["mix"], torch.nn.functional.nll_loss(match.logits.flatten(0, 1), truth))
    match.losses["mix"].backward()
    assert [name for name, p in method.trainable().items() if p.grad is not None] == ["mix_logit"]
