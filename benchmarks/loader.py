"""The loader that training uses, in clips a second: by container, backend, frames and workers, against plainer ways.

    python -m benchmarks.loader [repeats]

Clips of 240 x 320 pixels and 90 frames are made here: H.264 in MP4 (decord reads it; also with PyAV alone, as where
decord has no wheel), VP9 in WebM and MPEG-4 in AVI (PyAV). ``Clips`` finds, decodes, samples and augments them with
nothing kept in memory. Beside it, in turns with it: the whole file decoded by the same reader and the same transform;
and the textbook loader, which decodes the whole file, picks frames, and resizes and crops each with Pillow.

Claims (exit code 1 where one is not met): every way of reading gives exactly the frames of a whole decode; where decord
reads, 8 frames come faster than by decoding the whole file; everywhere they come faster than from the textbook loader;
the same episodes come from any number of workers. Growth with workers is stated, not claimed: it is the machine's.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import render, verdict, wall_seconds
from vidlib.data import video
from vidlib.data.clips import Clips, chance
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.labelled import LabelledBatches
from vidlib.data.manifest import Manifest, Row
from vidlib.data.sampling import segment_indices
from vidlib.data.transforms import ClipTransform

HEIGHT, WIDTH, LENGTH, GROUP, SIZE = 240, 320, 90, 12, 224
KINDS = {  # ending -> codec, options
    "mp4": ("libx264", {"preset": "veryfast"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "avi": ("mpeg4", {"q": "5"}),
}
CLASSES, VIDEOS, FRAMES, EPISODES = 3, 2, (8, 32), 6
MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)


def manifest(folder: Path, ending: str) -> Manifest:
    rows = tuple(Row(f"{c}/{v}", f"class {c}", "train") for c in range(CLASSES) for v in range(VIDEOS))
    files = {row.video: f"{row.video.replace('/', '-')}.{ending}" for row in rows}
    for shift, row in enumerate(rows):
        render(folder / files[row.video], HEIGHT, WIDTH, LENGTH, GROUP, *KINDS[ending], shift)
    return Manifest("loader", rows, folder, files)


def clips(listed: Manifest, frames: int) -> Clips:
    look = ClipTransform(SIZE, MEAN, STD, train=True, flip=True)
    return Clips(listed, "train", frames, look, look, 0, cache_bytes=0)


class Whole(Clips):
    """``Clips`` that decodes every file whole."""

    def raw(self, row: int, rng: np.random.Generator | None = None) -> np.ndarray:
        every = video.read_all(self.manifest.path(self.rows[row]))
        return every[self.pick(len(every), self.frames, rng)]


class Textbook(Clips):
    """Whole file, frames picked, each resized and cropped by Pillow, made a tensor and normalised on its own."""

    def train(self, row: int, episode: int, slot: int, role: str = "support") -> torch.Tensor:
        rng, _ = chance("clip", self.seed, episode, slot)
        with av.open(str(self.manifest.path(self.rows[row]))) as container:
            every = [frame.to_image() for frame in container.decode(video=0)]
        height, width = (int(share * side) for share, side in zip(rng.uniform(0.7, 1, 2), (HEIGHT, WIDTH), strict=True))
        top, left = int(rng.integers(HEIGHT - height + 1)), int(rng.integers(WIDTH - width + 1))
        mirrored, found = rng.random() < 0.5, []
        for index in segment_indices(len(every), self.frames, rng):
            picture = every[index].crop((left, top, left + width, top + height))
            picture = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture
            tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
            found.append((tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])
        return torch.stack(found)


@contextmanager
def without_decord() -> Iterator[None]:
    """Readers started inside find no decord, as on machines for which there is no wheel."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "decord.py").write_text("raise ImportError('hidden by benchmarks.loader')\n")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, before)))
        video._guard.stop()
        try:
            yield
        finally:
            video._guard.stop()
            os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def exact(listed: Manifest, frames: int) -> bool:
    """Whether the frames of every video, chosen at random and at segment centres, are those of a whole decode."""
    mine = clips(listed, frames)
    for row, entry in enumerate(mine.rows):
        every = video.read_all(listed.path(entry))
        for seed in (None, 0, 1):
            chances = [np.random.default_rng(seed) if seed is not None else None for _ in range(2)]
            wanted = every[segment_indices(len(every), frames, chances[0])]
            if not np.array_equal(mine.raw(row, chances[1]), wanted):
                return False
    return True


def per_second(ways: dict[str, Clips], repeats: int) -> dict[str, float]:
    """Clips a second of each way, by the median clip; they take turns, so that a busy moment meets them all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # what is found out of a file once is not counted
        for row in range(len(way)):
            way.train(row, 0, row)
    for repeat in range(1, repeats + 1):
        for row in range(CLASSES * VIDEOS):
            for name, way in ways.items():
                times[name].append(wall_seconds(lambda: way.train(row, repeat, row))[0])  # noqa: B023
    return {name: 1 / statistics.median(taken) for name, taken in times.items()}


def by_container(folder: Path, repeats: int) -> tuple[pd.DataFrame, list[bool]]:
    rows, met = [], []
    for ending in KINDS:
        listed = manifest(folder, ending)
        for backend in ("decord", "PyAV") if ending == "mp4" else ("PyAV",):
            with nullcontext() if backend == "decord" else without_decord():
                for frames in FRAMES:
                    met.append(exact(listed, frames))
                    mine = clips(listed, frames)
                    ways = {"ours": mine} | {name: of(listed, mine) for name, of in OTHERS.items()}
                    speed = per_second(ways, repeats)
                    row = {"container": ending, "backend": backend, "frames": frames, "clips/s": speed["ours"]}
                    row |= {f"x {name}": speed["ours"] / speed[name] for name in OTHERS}
                    rows.append(row | {"exact": met[-1]})
    return pd.DataFrame(rows), met


def _like(kind: type[Clips]) -> Callable[[Manifest, Clips], Clips]:
    return lambda listed, mine: kind(listed, "train", mine.frames, mine.transform_train, mine.transform_test, 0, 0)


OTHERS = {"whole file": _like(Whole), "textbook": _like(Textbook)}


class OneSentence:
    """Stands in for the sentences of labelled clips."""

    ids = torch.zeros(1, CLASSES, 4, dtype=torch.long)

    def drawn(self, k: int, batch: int, slot: int) -> torch.Tensor:
        return torch.zeros(4, dtype=torch.long)


def by_workers(listed: Manifest, repeats: int) -> tuple[pd.DataFrame, bool]:
    """Episodes and labelled batches of 6 clips from a ``DataLoader``; and whether its workers change a bit of them."""
    sampler, text = EpisodeSampler(listed, "train", CLASSES, 1, 1, 0), torch.zeros(CLASSES, 4)
    mine = clips(listed, FRAMES[0])
    textbook = OTHERS["textbook"](listed, mine)
    sources: dict[str, Dataset] = {
        "episodes": EpisodeDataset(mine, sampler, text, True, EPISODES),
        "labelled": Batches(LabelledBatches(mine, OneSentence(), CLASSES * VIDEOS, 0)),
        "episodes, textbook": EpisodeDataset(textbook, sampler, text, True, EPISODES),
    }
    rows, sums = [], set()
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for name, source in sources.items():
            for workers in (0, 1, 2):
                seconds, total = steady(DataLoader(source, batch_size=None, num_workers=workers))
                taken.setdefault((name, workers), []).append(seconds)
                if name == "episodes":
                    sums.add(total)
    speed = {key: CLASSES * VIDEOS / statistics.median(values) for key, values in taken.items()}
    for (name, workers), found in speed.items():
        row = {"loader": name, "workers": workers, "clips/s": found, "x 0 workers": found / speed[name, 0]}
        rows.append(row | {"x textbook": found / speed["episodes, textbook", workers]})
    return pd.DataFrame(rows), len(sums) == 1


class Batches(Dataset):
    """As many labelled batches as there are episodes."""

    def __init__(self, source: LabelledBatches) -> None:
        self.source = source

    def __len__(self) -> int:
        return EPISODES

    def __getitem__(self, i: int) -> object:
        if i >= EPISODES:
            raise IndexError(i)
        return self.source[i]


def steady(loader: DataLoader) -> tuple[float, float]:
    """Seconds a batch once the processes have started and looked at their files; and the sum of all clips."""
    total, first, last = 0.0, 0.0, 0.0
    for number, batch in enumerate(loader):
        total += float((batch.support if hasattr(batch, "support") else batch.clips).double().sum())
        last = time.perf_counter()
        if number == EPISODES // 2 - 1:
            first = last
    return (last - first) / (EPISODES - EPISODES // 2), total


def main(repeats: int = 2) -> int:
    torch.set_num_threads(1)  # as in a loader's process
    shown = {"index": False, "float_format": "{:.2f}".format}
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        table, sound = by_container(Path(place), repeats)
        print(table.to_string(**shown))
        loaders, same = by_workers(manifest(Path(place), "mp4"), repeats)
        print(loaders.to_string(**shown))
    few = table[table["frames"] == FRAMES[0]]
    decord = few[few["backend"] == "decord"]
    claims = {
        "every way of reading gives the frames of a whole decode": all(sound),
        "decord reads 8 frames faster than the whole file": bool((decord["x whole file"] > 1).all()),
        "8 frames come faster than from the textbook loader": bool((few["x textbook"] > 1).all()),
        "episodes do not depend on the number of workers": same,
    }
    for claim, met in claims.items():
        print(f"{claim}: {verdict(met)}")
    print(
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}; {time.perf_counter() - began:.0f} s"
    )
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:])))
