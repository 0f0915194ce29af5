"""A pool of the world *motion* drawn anew: frozen features of many more videos, and of more classes, than it ships.

A clip is drawn as the world's own are, under a key of its own, so that no published one is among them; only the frames
that a test looks at are painted, and they are not encoded as H.264 on the way (``encoded`` has what that changes). A
class is a sequence of relations: the 16 and 24 pairs of motion's test and train, which has no more than 56 in all; and,
as classes of one kind of which there are more, 84 of the 336 triples. Features: frozen clip-mini's, T each.
"""

import functools
import hashlib
import tempfile
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from vidlib import backbones
from vidlib.basics import paths
from vidlib.basics.progress import track
from vidlib.data import video
from vidlib.data.sampling import segment_indices
from vidlib.data.transforms import ClipTransform
from vidlib.data.world import stage, worlds
from vidlib.data.world.kinds import KINDS
from vidlib.data.world.relations import RELATIONS

TOWER, FRAMES, PIECE = "clip-mini", 8, 32  # PIECE: videos whose features are written at once
FULL = {"test": 128, "train": 32, "triples": 32}  # videos a class: motion's test and train, triples

Class = tuple[str, ...]  # its relations, one after the other


def classes(group: str) -> list[Class]:
    """``test`` and ``train``: motion's, in its order; ``triples``: three different relations."""
    if group == "triples":
        return list(permutations(RELATIONS, 3))[:252:3]  # that begin with one of the first six
    pairs = zip(KINDS["motion"], permutations(RELATIONS, 2), strict=True)
    return [pair for kind, pair in pairs if kind.split == group]


def fresh(names: Class, number: int) -> stage.Shot:
    """What the clip of this number is drawn from."""
    key = hashlib.sha256(f"drawn anew/{' '.join(names)}/{number}".encode()).digest()
    return stage.related(names, np.random.default_rng(int.from_bytes(key[:8], "big")))


def seen(shot: stage.Shot) -> np.ndarray:
    """The frames of a clip at its segments' centres, before any encoding, uint8 [T H W 3]."""
    at = segment_indices(len(shot.views), FRAMES)
    kept = {name: [getattr(shot, name)[i] for i in at] for name in ("views", "light", "behind", "actors")}
    return shot._replace(**kept).frames()


def decoded(shot: stage.Shot) -> np.ndarray:
    """The same of its mp4 file."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "clip.mp4"
        file.write_bytes(worlds.encode(shot.frames(), shot.rate, shot.quantiser))
        frames = video.read_all(file, timeout=None)
    return frames[segment_indices(len(frames), FRAMES)]


@functools.cache
def _tower() -> backbones.Backbone:
    return backbones.load(TOWER, TOWER)


def embedded(clips: Iterable[np.ndarray]) -> np.ndarray:
    """Frames of each clip -> float16 [N T D]; one by one, for a batch is slower on one core."""
    tower = _tower()
    look = ClipTransform(tower.image_size, tower.mean, tower.std, train=False)
    with torch.inference_mode():
        return np.stack([tower.features(look(clip), False).numpy() for clip in clips]).astype(np.float16)


def pool(folder: Path, group: str, videos: int) -> np.ndarray:
    """float16 [K videos T D] of ``classes(group)``; what ``folder`` lacks is made, in pieces that are kept."""
    sizes = {(names, at): min(PIECE, videos - at) for names in classes(group) for at in range(0, videos, PIECE)}
    place = {one: folder / f"{'-'.join(one[0]).replace(' ', '_')}.{one[1]}.{size}.npy" for one, size in sizes.items()}
    lacking = [one for one in sizes if not place[one].is_file()]
    for names, at in track(lacking, f"fresh videos ({group}), {PIECE} at a time"):
        features = embedded(seen(fresh(names, number)) for number in range(at, at + sizes[names, at]))
        with paths.atomic_write(place[names, at]) as part, open(part, "wb") as target:
            np.save(target, features)
    blocks = np.concatenate([np.load(place[one]) for one in sizes])
    return blocks.reshape(len(classes(group)), videos, *blocks.shape[1:])


def encoded(videos: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``videos`` of each of motion's test classes as the pool has them, and through H.264: [K videos T D]."""
    shots = [fresh(names, number) for names in classes("test") for number in range(videos)]
    both = (embedded(map(way, shots)) for way in (seen, decoded))
    return tuple(x.reshape(-1, videos, *x.shape[1:]) for x in both)
