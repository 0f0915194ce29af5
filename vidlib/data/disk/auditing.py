"""Who must not be tested on what: classes and videos that the splits of two benchmarks share.

Classes are compared by normalised name, as written and as read (a class of one spelling is a class of the other), and
by videos that bear both; videos by their published ids, where lists are here and both benchmarks take their ids from
the same source.
"""

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidlib.basics import paths
from vidlib.data.catalogue import official
from vidlib.data.catalogue.entries import FewShot, Standard, entry, every
from vidlib.data.disk import lists
from vidlib.data.manifest import Manifest, normalised

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Side:
    """One benchmark: ``texts`` maps split -> class -> readable text (None: unknown); ``videos`` maps split -> video id
    -> class, for the splits whose lists are here; ``ids`` names the source of the ids."""

    name: str
    texts: Mapping[str, Mapping[str, str | None]]
    videos: Mapping[str, Mapping[str, str]]
    ids: str


@dataclass(frozen=True)
class Audit:
    """Every split of ``a`` against every split of ``b``.

    ``table``: one row for each pair: split_a, split_b, ``classes`` (shared by name or by video), ``by_name`` and
    ``by_video`` of them, ``videos`` (None where a list is absent, or ids have another source). ``names``: pair of
    splits -> the classes, as ``a`` spells them. ``warnings``: sentences; empty where training meets no test class.
    """

    a: str
    b: str
    table: "pd.DataFrame"
    names: Mapping[tuple[str, str], tuple[str, ...]]
    warnings: tuple[str, ...]

    def matrix(self, what: str = "classes") -> "pd.DataFrame":
        """``what`` (a column of ``table``) with a's splits as rows and b's as columns."""
        order = {column: list(dict.fromkeys(self.table[column])) for column in ("split_a", "split_b")}
        wide = self.table.pivot(index="split_a", columns="split_b", values=what)
        return wide.loc[order["split_a"], order["split_b"]]


def audit(a: str, b: str, source: Path | None = None) -> Audit:
    """Compare every split of benchmark ``a`` with every split of ``b`` (names of ``entries.every()``).

    Video lists are read from ``source`` where it is given and holds any, else from what ``vidlib data lists`` and
    ``vidlib data import-official`` stored. UserError: an unknown benchmark, damaged lists.
    """
    import pandas as pd

    one, two = side(a, source), side(b, source)
    rows, names = [], {}
    for split_a in one.texts:
        for split_b in two.texts:
            by_name = _by_name(one.texts[split_a], two.texts[split_b])
            shared = _shared(one, split_a, two, split_b)
            by_video = {} if shared is None else {one.videos[split_a][v]: two.videos[split_b][v] for v in shared}
            names[split_a, split_b] = tuple(sorted(by_name | by_video.keys()))
            line = {"split_a": split_a, "split_b": split_b, "classes": len(names[split_a, split_b])}
            line |= {"by_name": len(by_name), "by_video": None if shared is None else len(by_video)}
            rows.append(line | {"videos": None if shared is None else len(shared)})
    table = pd.DataFrame(rows).astype({"by_video": "Int64", "videos": "Int64"})
    return Audit(a, b, table, names, tuple(_warnings(one, two, rows) if a != b else ()))


def overlaps(names: Sequence[str], source: Path | None = None) -> "pd.DataFrame":
    """What training on one benchmark meets of another's test list: one row for each ordered pair of ``names``.

    trained, tested, ``classes`` of the test list that the training list has too, ``of`` how many, ``videos`` in both
    (None where that cannot be said). Of several standard splits the most that any two of them share. ``source`` as for
    ``audit``.
    """
    import pandas as pd

    sides = {name: side(name, source) for name in names}
    rows = []
    for trained, tested in ((a, b) for a in names for b in names):
        one, two = sides[trained], sides[tested]
        found = []
        for split_a, split_b in ((a, b) for a in one.texts for b in two.texts):
            if not split_a.startswith("train") or not split_b.startswith("test"):
                continue
            if trained == tested and split_a.removeprefix("train") != split_b.removeprefix("test"):
                continue  # another standard split of the same data set is another protocol
            shared = _shared(one, split_a, two, split_b)
            classes = _by_name(two.texts[split_b], one.texts[split_a])
            classes |= {two.videos[split_b][v] for v in shared or ()}
            found.append((len(classes), len(two.texts[split_b]), None if shared is None else len(shared)))
        videos = [n for _, _, n in found if n is not None]
        classes, of = max((classes, of) for classes, of, _ in found)
        row = {"trained": trained, "tested": tested, "classes": classes, "of": of}
        rows.append(row | {"videos": max(videos) if videos else None})
    return pd.DataFrame(rows).astype({"videos": "Int64"})


def side(name: str, source: Path | None = None) -> Side:
    """The classes of ``name`` and those of its video lists that lie in ``source``, else in vidlib's data folder."""
    facts = entry(name)
    videos: dict[str, dict[str, str]] = defaultdict(dict)
    if isinstance(facts, FewShot):
        for published in lists.known(name, source).values():
            for row in published.rows:
                videos[row.split][row.video.removeprefix(f"{row.cls}/")] = row.cls
    elif isinstance(facts, Standard):
        short = name.removeprefix(official.PREFIX)
        folder = paths.absolute(paths.data_dir() / short) / "annotations"
        for number in range(1, facts.standard_splits + 1) if folder.is_dir() else ():
            with contextlib.suppress(official.AbsentAnnotations):  # of several splits a user may hold one
                for row in official.describe(short).read(folder, number)[0]:
                    videos[facts.part(row.split, number)][row.video.rpartition("/")[2]] = row.cls
    return Side(name, facts.texts(), videos, facts.ids)


def of_manifest(manifest: Manifest) -> Side:
    """The classes and videos that a manifest holds; ids have a source where it is a published few-shot benchmark."""
    texts = {split: {cls: manifest.text(cls) for cls in manifest.classes(split)} for split in manifest.splits}
    known = manifest.name in every() and isinstance(entry(manifest.name), FewShot)
    ids: dict[str, dict[str, str]] = defaultdict(dict)
    for row in manifest.rows:
        ids[row.split][row.video.removeprefix(f"{row.cls}/")] = row.cls
    return Side(manifest.name, texts, ids if known else {}, entry(manifest.name).ids if known else "")


def met(trained: Side, tested: Side) -> set[str]:
    """The test classes of ``tested`` that ``trained`` trains or selects on: by name, or by a video that bears both."""
    classes = set()
    for split in trained.texts.keys() & {"train", "val"}:
        classes |= _by_name(tested.texts["test"], trained.texts[split])
        classes |= {tested.videos["test"][video] for video in _shared(trained, split, tested, "test") or ()}
    return classes


def _by_name(a: Mapping[str, str | None], b: Mapping[str, str | None]) -> set[str]:
    """The classes of ``a`` that ``b`` has too."""
    known = {normalised(word) for cls, text in b.items() for word in (cls, text) if word}
    return {cls for cls, text in a.items() if any(normalised(word) in known for word in (cls, text) if word)}


def _shared(one: Side, split_a: str, two: Side, split_b: str) -> set[str] | None:
    """The ids in both; None where that cannot be said."""
    if one.ids != two.ids or split_a not in one.videos or split_b not in two.videos:
        return None
    return one.videos[split_a].keys() & two.videos[split_b].keys()


def _warnings(one: Side, two: Side, rows: list[dict]) -> list[str]:
    """A sentence for each training list that meets a list of the other benchmark to test or select on."""
    met: dict[tuple[str, str, str, str], list[tuple[int, int | None, int]]] = defaultdict(list)
    for row in rows:
        for trained, tested, part, other in (
            (one, two, row["split_a"], row["split_b"]),
            (two, one, row["split_b"], row["split_a"]),
        ):
            trains, tests = part.split()[0], other.split()[0]  # of "test 2", the second standard split, "test"
            if trains == "train" and tests != "train" and (row["classes"] or row["videos"]):
                found = row["classes"], row["videos"], len(tested.texts[other])
                met[trained.name, trains, tested.name, tests].append(found)
    said = []
    for (trained, trains, tested, tests), found in met.items():
        classes, videos = max(n for n, _, _ in found), sorted({n for _, n, _ in found if n})
        what = f"{classes} of its {found[0][2]} classes"
        if videos:
            what += f" and {' to '.join(str(n) for n in dict.fromkeys((videos[0], videos[-1])))} of its videos"
        lie = "lies" if classes == 1 and not videos else "lie"
        verb = "test" if tests == "test" else "select"
        said.append(
            f"never {verb} on the {tests} list of {tested} what was trained on {trained}: {what} {lie} in the {trains} "
            f"list of {trained}"
        )
    return said
