"""The catalogue: every benchmark by name, read from data_manifests/, and what of it lies on this machine."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.folder import GIVE, from_folder, list_videos, nfc
from vidlib.data.manifest import Manifest, Row, normalised
from vidlib.params.names import WORLDS

FOLDER = "folder:"
STANDARD = "official_"  # files of data sets with standard splits, which ``dataset`` names ``official:...``


def catalogue() -> Path:
    """The folder of benchmark descriptions: ``data_manifests/`` in the checkout or the wheel."""
    folder = paths.shipped() / "data_manifests"
    if not folder.is_dir():
        raise UserError(
            f"the benchmark catalogue {folder} is absent: pip install vidlib's wheel, or its checkout with -e"
        )
    return folder


def names() -> tuple[str, ...]:
    """The benchmarks that ``dataset`` can name besides ``folder:PATH``: the embedded worlds first."""
    found = {file.stem for file in catalogue().glob("*.yaml") if not file.stem.startswith(STANDARD)}
    return (*WORLDS, *sorted(found - set(WORLDS)))


@cache
def describe(name: str) -> Mapping[str, Any]:
    """A benchmark's YAML: title, protocol, classes per split with texts and published counts, checksums, licence."""
    if name not in names():
        known = ", ".join(names())
        raise UserError(f"dataset: {name!r} is not known{closest(name, names())}; give {known} or folder:PATH")
    return read(catalogue() / f"{name}.yaml")


def read(file: Path) -> Any:
    """What a YAML file of the catalogue holds; by libyaml where it is, ten times faster than yaml's own reader."""
    return yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load(dataset: str, cache: Path | None = None, **episode: Any) -> Manifest:
    """The manifest of ``dataset``: a name of ``names()`` or ``folder:PATH``; ``episode``: the ``way`` and ``need`` of
    ``from_folder``, which divides a user's folder so that episodes fit.

    An embedded world is rendered into ``cache`` (default: vidlib's cache folder) on first use. A benchmark's videos are
    those that ``vidlib data add`` found, else those in ``$VIDLIB_DATA/<benchmark>/<class>/``; a part is accepted, and
    ``coverage`` and ``note`` say which.

    Raises UserError: unknown name; absent videos (naming the benchmark and what it expects on disk); a bad folder.
    """
    if dataset.startswith(FOLDER):
        return from_folder(_folder(dataset), **episode)
    describe(dataset)
    if dataset in WORLDS:
        from vidlib.data.world import worlds

        return worlds.manifest(dataset, cache)
    from vidlib.data import prefetched

    manifest, note = _stored(dataset) or _scan(dataset), prefetched.note(dataset)
    return replace(manifest, note=f"{manifest.note} {note}") if note else manifest


def splits_of(dataset: str, **episode: Any) -> dict[str, tuple[str, ...]]:
    """The classes of each split, sorted, without touching a benchmark's videos or rendering a world; ``episode`` as
    for ``load``."""
    if dataset.startswith(FOLDER):
        manifest = from_folder(_folder(dataset), **episode)
        return {split: manifest.classes(split) for split in manifest.splits}
    facts = describe(dataset)
    if dataset in WORLDS:
        from vidlib.data.world import worlds

        return {split: tuple(sorted(classes)) for split, classes in worlds.classes(dataset).items()}
    return {split: tuple(sorted(c["name"] for c in classes)) for split, classes in facts["classes"].items()}


def _folder(dataset: str) -> str:
    path = dataset.removeprefix(FOLDER)
    if not path:
        raise UserError(f"dataset: 'folder:' lacks its path; {GIVE}")
    return path


def _stored(name: str) -> Manifest | None:
    """What ``vidlib data add`` found; None where it was not called."""
    from vidlib.data.catalogue import store

    found, facts = store.read(name), describe(name)
    if found is None:
        return None
    if gone := next((folder for folder in found.folders if not Path(folder).is_dir()), None):
        raise UserError(
            f"dataset {name}: its videos were in {gone}, which is not there now; mount it, or run vidlib data add "
            f"{name} --videos DIR with their new place (the manifest is {store.place(name)})"
        )
    every = [entry for classes in facts["classes"].values() for entry in classes]
    prompts = {entry["name"]: entry["text"] or entry["name"] for entry in every}
    listed = {split: {c["name"]: c["videos"] for c in classes} for split, classes in facts["classes"].items()}
    root, files = found.rooted()
    note = compared(facts, found.rows, listed)
    return Manifest(name, found.rows, root, files, facts["directional"], prompts, note, listed)


def _scan(name: str) -> Manifest:
    """The local copy of a published benchmark."""
    facts, root = describe(name), paths.absolute(paths.data_dir() / name)
    there = {normalised(d.name): d for d in root.iterdir() if d.is_dir()} if root.is_dir() else {}
    rows, files, prompts = [], {}, {}
    listed = {split: {c["name"]: c["videos"] for c in classes} for split, classes in facts["classes"].items()}
    for split, classes in facts["classes"].items():
        for k, entry in enumerate(classes):
            text = prompts[entry["name"]] = entry["text"] or entry["name"]
            label = f"{split}{k}" if facts.get("labels") else ""
            directory = there.get(normalised(entry["name"])) or there.get(label) or there.get(normalised(text))
            for file in list_videos(directory) if directory else ():
                video = f"{entry['name']}/{_video_id(file, facts)}"
                rows.append(Row(video, entry["name"], split))
                files[video] = file.relative_to(root).as_posix()
    absent = [split for split in listed if split not in {row.split for row in rows}]
    if absent:
        per_split = ", ".join(f"{split} {len(n)} classes with {sum(n.values())} videos" for split, n in listed.items())
        what = "are absent" if len(absent) == len(listed) else f"of its split {' and '.join(absent)} are absent"
        raise UserError(
            f"dataset {name}: the videos of {facts['title']} {what}; expected one folder per class at "
            f"{root}/<class>/<video file> ({per_split}; VIDLIB_DATA names another place for {name}/); "
            f"source: {facts['where']}. vidlib data add {name} --videos DIR takes them from any layout"
        )
    note = compared(facts, rows, listed)
    return Manifest(name, tuple(rows), root, files, facts["directional"], prompts, note, listed)


def _video_id(file: Path, facts: Mapping[str, Any]) -> str:
    """A file's name without ending; a web id sheds the ``_<start>_<end>`` that some copies append."""
    stem = nfc(file.stem)
    cut = facts.get("id_length") and re.fullmatch(rf"(.{{{facts['id_length']}}})_\d+_\d+", stem)
    return cut[1] if cut else stem


def published(facts: Mapping[str, Any], rows: Sequence[Row], split: str) -> list[str]:
    """The families of code whose published list of ``split`` these rows are, all of them and no other."""
    digest = hashlib.sha256(b"".join(sorted(f"{row.video}\n".encode() for row in rows))).hexdigest()
    return [family for family, sums in facts["checksums"].items() if sums.get(split) == digest]


def compared(facts: Mapping[str, Any], rows: Sequence[Row], listed: Mapping[str, Mapping[str, int]]) -> str:
    """In words: is the local copy the published list, and whose?"""
    said = []
    for split, counts in listed.items():
        own = [row for row in rows if row.split == split]
        if equal := published(facts, own, split):
            said.append(f"{split} is the published list ({' and '.join(equal)})")
        else:
            said.append(f"{split} holds {len(own)} videos and is not the published list of {sum(counts.values())}")
    compare = "" if all(" is the " in s for s in said) else "; figures are not comparable with published ones"
    return f"Local copy of {facts['name']}: {', '.join(said)}{compare}."
