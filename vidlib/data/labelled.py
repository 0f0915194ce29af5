"""Labelled clips for training and sentences about their classes: batch i is a pure function of (training list, batch
size, seed, i), on any process.

Legend: `P` templates, `K` classes, `L` tokens of a sentence (the tokenizer's context length).

All chance comes from (seed, step, slot), none from workers, and no tokenizer is kept: what masking needs is cut into
tokens once, so that the sentences are small enough for every loader process.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vidlib.basics.errors import UserError
from vidlib.basics.words import few, sentence
from vidlib.data.clips import Clips, Replaced, train_or_replace

MASK = "mask"  # M2-CLIP hides a word behind this one (released code)
IGNORED = -100  # where cross-entropy expects nothing

WORD = re.compile(r"\w(?:.*\w)?", re.DOTALL)  # of what stands between two spaces; punctuation at its ends stays outside

Tokens = tuple[int, ...]


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
    replaced: tuple[Replaced, ...] = ()


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
        drawn = [train_or_replace(self.clips, int(rows[slot]), i, slot, None, taken) for slot in slots]
        clips = default_collate([clip for clip, _, _ in drawn])  # in a loader process, in shared memory
        ids = torch.stack([self.sentences.drawn(k, i, slot) for k, slot in zip(labels, slots, strict=True)])
        lost = tuple(replaced for _, _, replaced in drawn if replaced)
        batch = LabelledBatch(clips, torch.tensor(labels), ids, self.sentences.ids[0], replaced=lost)
        if self.masks:
            masked = [self.sentences.masked(k, i, slot) for k, slot in zip(labels, slots, strict=True)]
            batch.masked_ids, batch.words = (torch.stack(list(column)) for column in zip(*masked, strict=True))
        return batch


@dataclass(frozen=True)
class _Chunk:
    """What stands between two spaces: its tokens, those before and after its word, the word's number, -1 for none."""

    tokens: Tokens
    before: Tokens
    after: Tokens
    number: int


class Sentences:
    """``ids [P K L]``: the texts of K classes in P templates.

    tokenize: sentences -> token ids int64 [N L]: start, the tokens, end (the largest id), zeros; cut off at L.
    vocabulary: the words that a masked one is one of, lower case, by number; needed for ``masked`` alone, and a word of
        any sentence that is not in it is a UserError that names it (the released code takes number 0 for it, silently).
    share: of a sentence's words, how many are masked: ``max(1, round(share * words))``, in Python's rounding.
    """

    def __init__(
        self,
        tokenize: Callable[[Sequence[str]], Tensor],
        texts: Sequence[str],
        templates: Sequence[str],
        seed: int,
        vocabulary: Sequence[str] | None = None,
        share: float = 0.2,
    ) -> None:
        if not 0 < share <= 1:
            raise UserError(f"share of masked words must be above 0 and at most 1, got {share!r}.")
        sentences = _sentences(texts, templates)
        self.ids = tokenize(sentences).unflatten(0, (len(templates), len(texts)))
        self.seed, self.share = seed, share
        self.chunks: list[list[_Chunk]] | None = None
        if vocabulary is not None:
            self._cut(tokenize, sentences, {word: i for i, word in enumerate(vocabulary)})

    def drawn(self, label: int, step: int, slot: int) -> Tensor:
        """``[L]``: the class's text in one template, each as likely as another."""
        return self.ids[self._template(self._chance(step, slot)), label]

    def masked(self, label: int, step: int, slot: int) -> tuple[Tensor, Tensor]:
        """``drawn``'s sentence with words replaced by "mask" -> ``ids [L]``, ``words [L]``.

        ``words`` holds the vocabulary's number of the word that was there, at the place of its "mask"; -100 elsewhere.
        All words are alike, the template's too. Where a masked word lies beyond the context length, nothing is asked
        of it.
        """
        if self.chunks is None:
            raise ValueError("masking needs a vocabulary: Sentences(..., vocabulary=vocabulary(texts, templates))")
        chance = self._chance(step, slot)
        chunks = self.chunks[self._template(chance) * self.ids.shape[1] + label]
        places = [i for i, chunk in enumerate(chunks) if chunk.number >= 0]
        order = np.argsort(chance.random_raw(len(places)), kind="stable")
        hidden = {places[i] for i in order[: max(1, round(self.share * len(places)))]}
        tokens, words = [self.start], [IGNORED]
        for i, chunk in enumerate(chunks):
            tokens += (*chunk.before, self.mask, *chunk.after) if i in hidden else chunk.tokens
            words += [IGNORED] * (len(tokens) - len(words))
            if i in hidden:
                words[-1 - len(chunk.after)] = chunk.number
        length = self.ids.shape[-1]
        tokens = [*tokens[: length - 1], self.end]
        words = [*words[: length - 1], IGNORED]
        pad = length - len(tokens)
        return torch.tensor(tokens + [0] * pad), torch.tensor(words + [IGNORED] * pad)

    def _chance(self, step: int, slot: int) -> np.random.Philox:
        digest = hashlib.sha256(f"sentence\t{self.seed}\t{step}\t{slot}".encode()).digest()
        return np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def _template(self, chance: np.random.Philox) -> int:
        return int(chance.random_raw() % len(self.ids))

    def _cut(self, tokenize: Callable[[Sequence[str]], Tensor], sentences: list[str], numbers: dict[str, int]) -> None:
        """Fill ``chunks``, P x K in the order of the sentences; CLIP's tokenizer reads nothing across a space."""
        parts = {chunk: _parted(chunk) for sentence in sentences for chunk in sentence.split()}
        unknown = sorted({word.lower() for _, word, _ in parts.values() if word} - numbers.keys())
        if unknown:
            raise UserError(
                f"vocabulary lacks {few(map(repr, unknown))}, which a sentence has; "
                "make it with vocabulary(texts, templates)."
            )
        pieces = dict.fromkeys([MASK, *parts, *(end for before, _, after in parts.values() for end in (before, after))])
        rows = tokenize(list(pieces))
        self.start, self.end = int(rows[0, 0]), int(rows[0].max())
        for piece, row in zip(pieces, rows, strict=True):
            pieces[piece] = tuple(row[1 : int(row.argmax())].tolist())
        if len(pieces[MASK]) != 1:
            raise UserError(
                f"this tokenizer cuts the word {MASK!r} into pieces; masking needs one that keeps it whole."
            )
        self.mask = pieces[MASK][0]
        known = {
            chunk: _Chunk(pieces[chunk], pieces[before], pieces[after], numbers[word.lower()] if word else -1)
            for chunk, (before, word, after) in parts.items()
        }
        self.chunks = [[known[chunk] for chunk in sentence.split()] for sentence in sentences]


def vocabulary(texts: Iterable[str], templates: Iterable[str]) -> tuple[str, ...]:
    """All distinct words of the sentences, lower case, sorted: those of the texts and of the templates."""
    words = (_parted(chunk)[1] for sentence in _sentences(texts, templates) for chunk in sentence.split())
    return tuple(sorted({word.lower() for word in words if word}))


def _sentences(texts: Iterable[str], templates: Iterable[str]) -> list[str]:
    """P x K sentences, template by template."""
    texts = list(texts)
    return [sentence(template, text) for template in templates for text in texts]


def _parted(chunk: str) -> tuple[str, str, str]:
    """What is before its word, the word, what is after; no word in bare punctuation."""
    found = WORD.search(chunk)
    return (chunk[: found.start()], found[0], chunk[found.end() :]) if found else (chunk, "", "")
