"""TRX against the released code, with its own weights, and against the literal version."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.conftest import golden
from tests.literal import trx as literal
from vidlib.matching.cross_transformer import TRX, incidence, released_state, sinusoids


def _released(cardinalities: tuple[int, ...], state: dict[str, torch.Tensor]) -> TRX:
    state = released_state(state)
    out_dim, joined = state["transformers.0.k_linear.weight"].shape
    metric = TRX(joined // cardinalities[0], out_dim, cardinalities).eval()
    metric.load_state_dict(state)
    return metric


def _golden(*cardinalities: int) -> tuple[TRX, dict[str, torch.Tensor]]:
    """A metric with the released weights of these cardinalities, and the fixture's tensors."""
    meta, t = golden("trx")
    state = {}
    for i, w in enumerate(cardinalities):
        prefix = "card1." if w == 1 else f"transformers.{meta['config']['temp_set'].index(w)}."
        start = f"state.{prefix}"
        state |= {f"transformers.{i}.{k.removeprefix(start)}": x for k, x in t.items() if k.startswith(start)}
    return _released(cardinalities, state), t


def _logits(metric: TRX, t: dict[str, torch.Tensor], episode: str) -> torch.Tensor:
    labels = t[f"input.support_labels_{episode}"]
    support, query = metric.prepare(t[f"input.support_{episode}"][None]), metric.prepare(t["input.query"][None])
    return metric.compare(support, labels[None], query, int(labels.max()) + 1)[0]


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cardinalities", "episode", "output"),
    [
        ((2, 3), "1shot", "logits_1shot"),
        ((2, 3), "5shot", "logits_5shot"),
        ((2,), "1shot", "logits_1shot_card2"),
        ((3,), "1shot", "logits_1shot_card3"),
        ((2,), "5shot", "logits_5shot_card2"),
        ((3,), "5shot", "logits_5shot_card3"),
        ((1,), "5shot", "logits_5shot_card1"),
        ((2,), "3way", "logits_3way_sub"),
    ],
)
def test_golden_logits(cardinalities, episode, output):
    metric, t = _golden(*cardinalities)
    expected = t[f"output.{output}"]
    _close(_logits(metric, t, episode), expected[0] if expected.ndim == 3 else expected)


def test_golden_positions_and_whole_released_state():
    meta, t = golden("trx")
    released = t["state.transformers.0.pe.pe"][0]
    torch.testing.assert_close(sinusoids(*released.shape, like=released), released, rtol=1e-4, atol=1e-6)
    state = {k.removeprefix("state."): x for k, x in t.items() if k.startswith("state.transformers")}
    metric = _released(tuple(meta["config"]["temp_set"]), {"resnet.0.weight": torch.ones(1), **state})
    _close(_logits(metric, t, "1shot"), t["output.logits_1shot"][0])


@pytest.mark.parametrize(("frames", "cardinality"), [(4, 1), (4, 4), (6, 2), (5, 3), (32, 1)])
def test_equals_the_literal_version(frames, cardinality):
    metric = TRX(6, 7, (cardinality,)).eval()
    torch.nn.init.normal_(metric.transformers[0].norm_k.weight)
    weights = {k.removeprefix("transformers.0."): x.detach() for k, x in metric.state_dict().items()}
    support, query, labels = torch.randn(1, 3, frames, 6), torch.randn(1, 2, frames, 6), torch.tensor([[1, 0, 1]])
    logits = metric.compare(metric.prepare(support), labels, metric.prepare(query), 2)[0]
    for q in range(2):
        for c in range(2):
            videos = [support[0, s] for s in range(3) if labels[0, s] == c]
            assert logits[q, c].item() == pytest.approx(
                literal.logit(query[0, q], videos, weights, cardinality), rel=1e-4
            )


def test_rectangular():
    """A support of 8 frames against queries of 5: the same as the literal version says."""
    metric = TRX(4, 5, (2,)).eval()
    weights = {k.removeprefix("transformers.0."): x.detach() for k, x in metric.state_dict().items()}
    support, query = torch.randn(1, 1, 8, 4), torch.randn(1, 1, 5, 4)
    ours = metric.compare(metric.prepare(support), torch.zeros(1, 1, dtype=torch.int64), metric.prepare(query), 1)
    assert ours.item() == pytest.approx(literal.logit(query[0, 0], [support[0, 0]], weights, 2), rel=1e-4)


def _weights(head: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(head.named_parameters())


def _unlike_its_start(metric: TRX) -> TRX:
    """Every weight random, so that no term of the norm is trivial."""
    for parameter in metric.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return metric.eval()


@pytest.mark.parametrize("cardinality", [1, 2, 3])
def test_values_and_gradients_equal_those_of_the_literal_version(cardinality):
    """For frames and for every weight, with 1, 2 and 3 supports in a class, in float64."""
    metric = _unlike_its_start(TRX(5, 6, (cardinality,)).double())
    support, query = (torch.randn(n, 4, 5, dtype=torch.float64, requires_grad=True) for n in (6, 2))
    labels = torch.tensor([2, 0, 1, 1, 2, 2])
    ours = metric.compare(metric.prepare(support[None]), labels[None], metric.prepare(query[None]), 3)[0]
    theirs = literal.logits(support, labels, query, _weights(metric.transformers[0]), cardinality)
    by_tuple = [
        literal.logit(
            query[1].detach(), list(support[labels == c].detach()), metric.transformers[0].state_dict(), cardinality
        )
        for c in range(3)
    ]
    torch.testing.assert_close(theirs[1].detach(), torch.tensor(by_tuple, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs)
    asked = [support, query, *metric.parameters()]
    direction = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad(x, asked, direction) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("still", "offset", "opposite"), [(1e-2, 0, True), (1e-2, 200, False), (1, 30, True)])
def test_no_digit_is_lost_where_products_would_cancel(still, offset, opposite):
    """Frames that hardly change, far from zero, and weights that take differences of frames."""
    metric = TRX(16, 36, (2,)).eval()
    head = metric.transformers[0]
    if opposite:
        with torch.no_grad():
            for linear in (head.k_linear, head.v_linear):
                linear.weight[:, 16:] = -linear.weight[:, :16]
    shared = offset + torch.randn(7, 1, 16)
    support, query = (shared + still * torch.randn(7, 8, 16)).split([5, 2])
    labels = torch.arange(5)
    with torch.no_grad():
        ours = metric.compare(metric.prepare(support[None]), labels[None], metric.prepare(query[None]), 5)[0]
        exact = literal.logits(support.double(), labels, query.double(), _weights(head.double()), 2)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-6)


def test_gradients():
    metric = TRX(3, 4, (1, 2)).double().eval()
    frames = [torch.randn(1, n, 3, 3, dtype=torch.float64, requires_grad=True) for n in (3, 2)]
    labels = torch.tensor([[0, 1, 0]])

    def logits(support, query):
        return metric.compare(metric.prepare(support), labels, metric.prepare(query), 2)

    assert torch.autograd.gradcheck(logits, frames)
    logits(*frames).sum().backward()
    untouched = [name for name, p in metric.named_parameters() if p.grad is None]
    assert untouched == []


def test_dropout_in_training_only():
    metric, frames = TRX(6, 8), torch.randn(2, 8, 6)
    once, again = metric.prepare(frames)["key2"], metric.prepare(frames)["key2"]
    assert not torch.equal(once, again)
    metric.eval()
    assert torch.equal(metric.prepare(frames)["key2"], metric.prepare(frames)["key2"])


def test_released_width():
    assert TRX(2048).transformers[0].k_linear.weight.shape == (1152, 4096)
    assert TRX(512).transformers[1].v_linear.weight.shape == (1152, 1536)


@pytest.mark.parametrize("wrong", [(), (0, 2), (2, 2)])
def test_refuses_strange_cardinalities(wrong):
    with pytest.raises(ValueError, match="cardinalities"):
        TRX(8, cardinalities=wrong)


def test_refuses_videos_shorter_than_a_tuple():
    with pytest.raises(ValueError, match="at least 3 frames, not 2"):
        TRX(8).prepare(torch.randn(1, 2, 8))


def test_tables_serve_every_mode_whatever_came_first():
    like = torch.zeros(1)
    with torch.inference_mode():
        first = incidence(7, 2, like), sinusoids(7, 10, like)
    assert not any(table.is_inference() for table in first)
    with FakeTensorMode():
        assert incidence(9, 2, torch.zeros(1)).shape == (36, 18)
    assert incidence(9, 2, like).sum() == 72
