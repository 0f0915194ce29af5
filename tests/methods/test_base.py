"""What holds for every method: shapes, gradients, freezing, saving, symmetries, independence."""

import dataclasses
import inspect

import pytest
import torch

from tests.methods.small import BASELINES, FRAMES, NAMES, UNTRAINED, WAY, backbone, batch, make, resnet, same
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.methods.base import arithmetic_mix, class_means, class_rows, cosine
from vidlib.params.few_shot import RunParams
from vidlib.results import cost
from vidlib.testing.checks import one
from vidlib.training import checkpoints

TRAINED = [name for name in NAMES if name not in UNTRAINED]
TAKES_METRIC = [name for name in NAMES if "metric" in inspect.signature(methods.METHODS[name]).parameters]
VARIED = [
    *((name, {}) for name in NAMES),
    ("clip_fsar", {"merge_before": False, "inference": "combined"}),
    ("frozen_clip", {"text_weight": 0.4}),
    ("simple_shot", {"centred": False}),
    ("sloshnet", {"cardinalities": (1, 2), "fusion": "sum", "short_term": False}),
    ("protonet", {"variant": "released"}),
    ("strm", {"variant": "released", "cardinalities": (2, 3)}),
    ("hyrsm", {"classes": 6, "prototype_first": False, "coherence_weight": 0.3, "variant": "released"}),
    ("hyrsm", {"inter": False}),
    ("molo", {"classes": 6, "variant": "released"}),
    ("molo", {"motion": False}),
    ("ma_fsar", {"shots": "distance", "tpcm": "output", "text_set": "train", "kl": "both", "pooled": "after"}),
]
varied = pytest.mark.parametrize(("name", "arguments"), VARIED, ids=lambda v: v if isinstance(v, str) else "+".join(v))


@varied
@pytest.mark.parametrize("shots", [(1, 1, 1), (5, 5, 5), (2, 1, 3)])
def test_forward_gives_logits_and_losses_for_any_shots(name, arguments, shots):
    match = make(name, **arguments).eval()(batch(shots=shots))
    assert match.logits.shape == (2, 4, WAY)
    assert all(part.shape == (2, 4, WAY) for part in match.parts.values())
    assert torch.isfinite(match.logits).all() and torch.isfinite(match.loss)
    assert match.loss.ndim == 0 and same(match.loss, sum(match.losses.values()))


@pytest.mark.parametrize("metric", ["otam", "bimhm", "trx", "prototype", "cosine"])
@pytest.mark.parametrize("name", TAKES_METRIC)
def test_every_metric_plugs_in(name, metric):
    method = make(name, metric=metric)
    loss = method(batch(shots=(2, 1, 1))).loss
    assert torch.isfinite(loss)
    if metric == "trx" and name != "frozen_clip":
        loss.backward()
        pairs = method.metric.transformers[0]  # the other has one triple per class here: nothing to attend to
        assert all(p.weight.grad.abs().sum() > 0 for p in (pairs.k_linear, pairs.v_linear, pairs.norm_k))


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_what_is_trained_and_nothing_else(name):
    method = make(name).train()
    method(batch(shots=(2, 2, 1))).loss.backward()  # three frames make one triple: alone, nothing to attend to
    without = [n for n, p in method.trainable().items() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []
    assert [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None] == []


def test_what_is_trained():
    prefixes = {
        "ma_fsar": {"adapters", "text_projections", "temporal_embedding", "tpcm"},
        "aim": {"adapters", "temporal_embedding", "backbone.clip.visual.ln_post"},
        "clip_fsar": {"backbone.clip.visual", "context", "scale"},
        **{name: set() for name in UNTRAINED},
        "ordered_differences": {"projection"},
        "otam": {"backbone.clip.visual"},
        "trx": {"backbone.clip.visual", "metric.transformers"},
        "strm": {"backbone.clip.visual", "metric", "patch_enrichment", "frame_enrichment", "similarity"},
        "hyrsm": {"backbone.clip.visual", "intra", "inter"},
        "molo": {"backbone.clip.visual", "base", "motion", "moving", "decoder", "scales"},
        "protonet": {"backbone.clip.visual"},
        "bimhm": {"backbone.clip.visual"},
        "sloshnet": {"backbone.clip.visual", "fusion", "long_term", "short_term", "gamma", "metric"},
    }
    for name in prefixes:
        trained = make(name).trainable()
        assert all(any(n.startswith(p) for p in prefixes[name]) for n in trained), name
        assert {p for p in prefixes[name] if any(n.startswith(p) for n in trained)} == prefixes[name]


@pytest.mark.parametrize("name", TRAINED)
def test_trained_weights_saved_and_loaded_give_the_same_bits(name, tmp_path):
    episodes = batch()
    trained = make(name).eval()
    checkpoints.save_trainable(trained, tmp_path / "weights.safetensors")
    fresh = methods.build(name, backbone(), frames=FRAMES).eval()
    assert not torch.equal(fresh(episodes).logits, trained(episodes).logits)
    checkpoints.load_trainable(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh(episodes).logits, trained(episodes).logits)


@varied
def test_a_batch_of_episodes_is_the_episodes_one_by_one(name, arguments):
    method, whole = make(name, **arguments).eval(), batch(episodes=3, shots=(2, 1, 1))
    singles = [method(one(whole, e)) for e in range(3)]
    together = method(whole)
    assert same(together.logits, torch.cat([m.logits for m in singles]))
    assert same(together.loss, torch.stack([m.loss for m in singles]).mean())


@varied
def test_an_embedding_and_a_query_depend_on_no_other_video(name, arguments):
    method = make(name, **arguments).eval()
    episodes = batch(episodes=1, shots=(2, 2, 2))
    with torch.no_grad():
        for role, clips in (("support", episodes.support[0]), ("query", episodes.query[0])):
            text = torch.randn(len(clips), 16) if role == "support" and method.support_text else None
            together = method.embed(clips, text, role)
            alone = method.embed(clips[1:2], None if text is None else text[1:2], role)
            assert all(same(together[key][1:2], alone[key], 1e-4) for key in alone)  # features reach 30
        before = method(episodes).logits
        episodes.query[:, 1:] = torch.randn_like(episodes.query[:, 1:])
        after = method(episodes).logits
    assert same(before[:, 0], after[:, 0])
    assert not same(before[:, 1:], after[:, 1:])


@varied
def test_the_order_of_supports_does_not_matter(name, arguments):
    method, episodes = make(name, **arguments).eval(), batch(episodes=1, shots=(2, 1, 3))
    order = torch.randperm(6)
    other = dataclasses.replace(
        episodes, support=episodes.support[:, order], support_labels=episodes.support_labels[:, order]
    )
    one_way, other_way = method(episodes), method(other)
    assert same(one_way.logits, other_way.logits) and same(one_way.loss, other_way.loss)


@varied
def test_renaming_the_classes_permutes_the_logits(name, arguments):
    method, episodes = make(name, **arguments).eval(), batch(episodes=1, shots=(2, 1, 1))
    new = torch.tensor([2, 0, 1])  # class c becomes new[c]
    old = new.argsort()
    targets = dataclasses.replace(
        episodes.targets, query_labels=new[episodes.targets.query_labels], class_ids=episodes.targets.class_ids[:, old]
    )
    other = dataclasses.replace(
        episodes, support_labels=new[episodes.support_labels], text=episodes.text[:, old], targets=targets
    )
    one_way, other_way = method(episodes), method(other)
    assert same(one_way.logits[..., old], other_way.logits) and same(one_way.loss, other_way.loss)
    assert not same(one_way.logits, other_way.logits)


@pytest.mark.parametrize("name", NAMES)
def test_permuted_texts_change_only_what_reads_text(name):
    method, episodes = make(name).eval(), batch(episodes=1)
    other = dataclasses.replace(episodes, text=episodes.text.roll(1, dims=1))
    one_way, other_way = method(episodes), method(other)
    indifferent = name in ("aim", "frozen_clip") or not method.uses_text
    alone = indifferent or name == "tip_adapter"  # reads the supports without any text
    assert "q2s" not in one_way.parts or torch.equal(one_way.parts["q2s"], other_way.parts["q2s"]) == alone
    if "q2t" in one_way.parts:
        assert same(one_way.parts["q2t"].roll(1, dims=-1), other_way.parts["q2t"])
    assert torch.equal(one_way.logits, other_way.logits) == indifferent


@varied
def test_logits_do_not_know_the_queries_labels(name, arguments):
    method, episodes = make(name, **arguments).eval(), batch()
    labels = (episodes.targets.query_labels + 1) % WAY
    other = dataclasses.replace(episodes, targets=dataclasses.replace(episodes.targets, query_labels=labels))
    with torch.no_grad():
        one_way, other_way = method(episodes), method(other)
        assert torch.equal(one_way.logits, other_way.logits) and not torch.equal(one_way.loss, other_way.loss)
        assert torch.equal(one_way.logits, method(dataclasses.replace(episodes, targets=None)).logits)


@pytest.mark.parametrize(("frames", "way"), [(4, 20), (16, 3), (32, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_from_4_to_32_frames_and_2_to_20_ways(name, frames, way):
    tuples = frames > 16 and "cardinalities" in inspect.signature(methods.METHODS[name]).parameters
    method = make(name, frames=frames, **({"cardinalities": (2,)} if tuples else {})).eval()
    with torch.no_grad():
        match = method(batch(1, (1,) * way, queries=2, frames=frames))
    assert match.logits.shape == (1, 2, way) and torch.isfinite(match.loss)


@pytest.mark.parametrize("name", [name for name in NAMES if not methods.METHODS[name].uses_text])
def test_a_method_without_text_trains_on_a_resnet(name):
    method, episodes = make(name, on=resnet).train(), batch(shots=(2, 2, 1), pixels=64)
    match = method(dataclasses.replace(episodes, text=episodes.text[..., :0]))
    trained = method.trainable()
    if trained:
        match.loss.backward()
    assert match.logits.shape == (2, 4, WAY)
    moved = trained if name == "ordered_differences" else {n: p for n, p in trained.items() if n.startswith("backbone")}
    assert bool(moved) == (name not in BASELINES) and all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in moved.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_autocast_is_finite_and_close(name):
    method, episodes = make(name).train(), batch()
    exact = method(episodes)
    with torch.autocast("cpu", torch.bfloat16):
        match = method(episodes)
    assert torch.isfinite(match.logits).all()
    assert (match.logits - exact.logits).abs().max() < 0.15 * exact.logits.abs().max()
    if method.trainable():
        match.loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in method.trainable().values())


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_add_up_and_choices_are_listed(name):
    method = make(name)
    table = cost.parameters(method)
    assert "rest" not in table.index
    assert table.loc["all", "trainable"] == sum(p.numel() for p in method.trainable().values())
    known = inspect.signature(methods.METHODS[name]).parameters
    assert all(argument in known and len(source) > 5 for argument, _, source in method.unsettled())


def test_unsettled_choices_show_the_values_taken():
    method = make("ma_fsar", mix_weight=0.3, tpcm="query")
    values = {argument: value for argument, value, _ in method.unsettled()}
    assert (values["mix_weight"], values["tpcm"], values["frames"], values["scale"]) == (0.3, "query", FRAMES, 0.5)


def test_the_backbone_stays_in_evaluation_mode():
    method = make("ma_fsar").train()
    assert method.training and method.adapters.training
    assert not any(module.training for module in method.backbone.modules())


def test_clips_of_another_length_are_refused():
    for name in NAMES:
        with pytest.raises(UserError, match="4 frames.*frames=3"):
            make(name).embed(torch.randn(1, 4, 3, 16, 16), None, "query")


def test_build_follows_params_and_names_what_is_wrong():
    params = RunParams(method="ma_fsar", frames=4, mix=0.25, metric="bimhm", ablation="no_joint")
    method = methods.build(params, backbone(), metric_scale=3.0)
    assert (method.frames, method.mix_weight, method.metric.scale) == (4, 0.25, 3.0)
    assert type(method.metric).__name__ == "BiMHM" and method.adapters[0].joint is None
    for name in methods.METHODS:
        for ablation in methods.ABLATIONS[name]:
            methods.build(RunParams(method=name, ablation=ablation), backbone())
    with pytest.raises(UserError, match="ablation 'no_jiont'.*'no_joint'"):
        methods.build(RunParams(method="ma_fsar", ablation="no_jiont"), backbone())
    with pytest.raises(UserError, match="ma_fasr.*'ma_fsar'"):
        methods.build("ma_fasr", backbone())
    with pytest.raises(UserError, match="'ratoi'.*'ratio'"):
        methods.build("ma_fsar", backbone(), ratoi=0.5)
    with pytest.raises(UserError, match="metric 'dtw'"):
        methods.build("ma_fsar", backbone(), metric="dtw")
    with pytest.raises(UserError, match="tpcm must be one of"):
        methods.build("ma_fsar", backbone(), tpcm="sum")
    with pytest.raises(UserError, match="mix_weight must lie between 0 and 1"):
        methods.build("ma_fsar", backbone(), mix_weight=1.5)


def test_another_metric_can_take_the_place_of_the_trained_one():
    method, episodes = make("ma_fsar").eval(), batch()
    before = method(episodes).parts
    method.use_metric("prototype", options={"kind": "cosine"})
    after = method(episodes).parts
    assert not same(before["q2s"], after["q2s"]) and torch.equal(before["q2t"], after["q2t"])


def test_small_functions():
    table = torch.arange(12.0).view(2, 3, 2)
    labels = torch.tensor([[2, 0], [1, 1]])
    assert torch.equal(class_rows(table, labels), torch.stack([table[0, [2, 0]], table[1, [1, 1]]]))
    x, labels = torch.randn(1, 4, 5), torch.tensor([[1, 0, 1, 1]])
    assert same(class_means(x, labels, 2)[0], torch.stack([x[0, 1], x[0, [0, 2, 3]].mean(0)]))
    y = torch.randn(1, 3, 5)
    assert same(cosine(x, y)[0], torch.nn.functional.cosine_similarity(x[0][:, None], y[0][None], dim=-1))
    first, second = torch.randn(2, 4), torch.randn(2, 4)
    mixed = 0.3 * first.softmax(-1) + 0.7 * second.softmax(-1)
    assert same(arithmetic_mix(first, second, 0.3).exp(), mixed)
    assert same(arithmetic_mix(first, second, 0.0), second.log_softmax(-1))
    assert same(arithmetic_mix(first, second, 1.0), first.log_softmax(-1))


@varied
def test_a_method_that_says_so_embeds_a_video_alike_in_both_roles(name, arguments):
    method, clips = make(name, **arguments).eval(), batch().support[0]
    with torch.no_grad():
        support, query = (method.embed(clips, None, role) for role in ("support", "query"))
    alike = support.keys() == query.keys() and all(torch.equal(support[key], query[key]) for key in support)
    assert alike or method.by_role
    assert not (alike and name in ("aim", "frozen_clip") and method.by_role)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sloshnet", {"heads": 8}),
        ("sloshnet", {"cardinalities": 2}),
        ("strm", {"grid": 4}),
        ("hyrsm", {"dropout": 2}),
        ("hyrsm", {"position_a": 0}),
        ("molo", {"position_a": 0}),
        ("gghm", {"heads": 0}),
        ("ma_fsar", {"tpcm_heads": 7}),
        ("aim", {"drop_path": 1}),
    ],
    ids=str,
)
def test_an_option_that_a_method_cannot_take_is_a_sentence(name, options):
    with pytest.raises(UserError, match=next(iter(options))) as refused:
        methods.build(name, backbone(), **options)
    assert "\n" not in str(refused.value)
