"""The embedded worlds: small few-shot benchmarks, rendered as real H.264 clips on first use, to run anywhere.

Three that each ask one question (``kinds``): ``motion``, whose class is what happens, in order and relation; ``scene``,
whose class is what is there; ``words``, whose new classes are named by words that the towers know. And two easy ones:
``moving_shapes``, whose class is a motion in the picture, and ``moving_shapes_scene``. None is one of the field.

Class lists cost nothing (``classes``); ``manifest`` renders. A clip is a pure function of (SEED, world, class, number),
and each file is renamed into place whole: a killed rendering goes on where it stopped, two at once do no harm.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write, cache_dir
from vidlib.basics.progress import track
from vidlib.data.manifest import Manifest, Row
from vidlib.data.world.actions import ACTIONS
from vidlib.data.world.kinds import KINDS, Kind
from vidlib.data.world.scenes import SCENES, Film, action_film, scene_film
from vidlib.data.world.stage import Shot

WORLDS: dict[str, tuple[Kind, ...]] = {
    **KINDS,
    "moving_shapes": tuple(Kind(a.split, a.name, partial(action_film, a)) for a in ACTIONS),
    "moving_shapes_scene": tuple(Kind(s.split, s.name, partial(scene_film, s)) for s in SCENES),
}
SEED = 2026
CLIPS = {"train": 80, "val": 32, "test": 32}  # videos per class, of the easy worlds 32 in every split
SPLITS = ("train", "val", "test")
# A constant quantiser without B-frames: libx264's rate control reads memory that it never set, so that with it the same
# frames do not always give the same bytes.
ENCODING = {"qp": "14", "preset": "veryfast", "g": "12", "bf": "0", "threads": "1"}
CHECKSUM = {  # see checksum(); a world that differs must have another name for its results
    "motion": "ae15b806bcf81b99a3c1ea004c2f842ea5a5be47ce1620a14a892de1e429fe14",
    "scene": "e4f60f1ca956e2780dcabee044fc643248d39dbc6bc0237b8ccfa3403c362d67",
    "words": "050f6dbd704b5f46d7f88c267f7b6282bbc7984e46febbc6140e52a698b49fb2",
    "moving_shapes": "8e578472f9e0d91f8dd34e04636ad07ff2e125d84c1b8f8de5d748c3779233e7",
    "moving_shapes_scene": "cae8c3ea863d14db097888748f5d08318d3e8f10a2448100e7e1a8bb7a6affb6",
}
NOTE = "The embedded world, drawn by vidlib itself; not a benchmark of the field."
WORKERS = max(2, min(8, os.cpu_count() or 2))


def _kinds(world: str) -> tuple[Kind, ...]:
    if world not in WORLDS:
        raise UserError(f"unknown embedded world '{world}'; there are {', '.join(WORLDS)}")
    return WORLDS[world]


def clips(world: str, split: str) -> int:
    """Videos of each class."""
    return CLIPS[split] if world in KINDS else CLIPS["test"]


def classes(world: str = "motion") -> dict[str, tuple[str, ...]]:
    """Split -> class names, sorted; without rendering anything."""
    return {split: tuple(sorted(kind.name for kind in _kinds(world) if kind.split == split)) for split in SPLITS}


def drawn(world: str, video: str) -> Film | Shot:
    """What the clip of this id (``slug/number``) is drawn from: its ``frames()`` before encoding, uint8 [T 72 72 3],
    and the ``masks()`` of what the class speaks of, bool [T 72 72]. UserError where there is no such clip."""
    slug, _, number = video.rpartition("/")
    kind = next((kind for kind in _kinds(world) if _slug(kind.name) == slug), None)
    if kind is None or not number.isdecimal() or int(number) >= clips(world, kind.split):
        raise UserError(f"{world} has no clip '{video}'; its ids are as in its manifest's rows")
    return _film(world, kind, int(number))


def _film(world: str, kind: Kind, number: int) -> Film | Shot:
    key = hashlib.sha256(f"{SEED}/{world}/{kind.name}/{number}".encode()).digest()
    return kind.shot(np.random.default_rng(int.from_bytes(key[:8], "big")))


def encoded(world: str, video: str) -> bytes:
    """The mp4 file of a clip, as it is rendered."""
    film = drawn(world, video)
    return encode(film.frames(), film.rate, film.quantiser)


def checksum(world: str = "motion") -> str:
    """sha256 over classes, splits, clip count, encoding and the drawn frames of one clip per class (0.3 s)."""
    count = str(CLIPS["test"]) if world not in KINDS else str(CLIPS)
    digest = hashlib.sha256(f"{world} {SEED} {count} {sorted(ENCODING.items())}\n".encode())
    for kind in _kinds(world):
        digest.update(f"{kind.split}\t{kind.name}\n".encode())
        digest.update(_film(world, kind, 0).frames().tobytes())
    return digest.hexdigest()


def encode(frames: np.ndarray, fps: int = 12, quantiser: int = 14) -> bytes:
    """uint8 [T H W 3] -> an H.264 mp4 file; on one build of libx264 the same frames give the same bytes."""
    import av  # here, so that classes and folder can be said without it

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.options = ENCODING | {"qp": str(quantiser)}
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return memory.getvalue()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z]+", "-", name)


def video(name: str, number: int) -> str:
    """The id of a class's clip."""
    return f"{_slug(name)}/{number:02d}"


def _listing(world: str) -> dict[Row, str]:
    """Every clip and its file."""
    return {
        Row(video(kind.name, n), kind.name, kind.split): f"{kind.split}/{video(kind.name, n)}.mp4"
        for kind in _kinds(world)
        for n in range(clips(world, kind.split))
    }


def folder(world: str = "motion", cache: Path | None = None) -> Path:
    """Where a world's clips are rendered to; it holds the file ``complete`` once they all are."""
    return Path(cache or cache_dir()) / f"{world}-{CHECKSUM[world][:8]}"


def manifest(world: str = "motion", cache: Path | None = None) -> Manifest:
    """The manifest of a world; clips that are not there yet are rendered into ``cache`` (default: ``cache_dir()``).

    Raises UserError for an unknown world, and where the folder cannot be written or a rendering process fails.
    """
    listing = _listing(world)
    root = folder(world, cache)
    if not (root / "complete").is_file():
        _render(world, root, list(listing.values()))
    files = {row.video: file for row, file in listing.items()}
    return Manifest(world, tuple(listing), root, files, directional=world not in KINDS, note=NOTE)


def _render(world: str, root: Path, files: list[str]) -> None:
    """Start workers that share the clips, and show how far they are."""
    try:
        for folder in {(root / file).parent for file in files}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {root} cannot be written ({error}); set VIDLIB_CACHE to another folder"
        ) from None
    # Child processes by command line, not multiprocessing: nothing of the caller's __main__ is run again in them.
    package = str(Path(__file__).resolve().parents[3])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-m", "vidlib.data.world.worlds", world, str(root)]
    workers = [
        subprocess.Popen([*command, str(part), str(WORKERS)], env=environment, stderr=subprocess.PIPE, text=True)
        for part in range(WORKERS)
    ]
    try:
        for _ in track(_watched(workers, root, files), f"rendering {world}", total=len(files)):
            pass
        for worker in workers:
            _, message = worker.communicate()
            if worker.returncode:
                last = (message.strip().splitlines() or ["no message"])[-1]
                raise UserError(f"rendering {world} into {root} failed ({last}); is the disk full?")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for left in root.glob("*/*/.part-*"):  # of a rendering that was killed; another may be at work yet
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            left.unlink(missing_ok=True)
    with atomic_write(root / "complete") as path:
        path.write_text(f"{CHECKSUM[world]}\n")


def _watched(workers: list[subprocess.Popen], root: Path, files: list[str]):
    """Yield once for every clip that has come to be, until all workers have ended."""
    waiting = {root / file for file in files}
    while waiting:
        running = any(worker.poll() is None for worker in workers)
        there = {path for path in waiting if path.exists()}
        waiting -= there
        yield from there
        if not running:
            return
        time.sleep(0.25)


def _work(world: str, root: Path, part: int, parts: int) -> None:
    """Render every ``parts``-th clip that is not there, from ``part`` on; each is written whole or not at all."""
    for row, file in list(_listing(world).items())[part::parts]:
        path = root / file
        if not path.exists():
            temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
            temporary.write_bytes(encoded(world, row.video))
            os.replace(temporary, path)


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
