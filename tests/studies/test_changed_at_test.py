"""A trained SloshNet changed at test, on videos that the test writes."""

import numpy as np
import pytest
import torch

from tests import cells
from tests.methods.small import make
from vidlib.methods.sloshnet import SloshNet
from vidlib.params.by_recipe import SloshNetParams, frozen
from vidlib.params.few_shot import RunParams
from vidlib.results.intervals import half_width
from vidlib.studies import changed_at_test, claims, tables
from vidlib.training import few_shot
from vidlib.training.evaluate_episodes import evaluate
from vidlib.viz import architecture_search


@pytest.fixture(scope="module")
def done(sloshnet):
    """The run of a SloshNet, all its changes, and what came of them."""
    p, manifest, run = sloshnet
    changes = changed_at_test.sloshnet(few_shot.open_trained(run, manifest)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed_at_test, "WHOLE", 3)
        return p, manifest, run, changes, changed_at_test.run(p, manifest, run, changes, episodes=8)


def test_every_change_is_alone_and_on_val(done):
    p, manifest, run, changes, found = done
    method, val = few_shot.open_trained(run, manifest)
    plain = evaluate(method, val.clips, val.sampler, 8, val.text, device="cpu")
    assert np.array_equal(plain.per_trial, found[changed_at_test.AS_TRAINED].per_trial)
    method.short_term = None
    without = evaluate(method, val.clips, val.sampler, 8, val.text, device="cpu")
    assert np.array_equal(without.per_trial, found["without the short-term module"].per_trial)
    assert {result.split for result in found.values()} == {"val"} and run.readings()["val"] == 1
    assert list(found) == [changed_at_test.AS_TRAINED, *(change.label for change in changes)] and len(changes) == 11


def test_what_embeds_every_episode_anew_meets_fewer_and_is_compared_on_those(done):
    *_, changes, found = done
    table = changed_at_test.table(found, changes)
    mixed, full = found["with the defect mixes_videos"], found[changed_at_test.AS_TRAINED]
    assert mixed.how == "each episode" and len(mixed.per_trial) == 3
    assert len(found["random frames of supports"].per_trial) == 3
    gap = mixed.per_trial - full.per_trial[:3]
    row = table.loc["with the defect mixes_videos"]
    assert row["difference"] == pytest.approx(100 * gap.mean()) and row["episodes"] == 3
    assert row["half"] == pytest.approx(100 * half_width(gap))
    assert np.isnan(table.loc[changed_at_test.AS_TRAINED, "difference"])
    assert table["what"].value_counts().to_dict() == {"fusion": 5, "released code": 4, "temporal module": 2, "": 1}


def test_each_change_does_what_it_says():
    def changed(label: str, **arguments) -> SloshNet:
        method = make("sloshnet", **arguments)
        {change.label: change for change in changed_at_test.sloshnet(method)}[label].alter(method)
        return method

    operations = changed("only GP2, on every edge").fusion.weights()[0]
    assert torch.allclose(operations, torch.tensor([[0.0, 1.0, 0.0]]).expand(6, 3))
    assert torch.allclose(changed("every operation a third").fusion.weights()[0], torch.full((6, 3), 1 / 3))
    assert torch.allclose(changed("the deepest map alone").fusion.weights()[1], torch.eye(5)[4])
    assert changed("without the long-term module").long_term is None
    assert changed("with the defect scrambles_time").defects == {"scrambles_time"}
    rest = changed("without the defect mixes_videos", variant="released").defects
    assert rest == {"scrambles_time", "leaves_betas"}
    labels = [change.label for change in changed_at_test.sloshnet(make("sloshnet", fusion="last", long_term=False))]
    assert labels[0] == "without the short-term module" and len(labels) == 3


def test_the_drawing_leaves_out_what_nothing_is_compared_with(done):
    *_, changes, found = done
    table = changed_at_test.table(found, changes)
    rows = tables.drawn(table, "test")
    assert list(rows["name"]) == [change.label for change in changes] and (rows["kind"] == "test").all()
    assert np.allclose(rows["high"] - rows["delta"], table["half"].iloc[1:]) and (rows["low"] <= rows["delta"]).all()


def test_claims_say_what_the_weights_show(done, monkeypatch):
    p, manifest, run, changes, found = done
    table = changed_at_test.table(found, changes)

    def said(best=run, **given) -> list[str]:
        notebook = SloshNetParams.parse({"fusion": "search", "frames": 2, **given})
        names = {"p": notebook, "manifest": manifest, "best": best, "changed": table, "claims": claims}
        names |= {"few_shot": few_shot, "trained": few_shot.trained_method(best)[1], "torch": torch}
        names |= {"found": {"sloshnet": [best], "frozen": [floor]}, "architecture_search": architecture_search}
        return cells.claims("sloshnet", **names)

    floor = few_shot.run(frozen(p.model_copy(update={"pretrained": "resnet-mini"})))
    lines = said()
    assert [line.split(":")[0] for line in lines[:6]] == ["holds"] * 4 + ["not claimed here"] * 2
    assert "sees the order" in lines[2] and "other queries" in lines[3]
    assert "the largest change is" in lines[4], "not as the recipe says"
    worth = -table.loc["without the long-term module", "difference"]
    assert f"the long-term module: it is worth {worth:+.1f}" in lines[6] and len(lines) == 8
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="whole_episode"):
        patch.setattr(SloshNet, "whole_episode", True)
        said()
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="the search moved"):
        patch.setattr(SloshNetParams, "as_recipe", True)
        said(dataset="scene")  # one step moves it by less
    mixing = RunParams.parse({**p.model_dump(), "variant": "released"})
    assert said(few_shot.run(mixing))[3].startswith("does not hold here")
