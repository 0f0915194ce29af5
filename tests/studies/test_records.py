"""Shipped records tell what the run's folder told, in a small part of its size, and whose code made them."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.data.small import write_folder
from vidlib.basics import lock
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.studies import evidence, price_of_test, records, tables
from vidlib.training import few_shot


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with texts and a further shot, and its record."""
    root = tmp_path_factory.mktemp("records")
    size = {"train_episodes": 3, "val_episodes": 4, "val_every": 2, "test_episodes": 30, "also_shots": [2]}
    data = f"folder:{write_folder(root / 'clips', classes=8, clips=4)}"
    p = RunParams(method="clip_fsar", dataset=data, way=2, device="cpu", runs=str(root / "runs"), **size)
    run = few_shot.run(p)
    return p, run, records.pack(run, root / "records")


def test_a_record_tells_what_its_run_told(made):
    _, run, file = made
    record = records.Record(file)
    assert record.params == run.params and record.environment == run.environment
    assert record.readings() == run.readings() and record.id == run.id
    tests = ["test", "frames_shuffled", "texts_permuted", "test_2shot"]
    assert [name for name in record.result if name in tests] == [name for name in run.result if name in tests]
    for name in tests:
        theirs, ours = tables.tested(run, name), tables.tested(record, name)
        assert np.array_equal(theirs.hits, ours.hits) and np.array_equal(theirs.per_trial, ours.per_trial), name
        assert np.array_equal(theirs.truth, ours.truth) and np.array_equal(theirs.query, ours.query)
        assert theirs.intervals == ours.intervals and theirs.accuracy == run.result[name]["accuracy"]
    assert ours.per_class().equals(theirs.per_class())
    with pytest.raises(UserError, match=f"shipped record without checkpoint.safetensors: vidlib evidence {run.id}"):
        record.path(runs.WEIGHTS)


def test_a_record_knows_right_and_wrong_alone(made, tmp_path):
    file = records.pack(made[1], tmp_path)
    with np.load(file.with_suffix(".npz")) as kept:
        records._write(file.with_suffix(".npz"), **{**kept, "test": ~kept["test"]})
    wrong = records.Record(file).evaluation("test")
    assert wrong.accuracy == pytest.approx(1 - made[1].result["test"]["accuracy"])
    with pytest.raises(UserError, match="run it anew"):
        _ = wrong.confusion


def test_packing_twice_writes_the_same_bytes(made, tmp_path):
    _, run, file = made
    again = records.pack(run, tmp_path)
    for one in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert one.read_bytes() == (file.parent.parent / one.relative_to(tmp_path)).read_bytes(), one
    assert again.stat().st_size + again.with_suffix(".npz").stat().st_size < 20_000


def test_a_record_is_found_whatever_code_made_it(made, monkeypatch):
    p, run, file = made
    monkeypatch.setenv("VIDLIB_RECORDS", str(file.parent.parent))
    assert records.find(p).id == run.id
    assert records.find(p.model_copy(update={"device": "auto", "runs": "", "workers": 3})).id == run.id
    assert records.find(p.model_copy(update={"seed": 5})) is None
    assert "by today's code" in records.made_by(records.Record(file))
    other = json.loads(file.read_text())
    code = other["environment"]["identity"]["contents"]["source"]
    sources = json.loads((file.parent.parent / "code" / f"{code[:16]}.json").read_text())
    (file.parent.parent / "code" / "older.json").write_text(json.dumps(sources | {"training/loop.py": "another"}))
    other["environment"]["identity"]["contents"]["source"] = "older"
    (earlier := file.with_name("earlier.json")).write_text(json.dumps(other))
    assert "by earlier code: since then training/loop.py changed" in records.made_by(records.Record(earlier))
    earlier.unlink()


def test_only_the_code_that_computed_a_run_packs_it(made, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "code_digest", lambda method: "another")
    with pytest.raises(UserError, match="computed by other code"):
        records.pack(made[1], tmp_path)


def test_a_damaged_record_is_one_sentence(made, tmp_path):
    file = records.pack(made[1], tmp_path)
    file.with_suffix(".npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        records.Record(file).evaluation("test")
    file.write_text("{}")
    with pytest.raises(UserError, match="lacks curve, environment"):
        _ = records.Record(file).result


def test_a_curve_keeps_its_selections_and_its_means():
    lines = [{"step": i + 1, "episode": i + 1, "loss": float(i), "seconds": 0.1} for i in range(100)]
    lines[49]["val_accuracy"] = 0.5
    short = records.thinned(lines)
    assert len(short) <= records.CURVE + 1 and short[-1]["episode"] == 100
    assert [line["val_accuracy"] for line in short if "val_accuracy" in line] == [0.5]
    assert short[0]["loss"] == pytest.approx(np.mean(range(4)))
    skipped = [line | {"grad_norm": None if i < 5 else 2.0} for i, line in enumerate(lines)]  # as 16-mixed begins
    norms = [line.get("grad_norm") for line in records.thinned(skipped)]
    assert norms[0] is None and set(norms[1:]) == {None, 2.0}


def test_a_run_that_stands_for_several_seeds_has_no_interval_over_them(made):
    run = made[1]
    table = tables.result_table({"trx": [run] * 3})
    assert "seeds" not in table["test accuracy"].iloc[0] and table["seeds"].tolist() == [1]
    assert tables.bubble_rows({"trx": [run] * 3})["over"].tolist() == ["episodes"]
    mean, halves = tables.apart([run] * 3, [run] * 3)
    assert mean == 0 and "seeds" not in halves


def test_the_evidence_goes_on_past_a_run_that_fails(made, tmp_path, monkeypatch):
    p, run, _ = made
    said = []
    chains = [iter([[p.model_copy(update={"report": "val"}), p.model_copy(update={"way": 50})], [p]])]
    monkeypatch.setattr(evidence, "parts", lambda: {"tiny": lambda: chains})
    monkeypatch.setattr(evidence.ladder, "WORLDS", (p.dataset,))
    failed = evidence.run(["tiny"], 1, tmp_path, said.append)
    assert len(failed) == 1 and "way" in failed[0]
    assert len(said) == 3 and f"{100 * run.result['test']['accuracy']:.1f} in" in said[-1]
    assert {file.stem for file in (tmp_path / "runs").glob("*.json")} >= {run.id}
    with pytest.raises(UserError, match="part 'tny' is not one of tiny"):
        evidence.check(["tny"])


def test_only_what_has_no_record(made, tmp_path, monkeypatch):
    p, run, file = made
    said, other = [], p.model_copy(update={"lr": 0.2})
    monkeypatch.setenv("VIDLIB_RECORDS", str(file.parent.parent))
    monkeypatch.setattr(evidence, "parts", lambda: {"tiny": lambda: [iter([[p], [p, other], [p]]), iter([[p]])]})
    monkeypatch.setattr(evidence.ladder, "WORLDS", (p.dataset,))
    assert evidence.run(["tiny"], 1, tmp_path, said.append, missing=True) == []
    assert len(said) == 1 and "lr 2.0e-01" in said[0]


def test_what_another_command_is_at_waits_for_it(made, tmp_path, monkeypatch):
    p = made[0].model_copy(update={"seed": 7})
    monkeypatch.setattr(evidence, "WAIT", 0.0)
    for part, work in (("frozen", few_shot.work(p)), ("price", price_of_test._work(p))):
        home = runs.home_of(evidence.running.identity(work))
        runs.write_json(home / "lock.json", lock._me() | {"pid": os.getppid(), "started": lock._started(os.getppid())})
        assert evidence.attempt(part, p, tmp_path) is None and not list(tmp_path.iterdir())
        shutil.rmtree(home)
