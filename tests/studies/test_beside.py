"""The door to every method: a method beside itself untrained and frozen features, its words, its claims."""

import dataclasses

import pytest
import torch

from tests.data.small import write_folder
from vidlib.matching.otam import OTAM
from vidlib.methods import METHODS
from vidlib.methods.protonet import ProtoNet
from vidlib.params.by_recipe import FewShotNotebookParams
from vidlib.studies import claims
from vidlib.studies import few_shot as study
from vidlib.training import few_shot


def _params(root, **given):
    size = {"way": 2, "frames": 3, "train_episodes": 1, "val_episodes": 1, "val_every": 1, "test_episodes": 4}
    where = {"dataset": f"folder:{root / 'clips'}", "runs": str(root / "runs"), "device": "cpu"}
    return FewShotNotebookParams.parse({**size, **where, "backbone": "clip-mini", "pretrained": "clip-mini", **given})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("door")
    write_folder(root / "clips", classes=7, clips=3)
    p = _params(root, method="otam", compare="protonet", seeds=2)
    return root, p, few_shot.open_manifest(p), study.run_beside(p)


def test_a_method_stands_beside_others_itself_untrained_and_frozen_features(small):
    _, p, _, found = small
    assert list(found) == ["otam", "protonet", "untrained", "frozen"]
    assert [run.result["fit"] is None for run in (same[0] for same in found.values())] == [False, False, True, True]
    table = study.result_table(found)
    assert list(table.index) == ["OTAM", "ProtoNet", "itself, untrained", "frozen features"]
    assert study.differences(found, "otam")["OTAM minus"].tolist()[::2] == list(table.index[1:])
    assert found["untrained"][0].params["method"] == "otam" and found["untrained"][0].params["lr"] == 1e-3


def test_description_says_how_each_was_evaluated_and_repeats_what_was_given(small, capsys):
    _, p, manifest, found = small
    study.describe(p, manifest, found, "otam", "few_shot")
    said = capsys.readouterr().out
    assert said.count("evaluated by way of: embed once") == 4
    command = said.split("Command: ")[1]
    assert "notebooks/few_shot.ipynb" in command and "-p compare protonet" in command and "-p frames 3" in command
    assert "-p method otam" in command and "-p shot" not in command, "what is the default is not repeated"


def test_every_method_says_what_it_is_and_what_its_arguments_are():
    for name in METHODS:
        p = FewShotNotebookParams.parse({"method": name, "backbone": "clip-mini", "pretrained": "clip-mini"})
        assert len(study.about(name)) > 200
        table = study.arguments(p.run_params())
        assert {"frames", "variant"} <= set(table.index)
        assert set(study.published_of(name)["protocol"]) <= {"5-way 1-shot", "5-way 5-shot"}
    changed = FewShotNotebookParams.parse({"method": "trx", "options": {"cardinalities": [2]}}).run_params()
    assert study.arguments(changed).loc["cardinalities"].tolist() == ["[2]", "(2, 3)"]


def test_claims_hold_for_one_that_sees_order_and_one_that_does_not(small):
    root, p, manifest, found = small
    lines = list(claims.few_shot(p, manifest, found))
    assert [line.split()[0] for line in lines] == ["holds:", "holds:", "holds:", "not"]
    assert "sees the order" in lines[2]
    blind = _params(root, method="protonet")
    lines = list(claims.few_shot(blind, manifest, {**found, "protonet": found["protonet"]}))
    assert "plays no part" in lines[2]


def test_the_claim_about_order_can_fail(small, monkeypatch):
    root, p, manifest, found = small
    honest = OTAM.prepare
    monkeypatch.setattr(OTAM, "prepare", lambda self, x: honest(self, x.mean(-2, keepdim=True).expand_as(x)))
    with pytest.raises(AssertionError, match="should see the order"):
        list(claims._order(p, manifest, found["otam"][0]))
    weight = torch.tensor([3.0, 1.0, 1.0])[:, None]
    monkeypatch.setattr(
        ProtoNet, "frame_features", lambda self, clips: super(ProtoNet, self).frame_features(clips) * weight
    )
    with pytest.raises(AssertionError, match="should not see the order"):
        list(claims._order(_params(root, method="protonet"), manifest, found["protonet"][0]))


def test_the_claim_that_it_learns_can_fail(small, monkeypatch):
    _, p, _, found = small
    monkeypatch.setattr(FewShotNotebookParams, "as_recipe", True)
    monkeypatch.setattr(claims, "LEARNED", {"otam": "motion"})
    world = p.model_copy(update={"dataset": "motion"})
    better, worse = study.tested(found["otam"][0]), study.tested(found["otam"][0])
    better = dataclasses.replace(better, per_trial=better.per_trial * 0 + 1.0)
    worse = dataclasses.replace(worse, per_trial=worse.per_trial * 0 + 0.25)
    order = iter([better, worse] * 2)
    monkeypatch.setattr(claims.study, "tested", lambda run: next(order))
    (line,) = claims.learns(world, found)
    assert line.startswith("holds") and "+75.0, +75.0 points, seeds: 2" in line
    order = iter([worse, better] * 2)
    with pytest.raises(AssertionError, match="the intervals overlap"):
        list(claims.learns(world, found))
    order = iter([worse, better] * 2)
    (line,) = claims.learns(p, found)
    assert line.startswith("not claimed here") and "as it came out: -75.0, -75.0 points" in line, "on other data"


def test_the_order_of_frames_is_nothing_to_a_baseline(small):
    root, p, manifest, _ = small
    for name in ("simple_shot", "logistic_regression"):
        alone = _params(root, method=name)
        run = few_shot.run(alone.run_params(), manifest)
        (line,) = claims._order(alone, manifest, run)
        assert line.startswith("holds: the order of a query's frames plays no part")
