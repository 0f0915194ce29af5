"""The standard splits of UCF101, HMDB51, Kinetics-400 and Something-Something V2, from their official annotation files.

``load(name, split)`` reads what lies in ``$VIDLIB_DATA/<name>/``: the annotation files under ``annotations/`` and the
videos beside them, in any layout (a file's name tells which video it is), or those that ``vidlib data add
official:<name>`` found elsewhere. Nothing is downloaded. A manifest's ids are
those of the annotations; test splits are only ever test splits: ``val`` is cut from ``train`` (``protocols``) where the
data set has none of its own.
"""

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data import prefetched
from vidlib.data.catalogue import benchmarks, store
from vidlib.data.folder import VIDEO_ENDINGS
from vidlib.data.manifest import Manifest, Row, normalised

PREFIX = "official:"


class AbsentAnnotations(UserError):
    """The annotation files of a standard split are not there."""


@dataclass(frozen=True)
class Official:
    """``splits``: how many standard splits there are. ``read(folder, split)`` gives rows (video id, class, split) and
    the classes' texts. ``expects``: the annotation files, in words. ``directional``: whether left and right matter."""

    title: str
    splits: int
    read: Callable[[Path, int], tuple[list[Row], dict[str, str]]]
    expects: str
    where: str
    directional: bool = False


@dataclass(frozen=True)
class Every:
    """All listed videos of a data set, as one published list."""

    family: str
    rows: tuple[Row, ...]


def spaced(name: str) -> str:
    """``ApplyEyeMakeup``, ``brush_hair`` -> the words: ``apply eye makeup``, ``brush hair``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def ucf101(folder: Path, split: int) -> tuple[list[Row], dict[str, str]]:
    """``trainlist0N.txt`` ("Class/v_Class_g08_c01.avi 1") and ``testlist0N.txt`` (without the number)."""
    rows = []
    for part, file in (("train", f"trainlist{split:02}.txt"), ("test", f"testlist{split:02}.txt")):
        for line in _lines(folder / file):
            cls, _, video = line.split()[0].partition("/")
            if not video:
                raise UserError(f"{folder / file}: {line!r} is not of the form Class/video.avi")
            rows.append(Row(f"{cls}/{Path(video).stem}", cls, part))
    return rows, {row.cls: spaced(row.cls) for row in rows}


def hmdb51(folder: Path, split: int) -> tuple[list[Row], dict[str, str]]:
    """``<class>_test_splitN.txt``: "video.avi 1" is training, 2 testing, 0 neither."""
    files = sorted(folder.glob(f"*_test_split{split}.txt"))
    if not files:
        raise AbsentAnnotations(f"{folder} holds no file <class>_test_split{split}.txt")
    rows = []
    for file in files:
        cls = file.name.removesuffix(f"_test_split{split}.txt")
        for line in _lines(file):
            video, _, part = line.rpartition(" ")
            if part not in ("0", "1", "2"):
                raise UserError(f"{file}: {line!r} does not end with 0, 1 or 2")
            if part != "0":
                rows.append(Row(f"{cls}/{Path(video.strip()).stem}", cls, {"1": "train", "2": "test"}[part]))
    return rows, {row.cls: spaced(row.cls) for row in rows}


def kinetics400(folder: Path, split: int) -> tuple[list[Row], dict[str, str]]:
    """CSV files with the columns label, youtube_id, time_start, time_end, split (train, val or validate, test).

    The published validation videos are what papers test on: they become ``test``. The test CSV has no public labels in
    some copies; it is not read.
    """
    rows: dict[str, Row] = {}
    for file in sorted(folder.glob("*.csv")):
        with io.StringIO(_text(file), newline="") as lines:
            table = csv.DictReader(lines)
            if not {"label", "youtube_id", "split"} <= set(table.fieldnames or ()):
                continue
            for line in _rows(file, table):
                if not line["label"] or not line["youtube_id"]:
                    raise UserError(
                        f"{file}, line {table.line_num}: label or youtube_id is empty; fetch the file again"
                    )
                part = {"train": "train", "val": "test", "validate": "test"}.get(line["split"])
                if part:
                    row = Row(line["youtube_id"], line["label"], part)
                    if rows.setdefault(row.video, row) != row:
                        before = rows[row.video]
                        raise UserError(
                            f"{file}: video {row.video} is {row.cls!r} ({row.split}) here and {before.cls!r} "
                            f"({before.split}) in another file; keep the files of Kinetics-400 alone in {folder}"
                        )
    return list(rows.values()), {row.cls: row.cls for row in rows.values()}


def ssv2(folder: Path, split: int) -> tuple[list[Row], dict[str, str]]:
    """``*train*.json`` and ``*validation*.json``: [{"id", "template", ...}]; a class is its template without brackets.

    The published validation videos are what papers test on: they become ``test``.
    """
    rows = []
    for part, pattern in (("train", "*train*.json"), ("test", "*validation*.json")):
        for file in sorted(folder.glob(pattern)):
            for entry in _entries(file):
                rows.append(Row(str(entry["id"]), re.sub(r"[\[\]]", "", entry["template"]), part))
    return rows, {row.cls: row.cls for row in rows}


OFFICIAL = {
    "ucf101": Official(
        "UCF101", 3, ucf101, "trainlist01.txt to testlist03.txt", "UCF's Center for Research in Computer Vision"
    ),
    "hmdb51": Official(
        "HMDB51", 3, hmdb51, "<class>_test_split1.txt to _split3.txt", "the Serre Lab at Brown University"
    ),
    "kinetics400": Official("Kinetics-400", 1, kinetics400, "train.csv and validate.csv", "DeepMind's Kinetics page"),
    "ssv2": Official(
        "Something-Something V2",
        1,
        ssv2,
        "the train and validation JSON files",
        "Qualcomm's Something-Something page",
        True,
    ),
}

_ALL = ", ".join(OFFICIAL)


def describe(name: str) -> Official:
    """The facts of a data set; UserError where the name is not known."""
    if name not in OFFICIAL:
        raise UserError(f"dataset: official:{name} is not known{closest(name, tuple(OFFICIAL))}; give one of {_ALL}")
    return OFFICIAL[name]


def test_lists(name: str) -> dict[int, frozenset[str]]:
    """Split -> the ids of its test videos, of a data set with several standard splits; else empty."""
    facts, folder = describe(name), paths.absolute(paths.data_dir() / name) / "annotations"
    if facts.splits == 1:
        return {}
    splits = range(1, facts.splits + 1)
    return {n: frozenset(row.video for row in facts.read(folder, n)[0] if row.split == "test") for n in splits}


def load(name: str, split: int = 1) -> Manifest:
    """Standard split ``split`` of ``name``, as far as its videos lie in ``$VIDLIB_DATA/<name>/``; 0: every video that
    any of its splits tests, as ``test``.

    UserError: unknown name or split, absent annotations, no videos (naming what is expected where).
    """
    facts = describe(name)
    if not 0 <= split <= facts.splits:
        many = f"1 to {facts.splits}" if facts.splits > 1 else "1"
        raise UserError(f"official_split: {facts.title} has no split {split}; give {many}")
    root = paths.absolute(paths.data_dir() / name)
    _check_annotations(name, facts, root / "annotations")
    if split:
        rows, texts = facts.read(root / "annotations", split)
    else:
        read = [facts.read(root / "annotations", n) for n in range(1, facts.splits + 1)]
        rows = list({row.video: row for found, _ in read for row in found if row.split == "test"}.values())
        texts = read[0][1]
    added = store.read(place(name))
    if added is None:
        return _with_videos(name, facts, root, rows, texts)
    where, files = added.rooted()
    return _manifest(name, facts, where, rows, texts, {row.video: files.get(row.video) for row in rows})


def load_any(name: str) -> Manifest:
    """The manifest of what is here of a few-shot benchmark, or of standard split 1 of ``official:NAME``."""
    if name.startswith(PREFIX):
        return load(name.removeprefix(PREFIX))
    return benchmarks.load(name)


def place(name: str) -> str:
    """What the manifest of a data set is called that ``vidlib data add official:<name>`` writes."""
    return f"official_{name}"


def every(name: str) -> tuple[Row, ...]:
    """Every listed video of a data set: split 1's, then those of the other splits alone, as ``other``."""
    facts, folder = describe(name), paths.absolute(paths.data_dir() / name) / "annotations"
    _check_annotations(name, facts, folder)
    rows = {row.video: row for row in facts.read(folder, 1)[0]}
    for split in range(2, facts.splits + 1):
        for row in facts.read(folder, split)[0]:
            rows.setdefault(row.video, row._replace(split="other"))
    return tuple(rows.values())


def standard(name: str) -> tuple[dict[str, Any], dict[str, Every]]:
    """The facts of ``official:NAME`` in the form of a benchmark's, and its one list."""
    short = name.removeprefix(PREFIX)
    facts, rows = describe(short), every(short)
    counts: dict[str, Counter] = {}
    for row in rows:
        counts.setdefault(row.split, Counter())[row.cls] += 1
    classes = {
        s: [{"name": c, "text": None, "videos": n} for c, n in sorted(held.items())] for s, held in counts.items()
    }
    made = {"name": place(short), "title": facts.title, "where": facts.where, "classes": classes}
    made |= {"checksums": {"official": _checksums(rows)}, "id_length": 11 if short.startswith("kinetics") else None}
    return made, {"official": Every("official", rows)}


def _checksums(rows: tuple[Row, ...]) -> Mapping[str, str]:
    lines: dict[str, list[bytes]] = {}
    for row in rows:
        lines.setdefault(row.split, []).append(f"{row.video}\n".encode())
    return {split: hashlib.sha256(b"".join(sorted(held))).hexdigest() for split, held in lines.items()}


def _check_annotations(name: str, facts: Official, folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"dataset official:{name}: {folder} is absent; put the official files of {facts.title} there "
            f"({facts.expects}, from {facts.where}) and the videos anywhere under {folder.parent} (VIDLIB_DATA names "
            f"another place for {name}/)"
        )


def _with_videos(name: str, facts: Official, root: Path, rows: list[Row], texts: Mapping[str, str]) -> Manifest:
    if not rows:
        raise UserError(f"{root / 'annotations'} lists no video of {facts.title}; expected {facts.expects}")
    there: dict[tuple[str, str], Path] = {}  # (class folder or "", name) -> file
    loose: dict[tuple[str, str], list[Path]] = {}  # the same by letters and digits alone
    for file in videos_under(root):
        cut = re.fullmatch(r"(.{11})_\d+_\d+", file.stem)  # Kinetics copies append start and end
        for stem in filter(None, (file.stem, cut and cut[1])):
            there.setdefault((normalised(file.parent.name), stem), file)
            there.setdefault(("", stem), file)
        if not name.startswith("kinetics"):  # a web id's letters have their case
            for cls in ("", normalised(file.parent.name)):
                loose.setdefault((cls, normalised(file.stem)), []).append(file)

    def found(row: Row) -> Path | None:
        stem, cls = row.video.rpartition("/")[2], normalised(row.cls)
        exact = there.get((cls, stem)) or there.get(("", stem))
        if exact or name.startswith("kinetics"):
            return exact
        alike = loose.get((cls, normalised(stem))) or loose.get(("", normalised(stem)), [])
        return alike[0] if len(alike) == 1 else None  # by letters and digits alone, as ``vidlib data add`` matches

    places = {row.video: found(row) for row in rows}
    files = {video: file and file.relative_to(root).as_posix() for video, file in places.items()}
    return _manifest(name, facts, root, rows, texts, files)


def _manifest(
    name: str, facts: Official, root: Path, rows: list[Row], texts: Mapping[str, str], files: Mapping[str, str | None]
) -> Manifest:
    """The rows whose file below ``root`` is known; UserError where a whole split has none."""
    kept = tuple(row for row in rows if files[row.video])
    listed: dict[str, dict[str, int]] = {}
    for row in rows:
        listed.setdefault(row.split, {}).setdefault(row.cls, 0)
        listed[row.split][row.cls] += 1
    for part in listed:
        if not any(row.split == part for row in kept):
            count = sum(listed[part].values())
            raise UserError(
                f"dataset official:{name}: none of the {count} {part} videos of {facts.title} lies under {root}"
            )
    note = f"{facts.title}: {len(kept)} of {len(rows)} listed videos are here. {prefetched.note(place(name))}".strip()
    names = {row.video: files[row.video] for row in kept}
    return Manifest(place(name), kept, root, names, facts.directional, texts, note, listed)


def videos_under(root: Path) -> Iterable[Path]:
    """The video files in a folder of any nesting, links followed (``paths.walk``)."""
    return (file for file in paths.files_under(root) if file.suffix.lower() in VIDEO_ENDINGS)


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise AbsentAnnotations(f"annotation file {file} is absent")
    return [line.strip() for line in _text(file).splitlines() if line.strip()]


def _rows(file: Path, table: csv.DictReader) -> Iterable[dict[str, str]]:
    try:
        yield from table
    except csv.Error as error:
        raise UserError(f"{file}, line {table.line_num}: {error}; fetch the file again") from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"annotation file {file} is not UTF-8 text; fetch it again") from None


def _entries(file: Path) -> list[dict]:
    """The entries of a JSON list, each with ``id`` and ``template``."""
    try:
        read = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"annotation file {file} is no JSON ({error}); fetch it again") from None
    if not isinstance(read, list) or not all(isinstance(e, dict) and {"id", "template"} <= e.keys() for e in read):
        raise UserError(f'annotation file {file} is not of the form [{{"id": ..., "template": ...}}, ...]')
    return read
