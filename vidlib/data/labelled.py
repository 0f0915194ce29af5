"""Labelled clips for training: batch i is a pure function of (training list, batch size, seed, i), on any process."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vidlib.basics.errors import UserError
from vidlib.data import replacing
from vidlib.data.clips import Clips

if TYPE_CHECKING:
    from vidlib.data.sentences import Sentences


@dataclass
class LabelledBatch:
    """Clips and what is known of them: this process's part of a batch.

    ``clips [B T 3 H W]``, ``labels [B]`` (number among the training classes), ``ids [B L]``: each clip's sentence;
    ``class_ids [K L]``: the first template with every training class. For a method with ``masks_words``:
    ``masked_ids [B L]``, the sentence with words replaced by "mask", and ``words [B L]``, the vocabulary's number of
    the word that was there, -100 elsewhere. ``replaced``: the videos that did not decode, and what took their places.
    """

    clips: Tensor
    labels: Tensor
    ids: Tensor
    class_ids: Tensor
    masked_ids: Tensor | None = None
    words: Tensor | None = None
    replaced: tuple[replacing.Replaced, ...] = ()


class LabelledBatches(Dataset):
    """``batches[i]``: the clips of batch i with labels and sentences, augmented.

    Every epoch draws all videos of the split in a new order; what does not fill a batch at its end is left to others.
    ``part`` is (this process, number of processes): each takes an equal share of every batch. ``masks``: also make the
    masked sentences of M2-CLIP.
    """

    def __init__(
        self,
        clips: Clips,
        sentences: "Sentences",
        batch: int,
        seed: int,
        *,
        part: tuple[int, int] = (0, 1),
        masks: bool = False,
    ) -> None:
        if batch % part[1]:
            raise UserError(f"batch: {batch} clips cannot be shared out evenly among {part[1]} processes")
        if batch > len(clips):
            raise UserError(f"batch: {batch} is more than the {len(clips)} training videos; give at most that many")
        self.clips, self.sentences, self.batch, self.seed = clips, sentences, batch, seed
        self.part, self.masks = part, masks
        classes = clips.manifest.classes(clips.split)
        number = {cls: i for i, cls in enumerate(classes)}
        self.labels = np.array([number[row.cls] for row in clips.rows])
        self.key = f"{clips.manifest.checksum(clips.split)}\t{batch}\t{seed}"

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch."""
        return len(self.clips) // self.batch

    def rows(self, i: int) -> np.ndarray:
        """The videos of batch i, by row number, those of all processes."""
        epoch, place = divmod(i, self.per_epoch)
        digest = hashlib.sha256(f"{self.key}\t{epoch}".encode()).digest()
        words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(len(self.clips))
        order = np.argsort(words, kind="stable")  # the same on every platform: a shuffle's algorithm may change
        return order[place * self.batch : (place + 1) * self.batch]

    def __getitem__(self, i: int) -> LabelledBatch:
        rows, (mine, of) = self.rows(i), self.part
        size = self.batch // of
        slots = range(mine * size, (mine + 1) * size)
        labels = [int(self.labels[rows[slot]]) for slot in slots]
        taken = set(rows.tolist())  # as drawn, so that the number of processes does not matter
        drawn = [replacing.train(self.clips, int(rows[slot]), i, slot, None, taken) for slot in slots]
        clips = default_collate([clip for clip, _, _ in drawn])  # in a loader process, in shared memory
        ids = torch.stack([self.sentences.drawn(k, i, slot) for k, slot in zip(labels, slots, strict=True)])
        lost = tuple(replaced for _, _, replaced in drawn if replaced)
        batch = LabelledBatch(clips, torch.tensor(labels), ids, self.sentences.ids[0], replaced=lost)
        if self.masks:
            masked = [self.sentences.masked(k, i, slot) for k, slot in zip(labels, slots, strict=True)]
            batch.masked_ids, batch.words = (torch.stack(list(column)) for column in zip(*masked, strict=True))
        return batch
