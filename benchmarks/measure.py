"""What the benchmarks share: time, time in matrix products, memory, clips."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import torch


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of one call, and what it returned; on one thread, a busy machine hardly moves it."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def wall_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def in_products(work: Callable[[], Any], repeats: int) -> float:
    """Time of ``work`` in products of two 1024 x 1024 float32 matrices: the median of ``repeats``.

    Each time between two products, so that a busy moment meets both. CPU time where torch has one thread, else wall
    time.
    """
    seconds = cpu_seconds if torch.get_num_threads() == 1 else wall_seconds
    one, other = torch.randn(2, 1024, 1024)

    def product() -> float:
        return seconds(lambda: one @ other)[0]

    product()
    found = []
    for _ in range(repeats):
        before = product()
        taken, _ = seconds(work)
        found.append(2 * taken / (before + product()))
    return statistics.median(found)


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes of tensors that ``work`` held at a time over what there was before, its result with them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")


def render(
    path: Path,
    height: int,
    width: int,
    frames: int,
    group: int,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    shift: int = 1,
) -> None:
    """A clip of moving noise, blurred so that it compresses as pictures do, a keyframe each ``group`` frames; another
    ``shift`` is another clip."""
    blocks = np.random.default_rng(shift).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    still = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": str(group), **(options or {})})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            picture = np.roll(still, (index, (1 + shift % 3) * index), (0, 1))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def verdict(met: bool) -> str:
    return "met" if met else "NOT MET"
