"""TRX: the method's logits from frames on with the released weights, its variants, its sense of order."""

import dataclasses

import pytest
import torch

from tests.conftest import golden
from tests.literal import trx as literal
from tests.methods.small import batch, make, resnet, same
from vidlib import methods
from vidlib.backbones import resnet as resnets
from vidlib.basics.errors import UserError


def released():
    """The method with the fixture's weights, and the fixture's tensors; frames go in, the trunk is not used."""
    meta, t = golden("trx")
    state = {k.removeprefix("state."): x for k, x in t.items() if k.startswith("state.transformers")}
    config, backbone = meta["config"], resnet()
    backbone.embed_dim = t["input.query"].shape[-1]
    out_dim = state["transformers.0.k_linear.weight"].shape[0]
    sizes = {"cardinalities": config["temp_set"], "out_dim": out_dim, "frames": t["input.query"].shape[1]}
    method = methods.build("trx", backbone, variant="released", **sizes).eval()
    method.load_released(state)
    return method, t


@pytest.mark.parametrize("shot", [1, 5])
def test_golden_logits_from_frames_on(shot):
    method, t = released()
    labels = t[f"input.support_labels_{shot}shot"][None]
    support, query = (method.metric.prepare(t[f"input.{x}"][None]) for x in (f"support_{shot}shot", "query"))
    way = int(labels.max()) + 1
    logits = method.match(support, labels, query, torch.empty(1, way, 0)).logits
    torch.testing.assert_close(logits, t[f"output.logits_{shot}shot"], rtol=1e-4, atol=1e-5)


def test_paper_sums_over_cardinalities_what_released_averages():
    episodes = batch(shots=(2, 1, 1))
    paper, code = (make("trx", variant=v, metric_scale=0.7).eval()(episodes).logits for v in ("paper", "released"))
    assert same(paper, 2 * code)
    assert torch.equal(make("trx", combine="mean", metric_scale=0.7).eval()(episodes).logits, code)
    assert [(name, value) for name, value, _ in make("trx").unsettled()] == [("combine", "sum")]


def test_paper_equals_the_literal_version_from_clips_on():
    method, episodes = make("trx", cardinalities=(1, 2)).eval(), batch(episodes=1, shots=(2, 1, 1), queries=2)
    with torch.no_grad():
        support, query = (method.frame_features(x[0]) for x in (episodes.support, episodes.query))
        logits = method(episodes).logits[0]
    heads = {w: method.metric.transformers[i].state_dict() for i, w in enumerate((1, 2))}
    for q in range(2):
        for c in range(3):
            videos = list(support[episodes.support_labels[0] == c])
            expected = sum(literal.logit(query[q], videos, weights, w) for w, weights in heads.items())
            assert logits[q, c].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cardinalities", [(1,), (3,), (1, 2, 3)])
def test_any_set_of_cardinalities(cardinalities):
    match = make("trx", cardinalities=cardinalities)(batch())
    match.loss.backward()
    assert torch.isfinite(match.logits).all()


def test_the_order_of_a_querys_frames_matters():
    method, episodes = make("trx").eval(), batch()
    backwards = dataclasses.replace(episodes, query=episodes.query.flip(2))
    assert not same(method(episodes).logits, method(backwards).logits, 1e-3)


def test_impossible_tuples_are_refused():
    with pytest.raises(UserError, match="cardinality 4 needs at least 4"):
        make("trx", cardinalities=(4,))
    with pytest.raises(UserError, match="cannot be built"):
        make("trx", cardinalities=2)
    with pytest.raises(UserError, match="combine must be one of"):
        make("trx", combine="max")


def test_parameters_with_resnet50():
    """The paper's sizes: a trunk of 23.51 M, heads of 23.61 M, norms of the values included there and not here."""
    with torch.device("meta"):
        method = methods.build("trx", resnets.load("resnet50", ""))
    assert sum(p.numel() for p in method.backbone.parameters()) == 23_508_032
    heads = sum(p.numel() for p in method.metric.parameters())
    assert heads == sum(2 * (2048 * w * 1152 + 1152) + 2 * 1152 for w in (2, 3))
    assert round((heads + 2 * 2 * 1152) / 1e6, 2) == 23.61
