"""A run across data sets and runs: tested on another data set's novel classes, started from another run's weights."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vidlib.basics.errors import UserError
from vidlib.data import descriptions
from vidlib.data.catalogue import benchmarks
from vidlib.data.catalogue.entries import entry
from vidlib.data.crossed import Crossed, cross, shared_line
from vidlib.data.disk import auditing
from vidlib.data.disk.auditing import Side
from vidlib.data.manifest import Manifest
from vidlib.params.base import Params
from vidlib.results import runs, trust
from vidlib.training import checkpoints
from vidlib.training.loop import WEIGHTS

P = TypeVar("P", bound=Params)
OF_CLASSES = ("classifier.", "word_head.", "class_head.")  # what a run's own classes and words make


# ---------------------------------------------------------------- tested on another data set


def classes(datasets: Sequence[str], remove: bool, texts: str, **episode: Any) -> dict[str, list[str]]:
    """The classes of each split by name, before anything is opened, of one data set or of ``join`` of two; ``episode``
    as for ``benchmarks.load``. UserError where the file ``texts`` does not fit them."""
    sides = [_named(name, **episode) for name in datasets]
    splits = {split: list(sides[-1 if split == "test" else 0].texts[split]) for split in sides[0].texts}
    if len(sides) > 1 and remove:
        shared = auditing.met(*sides)
        splits["test"] = [cls for cls in splits["test"] if cls not in shared]
    if texts:
        given = descriptions.read(texts, {cls for side in sides for each in side.texts.values() for cls in each})
        descriptions.refuse_missing(texts, given, (cls for each in splits.values() for cls in each))
    return splits


def opened(bases: Sequence[Manifest], remove: bool, texts: str) -> Manifest:
    """One data set's manifest, or ``join`` of two, with the descriptions of the file ``texts`` where one is given."""
    if texts:
        given = descriptions.read(texts, {row.cls for base in bases for row in base.rows})
        bases = [replace(base, descriptions=given) for base in bases]
    manifest = join(*bases, remove) if len(bases) > 1 else bases[0]
    if texts:
        descriptions.refuse_missing(texts, manifest.descriptions, (row.cls for row in manifest.rows))
    return manifest


def _named(dataset: str, **episode: Any) -> Side:
    if dataset.startswith(benchmarks.FOLDER):
        return auditing.of_manifest(benchmarks.load(dataset, **episode))
    benchmarks.describe(dataset)  # the error of an unknown name
    return Side(dataset, entry(dataset).texts(), {}, "")


def join(manifest: Manifest, other: Manifest, remove: bool) -> Crossed:
    """``manifest``'s train and val with ``other``'s test split; what is in both, by the names of classes, by published
    ids and by the files themselves, is left out (``remove``) or stays, and the note says so."""
    shared = auditing.met(auditing.of_manifest(manifest), auditing.of_manifest(other))
    made, same = cross(manifest, other, shared, remove), set()
    if not {manifest.name, other.name} <= set(benchmarks.WORLDS):
        contents = any(name.startswith(benchmarks.FOLDER) for name in (manifest.name, other.name))
        same = {row for row, _, _ in trust.shared(made, contents)}
    note = f"{shared_line(made, {row.video for row in same}, remove)} {made.note}".strip()
    kept = tuple(row for row in made.rows if not (remove and row in same))
    if not any(row.split == "test" for row in kept):
        raise UserError(
            f"test_dataset: every test video of {other.name} is one that {manifest.name} trains or selects on"
        )
    return replace(made, rows=kept, note=note, overlap=(*made.overlap, *sorted(row.video for row in same)))


# ---------------------------------------------------------------- started from another run


def weights(init: str) -> Path:
    """The trained weights in a finished run's folder; UserError where there are none."""
    file = Path(init) / WEIGHTS
    if not file.is_file():
        raise UserError(f"init: {init} is no folder of a finished run: {file} is absent")
    return file


def start(method: nn.Module, init: str) -> None:
    """Take trained weights of another run of the same method; what belongs to its classes alone stays as built."""
    file = weights(init)
    stored, _ = checkpoints.read(file)
    own = checkpoints.trainable_state(method)
    fits = {name: value for name, value in stored.items() if name in own and value.shape == own[name].shape}
    left = [name for name in own if name not in fits and not name.startswith(OF_CLASSES)]
    if left:
        raise UserError(f"init: {file} does not fit {type(method).__name__}: it lacks {', '.join(left[:3])}, and so on")
    checkpoints.put_trainable(method, own | fits, source=str(file))


def refuse_other(init: str, **wanted: str) -> None:
    """UserError where the run ``init`` has another method, or another backbone, than is ``wanted`` by name."""
    earlier = runs.Run(Path(init), Path(init), "finished", None).params
    for name, value in wanted.items():
        was, here = (str(each).rpartition(":")[2] for each in (earlier.get(name), value))
        if was != here:
            raise UserError(f"init: {init} is a run with {name} {was}, whose weights do not fit {here}")


def refuse_start(init: str, kind: type[P], reopen: Callable[[P], Manifest], manifest: Manifest) -> None:
    """UserError where the run ``init``, whose parameters are of ``kind``, or one that it started from in turn, has seen
    a test video or a new class of ``manifest``; ``reopen`` opens their data."""
    seen: set[str] = set()
    while init and init not in seen:
        seen.add(init)
        try:
            params = kind.parse(runs.Run(Path(init), Path(init), "finished", None).params)
            before = reopen(params)
        except (UserError, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            print(f"init: what {init} was trained on cannot be found out, so test videos may be among it ({said})")
            return
        trust.refuse_start(init, before, manifest)
        init = params.init
