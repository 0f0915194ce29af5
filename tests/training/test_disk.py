"""Disks that fill up, and files that something changed: one sentence with the path, and nothing in silence."""

import json
import multiprocessing
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import Tiny
from tests.training.resume_child import train
from vidlib.basics.errors import UserError
from vidlib.results.runs import METRICS, STATE, WEIGHTS, read_lines
from vidlib.training import checkpoints

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["tests.training.resume_child"])


def with_room_for(size: int, folder: str, said, **how) -> None:
    """Train where no file can grow over ``size`` bytes."""
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train(folder, **how)
    except BaseException as error:
        said.put((type(error).__name__, str(error)))
    else:
        said.put(("", ""))


def go(folder, size: int = 0, **how) -> tuple[str, str]:
    said = START.SimpleQueue()
    child = START.Process(target=with_room_for, args=(size, str(folder), said), kwargs=how)
    child.start()
    child.join(300)
    return said.get()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert go(folder) == ("", "")
    return folder


@pytest.fixture
def half(tmp_path, done):
    """A training that was killed, in a folder of its own."""
    folder = tmp_path / "half"
    child = START.Process(target=train, args=(str(folder),), kwargs={"die": "half a file", "count": 4})
    child.start()
    child.join(300)
    return folder


@pytest.mark.parametrize("room, file", [(100, METRICS), (600, METRICS), (3000, STATE), (9000, METRICS)])
def test_a_full_disk_is_a_sentence_and_the_same_call_goes_on(tmp_path, done, room, file):
    kind, said = go(tmp_path, room)
    assert kind == "UserError" and said.startswith(f"{tmp_path / file} cannot be written: "), said
    assert "File too large" in said or "No space left" in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part-")]
    assert all(line["step"] == i for i, line in enumerate(read_lines(tmp_path / METRICS), 1)), "no half line stays"
    assert go(tmp_path) == ("", "")
    assert (tmp_path / WEIGHTS).read_bytes() == (done / WEIGHTS).read_bytes()


def flipped(path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def without_counters(folder) -> None:
    save_file(load_file(folder / STATE), folder / STATE)


def fewer_counters(folder) -> None:
    tensors, counters = checkpoints.read(folder / STATE)
    del counters["best"]
    checkpoints._write(folder / STATE, tensors, counters)


DAMAGES = {
    "a flipped byte in the state": (lambda f: flipped(f / STATE, 0.7), STATE, "checksum is another"),
    "a flipped byte near its end": (lambda f: flipped(f / STATE, 0.9999), STATE, "checksum is another"),
    "a flipped byte in its head": (lambda f: flipped(f / STATE, 0.05), STATE, "cannot be read"),
    "a state without counters": (without_counters, STATE, "checksum is another"),
    "a state with fewer counters": (fewer_counters, STATE, "lacks best: delete it to start again"),
    "an empty state": (lambda f: (f / STATE).write_bytes(b""), STATE, "cannot be read"),
    "no metrics": (lambda f: (f / METRICS).unlink(), METRICS, "does not hold the steps 1 to 12"),
    "empty metrics": (lambda f: (f / METRICS).write_bytes(b""), METRICS, "does not hold the steps 1 to 12"),
    "a line less": (lambda f: changed(f, lambda lines: lines[:4] + lines[5:]), METRICS, "does not hold the steps"),
    "a line twice": (lambda f: changed(f, lambda lines: lines[:4] + lines[3:]), METRICS, "does not hold the steps"),
    "garbage": (lambda f: changed(f, lambda lines: [*lines[:3], b"\xff\xfe garbage", *lines[3:]]), METRICS, "line 4"),
    "NULs": (lambda f: changed(f, lambda lines: [*lines[:3], bytes(4096), *lines[3:]]), METRICS, "damaged in line 4"),
    "a number": (lambda f: changed(f, lambda lines: [b"7", *lines]), METRICS, "damaged in line 1"),
    "a step in words": (
        lambda f: changed(f, lambda lines: [b'{"step": "one"}', *lines[1:]]),
        METRICS,
        "does not hold the steps",
    ),
}


def changed(folder, change) -> None:
    lines = (folder / METRICS).read_bytes().split(b"\n")
    (folder / METRICS).write_bytes(b"\n".join(change(lines)))


def test_what_changed_under_a_training_is_told(tmp_path, half):
    assert json.loads((half / METRICS).read_text().splitlines()[11])["step"] == 12
    for name, (damage, file, words) in DAMAGES.items():
        folder = tmp_path / name.replace(" ", "_")
        shutil.copytree(half, folder)
        damage(folder)
        kind, said = go(folder)
        assert kind == "UserError" and f"{folder / file}" in said and words in said and "\n" not in said, (name, said)
        assert "delete" in said, "what to do"


def test_finished_weights_that_changed_are_told(tmp_path):
    path = tmp_path / WEIGHTS
    checkpoints.save_trainable(Tiny(), path)
    flipped(path, 0.99)
    with pytest.raises(UserError, match=f"{WEIGHTS} cannot be read .its checksum is another"):
        checkpoints.load_trainable(Tiny(), path)
    method = Tiny()
    with torch.no_grad():
        method.head[0].weight[2, 3] = torch.nan
    checkpoints.save_trainable(method, path)
    with pytest.raises(UserError, match=f"{WEIGHTS} holds values that are not numbers, in head.0.weight"):
        checkpoints.load_trainable(Tiny(), path)
