"""HyRSM against its released code and against its equations written out; the pieces it is cut into."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import close, golden
from tests.literal import hyrsm as literal
from tests.methods.small import FRAMES, WAY, backbone, batch, make, same
from vidlib import backbones, methods
from vidlib.basics.errors import UserError
from vidlib.layers.positions import sinusoids
from vidlib.matching import base
from vidlib.methods import hyrsm


def released(shot: int):
    """The golden head, and its features of supports and queries as an episode."""
    meta, tensors = golden("bimhm")
    config = meta["config"]
    sizes = {"frames": config["frames"], "heads": config["heads"], "classes": config["NUM_CLASS"]}
    scales = {"position_a": config["position_A"], "position_b": config["position_B"]}
    width = tensors["input.query"].shape[-1]
    method = methods.build("hyrsm", Wide(width), variant="released", prototype_first=shot == 5, **sizes, **scales)
    method.load_released({k.removeprefix("state.hyrsm."): v for k, v in tensors.items() if k.startswith("state.")})
    method.eval()
    with torch.no_grad():
        support, query = (method.embed_frames(tensors[f"input.{n}"]) for n in (f"support_{shot}shot", "query"))
    return method, support, query, tensors


class Wide(torch.nn.Module):
    """A backbone of which only the width is asked."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_dim = width

    def unfreeze(self) -> None:
        pass


def as_episode(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value[None] for name, value in features.items()}


@pytest.mark.parametrize("shot", [1, 5])
def test_golden_logits_of_both_heads(shot):
    method, support, query, tensors = released(shot)
    labels = tensors[f"input.support_labels_{shot}shot"]
    with torch.no_grad():
        match = method.match(as_episode(support), labels[None], as_episode(query), torch.empty(1, 5, 0))
    assert close(match.logits[0], tensors[f"output.hyrsm_{shot}shot_logits"])
    classes = torch.cat([support["classes"], query["classes"]]).flatten(0, 1)
    assert close(classes, tensors[f"output.hyrsm_{shot}shot_class_logits"])


@pytest.mark.parametrize("shot", [1, 5])
def test_golden_frames_are_own_part_and_gain(shot):
    method, support, query, tensors = released(shot)
    labels = tensors[f"input.support_labels_{shot}shot"]
    if shot == 5:
        support = {k: torch.stack([v[labels == c].mean(0) for c in range(5)]) for k, v in support.items()}
    with torch.no_grad():
        gain = method.inter.related(as_episode(support), as_episode(query))[0]
    supports = support["frames"][None] + gain[:, :-1, None]
    assert close(supports, tensors[f"output.hyrsm_{shot}shot_support_feats"])
    assert close(query["frames"] + gain[:, -1, None], tensors[f"output.hyrsm_{shot}shot_query_feats"])


def test_golden_positions_are_not_the_usual_ones():
    table = golden("bimhm")[1]["state.hyrsm.pe.pe"][0]
    assert close(sinusoids(*table.shape, False, table), table)
    usual = sinusoids(*table.shape, True, table)
    assert not close(usual, table)
    for channel in (0, 1, 6, 7):
        wave = math.sin if channel % 2 == 0 else math.cos
        rate = 10000 ** -(2 * (channel // 2) / table.shape[1])
        assert usual[5, channel].item() == pytest.approx(wave(5 * rate), abs=1e-6)


def relation(width: int, heads: int, mean: bool = True, seed: int = 0) -> hyrsm.InterRelation:
    torch.manual_seed(seed)
    module = hyrsm.InterRelation(width, heads, 0.0, 0.0, mean).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("prototype_first", [True, False])
@pytest.mark.parametrize(("shots", "heads"), [((1, 1), 1), ((3, 1, 2), 4), ((2,) * 5, 8)])
def test_equals_the_literal_head(shots, heads, prototype_first):
    method = make("hyrsm", heads=heads, prototype_first=prototype_first).eval()
    frames = torch.randn(2 + sum(shots) + 3, FRAMES, 16)
    labels = torch.tensor([c for c, k in enumerate(shots) for _ in range(k)])[torch.randperm(sum(shots))]
    features = method.embed_frames(frames)
    support, query = ({k: v[at][None] for k, v in features.items()} for at in (slice(5, None), slice(5)))
    logits = method.match(support, labels[None], query, torch.empty(1, len(shots), 0)).logits[0]
    placed = frames * math.sqrt(1.6) + sinusoids(FRAMES, 16, True, frames)
    related = torch.stack([literal.intra_relation(x, method.intra.state_dict(), heads) for x in placed])
    wanted = literal.logits(
        related[5:], labels, related[:5], method.inter.state_dict(), heads, prototype_first, mean=True
    )
    assert same(logits, wanted, 1e-4)


def test_equals_the_literal_head_at_512_channels():
    module, videos = relation(512, 8, mean=False), torch.randn(9, 8, 512).relu()
    features = module.prepare(videos)
    support, query = ({k: v[at][None] for k, v in features.items()} for at in (slice(5), slice(5, None)))
    with torch.no_grad():
        found = -module.compare(support, query)[0]
        wanted = literal.logits(videos[:5], torch.arange(5), videos[5:], module.state_dict(), 8, False, False)
    assert (found - wanted).abs().max() < 1e-4


def test_pieces_of_any_size_give_the_same_logits(monkeypatch):
    method, whole = make("hyrsm").eval(), batch(episodes=6, queries=7)
    logits = method(whole).logits
    calls = []
    monkeypatch.setattr(
        method.inter, "compare", lambda *x: calls.append(1) or hyrsm.InterRelation.compare(method.inter, *x)
    )
    for chunk, pieces in ((4 * 16, 6 * 7), (2 * 4 * 16, 6 * 4), (2 * 7 * 4 * 16, 3), (1 << 20, 1)):
        calls.clear()
        monkeypatch.setattr(base, "CHUNK", chunk)
        assert same(method(whole).logits, logits) and len(calls) == pieces


def test_a_gain_that_cancels_the_frames_leaves_distances_finite():
    module = relation(16, 4, mean=False)
    with torch.no_grad():
        module.expand.weight.zero_()
        module.expand.bias.zero_()
    features = {k: v[None] for k, v in module.prepare(torch.randn(3, 5, 16)).items()}
    assert torch.equal(module.compare(features, features), torch.full((1, 3, 3), 10.0))  # no cosine at all
    gone = module.prepare(torch.randn(3, 5, 16))
    gone["frames"] = torch.randn(3, 1, 16).expand(3, 5, 16) * 1e3
    gone["squares"] = hyrsm.squares(gone["frames"])
    gone = {k: v[None] for k, v in gone.items()}
    module.related = lambda support, query: torch.cat([-support["frames"][:, :, 0], -query["frames"][:, :1, 0]], 1)[
        :, None
    ].expand(1, 3, 4, 16)
    found = module.compare(gone, gone)
    assert torch.isfinite(found).all() and found.abs().max() <= 20 + 1e-3


def test_one_support_a_class_is_the_same_for_both_heads_and_more_are_not():
    for shots, alike in (((1, 1, 1), True), ((2, 1, 3), False)):
        first, last = (make("hyrsm", prototype_first=p).eval()(batch(shots=shots)).logits for p in (True, False))
        assert same(first, last) == alike


def test_variants_differ_by_positions_and_by_the_mean():
    paper, code = (make("hyrsm", variant=v, position_b=0.0).eval()(batch()).logits for v in ("paper", "released"))
    assert same(FRAMES * paper, code, 1e-4)
    paper, code = (make("hyrsm", variant=v).eval()(batch()).logits for v in ("paper", "released"))
    assert not same(FRAMES * paper, code, 1e-4)
    scaled = make("hyrsm", metric_scale=FRAMES).eval()(batch()).logits
    assert same(scaled, FRAMES * paper, 1e-4)


def test_parameters_on_resnet50_are_as_published():
    with torch.device("meta"):
        method = methods.build("hyrsm", backbones.load("resnet50", ""), classes=64)
    assert sum(p.numel() for p in method.parameters()) == 65_596_544  # 65.6M with the head


def test_the_class_loss_is_a_cross_entropy_of_every_frame():
    episodes, method = batch(episodes=1, shots=(2, 1, 1)), make("hyrsm", classes=6, class_loss_weight=0.5).train()
    match = method(episodes)
    targets, total = episodes.targets, []
    for clips, labels in ((episodes.support, episodes.support_labels), (episodes.query, targets.query_labels)):
        found = method.embed(clips[0], None, "query")["classes"]
        for video, label in zip(found, labels[0], strict=True):
            total += [F.cross_entropy(frame, targets.class_ids[0, label]) for frame in video]
    assert same(match.losses["class"], 0.5 * torch.stack(total).mean())
    match.loss.backward()
    assert method.class_head.weight.grad.abs().sum() > 0
    assert "class" not in make("hyrsm", classes=6, class_loss_weight=0.0)(episodes).losses


def test_coherence_as_written():
    frames, (window, balance, coefficient) = torch.randn(2, 6, 16), (2, 3.0, 10.0)
    for video, found in zip(frames, hyrsm.coherence(frames, window, balance, coefficient), strict=True):
        total = 0.0
        for i in range(6):
            for j in range(6):
                d, apart = 1 - F.cosine_similarity(video[i], video[j], dim=0), abs(i - j)
                target = 1 - math.exp(-((apart - window) ** 2) / balance)
                total += d / (apart**2 + 1) if apart <= window else coefficient * max(target - d, 0)
        assert found.item() == pytest.approx(float(total) / 36, rel=1e-4)
    with_term, without = (make("hyrsm", coherence_weight=w)(batch()) for w in (0.2, 0.0))
    assert same(with_term.loss - without.loss, with_term.losses["coherence"]) and "coherence" not in without.losses


def test_without_relations_it_is_bimhm_on_frames():
    plain = make("hyrsm", inter=False, intra=False, position_b=0.0).eval()
    bimhm = make("bimhm").eval()
    assert plain.inter is None and plain.intra is None
    clips = batch().support[0]
    assert same(plain.embed(clips, None, "query")["frames"], bimhm.frame_features(clips) * math.sqrt(1.6))


def test_dropout_is_there_in_training_alone():
    for name in ("position_dropout", "dropout", "weights_dropout", "out_dropout"):
        method, episodes = make("hyrsm", **{name: 0.5}), batch()
        still = make("hyrsm").eval()(episodes).logits
        assert torch.equal(method.eval()(episodes).logits, still)
        assert not same(method.train()(episodes).logits, still)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UserError, match="heads must divide.*16.*got 3"):
        methods.build("hyrsm", backbone(), frames=FRAMES, heads=3)
    assert make("hyrsm", heads=2)(batch()).logits.shape == (2, 4, WAY)
