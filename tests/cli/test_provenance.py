"""What other tools read: entries as Croissant, runs and records as crates, model cards."""

import hashlib
import json
from collections import Counter

import pytest
import yaml

from tests.data.small import write_folder
from vidlib import cli
from vidlib.data.catalogue import entries
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.studies import croissant, model_card, records, run_crate
from vidlib.training import few_shot


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("provenance")
    size = {"train_episodes": 3, "val_episodes": 4, "val_every": 2, "test_episodes": 30, "also_shots": [2]}
    data = f"folder:{write_folder(root / 'clips', classes=8, clips=4)}"
    return few_shot.run(RunParams(method="clip_fsar", dataset=data, way=2, device="cpu", runs=str(root), **size))


def said(capsys, *arguments: object) -> str:
    assert cli.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: object) -> str:
    assert cli.main([*map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_every_entry_is_written_with_its_counts_and_terms(capsys, tmp_path):
    lines = said(capsys, "data", "croissant", "all", "--out", tmp_path).splitlines()
    assert len(lines) == len(entries.every()) == len(list(tmp_path.glob("*.yaml")))
    for name in entries.every():
        facts = json.loads((tmp_path / f"{croissant.source(name).stem}.croissant.json").read_text())
        (held,), entry = facts["distribution"], entries.entry(name)
        assert hashlib.sha256((tmp_path / held["contentUrl"]).read_bytes()).hexdigest() == held["sha256"]
        data = {each["name"]: each["data"] for each in facts["recordSet"]}
        counted = Counter()
        for row in data["classes"]:
            counted[row["classes/split"]] += row["classes/videos"] or 0
        assert {row["splits/name"]: row["splits/videos"] or 0 for row in data["splits"]} == counted
        assert facts["license"] == croissant.OURS["license"] or facts["license"] == entry.licence and facts["url"]
        assert facts["citeAs"] and entry.where in facts["conditionsOfAccess"]
    assert "did you mean 'hmdb51'" in refused(capsys, "data", "croissant", "hmdb5")
    (taken := tmp_path / "taken").write_text("")
    assert f"out: {taken} cannot be written" in refused(capsys, "data", "croissant", "motion", "--out", taken)


@pytest.mark.parametrize("name", entries.every())
def test_mlcroissant_finds_no_error(name):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: vidlib[cards]")
    dataset = mlcroissant.Dataset(jsonld=croissant.described(name))
    assert not dataset.metadata.ctx.issues.errors
    assert len(list(dataset.records("classes"))) == sum(map(len, entries.entry(name).texts().values()))


def test_a_run_and_a_record_become_crates(capsys, run, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_RUNS", str(run.home.parent))
    record = records.load()[0]
    for one, made in {run: run.home.parent / "crates" / run.id, record: tmp_path / "crate"}.items():
        out = () if one is run else ("--out", made)
        assert said(capsys, "report", "crate", one.id, *out) == f"kept: {made}\n"
        graph = {each["@id"]: each for each in json.loads((made / run_crate.FILE).read_text())["@graph"]}
        root, action = graph["./"], graph["#run"]
        assert graph[root["conformsTo"]["@id"]]["@type"] == "CreativeWork" and "license" in root
        assert graph[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        for part in (*root["hasPart"], *action["object"], *action["result"], root["license"], root["mentions"]):
            assert part["@id"] in graph
        assert all((made / part["@id"]).is_file() for part in root["hasPart"])
        assert action["endTime"] == one.result["finished"] and ("startTime" in action) == (one is run)
        split = one.params["report"]
        assert graph[f"#result-{split}-accuracy"]["value"] == one.result[split]["accuracy"]
        assert graph["#parameter-method"]["value"] == one.params["method"] and "#parameter-runs" not in graph
    assert (run.home.parent / "crates" / run.id / runs.WEIGHTS).is_file()
    assert "is no crate" in refused(capsys, "report", "crate", run.id, "--out", tmp_path)
    assert "nothing is no finished run or record here" in refused(capsys, "report", "crate", "nothing")
    rocrate = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed: vidlib[cards]")
    assert rocrate.ROCrate(made).get("#run").type == "CreateAction"


def test_a_card_lies_beside_the_weights_with_every_result(capsys, run):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    assert said(capsys, "report", "card", run.folder) == f"kept: {run.folder / 'README.md'}\n"
    card = hub.ModelCard.load(run.folder / "README.md")
    test, other = card.data.eval_results
    assert (test.metric_value, test.task_name) == (
        round(100 * run.result["test"]["accuracy"], 2),
        "CLIP-FSAR, 2-way 1-shot",
    )
    assert other.task_name == "CLIP-FSAR, 2-way 2-shot" and test.dataset_type == "folder"
    assert "frames_shuffled" in card.text and str(run.home.parent) not in yaml.safe_dump(card.data.to_dict())
    assert "has no trained weights here" in refused(capsys, "report", "card", records.load()[0].id)
    assert "model-index" not in model_card.front_matter("untested", [])
