"""Bring the official split files of UCF101, HMDB51, Kinetics-400 and SSv2 to where ``official.load`` looks.

They are found in any nesting, read and checked together with what is there already, and only then copied.
"""

import hashlib
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.catalogue import official
from vidlib.data.catalogue.entries import Standard, entry
from vidlib.data.manifest import Row, normalised

if TYPE_CHECKING:
    import pandas as pd

FORMS = {  # file names, whatever their case
    "ucf101": r"(train|test)list0[123]\.txt|classInd\.txt",
    "hmdb51": r".+_test_split[123]\.txt",
    "kinetics400": r".*\.csv",
    "ssv2": r".*(train|validation|labels).*\.json",
}
OTHER_KINETICS = re.compile(r"[67]00")


@dataclass(frozen=True)
class Imported:
    """What was copied, and what it holds.

    ``folder`` holds ``files``. ``table``: one row per list: split, classes, videos, ``expected`` (None where the
    catalogue states none) and ``list`` ("published" by checksum, else "other", or "unknown").
    ``notes``: in words, what is absent.
    """

    folder: Path
    files: tuple[str, ...]
    table: "pd.DataFrame"
    notes: tuple[str, ...]


def import_official(name: str, source: Path, overwrite: bool = False) -> Imported:
    """Check the split files of ``name`` (of ``official.OFFICIAL``) under ``source`` and copy them.

    A file that is there already with other content is only replaced with ``overwrite``. UserError, before anything is
    written: no such files, two of one name that differ, damaged ones, a class that the data set lacks, a video listed
    twice, no test list.
    """
    facts = entry(f"official:{official.describe(name) and name}")
    target = paths.absolute(paths.data_dir() / name) / "annotations"
    found = _find(name, Path(source), target)
    for file, path in found.items():
        old = target / file
        if old.is_file() and not overwrite and old.read_bytes() != path.read_bytes():
            raise UserError(f"{old} is there and differs from {path}; add --overwrite to replace it")
    with tempfile.TemporaryDirectory(prefix="vidlib-import-") as staged:  # checked as they will lie, copied after
        for path in [*(_files(target) if target.is_dir() else ()), *found.values()]:
            shutil.copyfile(path, Path(staged) / path.name)
        table, notes = _check(name, facts, Path(staged), target)
    for file, path in found.items():
        with paths.atomic_write(target / file, "make room, or set VIDLIB_DATA to another folder") as part:
            shutil.copyfile(path, part)
    return Imported(target, tuple(found), table, notes)


def _files(folder: Path) -> Iterable[Path]:
    return (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))


def _find(name: str, source: Path, target: Path) -> dict[str, Path]:
    """File name -> where it lies below ``source``; what lies in ``target`` already is not meant."""
    expects = official.describe(name).expects
    if not source.is_dir():
        raise UserError(f"import-official: {source} {'is no folder' if source.exists() else 'does not exist'}")
    found: dict[str, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.name[0] != "."):
        fits = re.fullmatch(FORMS[name], path.name, re.IGNORECASE) and path.is_file()
        if not fits or path.parent == target != source or name == "kinetics400" and not _is_table(path):
            continue
        if not path.resolve().is_relative_to(source.resolve()):
            raise UserError(f"import-official: {path} is a link that leads outside {source}; copy the file there")
        first = found.setdefault(path.name, path)
        if first.read_bytes() != path.read_bytes():
            raise UserError(f"import-official: {first} and {path} differ; give the folder of one of them")
    if not found:
        raise UserError(f"import-official: {source} holds no split files of {name}; expected {expects}")
    return found


def _is_table(path: Path) -> bool:
    """Whether a CSV lists Kinetics-400's videos; Kinetics-600's and -700's often lie beside them."""
    if OTHER_KINETICS.search(path.name):
        return False
    with open(path, encoding="utf-8-sig", errors="replace") as lines:
        return {"label", "youtube_id", "split"} <= set(lines.readline().strip().replace('"', "").split(","))


def _check(name: str, facts: Standard, folder: Path, target: Path) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """Counts of each list and what is absent; UserError in the words of ``target``, where the files will lie."""
    import pandas as pd

    known = {normalised(cls.name): cls.name for cls in facts.classes}
    rows, notes = [], []
    for number in range(1, facts.standard_splits + 1):
        try:
            read, _ = official.describe(name).read(folder, number)
        except official.AbsentAnnotations as error:
            notes.append(f"standard split {number} is not there: {str(error).replace(str(folder), str(target))}")
            continue
        except UserError as error:
            raise UserError(str(error).replace(str(folder), str(target))) from None
        parts: dict[str, list[Row]] = defaultdict(list)
        for row in read:
            parts[row.split].append(row)
            if normalised(row.cls) not in known:
                near = closest(row.cls, tuple(known.values()))
                raise UserError(
                    f"{facts.title} has no class {row.cls!r} (video {row.video}){near}; are these its files?"
                )
            if not re.fullmatch(r"(?!\.\.?$)[^/\\]+", row.video.removeprefix(f"{row.cls}/")):
                raise UserError(f"video {row.video!r} names a path outside its folder; such an entry is refused")
        for video, times in Counter(row.video for row in read).items():
            if times > 1:
                raise UserError(f"{facts.title}: video {video!r} is listed {times} times; give each file once")
        for part in ("train", "test"):
            if parts[part]:
                rows.append(_line(facts, part, number, parts[part]))
            else:
                notes.append(f"no {facts.part(part, number)} list is there")
    if not any(row["split"].startswith("test") for row in rows):
        raise UserError(
            f"import-official: no test list of {facts.title} is there ({'; '.join(notes)}); expected "
            f"{official.describe(name).expects}"
        )
    return pd.DataFrame(rows).astype({"expected": "Int64"}), tuple(notes)


def _line(facts: Standard, part: str, number: int, rows: list[Row]) -> dict:
    lines = sorted(f"{row.cls}/{row.video.rpartition('/')[2]}\n".encode() for row in rows)
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    known = facts.checksums.get(number, {}).get(part)
    same = "unknown" if known is None else "published" if known == digest else "other"
    line = {"split": facts.part(part, number), "classes": len({row.cls for row in rows}), "videos": len(rows)}
    return line | {"expected": facts.count(part, number), "list": same}
