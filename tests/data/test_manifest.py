"""Manifests: what a split holds, what of it is on disk, and what is said of folders that cannot be used."""

import dataclasses
import hashlib
import pickle
from pathlib import Path

import pytest

from tests.data.small import listed, write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.guard import VARIABLE
from vidlib.data.manifest import Manifest, Row, passing, unreadable_because


def test_rows_classes_and_checksum_do_not_depend_on_order_or_place() -> None:
    a, b = listed(), listed(root="/elsewhere", order=-1)
    assert a.videos("test") == b.videos("test") and a.classes("test") == b.classes("test")
    assert a.checksum("test") == b.checksum("test")
    lines = "".join(sorted(f"v{c}_{i}\tclass {c}\n" for c in range(6) for i in range(8)))
    assert a.checksum("test") == hashlib.sha256(lines.encode()).hexdigest()
    one = dataclasses.replace(a, rows=a.rows[1:])
    assert one.checksum("test") != a.checksum("test")
    assert pickle.loads(pickle.dumps(a)).videos("test") == a.videos("test")


def test_splits_are_in_order_and_an_unknown_one_is_named() -> None:
    rows = tuple(Row(f"{s}{i}", "c", s) for s in ("test", "extra", "train", "val") for i in range(2))
    manifest = Manifest("m", rows, Path("/x"), {r.video: r.video for r in rows}, prompts={"c": "a cat"})
    assert manifest.splits == ("train", "val", "test", "extra")
    assert manifest.text("c") == "a cat" and manifest.text("d") == "d"
    with pytest.raises(UserError, match="no split 'tset'; it has train, val, test, extra"):
        manifest.videos("tset")


def test_a_video_listed_twice_is_refused() -> None:
    rows = (Row("v", "a", "train"), Row("v", "b", "test"))
    with pytest.raises(UserError, match="'v' is listed twice .*'a' in train, class 'b' in test"):
        Manifest("m", rows, Path("/x"), {"v": "v"})


@pytest.fixture
def partly(tmp_path: Path) -> Manifest:
    """Three test videos: one good, one broken, one absent; the published list has five."""
    write_clip(tmp_path / "a" / "good.mp4")
    (tmp_path / "a" / "broken.mp4").write_bytes(b"not a video" * 100)
    rows = tuple(Row(name, "a", "test") for name in ("good", "broken", "absent"))
    files = {row.video: f"a/{row.video}.mp4" for row in rows}
    return Manifest("partly", rows, tmp_path, files, listed={"test": {"a": 5}})


def test_coverage_counts_and_names(partly: Manifest) -> None:
    coverage = partly.coverage(check_readable=True)
    line = coverage.table.iloc[0].to_dict()
    assert line == {"split": "test", "classes": 1, "listed": 5, "present": 2, "readable": 1}
    assert coverage.missing == ["a/absent.mp4", "test/a: 3 of 5 videos"]
    assert list(coverage.unreadable) == ["a/broken.mp4"] and coverage.unreadable["a/broken.mp4"]
    assert "readable" not in partly.coverage().table


def test_keep_readable_drops_and_says_so(partly: Manifest, tmp_path: Path) -> None:
    kept = partly.keep_readable()
    assert [row.video for row in kept.rows] == ["good"] and set(kept.files) == {"good"}
    assert "2 of 3 clips" in kept.note and "a/broken.mp4" in kept.note and "a/absent.mp4" in kept.note
    assert kept.keep_readable() is kept
    write_clip(tmp_path / "a" / "broken.mp4")  # mended: it is looked at again
    assert len(partly.keep_readable().rows) == 2


def test_nothing_readable_names_the_first_failure(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", classes=2)
    rows = tuple(Row(f"{c}/{i}", c, "test") for c in ("class0", "class1") for i in range(2))
    manifest = Manifest("m", rows, root, {row.video: f"{row.video}.mp4" for row in rows})
    for i in range(2):
        (root / "class1" / f"{i}.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"'class1' can be decoded \(first failure: .*class1/0.mp4: the file is"):
        manifest.keep_readable()
    for i in range(2):
        (root / "class0" / f"{i}.mp4").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"none of the 4 clips .*first failure: .*class0/0.mp4: "):
        manifest.keep_readable()


def test_a_cause_that_may_pass_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tried = write_clip(tmp_path / "a.mp4"), []

    def failing(cause: object) -> None:
        tried.append(cause)
        raise cause if isinstance(cause, Exception) else video.VideoError(f"{path}: {cause}")

    for cause in (
        "cannot be opened: Permission denied",
        f"{VARIABLE}=SECONDS",
        MemoryError("Unable to allocate 9 GiB"),
    ):
        monkeypatch.setattr(video, "probe", lambda _, cause=cause: failing(cause))
        assert passing(unreadable_because(path)) and passing(unreadable_because(path))
    assert len(tried) == 6
    monkeypatch.setattr(video, "probe", lambda _: failing("it is not a film"))
    assert unreadable_because(path) == unreadable_because(path) == "it is not a film" and len(tried) == 7
