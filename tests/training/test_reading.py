"""A test is every process's work: the same numbers with one, two and four, on one node or two; loaders that die."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.small import write_clip
from tests.tiny import Tiny, TinyClips, sampler, texts, training
from tests.training import reading_child
from tests.training.labelled_child import make
from tests.training.small_store import folder, made, params
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.data import clips as clips_module
from vidlib.data import features, video
from vidlib.data.clips import Clips
from vidlib.data.clips import test_views as views_of
from vidlib.data.features import Store
from vidlib.data.manifest import Manifest, Row
from vidlib.data.transforms import ClipTransform
from vidlib.results import runs
from vidlib.results.accuracy import Evaluation
from vidlib.training import few_shot, reading
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.evaluate_videos import recognise
from vidlib.training.loop import fit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    return folder(tmp_path_factory.mktemp("reading"))


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory) -> tuple[dict, list[runs.Run]]:
    """The numbers and the runs of one process."""
    return reading_child.numbers(), reading_child.whole_runs(dataset, tmp_path_factory.mktemp("alone"))


def torchrun(nodes: int, each: int, *words: str, env: dict[str, str] | None = None) -> list[subprocess.Popen]:
    """One agent a node, all on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={each}"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=1"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    return [subprocess.Popen([*command, *words], cwd=ROOT, env=env, **quiet) for _ in range(nodes)]


@pytest.mark.parametrize(("nodes", "each"), [(2, 1), (2, 2)])
def test_processes_on_two_nodes_do_what_one_does(dataset, alone, tmp_path, nodes, each, monkeypatch):
    agents = torchrun(nodes, each, "-m", "tests.training.reading_child", dataset, str(tmp_path))
    ended = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0] * nodes, ended[0][-3000:]
    numbers, own = alone
    for rank in range(nodes * each):
        found = np.load(tmp_path / f"numbers{rank}.npz")
        assert set(found) == set(numbers) and len(found) == 9
        for name, value in numbers.items():
            assert np.abs(found[name] - value).max() < 1e-6, name
        (held, last), ids = json.loads((tmp_path / f"said{rank}.json").read_text())
        assert "is in use by process" in held and last == "only the last one knows"
        assert ids == [run.id for run in own]
    for one in own:
        (both,) = (run for run in runs.load_all(tmp_path / "runs").folder.map(Path) if run.name == one.id)
        both = runs.read(both)
        assert both.readings() == one.readings() and both.readings()["val"] > 0, "counted once, whoever reads"
        assert both.result["fit"]["steps"] == one.result["fit"]["steps"]
        for name in (name for name, value in one.result.items() if isinstance(value, dict) and "checksum" in value):
            assert both.result[name]["accuracy"] == pytest.approx(one.result[name]["accuracy"], abs=1e-6), name
        assert len({len(list(run.folder.glob("*.npz"))) for run in (one, both)}) == 1

    monkeypatch.setattr(features, "PER_SHARD", 5)
    store = made(dataset, views=1, out=str(tmp_path / "alone"))
    assert Store(tmp_path / "store").digest == store.digest


def test_two_devices_do_what_one_does(dataset, alone, tmp_path):
    one, both = alone[1][0], few_shot.run(params(dataset, runs=str(tmp_path), devices=2))
    assert both.id == one.id and both.readings() == one.readings()
    for name in ("episodes", "frames_shuffled"):
        a, b = (Evaluation.load(run.path(f"{name}.npz")) for run in (one, both))
        assert np.allclose(a.margin, b.margin, rtol=1e-3, atol=1e-3), "gradients are summed in another order"


class Deadly(TinyClips):
    """Clips whose reading ends the loader process that reads."""

    def _draw(self, name, *shape):
        if torch.utils.data.get_worker_info() and (name == self.rows[7].video or name.startswith("3 ")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._draw(name, *shape)


def test_a_loader_that_dies_is_named_with_what_to_set(tmp_path):
    said = r"^a loader process died \([^\n]*; give fewer workers than 2, or workers=0[^\n]*--shm-size=8g\)$"
    with pytest.raises(UserError, match=said):
        evaluate(Tiny(), Deadly("test"), sampler("test"), 40, texts("test"), device="cpu", workers=2)
    source = training(12)
    source.clips = Deadly("train")
    with pytest.raises(UserError, match=said):
        fit(Tiny(), source, batches=12, lr=1e-3, seed=0, folder=tmp_path, device="cpu", workers=2)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"),
            "died .Bus error: the sh",
        ),
        (
            RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nunable to open shared memory object"),
            "/dev/s",
        ),
        (
            MemoryError("Caught MemoryError in DataLoader worker process 1.\nOriginal"),
            "MemoryError: as where the machine",
        ),
        (
            UserError("Caught UserError in DataLoader worker process 0.\nvidlib.basics.errors.UserError: a.mp4"),
            "^a.mp4$",
        ),
    ],
)
def test_what_ails_a_loader_is_one_sentence(raised, said):
    with pytest.raises(UserError, match=said) as met, reading.loading(2):
        raise raised
    assert "\n" not in str(met.value)
    with pytest.raises(RuntimeError, match="another matter"), reading.loading(2):
        raise RuntimeError("another matter")


def test_loader_processes_stay_for_the_next_pass(monkeypatch):
    started, honest = [], reading.DataLoader
    monkeypatch.setattr(reading, "DataLoader", lambda *a, **k: started.append(1) or honest(*a, **k))
    listed = (Tiny(), TinyClips("val"), sampler("val"), 20, texts("val"))
    first, again, none = (evaluate(*listed, device="cpu", workers=w) for w in (1, 1, 0))
    assert (
        len(started) == 1 and np.array_equal(first.margin, again.margin) and np.array_equal(first.margin, none.margin)
    )


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    fed = []

    def make_of(rows, frames, most):
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        fed.append(rows)
        return {"sum": frames.flatten(1).sum(1)}

    clips, fabric = TinyClips("test"), make_fabric("cpu")
    found = reading.over(clips, range(9), make_of, fabric, batch=8)["sum"]
    assert [len(rows) for rows in fed] == [2, 2, 2, 2, 1]
    assert torch.allclose(found, torch.stack([clips.test(row).sum() for row in range(9)]))
    with pytest.raises(UserError, match="not even one clip fits into the memory of cpu"):
        reading.over(clips, [3], lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError), fabric)


def test_thirty_views_come_from_one_decoding(tmp_path, monkeypatch):
    names = [f"v{i}" for i in range(5)]
    for i, name in enumerate(names):
        write_clip(tmp_path / f"{name}.mp4", frames=70 + i, shade=30 * i, size=48)
    rows = tuple(Row(name, f"class {i % 2}", "test") for i, name in enumerate(names))
    listed = Manifest("m", rows, tmp_path, {name: f"{name}.mp4" for name in names})
    look = {"size": 16, "mean": (0.5,) * 3, "std": (0.2,) * 3, "resize": 20}
    method, _ = make("actionclip")
    decoded, honest = [], video._decoded
    monkeypatch.setattr(video, "_guarded", lambda timeout, function, path, *args: function(path, *args))
    monkeypatch.setattr(video, "_decoded", lambda path, *a, **k: decoded.append(path.stem) or honest(path, *a, **k))
    for small in (clips_module.SMALL, 0):  # a small file is decoded to know how short it is; a large one is not
        monkeypatch.setattr(clips_module, "SMALL", small)
        decoded.clear()
        views = list(views_of(listed, "test", 3, 10, 3, look))
        found = recognise(method, views, controls=True)
        assert sorted(decoded) == names and found[""].how == "30 views of each video"
    decoded.clear()
    look = ClipTransform(**look, train=True), ClipTransform(**look, train=False)
    assert Clips(listed, "test", 3, *look, 0).views(0, 4).shape[0] == 5 and decoded == names[:1], "a store's views"
    one_by_one = [recognise(method, [view])[""].probabilities for view in views]
    assert np.abs(np.mean(one_by_one, 0) - found[""].probabilities).max() < 1e-6
    assert np.abs(found["frames_shuffled"].probabilities - found[""].probabilities).max() > 1e-4
