"""From what lies in a folder to a benchmark's manifest: match, join with what was found before, write, report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.catalogue import benchmarks, official, store
from vidlib.data.catalogue.store import Stored
from vidlib.data.disk.matching_files import Matched, by_folders, folder_classes, match, refuse_unsafe
from vidlib.data.disk.scanning import Found, Scan, scan
from vidlib.data.manifest import SPLITS, Row

SHOWN = 5  # names shown of each kind; the whole lists lie beside the manifest


class Published(Protocol):
    """A published list of one family of code."""

    family: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Added:
    """What ``add`` did. ``missing``: listed rows without a file; ``rest``: file or link -> why it was not taken;
    ``gone``: video -> file that was in the manifest and is no longer there; counts are of videos."""

    stored: Stored
    note: str
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> listed
    before: int
    new: int
    gone: Mapping[str, str]
    missing: tuple[Row, ...]
    rest: Mapping[str, str]
    empty: tuple[str, ...]
    loose: Mapping[str, str] = field(default_factory=dict)
    strayed: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, int] = field(default_factory=dict)  # another family -> videos of its list that are there

    def lines(self) -> Iterator[str]:
        """The report for people."""
        place = store.place(self.stored.name)
        yield f"{self.stored.name}: {len(self.stored.rows)} videos, {self.new} new, {self.before} before: {place}"
        lists = f"the published lists of {self.stored.family}" if self.stored.family else "class folders, without lists"
        yield f"matched by {lists}{''.join(f'; {f} would match {n}' for f, n in self.other.items())}"
        for split, cls, held, listed in self.coverage():
            if not cls:
                classes = sum(1 for s, c, n, _ in self.coverage() if c and s == split and n)
                share = f" ({held / listed:.1%})" if listed else ""
                every = len(self.counts.get(split, {}))
                yield f"  {split:<6} {held} of {listed} videos{share}, {classes} of {every} classes"
        short = [(held / n, split, cls, held, n) for split, cls, held, n in self.coverage() if cls and held < n]
        yield from _few(
            "classes with missing videos",
            [f"{s}/{c} {held} of {n}" for _, s, c, held, n in sorted(short)],
            "coverage.tsv",
        )
        yield from _few("missing", [row.video for row in self.missing], "missing.tsv")
        yield from _few("gone since the last add", sorted(self.gone.values()))
        yield from _few("empty files", self.empty)
        yield from _few("matched by letters and digits alone", [f"{f} as {v}" for v, f in sorted(self.loose.items())])
        yield from _few("in another class's folder", [f"{f} as {v}" for v, f in sorted(self.strayed.items())])
        named = [f"{file} ({why})" for file, why in sorted(self.rest.items())]
        unlisted = [said for said in named if said.endswith("(not on the published list)")]
        yield from _few("left out", [said for said in named if said not in set(unlisted)], "left_out.tsv")
        yield from _few("not on the published list", [s.rpartition(" (")[0] for s in unlisted], "left_out.tsv")
        yield self.note

    def coverage(self) -> list[tuple[str, str, int, int]]:
        """(split, class, videos here, videos listed); each split first as a whole, its class then ''."""
        have = Counter((row.split, row.cls) for row in self.stored.rows)
        splits = {split: None for split in (*SPLITS, *self.counts, *(row.split for row in self.stored.rows))}
        table = []
        for split in splits:
            classes = sorted({*self.counts.get(split, {}), *(cls for s, cls in have if s == split)})
            lines = [(split, cls, have[split, cls], self.counts.get(split, {}).get(cls, 0)) for cls in classes]
            if lines:
                table += [(split, "", sum(n for *_, n, _ in lines), sum(line[3] for line in lines)), *lines]
        return table


def _few(what: str, names: Sequence[str], file: str = "") -> Iterator[str]:
    if names:
        more = f", ... ({'all' if file else 'in all ' + str(len(names))}{' in ' + file if file else ''})"
        yield f"{what}: {len(names)}: {'; '.join(names[:SHOWN])}{more if len(names) > SHOWN else ''}"


def add(
    name: str,
    videos: str | Path,
    published: Mapping[str, Published] | None = None,
    family: str = "",
    forget: bool = False,
) -> Added:
    """Match what lies in ``videos`` to benchmark ``name`` and write its manifest (``store``); nothing is decoded.
    ``official:NAME`` is matched to its annotation files, all of its standard splits at once.

    ``published`` holds the lists by family; without any, class folders decide. Of several families ``family`` is taken,
    else that of the manifest before, else the one with most videos here. What an earlier ``add`` found, in this folder
    or another, stays as long as the file is there; where a whole folder is not there now (a disk that is not mounted?)
    its videos are only left out with ``forget``.

    Raises UserError: unknown benchmark or family, no such folder (nor an earlier one), no video that matches, a list
    entry that leads out of its folder, a manifest that cannot be written (the earlier one is unchanged).
    """
    if name.startswith(official.PREFIX):
        facts, published = official.standard(name)
        name = facts["name"]
    else:
        facts = benchmarks.describe(name)
    if name in benchmarks.WORLDS:
        raise UserError(f"{name} is rendered by vidlib itself; there are no videos to add")
    if family and family not in (published or {}):
        known = ", ".join(published or ()) or "none are here: run vidlib data lists first"
        raise UserError(f"family: no lists of {family!r}{closest(family, tuple(published or ()))}; there are {known}")
    for each in (published or {}).values():
        refuse_unsafe(each.rows, f"{name}: the list of {each.family}")
    seen = scan(videos)
    with store.alone(store.place(name).with_suffix(".lock")):
        before = store.read(name)
        if before and before.family and not published:
            raise UserError(
                f"{name}: its manifest was matched to the published lists of {before.family}; give --lists DIR again"
            )
        added = _joined(facts, seen, before, published or {}, family, forget)
        folder = store.write(added.stored).parent
        store.write_table(
            folder / "missing.tsv", ("split", "class", "video"), [(r.split, r.cls, r.video) for r in added.missing]
        )
        store.write_table(folder / "left_out.tsv", ("file", "why"), sorted(added.rest.items()))
        covered = [(s, c or "all", str(held), str(n)) for s, c, held, n in added.coverage()]
        store.write_table(folder / "coverage.tsv", ("split", "class", "here", "listed"), covered)
    return added


def _joined(
    facts: Mapping[str, Any],
    seen: Scan,
    before: Stored | None,
    published: Mapping[str, Published],
    family: str,
    forget: bool,
) -> Added:
    name = facts["name"]
    old = {v: before.file(v) for v in before.files} if before else {}
    kept = _kept(before, seen) if before else {}
    tried: dict[str, tuple[tuple[Row, ...], Matched]] = {}
    for each in published.values():
        found = match(seen.files, each.rows, folder_classes(facts), facts.get("id_length"))
        tried[each.family] = (each.rows, found)
    if not published:
        rows, found = by_folders(seen.files, facts)
        rows += tuple(row for row in (before.rows if before else ()) if row.video not in found.chosen)
        tried[""] = (rows, found)
    here = {
        each: sum(r.video in found.chosen or r.video in kept for r in rows) for each, (rows, found) in tried.items()
    }
    earlier = before.family if before and before.family in tried else ""
    taken = family or earlier or max(tried, key=lambda each: here[each])
    rows, found = tried[taken]
    folders = list(before.folders) if before else []
    if before and not forget:
        _refuse_to_forget(before, {*kept, *found.chosen})
    if str(seen.root) not in folders:
        folders.append(str(seen.root))
    number, listed = folders.index(str(seen.root)), {row.video for row in rows}
    places = {video: (number, file.name) for video, file in found.chosen.items()}
    empty = {video: file.name for video, file in found.chosen.items() if not file.size}
    rest = dict(found.rest) | seen.refused
    for video, file in kept.items():
        if video not in listed:
            rest[str(file)] = "in the manifest before, not on the published list"
        elif video not in places or not _better(found.chosen[video], file):
            if video in places and seen.root / places[video][1] != file:
                rest[places[video][1]] = f"a second file of {video}: {file} is in the manifest"
            places[video] = (before.elsewhere.get(video, 0), before.files[video])
            empty.pop(video, None)
            if not file.stat().st_size:
                empty[video] = str(file)
        elif seen.root / places[video][1] != file:
            rest[str(file)] = f"an empty file of {video}: {places[video][1]} is taken"
    have = tuple(row for row in rows if row.video in places)
    if not have:
        raise _nothing(facts, seen, rest, bool(published))
    counts = _counts(facts, rows, bool(published))
    used = sorted({folder for folder, _ in places.values()})
    renumbered = {folder: i for i, folder in enumerate(used)}
    stored = Stored(
        name,
        have,
        {video: file for video, (_, file) in places.items()},
        {video: renumbered[folder] for video, (folder, _) in places.items() if renumbered[folder]},
        tuple(folders[folder] for folder in used),
        taken,
        {"videos": dict(Counter(row.split for row in have)), "listed": {s: sum(c.values()) for s, c in counts.items()}},
    )
    missing = tuple(row for row in rows if row.video not in places) if published else ()
    gone = {video: str(file) for video, file in old.items() if video not in kept}
    other = {each: count for each, count in here.items() if {row.video for row in tried[each][0]} != listed}
    return Added(
        stored, benchmarks.compared(facts, have, counts), counts, len(old), len(places.keys() - kept.keys()), gone,
        missing, rest, tuple(sorted(empty.values())), found.loose, found.strayed, other,
    )  # fmt: skip


def _kept(before: Stored, seen: Scan) -> dict[str, Path]:
    """The earlier manifest's files that are there. In the folder that was scanned now, the scan says which."""
    number = before.folders.index(str(seen.root)) if str(seen.root) in before.folders else -1
    scanned, kept = {file.name for file in seen.files}, {}
    for video, name in before.files.items():
        if name in scanned if before.elsewhere.get(video, 0) == number else _there(before.file(video)):
            kept[video] = before.file(video)
    return kept


def _refuse_to_forget(before: Stored, found: set[str]) -> None:
    """Raise the UserError where a whole folder of the earlier manifest is away, and videos with it."""
    for i, folder in enumerate(before.folders):
        lost = 0 if Path(folder).is_dir() else sum(before.elsewhere.get(v, 0) == i for v in before.files.keys() - found)
        if lost:
            raise UserError(
                f"{before.name}: {lost} videos of its manifest were in {folder}, which is not there now; mount it, or "
                "give --forget to leave them out"
            )


def _better(found: Found, before: Path) -> bool:
    """Whether a found file replaces the one in the manifest: only where that is empty."""
    return found.size > 0 and before.stat().st_size == 0


def _there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        return False


def _counts(facts: Mapping[str, Any], rows: Sequence[Row], lists: bool) -> dict[str, dict[str, int]]:
    """split -> class -> videos on the published list: the list's where there is one, else the catalogue's."""
    if not lists:
        return {split: {c["name"]: c["videos"] for c in classes} for split, classes in facts["classes"].items()}
    counts: dict[str, dict[str, int]] = {}
    for (split, cls), number in sorted(Counter((row.split, row.cls) for row in rows).items()):
        counts.setdefault(split, {})[cls] = number
    return {split: counts[split] for split in (*SPLITS, *(s for s in counts if s not in SPLITS)) if split in counts}


def _nothing(facts: Mapping[str, Any], seen: Scan, rest: Mapping[str, str], lists: bool) -> UserError:
    why = next(iter(sorted(rest.items())), None)
    first = f" (first: {why[0]}: {why[1]})" if why else ""
    hint = (
        f"lists: {facts['where']}"
        if lists
        else (
            f"it was matched by class folders; run vidlib data lists {facts['name']} --from DIR, or give --lists, to "
            "match by file names"
        )
    )
    return UserError(
        f"{facts['name']}: none of the {len(seen.files)} video files in {seen.root} is one of {facts['title']}{first}; "
        + hint
    )
