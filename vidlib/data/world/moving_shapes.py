"""The embedded world: two small few-shot benchmarks, rendered as real H.264 clips on first use, to run anywhere.

``moving_shapes``: the class is the motion; shape, colour, size, ground, place, pace, bystanders are nuisances.
``moving_shapes_scene``: the class is what is there; the motion is a nuisance. Neither is a benchmark of the field.

Class lists cost nothing (``classes``); ``manifest`` renders. A clip is a pure function of (SEED, flavour, class,
number), and each file is renamed into place whole: a killed rendering goes on where it stopped, two at once do no harm.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write, cache_dir
from vidlib.basics.progress import track
from vidlib.data.manifest import Manifest, Row
from vidlib.data.world.actions import ACTIONS, Action
from vidlib.data.world.scenes import SCENES, Scene, action_clip, action_film, scene_clip, scene_film

FLAVOURS = ("moving_shapes", "moving_shapes_scene")
SEED = 2026
CLIPS = 32  # videos per class
SPLITS = ("train", "val", "test")
# A constant quantiser without B-frames: libx264's rate control reads memory that it never set, so that with it the same
# frames do not always give the same bytes.
ENCODING = {"qp": "14", "preset": "veryfast", "g": "12", "bf": "0", "threads": "1"}
CHECKSUM = {  # see checksum(); a world that differs must have another name for its results
    "moving_shapes": "8e578472f9e0d91f8dd34e04636ad07ff2e125d84c1b8f8de5d748c3779233e7",
    "moving_shapes_scene": "cae8c3ea863d14db097888748f5d08318d3e8f10a2448100e7e1a8bb7a6affb6",
}
NOTE = "The embedded world, drawn by vidlib itself; not a benchmark of the field."
WORKERS = max(2, min(8, os.cpu_count() or 2))


def _kinds(flavour: str) -> tuple[Action, ...] | tuple[Scene, ...]:
    if flavour not in FLAVOURS:
        raise UserError(f"unknown embedded world '{flavour}'; there are {' and '.join(FLAVOURS)}")
    return ACTIONS if flavour == "moving_shapes" else SCENES


def classes(flavour: str = "moving_shapes") -> dict[str, tuple[str, ...]]:
    """Split -> class names, sorted; without rendering anything."""
    return {split: tuple(sorted(kind.name for kind in _kinds(flavour) if kind.split == split)) for split in SPLITS}


def clip_frames(flavour: str, name: str, number: int) -> np.ndarray:
    """Clip ``number`` of class ``name`` as it is drawn, before encoding: uint8 [24 72 72 3]."""
    kind, rng = _chance(flavour, name, number)
    return action_clip(kind, rng) if flavour == "moving_shapes" else scene_clip(kind, rng)


def object_masks(flavour: str, video: str) -> np.ndarray:
    """Where the things that the class speaks of are in the clip of this id (``slug/number``): bool [24 72 72]."""
    slug, _, number = video.rpartition("/")
    name = next((kind.name for kind in _kinds(flavour) if _slug(kind.name) == slug), None)
    if name is None or not number.isdecimal() or int(number) >= CLIPS:
        raise UserError(f"{flavour} has no clip '{video}'; its ids are as in its manifest's rows")
    kind, rng = _chance(flavour, name, int(number))
    return (action_film(kind, rng) if flavour == "moving_shapes" else scene_film(kind, rng)).masks()


def _chance(flavour: str, name: str, number: int) -> tuple[Action | Scene, np.random.Generator]:
    """A clip's class, and the chance by which it is drawn."""
    kind = next(kind for kind in _kinds(flavour) if kind.name == name)
    key = hashlib.sha256(f"{SEED}/{flavour}/{name}/{number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
    return kind, rng


def checksum(flavour: str = "moving_shapes") -> str:
    """sha256 over classes, splits, clip count, encoding and the drawn frames of one clip per class (0.3 s)."""
    digest = hashlib.sha256(f"{flavour} {SEED} {CLIPS} {sorted(ENCODING.items())}\n".encode())
    for kind in _kinds(flavour):
        digest.update(f"{kind.split}\t{kind.name}\n".encode())
        digest.update(clip_frames(flavour, kind.name, 0).tobytes())
    return digest.hexdigest()


def encode(frames: np.ndarray, fps: int = 12) -> bytes:
    """uint8 [T H W 3] -> an H.264 mp4 file; on one build of libx264 the same frames give the same bytes."""
    import av  # here, so that classes and folder can be said without it

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.options = ENCODING
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return memory.getvalue()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z]+", "-", name)


def _listing(flavour: str) -> list[tuple[str, str, int, str]]:
    """(split, class, number, file) of every clip."""
    return [
        (kind.split, kind.name, number, f"{kind.split}/{_slug(kind.name)}/{number:02d}.mp4")
        for kind in _kinds(flavour)
        for number in range(CLIPS)
    ]


def folder(flavour: str = "moving_shapes", cache: Path | None = None) -> Path:
    """Where a flavour's clips are rendered to; it holds the file ``complete`` once they all are."""
    return Path(cache or cache_dir()) / f"{flavour}-{CHECKSUM[flavour][:8]}"


def manifest(flavour: str = "moving_shapes", cache: Path | None = None) -> Manifest:
    """The manifest of a flavour; clips that are not there yet are rendered into ``cache`` (default: ``cache_dir()``).

    Raises UserError for an unknown flavour, and where the folder cannot be written or a rendering process fails.
    """
    listing = _listing(flavour)
    root = folder(flavour, cache)
    if not (root / "complete").is_file():
        _render(flavour, root, listing)
    rows = tuple(Row(f"{_slug(name)}/{number:02d}", name, split) for split, name, number, _ in listing)
    files = {row.video: file for row, (_, _, _, file) in zip(rows, listing, strict=True)}
    return Manifest(name=flavour, rows=rows, root=root, files=files, directional=True, note=NOTE)


def _render(flavour: str, root: Path, listing: list[tuple[str, str, int, str]]) -> None:
    """Start workers that share the clips, and show how far they are."""
    try:
        for folder in {(root / file).parent for *_, file in listing}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {root} cannot be written ({error}); set VIDLIB_CACHE to another folder"
        ) from None
    # Child processes by command line, not multiprocessing: nothing of the caller's __main__ is run again in them.
    package = str(Path(__file__).resolve().parents[3])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-m", "vidlib.data.world.moving_shapes", flavour, str(root)]
    workers = [
        subprocess.Popen([*command, str(part), str(WORKERS)], env=environment, stderr=subprocess.PIPE, text=True)
        for part in range(WORKERS)
    ]
    try:
        for _ in track(_watched(workers, root, listing), f"rendering {flavour}", total=len(listing)):
            pass
        for worker in workers:
            _, message = worker.communicate()
            if worker.returncode:
                last = (message.strip().splitlines() or ["no message"])[-1]
                raise UserError(f"rendering {flavour} into {root} failed ({last}); is the disk full?")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for left in root.glob("*/*/.part-*"):  # of a rendering that was killed
        left.unlink(missing_ok=True)
    with atomic_write(root / "complete") as path:
        path.write_text(f"{CHECKSUM[flavour]}\n")


def _watched(workers: list[subprocess.Popen], root: Path, listing: list[tuple[str, str, int, str]]):
    """Yield once for every clip that has come to be, until all workers have ended."""
    waiting = {root / file for *_, file in listing}
    while waiting:
        running = any(worker.poll() is None for worker in workers)
        there = {path for path in waiting if path.exists()}
        waiting -= there
        yield from there
        if not running:
            return
        time.sleep(0.25)


def _work(flavour: str, root: Path, part: int, parts: int) -> None:
    """Render every ``parts``-th clip that is not there, from ``part`` on; each is written whole or not at all."""
    for _, name, number, file in _listing(flavour)[part::parts]:
        path = root / file
        if not path.exists():
            temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
            temporary.write_bytes(encode(clip_frames(flavour, name, number)))
            os.replace(temporary, path)


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
