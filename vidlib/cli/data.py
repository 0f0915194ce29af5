"""``vidlib data``: what the benchmarks are, what of them lies here, their lists, what must not be mixed; and
``add``, ``check``, ``prefetch``, which make a benchmark's manifest of what lies on this machine's disks; and what a
data set's ``shortcuts`` reach.

Each command yields the lines of its report, and imports what it needs when it runs.
"""

import argparse
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.words import few
from vidlib.cli import features, provenance
from vidlib.data.guard import TIMEOUT

WIDTH = 100


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands of ``vidlib data``; each sets ``do``, which yields the lines to print."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("list", help="every benchmark, and what of it lies on this machine")
    one.set_defaults(do=lambda given: list_all())
    one = commands.add_parser("show", help="one benchmark: protocol, classes, licence, where it is published")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--classes", action="store_true", help="also every class with its text and number of videos")
    one.set_defaults(do=lambda given: show(given.name, given.classes))
    one = commands.add_parser("lists", help="read published few-shot lists, check and keep them")
    one.add_argument("name", metavar="NAME")
    one.add_argument(
        "--from", dest="source", required=True, metavar="DIR|URL", help="a folder, list, or .zip/.tar at a URL"
    )
    one.add_argument("--labels", action="store_true", help="also what each anonymous label stands for")
    one.add_argument("--ids", action="store_true", help="also each video that only one of two lists holds")
    one.set_defaults(do=lambda given: lists(given.name, given.source, given.labels, given.ids))
    one = commands.add_parser("audit", help="classes and videos that the splits of two benchmarks share")
    one.add_argument("a", metavar="A")
    one.add_argument("b", metavar="B")
    one.add_argument("--lists", metavar="DIR", help="a folder of published lists (default: those kept by vidlib)")
    one.set_defaults(do=lambda given: audit(given.a, given.b, given.lists))
    one = commands.add_parser("import-official", help="check and keep a data set's own split files")
    one.add_argument("name", metavar="NAME", help="ucf101, hmdb51, kinetics400 or ssv2")
    one.add_argument(
        "--from", dest="source", required=True, metavar="DIR", help="a folder that holds them, in any nesting"
    )
    one.add_argument("--overwrite", action="store_true", help="replace files that are there and differ")
    one.set_defaults(do=lambda given: import_official(given.name, given.source, given.overwrite))
    _add_disk_commands(commands)
    features.add_commands(commands)
    provenance.add_data(commands)
    _add_shortcuts(commands.add_parser("shortcuts", help="how far tricks get there that understand nothing"))


def _add_disk_commands(commands: Any) -> None:
    add = commands.add_parser("add", help="find a benchmark's videos in a folder of any layout; write its manifest")
    add.add_argument("name", metavar="NAME", help="a benchmark as vidlib data list names it, or official:NAME")
    add.add_argument("--videos", required=True, metavar="DIR", help="where the videos lie, flat or nested")
    add.add_argument(
        "--lists", metavar="DIR", help="the published lists (default: those that vidlib data lists stored)"
    )
    add.add_argument("--family", default="", help="whose lists, where they differ: trx or clip_fsar")
    add.add_argument("--follow-links", action="store_true", help="links are always followed: this changes nothing")
    add.add_argument("--forget", action="store_true", help="leave out what was in a folder that is not there now")
    add.set_defaults(do=add_videos)
    check = commands.add_parser("check", help="decode every clip; keep a ledger of broken, short, odd and double files")
    check.add_argument("what", metavar="NAME|folder:PATH", help="a benchmark, official:NAME, or any folder of videos")
    check.add_argument("--ledger", metavar="FILE", help="where the ledger lies, if not in vidlib's own folders")
    check.add_argument("--again", action="store_true", help="forget what an earlier check found")
    check.add_argument("--follow-links", action="store_true", help="links are always followed: this changes nothing")
    check.set_defaults(do=check_videos)
    prefetch = commands.add_parser("prefetch", help="decode every clip once, into small frames for fast training")
    prefetch.add_argument("name", metavar="NAME", help="a benchmark, or official:NAME, whose videos are here")
    prefetch.add_argument("--size", type=int, required=True, metavar="S", help="pixels of the short side")
    prefetch.add_argument(
        "--frames", type=frames, default=None, metavar="all|N", help="frames of a clip (default: all)"
    )
    prefetch.add_argument("--dry-run", action="store_true", help="say how much it would be, and stop")
    prefetch.set_defaults(do=prefetch_videos)
    for parser in (check, prefetch):
        parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
        seconds = f"seconds without a frame of a file (default: {TIMEOUT:g}, or VIDLIB_VIDEO_TIMEOUT)"
        parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="S", help=seconds)


def _add_shortcuts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="NAME|folder:PATH", help="a benchmark, or your own videos")
    parser.add_argument("--backbone", default="clip-mini", help="the tower that looks at frames (default: clip-mini)")
    parser.add_argument("--pretrained", default="", metavar="TAG|FILE", help="its weights (default: those that ship)")
    parser.add_argument("--split", action="append", help="val or test; may be given twice (default: both)")
    parser.add_argument("--way", type=int, default=5, help="classes in an episode (default: 5)")
    parser.add_argument("--shot", type=int, default=1, help="support videos per class (default: 1)")
    parser.add_argument("--episodes", type=int, default=2000, metavar="N", help="episodes per split (default: 2000)")
    parser.add_argument("--frames", type=int, default=8, metavar="T", help="frames of a video (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of what is trained and drawn; the episodes stay")
    parser.add_argument("--csv", default="", metavar="FILE", help="also write the whole table there")
    parser.set_defaults(do=shortcuts)


def aligned(rows: Iterable[Iterable[object]], right: Iterable[int] = ()) -> list[str]:
    """Rows as lines of columns; the columns in ``right`` end at one place, as numbers should."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = set(right)
    return [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def list_all() -> Iterator[str]:
    """A table of the catalogue."""
    from vidlib.data.catalogue import entries
    from vidlib.data.disk import surveying

    columns = ("name", "what", "classes", "videos", "here")
    rows = [surveying.row(name) for name in entries.every()]
    yield from aligned([[column.upper() for column in columns], *([row[c] for c in columns] for row in rows)])
    data = paths.absolute(paths.data_dir())
    from vidlib.data.features import stores

    for store in stores():
        part = ", not whole yet" if store.lacking() else ""
        yield f"features {store.folder.name}: {store.words}{part} (to be rid of it, delete {store.folder})"
    yield f"train/val/test, of standard splits train/test (of the first); ? not stated. Data folder: {data}"


def show(name: str, classes: bool = False) -> Iterator[str]:
    """One entry of the catalogue in full."""
    from vidlib.data.catalogue import entries
    from vidlib.data.disk import surveying

    facts = entries.entry(name)
    yield f"{name}: {facts.title}"
    words = ("task", "protocol", "called", "splits")
    for word in words:
        yield from _paragraph(word, getattr(facts, word))
    numbers = facts.videos()
    rows = [("split", "classes", "videos")]
    for split, texts in facts.texts().items():
        rows.append((split, len(texts), "not stated" if numbers[split] is None else numbers[split]))
    yield from (f"  {line}" for line in aligned(rows, right=(1, 2)))
    yield from _paragraph("direction", "matters: no flips" if facts.directional else "does not matter: flips allowed")
    yield from _paragraph("frames", f"{facts.frames}; train {facts.sampling['train']}; test {facts.sampling['test']}")
    yield from _paragraph("prompt", facts.prompt)
    for word in filter(partial(getattr, facts), ("licence", "where", "page", "cite", "layout")):
        yield from _paragraph(word, getattr(facts, word))
    for note in facts.notes:
        yield from _paragraph("note", note)
    yield from _paragraph("here", surveying.here(name))
    if classes:
        yield from _classes(facts)


def _paragraph(word: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{word:<10} {' '.join(text.split())}", WIDTH, subsequent_indent=" " * 11, break_on_hyphens=False
    )


def _classes(facts) -> Iterator[str]:
    from vidlib.data.catalogue import entries

    if isinstance(facts, entries.Standard):
        rows = [("class", "text", "train", "test")]
        rows += [(c.name, c.text, _per_split(c.train), _per_split(c.test)) for c in facts.classes]
    elif isinstance(facts, entries.FewShot):
        rows = [("split", "class", "text", "videos")]
        rows += [(s, c.name, c.text or "not known", c.videos) for s, every in facts.classes.items() for c in every]
    else:
        rows = [("split", "class"), *((split, cls) for split, every in facts.texts().items() for cls in every)]
    yield from aligned(rows)


def _per_split(counts: tuple[int, ...] | None) -> str:
    return "not stated" if counts is None else " ".join(map(str, counts))


def lists(name: str, source: str, labels: bool = False, ids: bool = False) -> Iterator[str]:
    """Read, keep and compare the published lists of a few-shot benchmark."""
    from vidlib.data.disk import fetching
    from vidlib.data.disk import lists as published

    published.few_shot(name)  # an unknown name before anything is fetched
    with fetching.opened(source) as folder:
        found = published.read(name, folder)
    kept = published.store(name, found).values()  # before a line is said: who reads a pipe may have seen enough
    table = published.table(name, found)
    titles = ["family", "split", "classes", "videos", "fewest", "most", "expected", "list"]
    yield from aligned([titles, *table[titles].values.tolist()], right=range(2, 7))
    for row in table[table["list"] == "other"].itertuples():
        yield f"{row.family} {row.split}: not the published list ({row.videos} of {row.expected} videos, or other ones)"
    for family, one in found.items():
        ways = Counter(label.way for label in one.labels.values())
        if ways:
            yield f"{family}: {ways.total()} anonymous labels, {', '.join(f'{n} by {way}' for way, n in ways.items())}"
        if one.unresolved:
            yield f"{family}: no name is known for {', '.join(one.unresolved)}"
        yield from (f"{family}: {note}" for note in one.notes)
        if labels:
            yield from aligned(
                (f"  {label}", known.text or known.cls, known.way) for label, known in one.labels.items()
            )
    known = {**published.stored(name), **found}
    if len(known) == 2:
        compared = published.compare(*known.values())
        yield from compared.lines()
        for split, pair in compared.only.items() if ids else ():
            for family, alone in zip((compared.a, compared.b), pair, strict=True):
                yield from (f"  {split}: only {family}: {video}" for video in alone)
    yield from (f"kept: {file}" for file in kept)


def audit(a: str, b: str, source: str | None = None) -> Iterator[str]:
    """What the splits of two benchmarks share."""
    from vidlib.data.disk import auditing

    found = auditing.audit(a, b, paths.absolute(source) if source else None)
    rows = [(a, b, "classes", "videos")]
    for row in found.table.astype(object).where(found.table.notna(), None).itertuples():
        rows.append((row.split_a, row.split_b, row.classes, "unknown" if row.videos is None else row.videos))
    yield from aligned(rows, right=(2, 3))
    if found.table["videos"].isna().all():
        yield "videos: unknown, for the lists of both are not here or their ids have different sources"
    for (one, two), names in found.names.items():
        if one != two and names and (one.startswith("train") or two.startswith("train")):
            shown = few((_readable(a, one, name) for name in names), 12, "; ")
            yield f"{one} of {a} and {two} of {b}: {shown}"
    yield from (f"WARNING {warning}" for warning in found.warnings)


def _readable(name: str, split: str, cls: str) -> str:
    """A class whose published name is a label, with its text."""
    from vidlib.data.catalogue import entries
    from vidlib.data.disk import list_files

    text = entries.entry(name).texts()[split][cls]
    return f"{cls} ({text})" if text and list_files.ANONYMOUS.fullmatch(cls) else cls


def import_official(name: str, source: str, overwrite: bool = False) -> Iterator[str]:
    """Copy a data set's own split files to where vidlib reads them."""
    from vidlib.data.disk import importing

    made = importing.import_official(name.removeprefix("official:"), paths.absolute(source), overwrite)
    titles = ["split", "classes", "videos", "expected", "list"]
    values = made.table.astype(object).where(made.table.notna(), "not stated")[titles].values.tolist()
    yield from aligned([titles, *values], right=(1, 2, 3))
    yield from made.notes
    yield f"kept: {len(made.files)} files in {made.folder}"


# ---------------------------------------------------------------- what lies on disk


def add_videos(given: argparse.Namespace) -> Iterator[str]:
    """``add``, and its report."""
    from vidlib.data.catalogue import official
    from vidlib.data.disk import adding

    lists = {}
    if not given.name.startswith(official.PREFIX):  # a data set's annotation files are its lists
        lists = published(given.name, paths.absolute(given.lists) if given.lists else None)
    yield from adding.add(given.name, given.videos, lists, given.family, given.forget).lines()


def published(name: str, source: Path | None) -> Mapping[str, Any]:
    """The published lists by family: those in ``source``, which are stored for the next time, else the stored ones."""
    from vidlib.data.disk import lists

    if source is None:
        return lists.stored(name)
    found = lists.read(name, source)
    lists.store(name, found)
    return found


def check_videos(given: argparse.Namespace) -> Iterator[str]:
    """``check``, and its report."""
    from vidlib.data.disk import checking

    options = {"again": given.again, "ledger": given.ledger}
    yield from checking.check(given.what, given.workers, given.timeout, **options).report()


def prefetch_videos(given: argparse.Namespace) -> Iterator[str]:
    """``prefetch``: its size first, then the work and its report."""
    from vidlib.data.disk import prefetching

    plan = prefetching.plan(given.name, given.size, given.frames)
    yield plan.line()
    if not given.dry_run:
        yield from prefetching.report(*prefetching.fetch(plan, given.workers, given.timeout))


def shortcuts(given: argparse.Namespace) -> Iterator[str]:
    """``shortcuts``: one line for each, its accuracies by split, and what to read them against."""
    from vidlib.data.catalogue import benchmarks

    if not given.dataset.startswith(benchmarks.FOLDER):
        benchmarks.describe(given.dataset)  # a wrong name is said before torch is loaded
    csv = paths.absolute(given.csv) if given.csv else None
    if csv:
        paths.check_writable(csv, "csv")
    from vidlib.results.intervals import percent
    from vidlib.studies import shortcuts as study

    options = {name: getattr(given, name) for name in ("way", "shot", "episodes", "frames", "seed")}
    splits = given.split or study.SPLITS
    table = study.measure(given.dataset, given.backbone, given.pretrained, splits=splits, **options)
    if csv:
        with paths.atomic_write(csv) as part:
            table.to_csv(part, index=False, float_format="%.6g")
    shown, of = table["split"].unique().tolist(), table.attrs
    lines = [["shortcut", *shown, "order gives", "note"]]
    for shortcut, rows in table.groupby("shortcut", sort=False):
        own = rows.set_index("split")
        ordered = own["order"].notna().all()
        gains = [f"{100 * one.order:+.1f} ± {100 * one.order_half:.1f}" for one in own.itertuples()] if ordered else []
        notes = dict.fromkeys(note for note in own["note"] if note)
        accuracies = [percent(own.at[split, "accuracy"], own.at[split, "half"]) for split in shown]
        lines.append([shortcut, *accuracies, ", ".join(gains), "; ".join(notes)])
    yield from aligned(lines, right=range(1, 1 + len(shown)))
    episodes = ", ".join(f"{split} {of['checksums'][split][:12]}" for split in shown)
    yield (
        f"{of['dataset']}, {given.way}-way {given.shot}-shot, tower {given.backbone}: chance {100 / given.way:.1f}%; "
        f"{given.episodes:,} episodes of each split ({episodes}), those that methods are tested on; 95% intervals over "
        "episodes, of these videos and classes"
    )
    if of["lost"]:
        yield f"{len(of['lost'])} videos of train cannot be decoded and are left out: {few(of['lost'])}"
    if of["note"]:
        yield of["note"]
    if csv:
        yield f"kept: {csv}"


def frames(text: str) -> int | None:
    """``all`` or a number, as argparse reads it."""
    if text == "all":
        return None
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor a number of frames")
    return int(text)
