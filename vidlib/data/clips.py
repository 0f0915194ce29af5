"""A split's videos as tensors: frames chosen, decoded, transformed; decoded frames are kept while memory lasts.

In training another video of the class takes the place of one that does not decode, by rule, and is named; a test may
average over several views of a video.
"""

import copy
import hashlib
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vidlib.basics.errors import UserError
from vidlib.basics.progress import say_once
from vidlib.data import prefetched, video
from vidlib.data.manifest import COSTLY, Manifest, in_words, passing
from vidlib.data.sampling import segment_indices, view_indices
from vidlib.data.transforms import ClipTransform

ROLES = ("support", "query")
PLACES = {1: (0.5,), 3: (0.0, 0.5, 1.0)}  # crops along the longer side
CONTROLLED = "an evaluation never puts another video in its place: mend the file, or leave it out, and run again"

# A short, small video is remembered whole, so that later episodes draw other frames of it without decoding again.
SHORT, SMALL, WHOLE = 64, 256 << 10, 8 << 20  # frames, bytes of the file, bytes of the decoded frames

# What one run decoded serves the next in the same process (a notebook trains several methods on the same clips).
SHARED = 1 << 30  # bytes
_shared: dict[tuple[str, int, int], np.ndarray] = {}
_warned: set[Path] = set()  # stores some of whose files have changed: said once


class Undecodable(UserError):
    """A video of a split cannot be decoded; ``cause`` in words, without the path. The sentence names the file."""

    cause = ""


Read = TypeVar("Read")
Transform = Callable[[np.ndarray, torch.Generator | None], Tensor]
Pick = Callable[[int, int, np.random.Generator | None], np.ndarray]


class Clips:
    """The videos of ``manifest.videos(split)`` by row number, each as float [T C H W].

    ``transform_train`` and ``transform_test`` take frames uint8 [T H W C] and a generator (None in testing);
    ``transform_query`` is the training one of queries, None for the same. ``pick`` chooses frames (``sampling.RULES``),
    at random in training for the roles in ``vary_train`` and in testing for those in ``vary_test``, which depend on the
    episode then (``by_episode``) and are asked for with ``drawn``. At most ``cache_bytes`` of decoded frames are kept
    in memory, shared out among loader processes; a copy sent to another process starts empty.
    What was prefetched of the benchmark is read from there as long as the video's file is the same (``prefetched``; of
    some frames of a clip only where these are all of its ``views`` in time).
    A video that cannot be decoded raises ``Undecodable``, a UserError naming it, and is not tried again by the same
    process, unless the cause is ``passing`` and neither a time limit nor a crash. No other video ever takes its place
    here; in training ``train_or_replace`` chooses one and says so.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        frames: int,
        transform_train: Transform | None,
        transform_test: Transform,
        seed: int,
        cache_bytes: int = 1 << 30,
        *,
        transform_query: Transform | None = None,
        pick: Pick = segment_indices,
        vary_train: Sequence[str] = ROLES,
        vary_test: Sequence[str] = (),
        views: int = 1,
    ) -> None:
        self.manifest, self.split, self.frames, self.seed = manifest, split, frames, seed
        self.rows = manifest.videos(split)
        self.transform_train, self.transform_test = transform_train, transform_test
        self.transform_query = transform_query or transform_train
        self.pick, self.vary_train, self.vary_test = pick, tuple(vary_train), tuple(vary_test)
        self.by_episode = bool(vary_test)
        self.cache_bytes = cache_bytes
        self.kept = prefetched.find(manifest.source(split), frames, views)
        if self.kept and self.kept.made["frames"] and ((transform_train and vary_train) or vary_test):
            say_once(
                f"{self.kept.folder} keeps {self.kept.made['frames']} frames of a clip: frames at random are drawn "
                "from those alone; VIDLIB_PREFETCH=0 draws them from the whole clip."
            )
        self._forget()

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._whole: dict[int, np.ndarray] = {}  # row -> all its frames [N H W C]
        self._centres: dict[int, np.ndarray] = {}  # row -> its fixed frames [T H W C]
        self._totals: dict[int, int] = {}
        self._failed: dict[int, str] = {}  # row -> cause
        self._used = 0

    def test(self, row: int) -> Tensor:
        """The frames that ``pick`` takes without chance, through the test transform: deterministic."""
        return self.transform_test(self._tested(row, lambda path: self._frames(row, path, None)), None)

    def drawn(self, row: int, episode: int, slot: int, role: str) -> Tensor:
        """``test``, with frames at random where ``vary_test`` has the role: the same in every run of that episode."""
        rng, _ = chance("test", 0, episode, slot)  # no seed of a training: all methods meet the same clips
        rng = rng if role in self.vary_test else None
        return self.transform_test(self._tested(row, lambda path: self._frames(row, path, rng)), None)

    def _tested(self, row: int, read: Callable[[Path], Read]) -> Read:
        try:
            return self._decoded(row, read)
        except Undecodable as error:
            raise UserError(
                f"{self.manifest.path(self.rows[row])} cannot be decoded ({error.cause}); {CONTROLLED}"
            ) from None

    def train(self, row: int, episode: int, slot: int, role: str = "support") -> Tensor:
        """Random frames, augmented; all chance comes from (seed, episode, slot), none from workers."""
        transform = self.transform_query if role == "query" else self.transform_train
        if transform is None:
            raise ValueError(f"no training transform was given for split {self.split}")
        rng, generator = chance("clip", self.seed, episode, slot)
        return transform(self.raw(row, rng if role in self.vary_train else None), generator)

    def views(self, row: int, augmented: int) -> Tensor:
        """What ``test`` gives, then ``augmented`` training views, whose chance comes from (seed, video, number of the
        view): [1 + augmented T C H W], from one decoding. Nothing decoded is kept; ``Undecodable`` where it cannot be.
        """
        of_view = [chance("view", self.seed, self.rows[row].video, number) for number in range(augmented)]
        picks = [partial(self._pick_anew, rng) for rng, _ in of_view]
        first, *rest = self._decoded(row, lambda path: self._several(row, path, [self._fixed, *picks]))
        drawn = [self.transform_train(raw, generator) for raw, (_, generator) in zip(rest, of_view, strict=True)]
        self._forget()
        return torch.stack([self.transform_test(first, None), *drawn])

    def seen(self, row: int, looks: Sequence["Clips"]) -> Tensor:
        """What ``test`` of each of ``looks``, which are of the same split, gives of a video that is decoded once:
        [V T C H W]."""
        picks = [look._fixed for look in looks]
        raws = self._tested(row, lambda path: self._several(row, path, picks))
        return torch.stack([look.transform_test(raw, None) for look, raw in zip(looks, raws, strict=True)])

    def _fixed(self, total: int) -> np.ndarray:
        return self.pick(total, self.frames, None)

    def _pick_anew(self, rng: np.random.Generator, total: int) -> np.ndarray:
        return self.pick(total, self.frames, copy.deepcopy(rng))

    def raw(self, row: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Decoded frames uint8 [T H W C], at random with ``rng``, else the fixed ones."""
        return self._decoded(row, lambda path: self._frames(row, path, rng))

    def _decoded(self, row: int, read: Callable[[Path], Read]) -> Read:
        """``read`` of the video's file, or ``Undecodable``."""
        path = self.manifest.path(self.rows[row])
        cause = self._failed.get(row, "")
        if not cause:
            try:
                return read(path)
            except MemoryError:  # not the file's fault
                raise
            except Exception as error:  # whatever a decoder throws, the user learns which file it was
                if isinstance(error, UserError) and not isinstance(error, video.VideoError):
                    raise
                cause = in_words(error, path)
                if not passing(cause) or any(mark in cause for mark in COSTLY):
                    self._failed[row] = cause
        failed = Undecodable(f"{path} cannot be decoded: {cause}")
        failed.cause = cause
        raise failed

    def _name(self, row: int) -> str:
        """A video's id in its own data set (``protocols.merged`` marks it)."""
        return self.rows[row].video.removeprefix(f"{self.manifest.source(self.split)}:")

    def _prefetched(self, row: int, path: Path) -> np.ndarray | None:
        """All frames that are kept of a video [N H W C]; None where it has to be decoded."""
        name = self._name(row)
        if self.kept is None or name not in self.kept.kept:
            return None
        frames = self.kept.frames(name, path)
        if frames is None and self.kept.folder not in _warned:
            _warned.add(self.kept.folder)
            warnings.warn(
                f"{path} is not the file that was prefetched: it and others like it are decoded; vidlib data prefetch "
                f"{self.manifest.source(self.split)} renews {self.kept.folder}",
                stacklevel=2,
            )
        return frames

    def _frames(self, row: int, path: Path, rng: np.random.Generator | None) -> np.ndarray:
        if rng is None and row in self._centres:
            return self._centres[row]
        if rng is None:
            (frames,) = self._several(row, path, [self._fixed])
            stays = row in self._whole or (self.kept is not None and self._name(row) in self.kept.kept)
            if not stays and self._room_for(frames.nbytes):
                self._centres[row] = frames
                self._used += frames.nbytes
            return frames
        whole = self._whole_of(row, path)
        if whole is not None:
            return whole[self.pick(len(whole), self.frames, rng)]
        if row not in self._totals:
            self._totals[row] = video.count_frames(path)
        return video.read_frames(path, self.pick(self._totals[row], self.frames, rng))

    def _several(self, row: int, path: Path, picks: Sequence[Callable[[int], np.ndarray]]) -> list[np.ndarray]:
        """The frames [T H W C] of each of ``picks``, total -> indices, which may be asked again; decoded once where the
        header counts right."""
        whole, frames = self._whole_of(row, path), None
        if whole is not None:
            return [whole[pick(len(whole))] for pick in picks]
        if row not in self._totals:
            stated = video.stated_frames(path)
            wanted = np.unique(np.concatenate([pick(stated or 1) for pick in picks]))
            self._totals[row], frames = video.read_and_count(path, wanted, stated)
        indices = [pick(self._totals[row]) for pick in picks]
        if frames is None:
            wanted = np.unique(np.concatenate(indices))
            frames = video.read_frames(path, wanted)
        return [frames[np.searchsorted(wanted, each)] for each in indices]

    def _whole_of(self, row: int, path: Path) -> np.ndarray | None:
        """All frames of a video that was prefetched, is remembered, or is short."""
        whole = self._prefetched(row, path)
        whole = self._whole.get(row) if whole is None else whole
        if whole is not None or row in self._totals:
            return whole
        whole = _decoded_whole(path)
        if whole is not None and self._room_for(whole.nbytes):
            self._whole[row] = whole
            self._used += whole.nbytes
        return whole

    def _room_for(self, size: int) -> bool:
        worker = get_worker_info()
        return self._used + size <= self.cache_bytes // (worker.num_workers if worker else 1)


class Views:
    """Several looks at the videos of a split: ``test(row)`` is [V T C H W], of a video decoded once for all of them."""

    def __init__(self, looks: Sequence[Any]) -> None:
        self.looks, self.count = looks, len(looks)
        self.manifest, self.split, self.rows = looks[0].manifest, looks[0].split, looks[0].rows

    def test(self, row: int) -> Tensor:
        first = self.looks[0]
        if all(isinstance(look, Clips) for look in self.looks):
            return first.seen(row, self.looks)
        return torch.stack([look.test(row) for look in self.looks])


class Replaced(NamedTuple):
    """``video`` of ``cls`` did not decode for ``cause``; ``by`` was trained on in its place."""

    video: str
    cls: str
    cause: str
    by: str


def train_or_replace(
    clips: Any, row: int, episode: int, slot: int, role: str | None, taken: Container[int]
) -> tuple[Tensor, int, Replaced | None]:
    """``clips.train(row, ...)``, or that of the video that takes its place: the clip, its row, what was replaced.

    The rule knows (seed, episode, slot) and which files decode, nothing of processes or of what was drawn before, so
    that workers and resumed runs agree: of the split's videos of that class, in an order hashed from those three, the
    first that decodes and is not in the episode already; where none such is left, one that is. ``role``: None of
    labelled clips. ``taken``: the rows of the episode. UserError where no video of the class decodes.
    """
    where = (episode, slot) if role is None else (episode, slot, role)
    try:
        return clips.train(row, *where), row, None
    except Undecodable as error:
        first = error
    lost = clips.rows[row]
    others = [i for i, other in enumerate(clips.rows) if other.cls == lost.cls and i != row]
    place = f"replace\t{clips.seed}\t{episode}\t{slot}\t"
    others.sort(key=lambda i: hashlib.sha256(f"{place}{clips.rows[i].video}".encode()).digest())
    others.sort(key=lambda i: i in taken)
    for other in others:
        try:
            clip = clips.train(other, *where)
        except Undecodable:
            continue
        return clip, other, Replaced(lost.video, lost.cls, first.cause, clips.rows[other].video)
    raise UserError(f"{first}; no other video of class {lost.cls!r} in split {clips.split} decodes either, mend some")


def test_views(
    manifest: Manifest, split: str, frames: int, clips: int, crops: int, transform: dict[str, Any]
) -> Iterator[Clips]:
    """The ``clips`` x ``crops`` views of a split's videos, each as ``Clips`` whose ``test(row)`` gives that view.

    ``crops`` is 1 (the centre) or 3. ``transform``: arguments of ``ClipTransform`` besides train and place. Several
    ``clips`` are decoded where only some frames were prefetched, which would serve them all alike.
    """
    for view in range(clips):
        for place in PLACES[crops]:
            look = ClipTransform(**transform, train=False, place=place)
            pick = partial(_pick, view, clips)
            yield Clips(manifest, split, frames, None, look, seed=0, pick=pick, views=clips)


def _pick(view: int, views: int, total: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    return segment_indices(total, frames, rng) if rng is not None else view_indices(total, frames, view, views)


def chance(what: str, seed: int, episode: int | str, slot: int) -> tuple[np.random.Generator, torch.Generator]:
    """Generators for frames and for augmentation, of one clip's place in one episode."""
    digest = hashlib.sha256(f"{what}\t{seed}\t{episode}\t{slot}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return rng, torch.Generator().manual_seed(int.from_bytes(digest[16:23], "little"))


def _decoded_whole(path: Path) -> np.ndarray | None:
    """All frames [N H W C] of a small file with a short video, remembered; None of another."""
    stat = path.stat()
    if stat.st_size > SMALL:
        return None
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key in _shared:
        return _shared[key]
    whole = video.read_short(path, SHORT, WHOLE)
    if whole is not None and sum(kept.nbytes for kept in _shared.values()) + whole.nbytes <= SHARED:
        _shared[key] = whole
    return whole
