"""``prefetch``: what is kept is what was decoded and made smaller; it fits first; ended early, it continues."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.fake_disk import identity, published
from tests.data.small import write_clip
from vidlib.basics.errors import UserError
from vidlib.data import clips, prefetched, video
from vidlib.data.catalogue import benchmarks
from vidlib.data.clips import Clips
from vidlib.data.disk import prefetching
from vidlib.data.disk.adding import add
from vidlib.data.disk.prefetching import fetch, plan
from vidlib.data.manifest import Manifest, Row
from vidlib.data.protocols import merged

ROOT = Path(__file__).parents[3]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(data: Path, tmp_path: Path) -> Path:
    """Six HMDB51 videos, 40 x 40 pixels, 9 to 14 frames."""
    lists = published("hmdb51", 1, 2)
    for i, row in enumerate(lists.rows):
        write_clip(tmp_path / "disk" / f"{identity(row)}.mp4", frames=9 + i, shade=20 * i, size=40)
    add("hmdb51", tmp_path / "disk", {"trx": lists})
    return tmp_path / "disk"


def _tensor(frames: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float()


def _clips(split: str = "train", frames: int = 4) -> Clips:
    return Clips(benchmarks.load("hmdb51"), split, frames, _tensor, _tensor, 0)


def _small(frames: np.ndarray, side: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(f).resize((side, side), Image.Resampling.BILINEAR)) for f in frames])


def test_what_is_kept_is_what_was_decoded(disk: Path) -> None:
    manifest = benchmarks.load("hmdb51")
    wanted = plan("hmdb51", 20)
    assert len(wanted.todo) == 6 and wanted.estimate == pytest.approx(6 * 11.5 * 20 * 20 * 3, rel=0.01)
    assert "6 of 6 clips to decode (all frames, short side 20), about 0.00 GB" in wanted.line()
    kept, bad = fetch(wanted, workers=2)
    assert not bad and len(kept.kept) == 6
    for row in manifest.rows:
        expected = _small(video.read_all(manifest.path(row)), 20)
        assert np.array_equal(kept.frames(row.video, manifest.path(row)), expected)
        shard = np.load(kept.folder / "shard-0000.npy", mmap_mode="r")  # a person's own reader finds them, too
        at = kept.kept[row.video].offset
        assert np.array_equal(shard[at : at + expected.nbytes], expected.ravel())
    made = _clips()
    assert made.kept is not None and "Frames were prefetched (all frames, short side 20)" in made.manifest.note
    for i, row in enumerate(made.rows):
        whole = torch.from_numpy(_small(video.read_all(manifest.path(row)), 20)).permute(0, 3, 1, 2).float()
        picked = whole[made.pick(len(whole), 4, None)]
        assert torch.equal(made.test(i), picked) and made.train(i, 3, 0).shape == picked.shape
        assert not made._whole and not made._centres


def test_small_clips_stay_as_they_are_and_some_frames_are_the_centres(disk: Path) -> None:
    kept, _ = fetch(plan("hmdb51", 64, frames=4), workers=1)
    manifest = benchmarks.load("hmdb51")
    for row in manifest.rows:
        whole = video.read_all(manifest.path(row))
        centres = clips.segment_indices(len(whole), 4)
        assert np.array_equal(kept.frames(row.video, manifest.path(row)), whole[centres])
    made = _clips("test")
    decoded = Clips(manifest, "test", 4, None, _tensor, 0)
    decoded.kept = None
    assert torch.equal(made.test(0), decoded.test(0))  # four of four centres: testing sees the same frames


def test_a_changed_file_is_decoded_and_said_once(disk: Path) -> None:
    fetch(plan("hmdb51", 20), workers=1)
    made = _clips()
    path = made.manifest.path(made.rows[0])
    write_clip(path, frames=12, shade=200, size=40)
    os.utime(path, ns=(1, 1))
    with pytest.warns(UserWarning, match="is not the file that was prefetched") as said:
        first = made.test(0)
        again = made.train(0, 0, 0)
    assert first.shape[-1] == again.shape[-1] == 40 and len(said) == 1 and made.test(1).shape[-1] == 20
    wanted = plan("hmdb51", 20)
    assert wanted.todo == (made.rows[0].video,)
    fetch(wanted, workers=1)
    assert _clips().test(0).shape[-1] == 20 and plan("hmdb51", 20).todo == ()


def test_it_can_be_passed_over(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(plan("hmdb51", 20), workers=1)
    monkeypatch.setenv("VIDLIB_PREFETCH", "0")
    made = _clips()
    assert made.kept is None and "prefetched" not in made.manifest.note and made.test(0).shape[-1] == 40


def assert_all_kept(kept) -> None:
    """Every video of the list is there, as a decoder and the same resizing give it."""
    manifest = benchmarks.load("hmdb51")
    for row in manifest.rows:
        wanted = _small(video.read_all(manifest.path(row)), 20)
        assert np.array_equal(kept.frames(row.video, manifest.path(row)), wanted)


def test_several_shards(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching, "SHARD", 30_000)
    monkeypatch.setattr(prefetching, "COMMIT", 1)
    kept, _ = fetch(plan("hmdb51", 20), workers=2)
    shards = sorted(kept.folder.glob("shard-*.npy"))
    assert 3 <= len(shards) <= 6 and all(path.stat().st_size <= 30_128 for path in shards)
    assert_all_kept(kept)


def test_a_killed_prefetch_continues(disk: Path) -> None:
    code = (
        "import os, signal\nfrom vidlib.data.disk import prefetching as p\n"
        "p.COMMIT = 1\nadd = p._Writer.add\ndone = []\n"
        "def adding(self, name, stamp, frames):\n"
        "    if len(done) == 3:\n"
        "        self._file.write(b'half of a clip'); self._file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "    add(self, name, stamp, frames); done.append(name)\n"
        "p._Writer.add = adding\np.fetch(p.plan('hmdb51', 20), workers=1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == -9
    assert len(prefetched.index(prefetched.place("hmdb51"))) == 3
    wanted = plan("hmdb51", 20)
    assert (len(wanted.done), len(wanted.todo)) == (3, 3)
    kept, _ = fetch(wanted, workers=1)
    assert_all_kept(kept)


def test_a_full_disk_is_said_and_what_is_done_stays(disk: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom vidlib.data.disk import prefetching as p\n"
        "from vidlib.basics.errors import UserError\n"
        "p.COMMIT = 1\nwanted = p.plan('hmdb51', 20)\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "try:\n    p.fetch(wanted, workers=1)\nexcept UserError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, stderr=subprocess.PIPE, text=True)
    assert "cannot be written: File too large; what is done stays, call it again" in done.stderr
    wanted = plan("hmdb51", 20)
    assert len(wanted.done) == 1 and len(fetch(wanted, workers=1)[0].kept) == 6
    row = benchmarks.load("hmdb51").rows[-1]
    path = benchmarks.load("hmdb51").path(row)
    kept = prefetched.find("hmdb51")
    assert np.array_equal(kept.frames(row.video, path), _small(video.read_all(path), 20))


def test_broken_clips_are_named_and_not_kept(disk: Path) -> None:
    manifest = benchmarks.load("hmdb51")
    row = manifest.rows[0]
    manifest.path(row).write_bytes(b"broken")
    kept, bad = fetch(plan("hmdb51", 20), workers=1)
    assert list(bad) == [row.video] and "FFmpeg" in bad[row.video] and row.video not in kept.kept
    assert f"does not decode: {row.video}" in "\n".join(prefetching.report(kept, bad))


def test_what_does_not_fit_is_refused_before_anything_is_written(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching.shutil, "disk_usage", lambda path: Usage(10, 10, prefetching.MARGIN + 50_000))
    with pytest.raises(UserError, match=r"6 of 6 clips .*: that does not fit .*give a smaller --size"):
        plan("hmdb51", 20)
    assert not prefetched.place("hmdb51").exists()
    assert plan("hmdb51", 16, frames=2).todo  # 2 of 11 frames do


def test_other_sizes_and_nonsense_are_refused(disk: Path) -> None:
    fetch(plan("hmdb51", 20), workers=1)
    with pytest.raises(UserError, match=r"another form \(all frames, short side 20\)"):
        plan("hmdb51", 32)
    with pytest.raises(UserError, match="short side of 16 pixels or more"):
        plan("hmdb51", 1)
    with pytest.raises(UserError, match="only a benchmark"):
        plan(f"folder:{disk}", 32)
    (prefetched.place("hmdb51") / "store.yaml").write_text("{")
    with pytest.raises(UserError, match="store.yaml is damaged; delete"):
        plan("hmdb51", 20)


def test_across_data_sets_each_split_reads_what_was_prefetched_of_its_own(disk: Path) -> None:
    fetch(plan("hmdb51", 20), workers=1)
    row = Row("x/1", "x", "train")
    other = Manifest("mine", (row,), disk, {row.video: "none.mp4"})
    own = benchmarks.load("hmdb51")
    made = merged(other, [row], own, list(own.videos("test")), "hmdb51:")
    tested, alone = (Clips(one, "test", 4, None, _tensor, 0) for one in (made, own))
    assert [tested.rows[0].video, tested.test(0).shape[-1]] == [f"hmdb51:{alone.rows[0].video}", 20]
    assert torch.equal(tested.test(0), alone.test(0)) and not tested._centres
    assert tested.kept is alone.kept and Clips(made, "train", 4, _tensor, _tensor, 0).kept is None


def test_some_frames_serve_neither_more_frames_nor_several_views(disk: Path, capsys, monkeypatch) -> None:
    fetch(plan("hmdb51", 20, frames=4), workers=1)
    monkeypatch.setattr("vidlib.basics.progress._said", set())
    with pytest.raises(UserError, match=r"frames: 5, and .*prefetch keeps 4 of a clip; VIDLIB_PREFETCH=0 .*again$"):
        _clips(frames=5)
    look = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    one, many = (list(clips.test_views(benchmarks.load("hmdb51"), "test", 4, n, 1, look)) for n in (1, 3))
    assert one[0].kept is not None and not any(view.kept for view in many)
    assert capsys.readouterr().out.count("4 frames of a clip: 3 views in time are decoded anew") == 1
    shown = [view.test(0) for view in many]
    assert not torch.equal(shown[0], shown[2])
    for _ in range(2):
        _clips()
    assert capsys.readouterr().out.count("frames at random are drawn from those alone") == 1


def test_thirty_views_read_one_index(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(plan("hmdb51", 20), workers=1)
    read, honest = [], prefetched.index
    monkeypatch.setattr(prefetched, "index", lambda folder: read.append(folder) or honest(folder))
    look = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    views = list(clips.test_views(benchmarks.load("hmdb51"), "test", 2, 10, 3, look))
    assert len(views) == 30 and len(read) == 1
