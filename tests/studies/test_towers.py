"""Heads on frozen towers: one store each, runs that read it, what is drawn and said of them, the claims."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.data.small import write_folder
from tests.training.small_store import folder
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks
from vidlib.params.notebooks import request
from vidlib.params.tools import HEADS, TowersParams
from vidlib.results import calibration, open_set
from vidlib.results.accuracy import paired
from vidlib.studies import claims, tables
from vidlib.studies import towers as study
from vidlib.training import few_shot


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three heads, one of which trains and one of which no ResNet has, on resnet-mini and random weights, two seeds."""
    root, patch = tmp_path_factory.mktemp("towers"), pytest.MonkeyPatch()
    patch.setenv("VIDLIB_DATA", str(root / "data"))
    given = {"dataset": f"folder:{write_folder(root / 'clips', classes=12, clips=4)}", "way": 2, "frames": 3}
    given |= {"towers": "resnet-mini, random resnet-mini", "heads": "simple_shot,zero_shot_clip", "seeds": 2}
    given |= {"shown": "trx,simple_shot", "train_episodes": 2, "test_episodes": 12, "ways": [2, 3, 20]}
    given |= {"shots": [1, 2], "shape_episodes": 4, "answer_episodes": 12, "workers": 0, "device": "cpu"}
    p = few_shot.checked(TowersParams.parse(given | {"runs": str(root / "runs")}))
    manifest = few_shot.open_manifest(p)
    kept, stores = study.embed(p, manifest)
    found, missing = study.run_all(p, manifest, kept)
    yield p, manifest, kept, stores, found, missing, study.answers(p, manifest, found, kept)
    patch.undo()


def test_each_tower_has_its_store_and_a_random_one_for_each_seed(small):
    p, manifest, kept, stores, *_ = small
    assert list(stores.index) == ["resnet-mini", "random resnet-mini, seed 0", "random resnet-mini, seed 1"]
    assert [len({store.digest for store in kept[tower]}) for tower in p.planned] == [1, 2]
    assert (stores["videos"] == 48).all() and stores["seconds"].notna().all()
    again = study.embed(p, manifest)[1]
    assert again["seconds"].isna().all() and list(again["store"]) == list(stores["store"])


def test_runs_read_the_stores_and_what_cannot_be_is_named(small):
    p, _, kept, _, found, missing, _ = small
    assert set(found) == {(head, tower) for head in ("simple_shot", "trx") for tower in p.planned}
    assert len(missing) == 2 and all(line.startswith("zero-shot CLIP on ") for line in missing)
    assert [len({run.id for run in same}) for same in found.values()] == [1, 2, 2, 2]
    for (_, tower), same in found.items():
        digests = [run.result["features"]["digest"] for run in same]
        assert digests == [store.digest for store in kept[tower]]
    trained = found["trx", "resnet-mini"][0]
    assert trained.params["options"]["finetune"] == "frozen" and trained.result["fit"]["steps"] == 2


def test_a_head_that_reads_more_than_frames_is_missing_with_the_reason(small):
    p, manifest, kept, *_ = small
    _, missing = study.run_all(p.model_copy(update={"heads": "molo,simple_shot", "shown": ""}), manifest, kept)
    assert len(missing) == 2 and all("reads more of the tower" in line for line in missing)
    with pytest.raises(UserError, match="heads: none of them can be had; MoLo on resnet-mini: method molo reads more"):
        study.run_all(p.model_copy(update={"heads": "molo", "shown": ""}), manifest, kept)


def test_map_table_and_sentences_say_what_the_runs_found(small, monkeypatch):
    p, _, _, _, found, *_ = small
    every = study.rows(p, found)
    assert list(dict.fromkeys(every["head"])) == ["SimpleShot", "zero-shot CLIP", "TRX"] and len(every) == 6
    cells = every.dropna().set_index(["head", "tower"])
    accuracies = [run.result["test"]["accuracy"] for run in found["trx", "random resnet-mini"]]
    assert cells.loc[("TRX", "random resnet-mini"), "accuracy"] == pytest.approx(100 * np.mean(accuracies))
    assert cells["over"].tolist() == ["episodes", "seeds", "seeds", "seeds"]
    table = study.table(p, found)
    assert table["seeds"].tolist() == [1, 2, 2, 2] and (table["trained (M)"] > 0).tolist() == [False] * 2 + [True] * 2
    pairs = zip(*(found["simple_shot", tower] for tower in p.planned), strict=True)
    gaps = [paired(tables.tested(a), tables.tested(b)).difference for a, b in pairs]
    row = table.loc[("SimpleShot", "resnet-mini")]
    assert row["minus random weights"].startswith(f"{100 * np.mean(gaps):+.1f} ")
    assert row["minus logistic regression"] == "-" == table.loc[("TRX", "random resnet-mini"), "minus random weights"]
    first, *_, last = study.as_it_came_out(p, found)
    assert first.startswith("resnet-mini: best is ") and last.startswith("resnet-mini minus")
    towers = {name: named | {"pretrained": "resnet-mini"} for name, named in p.planned.items()}
    with monkeypatch.context() as patch:
        patch.setattr(TowersParams, "planned", towers)
        grid = study.rows(p, found).pivot(index="head", columns="tower", values="accuracy").dropna()
        spread = next(study.as_it_came_out(p, found))
    assert spread.startswith(
        f"standard deviation of 2 heads on one tower: {grid.std(0).mean():.1f} points; of 2 towers"
    )
    assert f"under one head: {grid.std(1).mean():.1f} " in spread
    parts = dict(part.split(" ", 1) for part in last.partition(": ")[2].split("; "))
    assert sorted(", ".join(parts.values()).replace("none", "").replace(", ", " ").split()) == ["SimpleShot", "TRX"]
    high = {pair: found["trx" if pair[1] == "resnet-mini" else "simple_shot", pair[1]] for pair in found}
    assert "undecided" in list(study.as_it_came_out(p, high))[-1]


def test_surfaces_hold_what_val_can_give_and_agree_with_a_plain_test(small):
    p, manifest, kept, _, found, _, answers = small
    drawn = study.surfaces(p, manifest, found, kept)
    assert list(dict.fromkeys(drawn["panel"])) == ["TRX on resnet-mini", "SimpleShot on resnet-mini"]
    ways, shots = ([1, 2] if name == "shot" else sorted(set(drawn["way"])) for name in ("way", "shot"))
    assert 20 not in ways and len(drawn) == 2 * len(ways) * len(shots)
    first = answers["trx", "resnet-mini"].val.per_trial[: p.shape_episodes].mean()
    assert drawn.iloc[0][["way", "shot"]].tolist() == [2, 1] and drawn.iloc[0]["accuracy"] == pytest.approx(100 * first)


def test_open_set_and_calibration_are_of_the_answers_given(small):
    p, _, _, _, found, _, answers = small
    assert set(answers) == set(found)
    one = answers["simple_shot", "resnet-mini"]
    assert one.test.accuracy == found["simple_shot", "resnet-mini"][0].result["test"]["accuracy"]
    curves, chosen = study.roc(p, answers)
    measured = open_set.measure(one.test, one.outside, one.val)
    name = "SimpleShot on resnet-mini"
    assert chosen[name] == pytest.approx((1 - measured["unknown_rejected"], measured["known_kept"]))
    line = curves[curves["method"] == name]
    assert np.trapezoid(line["known"], line["unknown"]) == pytest.approx(measured["auroc"])
    row = study.open_set_table(answers).loc[("SimpleShot", "resnet-mini")]
    assert row["AUROC"].startswith(f"{100 * measured['auroc']:.1f}% ±")
    table = study.calibration_table(answers).loc[("SimpleShot", "resnet-mini")]
    after = study.reliability(p, answers, True)
    assert table["ECE after"] == pytest.approx(100 * calibration.ece(after[after["method"] == name]))


def test_claims_hold_and_another_store_fails_them(small, monkeypatch):
    p, manifest, kept, _, found, _, answers = small
    lines = list(claims.towers(p, manifest, found, kept, answers))
    assert [line.split()[0] for line in lines] == ["holds:"] * 4 + ["not"] and "random resnet-mini" in lines[-1]
    swapped = dict(zip(kept, reversed(kept.values()), strict=True))
    with pytest.raises((AssertionError, UserError), match="another store|does not fit"):
        list(claims.towers(p, manifest, found, swapped, answers))
    trained = {key: same for key, same in found.items() if key[0] == "trx"}
    with pytest.raises(AssertionError, match="trained on another store"):
        list(claims.towers(p, manifest, trained, kept | {"random resnet-mini": kept["resnet-mini"]}, answers))
    honest = study.Store.feature
    monkeypatch.setattr(study.Store, "feature", lambda *given: honest(*given) * np.linspace(1, 1.1, 256, dtype="f4"))
    with pytest.raises(AssertionError, match="logits from the store are those from the videos"):
        list(claims.towers(p, manifest, found, kept, answers))


def test_features_without_videos_do(monkeypatch, tmp_path):
    """Who has a benchmark's features alone; test has as many classes as an episode, so that nothing is outside it."""
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    given = {
        "dataset": "hmdb51",
        "towers": "resnet-mini, random resnet-mini",
        "heads": "ordered_differences",
        "shown": "otam",
    }
    given |= {"way": 2, "frames": 3, "train_episodes": 1, "test_episodes": 6, "answer_episodes": 4, "workers": 0}
    p = TowersParams.parse(given | {"shape_episodes": 2, "runs": str(tmp_path / "runs"), "device": "cpu"})
    whole = replace(benchmarks.load(folder(tmp_path)), name="hmdb51")
    with monkeypatch.context() as patch:
        patch.setattr(benchmarks, "load", lambda name, *given, **how: whole)
        study.embed(p, study.open_data(p))
    manifest = study.open_data(few_shot.checked(p))
    kept, stores = study.embed(p, manifest)
    assert manifest.root == kept["resnet-mini"][0].folder and stores["seconds"].isna().all()
    found, missing = study.run_all(p, manifest, kept)
    answers = study.answers(p, manifest, found, kept)
    assert len(found) == 4 and not missing and all(each.outside is None for each in answers.values())
    assert study.roc(p, answers)[0].empty and study.open_set_table(answers).empty
    assert len(study.surfaces(p, manifest, found, kept)) == 3, "2 ways; 1, 2 and 3 shots of 4 videos"
    lines = list(claims.towers(p, manifest, found, kept, answers))
    assert lines[1].startswith("not claimed here, on another device or without videos")
    with pytest.raises(UserError, match="no videos are here, and no store of clip-mini; import one"):
        study.embed(p.model_copy(update={"towers": "clip-mini"}), manifest)


def test_towers_and_heads_are_words():
    p = TowersParams.parse({"towers": ["clip-mini", "random ViT-B-32", "ViT-B-16  openai"]})
    assert p.planned["ViT-B-16 openai"] == {"backbone": "ViT-B-16", "pretrained": "openai"}
    assert p.planned["random ViT-B-32"] == {"backbone": "ViT-B-32", "pretrained": ""} and p.compared == HEADS
    assert pd.Series(p.planned["clip-mini"]).unique().tolist() == ["clip-mini"]
    for wrong, said in (
        ({"towers": "ViT-B-16"}, "towers: which weights of ViT-B-16"),
        ({"towers": ""}, "towers: give some"),
        ({"heads": "otma"}, "did you mean 'otam'"),
        ({"ways": [1, 5]}, "ways: .* at least 2"),
    ):
        with pytest.raises(UserError, match=said):
            TowersParams.parse(wrong)
    with pytest.raises(UserError, match="clip-minni"):
        few_shot.checked(TowersParams.parse({"towers": "clip-minni openai"}))
    assert request("towers/laptop").params.seeds == 3
