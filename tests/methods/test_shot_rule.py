"""What is averaged over K supports is one parameter for all methods that stand side by side."""

import pytest
import torch

from tests.methods.small import batch, make
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.methods.base import class_means
from vidlib.params.by_recipe import ComparisonParams, FewShotNotebookParams, frozen
from vidlib.params.few_shot import MAFSARParams, RunParams

CHOOSES = [name for name, kind in methods.METHODS.items() if kind.shot_rules]


def built(name: str, rule: str):
    return make(name, **methods.METHODS[name].shot_rules[rule]).eval()


@pytest.mark.parametrize("name", CHOOSES)
def test_one_support_is_the_same_under_both_rules_and_more_are_not(name):
    torch.manual_seed(0)
    first, other = built(name, "frames"), built(name, "distances")
    other.load_state_dict(first.state_dict())
    one, three = batch(shots=(1, 1, 1)), batch(shots=(3, 3, 3))
    assert torch.equal(first(one).logits, other(one).logits)
    assert not torch.allclose(first(three).logits, other(three).logits, atol=1e-6)


@pytest.mark.parametrize("name", ["aim", "frozen_clip", "ma_fsar"])
@pytest.mark.parametrize("metric", ["otam", "bimhm", "trx", "cosine"])
def test_frames_are_averaged_before_the_metric_sees_them(name, metric):
    method = make(name, metric=metric, **methods.METHODS[name].shot_rules["frames"]).eval()
    episodes = batch(episodes=1, shots=(2, 1, 3))
    support = method.embed(episodes.support[0], None, "support")
    query = method.embed(episodes.query[0], None, "query")
    given = [{key: value[None] for key, value in features.items()} for features in (support, query)]
    match = method.match(given[0], episodes.support_labels, given[1], episodes.text)
    means = class_means(given[0]["frames"], episodes.support_labels, 3)
    frames = method.metric.prepare(means)
    query = {key.removeprefix("metric."): value for key, value in given[1].items() if key.startswith("metric.")}
    expected = method.metric.compare(frames, torch.arange(3)[None], query, 3)
    assert torch.equal(match.parts["q2s"], expected)


def test_beside_ma_fsar_its_own_rule_is_everybodys():
    beside = ("ma_fsar", "aim", "frozen_clip")
    for options, rule in (({}, "frames"), ({"shots": "distance"}, "distances")):
        p = MAFSARParams.parse({"shot": 5, "options": options})
        assert {methods.shot_rule(p.run_params(name)) for name in beside} == {rule}


@pytest.mark.parametrize("rule", ["frames", "distances"])
def test_the_rule_of_a_study_is_that_of_every_method_in_it(rule):
    p = MAFSARParams.parse({"shot": 5, "shot_rule": rule})
    assert {methods.shot_rule(p.run_params(name)) for name in ("ma_fsar", "aim", "frozen_clip", "clip_fsar")} == {rule}
    several = ComparisonParams.parse({"shot": 5, "shot_rule": rule})
    beside = {name: methods.shot_rule(several.run_params(name)) for name in several.compared}
    assert beside == {name: rule if name in CHOOSES else "" for name in beside}
    one = FewShotNotebookParams.parse({"method": "otam", "shot": 5, "shot_rule": rule, "compare": "bimhm"})
    assert methods.shot_rule(one.run_params("bimhm")) == methods.shot_rule(frozen(one.run_params())) == rule


def test_left_alone_each_method_has_its_papers_rule():
    own = {name: methods.shot_rule(RunParams(method=name)) for name in CHOOSES}
    frames = {"ma_fsar", "clip_fsar", "hyrsm"}
    assert own == {name: "frames" if name in frames else "distances" for name in CHOOSES}
    with pytest.raises(UserError, match="'shots' follows from shot_rule frames"):
        methods.arguments(RunParams(shot_rule="frames", options={"shots": "distance"}))
    assert methods.shot_rule(RunParams(options={"shots": "distance"})) == "distances"
