"""The baselines on pooled frozen features, one number at a time."""

import pytest
import torch
from torch.nn import functional as F

from tests.methods.small import BASELINES, WAY, backbone, batch, make, same
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.testing import check_method

SHOTS = (2, 1, 3)


def literal(name: str, method, query, supports, labels, text) -> list[torch.Tensor]:
    """The logits of one query ``[C]`` against supports ``[C]`` of ``labels`` and texts, class by class."""
    scale, logits = method.backbone.logit_scale, []
    means = [torch.stack([s for s, y in zip(supports, labels, strict=True) if y == c]).mean(0) for c in range(WAY)]
    centre = torch.stack(means).mean(0)
    for c in range(WAY):
        own = [s for s, y in zip(supports, labels, strict=True) if y == c]
        if name == "simple_shot":
            mean = torch.stack([(s - centre) / (s - centre).norm() for s in own]).mean(0)
            logits.append(-method.scale * (((query - centre) / (query - centre).norm() - mean) ** 2).sum())
            continue
        logit = scale * F.cosine_similarity(query, text[c], dim=0)
        if name == "tip_adapter":
            for s in own:
                logit = logit + method.alpha * torch.exp(-method.beta * (1 - F.cosine_similarity(query, s, dim=0)))
        logits.append(logit)
    return logits


@pytest.mark.parametrize("name", ["zero_shot_clip", "simple_shot", "tip_adapter"])
def test_logits_are_the_formulas(name):
    method, episodes = make(name).eval(), batch(shots=SHOTS)
    with torch.no_grad():
        found = method(episodes).logits
        pooled = [[method.backbone.encode_image(clip).mean(0) for clip in clips] for clips in episodes.support]
        for e, (supports, labels) in enumerate(zip(pooled, episodes.support_labels, strict=True)):
            for q, clip in enumerate(episodes.query[e]):
                asked = method.backbone.encode_image(clip).mean(0)
                expected = literal(name, method, asked, supports, labels.tolist(), episodes.text[e])
                assert same(found[e, q], torch.stack(expected), 1e-4)


def test_logistic_regression_is_at_its_optimum():
    method, episodes = make("logistic_regression", strength=10.0).eval(), batch(episodes=1, shots=SHOTS)
    with torch.no_grad():
        rows = F.normalize(method.embed(episodes.support[0], None, "support")["pooled"], dim=-1)
        asked = F.normalize(method.embed(episodes.query[0], None, "query")["pooled"], dim=-1)
        found = method(episodes).logits[0]
    w, b = torch.zeros(16, WAY, dtype=torch.float64, requires_grad=True), torch.zeros(WAY, dtype=torch.float64)
    search = torch.optim.LBFGS(
        [w, b.requires_grad_()], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        labels = episodes.support_labels[0]
        total = 10 * F.cross_entropy(rows.double() @ w + b, labels, reduction="sum") + w.square().sum() / 2
        total.backward()
        return total

    search.step(loss)
    expected = (asked.double() @ w + b).detach()
    assert same(found.double().softmax(-1), expected.softmax(-1), 1e-4)


def test_zero_shot_looks_at_no_support():
    method, episodes = make("zero_shot_clip").eval(), batch()
    before = method(episodes).logits
    episodes.support = torch.randn_like(episodes.support)
    assert torch.equal(before, method(episodes).logits)


@pytest.mark.parametrize("name", BASELINES)
def test_the_contract_holds_and_the_order_of_frames_plays_no_part(name):
    assert set(check_method(name)["holds"]) == {"yes"}
    method, episodes = make(name).eval(), batch()
    turned = method(batch()).logits
    episodes.query = episodes.query.flip(2)
    assert same(method(episodes).logits, turned, 1e-4)


@pytest.mark.parametrize("name", ["simple_shot", "logistic_regression"])
def test_a_resnet_serves_where_no_text_is_read(name):
    assert set(check_method(name, "resnet-mini", only=["shapes", "shots and ways"])["holds"]) == {"yes"}


def test_numbers_that_cannot_be_are_refused():
    wrong = {"simple_shot": {"scale": 0}, "logistic_regression": {"strength": -1}, "tip_adapter": {"beta": 0}}
    for name, given in wrong.items():
        with pytest.raises(UserError, match="must be above 0"):
            methods.build(name, backbone(), **given)


@pytest.mark.parametrize("name", BASELINES)
def test_logits_keep_their_digits_under_autocast(name):
    method, episodes = make(name).eval(), batch(shots=SHOTS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        support, query = (method.embed(c.flatten(0, 1), None, "query") for c in (episodes.support, episodes.query))
        pairs = [{n: v.bfloat16().unflatten(0, (2, -1)) for n, v in each.items()} for each in (support, query)]
        logits = method.match(pairs[0], episodes.support_labels, pairs[1], episodes.text).logits
    assert logits.dtype == torch.float32 and not torch.equal(logits, logits.bfloat16().float())
