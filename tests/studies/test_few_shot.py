"""A whole small study on videos that the test writes: runs, tables, ablations, maps, claims."""

import json
import types

import numpy as np
import pytest

from tests import cells
from tests.data.small import write_folder
from vidlib.backbones import clip, resnet
from vidlib.matching import METRIC_SCALES, METRICS
from vidlib.params.by_recipe import BASELINES, FewShotNotebookParams
from vidlib.params.few_shot import MAFSARParams
from vidlib.results.accuracy import paired
from vidlib.results.intervals import half_width
from vidlib.studies import ablations, claims, tables
from vidlib.studies import few_shot as study
from vidlib.training import few_shot, side_by_side
from vidlib.training.evaluate_episodes import evaluate
from vidlib.viz import ablation

RESULTS = "ma-fsar-claims-2"  # the cell of the claims about accuracy


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    p = MAFSARParams(
        dataset=f"folder:{write_folder(root / 'clips', classes=7, clips=3)}",
        pretrained="",
        way=2,
        frames=2,
        train_episodes=2,
        val_episodes=2,
        val_every=2,
        test_episodes=6,
        seeds=2,
        ablation_episodes=1,
        device="cpu",
        runs=str(root / "runs"),
    )
    manifest = few_shot.open_manifest(p)
    return p, manifest, study.run_methods(p, ("frozen_clip", "ma_fsar"))


def test_tables_say_what_the_runs_found(small):
    p, manifest, found = small
    table = study.result_table(found)
    assert list(table.index) == ["frozen CLIP", "MA-FSAR"] and (table["seeds"] == 2).all()
    accuracies = [run.result["test"]["accuracy"] for run in found["ma_fsar"]]
    assert table.loc["MA-FSAR", "test accuracy"].startswith(f"{100 * np.mean(accuracies):.1f}%")
    gaps = study.differences(found, "ma_fsar")
    expected = paired(study.tested(found["ma_fsar"][1]), study.tested(found["frozen_clip"][1]))
    assert gaps["points"][1] == pytest.approx(100 * expected.difference, abs=0.05)
    assert gaps["seed"].tolist() == [0, 1]


def test_baselines_stand_beside_every_method_and_of_a_resnet_those_without_text(small):
    p, manifest, found = small
    baselines = study.run_baselines(p, manifest)
    assert list(baselines) == list(BASELINES) and all(len(same) == p.seeds == 2 for same in baselines.values())
    table = study.result_table(found | baselines)
    assert list(table.index)[2:] == [tables.label(name) for name in BASELINES]
    assert table["trained (M)"].iloc[-1] == "0.000"
    assert baselines["with_text"][0].params["ablation"] == "with_text"
    assert len(study.differences(found | baselines, "ma_fsar")) == 2 * (1 + len(BASELINES))
    alone = FewShotNotebookParams.parse(
        {name: getattr(p, name) for name in ("dataset", "pretrained", "way", "frames", "device", "runs")}
        | {"method": "otam", "compare": "simple_shot", "backbone": "resnet-mini", "test_episodes": 2}
    )
    assert list(study.run_baselines(alone, manifest)) == ["logistic_regression"], "the other is compared anyway"


def test_a_method_beside_another_trains_at_its_own_recipes_rate_if_none_is_given(monkeypatch):
    monkeypatch.setattr(side_by_side, "run_named", lambda module, planned, opened: planned)
    for given, rates in (({}, [1e-3, 2e-3]), ({"lr": 3e-4}, [3e-4, 3e-4])):
        planned = study.run_methods(MAFSARParams.parse(given), ("ma_fsar", "aim"), manifest="as it is")
        assert [planned[name][0].lr for name in ("ma_fsar", "aim")] == rates


def test_a_frozen_resnet_is_not_called_clip():
    run = types.SimpleNamespace(params={"backbone": "resnet-mini"})
    assert tables.named("frozen_clip", run) == "frozen resnet-mini" and tables.named("otam", run) == "OTAM"
    assert not any("res" in name or "senet" in name for name in clip.names())
    assert all("res" in name or "senet" in name for name in resnet.names())
    run.params["backbone"] = "clip-mini"
    assert tables.named("frozen_clip", run) == "frozen CLIP"


def test_description_names_protocol_coverage_and_command(small, capsys):
    p, manifest, found = small
    study.describe(p, manifest, found, "ma_fsar", "ma_fsar")
    said = capsys.readouterr().out
    list_checksum = found["ma_fsar"][0].result["test"]["checksum"][:12]
    for part in (
        "2-way 1-shot",
        list_checksum,
        "6 of 6 listed videos",
        "-p way 2",
        "-p seeds 2",
        "times each split was read",
    ):
        assert part in said


def test_mixing_and_changes_without_training(small):
    p, manifest, found = small
    run = found["ma_fsar"][0]
    before = run.readings()["val"]
    mixing, changed = study.without_training(p, manifest, run)
    assert run.readings()["val"] == before + 1
    assert mixing.index.tolist() == ["0", "0.1", "0.25", "0.5", "0.75", "0.9", "1"]
    assert {"as trained", "frames shuffled", "metric bimhm in the place of otam"} <= set(changed.index)
    assert len(changed) == 6
    method, val = few_shot.open_trained(run, manifest)
    own = evaluate(method, val.clips, val.sampler, p.test_episodes, val.text, device="cpu").accuracy
    assert changed.loc["as trained", "val accuracy (%)"] == pytest.approx(100 * own)
    assert mixing.loc[f"{p.mix:g}", "val accuracy (%)"] == pytest.approx(100 * own)


def test_ablations_without_a_record_are_not_run(small, monkeypatch):
    p, manifest, found = small
    listed = ablations.ABLATIONS["ma_fsar"][:2]
    monkeypatch.setitem(ablations.ABLATIONS, "ma_fsar", listed)
    assert ablations.run(p, "ma_fsar") == {}
    assert ablations.table({}, "ma_fsar")["accuracy"].isna().all()
    trained = ablations.run(p.model_copy(update={"ablations": True}), "ma_fsar")
    assert list(trained) == ["full method", *(change.label for change in listed)]
    each = [run for same in trained.values() for run in same]
    assert all(json.loads(run.path("result.json").read_text()).get("test") is None for run in each)
    assert all([run.params["seed"] for run in same] == list(study.seeds(p)) for same in trained.values())
    read = ablations.run(p.model_copy(update={"seeds": 1}), "ma_fsar")
    assert {name: [run.id for run in same] for name, same in read.items()} == {
        name: [run.id for run in same] for name, same in trained.items()
    }, "all seeds on record, whatever the study's number"
    table = ablations.table(trained, "ma_fsar")
    both = zip(trained[listed[0].label], trained["full method"], strict=True)
    gaps = [100 * paired(study.tested(ours), study.tested(full)).difference for ours, full in both]
    assert table.loc[listed[0].label, "difference"] == pytest.approx(np.mean(gaps))
    assert table.loc[listed[0].label, "half"] == pytest.approx(half_width(np.array(gaps)))
    assert set(table["over"]) == {"2 seeds"} and set(study.drawn(table)["over"]) == {"2 seeds"}
    each = [100 * study.tested(run).accuracy for run in trained["full method"]]
    row = table.loc["full method"]
    assert (row["accuracy"], row["interval"]) == pytest.approx((np.mean(each), half_width(np.array(each))))
    one = {name: same[:1] for name, same in trained.items()}
    alone = ablations.table(one, "ma_fsar")
    gap = paired(study.tested(one[listed[0].label][0]), study.tested(one["full method"][0]))
    row = alone.loc[listed[0].label]
    assert row["over"] == "episodes" and row["half"] == pytest.approx(100 * gap.interval)
    assert row["half, classes"] == pytest.approx(100 * gap.intervals["classes"])
    assert "over episodes" in ablation.plot(study.drawn(alone)).get_xlabel()
    assert "over 2 seeds" in ablation.plot(study.drawn(table)).get_xlabel()
    assert "not run" in ablations.styled(ablations.table({}, "ma_fsar")).to_html()
    assert table.loc[listed[0].label, "trained (M)"] < table.loc["full method", "trained (M)"]
    assert ablation.plot(study.drawn(table)) is not None


def test_every_named_ablation_builds_and_says_what_it_changes(small):
    p, manifest, found = small
    base = p.run_params("ma_fsar", frames=5)
    for change in ablations.ABLATIONS["ma_fsar"]:
        params = change.of(base)
        assert params != base
        assert bool(few_shot.open_method(params).trainable()) == (change.change != "untrained")
    said = ablations.changes("ma_fsar")
    assert list(said.index) == [change.label for change in ablations.ABLATIONS["ma_fsar"]]
    assert said.loc["without local adaptation"].tolist() == ["adaptation", "local_adapter=False", ""]
    assert said.loc["metric TRX"].tolist() == ["metric", "", f"metric='trx', metric_scale={METRIC_SCALES['trx']!r}"]
    changed = {change.label: change.of(base) for change in ablations.ABLATIONS["ma_fsar"] if "metric" in change.params}
    assert len(changed) == 3 and set(METRIC_SCALES) == set(METRICS)
    assert all(params.metric_scale == METRIC_SCALES[params.metric] != 4 for params in changed.values())
    assert base.metric_scale == METRIC_SCALES[base.metric] == 4


def test_an_episode_is_drawn_in_one_call(small, monkeypatch):
    p, manifest, found = small
    shown = []
    monkeypatch.setattr(study, "show", shown.append)
    tower, val, episode = study.draw_episode(p, manifest)
    assert len(shown) == 1 and val.clips.manifest is manifest and val.sampler.split == "val"
    assert (episode.support == val.sampler[0].support).all() and tower.embed_dim == val.text.shape[1]


def test_maps_and_bubbles_come_from_the_trained_runs(small):
    p, manifest, found = small
    frames, maps, masses = study.attention_maps(manifest, found)
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8
    assert maps.keys() == {"frozen CLIP", "MA-FSAR"} and maps["MA-FSAR"].shape == (2, 8, 8)
    assert float(masses["frozen CLIP"].max()) == 0 and float(masses["MA-FSAR"].min()) > 0
    _, both, extra = study.attention_maps(manifest, found, wanted=("query", "support"))
    assert list(both) == ["frozen CLIP", "MA-FSAR, query", "MA-FSAR, support"], "to frozen CLIP both roles are one"
    assert np.allclose(both["MA-FSAR, query"], maps["MA-FSAR"])
    assert float((extra["MA-FSAR, support"] - extra["MA-FSAR, query"]).min()) > 0, "a support's text takes its part"
    assert study.on_objects(manifest, found).empty, "nobody marked the objects of these videos"
    bubbles = study.bubble_rows(found).set_index("name")
    assert bubbles.loc["MA-FSAR", "training"] == "2 episodes" and bubbles.loc["frozen CLIP", "training"] == "nothing"
    assert set(bubbles["over"]) == {"2 seeds"}
    assert bubbles.loc["frozen CLIP", "trainable_M"] == 0
    assert bubbles.loc["MA-FSAR", "accuracy"] == pytest.approx(
        100 * np.mean([run.result["test"]["accuracy"] for run in found["ma_fsar"]])
    )


def test_claims_say_what_they_do_not_claim_and_fail_when_false(small, monkeypatch):
    p, manifest, found = small
    method = few_shot.open_method(p.run_params("ma_fsar"))
    tower = few_shot.open_backbone(p)
    names = {"p": p, "manifest": manifest, "found": found, "method": method, "claims": claims, "tower": tower}
    lines = cells.claims("ma_fsar", **names)
    assert sum(line.startswith("holds") for line in lines) == 3
    assert sum(line.startswith("not claimed") for line in lines) == 3
    from vidlib.matching.otam import OTAM

    honest = OTAM.compare
    monkeypatch.setattr(OTAM, "compare", lambda *args: honest(*args).flip(-1))
    with pytest.raises(AssertionError, match="support videos itself"):
        cells.claims("ma_fsar", **names)


def test_results_of_the_claimed_parameters_are_too_small_or_hold_or_fail(small, monkeypatch):
    p, manifest, found = small
    tiny = MAFSARParams(train_episodes=4, test_episodes=8)
    lines = cells.claims("ma_fsar", RESULTS, p=tiny, found=found, claims=claims)
    assert lines[0].startswith("too small to test") and "frames shuffled cost" in lines[1]

    class Tested:
        result = {"test": {"accuracy": 0.8}, "frames_shuffled": {"accuracy": 0.5}, "texts_permuted": {"accuracy": 0.7}}

    def said(gain: float, apart: bool = True, **given) -> list[str]:
        monkeypatch.setattr(claims, "gains", lambda pairs: [gain])
        monkeypatch.setattr(claims, "above", lambda ours, floor: apart)
        monkeypatch.setattr(claims, "by_seed", lambda *names: [("MA-FSAR", "frozen CLIP")])
        return cells.claims("ma_fsar", RESULTS, p=MAFSARParams(**given), found={"ma_fsar": [Tested()]}, claims=claims)

    holds, *costs = said(15.0)
    assert holds.startswith("holds: MA-FSAR is at least 15")
    assert [line.split()[-2] for line in costs] == ["30.0", "10.0"]
    for wrong, about in (({"gain": 14.9}, "at least 15"), ({"gain": 20.0, "apart": False}, "intervals overlap")):
        with pytest.raises(AssertionError, match=about):
            said(**wrong)
