"""Videos to test on are looked at once, before anything is drawn; what is left out is named and counted."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.data.small import write_clip
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.catalogue import benchmarks, readable, used
from vidlib.data.disk import checking
from vidlib.data.manifest import Manifest, Row


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))


@pytest.fixture
def copy(tmp_path: Path) -> Manifest:
    """A part of UCF101 few-shot: two classes a split, four videos each; one broken in train, one in test, one empty."""
    root = tmp_path / "data" / "ucf101"
    for shade, name in enumerate(("Archery", "ApplyEyeMakeup", "Bowling", "CliffDiving", "HighJump", "Diving")):
        for i in range(4):
            write_clip(root / name / f"{i}.avi", frames=4 + i, shade=9 * shade)
    (root / "Archery" / "1.avi").write_bytes(b"broken" * 50)
    made = benchmarks.load("ucf101")
    (root / made.classes("test")[0] / "2.avi").write_bytes(b"broken" * 50)
    (root / made.classes("test")[0] / "3.avi").write_bytes(b"")
    return made


def test_broken_test_videos_are_left_out_named_and_counted(copy: Manifest) -> None:
    kept = readable.keep(copy, ("val", "test"))
    cls = copy.classes("test")[0]
    assert [row.video for row in copy.videos("test") if row not in kept.rows] == [f"{cls}/2", f"{cls}/3"]
    assert kept.videos("train") == copy.videos("train"), "training replaces, it does not leave out"
    assert "2 of 24 clips cannot be read and are left out" in kept.note and f"{cls}/2.avi" in kept.note
    lines = {line["split"]: line for line in used.record(kept)}
    assert lines["test"]["left_out"][f"{cls}/3.avi"] == "the file is empty" and not lines["train"]["left_out"]
    assert lines["test"]["present"] == lines["test"]["used"] == len(kept.videos("test"))
    assert lines["test"]["listed"] == sum(c["videos"] for c in benchmarks.describe("ucf101")["classes"]["test"])
    assert lines["test"]["checksum"] == kept.checksum("test") != copy.checksum("test")
    assert lines["test"]["published"] == []
    assert json.loads(json.dumps(list(lines.values()))) == list(lines.values())


def test_each_file_is_looked_at_once_until_it_changes(copy: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = readable.keep(copy, ("test",))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked at again")

    honest = video.probe
    monkeypatch.setattr(video, "probe", never)
    monkeypatch.setattr("vidlib.data.manifest._probed", never)
    assert readable.keep(copy, ("test",)).left_out == first.left_out
    lost = next(iter(first.left_out))
    write_clip(copy.path(next(row for row in copy.rows if row.video == lost)), frames=9)
    with pytest.raises(AssertionError, match="looked at again"):
        readable.keep(copy, ("test",))
    monkeypatch.undo()
    assert video.probe is honest
    for name, value in (("VIDLIB_CACHE", "cache"), ("VIDLIB_DATA", "data")):
        monkeypatch.setenv(name, str(copy.root.parent.parent / value))
    assert set(readable.keep(copy, ("test",)).left_out) == set(first.left_out) - {lost}


def test_a_cause_that_has_passed_leaves_nothing_out(copy: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be opened, in a check or at a run's start, has not changed when it can be."""
    whole, look = readable.keep(copy, ("test",)).left_out, readable._look
    shutil.rmtree(paths.cache_dir() / "readable")
    monkeypatch.setattr(readable, "_look", lambda todo, name: look(todo, name) | {todo[0]: "Permission denied"})
    assert len(readable.keep(copy, ("test",)).left_out) == len(whole) + 1
    monkeypatch.setattr(readable, "_look", look)
    assert readable.keep(copy, ("test",)).left_out == whole
    assert {line.state for line in checking.check("ucf101", workers=1, timeout=1e-4).lines} == {"unreadable"}
    again = checking.check("ucf101", workers=1)
    assert again.again == 0 and sum(line.state == "unreadable" for line in again.lines) == 3


def test_what_a_check_found_counts(copy: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    checking.check("ucf101", workers=1)
    monkeypatch.setattr("vidlib.data.catalogue.readable._look", lambda *_: pytest.fail("its ledger knows"))
    kept = readable.keep(copy, ("val", "test"))
    assert len(kept.left_out) == 2 and all(cause for *_, cause in kept.left_out.values())


def test_many_files_are_looked_at_by_several_processes(copy: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = readable.keep(copy, ("test",))
    (copy.root.parent.parent / "cache" / "readable").rename(copy.root.parent / "elsewhere")
    monkeypatch.setattr(readable, "FEW", 1)
    assert readable.keep(copy, ("test",)).left_out == alone.left_out


def test_a_class_that_would_vanish_from_a_split_is_refused(tmp_path: Path) -> None:
    rows = tuple(Row(f"{split}/{c}", c, split) for split in ("train", "test") for c in ("a", "b"))
    manifest = Manifest("m", rows, tmp_path, {row.video: f"{row.video}.mp4" for row in rows})
    for row in rows:
        write_clip(manifest.path(row))
    manifest.path(rows[3]).unlink()
    with pytest.raises(
        UserError, match=r"no video of class 'b' in split test can be read .*test/b\.mp4: the file is abs"
    ):
        readable.keep(manifest, ("test",))


def test_a_list_that_is_the_published_one_says_whose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(
        "ucf101", (Row("a/1", "a", "test"), Row("a/2", "a", "train")), tmp_path, {"a/1": "1", "a/2": "2"}
    )
    digest = hashlib.sha256(b"a/1\n").hexdigest()
    own = {"checksums": {"trx": {"test": digest, "train": ""}, "other": {"test": "", "train": ""}}}
    monkeypatch.setattr(benchmarks, "describe", lambda name: own)
    assert used.published(manifest, "test") == ["trx"] and used.published(manifest, "train") == []
    own.clear()
    assert used.published(manifest, "test") is None
