"""``vidlib data add|check|prefetch``: what lies on this machine's disks becomes a benchmark's manifest.

``add_commands`` adds the three to the parser of ``vidlib data``; each yields the lines of its report.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.data import video


def add_commands(commands: Any) -> None:
    """Add ``add``, ``check`` and ``prefetch`` to the subparsers of ``vidlib data``."""
    add = commands.add_parser("add", help="find a benchmark's videos in a folder of any layout; write its manifest")
    add.add_argument("name", metavar="NAME", help="a benchmark as vidlib data list names it, or official:NAME")
    add.add_argument("--videos", required=True, metavar="DIR", help="where the videos lie, flat or nested")
    add.add_argument(
        "--lists", metavar="DIR", help="the published lists (default: those that vidlib data lists stored)"
    )
    add.add_argument("--family", default="", help="whose lists, where they differ: trx or clip_fsar")
    add.add_argument("--follow-links", action="store_true", help="read links that lead out of the folder, too")
    add.add_argument("--forget", action="store_true", help="leave out what was in a folder that is not there now")
    add.set_defaults(do=lambda given: printable(add_videos(given)))
    check = commands.add_parser("check", help="decode every clip; keep a ledger of broken, short, odd and double files")
    check.add_argument("what", metavar="NAME|folder:PATH", help="a benchmark, official:NAME, or any folder of videos")
    check.add_argument("--ledger", metavar="FILE", help="where the ledger lies, if not in vidlib's own folders")
    check.add_argument("--again", action="store_true", help="forget what an earlier check found")
    check.add_argument("--follow-links", action="store_true", help="read links that lead out of the folder, too")
    check.set_defaults(do=lambda given: printable(check_videos(given)))
    prefetch = commands.add_parser("prefetch", help="decode every clip once, into small frames for fast training")
    prefetch.add_argument("name", metavar="NAME", help="a benchmark, or official:NAME, whose videos are here")
    prefetch.add_argument("--size", type=int, required=True, metavar="S", help="pixels of the short side")
    prefetch.add_argument(
        "--frames", type=frames, default=None, metavar="all|N", help="frames of a clip (default: all)"
    )
    prefetch.add_argument("--dry-run", action="store_true", help="say how much it would be, and stop")
    prefetch.set_defaults(do=lambda given: printable(prefetch_videos(given)))
    for parser in (check, prefetch):
        parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
        seconds = f"seconds for one file (default: {video.TIMEOUT:g})"
        parser.add_argument("--timeout", type=float, default=video.TIMEOUT, metavar="S", help=seconds)


def add_videos(given: argparse.Namespace) -> Iterator[str]:
    """``add``, and its report."""
    from vidlib.data.catalogue import official
    from vidlib.data.disk import adding

    lists = {}
    if not given.name.startswith(official.PREFIX):  # a data set's annotation files are its lists
        lists = published(given.name, paths.absolute(given.lists) if given.lists else None)
    yield from adding.add(given.name, given.videos, lists, given.family, given.follow_links, given.forget).lines()


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

    options = {"again": given.again, "ledger": given.ledger, "follow_links": given.follow_links}
    yield from checking.check(given.what, given.workers, given.timeout, **options).report()


def prefetch_videos(given: argparse.Namespace) -> Iterator[str]:
    """``prefetch``: its size first, then the work and its report."""
    from vidlib.data.disk import prefetching

    plan = prefetching.plan(given.name, given.size, given.frames)
    yield plan.line()
    if not given.dry_run:
        yield from prefetching.report(*prefetching.fetch(plan, given.workers, given.timeout))


def frames(text: str) -> int | None:
    """``all`` or a number, as argparse reads it."""
    if text == "all":
        return None
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor a number of frames")
    return int(text)


def printable(lines: Iterator[str]) -> Iterator[str]:
    """The lines with what no terminal shows (file names that are not UTF-8) written out."""
    for line in lines:
        yield line.encode("utf-8", "backslashreplace").decode()
