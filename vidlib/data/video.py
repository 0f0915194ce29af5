"""Frames of a video file: exactly those that PyAV's full sequential decode gives, whoever reads them.

The reference is PyAV with its default settings: the video stream of the largest picture (cover pictures apart),
frames in presentation order, rgb24, the display matrix (rotation, mirroring) applied. A file has as many frames as
decode; where FFmpeg stops with an error midway, those before it. Frames that change size are scaled to the first's.

decord seeks, and so reads a few frames of a long file without decoding the rest, but silently returns wrong frames on
AVI, edit lists, open groups of pictures and damaged data. It serves a file only when ``count_frames`` has decoded it
whole in this process and found it sound (``_sound``): H.264 in MP4, 8-bit 4:2:0, progressive, every keyframe an IDR
picture, one clean frame for each packet, nothing discarded or rotated. PyAV serves every other read.

Reading happens in a child process (``guard``), because decoders hang and crash; ``timeout=None`` reads in this one.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute
from vidlib.data.guard import TIMEOUT, Died, Guard, Late, beat

DECORD_CONTAINER, DECORD_CODEC, DECORD_PIXELS = "mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p"
DECORD_SMALLEST = 32  # pixels a side; decord returns wrong shapes below
_IDR = 5  # H.264 NAL unit type: a picture that nothing after it reaches behind


class VideoError(UserError):
    """A video file cannot be read as asked; the sentence names the file and the cause."""


@dataclass(frozen=True)
class Probe:
    """What a file holds, by its header and first frame; ``height`` and ``width`` in pixels as ``read_frames`` gives."""

    container: str
    codec: str
    pixels: str
    height: int
    width: int
    rate: float | None  # frames a second as the header says; None where it does not


@dataclass(frozen=True)
class _Known:
    stamp: tuple[int, int]  # size and time of change of the file that was counted
    count: int
    sound: bool


_known: dict[Path, _Known] = {}
_guard = Guard()


def read_frames(path: str | Path, indices: Sequence[int] | np.ndarray, timeout: float | None = TIMEOUT) -> np.ndarray:
    """The frames at ``indices`` (from 0, any order, repeats allowed) as uint8 [T H W 3], RGB.

    ``VideoError`` for a file that is missing, empty or not decodable, an index that is negative or beyond the frames
    that decode, and after ``timeout`` seconds in which not one frame came.
    """
    return _guarded(timeout, _read_frames, path, np.asarray(indices))


def read_all(path: str | Path, timeout: float | None = TIMEOUT) -> np.ndarray:
    """Every frame that decodes as uint8 [N H W 3], RGB; errors as ``read_frames``."""
    return _guarded(timeout, _read_all, path)


def read_short(path: str | Path, frames: int, size: int, timeout: float | None = TIMEOUT) -> np.ndarray | None:
    """``read_all`` of a file of at most ``frames`` frames, ``size`` bytes together; None of another, of which no more
    is decoded than that and a frame."""
    return _guarded(timeout, _read_short, path, frames, size)


def count_frames(path: str | Path, timeout: float | None = TIMEOUT) -> int:
    """The number of frames that decode, at least 1; remembered until the file changes; errors as ``read_frames``."""
    return _guarded(timeout, _count_frames, path)


def read_and_count(
    path: str | Path, indices: Sequence[int] | np.ndarray, count: int, timeout: float | None = TIMEOUT
) -> tuple[int, np.ndarray | None]:
    """``count_frames`` and, where that is ``count`` as was thought, the frames at rising ``indices``: one decoding."""
    return _guarded(timeout, _read_and_count, path, np.asarray(indices), count)


def stated_frames(path: str | Path, timeout: float | None = TIMEOUT) -> int:
    """How many frames the header says there are, 0 where it does not: no promise that they decode."""
    return _guarded(timeout, _stated_frames, path)


def probe(path: str | Path, timeout: float | None = TIMEOUT) -> Probe:
    """What the file holds; ``VideoError`` where not even one frame decodes: a quick check that a file is readable."""
    return _guarded(timeout, _probe, path)


def _guarded(timeout: float | None, function: Any, path: str | Path, *args: Any) -> Any:
    path = absolute(path)
    try:
        return function(path, *args) if timeout is None else _guard.call(function, path, *args, timeout=timeout)
    except (UserError, MemoryError):  # of a time limit that is none, too; not the file's fault
        raise
    except Late as late:
        raise VideoError(f"{path}: {late}") from None
    except Died as death:
        raise VideoError(f"{path}: the decoder crashed while reading it ({death})") from None
    except Exception as error:  # damaged files surprise PyAV in many ways
        raise VideoError(f"{path} cannot be decoded: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _read_frames(path: Path, indices: np.ndarray) -> np.ndarray:
    if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
        raise VideoError(f"{path}: frame indices must be a list of one or more integers, got {indices.tolist()}")
    if indices.min() < 0:
        raise VideoError(f"{path}: frame indices count from 0, got {indices.min()}")
    known = _known.get(path)
    if known and known.sound and known.stamp == _stamp(path) and indices.max() < known.count:
        frames = _read_decord(path, indices, known.count)
        if frames is not None:
            return frames
    return _read_pyav(path, indices)


def _read_all(path: Path) -> np.ndarray:
    return _read_pyav(path, None)


def _read_short(path: Path, frames: int, size: int) -> np.ndarray | None:
    _stamp(path)
    with _opened(path) as (_, stream):
        most = min(frames, size // max(1, 3 * stream.height * stream.width))
        if stream.frames > most:
            return None
    kept, count = _decoded(path, set(range(most + 1)), whole=False)
    return np.stack(list(kept.values())) if count <= most else None


def _count_frames(path: Path) -> int:
    stamp = _stamp(path)
    known = _known.get(path)
    if known is None or known.stamp != stamp:
        count = _sound(path)
        known = _Known(stamp, _count_pyav(path) if count is None else count, count is not None)
        _known[path] = known
    return known.count


def _read_and_count(path: Path, indices: np.ndarray, count: int) -> tuple[int, np.ndarray | None]:
    kept, found = _decoded(path, set(indices.tolist()), whole=True)
    return found, np.stack([kept[index] for index in indices.tolist()]) if found == count else None


def _stated_frames(path: Path) -> int:
    _stamp(path)
    with _opened(path) as (_, stream):
        return max(0, stream.frames)


def _probe(path: Path) -> Probe:
    _stamp(path)
    with _opened(path) as (container, stream):
        height, width, _ = _read_pyav(path, np.zeros(1, np.int64)).shape[1:]
        context, rate = stream.codec_context, stream.average_rate
        name = container.format.name
        return Probe(name, context.name, context.pix_fmt, height, width, float(rate) if rate else None)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {os.strerror(error.errno)}") from None
    if path.is_dir():
        raise VideoError(f"{path} is a folder, not a video file")
    if path.is_file() and not status.st_size:
        raise VideoError(f"{path} is empty (0 bytes)")
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream of the largest picture; the first of equals."""
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av.FFmpegError as error:
        raise VideoError(f"{path} is not a video that FFmpeg can read: {error.strerror}") from None
    with container:
        films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not films:
            held = ", ".join(stream.type for stream in container.streams) or "nothing"
            raise VideoError(f"{path} has no video stream (it holds {held})")
        known = [stream for stream in films if stream.codec_context is not None]
        if not known:
            raise VideoError(f"{path} holds video in a format that FFmpeg cannot decode")
        yield container, max(known, key=lambda stream: stream.width * stream.height)


def _matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the display matrix: shown x = a x + c y, shown y = b x + d y; None without one.

    Read from a converted copy: PyAV's side data keep their frame alive, and a decoder whose buffers are held back
    patches damaged frames with other contents.
    """
    matrix = frame.reformat(format="rgb24").side_data.get("DISPLAYMATRIX") if frame.format.name != "rgb24" else None
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return a, b, c, d


def _picture(frame: Any, size: tuple[int, int], matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """uint8 [H W 3] of a PyAV frame, scaled to ``size`` (width, height) if it has another, turned as it is shown."""
    if (frame.width, frame.height) == size:
        picture = frame.to_ndarray(format="rgb24")
    else:
        picture = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(b) > abs(a):  # a quarter turn: x and y change places
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _decoded(path: Path, wanted: set[int] | None, whole: bool) -> tuple[dict[int, np.ndarray], int]:
    """The reference: decode in order, converting only the frames ``wanted`` (None: all), up to the last of them, or the
    ``whole`` video: those frames by number, and how many came."""
    _stamp(path)
    kept: dict[int, np.ndarray] = {}
    count, cause = 0, "it ends before the first frame"
    with _opened(path) as (container, stream):
        try:
            for frame in container.decode(stream):
                beat()
                if not count:
                    size, matrix = (frame.width, frame.height), _matrix(frame)
                if wanted is None or count in wanted:
                    kept[count] = _picture(frame, size, matrix)
                count += 1
                if not whole and wanted is not None and len(kept) == len(wanted):
                    break
        except av.FFmpegError as error:
            cause = error.strerror
    if not count:
        raise VideoError(f"{path}: not one frame decodes: {cause}")
    return kept, count


def _read_pyav(path: Path, indices: np.ndarray | None) -> np.ndarray:
    wanted = None if indices is None else set(indices.tolist())
    kept, count = _decoded(path, wanted, whole=False)
    if wanted is None:
        return np.stack(list(kept.values()))
    if len(kept) < len(wanted):
        raise VideoError(f"{path} has {count} frames that decode: there is no frame {indices.max()} (counted from 0)")
    return np.stack([kept[index] for index in indices.tolist()])


def _count_pyav(path: Path) -> int:
    return _decoded(path, set(), whole=True)[1]


def _sound(path: Path) -> int | None:
    """The number of frames of a file that decord reads as PyAV does; None of any other.

    The whole file is decoded, by one thread: FFmpeg's H.264 decoder then marks every frame that it had to patch (with
    more threads it patches some without a mark), and such frames differ between FFmpeg's versions.
    """
    with _opened(path) as (container, stream):
        context = stream.codec_context
        header = bytes(context.extradata or b"")
        if not (
            (container.format.name, context.name, context.pix_fmt) == (DECORD_CONTAINER, DECORD_CODEC, DECORD_PIXELS)
            and len(container.streams.video) == 1
            and min(stream.width, stream.height) >= DECORD_SMALLEST
            and not (stream.width % 2 or stream.height % 2)
            and len(header) > 4
            and header[0] == 1  # avcC: NAL units stand behind their length
        ):
            return None
        stream.thread_count = 1
        size, prefix = (stream.width, stream.height), (header[4] & 3) + 1
        packets = frames = 0
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0  # the last packet is empty: it asks the decoder for what it holds back
                if packet.size and packet.is_keyframe and _IDR not in _nal_types(bytes(packet), prefix):
                    return None
                for frame in packet.decode():
                    beat()
                    same = (frame.width, frame.height) == size and frame.format.name == DECORD_PIXELS
                    if frame.is_corrupt or frame.interlaced_frame or not same or (not frames and _matrix(frame)):
                        return None
                    frames += 1
        except av.FFmpegError:
            return None
    return frames if 0 < frames == packets else None


def _nal_types(packet: bytes, prefix: int) -> list[int]:
    """The types of a packet's NAL units, each behind its length in ``prefix`` bytes."""
    types, start = [], 0
    while start + prefix < len(packet):
        types.append(packet[start + prefix] & 31)
        start += prefix + int.from_bytes(packet[start : start + prefix], "big")
    return types


def _read_decord(path: Path, indices: np.ndarray, count: int) -> np.ndarray | None:
    """The frames of a sound file by decord; None where it is not installed or will not read the file."""
    try:
        import decord
    except (ImportError, OSError):  # no wheel for macOS and arm64
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)  # made here: a reader does not survive a fork
        if len(reader) != count:
            return None
        batch = reader.get_batch(indices.tolist())
    except (decord.DECORDError, RuntimeError, IndexError, UnicodeError):  # a name that is not UTF-8, too
        return None
    return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)  # a bridge may have been set
