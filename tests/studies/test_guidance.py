"""GgHM looked into: hybrid weights, an episode before and after guidance, what changes at test, what is claimed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests import cells
from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.params.by_recipe import GgHMParams, by_recipe
from vidlib.studies import ablations, changed_at_test, claims
from vidlib.studies import few_shot as study
from vidlib.studies import guidance as guiding
from vidlib.training import few_shot
from vidlib.training.evaluate_episodes import evaluate
from vidlib.viz import guidance

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes" / "gghm").glob("*.yaml"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("guiding")
    p = GgHMParams.parse(
        {
            **{"dataset": f"folder:{write_folder(root / 'clips', classes=7, clips=4)}", "beside": "", "way": 2},
            **{
                "backbone": "resnet-mini",
                "pretrained": "resnet-mini",
                "frames": 3,
                "train_episodes": 1,
                "val_episodes": 0,
            },
            **{
                "test_episodes": 6,
                "alpha": 0.3,
                "finetune": "frozen",
                "lr": 4e-3,
                "device": "cpu",
                "runs": str(root / "runs"),
            },
        }
    )
    found = study.run_beside(p)
    return p, few_shot.open_manifest(p), found


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_the_same_run_by_either_notebook(file):
    p = GgHMParams.from_file(file)
    assert p.run_params() == by_recipe("gghm", {"dataset": p.dataset, "shot": p.shot})


def test_parameters_of_the_notebook_are_arguments_of_the_method():
    p = GgHMParams.parse({"alpha": 0.3, "finetune": "frozen", "options": {"gap": 3}})
    assert p.run_params().options == {"finetune": "frozen", "gap": 3, "alpha": 0.3}
    assert p.changed() == {"alpha": 0.3, "finetune": "frozen", "options": {"gap": 3}} and not p.as_recipe
    assert GgHMParams.parse({}).as_recipe and GgHMParams.parse({}).worlds == ("motion", "scene")
    other = p.run_params(dataset="scene", report="val")
    assert (other.dataset, other.options["alpha"], other.lr) == ("scene", 0.3, p.lr)
    for wrong, said in (
        ({"alpha": 2}, "alpha: 2 is not at most 1"),
        ({"alhpa": 1}, "unknown parameter 'alhpa'.*'alpha'"),
        ({"variant": "released"}, "never released"),
        ({"method": "otam"}, "'gghm'"),
    ):
        with pytest.raises(UserError, match=said):
            GgHMParams.parse(wrong)


def test_every_alpha_is_the_same_distances_mixed_anew(small):
    p, manifest, found = small
    run = found["gghm"][0]
    before = run.readings().get("val", 0)
    rows, worlds = guiding.by_alpha(p, [run])
    assert run.readings()["val"] == before + 1 and "test" in run.result
    assert len(rows) == 2 * len(guiding.ALPHAS) and set(rows["weights"]) == {"trained", "untrained"}
    method, val = few_shot.open_trained(run, manifest)
    for alpha in (0.0, 0.3, 1.0):
        method.alpha = alpha
        own = evaluate(method, val.clips, val.sampler, p.test_episodes, val.text, device="cpu")
        line = rows[(rows["weights"] == "trained") & (rows["alpha"] == alpha)]
        assert line["accuracy"].item() == pytest.approx(100 * own.accuracy)
    ends = rows[rows["weights"] == "untrained"].set_index("alpha")["accuracy"]
    untrained = worlds.loc[(p.dataset, "untrained")]
    assert untrained["tuples minus frames"] == pytest.approx(ends[1.0] - ends[0.0])
    assert untrained["best alpha"] == ends.idxmax()
    assert guidance.hybrid(rows, way=p.way) is not None


def test_an_episode_before_guidance_is_the_trained_model_without_it(small):
    p, manifest, found = small
    method, val = few_shot.open_trained(found["gghm"][0], manifest)
    with torch.no_grad():
        method.guidance.out.weight.normal_()
    panels, truth, names = guiding.one_episode(p, manifest, method, val)
    assert list(panels) == ["before guidance", "after guidance", "the query's edges, which guide"]
    assert all(values.shape == (p.way * guiding.SHOWN, p.way) for values in panels.values())
    assert np.bincount(truth).tolist() == [guiding.SHOWN] * p.way and len(names) == p.way
    assert np.allclose(panels["after guidance"].sum(1), 1) and method.guidance is not None
    assert not np.allclose(panels["before guidance"], panels["after guidance"], atol=1e-4)
    method.guidance = None
    plain, *_ = guiding.one_episode(p, manifest, method, val)
    assert list(plain) == ["before guidance", "after guidance"]
    assert np.array_equal(plain["after guidance"], panels["before guidance"])


def test_every_change_at_test_is_a_change(small):
    p, manifest, found = small
    run = found["gghm"][0]
    method, val = few_shot.open_trained(run, manifest)
    changes = changed_at_test.gghm(method)
    assert len(changes) == 9 and {change.kind for change in changes} == {"graph", "dense modelling", "matching"}
    listed = [val.sampler[0]]
    logits = {}
    for change in (changed_at_test.Change("as it is"), *changes):
        altered, val = few_shot.open_trained(run, manifest)
        with torch.no_grad():
            torch.manual_seed(0)
            altered.guidance.out.weight.normal_(std=0.1)
        change.alter(altered)
        features = changed_at_test.evaluate_episodes.embed_videos(altered, val.clips, listed, val.text)
        done = changed_at_test.evaluate_episodes.match_episodes(
            altered, features, val.sampler, listed, val.text, keep_parts=True
        )
        logits[change.label] = done.logits[0]
    same = [label for label, values in logits.items() if np.allclose(values, logits["as it is"], atol=1e-6)]
    assert same == ["as it is"]
    assert len(changed_at_test.table(changed_at_test.run(p, manifest, run, changes[:1], 4), changes)) == 2


def test_ablations_build_and_change_the_run(small):
    p, *_ = small
    base = p.run_params("gghm")
    for change in ablations.ABLATIONS["gghm"]:
        assert change.of(base) != base and few_shot.open_method(change.of(base)).trainable()


def test_claims_hold_are_not_made_or_fail(small, monkeypatch):
    p, manifest, found = small
    worlds = guiding.by_alpha(p, found["gghm"])[1]
    names = {"p": p, "manifest": manifest, "found": found, "best": found["gghm"][0], "worlds": worlds}
    names |= {"claims": claims, "few_shot": few_shot, "torch": torch}
    lines = cells.claims("gghm", **names)
    assert sum(line.startswith("holds") for line in lines) == 4
    assert sum(line.startswith("not claimed here") for line in lines) == 1

    def world(name, gap):
        row = {"world": name, "weights": "trained", "tuples minus frames": gap, "± (paired 95%)": 1.0}
        return pd.DataFrame([row]).set_index(["world", "weights"])

    for name, gap, verdict in (
        ("motion", 3.0, "holds: tuples suit time"),
        ("motion", -3.0, "does not hold: tuples suit time"),
        ("scene", -3.0, "holds: frames suit appearance"),
        ("scene", 3.0, "does not hold: frames suit appearance"),
        ("scene", 0.5, "undecided: frames suit appearance"),
    ):
        (line,) = cells.claims("gghm", "gghm-claims-3", **{**names, "worlds": world(name, gap)})
        assert line.startswith(verdict)
    from vidlib.layers import graph

    monkeypatch.setattr(graph, "initial_edges", lambda way, queries, like: torch.eye(way + queries))
    with pytest.raises(AssertionError):
        cells.claims("gghm", "gghm-33", **names)
