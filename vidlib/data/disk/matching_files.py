"""Which video file is which published video, by file name and class folder alone."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vidlib.basics.errors import UserError
from vidlib.data.catalogue.store import UNSAFE
from vidlib.data.disk.scanning import Found
from vidlib.data.folder import VIDEO_ENDINGS, nfc
from vidlib.data.manifest import Row, normalised

COPY = re.compile(r"(.+?)(?: ?\(\d+\)| - Copy| copy)(?: \d+)?", re.IGNORECASE)  # what browsers and desktops append
EXACT, CUT, COPIED, LOOSE = range(4)  # how a file's name and an id agree, the best first


@dataclass
class Matched:
    """``chosen``: video -> file; ``rest``: file -> why it was not taken. ``loose``: video -> file, where
    only letters and digits agree; ``strayed``: where it lies in another class's folder."""

    chosen: dict[str, Found] = field(default_factory=dict)
    rest: dict[str, str] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)
    strayed: dict[str, str] = field(default_factory=dict)


def folder_classes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Normalised folder name -> class: its name, else the lists' anonymous label for it, else its text."""
    names: dict[str, str] = {}
    for split, classes in facts["classes"].items():
        names |= {normalised(entry["text"]): entry["name"] for entry in classes if entry["text"]}
        if facts.get("labels"):
            names |= {normalised(f"{split}{k}"): entry["name"] for k, entry in enumerate(classes)}
    names |= {normalised(entry["name"]): entry["name"] for classes in facts["classes"].values() for entry in classes}
    return names


def match(files: Iterable[Found], rows: Sequence[Row], folders: Mapping[str, str], id_length: int | None) -> Matched:
    """One file for each published video of ``rows`` that is there.

    A name agrees with an id exactly (Unicode composed, the ending apart), or after cutting a second ending or a web
    id's ``_<start>_<end>``, or the mark of a copy such as `` (1)``, or, ids of the web apart, by its letters and digits
    alone. An id that several classes have needs the class's folder (``folders``: normalised name -> class) above the
    file. Of several files the one that is not empty, agrees best, lies in its class's folder and comes first by name
    is taken, the same on every machine.

    Raises UserError for a published entry with ``..`` or an absolute path.
    """
    by_id, by_letters = _by_id(rows), _by_id(rows, normalised) if not id_length else {}
    candidates: dict[str, list[tuple[tuple, Found]]] = defaultdict(list)
    made = Matched()
    for file in files:
        path = PurePosixPath(file.name)
        cls = _class_of(path, folders)
        row, kind = None, LOOSE
        for kind, key in _keys(path.name, id_length):
            held = (by_letters if kind == LOOSE else by_id).get(key, ())
            if held:
                mine = [row for row in held if row.cls == cls] or held
                row = mine[0] if len(mine) == 1 else None
                break
        else:
            made.rest[file.name] = "not on the published list"
            continue
        if row is None:
            made.rest[file.name] = (
                f"{len(held)} listed videos have this name; put it into its class's folder, or name it as listed"
            )
            continue
        away = 0 if row.cls == cls else 1 if cls is None else 2
        candidates[row.video].append(((file.size == 0, kind, away, nfc(file.name), file.name), file))
    for video, several in candidates.items():
        (_, kind, away, *_), best = min(several, key=lambda one: one[0])
        made.chosen[video] = best
        made.rest |= {
            file.name: f"a second file of {video}: {best.name} is taken" for _, file in several if file != best
        }
        if kind == LOOSE:
            made.loose[video] = best.name
        if away == 2:
            made.strayed[video] = best.name
    return made


def by_folders(files: Iterable[Found], facts: Mapping[str, Any]) -> tuple[tuple[Row, ...], Matched]:
    """Rows from class folders alone, where no published list is at hand: each file in (or under) a class's folder.

    Raises UserError where the benchmark's splits share classes: only its lists tell them apart.
    """
    split_of: dict[str, str] = {}
    for split, classes in facts["classes"].items():
        for entry in classes:
            if split_of.setdefault(entry["name"], split) != split:
                raise UserError(
                    f"{facts['name']}: its splits share classes, so folders do not tell them apart; give --lists DIR, "
                    f"or run vidlib data lists {facts['name']} --from DIR first"
                )
    folders, made, rows = folder_classes(facts), Matched(), {}
    for file in sorted(files, key=lambda file: (file.size == 0, nfc(file.name), file.name)):
        path = PurePosixPath(file.name)
        cls = _class_of(path, folders)
        if cls is None:
            made.rest[file.name] = "in no folder named as a class of the benchmark"
            continue
        *_, (_, identity) = (pair for pair in _keys(path.name, facts.get("id_length")) if pair[0] <= CUT)
        video = f"{cls}/{identity}"
        if video in rows:
            made.rest[file.name] = f"a second file of {video}: {made.chosen[video].name} is taken"
            continue
        rows[video], made.chosen[video] = Row(video, cls, split_of[cls]), file
    return tuple(rows.values()), made


def refuse_unsafe(rows: Iterable[Row], where: str) -> None:
    """Raise the UserError that names the first entry that leads out of its folder or cannot stand on a line."""
    for row in rows:
        if row.video.startswith(("/", "\\", "~")) or ".." in row.video and ".." in re.split(r"[/\\]", row.video):
            raise UserError(f"{where} lists {row.video!r}, which is not a path inside a folder of videos; correct it")
        if any(mark in row.video or mark in row.cls for mark in UNSAFE):
            raise UserError(f"{where} lists {row.video!r}, whose name holds a tab or a line break; correct it")


def _by_id(rows: Sequence[Row], change: Any = nfc) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[change(row.video.removeprefix(f"{row.cls}/"))].append(row)
    return found


def _keys(name: str, id_length: int | None) -> Iterator[tuple[int, str]]:
    """The ids that a file's name can stand for, the surest first."""
    stem = _stem(nfc(name))
    yield EXACT, stem
    plain = stem
    if PurePosixPath(stem).suffix.lower() in VIDEO_ENDINGS:  # clip.avi.mp4: converted, both endings kept
        plain = _stem(stem)
        yield CUT, plain
    if id_length and (cut := re.fullmatch(rf"(.{{{id_length}}})_\d+(?:\.\d+)?_\d+(?:\.\d+)?", plain)):
        plain = cut[1]
        yield CUT, plain
    if copy := COPY.fullmatch(plain):
        base = copy[1]
        if id_length and (cut := re.fullmatch(rf"(.{{{id_length}}})_\d+_\d+", base)):
            base = cut[1]
        yield COPIED, base
    if not id_length and (letters := normalised(plain)):
        yield LOOSE, letters


def _stem(name: str) -> str:
    """``Path.stem``, also of a name that is an ending alone or starts with dots."""
    return name[: name.rindex(".")] if "." in name[1:] else name


def _class_of(path: PurePosixPath, folders: Mapping[str, str]) -> str | None:
    """The class that the nearest folder above a file is named for."""
    for parent in reversed(path.parts[:-1]):
        if cls := folders.get(normalised(parent)):
            return cls
    return None
