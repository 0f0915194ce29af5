"""One video file decoded from end to end: what is in it, and what is odd about it. Runs in a child process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from vidlib.basics.digests import file_digest
from vidlib.data import video
from vidlib.data.guard import beat
from vidlib.data.video import VideoError

UNEVEN = 1.5  # the longest time between frames over the shortest, from which a rate is said to vary
CUT_OFF = 0.9  # of the length that the header gives, below which a file without a frame count is said to be cut off


@dataclass(frozen=True)
class Examined:
    """``frames`` decode, ``header`` are claimed (0: nothing is); ``seconds`` until the end of the last frame; ``rate``
    frames a second by the header (0: not said). ``damage`` in words where decoding met some, ``odd`` what a reader may
    trip over; ``content`` is the file's sha256."""

    frames: int
    header: int
    seconds: float
    rate: float
    width: int
    height: int
    damage: str
    odd: tuple[str, ...]
    content: str


def examine(path: Path) -> Examined:
    """Decode the whole file as ``video`` does, and hash it. ``VideoError`` where not one frame decodes."""
    video._stamp(path)
    count, bad, stopped = 0, [], ""
    sizes: dict[tuple[int, int], int] = {}  # size -> the first frame of it
    turns: dict[Any, int] = {}
    times: list[float] = []
    with video._opened(path) as (container, stream):
        stream.thread_count = 1  # with more threads FFmpeg patches some damaged frames without a mark (see video)
        header, rate = stream.frames, float(stream.average_rate or 0)
        said = container.duration / av.time_base if container.duration else 0.0
        try:
            for frame in container.decode(stream):
                beat()
                sizes.setdefault((frame.width, frame.height), count)
                if frame.key_frame:
                    turns.setdefault(video._matrix(frame), count)
                if frame.is_corrupt:
                    bad.append(count)
                if frame.time is not None:
                    times.append(frame.time)
                count += 1
        except av.FFmpegError as error:
            stopped = error.strerror
    if not count:
        raise VideoError(f"{path}: not one frame decodes: {stopped or 'it ends before the first frame'}")
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False))
    step = steps[len(steps) // 2] if steps else 1 / rate if rate else 0.0
    seconds = max(times) - min(times) + step if times else 0.0
    damage = [f"decoding stops after frame {count} of {header or 'an unknown number'}: {stopped}"] if stopped else []
    if bad:
        damage.append(f"{len(bad)} of {count} frames are damaged, the first is {bad[0]}")
    odd = []
    if header and header != count and not stopped:
        odd.append(f"the header says {header} frames, {count} decode")
    if not header and seconds < CUT_OFF * said:
        odd.append(f"the header says {said:.1f} s, {seconds:.1f} s decode")
    if len(sizes) > 1:
        changes = ", ".join(f"{w} x {h} from frame {first}" for (w, h), first in sizes.items())
        odd.append(f"the picture changes its size: {changes}")
    if len(turns) > 1:
        odd.append(f"the rotation changes at frame {max(turns.values())}")
    if steps and 0 < UNEVEN * steps[0] < steps[-1]:  # AVI keeps no times: those that FFmpeg makes up may stand still
        odd.append(f"the rate varies: {1e3 * steps[0]:.0f} to {1e3 * steps[-1]:.0f} ms between frames")
    (width, height), turn = next(iter(sizes)), next(iter(turns), None)
    if turn and abs(turn[1]) > abs(turn[0]):
        width, height = height, width
    return Examined(count, header, seconds, rate, width, height, "; ".join(damage), tuple(odd), file_digest(path))
