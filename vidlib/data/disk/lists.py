"""Published few-shot lists: read in either family's format, brought into one form, stored, compared.

In canonical form a video is ``<class name of the catalogue>/<video id>``; the sha256 of a split's sorted lines equals
the catalogue's where the list is the published one. Lists are never part of vidlib: a user's command reads them.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.catalogue.entries import FewShot, entry
from vidlib.data.disk.list_files import FAMILIES, Line, NoLists, find, parse
from vidlib.data.disk.list_labels import Resolved, resolve
from vidlib.data.manifest import SPLITS, Row, normalised

if TYPE_CHECKING:
    import pandas as pd

HEADER = "video\tclass\tsplit"


@dataclass(frozen=True)
class Published:
    """One family's lists of one benchmark.

    ``rows`` in the order of splits and lines. ``labels`` says for each anonymous label which class it is and how that
    was found. ``notes``: in words, what was tidied away, absent, or contradictory.
    """

    family: str
    rows: tuple[Row, ...]
    labels: Mapping[str, Resolved] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold videos, in the order train, val, test."""
        there = {row.split for row in self.rows}
        return tuple(split for split in SPLITS if split in there)

    def checksum(self, split: str) -> str:
        """sha256 of the sorted ``video<LF>`` lines of a split, as in data_manifests/."""
        lines = sorted(f"{row.video}\n".encode() for row in self.rows if row.split == split)
        return hashlib.sha256(b"".join(lines)).hexdigest()

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The anonymous labels that no source gives a readable class."""
        return tuple(label for label, found in self.labels.items() if found.text is None)


def read(name: str, source: Path) -> dict[str, Published]:
    """Family -> the lists of few-shot benchmark ``name`` under ``source``, a folder of any nesting or one file.

    UserError: no lists of it, a damaged list (file and line are named), a class that the protocol lacks or has in
    another split, a video that is listed under two classes or in two splits.
    """
    facts = few_shot(name)
    lines: dict[str, dict[str, list[Line]]] = {}
    notes: dict[str, list[str]] = {}
    for family, files in find(name, Path(source)).items():
        parsed = {split: parse(file, split, facts.id_length) for split, file in files.items()}
        lines[family] = {split: found for split, (found, _) in parsed.items()}
        notes[family] = [said for _, words in parsed.values() for said in words]
        if absent := [split for split in facts.classes if split not in files]:
            notes[family].append(f"no list of {' and '.join(absent)} is there")
    known = stored(name)
    made: dict[str, Published] = {}
    for family in sorted(lines, key=lambda family: _anonymous(lines[family])):  # class names first: they help the rest
        others = {f: known[f].rows for f in known if f != family} | {f: made[f].rows for f in made}
        labels, said = resolve(facts, lines[family], others)
        rows, dropped = _rows(facts, lines[family], labels)
        made[family] = Published(family, rows, labels, (*notes[family], *said, *dropped))
    return {family: made[family] for family in FAMILIES if family in made}


def few_shot(name: str) -> FewShot:
    """The entry of a benchmark that has published few-shot lists; UserError for another one."""
    facts = entry(name)
    if not isinstance(facts, FewShot):
        raise UserError(f"{name} has no published few-shot lists; {_instead(name)}")
    return facts


def _instead(name: str) -> str:
    if name.startswith("official:"):
        return f"its own split files are read by vidlib data import-official {name.removeprefix('official:')}"
    return "its clips and their splits come from vidlib itself"


def _anonymous(lines: Mapping[str, list[Line]]) -> int:
    return sum(line.folder is not None or line.label[-1:].isdigit() for found in lines.values() for line in found)


def _rows(
    facts: FewShot, lines: Mapping[str, list[Line]], labels: Mapping[str, Resolved]
) -> tuple[tuple[Row, ...], list[str]]:
    """The rows in canonical form and what was dropped; UserError for a video in two places."""
    by_name = {normalised(cls.name): (cls.name, split) for split, classes in facts.classes.items() for cls in classes}
    seen: dict[str, tuple[Row, str]] = {}
    twice: Counter[str] = Counter()
    for split, found in lines.items():
        for line in found:
            cls = labels[line.label].cls if line.label in labels else by_name[normalised(line.label)][0]
            row = Row(f"{cls}/{line.video}", cls, split)
            before, place = seen.setdefault(line.video, (row, line.place))
            if place == line.place:
                continue
            if before != row:
                raise UserError(
                    f"{line.place}: video {line.video!r} is {cls!r} in {split} here and {before.cls!r} in "
                    f"{before.split} in {place}; a video has one class and one split, fetch the lists again"
                )
            twice[split] += 1
    said = [
        f"{split}: {n} line{'s repeat' if n > 1 else ' repeats'} an earlier one, dropped" for split, n in twice.items()
    ]
    return tuple(row for row, _ in seen.values()), said


def stored(name: str) -> dict[str, Published]:
    """Family -> what ``store`` kept of ``name`` in vidlib's data folder; empty where nothing is kept."""
    found = {}
    for family in FAMILIES:
        file = _file(name, family)
        if file.is_file():
            head, *lines = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
            rows = [line.split("\t") for line in lines]
            if head != HEADER or not all(len(row) == 3 and row[2] in SPLITS for row in rows):
                raise UserError(f"{file} is damaged; delete it and run vidlib data lists {name} again")
            found[family] = Published(family, tuple(Row(*row) for row in rows))
    return found


def store(name: str, published: Mapping[str, Published]) -> dict[str, Path]:
    """Keep ``published`` in vidlib's data folder; family -> file. A split that it lacks stays as it was stored.

    UserError where the folder cannot be written or is full; the lists that were there stay.
    """
    before, files = stored(name), {}
    for family, new in published.items():
        old = before[family].rows if family in before else ()
        rows = [*new.rows, *(row for row in old if row.split not in new.splits)]
        rows.sort(key=lambda row: (SPLITS.index(row.split), row.video))
        files[family] = _file(name, family)
        lines = (f"{row.video}\t{row.cls}\t{row.split}\n" for row in rows)
        with paths.atomic_write(files[family], "make room, or set VIDLIB_DATA to another folder") as part:
            part.write_text(f"{HEADER}\n{''.join(lines)}", encoding="utf-8")
    return files


def _file(name: str, family: str) -> Path:
    return paths.absolute(paths.data_dir() / name) / "lists" / f"{family}.tsv"


def table(name: str, published: Mapping[str, Published]) -> "pd.DataFrame":
    """One row per family and split: family, split, classes, videos, fewest and most videos of a class, ``expected``
    videos of the published list, and ``list``: "published" where the checksum is the catalogue's, else "other"."""
    import pandas as pd

    facts, rows = few_shot(name), []
    for family, found in published.items():
        for split in found.splits:
            counts = Counter(row.cls for row in found.rows if row.split == split)
            same = facts.checksums.get(family, {}).get(split) == found.checksum(split)
            line = {"family": family, "split": split, "classes": len(counts), "videos": counts.total()}
            line |= {"fewest": min(counts.values()), "most": max(counts.values()), "expected": facts.videos()[split]}
            rows.append(line | {"list": "published" if same else "other"})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Comparison:
    """Where two families' lists of a benchmark disagree.

    ``table``: one row per split: split, both (videos in both), only_a, only_b. ``only``: split -> the videos only in a,
    only in b. ``classes``: split -> class names only in a, only in b. ``moved``: video ids with another class or split
    in b: (id, row in a, row in b). ``labels``: labels that stand for another class in b: (label, class a, class b).
    """

    a: str
    b: str
    table: "pd.DataFrame"
    only: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    classes: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    moved: tuple[tuple[str, Row, Row], ...]
    labels: tuple[tuple[str, str, str], ...]

    @property
    def agree(self) -> bool:
        """Whether the lists are the same in every split."""
        return not (self.table[["only_a", "only_b"]].to_numpy().any() or self.moved or self.labels)

    def lines(self) -> list[str]:
        """In words, one sentence per disagreement."""
        if self.agree:
            return [f"{self.a} and {self.b} list the same videos under the same classes in every split."]
        said = [
            f"{row.split}: {row.only_a} videos only in {self.a}, {row.only_b} only in {self.b}, {row.both} in both"
            for row in self.table.itertuples()
            if row.only_a or row.only_b
        ]
        for split, pair in self.classes.items():
            for family, names in zip((self.a, self.b), pair, strict=True):
                said += [f"{split}: only {family} has the classes {', '.join(names)}"] * bool(names)
        for video, one, two in self.moved[:5]:
            said.append(f"{video} is {one.cls!r} in {one.split} of {self.a}, {two.cls!r} in {two.split} of {self.b}")
        said += [f"and {len(self.moved) - 5} more such videos"] * (len(self.moved) > 5)
        return said + [f"label {label} is {a!r} in {self.a}, {b!r} in {self.b}" for label, a, b in self.labels]


def compare(a: Published, b: Published) -> Comparison:
    """Where two lists of one benchmark disagree: videos per split, classes, and what anonymous labels stand for."""
    import pandas as pd

    rows, only, classes = [], {}, {}
    for split in (split for split in SPLITS if split in (*a.splits, *b.splits)):
        one, two = ({row.video for row in x.rows if row.split == split} for x in (a, b))
        only[split] = (tuple(sorted(one - two)), tuple(sorted(two - one)))
        names = [{row.cls for row in x.rows if row.split == split} for x in (a, b)]
        classes[split] = (tuple(sorted(names[0] - names[1])), tuple(sorted(names[1] - names[0])))
        rows.append({"split": split, "both": len(one & two), "only_a": len(one - two), "only_b": len(two - one)})
    by_id: dict[str, dict[int, Row]] = defaultdict(dict)
    for side, published in enumerate((a, b)):
        for row in published.rows:
            by_id[row.video.removeprefix(f"{row.cls}/")][side] = row
    moved = [(video, r[0], r[1]) for video, r in sorted(by_id.items()) if len(r) == 2 and r[0] != r[1]]
    both = sorted(a.labels.keys() & b.labels.keys())
    labels = [(n, a.labels[n].cls, b.labels[n].cls) for n in both if a.labels[n].cls != b.labels[n].cls]
    return Comparison(a.family, b.family, pd.DataFrame(rows), only, classes, tuple(moved), tuple(labels))


def known(name: str, source: Path | None = None) -> Mapping[str, Published]:
    """The lists of ``name`` in ``source`` where it is given and holds any, else those that ``store`` keeps."""
    if source is not None:
        try:
            return read(name, source)
        except NoLists:
            pass
    return stored(name)
