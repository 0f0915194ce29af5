"""A manifest of a million rows: loaded from its file, and an episode drawn, against the textbook way of either.

    python -m benchmarks.manifests [rows]

Claims (exit code 1 where one is not met): it loads in under 5 s, and an episode takes under 1 ms, both of one core's
CPU time, so that a busy machine does not change them; the wall time of the load is given beside. The file has 700
classes whose sizes fall as 1/rank, so that the largest holds a seventh of the rows. The textbook way reads dicts with
``csv``, makes an object of each and draws by shuffling a class. Peak memory is that of a process that loads and draws.
"""

import csv
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import cpu_seconds, verdict, wall_seconds
from vidlib.data.catalogue import benchmarks as catalogue
from vidlib.data.catalogue import store
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest, Row

LOADED, DRAWN = 5.0, 1e-3  # seconds, the claims
CLASSES, WAY, SHOT, QUERY, EPISODES = 700, 5, 5, 10, 200


@dataclass(frozen=True)
class Line:
    """The textbook row."""

    video: str
    cls: str
    split: str
    folder: int
    file: str


def write(name: str, rows: int) -> None:
    """A manifest file of about ``rows`` rows: nine in ten in train, the rest test."""
    share = rows / sum(1 / rank for rank in range(1, CLASSES + 1))
    made, files = [], {}
    for rank in range(1, CLASSES + 1):
        cls = named(rank)
        for i in range(max(20, int(share / rank))):
            video = f"{cls}/{rank:03}{i:08}"
            made.append(Row(video, cls, split_of(rank)))
            files[video] = f"train/class_number_{rank:03}/{rank:03}{i:08}_000012_000022.mp4"
    store.write(store.Stored(name, tuple(made), files, {}, (str(store.place(name).parent),), "trx"))


def named(rank: int) -> str:
    return f"class number {rank:03}"


def split_of(rank: int) -> str:
    return "test" if rank % 10 == 0 else "train"


def load(name: str) -> Manifest:
    """As a notebook does: with the comparison to the published lists, and every split sorted."""
    classes = {"train": [], "test": []}
    for rank in range(1, CLASSES + 1):
        classes[split_of(rank)].append({"name": named(rank), "text": None, "videos": 20})
    sums = {"trx": {"train": "", "test": ""}}
    facts = {"name": name, "classes": classes, "checksums": sums, "directional": False}
    catalogue.describe = lambda name: facts
    manifest = catalogue.load(name)
    for split in manifest.splits:
        manifest.classes(split)
    return manifest


def textbook(path: Path) -> dict[str, list[Line]]:
    """class -> its rows of train."""
    found = defaultdict(list)
    with open(path, encoding="utf-8", newline="") as file:
        table = csv.DictReader((line for line in file if not line.startswith("# ")), delimiter="\t", quoting=3)
        for line in table:
            row = Line(line["video"], line["class"], line["split"], int(line["folder"]), line["file"])
            if row.split == "train":
                found[row.cls].append(row)
    return found


def textbook_episode(classes: dict[str, list[Line]], rng: random.Random) -> list[list[Line]]:
    chosen = rng.sample(sorted(classes), WAY)
    drawn = []
    for cls in chosen:
        videos = list(classes[cls])
        rng.shuffle(videos)
        drawn.append(videos[: SHOT + QUERY])
    return drawn


def peak() -> float:
    """Most memory of this process so far, MiB; Linux hands ``ru_maxrss`` on from the parent, so not that there."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(next(line for line in status.read_text().split("\n") if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(name: str) -> None:
    """In a process of its own: load, draw, print seconds and MiB."""
    before = peak()
    wall, (loaded, manifest) = wall_seconds(lambda: cpu_seconds(lambda: load(name)))
    made, sampler = cpu_seconds(lambda: EpisodeSampler(manifest, "train", WAY, SHOT, QUERY, 0))
    drawn = [cpu_seconds(lambda: sampler[i])[0] for i in range(EPISODES)]  # noqa: B023
    print(loaded, wall, made, statistics.median(drawn), max(drawn), peak() - before, peak())


def main(rows: int = 1_000_000) -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VIDLIB_DATA"] = folder
        write("million", rows)
        path = store.place("million")
        size = path.stat().st_size / 2**20
        command = [sys.executable, "-m", "benchmarks.manifests", "--alone", "million"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        loaded, wall, made, drawn, slowest, grown, whole = map(float, said.split())
        slow_load, classes = cpu_seconds(lambda: textbook(path))
        rng = random.Random(0)
        slow = statistics.median(cpu_seconds(lambda: textbook_episode(classes, rng))[0] for _ in range(EPISODES))
    met = loaded < LOADED and drawn < DRAWN
    print(
        f"manifest of {rows:,} rows ({size:.0f} MiB of text): loaded in {loaded:.2f} s (claim: under {LOADED:g} s, "
        f"{verdict(loaded < LOADED)}; {wall:.2f} s by the clock), textbook {slow_load:.2f} s; sampler made in "
        f"{made:.2f} s; an episode in {drawn * 1e6:.0f} us, the slowest of {EPISODES} in {slowest * 1e6:.0f} us "
        f"(claim: under {DRAWN * 1e6:.0f} us, {verdict(drawn < DRAWN)}), textbook {slow * 1e6:.0f} us: "
        f"{slow / drawn:.0f} times as long; peak memory {whole:.0f} MiB, {grown:.0f} MiB of it for the manifest"
    )
    return 0 if met else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        sys.exit(alone(sys.argv[2]))
    sys.exit(main(*(int(argument) for argument in sys.argv[1:])))
