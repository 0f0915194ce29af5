"""``vidlib data add|check|prefetch`` from the command line's arguments to the lines of the report."""

import argparse
from pathlib import Path

import pytest

from tests.data.fake_disk import identity, lay, published
from tests.data.small import write_clip
from vidlib.basics.errors import UserError
from vidlib.cli import data as commands


def _run(*arguments: str) -> list[str]:
    parser = argparse.ArgumentParser(prog="vidlib data")
    commands.add_commands(parser)
    given = parser.parse_args(arguments)
    return list(given.do(given))


@pytest.fixture(autouse=True)
def _lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(commands, "published", lambda name, source: {"trx": published(name, 1, 2)} if source else {})


def test_add_check_prefetch(data: Path, tmp_path: Path) -> None:
    disk, rows = tmp_path / "disk", published("ucf101", 1, 2).rows
    for row in rows:
        write_clip(disk / f"{identity(row)}.mp4", frames=9)
    said = _run("add", "ucf101", "--videos", str(disk), "--lists", str(tmp_path), "--family", "trx")
    assert said[0].startswith("ucf101: 6 videos, 6 new, 0 before: ") and "  test   2 of 2 videos (100.0%)" in said[4]
    said = _run("check", "ucf101", "--workers", "2")
    assert said[0].startswith("ucf101: 6 files in ") and said[0].endswith("1 good, 5 duplicate")
    assert _run("check", "ucf101")[0].count("6 of them as an earlier check found them") == 1
    said = _run("prefetch", "ucf101", "--size", "16", "--frames", "all", "--dry-run")
    assert len(said) == 1 and "6 of 6 clips to decode" in said[0]
    said = _run("prefetch", "ucf101", "--size", "16", "--frames", "2", "--workers", "1")
    assert said[1].startswith("6 clips (2 frames a clip, short side 16), 0.00 GB in ")


def test_mistakes_are_one_sentence(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lay(tmp_path / "disk", ["a.avi"])
    with pytest.raises(UserError, match="did you mean 'ucf101'"):
        _run("add", "ucf11", "--videos", str(tmp_path / "disk"))
    with pytest.raises(UserError, match="none of the 1 video files .*run vidlib data lists ucf101"):
        _run("add", "ucf101", "--videos", str(tmp_path / "disk"))
    with pytest.raises(SystemExit):
        _run("prefetch", "ucf101", "--size", "16", "--frames", "few")
    assert "'few' is neither all nor a number of frames" in capsys.readouterr().err
