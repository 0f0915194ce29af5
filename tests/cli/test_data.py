"""``vidlib data`` as a user types it: tables, sentences, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.small import write_clip
from tests.data.small_lists import videos, write_clip_fsar, write_trx
from vidlib import cli
from vidlib.data.catalogue import entries

SHARED = Path(os.environ.get("VIDLIB_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "splits" / "lists"
pytestmark = pytest.mark.usefixtures("data")


def said(capsys, *arguments: object) -> list[str]:
    assert cli.main(["data", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys, *arguments: object) -> str:
    assert cli.main(["data", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    return printed.err


def test_list_names_every_benchmark_and_what_is_here(capsys, data, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path / "cache"))
    lines = said(capsys, "list")
    found = {line.split()[0]: line.split() for line in lines[1:-1]}
    assert tuple(found) == entries.every() and str(data) in lines[-1]
    assert found["hmdb51"][1:] == ["few-shot", "31/10/10", "4280/1194/1292", "nothing"]
    assert found["official:ucf101"][1:] == ["standard", "splits", "101", "9537/3783", "nothing"]
    assert found["official:ssv2"][-2:] == ["?/24777", "nothing"]
    assert found["moving_shapes"][-2:] == ["nothing", "yet"] and not (tmp_path / "cache").exists()
    starts = {line.index(found[line.split()[0]][-3]) for line in lines[1:-1] if line.startswith(("hmdb51", "ucf101"))}
    assert len(starts) == 1  # columns are aligned

    write_trx(tmp_path, "hmdb51", videos("hmdb51"))
    said(capsys, "lists", "hmdb51", "--from", tmp_path)
    write_clip(data / "hmdb51" / "fencing" / "one.avi")
    lines = said(capsys, "list")
    assert next(line for line in lines if line.startswith("hmdb51")).endswith(
        "lists of trx, videos for vidlib data add hmdb51"
    )
    for cls in ("wave", "smoke", "cartwheel"):
        write_clip(data / "hmdb51" / cls / "one.avi")
    assert next(line for line in said(capsys, "list") if line.startswith("hmdb51")).endswith("trx, videos 1/1/2")


@pytest.mark.parametrize("name", entries.every())
def test_show_says_what_the_entry_says(name, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path / "cache"))
    facts = entries.entry(name)
    text = " ".join(" ".join(said(capsys, "show", name)).split())
    for value in (facts.title, facts.task, facts.called, facts.licence, facts.where, facts.layout, *facts.notes):
        assert " ".join(value.split()) in text
    assert ("direction matters: no flips" in text) is facts.directional
    lines = said(capsys, "show", name, "--classes")
    assert max(map(len, lines[:20])) <= 100
    classes = {cls for classes in facts.texts().values() for cls in classes}
    assert all(any(cls in line for line in lines) for cls in classes)


def test_lists_are_read_compared_and_kept(capsys, tmp_path, data):
    made = videos("kinetics100")
    write_trx(tmp_path, "kinetics100", made)
    made["test"]["busking"] = ["replaced_01", *made["test"]["busking"][1:]]
    write_clip_fsar(tmp_path, "kinetics100", made)
    lines = said(capsys, "lists", "kinetics100", "--from", tmp_path, "--labels")
    assert lines[0].split() == ["family", "split", "classes", "videos", "fewest", "most", "expected", "list"]
    assert lines[1].split() == ["trx", "train", "64", "128", "2", "2", "6400", "other"]
    assert "trx train: not the published list (128 of 6400 videos, or other ones)" in lines
    assert "clip_fsar: 100 anonymous labels, 100 by class folder" in lines
    assert ["train0", "air", "drumming", "class", "folder"] in [line.split() for line in lines]
    assert "test: 1 videos only in trx, 1 only in clip_fsar, 47 in both" in lines
    files = [data / "kinetics100" / "lists" / f"{family}.tsv" for family in ("trx", "clip_fsar")]
    assert lines[-2:] == [f"kept: {file}" for file in files] and all(file.is_file() for file in files)
    made["test"]["busking"] = made["test"]["busking"][:1]  # a family alone is compared with the other one that is kept
    write_clip_fsar(tmp_path / "later", "kinetics100", made)
    lines = said(capsys, "lists", "kinetics100", "--from", tmp_path / "later", "--ids")
    assert "  test: only clip_fsar: busking/replaced_01" in lines
    assert sum(line.startswith("  test: only trx: busking/") for line in lines) == 2
    assert "test: 2 videos only in trx, 1 only in clip_fsar, 46 in both" in lines


def test_labels_without_a_name_are_listed(capsys, tmp_path):
    write_clip_fsar(tmp_path, "hmdb51", videos("hmdb51"), folders=False)
    lines = said(capsys, "lists", "hmdb51", "--from", tmp_path)
    assert any(line.startswith("clip_fsar: no name is known for train0, train1") for line in lines)


def test_audit_prints_the_table_and_warns(capsys, tmp_path):
    lines = said(capsys, "audit", "ssv2_full", "ssv2_small")
    assert lines[0].split() == ["ssv2_full", "ssv2_small", "classes", "videos"]
    assert ["train", "test", "7", "unknown"] in [line.split() for line in lines]
    assert any("val0 (Holding something over something)" in line for line in lines)
    for name in ("ssv2_full", "ssv2_small"):
        write_trx(tmp_path, name, videos(name))
    lines = said(capsys, "audit", "ssv2_full", "ssv2_small", "--lists", tmp_path)
    warned = [line for line in lines if line.startswith("WARNING never test on the test list of ssv2_small")]
    assert len(warned) == 1 and warned[0].endswith("7 of its 24 classes lie in the train list of ssv2_full")
    assert ["val", "train", "7", "0"] in [line.split() for line in lines]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not beside the checkout")
def test_audit_finds_what_is_known_of_the_published_lists(capsys):
    lines = said(capsys, "audit", "ssv2_full", "ssv2_small", "--lists", SHARED)
    assert ["train", "test", "7", "568"] in [line.split() for line in lines]


def test_official_files_are_imported(capsys, tmp_path, data):
    for part, line in (("train", "Archery/v_a.avi 3"), ("test", "Archery/v_b.avi")):
        (tmp_path / f"{part}list01.txt").write_text(f"{line}\n")
    lines = said(capsys, "import-official", "official:ucf101", "--from", tmp_path)
    assert lines[1].split() == ["train", "1", "1", "1", "9537", "other"]
    assert lines[-1] == f"kept: 2 files in {data / 'ucf101' / 'annotations'}"
    assert sum("is not there" in line for line in lines) == 2
    assert next(line for line in said(capsys, "list") if line.startswith("official:ucf101")).endswith("split files")
    (tmp_path / "testlist01.txt").write_text("Archery/v_c.avi\n")
    assert "add --overwrite" in refused(capsys, "import-official", "ucf101", "--from", tmp_path)
    said(capsys, "import-official", "ucf101", "--from", tmp_path, "--overwrite")


REFUSED = [
    (
        ["show", "hmdb"],
        "benchmark 'hmdb' is not known (did you mean 'hmdb51'?); give one of motion, scene, words, moving_shapes",
    ),
    (["lists", "motion", "--from", "."], "has no published few-shot lists"),
    (["lists", "hmdb5", "--from", "http://127.0.0.1:9/x.zip"], "did you mean 'hmdb51'"),  # before anything is fetched
    (["lists", "hmdb51", "--from", "nowhere"], "nowhere does not exist"),
    (["lists", "hmdb51", "--from", "ftp://example.org/x"], "only http and https"),
    (["audit", "hmdb51", "ucf"], "did you mean 'ucf101'"),
    (["import-official", "kinetics", "--from", "."], "did you mean 'kinetics400'"),
    (["import-official", "ucf101", "--from", "nowhere"], "nowhere does not exist"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=str)
def test_what_cannot_be_done_is_one_sentence_and_code_1(arguments, words, capsys, data):
    assert words in refused(capsys, *arguments) and not data.exists()


def test_commands_that_are_none_are_refused_and_the_module_runs(capsys, data):
    for arguments in ([], ["lst"], ["lists", "hmdb51"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["data", *arguments])
        assert stop.value.code == 2 and "usage: vidlib data" in capsys.readouterr().err
    done = subprocess.run([sys.executable, "-m", "vidlib.cli", "data", "show", "x"], capture_output=True, text=True)
    assert done.returncode == 1 and "benchmark 'x' is not known" in done.stderr and "Traceback" not in done.stderr
