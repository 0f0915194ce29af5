"""``check``: what is said of broken, short, odd and doubled files; a killed check continues; nothing hangs."""

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.pool_work import work
from tests.data.small import write_clip
from vidlib.basics.errors import UserError
from vidlib.data import pool
from vidlib.data.catalogue import benchmarks, ledger
from vidlib.data.disk.checking import check
from vidlib.data.guard import Died, Late

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("VIDLIB_SHARED") or ROOT.parent / "shared") / "clips"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))


def _folder(root: Path) -> Path:
    good = write_clip(root / "a" / "good.mp4", frames=12, shade=10)
    write_clip(root / "short.mp4", frames=3)
    shutil.copy(good, root / "twin 手.mp4")
    (root / "cut.mp4").write_bytes(good.read_bytes()[:-200])
    (root / "empty.avi").touch()
    (root / "text.mkv").write_text("not a video")
    return root


def test_each_file_is_named_with_its_cause(tmp_path: Path) -> None:
    root = _folder(tmp_path / "videos")
    found = check(f"folder:{root}", workers=2)
    lines = {line.file: line for line in found.lines}
    assert {name: line.state for name, line in lines.items()} == {
        "a/good.mp4": "good", "short.mp4": "short", "twin 手.mp4": "duplicate", "cut.mp4": "unreadable",
        "empty.avi": "unreadable", "text.mkv": "unreadable",
    }  # fmt: skip
    good = lines["a/good.mp4"]
    assert (good.frames, good.header, good.rate, good.width, good.height) == (12, 12, 10.0, 32, 32)
    assert good.seconds == pytest.approx(1.2) and len(good.content) == 64
    assert lines["short.mp4"].why == "3 frames" and lines["twin 手.mp4"].why == "same content as a/good.mp4"
    assert lines["empty.avi"].why == "is empty (0 bytes)" and "FFmpeg" in lines["text.mkv"].why
    said = "\n".join(found.report())
    assert "6 files" in said and "3 unreadable" in said and "frames: 3 to 12, median 12, 27 in all" in said
    assert found.ledger.is_file() and found.ledger.is_relative_to(tmp_path / "cache")
    assert not [p for p in root.rglob("*") if p.suffix in (".tsv", ".lock")]


def test_size_changes_and_uneven_rates_are_odd(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "vary.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * i, np.uint8), format="rgb24")
            frame.pts = i * 1000 if i < 5 else 5000 + (i - 5) * 4000
            frame.time_base = Fraction(1, 10_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    small, large = (write_clip(tmp_path / f"{size}.ts", frames=10, size=size) for size in (32, 64))
    (tmp_path / "sizes.ts").write_bytes(small.read_bytes() + large.read_bytes())
    lines = {line.file: line for line in check(f"folder:{tmp_path}", workers=1).lines}
    assert lines["vary.mp4"].state == "odd" and "the rate varies: 100 to 400 ms" in lines["vary.mp4"].why
    assert "changes its size: 32 x 32 from frame 0, 64 x 64 from frame" in lines["sizes.ts"].why


def test_a_killed_check_continues_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for i in range(6):
        write_clip(root / f"{i}.mp4", frames=9, shade=10 * i)
    command = [sys.executable, "-m", "tests.data.disk.checking_child", "3", str(root)]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -9
    kept = ledger.place(f"folder:{root}", root)
    assert kept.read_text().count("\n") == 4  # the titles and what was done
    with open(kept, "a") as file:
        file.write("cut off by the k")
    found = check(f"folder:{root}", workers=2)
    assert found.again == 3 and [line.file for line in found.lines] == [f"{i}.mp4" for i in range(6)]
    assert {line.state for line in found.lines} == {"good"}
    whole = kept.read_bytes()
    assert check(f"folder:{root}").again == 6 and kept.read_bytes() == whole
    write_clip(root / "2.mp4", frames=2)
    (root / "3.mp4").unlink()
    found = check(f"folder:{root}", workers=1)
    assert found.again == 4 and {line.file: line.state for line in found.lines}["2.mp4"] == "short"
    assert len(found.lines) == 5 and check(f"folder:{root}", again=True, workers=1).again == 0


def test_a_benchmark_is_checked_by_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.data.fake_disk import identity, published
    from vidlib.data.disk.adding import add

    lists, disk = published("hmdb51", 1, 2), tmp_path / "disk"
    for row in lists.rows:
        write_clip(disk / f"{identity(row)}.mp4", frames=8, shade=len(row.cls))
    write_clip(disk / "other.mp4")
    add("hmdb51", disk, {"trx": lists})
    (disk / f"{identity(lists.rows[0])}.mp4").unlink()
    found = check("hmdb51", workers=1)
    assert len(found.lines) == 6 and found.ledger == tmp_path / "data" / "hmdb51" / "check.tsv"
    bad = [line for line in found.lines if line.state == "unreadable"]
    assert [line.why for line in bad] == ["cannot be opened: No such file or directory"]


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no video file in"):
        check(f"folder:{tmp_path}")
    write_clip(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="give at least 1"):
        check(f"folder:{tmp_path}", workers=0)
    (tmp_path / "mine.tsv").write_text("my notes\n")
    with pytest.raises(UserError, match="mine.tsv is not a ledger"):
        check(f"folder:{tmp_path}", ledger=tmp_path / "mine.tsv")
    assert (tmp_path / "mine.tsv").read_text() == "my notes\n"


def test_the_pool_outlives_what_hangs_and_crashes() -> None:
    results = dict(pool.each(work, [(number,) for number in range(6)], workers=2, timeout=10.0))
    assert {number: results[number] for number in (0, 4, 5)} == {0: 0, 4: 40, 5: 50}
    assert [type(results[number]) for number in (1, 2, 3)] == [Late, Died, ValueError]
    assert "took longer than 10 s" in pool.cause(results[1], Path("x"))
    begun = pool.each(work, [(0,), (1,), (4,)], workers=2, timeout=60.0)
    assert next(begun) == (0, 0)
    begun.close()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real clips are not beside the checkout")
def test_every_broken_real_clip_is_named_with_its_cause() -> None:
    found = check(f"{benchmarks.FOLDER}{SHARED / 'broken'}", workers=2)
    assert len(found.lines) == 7
    assert {line.state for line in found.lines} == {"unreadable", "damaged"} and all(line.why for line in found.lines)
