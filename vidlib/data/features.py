"""What a frozen tower made of each video's frames, kept on the disk: features [views T C] by video, memory-mapped.

A store is a folder, by default in ``$VIDLIB_DATA/features/``: ``head.json`` says whose features they are and of which
lists of videos; ``videos.json`` holds those lists with the class texts; ``<list>-<number>.npy`` are shards
[videos views T C], each with a ``.json`` beside it, written after it: sha256, sizes of the videos' files, and the
videos that did not decode. View 0 is the test's; the others are augmented, and only what may be trained on has them. A
list is a split, or ``all`` of a user's folder, whose splits depend on the episodes.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidlib.basics import paths
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.data.manifest import Manifest, Row

if TYPE_CHECKING:
    from torch import Tensor

HEAD, VIDEOS = "head.json", "videos.json"
FORMAT = 1
PER_SHARD = 64  # videos: what a killed command has to do again
WHOLE = "all"  # the one list of a user's folder
TRAINED = ("train", WHOLE)  # lists whose videos have augmented views
SHARD = re.compile(r"[a-z_]+-\d{4,}")
AGAIN = "delete it, and the same vidlib data embed makes it anew"
KEYS = {"dataset", "tower", "test", "train", "dtype", "prefetched", "lists"}
DTYPES = ("float32", "float16")


def place() -> Path:
    """The folder of all stores that were given no other."""
    return paths.absolute(paths.data_dir() / "features")


def stores() -> Iterator["Store"]:
    """The stores there, by name; a folder that holds none is passed over."""
    for head in sorted(place().glob(f"[!.]*/{HEAD}")):
        try:
            yield Store(head.parent)
        except UserError:
            continue


def checksum(rows: Iterable[Row]) -> str:
    """``Manifest.checksum`` of any rows."""
    return hashlib.sha256(b"".join(sorted(f"{row.video}\t{row.cls}\n".encode() for row in rows))).hexdigest()


class Store:
    """A folder of features; UserError where it holds none that this vidlib reads. With a ``head``: what it will be.

    ``head``: dataset; tower (backbone, pretrained, weights: their digest, width); test and train (sampling rule, crop,
    statistics, flips, ... and the whole ``transform``; train: views, seed); dtype; lists (checksum, videos).
    """

    def __init__(self, folder: str | Path, head: dict[str, Any] | None = None) -> None:
        self.folder = paths.absolute(folder)
        if head is None and not (self.folder / HEAD).is_file():
            raise UserError(f"features: {self.folder} is no store of features (it has no {HEAD})")
        self.head = head or paths.read_json(self.folder / HEAD, AGAIN)
        wrong = UserError(f"features: {self.folder / HEAD} is not of format {FORMAT}, which is read here: {AGAIN}")
        try:
            lists = all(re.fullmatch("[a-z_]+", name) and one["videos"] > 0 for name, one in self.head["lists"].items())
            if (
                self.head["format"] != FORMAT
                or self.head["dtype"] not in DTYPES
                or KEYS - self.head.keys()
                or not lists
            ):
                raise wrong
            self.frames, self.width = int(self.head["test"]["frames"]), int(self.head["tower"]["width"])
            self.dtype, self.views = np.dtype(self.head["dtype"]), int(self.head["train"]["views"])
        except (KeyError, TypeError, AttributeError):
            raise wrong from None
        self._shards: dict[str, np.ndarray] = {}
        self._said: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    @functools.cached_property
    def videos(self) -> dict[str, Any]:
        """videos.json: rows (list -> [[video, class, split], ...]), prompts, directional, listed, note."""
        return paths.read_json(self.folder / VIDEOS, AGAIN)

    @functools.cached_property
    def index(self) -> dict[str, tuple[str, int, str]]:
        """video -> its list, its number there, its class."""
        rows = self.videos["rows"]
        return {video: (name, i, cls) for name in rows for i, (video, cls, _) in enumerate(rows[name])}

    def shards(self, name: str) -> list[str]:
        """The shards of a list, whether they are there or not."""
        return [f"{name}-{i:04}" for i in range(-(-self.head["lists"][name]["videos"] // PER_SHARD))]

    def every(self) -> list[str]:
        """The shards of all lists."""
        return [shard for name in self.head["lists"] for shard in self.shards(name)]

    def shape(self, shard: str) -> tuple[int, int, int, int]:
        """Videos, views, frames and width of a shard."""
        name, _, number = shard.rpartition("-")
        videos = min(PER_SHARD, self.head["lists"][name]["videos"] - int(number) * PER_SHARD)
        return videos, 1 + (self.views if name in TRAINED else 0), self.frames, self.width

    def done(self, shard: str) -> bool:
        """Whether a shard is there, whole."""
        return os.path.isfile(self.folder / f"{shard}.json") and os.path.isfile(self.folder / f"{shard}.npy")

    def lacking(self) -> list[str]:
        """The shards that are not there yet."""
        return [shard for shard in self.every() if not self.done(shard)]

    @property
    def bytes(self) -> int:
        """Of all features, once they are there."""
        return sum(int(np.prod(self.shape(shard))) for shard in self.every()) * self.dtype.itemsize

    @property
    def digest(self) -> str:
        """Of the head and the content of every shard."""
        return digest([self.head, {shard: self.said(shard)["sha256"] for shard in self.every()}])

    @property
    def words(self) -> str:
        """In a few words, for people."""
        lists = ", ".join(f"{name} {one['videos']}" for name, one in self.head["lists"].items())
        views = f"1 test view and {self.views} augmented of what is trained on" if self.views else "1 test view"
        tower = f"{self.head['tower']['backbone']} {self.head['tower']['pretrained']}"
        return (
            f"{self.head['dataset']} ({lists} videos), {tower}, {self.frames} frames, "
            f"{views}, {self.head['dtype']}, {self.bytes / 1e6:.1f} MB"
        )

    def said(self, shard: str) -> dict[str, Any]:
        """What stands beside a shard: sha256; sizes of its videos' files; number of a video in it -> why it is not."""
        if shard not in self._said:
            self._said[shard] = paths.read_json(
                self.folder / f"{shard}.json", f"delete it and {shard}.npy; then {AGAIN}"
            )
        return self._said[shard]

    def array(self, shard: str) -> np.ndarray:
        """A shard [videos views T C], mapped; UserError where it is cut off, damaged or absent."""
        if shard not in self._shards:
            file = self.folder / f"{shard}.npy"
            try:
                found = np.load(file, mmap_mode="r", allow_pickle=False)
                if (found.shape, found.dtype) != (self.shape(shard), self.dtype):
                    raise ValueError(f"it holds {found.dtype} {found.shape}")
            except (OSError, ValueError, EOFError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise UserError(f"shard {file} is cut off or damaged ({why}): {AGAIN}") from None
            self._shards[shard] = found
        return self._shards[shard]

    def feature(self, video: str, view: int) -> np.ndarray:
        """float32 [T C], a copy."""
        shard, place = self._where(video)
        return np.array(self.array(shard)[place, view], dtype=np.float32)

    def lost(self, video: str) -> str:
        """Why a video has no features, in words; empty where it has."""
        shard, place = self._where(video)
        return self.said(shard)["lost"].get(str(place), "")

    def _where(self, video: str) -> tuple[str, int]:
        name, number, _ = self.index[self.id(video)]
        return f"{name}-{number // PER_SHARD:04}", number % PER_SHARD

    def id(self, video: str) -> str:
        """A video's id here: that of the file, where a folder's val holds training videos again."""
        from vidlib.data import folder  # here, so that a list of stores is read fast

        return video.removesuffix(folder.AGAIN)

    def list_of(self, split: str) -> str:
        """The list that holds the videos of a split; empty where none does."""
        return next((name for name in (split, WHOLE) if name in self.head["lists"]), "")

    def unlike(self, manifest: Manifest, split: str) -> str:
        """How the list here differs from ``manifest``'s ``split``, in words; empty where it is the same."""
        name, rows = self.list_of(split), manifest.videos(split) if split in manifest.splits else ()
        if not name or not rows:
            return f"lists are {', '.join(self.head['lists'])} there, and split {split} is wanted"
        there, here = self.head["lists"][name]["checksum"], manifest.checksum(split)
        if name != WHOLE and there != here:
            counts = f"{self.head['lists'][name]['videos']} videos there, {len(rows)} here"
            return f"the list of {split} has changed (checksum {there[:12]} there, {here[:12]} here; {counts})"
        strange = [row.video for row in rows if self.index.get(self.id(row.video), ("", 0, ""))[2] != row.cls]
        return f"it lacks {len(strange)} of {len(rows)} videos of {split}, such as {strange[0]}" if strange else ""

    def changed(self, manifest: Manifest, split: str) -> str:
        """A video of ``split`` whose file is not as large as when it was encoded; empty where there is none."""
        for row in manifest.videos(split):
            shard, place = self._where(row.video)
            try:
                size = os.stat(manifest.path(row)).st_size
            except OSError:  # features may be here without videos
                continue
            if not manifest.path(row).is_relative_to(self.folder) and size != self.said(shard)["sizes"][place]:
                return row.video
        return ""

    def manifest(self) -> Manifest:
        """The videos that were encoded, for who has their features and not their files: each "lies" in its shard."""
        rows = [Row(*row) for rows in self.videos["rows"].values() for row in rows]
        files = {row.video: f"{self._where(row.video)[0]}.npy" for row in rows}
        said = {name: self.videos[name] for name in ("directional", "prompts", "listed")}
        note = f"{self.videos['note']} Features alone are here, no videos.".strip()
        return Manifest(self.head["dataset"], tuple(rows), self.folder, files, note=note, **said)


class Stored:
    """The videos of ``manifest.videos(split)`` by row number, as ``Clips``, each as its frames' features [T C].

    ``test`` is the test view. ``train`` is one of the augmented views, which chance draws from (seed, episode, slot),
    or the test view where there are none. UserError (``Undecodable`` in training) for a video that did not decode.
    """

    by_episode, in_memory = False, True

    def __init__(self, store: Store, manifest: Manifest, split: str, seed: int) -> None:
        self.store, self.manifest, self.split, self.seed = store, manifest, split, seed
        self.rows = manifest.videos(split)

    def __len__(self) -> int:
        return len(self.rows)

    def test(self, row: int) -> "Tensor":
        return self._view(row, 0)

    def train(self, row: int, episode: int, slot: int, role: str = "support") -> "Tensor":
        from vidlib.data.clips import Undecodable

        if why := self.store.lost(self.rows[row].video):
            failed = Undecodable(f"{self.manifest.path(self.rows[row])} could not be decoded: {why}")
            failed.cause = why
            raise failed
        if not self.store.views:
            return self._view(row, 0)
        drawn = hashlib.sha256(f"view\t{self.seed}\t{episode}\t{slot}".encode()).digest()
        return self._view(row, 1 + int.from_bytes(drawn[:8], "little") % self.store.views)

    def _view(self, row: int, view: int) -> "Tensor":
        import torch

        video = self.rows[row].video
        if why := self.store.lost(video):
            raise UserError(
                f"{self.manifest.path(self.rows[row])} could not be decoded when {self.store.folder} was made ({why}); "
                "mend the file and delete that store, or leave it out, and run again"
            )
        return torch.from_numpy(self.store.feature(video, view))
