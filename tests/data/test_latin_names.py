"""A file or folder name in Latin-1 bytes: all readers take it alike, ids are text, what is said can be printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.small import write_clip, write_folder
from vidlib import cli
from vidlib.basics.digests import folder_digest
from vidlib.basics.errors import UserError
from vidlib.data.folder import from_folder
from vidlib.params.few_shot import RunParams
from vidlib.results import trust
from vidlib.studies.predict.files import examples, list_files
from vidlib.training import few_shot


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four classes of four videos; a file, and a class with its files, in Latin-1."""
    for name in ("RUNS", "CACHE"):
        monkeypatch.setenv(f"VIDLIB_{name}", str(tmp_path / name))
    root = write_folder(tmp_path / "D", classes=4, clips=4)
    try:
        os.rename(root / "class0", os.fsencode(root) + b"/caf\xe9")
        os.rename(root / "class1" / "0.mp4", os.fsencode(root) + b"/class1/\xfcber.mp4")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    return root


def test_ids_and_texts_are_text_and_files_are_found(root: Path) -> None:
    manifest = from_folder(root)
    assert {row.cls for row in manifest.rows} == {"café", "class1", "class2", "class3"}
    assert "class1/über.mp4" in {row.video for row in manifest.rows}
    assert len(manifest.keep_readable().rows) == 16 and manifest.text("café") == "café"
    assert len(manifest.checksum("train")) == 64 and len(folder_digest(root)) == 64
    assert set(examples(root)) == {"café", "class1", "class2", "class3"} and len(list_files([root])) == 16


def test_a_run_on_them_finishes(root: Path) -> None:
    given = {"dataset": f"folder:{root}", "way": 2, "frames": 2, "method": "protonet", "device": "cpu"}
    given |= {"train_episodes": 1, "val_episodes": 1, "val_every": 1, "test_episodes": 2}
    run = few_shot.run(few_shot.checked(RunParams.parse(given)))
    assert run.result["test"]["episodes"] == 2 and trust.coverage_line(run.result).encode()


@pytest.mark.parametrize("way", ["classes", "support"])
def test_predict_reads_and_names_them(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture, way: str) -> None:
    given = ["--classes", "a cross,a bar"] if way == "classes" else ["--support", str(root)]
    csv, figures = tmp_path / "o.csv", tmp_path / "figures"
    assert cli.main(["predict", str(root), *given, "--csv", str(csv), "--figures", str(figures)]) == 0
    said = capsys.readouterr()
    assert "16 videos" in said.out and "could not be read" not in said.out and r"caf\udce9/0.mp4" in said.out
    assert csv.read_text(encoding="utf-8").count(r"\udcfcber.mp4") >= 2 and len(list(figures.glob("*.png"))) == 16


def test_check_reads_them(root: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["data", "check", f"folder:{root}", "--workers", "1"]) == 0
    assert "16 files" in capsys.readouterr().out


def test_what_cannot_be_read_is_named_so_that_it_prints(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/class1/\xfcber.mp4")).write_bytes(b"no video")
    note = from_folder(root).keep_readable().note
    assert r"class1/\udcfcber.mp4" in note and note.encode()
    for file in Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).iterdir():
        file.write_bytes(b"no video")
    with pytest.raises(UserError, match="no clip of class 'café' can be decoded") as error:
        from_folder(root).keep_readable()
    assert str(error.value).encode()


def test_two_directories_of_one_class_are_refused(root: Path) -> None:
    write_clip(root / "café" / "0.mp4")
    with pytest.raises(UserError, match="two directories of class 'café'; join them"):
        from_folder(root)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_such_a_name_may_be_given_and_is_printed_by_any_terminal(root: Path, encoding: str) -> None:
    name = os.fsencode(root) + b"/class1/\xfcber.mp4"
    environment = os.environ | {"PYTHONIOENCODING": encoding}

    def said(*words: str | bytes) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "vidlib.cli", *words], env=environment, capture_output=True)

    done = said("predict", name, "--classes", "a cross,a bar")
    assert done.returncode == 0 and rb"\udcfcber.mp4" in done.stdout, done.stderr
    done = said("run", "few_shot", "--set", b"dataset=folder:" + name)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and rb"\udcfcber.mp4 is not a folder" in done.stderr
