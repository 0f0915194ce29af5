"""Few-shot episodes: episode i is a pure function of what the split holds, the shape of the episode, the seed and i.

Legend: E episodes, W way, K shot, S supports (sum of the shots), Q queries (W times query), T frames, D text width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vidlib.basics.errors import UserError
from vidlib.data.clips import Clips, Replaced, train_or_replace
from vidlib.data.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode, by number; labels count from 0 to W-1 in the order of ``classes``.

    ``class_ids`` int64 [W] index ``manifest.classes(split)``; ``support`` [S] and ``query`` [Q] index
    ``manifest.videos(split)`` and never share a video; ``support_labels`` [S], ``query_labels`` [Q].
    """

    index: int
    classes: tuple[str, ...]
    class_ids: np.ndarray
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray


class EpisodeSampler:
    """``sampler[i]`` is episode i; any rank or worker draws any episode, a resumed run the same ones.

    ``shot`` is one number, or one per class of the episode (unbalanced supports); ``query`` counts videos per class.
    Classes and videos are drawn without replacement, uniformly, from the random 64-bit words of Philox keyed by the
    sha256 of (split checksum, split, way, shot, query, seed, i): the same on every platform and numpy version, since
    numpy keeps those words fixed, whatever the videos' paths and the order of the manifest's rows.

    Raises UserError where the split has fewer than ``way`` classes, or a class fewer than shot + query videos.
    """

    def __init__(
        self, manifest: Manifest, split: str, way: int, shot: int | tuple[int, ...], query: int, seed: int
    ) -> None:
        self.shots = (shot,) * way if isinstance(shot, int) else tuple(shot)
        self.split, self.way, self.query, self.seed = split, way, query, seed
        self.classes = manifest.classes(split)
        where = f"split {split} of {manifest.name}"
        if not 2 <= way <= len(self.classes):
            raise UserError(f"way: {way} does not fit {where} with {len(self.classes)} classes; give 2 to that many")
        if len(self.shots) != way:
            raise UserError(f"shot: {len(self.shots)} numbers for {way} classes; give one number, or one per class")
        if min(self.shots) < 1 or query < 1:
            raise UserError(f"shot and query: {min(self.shots)} and {query} videos per class; give at least 1 of each")
        of_class: dict[str, list[int]] = {cls: [] for cls in self.classes}
        for i, row in enumerate(manifest.videos(split)):
            of_class[row.cls].append(i)
        self._of_class = [np.array(videos, dtype=np.int64) for videos in of_class.values()]
        self.of_row = np.empty(sum(map(len, self._of_class)), dtype=np.int64)  # the class of each video of the split
        for number, videos in enumerate(self._of_class):
            self.of_row[videos] = number
        need = max(self.shots) + query
        for cls, videos in of_class.items():
            if len(videos) < need:
                fits = f"give at most {len(videos)} together" if len(videos) > 1 else "add videos or remove it"
                raise UserError(
                    f"shot and query: {max(self.shots)} + {query} videos per class are more than the {len(videos)} of "
                    f"class {cls!r} in {where}; {fits}"
                )
        shots = ",".join(map(str, self.shots))
        self.key = f"{manifest.checksum(split)}\t{split}\t{way}\t{shots}\t{query}\t{seed}"

    def __getitem__(self, i: int) -> Episode:
        if i < 0:
            raise IndexError(f"episode {i}: episodes count from 0")
        words = _words(f"{self.key}\t{i}")
        class_ids = _choose(words, len(self.classes), self.way)
        support, query = [], []
        for class_id, shot in zip(class_ids, self.shots, strict=True):
            videos = self._of_class[class_id]
            chosen = videos[_choose(words, len(videos), shot + self.query)]
            support.append(chosen[:shot])
            query.append(chosen[shot:])
        labels = np.arange(self.way, dtype=np.int64)
        return Episode(
            index=i,
            classes=tuple(self.classes[c] for c in class_ids),
            class_ids=class_ids,
            support=np.concatenate(support),
            support_labels=np.repeat(labels, self.shots),
            query=np.concatenate(query),
            query_labels=np.repeat(labels, self.query),
        )

    def checksum(self, episodes: int) -> str:
        """sha256 of the first ``episodes`` episodes: the name of a frozen evaluation list, printed with its result."""
        digest = hashlib.sha256(self.key.encode())
        for i in range(episodes):
            episode = self[i]
            for array in (episode.class_ids, episode.support, episode.support_labels, episode.query):
                digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


class Outside(EpisodeSampler):
    """The episodes of ``sampler`` with as many queries of none of their classes in place of their own.

    The queries are drawn without replacement, uniformly, from all videos of the split's other classes, by the sampler's
    rule under a key of their own. ``query_labels`` are 0 and mean nothing; ``asked`` says what was asked.
    UserError where an episode has all classes of the split, or the others too few videos.
    """

    def __init__(self, sampler: EpisodeSampler) -> None:
        self.__dict__.update(vars(sampler))
        self.inside, self.key = sampler, f"{sampler.key}\toutside"
        counts = sorted(map(len, self._of_class))
        if (left := sum(counts[: len(counts) - self.way])) < self.way * self.query:
            raise UserError(
                f"way: {self.way} of the {len(counts)} classes of split {self.split} leave {left} videos of other "
                f"classes, and {self.way * self.query} queries should be of none of the episode's; give fewer ways"
            )

    def __getitem__(self, i: int) -> Episode:
        episode = self.inside[i]
        apart = [videos for c, videos in enumerate(self._of_class) if c not in episode.class_ids]
        others, number = np.concatenate(apart), len(episode.query)
        rows = others[_choose(_words(f"{self.key}\t{i}"), len(others), number)]
        return replace(episode, query=rows, query_labels=np.zeros(number, dtype=np.int64))

    def asked(self, episodes: int) -> np.ndarray:
        """The class of every query of the first ``episodes``, by its number in ``classes``, int64 [R]."""
        return self.of_row[np.concatenate([self[i].query for i in range(episodes)])]


def _words(key: str) -> np.random.Philox:
    """The random words that belong to a key."""
    return np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))


def _choose(words: np.random.Philox, n: int, k: int) -> np.ndarray:
    """k of n numbers without replacement, in random order, int64 [k]: the first k steps of a Fisher-Yates shuffle."""
    moved: dict[int, int] = {}  # place -> number, where it is no longer its own: a class may hold 100,000 videos
    chosen = np.empty(k, dtype=np.int64)
    for place, word in enumerate(words.random_raw(k).tolist()):
        other = place + word % (n - place)  # 2**64 words for n numbers: uniform to one part in 2**64 / n
        chosen[place] = moved.get(other, other)
        moved[other] = moved.get(place, place)
    return chosen


class _OnDevice:
    """Moving every tensor of a dataclass at once."""

    def _each(self, change: Any) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        still = (type(None), tuple)  # no tensors
        return type(self)(**{name: v if isinstance(v, still) else change(v) for name, v in values.items()})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same on another device, as ``Tensor.to``; give a device, not a dtype: labels are whole numbers."""
        return self._each(lambda value: value.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """What a loader with ``pin_memory`` calls."""
        return self._each(lambda value: value.pin_memory())


@dataclass
class Targets(_OnDevice):
    """What only a loss needs: query_labels [E Q], class_ids [E W] (ids in the training classes), all_text [K D]."""

    query_labels: Tensor
    class_ids: Tensor
    all_text: Tensor


@dataclass
class EpisodeBatch(_OnDevice):
    """Episodes as tensors: support [E S T C H W], support_labels [E S], query [E Q T C H W], text [E W D] (raw); of
    stored features (``features``) support is [E S T C] and query [E Q T C].

    ``replaced``: the training videos that did not decode, and what took their places.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    text: Tensor
    targets: Targets | None = None
    replaced: tuple[Replaced, ...] = ()


def assemble(clips: Clips, episodes: Sequence[Episode], text: Tensor, train: bool) -> EpisodeBatch:
    """Load the clips of episodes of one shape; ``text`` [K D] follows ``manifest.classes(split)``.

    In training a clip's augmentation is seeded by the episode and the clip's place in it (supports, then queries), and
    the batch carries targets, and a video that does not decode is replaced (``train_or_replace``); in testing there are
    none, nothing is replaced, and a clip is the same in every episode unless ``clips.by_episode``.
    """
    replaced: list[Replaced] = []
    taken = {e.index: {*e.support.tolist(), *e.query.tolist()} for e in episodes}

    def load(row: int, episode: Episode, slot: int, role: str) -> Tensor:
        if train:
            clip, used, lost = train_or_replace(clips, row, episode.index, slot, role, taken[episode.index])
            if lost:
                taken[episode.index].add(used)
                replaced.append(lost)
            return clip
        return clips.drawn(row, episode.index, slot, role) if by_episode else clips.test(row)

    by_episode = getattr(clips, "by_episode", False)
    supports = len(episodes[0].support)
    support = [load(r, e, i, "support") for e in episodes for i, r in enumerate(e.support.tolist())]
    query = [load(r, e, supports + i, "query") for e in episodes for i, r in enumerate(e.query.tolist())]
    class_ids = torch.from_numpy(np.stack([e.class_ids for e in episodes]))
    # default_collate stacks in shared memory where a loader process calls it: clips are not copied on their way
    labels = torch.from_numpy(np.stack([e.query_labels for e in episodes]))
    return EpisodeBatch(
        support=rearrange(default_collate(support), "(e s) ... -> e s ...", e=len(episodes)),
        support_labels=torch.from_numpy(np.stack([e.support_labels for e in episodes])),
        query=rearrange(default_collate(query), "(e q) ... -> e q ...", e=len(episodes)),
        text=text[class_ids],
        targets=Targets(labels, class_ids, text) if train else None,
        replaced=tuple(replaced),
    )


class EpisodeDataset(Dataset):
    """Episodes ``start`` to ``start + count - 1`` as batches of one, for a ``DataLoader`` with ``batch_size=None``.

    Item i is episode ``start + i``; use no shuffling: the sampler is the only source of order.
    """

    def __init__(
        self, clips: Clips, sampler: EpisodeSampler, text: Tensor, train: bool, count: int, start: int = 0
    ) -> None:
        self.clips, self.sampler, self.text, self.train = clips, sampler, text, train
        self.count, self.start = count, start

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> EpisodeBatch:
        if not 0 <= i < self.count:
            raise IndexError(i)
        return assemble(self.clips, [self.sampler[self.start + i]], self.text, self.train)
