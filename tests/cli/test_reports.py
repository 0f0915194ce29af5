"""``vidlib report page`` and ``table``: from run folders alone, escaped, with commands that mean those runs."""

import json
import re
import shlex
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.cli import report_page, report_table
from vidlib.cli.run import main_runs
from vidlib.params.by_recipe import by_recipe
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import request, settings
from vidlib.params.video_text import ActionCLIPParams, VideoTextRunParams
from vidlib.results import runs
from vidlib.results.identity import Identity
from vidlib.studies import paper_against_ours
from vidlib.viz import style

COVERAGE = [{"split": "test", "present": 480, "listed": 500}]
VOID = {"meta", "img"}


def record(root, params, accuracy: float, half: float = 0.01, **more) -> runs.Run:
    """A finished run's folder without a run: the result is given."""
    found = {"accuracy": accuracy, "interval": half, "episodes": 10000, "interval_note": "a & b", "checksum": "abc"}
    run = runs.open_run(Identity(params.method, params.determining(), root=str(root)))
    fit = {"seconds": 60.0, "steps": 10, "selected": 10, "val_accuracy": 0.5}
    result = {"test": found, "fit": fit, "cost": {"trainable": 5, "gmacs": 1.0}, "coverage": COVERAGE}
    return run.finish(result | more)


class Checked(HTMLParser):
    """Every tag is closed in order; what is fetched from elsewhere; the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.fetched, self.said, self.tags = [], [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.fetched += [given[name] for name in ("src", "href") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data


def page_of(root) -> Checked:
    file, _ = report_page.write(root)
    page = Checked(file.read_text())
    assert page.open == [] and "script" not in page.tags
    assert all(link.startswith(("data:image/", "#")) for link in page.fetched), "nothing from elsewhere"
    return page


def test_the_page_holds_every_run_from_the_best_down(tmp_path):
    for seed, accuracy in ((0, 0.5), (1, 0.75)):
        run = record(tmp_path, RunParams(seed=seed, options={"text_token": False}), accuracy)
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    style.save(figure, run.path("figures"), "two_points", pd.DataFrame({"x": [0, 1]}))
    plt.close(figure)
    record(tmp_path, RunParams(shot=5), 0.9)
    record(tmp_path, RunParams(test_dataset="scene"), 0.8)
    page = page_of(tmp_path)
    assert (
        "motion, tested on scene: 5-way 1-shot" in page.said
        and "4 finished runs" in page.said
        and "480 of 500" in page.said
        and "a & b" in page.said
    )
    assert page.said.index("75.0 ± 1.0") < page.said.index("50.0 ± 1.0")
    assert "motion: 5-way 5-shot" in page.said and "The embedded world, not a benchmark" in page.said
    assert '{"text_token": false}' in page.said and runs.environment()["cpu"] in page.said
    pictures = [link for link in page.fetched if link.startswith("data:")]
    assert len(pictures) == 1 and len(pictures[0]) > 1000 and "two points" in page.said


def test_what_a_user_named_is_escaped_and_trouble_is_listed(tmp_path):
    hostile = "/a/<script>alert(1)</script>&b {{ 7 * 7 }} {% raw %}"
    lost = [{"split": "<b>test", "present": 1, "listed": 2}]
    record(
        tmp_path,
        RunParams(dataset=f"folder:{hostile}"),
        0.5,
        note="<script>",
        coverage=lost,
        cost={"<i>{{ 1 }}": "<u>"},
    )
    runs.open_run(Identity("otam", {"method": "otam"}, root=str(tmp_path))).close()
    studied = runs.open_run(Identity("trx", {"method": "trx"}, root=str(tmp_path)))
    studied.finish({"price_of_test": {"what": "no result of the method"}})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "params.json").write_text("{")
    (tmp_path / "notebooks").mkdir()
    page = page_of(tmp_path)
    assert "1 finished runs" in page.said and f"folder:{hostile}" in page.said
    assert "<b>test" in page.said and "<i>{{ 1 }}" in page.said and not {"script", "b", "i", "u"} & {*page.tags}
    assert re.search(r"trx-\w+no result of the method", page.said)
    assert re.search(r"otam-\w+not finished", page.said) and re.search(r"brokencannot be read", page.said)


def test_an_empty_folder_and_a_wrong_one(tmp_path, capsys):
    assert "No run is finished here" in page_of(tmp_path).said
    with pytest.raises(UserError, match="does not exist"):
        report_page.write(tmp_path / "absent")
    with pytest.raises(UserError, match="is a folder; give a file"):
        report_page.write(tmp_path, tmp_path)
    assert cli.main(["report", "page", "--runs", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 0
    assert f"{tmp_path / 'a.html'}: 0 finished runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "params",
    [
        RunParams(shot=5, mix=0.3, seed=2),
        by_recipe("trx", {"dataset": "motion", "shot": 1, "lr": 3e-4}),
        by_recipe("otam", {"dataset": "hmdb51", "shot": 5}),
        by_recipe("sloshnet", {"dataset": "motion", "shot": 1}),
        ActionCLIPParams(visual_prompt="meanp", lr=2e-4).run_params(),
    ],
    ids=["ma_fsar", "trx", "otam on hmdb51", "sloshnet", "actionclip"],
)
def test_the_command_of_a_run_means_that_run(params):
    words = shlex.split(report_page.command(params.model_dump(mode="json")))
    assert words[:2] == ["vidlib", "run"]
    assert main_runs(request(words[2], settings(words[4:])))[0].determining() == params.determining()


def test_a_run_that_no_notebook_makes_has_no_such_command(tmp_path):
    run = record(tmp_path, RunParams(ablation="no_tpcm"), 0.5)
    assert report_page.command(run.params) == "" and report_page.command({"method": "gone"}) == ""
    said = page_of(tmp_path).said
    assert (
        f"python -m vidlib.training.few_shot --params {run.path('params.json')}" in said
        and "In its notebook" not in said
    )


# ---------------------------------------------------------------- the table


def test_a_papers_table_has_ours_beside_and_blanks_elsewhere(tmp_path):
    absent = report_table.table("MA-FSAR", tmp_path)
    assert list(absent.columns) == report_table.COLUMNS and len(absent) == 10
    assert set(absent["ours (%)"]) == set(absent["seeds"]) == {""} and absent["published (%)"].str.len().min() > 3
    for seed, accuracy in ((0, 0.80), (1, 0.82)):
        record(tmp_path, by_recipe("ma_fsar", {"dataset": "hmdb51", "shot": 1, "seed": seed}), accuracy)
    record(tmp_path, by_recipe("ma_fsar", {"dataset": "hmdb51", "shot": 1, "backbone": "clip-mini"}), 0.2)
    found = report_table.table("ma_fsar", tmp_path).set_index(["dataset", "protocol"])
    row = found.loc["hmdb51", "5-way 1-shot"]
    shown = [row[name] for name in ("ours (%)", "± 95%", "over", "seeds", "coverage")]
    assert shown == ["81.0", "12.7", "seeds", "2", "480 of 500"]
    assert row["command"] == "vidlib run ma_fsar/hmdb51_1shot"
    assert (found["ours (%)"] != "").sum() == 1


def test_runs_that_were_asked_other_questions_are_no_seeds_of_one(tmp_path):
    test = {"interval": 0.01, "episodes": 10000, "interval_note": "", "checksum": "another list"}
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        more = {"test": test | {"accuracy": accuracy}} if seed else {}
        record(tmp_path / "few", by_recipe("trx", {"dataset": "hmdb51", "shot": 1, "seed": seed}), accuracy, **more)
    found = report_table.table("trx", tmp_path / "few")
    assert set(found["ours (%)"]) in ({"", "50.0"}, {"", "70.0"}) and set(found["seeds"]) == {"", "1"}
    given = request("actionclip/ucf101_b16_8f_2shot").params.run_params()
    for split in (1, 2, 3):
        record(
            tmp_path / "splits", given.model_copy(update={"official_split": split, "seed": split - 1}), 0.6 + split / 10
        )
    found = report_table.table("actionclip", tmp_path / "splits")
    assert "3" not in set(found["seeds"])
    assert paper_against_ours.groups(runs.load_all(tmp_path / "splits")) == [], "of labelled videos alone"
    with pytest.raises(UserError, match="nowhere does not exist"):
        report_table.table("trx", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changes, more, why",
    [
        ({"pretrained": ""}, {}, "pretrained none instead of openai"),
        ({"backbone": "ViT-B-16"}, {}, "backbone ViT-B-16 instead of ViT-B-16-quickgelu"),
        ({"epochs": 1}, {}, "epochs 1 instead of 50"),
        ({"test_clips": 2}, {}, "test_clips 2 instead of 1"),
        ({}, {"coverage": [{"split": "test", "present": 400, "listed": 500}]}, "400 of 500 test videos"),
    ],
)
def test_a_run_that_is_not_the_cell_has_a_column_of_its_own(tmp_path, changes, more, why):
    given = request("actionclip/kinetics400_b16_8f").params.run_params().model_dump()
    record(tmp_path, VideoTextRunParams.parse(given | changes), 0.8, **more)
    found = report_table.table("actionclip", tmp_path).set_index("backbone")
    row = found[found["command"] == "vidlib run actionclip/kinetics400_b16_8f"].iloc[0]
    assert list(found.columns[-2:]) == [report_table.PARTIAL, "command"] and set(found["ours (%)"]) == {""}
    assert row[report_table.PARTIAL] == f"80.0 ± 1.0: {why}"


def test_a_repetition_has_its_differences_beside(tmp_path):
    given = request("actionclip/kinetics400_b16_8f").params.run_params().model_dump()
    record(tmp_path, VideoTextRunParams.parse(given | {"lr": 1e-5}), 0.8)
    record(tmp_path, by_recipe("ma_fsar", {"dataset": "hmdb51", "shot": 1, "frames": 2}), 0.3)
    found = report_table.table("actionclip", tmp_path)
    row = found[found["ours (%)"] != ""].iloc[0]
    assert row["ours (%)"] == "80.0" and row[report_table.OTHER] == "lr 1e-05 (recipe: 5e-06)"
    few = report_table.table("ma_fsar", tmp_path)
    assert list(few.columns[-2:]) == [report_table.PARTIAL, "command"] and set(few["ours (%)"]) == {""}
    assert "30.0 ± 1.0: frames 2 instead of 8" in set(few[report_table.PARTIAL])
    assert r"partial run" in report_table.written(few, "latex")


def test_a_cell_that_was_trained_on_other_data_before_wants_that_start(tmp_path):
    given = request("actionclip/hmdb51_b16_32f").params.run_params().model_dump()
    record(tmp_path, VideoTextRunParams.parse(given), 0.6)
    found = report_table.table("actionclip", tmp_path)
    row = found[found["command"] == "vidlib run actionclip/hmdb51_b16_32f"].iloc[0]
    assert row[report_table.PARTIAL].endswith(": starts from no run on Kinetics-400 (init)") and row["ours (%)"] == ""
    record(tmp_path, VideoTextRunParams.parse(given | {"init": str(tmp_path / "before")}), 0.7)
    found = report_table.table("actionclip", tmp_path)
    assert found[found["ours (%)"] != ""]["dataset"].tolist() == ["HMDB51"]


def test_videos_and_texts_have_theirs(tmp_path):
    given = request("actionclip/kinetics400_b16_8f").params.run_params()
    record(tmp_path, given, 0.8)
    record(tmp_path, VideoTextRunParams.parse(given.model_dump() | {"frames": 16}), 0.7, fit=None)
    found = report_table.table("actionclip", tmp_path)
    ours = found[found["ours (%)"] != ""].set_index("backbone")
    assert list(ours.index) == ["ViT-B/16, 8 frames", "ViT-B/16, 16 frames"]
    assert list(ours["ours (%)"]) == ["80.0", "70.0"] and list(ours["published (%)"]) == ["81.1", "81.7"]
    commands = {command.removeprefix("vidlib run ") for command in found["command"]} - {""}
    assert len(commands) >= 18
    for recipe in commands:
        request(recipe)
    assert found["protocol"].str.contains("run by others").sum() > 10, "named where they are others' runs"
    assert len(report_table.table("M2-CLIP", tmp_path)) >= 6


def test_forms(tmp_path, capsys):
    table = report_table.table("gghm", tmp_path)
    lines = report_table.written(table, "latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lllllllll}" and lines[-1] == r"\end{tabular}"
    assert all(line.count(" & ") == 8 and line.endswith(r"\\") for line in lines[4:-2])
    text = "".join(lines)
    assert r"published (\%)" in lines[2] and r"ssv2\_full" in text and not re.search(r"[^\\][_%]", text)
    assert cli.main(["report", "table", "gghm", "--runs", str(tmp_path), "--format", "csv"]) == 0
    (tmp_path / "table.csv").write_text(capsys.readouterr().out)
    assert pd.read_csv(tmp_path / "table.csv", dtype=str).fillna("").equals(table)
    assert report_table.written(table, "markdown").splitlines() == list(paper_against_ours.markdown(table))
    assert cli.main(["report", "table", "ma_fsr"]) == 1
    assert "did you mean 'ma_fsar'" in capsys.readouterr().err


def test_a_run_of_an_older_identity_is_told_apart(tmp_path):
    run = record(tmp_path, RunParams(seed=1), 0.5)
    assert "older identity" not in page_of(tmp_path).said and "What its id depends on" in page_of(tmp_path).said
    file = run.path("environment.json")
    file.write_text(json.dumps({n: v for n, v in json.loads(file.read_text()).items() if n != "identity"}))
    assert "recorded under an older identity" in page_of(tmp_path).said


ODD = ("[]", "", "{", "\0\0", "7", '{"finished": []}', '{"finished": "2026", "test": {"accuracy": "high"}}')
ODD += (
    '{"finished": "2026", "test": 7}',
    '{"finished": "2026", "test": {"accuracy": 0.5}, "coverage": 5, "cost": "<b>"}',
)


@pytest.mark.parametrize("name", ["result.json", "params.json", "environment.json"])
@pytest.mark.parametrize("content", ODD)
def test_one_bad_record_is_listed_as_unreadable_and_the_rest_is_shown(tmp_path, name, content, capsys):
    good = record(tmp_path, RunParams(seed=1), 0.5)
    bad = record(tmp_path, RunParams(seed=2), 0.6)
    bad.path(name).write_text(content)
    page = page_of(tmp_path)
    if name == "result.json" or not content.startswith("{"):
        assert re.search(rf"{bad.id}cannot be read", page.said) and "1 finished runs" in page.said
    assert f"{good.id}cannot" not in page.said and "50.0 ± 1.0" in page.said
    assert len(report_table.table("ma_fsar", tmp_path))
    readable = content.startswith("{") and content != "{" and (name != "result.json" or "high" not in content)
    assert (f"left out: run {bad.id}" in capsys.readouterr().err) == (not readable)
