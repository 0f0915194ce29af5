"""What a video's file tells without one picture being decoded: bytes, length, rate, size, and its packets'."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from vidlib.data import video
from vidlib.data.guard import TIMEOUT, beat
from vidlib.data.video import VideoError


@dataclass(frozen=True)
class Packets:
    """``sizes`` int64 [N], the bytes of the video stream's packets in the file's order; ``keys`` bool [N], those that
    start afresh. ``size`` bytes of the file, ``seconds`` and ``rate`` (frames a second) as its header says, 0 where it
    does not; ``width`` and ``height`` in stored pixels; ``streams`` counts sound and the like too."""

    size: int
    seconds: float
    rate: float
    width: int
    height: int
    streams: int
    sizes: np.ndarray
    keys: np.ndarray


def packets(path: str | Path, timeout: float | None = TIMEOUT) -> Packets:
    """Read the packets of a file; ``VideoError`` where it has none, as ``video.read_frames`` else."""
    return video._guarded(timeout, _packets, path)


def _packets(path: Path) -> Packets:
    size, _ = video._stamp(path)
    sizes, keys = [], []
    with video._opened(path) as (container, stream):
        try:
            for packet in container.demux(stream):
                beat()
                if packet.size:
                    sizes.append(packet.size)
                    keys.append(packet.is_keyframe)
        except av.FFmpegError as error:
            if not sizes:
                raise VideoError(f"{path}: not one packet can be read: {error.strerror}") from None
        if not sizes:
            raise VideoError(f"{path} holds no packet of video")
        rate = float(stream.average_rate or 0)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        shape = stream.width, stream.height, len(container.streams)
    return Packets(size, seconds, rate, *shape, np.array(sizes, np.int64), np.array(keys, bool))
