"""Copies in trackers: each file is read by the tracker's own reader, in a process where the tracker may be had."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.tiny import Tiny
from tests.tiny import training as source_of
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.results.identity import Identity
from vidlib.training import tracking
from vidlib.training.loop import fit

RESULT = {"fit": {"steps": 5, "seconds": 1.5}, "test": {"accuracy": 0.25, "per_class": {"a": 0.5}, "note": "words"}}
READERS = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(folder + "/tensorboard").Reload()
read = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
""",
    "mlflow": """
import mlflow
client = mlflow.MlflowClient("sqlite:///" + str(Path(folder).parent / "mlflow.db"))
[run] = client.search_runs([client.get_experiment_by_name("vidlib").experiment_id])
assert run.info.run_name == Path(folder).name and run.data.params == {"lr": "0.01"}
history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
read = {name: [(each.step, each.value) for each in found] for name, found in history.items()}
""",
    "trackio": """
import os
os.environ["TRACKIO_DIR"] = str(Path(folder).parent / "trackio")
from trackio.sqlite_storage import SQLiteStorage
[name] = SQLiteStorage.get_runs("vidlib")
assert name == Path(folder).name
rows = SQLiteStorage.get_logs("vidlib", name)
read = {}
for row in rows:
    for key, value in row.items():
        if key not in ("step", "timestamp"):
            read.setdefault(key, []).append((row["step"], value))
""",
    # its command line can only upload; the messages are its own, in the frames of a LevelDB log
    "wandb": """
import struct
from wandb.proto.wandb_internal_pb2 import Record
[file] = Path(folder).glob("wandb/offline-run-*/*.wandb")
data, at, message, read = file.read_bytes(), 7, b"", {}
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[at:at + 7])
    message += data[at + 7:at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # whole, or the last part of one
        record, message = Record.FromString(message), b""
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            if not key.startswith("_"):
                read.setdefault(key, []).append((record.history.step.num, json.loads(item.value_json)))
""",
}


@pytest.mark.parametrize("name", READERS)
def test_curves_and_result_are_in_the_tracker_as_in_the_record(name, tmp_path, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (pip install {name})")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(variable, raising=False)
    run = runs.open_run(Identity("tracked", {"lr": 0.01}, root=str(tmp_path)), say=lambda _: None)
    with run, tracking.Tracker(name, run) as tracker:
        fit(Tiny(), source_of(5), batches=5, folder=run.folder, note=tracker.log, lr=1e-2, seed=0, device="cpu")
        tracker.finish(RESULT)
    code = f"import json, sys\nfrom pathlib import Path\nfolder = sys.argv[1]\n{READERS[name]}\nprint(json.dumps(read))"
    done = subprocess.run([sys.executable, "-c", code, str(run.folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    lines = runs.read_lines(run.path("metrics.jsonl"))
    assert len(lines) == 5
    for key in ("loss", "accuracy", "lr", "seconds"):
        assert [step for step, _ in read[key]] == [1, 2, 3, 4, 5]
        assert [value for _, value in read[key]] == pytest.approx([line[key] for line in lines], rel=1e-6)
    assert [value for _, value in read["result/test/accuracy"]] == [0.25]
    assert not [key for key in read if "per_class" in key or "note" in key]


def test_one_that_is_not_installed_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install wandb"):
        tracking.check("wandb")
    with pytest.raises(UserError, match="track: 'tensorbord' is not one of"):
        RunParams.parse({"track": "tensorbord"})


def test_without_a_name_nothing_is_written(tmp_path):
    with tracking.Tracker("", runs.open_run(Identity("plain", {}, root=str(tmp_path)))) as tracker:
        tracker.log({"step": 1, "loss": 1.0})
        tracker.finish(RESULT)
    assert {path.name for path in tmp_path.rglob("*.*")} == {"params.json", "environment.json", "lock.json"}
