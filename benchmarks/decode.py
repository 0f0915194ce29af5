"""Reading 8 frames of a clip: decord, PyAV and ``read_frames`` with and without its child process, in clips a second.

    python -m benchmarks.decode [repeats]

The clips are made here: H.264 in MP4, short (64 px, one group of pictures) and long (several groups, where seeking can
pay). Every reader's frames are compared with PyAV's before anything is timed; ratios are to PyAV, from one run.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import render, wall_seconds
from vidlib.data import video
from vidlib.data.sampling import segment_indices

FRAMES = 8
CLIPS = {  # height, width, frames, frames between keyframes
    "short, 64 x 64, 32 frames": (64, 64, 32, 250),
    "long, 240 x 320, 300 frames, keyframe each 250": (240, 320, 300, 250),
    "long, 240 x 320, 300 frames, keyframe each 12": (240, 320, 300, 12),
}


def per_second(readers: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Calls a second, by the median; the readers take turns, so that a busy moment meets them all."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            times[name].append(wall_seconds(read)[0])
    return {name: 1 / float(np.median(taken)) for name, taken in times.items()}


def measure(path: Path, repeats: int) -> dict[str, float]:
    """Clips a second of each reader on one file."""
    count = video.count_frames(path, timeout=None)
    video.count_frames(path)
    indices = segment_indices(count, FRAMES)
    readers = {
        "PyAV": lambda: video._read_pyav(path, indices),
        "decord": lambda: video._read_decord(path, indices, count),
        "read_frames, this process": lambda: video.read_frames(path, indices, timeout=None),
        "read_frames, child process": lambda: video.read_frames(path, indices),
        "count_frames, first time": lambda: video._sound(path),
    }
    expected = readers["PyAV"]()
    if readers["decord"]() is None:  # no wheel here
        del readers["decord"]
    for name, read in readers.items():
        if not name.startswith("count") and not np.array_equal(read(), expected):
            raise AssertionError(f"{name} gives other frames than PyAV for {path.name}")
    return per_second(readers, repeats)


def main(repeats: int = 15) -> pd.DataFrame:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, shape in CLIPS.items():
            path = Path(folder) / "clip.mp4"
            render(path, *shape)
            speeds = measure(path, repeats)
            for reader, speed in speeds.items():
                rows.append({"clip": kind, "reader": reader, "clips/s": speed, "x PyAV": speed / speeds["PyAV"]})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.2f}".format))
    return table


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
