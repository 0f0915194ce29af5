"""The catalogue's entries, checked: one YAML per benchmark in data_manifests/, of one of three kinds.

A few-shot benchmark (``FewShot``) cuts by class, a data set with standard splits (``Standard``, named ``official:...``)
has the same classes in training and test, an embedded world (``World``) takes its classes from code.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.catalogue import benchmarks

Words = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedClass(_Strict):
    """A class of a few-shot split: ``name`` as published, ``text`` for a text encoder (None: unknown), its videos."""

    name: Words
    text: Words | None
    videos: Count


class StandardClass(_Strict):
    """A class of standard splits; ``train`` and ``test`` count its videos in each, None where no source was at hand."""

    name: Words
    text: Words
    train: tuple[Count, ...] | None = None
    test: tuple[Count, ...] | None = None


class Entry(_Strict, ABC):
    """What every benchmark states. ``ids`` names whose video ids its lists hold; ``called``: what papers call it;
    ``page``, ``cite``: an address and the papers to cite, empty where none is known."""

    name: Words
    title: Words
    protocol: Words
    called: Words
    task: Words
    splits: Words
    directional: bool
    frames: Annotated[int, Field(ge=1)]
    sampling: Mapping[str, Words]
    prompt: Annotated[str, Field(pattern=r"\{\}")]
    licence: Words
    where: Words
    page: str = ""
    cite: str = ""
    layout: Words
    ids: Words
    notes: Annotated[tuple[Words, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sampled(self) -> "Entry":
        if not {"train", "test"} <= self.sampling.keys() <= {"train", "test", "released"}:
            raise ValueError("sampling names train and test, and at most released besides")
        return self

    @abstractmethod
    def texts(self) -> dict[str, dict[str, str | None]]:
        """Split -> class name -> readable text, None where it is unknown."""

    @abstractmethod
    def videos(self) -> dict[str, int | None]:
        """Split -> number of published videos, None where the entry states none."""


class FewShot(Entry):
    """A benchmark whose splits share no class.

    ``labels``: the published lists name the k-th class of a split ``<split><k>``. ``label_order``: split -> the
    positions of the classes that the labels of the CLIP-FSAR family stand for. ``id_length``: characters of a web id.
    """

    checksums: Mapping[str, Mapping[str, Digest]]
    classes: Mapping[str, tuple[NamedClass, ...]]
    labels: bool = False
    label_order: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)
    id_length: Count | None = None

    @model_validator(mode="after")
    def _whole(self) -> "FewShot":
        every = [benchmarks.normalised(c.name) for split in self.classes.values() for c in split]
        if len(set(every)) < len(every):
            raise ValueError("two classes have one name")
        if any(sums.keys() != self.classes.keys() for sums in self.checksums.values()):
            raise ValueError("checksums and classes name different splits")
        for split, order in self.label_order.items():
            if sorted(order) != list(range(len(self.classes[split]))):
                raise ValueError(f"label_order of {split} is no order of its classes")
        return self

    def texts(self) -> dict[str, dict[str, str | None]]:
        return {split: {c.name: c.text for c in classes} for split, classes in self.classes.items()}

    def videos(self) -> dict[str, int | None]:
        return {split: sum(c.videos for c in classes) for split, classes in self.classes.items()}


class Standard(Entry):
    """``standard_splits``: how many there are. Split names are train and test; of several, ``train 1`` and so on."""

    standard_splits: Count
    annotations: Words
    checksums: Mapping[int, Mapping[str, Digest]] = Field(default_factory=dict)
    classes: tuple[StandardClass, ...]

    @model_validator(mode="after")
    def _whole(self) -> "Standard":
        if len({benchmarks.normalised(c.name) for c in self.classes}) < len(self.classes):
            raise ValueError("two classes have one name")
        for counts in (counts for c in self.classes for counts in (c.train, c.test) if counts is not None):
            if len(counts) != self.standard_splits:
                raise ValueError("a class has another number of counts than there are standard splits")
        return self

    def part(self, part: str, number: int) -> str:
        """The name of one list: ``test``, or ``test 2`` where there are several standard splits."""
        return part if self.standard_splits == 1 else f"{part} {number}"

    def texts(self) -> dict[str, dict[str, str | None]]:
        return {split: {c.name: c.text for c in self.classes} for split in self.videos()}

    def videos(self) -> dict[str, int | None]:
        return {
            self.part(part, n): self.count(part, n)
            for n in range(1, self.standard_splits + 1)
            for part in ("train", "test")
        }

    def count(self, part: str, number: int) -> int | None:
        """The videos of one list; None where the entry states none."""
        counts = [getattr(c, part) for c in self.classes]
        return None if None in counts else sum(count[number - 1] for count in counts)


class World(Entry):
    """An embedded world: ``counts`` maps a split to its number of classes, ``clips_per_class`` to each one's videos."""

    counts: Mapping[str, Count]
    clips_per_class: Mapping[str, Count]

    def texts(self) -> dict[str, dict[str, str | None]]:
        return {split: {cls: cls for cls in classes} for split, classes in benchmarks.splits_of(self.name).items()}

    def videos(self) -> dict[str, int | None]:
        return {split: number * self.clips_per_class[split] for split, number in self.counts.items()}


def every() -> tuple[str, ...]:
    """Every entry's name: the worlds, the few-shot benchmarks, then the data sets with standard splits."""
    standard = sorted(file.stem for file in benchmarks.catalogue().glob(f"{benchmarks.STANDARD}*.yaml"))
    return (*benchmarks.names(), *(f"official:{stem.removeprefix(benchmarks.STANDARD)}" for stem in standard))


@cache
def entry(name: str) -> Entry:
    """The entry called ``name``, such as ``hmdb51`` or ``official:hmdb51``.

    UserError: a name that is none, a file that is not of the form above.
    """
    if name not in every():
        raise UserError(f"benchmark {name!r} is not known{closest(name, every())}; give one of {', '.join(every())}")
    file = benchmarks.catalogue() / f"{name.replace('official:', benchmarks.STANDARD)}.yaml"
    facts = benchmarks.read(file)
    kind = World if name in benchmarks.WORLDS else Standard if name.startswith("official:") else FewShot
    try:
        made = kind.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file}: {place or 'the entry'}: {first['msg']}") from None
    if made.name != name:
        raise UserError(f"{file}: its name is {made.name!r}, not {name!r}")
    return made
