"""Methods side by side: what is run, what is missing, the tables, the page paper against ours, the claims."""

import shlex

import numpy as np
import pandas as pd
import pytest

from tests.data.small import write_folder
from tests.methods.small import UNTRAINED
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.methods import METHODS
from vidlib.params.by_recipe import ComparisonParams, FewShotNotebookParams, by_recipe
from vidlib.results import published, runs
from vidlib.results.accuracy import paired
from vidlib.studies import claims, comparison, paper_against_ours
from vidlib.studies import few_shot as study
from vidlib.training import few_shot


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """TRX and ProtoNet beside OTAM and frozen features on videos that the test writes, two seeds."""
    root = tmp_path_factory.mktemp("comparison")
    p = ComparisonParams.parse(
        {
            "methods": "trx,protonet",
            "train": True,
            "dataset": f"folder:{write_folder(root / 'clips', classes=8, clips=4)}",
            "backbone": "clip-mini",
            "pretrained": "clip-mini",
            "way": 2,
            "train_episodes": 1,
            "test_episodes": 5,
            "shape_episodes": 3,
            "seeds": 2,
            "device": "cpu",
            "runs": str(root / "runs"),
        }
    )
    found, missing = comparison.run_all(p)
    return p, few_shot.open_manifest(p), found, missing


def test_every_method_and_the_floor_have_their_runs(small):
    p, _, found, missing = small
    assert list(found) == ["trx", "protonet", "otam", "frozen clip-mini"] and not len(missing)
    assert [len({run.id for run in same}) for same in found.values()] == [2, 2, 2, 1]
    lists = {run.result["test"]["checksum"] for same in found.values() for run in same}
    assert len(lists) == 1, "all meet the same episodes"


def test_the_table_says_what_the_runs_found(small):
    p, _, found, _ = small
    table = comparison.table(p, found)
    assert list(table.index) == ["TRX", "ProtoNet", "OTAM", "frozen clip-mini"]
    accuracies = [run.result["test"]["accuracy"] for run in found["trx"]]
    assert table.loc["TRX", "test accuracy"].startswith(f"{100 * np.mean(accuracies):.1f}%")
    gaps = [
        paired(study.tested(a), study.tested(b)).difference for a, b in zip(found["trx"], found["otam"], strict=True)
    ]
    assert table.loc["TRX", "minus OTAM"].startswith(f"{100 * np.mean(gaps):+.1f} ")
    assert table.loc["OTAM", "minus OTAM"] == "-" and table.loc["frozen clip-mini", "minus frozen features"] == "-"
    assert table.loc["TRX", "seeds"] == 2 and table.loc["frozen clip-mini", "training episodes"] == 0


def test_a_rows_command_does_that_rows_run(small):
    p, _, found, _ = small
    for name in ("trx", "protonet", "otam"):
        words = shlex.split(comparison.command(p, name))
        given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
        assert words[:2] == ["papermill", "notebooks/few_shot.ipynb"] and given["seeds"] == "2"
        alone = FewShotNotebookParams.parse(given | {"runs": p.runs, "device": "cpu"})
        assert few_shot.recorded(alone.run_params(seed=1)).id == found[name][1].id


def test_what_has_no_record_is_missing_and_not_run(small):
    p, _, found, _ = small
    reading = p.model_copy(update={"train": False, "methods": "trx,molo"})
    before = {file.name for file in paper_against_ours.Path(p.runs).iterdir()}
    here, missing = comparison.run_all(reading)
    assert list(here) == ["trx", "otam", "frozen clip-mini"] and list(missing.index) == ["MoLo"]
    assert "-p method molo" in missing.loc["MoLo", "command"] and "no record" in missing.loc["MoLo", "why"]
    assert {file.name for file in paper_against_ours.Path(p.runs).iterdir()} == before


def test_a_method_that_cannot_run_on_the_backbone_is_left_out_with_the_reason(small):
    p, *_ = small
    other = p.model_copy(update={"train": False, "methods": "all", "backbone": "resnet-mini", "pretrained": ""})
    _, missing = comparison.run_all(other)
    assert "adapts a CLIP" in missing.loc["MA-FSAR", "why"] and missing.loc["MA-FSAR", "command"] == ""
    assert "no record" in missing.loc["OTAM", "why"]


def test_shots_and_ways_embed_val_once_and_train_nothing(small, monkeypatch):
    p, manifest, found, _ = small
    embedded = []
    honest = comparison.evaluate_episodes.embed_videos
    monkeypatch.setattr(
        comparison.evaluate_episodes, "embed_videos", lambda *a, **k: (embedded.append(1), honest(*a, **k))[1]
    )
    before = found["trx"][0].readings()["val"] if "val" in found["trx"][0].readings() else 0
    rows = comparison.by_shots_and_ways(p, manifest, found, shots=(1, 2, 9), ways=(2, 99))
    assert len(embedded) == len(found)
    assert found["trx"][0].readings()["val"] == before + 1
    shapes = set(zip(rows["varied"], rows["value"], strict=True))
    assert shapes == {("shot", 1), ("shot", 2), ("way", 2)}, "what val cannot give is left out"
    one = rows[(rows["method"] == "TRX")].set_index(["varied", "value"])["accuracy"]
    assert one["shot", 1] == one["way", 2], "the same shape: 2-way 1-shot"


def test_costs_come_from_the_records(small):
    p, _, found, _ = small
    costs = comparison.costs(p, found)
    cost = found["trx"][0].result["cost"]
    assert costs.loc["TRX", "embedding"] == pytest.approx(1000 * 4 / cost["clips_per_second"])
    assert costs.loc["TRX", "training memory (MiB)"] == cost["training_memory"]
    assert np.isnan(costs.loc["frozen clip-mini", "training (s)"])


def test_counts_that_no_paper_printed_are_our_modules_and_say_so():
    assert comparison.count("otam", "resnet50") == pytest.approx(23.45, abs=0.1)
    rows = comparison.published_bubbles("SSv2-Small").set_index("name")
    assert rows.loc["TRX", "counted"] and rows.loc["TRX", "trainable_M"] == pytest.approx(47.06, abs=0.1)
    assert not rows.loc["HyRSM", "counted"] and rows.loc["HyRSM", "trainable_M"] == 65.6
    assert rows["trainable_M"].notna().all()


def test_a_count_is_of_the_recipe_and_the_same_in_every_figure():
    full = comparison.published_bubbles("SSv2-Full").set_index("name")
    assert full.loc["SloshNet", "counted"] and full.loc["SloshNet", "trainable_M"] == pytest.approx(176.2, abs=0.1)
    small = comparison.count("sloshnet", "resnet50", "hmdb51")
    assert small == pytest.approx(166.8, abs=0.1), "one cardinality, where SSv2 has two"
    assert full.loc["STRM", "counted"] and full.loc["STRM", "trainable_M"] == pytest.approx(63.3, abs=0.1)
    assert set(claims.COUNTED) == {"hyrsm", "molo"} and not full.loc[["HyRSM", "MoLo"], "counted"].any()
    for notebook in ("ma_fsar", "few_shot", "comparison", "sloshnet", "gghm"):
        text = (paths.checkout() / "notebooks" / f"{notebook}.ipynb").read_text()
        assert "comparison.published_bubbles(" in text and "published.comparison(" not in text


def test_claims_hold_and_a_wrong_command_fails_them(small, monkeypatch):
    p, _, found, missing = small
    lines = list(claims.comparison(p, found, missing))
    assert len(lines) == 4 and all(line.startswith("holds") for line in lines)
    assert next(iter(claims.comparison(p, {}, missing))).startswith("not claimed")
    with pytest.raises(AssertionError, match="neither shown nor missing: TRX"):
        list(claims.comparison(p, {name: same for name, same in found.items() if name != "trx"}, missing))
    monkeypatch.setattr(comparison, "command", lambda p, name: f"papermill x y -p method {name} -p lr 0.5")
    with pytest.raises(AssertionError, match="does another run"):
        list(claims.comparison(p, found, missing))


# ---------------------------------------------------------------- the page


def _record(method: str, dataset: str, shot: int, accuracy: float, given: dict | None = None, **more) -> dict:
    """A finished run of a cell's recipe, ``given`` aside; ``more``: other entries of the record."""
    params = by_recipe(method, {"dataset": dataset, "shot": shot, **(given or {})})
    seed, covered = params.seed, _covered(1230)
    result = {"result.test.accuracy": accuracy, "result.test.interval": 0.004, "result.test.episodes": 10000}
    result |= {"result.coverage": covered, "result.finished": "2026-01-01", "result.cost.trainable": 5}
    return {"id": f"{method}-{seed}-{accuracy}", **params.model_dump(), **result, **more}


def _covered(test: int, train: int = 5000) -> list[dict]:
    counts = {"train": (train, 5000), "val": (1000, 1000), "test": (test, 1292)}
    return [{"split": split, "present": here, "used": here, "listed": all_} for split, (here, all_) in counts.items()]


def test_a_published_figure_meets_the_runs_of_its_own_data_and_backbone():
    records = pd.DataFrame(
        [
            _record("otam", "ssv2_small", 1, 0.350, {"seed": 0}),
            _record("otam", "ssv2_small", 1, 0.352, {"seed": 1}),
            _record("trx", "ssv2_small", 1, 0.361),
            _record("hyrsm", "ssv2_small", 1, 0.900, {"backbone": "clip-mini", "pretrained": "clip-mini"}),
            _record("molo", "ssv2_small", 1, 0.99, **{"result.test.episodes": 20}),
            _record("strm", "motion", 1, 0.5),
        ]
    )
    table = paper_against_ours.compare(records).set_index(["method", "dataset", "shot"])
    otam = table.loc["OTAM", "ssv2_small", 1]
    assert otam["outcome"] == "lower" and otam["difference"] == pytest.approx(35.1 - 36.4) and otam["seeds"] == 2
    assert otam["paper (%)"] == "36.4 [recalled, unchecked]" and otam["coverage"] == "1,230 of 1,292"
    assert table.loc["TRX", "ssv2_small", 1]["outcome"] == "within our interval"
    for name, why in (
        ("HyRSM", "backbone clip-mini instead of resnet50"),
        ("MoLo", "20 test episodes instead of 10,000"),
    ):
        partial = table.loc[name, "ssv2_small", 1]
        assert partial["outcome"] == "partial run" and why in partial["differs"] and partial["ours (%)"] == "-"
        assert np.isnan(partial["difference"])
    assert table["outcome"].iloc[0] == "lower", "where ours is lower comes first"
    assert "2 of" in paper_against_ours.summary(table.reset_index()) and "1 lower" in paper_against_ours.summary(
        table.reset_index()
    )
    assert paper_against_ours.world(records)["method"].tolist() == ["STRM"]


WHOLE = {"method": "ma_fsar", "dataset": "hmdb51", "shot": 1, "accuracy": 0.286}


@pytest.mark.parametrize(
    "given, more, why",
    [
        ({"backbone": "ViT-B-16", "pretrained": "openai"}, {}, "backbone ViT-B-16 instead of ViT-B-16-quickgelu"),
        ({"backbone": "ViT-B-32-quickgelu", "pretrained": "openai"}, {}, "backbone ViT-B-32-quickgelu instead"),
        ({"pretrained": ""}, {}, "pretrained none instead of openai"),
        ({"pretrained": "laion2b_s34b_b88k"}, {}, "pretrained laion2b_s34b_b88k instead of openai"),
        ({"frames": 2}, {}, "frames 2 instead of 8"),
        ({"metric": "bimhm"}, {}, "metric bimhm instead of otam"),
        ({"way": 3}, {}, "way 3 instead of 5"),
        ({"train_episodes": 1}, {}, "train_episodes 1 instead of 5,000"),
        ({}, {"result.test.episodes": 2000}, "2,000 test episodes instead of 10,000"),
        ({}, {"result.coverage": _covered(50)}, "50 of 1,292 test videos"),
        ({}, {"result.coverage": _covered(1226)}, "1,226 of 1,292 test videos"),
        ({}, {"result.coverage": _covered(1292, train=4000)}, "6,292 of 7,292 videos"),
        ({}, {"result.coverage": np.nan}, "unknown how many test videos"),
    ],
)
def test_what_differs_in_one_thing_is_a_partial_run(given, more, why):
    cell = ["MA-CLIP (v1)", "hmdb51", 1]
    table = paper_against_ours.compare(pd.DataFrame([_record(**WHOLE, given=given, **more)]))
    row = table.set_index(["method", "dataset", "shot"]).loc[tuple(cell)]
    assert row["outcome"] == "partial run" and np.isnan(row["difference"]) and row["ours (%)"] == "-"
    assert row["differs"].startswith(why) and ";" not in row["differs"] and row["partial run (%)"] == "28.6 ± 0.4"
    said = paper_against_ours.summary(table)
    assert "0 of" in said and "0 lower" in said and "Beside 1 others stands a partial run" in said


def test_a_run_of_another_shot_or_data_set_is_beside_no_figure():
    for other in ({"shot": 5}, {"dataset": "ucf101"}):
        table = paper_against_ours.compare(pd.DataFrame([_record(**WHOLE | other)]))
        row = table.set_index(["method", "dataset", "shot"]).loc["MA-CLIP (v1)", "hmdb51", 1]
        assert row["outcome"] == "not run"
    elsewhere = _record(**WHOLE) | {"dataset": "folder:/videos/hmdb51"}
    assert set(paper_against_ours.compare(pd.DataFrame([elsewhere]))["outcome"]) == {"not run"}


def test_a_repetition_lists_how_its_recipe_differs():
    given = {"lr": 1e-4, "options": {"ratio": 0.5}, "train_episodes": 6000}
    table = paper_against_ours.compare(
        pd.DataFrame([_record(**WHOLE, given=given), _record(**WHOLE, given={"seed": 7})])
    )
    row = table.set_index(["method", "dataset", "shot"]).loc["MA-CLIP (v1)", "hmdb51", 1]
    assert row["outcome"] == "lower" and row["difference"] == pytest.approx(28.6 - 83.4) and row["seeds"] == 1
    plain = paper_against_ours.compare(pd.DataFrame([_record(**WHOLE, given=given)])).iloc[0]
    said = "lr 0.0001 (recipe: 6e-05); train_episodes 6,000 (recipe: 5,000); ratio 0.5 (recipe: its default)"
    assert plain["differs"] == said and plain["outcome"] == "lower"
    exact = paper_against_ours.compare(pd.DataFrame([_record(**WHOLE)])).iloc[0]
    assert exact["differs"] == "-" and exact["outcome"] == "lower"


def test_a_run_scored_otherwise_does_not_repeat_the_figure_with_text():
    records = pd.DataFrame([_record("clip_fsar", "hmdb51", 1, 0.7)])
    table = paper_against_ours.compare(records).set_index(["method", "dataset", "shot"])
    rows = table[[key[1:] == ("hmdb51", 1) and "CLIP-FSAR" in key[0] for key in table.index]]
    assert {name[0].split("(")[1][:6]: row["outcome"] for name, row in rows.iterrows()} == {
        "visual": "lower",
        "with t": "partial run",
    }
    assert rows["differs"].iloc[-1] == "inference visual instead of combined"


def test_every_few_shot_figure_of_our_methods_is_on_the_page():
    cells = paper_against_ours.cells()
    assert set(cells["method"]) == set(METHODS) - {"protonet", "bimhm", "ordered_differences", *UNTRAINED}
    ours = published.rows(protocol=["5-way 1-shot", "5-way 5-shot"])
    others = ours[~ours["paper"].str.contains("EMP|TEAM")]
    assert len(cells) == len(others[~others["method"].str.contains(published.RERUN, case=False)])


def test_the_page_is_written_from_the_records(small):
    p, *_ = small
    file, table = paper_against_ours.write(p.runs)
    text = file.read_text()
    assert (table["outcome"] == "not run").all() and "None." in text
    assert "papermill notebooks/ma_fsar.ipynb out.ipynb -f recipes/ma_fsar/hmdb51_1shot.yaml" in text
    assert runs.load_all(p.runs).shape[0] == 7, "the page is no run"


def test_a_misspelt_name_is_refused_in_the_first_cells():
    with pytest.raises(UserError, match="no argument 'cardinalites'; did you mean 'cardinalities'"):
        few_shot.checked(FewShotNotebookParams.parse({"method": "trx", "options": {"cardinalites": [2]}}))
    with pytest.raises(UserError, match="nowhere.py does not exist"):
        few_shot.checked(ComparisonParams.parse({"methods": "otam,nowhere.py:Mine"}))
