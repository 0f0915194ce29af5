"""Every read equals PyAV's full sequential decode, on clips of each awkward kind made here; failures name the file."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.data.small import write_clip
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.video import VideoError, count_frames, probe, read_all, read_frames

RATE = 25


def picture(index: int, height: int, width: int) -> np.ndarray:
    """uint8 [H W 3]: blocks that move and a bar that tells frames apart."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    frame = np.roll(blocks.repeat(8, 0).repeat(8, 1)[:height, :width], (index * 2, index * 3), (0, 1))
    frame[(index * 5) % height :][:6] = index * 9 % 256
    return frame


def add(container, codec="libx264", height=48, width=64, pixels="yuv420p", bframes=2, options=None, turn=None):
    options = {"threads": "1", **(options or {})}  # the same file on any machine
    stream = container.add_stream(codec, rate=RATE, options=options)
    stream.height, stream.width, stream.pix_fmt = height, width, pixels
    stream.codec_context.max_b_frames = bframes
    if turn:
        stream.set_display_rotation(**turn)
    return stream


def fill(container, stream, frames=30, start=0, times=None):
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(index, stream.height, stream.width), format="rgb24")
        frame.pts, frame.time_base = (times[index] if times else index) + start, Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def make(path: Path, frames=30, start=0, times=None, **stream) -> Path:
    with av.open(str(path), "w") as container:
        fill(container, add(container, **stream), frames, start, times)
    return path


def two_streams(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        streams = [add(container, height=32, width=48), add(container, height=64, width=96)]
        for frames, stream in zip((20, 12), streams, strict=True):
            fill(container, stream, frames)
    return path


def corrupt(path: Path, threads: int) -> tuple[int, int]:
    """How many frames decode with so many threads, and how many of them FFmpeg marks as damaged."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = threads
        try:
            marks = [frame.is_corrupt for frame in container.decode(stream)]
        except av.FFmpegError:
            return 0, 0
    return len(marks), sum(marks)


def hide_damage(path: Path) -> Path:
    """A file with one flipped bit that FFmpeg patches without an error, and with two threads even without a mark."""
    data = make(path, height=96, width=128, options={"g": "100"}).read_bytes()
    start = data.find(b"mdat") + 4
    for place in range(start + 2000, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        if corrupt(path, threads=2) == (30, 0) and corrupt(path, threads=1)[1]:
            return path
    raise AssertionError("no such bit")


def cut_off(path: Path) -> Path:
    """A file whose header is whole and whose last third is missing."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        fill(container, add(container))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def reference(path: Path) -> np.ndarray:
    """uint8 [N H W 3]: the definition, as plainly as PyAV allows; frames before an error count."""
    frames = []
    with av.open(str(path)) as container:
        stream = max(container.streams.video, key=lambda stream: stream.width * stream.height)
        try:
            for frame in container.decode(stream):
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
        except av.FFmpegError:
            pass
    return np.stack(frames)


GROUPS = {"g": "8"}  # several groups of pictures, so that seeking is put to the test
OPEN = {"x264-params": "open-gop=1:keyint=8:scenecut=0:bframes=2"}
UNEVEN = np.cumsum(np.random.default_rng(3).integers(1, 7, 30)).tolist()

# kind: (ending, maker, may decord serve it)
KINDS = {
    "h264": ("mp4", lambda path: make(path, options=GROUPS), True),
    "no B-frames": ("mp4", lambda path: make(path, options=GROUPS, bframes=0), True),
    "mov": ("mov", lambda path: make(path, options=GROUPS), True),
    "late start": ("mp4", lambda path: make(path, options=GROUPS, start=50), True),
    "variable rate": ("mp4", lambda path: make(path, options=GROUPS, times=UNEVEN), True),
    "odd width of chroma": ("mp4", lambda path: make(path, options=GROUPS, height=50, width=70), True),
    "one frame": ("mp4", lambda path: make(path, frames=1), True),
    "two frames": ("mp4", lambda path: make(path, frames=2), True),
    "name with space, comma & ünïcödé 手": ("mp4", lambda path: make(path), True),
    "edit list": ("mp4", lambda path: make(path, options=GROUPS, start=-5), False),
    "open groups": ("mp4", lambda path: make(path, options=OPEN), False),
    "intra refresh": ("mp4", lambda path: make(path, options={"x264-params": "intra-refresh=1:keyint=8"}), False),
    "interlaced": ("mp4", lambda path: make(path, options={"x264-params": "interlaced=1:keyint=8"}), False),
    "turned by 90": ("mp4", lambda path: make(path, turn={"degrees": 90}), False),
    "turned by 180": ("mp4", lambda path: make(path, turn={"degrees": 180}), False),
    "turned by 270": ("mp4", lambda path: make(path, turn={"degrees": 270}), False),
    "tiny": ("mp4", lambda path: make(path, height=16, width=16), False),
    "4:4:4": ("mp4", lambda path: make(path, pixels="yuv444p"), False),
    "full range": ("mp4", lambda path: make(path, pixels="yuvj420p"), False),
    "two video streams": ("mp4", two_streams, False),
    "flipped bit": ("mp4", hide_damage, False),
    "hevc": ("mp4", lambda path: make(path, codec="libx265", frames=12), False),
    "h264 in mkv": ("mkv", lambda path: make(path, options=GROUPS), False),
    "cut off": ("mp4", cut_off, False),
    "h264 in avi": ("avi", lambda path: make(path, options=GROUPS), False),
    "xvid in avi": ("avi", lambda path: make(path, codec="mpeg4", options=GROUPS), False),
    "h264 in mpeg-ts": ("ts", lambda path: make(path, options=GROUPS), False),
    "odd size": ("webm", lambda path: make(path, codec="libvpx-vp9", height=49, width=65, frames=10), False),
    "10 bit": ("mp4", lambda path: make(path, codec="libx265", pixels="yuv420p10le", frames=12), False),
    "gif": ("gif", lambda path: make(path, codec="gif", pixels="rgb8", bframes=0, frames=10), False),
    "av1": ("mp4", lambda path: make(path, codec="libsvtav1", height=64, bframes=0, frames=10), False),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """kind -> path, made once and only if asked for."""
    folder, made = tmp_path_factory.mktemp("clips"), {}

    def clip(kind: str) -> Path:
        if kind not in made:
            ending, maker, _ = KINDS[kind]
            made[kind] = maker(folder / f"{kind.replace(':', ' ')}.{ending}")
        return made[kind]

    return clip


@pytest.fixture
def by_decord(monkeypatch):
    """The reads that decord served, as they happen."""
    served, real = [], video._read_decord

    def spy(path, indices, count):
        frames = real(path, indices, count)
        if frames is not None:
            served.append(indices.tolist())
        return frames

    monkeypatch.setattr(video, "_read_decord", spy)
    monkeypatch.setattr(video, "_known", {})
    return served


def index_sets(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    spread = (np.arange(4) + 0.5) * count // 4
    return [
        spread.astype(np.int64),
        np.array([count - 1]),
        np.sort(rng.choice(count, min(3, count), replace=False)),
        rng.integers(0, count, 9),  # unordered, with repeats
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_full_sequential_decode(kind, clips, by_decord):
    path = clips(kind)
    expected = reference(path)
    for indices in index_sets(len(expected)):
        frames = read_frames(path, indices, timeout=None)
        assert frames.dtype == np.uint8 and np.array_equal(frames, expected[indices])
    assert not by_decord  # nobody has looked at the whole file yet
    assert count_frames(path, timeout=None) == len(expected)
    for indices in index_sets(len(expected)):
        assert np.array_equal(read_frames(path, indices, timeout=None), expected[indices])
    assert np.array_equal(read_all(path, timeout=None), expected)
    try:
        import decord  # noqa: F401
    except ImportError:
        return
    assert len(by_decord) == (len(index_sets(1)) if KINDS[kind][2] else 0)


def test_the_clips_are_what_they_claim(clips):
    def stream_of(kind):
        with av.open(str(clips(kind))) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            return stream.codec_context.name, stream.codec_context.pix_fmt, packets

    assert sum(packet.is_discard for packet in stream_of("edit list")[2]) == 5
    assert sum(packet.is_keyframe for packet in stream_of("h264")[2]) >= 3
    times = np.diff([packet.pts for packet in stream_of("variable rate")[2]])
    assert len(set(np.abs(times))) > 2
    assert stream_of("10 bit")[:2] == ("hevc", "yuv420p10le")
    assert "av1" in stream_of("av1")[0] or "dav1d" in stream_of("av1")[0]
    xvid = stream_of("xvid in avi")
    assert xvid[0] == "mpeg4"
    assert reference(clips("xvid in avi")).shape == (30, 48, 64, 3)
    assert reference(clips("turned by 90")).shape == (30, 64, 48, 3)
    assert reference(clips("two video streams")).shape == (12, 64, 96, 3)
    assert 0 < len(reference(clips("cut off"))) < 30


@pytest.mark.parametrize("turn", [{"hflip": True}, {"vflip": True}])
def test_mirrored_pictures_are_mirrored_back(turn, tmp_path):
    plain = read_all(make(tmp_path / "plain.mp4", frames=3), timeout=None)
    mirrored = read_all(make(tmp_path / "mirrored.mp4", frames=3, turn={"degrees": 0, **turn}), timeout=None)
    assert np.array_equal(mirrored, plain[:, :, ::-1] if "hflip" in turn else plain[:, ::-1])
    assert not np.array_equal(mirrored, plain)


def test_works_without_decord(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    path = clips("h264")
    count_frames(path, timeout=None)
    assert np.array_equal(read_frames(path, [3, 20], timeout=None), reference(path)[[3, 20]])


def test_decord_is_dropped_where_it_refuses_or_miscounts(clips, monkeypatch):
    decord = pytest.importorskip("decord")
    path = clips("h264")
    expected = reference(path)[[3, 20]]
    count_frames(path, timeout=None)

    class Miscounting:
        def __init__(self, *args, **kwargs):
            pass

        def __len__(self):
            return 31

    def refusing(*args, **kwargs):
        raise decord.DECORDError("no")

    for reader in (Miscounting, refusing):
        monkeypatch.setattr(decord, "VideoReader", reader)
        assert np.array_equal(read_frames(path, [3, 20], timeout=None), expected)


def test_a_changed_file_is_looked_at_again(tmp_path):
    path = make(tmp_path / "a.mp4", options=GROUPS)
    assert count_frames(path, timeout=None) == 30
    make(path, options={"x264-params": "interlaced=1:keyint=8"})  # as many frames, but decord's differ
    assert np.array_equal(read_frames(path, [6], timeout=None), reference(path)[[6]])
    make(path, frames=7)
    assert count_frames(path, timeout=None) == 7


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path):
    parts = [make(tmp_path / "a.ts", frames=5), make(tmp_path / "b.ts", frames=5, height=96, width=96)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read_all(path, timeout=None)
    assert len(frames) == count_frames(path, timeout=None) > 5
    assert frames.shape[1:] == (48, 64, 3)
    assert np.array_equal(frames[:4], reference(parts[0])[:4])


def test_in_a_child_and_relative_to_the_working_folder(clips, monkeypatch):
    path = clips("xvid in avi")
    monkeypatch.chdir(path.parent)
    assert np.array_equal(read_frames(path.name, [25, 3]), reference(path)[[25, 3]])
    assert count_frames(path.name) == 30
    assert read_all(path.name).shape == (30, 48, 64, 3)


class _Reading(torch.utils.data.Dataset):
    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.from_numpy(read_frames(self.path, [index, 20 + index]))


def test_in_loader_workers(clips):
    path = clips("h264")
    read_frames(path, [0])  # the parent's reader must not be shared
    batches = torch.utils.data.DataLoader(_Reading(path), batch_size=1, num_workers=1)
    expected = reference(path)
    for index, batch in enumerate(batches):
        assert np.array_equal(batch[0].numpy(), expected[[index, 20 + index]])


def test_probe_tells_what_a_file_holds(clips):
    turned = probe(clips("turned by 90"), timeout=None)
    assert (turned.codec, turned.pixels, turned.height, turned.width, turned.rate) == ("h264", "yuv420p", 64, 48, 25)
    assert "mp4" in turned.container


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_hang_is_cut_off_and_the_next_read_works(clips, tmp_path):
    os.mkfifo(tmp_path / "hang.mp4")  # opening it waits for a writer that never comes
    with pytest.raises(VideoError, match=r"hang\.mp4: reading took longer than 0\.5 s"):
        read_frames(tmp_path / "hang.mp4", [0], timeout=0.5)
    assert count_frames(clips("h264")) == 30


def test_a_long_video_is_read_to_its_end(tmp_path, monkeypatch):
    """However long it takes as a whole: the limit is for a decoder that gives no frame, and each frame is told."""
    beats: list[int] = []
    monkeypatch.setattr(video, "beat", lambda: beats.append(1))
    path = make(tmp_path / "long.mp4", frames=40)
    assert video._count_pyav(path) == len(beats) == 40
    assert video._sound(path) == 40 and len(beats) == 80


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _headless(path: Path) -> None:
    make(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"moov") - 4])


def _nothing_left(path: Path) -> None:
    cut_off(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + 40])


def _unknown_codec(path: Path) -> None:
    make(path)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))


BROKEN = {
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "text": (lambda path: path.write_text("not a video\n" * 50), "not a video that FFmpeg can read"),
    "audio": (_audio_only, r"has no video stream \(it holds audio\)"),
    "unknown codec": (_unknown_codec, "in a format that FFmpeg cannot decode"),
    "headless": (_headless, "not a video that FFmpeg can read"),
    "nothing left": (_nothing_left, "not one frame decodes"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("read", [lambda path, **k: read_frames(path, [0], **k), read_all, count_frames, probe])
def test_a_broken_file_is_named_with_its_cause(kind, read, tmp_path):
    path = tmp_path / f"{kind}.mp4"
    BROKEN[kind][0](path)
    with pytest.raises(VideoError, match=BROKEN[kind][1]) as caught:
        read(path, timeout=None)
    assert str(path) in str(caught.value) and isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_what_nobody_foresaw_is_named_too(clips, monkeypatch):
    def surprise(*args, **kwargs):
        raise IndexError("tuple index\nout of range")

    monkeypatch.setattr(av, "open", surprise)
    monkeypatch.setattr(video, "_known", {})
    with pytest.raises(VideoError, match=r"h264\.mp4 cannot be decoded: IndexError: tuple index out of range"):
        read_frames(clips("h264"), [0], timeout=None)


def test_errors_cross_the_process_boundary(tmp_path):
    with pytest.raises(VideoError, match="No such file"):
        read_frames(tmp_path / "missing.mp4", [0])


@pytest.mark.parametrize(
    ("indices", "cause"),
    [
        ([30], "has 30 frames that decode: there is no frame 30"),
        ([2, -1], "count from 0, got -1"),
        ([], "one or more"),
        ([0.5], "integers"),
    ],
)
def test_bad_indices(indices, cause, clips):
    for _ in range(2):  # before and after the file was counted
        with pytest.raises(VideoError, match=cause):
            read_frames(clips("h264"), indices, timeout=None)
        count_frames(clips("h264"), timeout=None)


def test_frames_before_the_cut_are_read_and_no_others(clips):
    path = clips("cut off")
    count = count_frames(path, timeout=None)
    with pytest.raises(VideoError, match=f"has {count} frames that decode"):
        read_frames(path, [count], timeout=None)


def test_an_attached_cover_picture_is_no_film(tmp_path):
    """The cover is larger than the film and comes after it; alone it is no video."""
    from av.stream import Disposition

    def written(name: str, frames: int) -> Path:
        with av.open(str(tmp_path / name), "w") as file:
            streams = [file.add_stream("mpeg4", rate=8)] if frames else []
            cover = file.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt, cover.disposition = 128, 96, "yuvj420p", Disposition.attached_pic
            for film in streams:
                film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
                for grey in range(frames):
                    picture = np.full((32, 32, 3), 60 * grey, np.uint8)
                    file.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                file.mux(film.encode())
            file.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((96, 128, 3), 255, np.uint8), format="rgb24")))
            file.mux(cover.encode())
        return tmp_path / name

    path = written("covered.mp4", 4)
    assert [video.probe(path).width, video.probe(path).height, video.probe(path).codec] == [32, 32, "mpeg4"]
    assert count_frames(path) == 4
    for frames in (read_all(path), read_frames(path, range(4))):
        assert frames.shape == (4, 32, 32, 3) and np.abs(frames.mean((1, 2, 3)) - [0, 60, 120, 180]).max() < 6
    with pytest.raises(video.VideoError, match="has no video stream"):
        video.probe(written("cover.mp4", 0))


def test_memory_that_lacks_is_not_the_files_fault(clips, monkeypatch):
    def lacking(*args, **kwargs):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(av, "open", lacking)
    with pytest.raises(MemoryError, match="9 GiB"):
        read_all(clips("h264"), timeout=None)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])  # the header of the one counts its frames, the other's does not
def test_a_long_or_large_video_is_not_read_as_a_short_one(ending, tmp_path, monkeypatch):
    path = write_clip(tmp_path / f"a.{ending}", frames=12, size=32)
    assert (video.stated_frames(path) == 12) == (ending == "mp4")
    whole = read_all(path)
    assert np.array_equal(video.read_short(path, 12, whole.nbytes), whole)
    decoded, honest = [], video._decoded

    def counting(*args, **kwargs):
        decoded.append(honest(*args, **kwargs))
        return decoded[-1]

    monkeypatch.setattr(video, "_decoded", counting)
    for frames, size in ((11, whole.nbytes), (5, whole.nbytes), (12, whole.nbytes // 2), (12, 100)):
        assert video.read_short(path, frames, size, timeout=None) is None
    assert [count for _, count in decoded] == ([] if ending == "mp4" else [12, 6, 7, 1])
