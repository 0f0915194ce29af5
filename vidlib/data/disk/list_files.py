"""The files in which the field publishes few-shot splits: where they lie and what their lines say.

Two families. ``trx`` (TRX, SloshNet and others): ``{train,val,test}listNN.txt`` with lines ``<class>/<video id>``.
``clip_fsar`` (CLIP-FSAR, HyRSM, MoLo): ``{train,val,test}_few_shot.txt`` with lines ``<split><k>//<path>`` or
``<split><k>/<video id>``. No path in a line is ever opened; one that is absolute or climbs with ``..`` is refused.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.data.folder import VIDEO_ENDINGS, nfc
from vidlib.data.manifest import normalised

FILES = {
    "trx": re.compile(r"(train|val|test)list(\d*)\.txt", re.IGNORECASE),
    "clip_fsar": re.compile(r"(train|val|test)_few_shot()\.txt", re.IGNORECASE),
}
FAMILIES = tuple(FILES)
EXPECTED = "{train,val,test}listNN.txt (TRX, SloshNet) or {train,val,test}_few_shot.txt (CLIP-FSAR, HyRSM, MoLo)"
FOLDERS = {  # how the published code names a benchmark's folder, normalised
    "hmdb51": ("hmdbarn", "hmdb51", "hmdb"),
    "ucf101": ("ucfarn", "ucf101", "ucf"),
    "kinetics100": ("kineticscmn", "kinetics100", "kinetics"),
    "ssv2_small": ("ssv2cmn", "ssv2small"),
    "ssv2_full": ("ssv2otam", "ssv2full"),
}
NUMBERS = {"ssv2_full": "07"}  # of the TRX family's files; the others are 03
LARGEST = 64 << 20  # bytes of a list; the longest published one has 1.2 MB
ANONYMOUS = re.compile(r"(train|val|test)(\d+)")


class NoLists(UserError):
    """The folder is there but holds no list of the benchmark."""


@dataclass(frozen=True)
class Line:
    """``label``: a class name, or ``<split><k>``. ``folder``: the folder before the video in a path, where it has one.
    ``place``: file and line number, for messages."""

    label: str
    folder: str | None
    video: str
    place: str


def find(name: str, source: Path) -> dict[str, dict[str, Path]]:
    """Family -> split -> file of the lists of benchmark ``name`` under ``source``, a folder or one file.

    A folder that bears a benchmark's name, as the published code has it, belongs to it; where no folder does, the only
    lists there are ``name``'s. UserError: no lists, several that differ, a link that leads outside ``source``.
    """
    if not source.exists():
        raise UserError(f"lists: {source} does not exist; give a folder or file with {EXPECTED}")
    root = source if source.is_dir() else source.parent
    files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    named, unnamed, own = defaultdict(list), defaultdict(list), []
    for file in files:
        family = next((family for family, form in FILES.items() if form.fullmatch(file.name)), None)
        if family is None or not file.is_file():
            continue
        if not file.resolve().is_relative_to(root.resolve()):
            raise UserError(f"lists: {file} is a link that leads outside {root}; copy the file there instead")
        if name == "ucf101" and family == "trx" and _own_split(file):  # UCF101's own files bear the same names
            own.append(file)
            continue
        owner = _owner(file, root) if source.is_dir() else None
        if owner in (None, name):
            (named if owner else unnamed)[family].append(file)
    found = {}
    for family in FAMILIES:
        candidates = named[family] or ([] if any(named.values()) else unnamed[family])
        if candidates:
            found[family] = _one_set(name, family, candidates)
    if not found and own:
        raise NoLists(
            f"lists: {own[0]} is one of the data set's own split files, not of the few-shot lists; those are read by "
            f"vidlib data import-official {name}"
        )
    if not found:
        raise NoLists(f"lists: {source} holds no list of {name}; expected {EXPECTED}")
    return found


def parse(file: Path, split: str, id_length: int | None) -> tuple[list[Line], list[str]]:
    """The lines of a list, and in words what was tidied away (a byte order mark, line ends of Windows, blank lines).

    UserError, naming file and line: not UTF-8, too large, a line that is none of the two forms, a path that leaves its
    folder, a label of another split.
    """
    said: list[str] = []
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} has {file.stat().st_size >> 20} MiB and is no list of videos")
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{file}, line {number}: is not UTF-8 text; fetch the list again") from None
    lines = text.split("\n")
    if any(line.endswith("\r") for line in lines):
        said.append(f"{file.name} has line ends of Windows (CRLF), which were dropped")
    lines = [line.strip() for line in lines]
    if blank := sum(not line for line in lines[:-1]):
        said.append(f"{file.name} has {blank} blank line{'s' * (blank > 1)}, passed over")
    read = [_line(line, f"{file}, line {n}", split, id_length) for n, line in enumerate(lines, 1) if line]
    if not read:
        raise UserError(f"{file} lists no video; fetch the list again")
    return read, said


def _line(line: str, place: str, split: str, id_length: int | None) -> Line:
    label, slash, rest = line.partition("/")
    path = rest.removeprefix("/")  # the CLIP-FSAR family writes two
    parts = re.split(r"[/\\]", path)
    if not label or path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", line) or re.match(r"[A-Za-z]:", path):
        raise UserError(f"{place}: {line!r} names an absolute path; a list names <class>/<video id> or <label>//<path>")
    if ".." in (label, *parts):
        raise UserError(f"{place}: {line!r} leaves its folder by '..'; such an entry is refused")
    if not slash or not parts[-1] or not line.isprintable():
        raise UserError(f"{place}: {line!r} is not of the form <class>/<video id> or <split><k>//<path>")
    if re.search(r"\.\w{2,4} \d+$", line):
        raise UserError(
            f"{place}: {line!r} is a line of a data set's own split, not of a few-shot one; for that there is "
            "vidlib data import-official"
        )
    anonymous = ANONYMOUS.fullmatch(label)
    if anonymous and anonymous[1] != split:
        raise UserError(f"{place}: label {label!r} stands in a list of {split}; fetch the list again")
    return Line(nfc(label), nfc(parts[-2]) if len(parts) > 1 else None, video_id(parts[-1], id_length), place)


def video_id(name: str, id_length: int | None) -> str:
    """A file's name without the ending of a video; a web id sheds the ``_<start>_<end>`` that some copies append."""
    stem, dot, ending = nfc(name).rpartition(".")
    stem = stem if stem and f".{ending.lower()}" in VIDEO_ENDINGS else nfc(name)
    cut = id_length and re.fullmatch(rf"(.{{{id_length}}})_\d+_\d+", stem)
    return cut[1] if cut else stem


def _own_split(file: Path) -> bool:
    """Whether the first line names a file with its ending, as a data set's own split does and TRX's lists do not."""
    with open(file, "rb") as lines:
        return bool(re.search(rb"\.(avi|mp4|mkv|webm)( \d+)?\s*$", lines.readline(4096), re.IGNORECASE))


def _owner(file: Path, root: Path) -> str | None:
    """The benchmark whose name the nearest folder bears, up to ``root``."""
    for folder in file.parents:
        for name, known in FOLDERS.items():
            if normalised(folder.name) in known:
                return name
        if folder == root:
            return None
    return None


def _one_set(name: str, family: str, files: Iterable[Path]) -> dict[str, Path]:
    """Split -> file, where the same split may lie in several places with the same content."""
    by_split: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        split, number = FILES[family].fullmatch(file.name).groups()
        by_split[split.lower()][number].append(file)
    chosen = {}
    for split in ("train", "val", "test"):
        numbers = by_split.get(split, {})
        there = numbers.get(NUMBERS.get(name, "03")) or [file for files in numbers.values() for file in files]
        if len({file.read_bytes() for file in there}) > 1:
            raise UserError(
                f"lists: {there[0]} and {there[1]} are both {split} lists of {name} and differ; give the folder of one"
            )
        if there:
            chosen[split] = there[0]
    return chosen
