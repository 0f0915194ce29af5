"""``vidlib verify``: does what runs and records say hold? One sentence for each thing that does not."""

import argparse
from collections.abc import Iterator

from vidlib.basics import paths
from vidlib.basics.errors import UserError


def add_command(parser: argparse.ArgumentParser) -> None:
    """The options of ``vidlib verify``."""
    what = "a run's folder, a record's .json, or a folder of them; default the shipped records"
    parser.add_argument("paths", nargs="*", metavar="PATH", help=what)
    parser.add_argument("--strict", action="store_true", help="a run that is unlike its kind is an error too")
    parser.set_defaults(do=lines)


def lines(given: argparse.Namespace) -> Iterator[str]:
    """What was checked, in words; a UserError with a sentence for each thing that does not hold."""
    if lacking := [path for path in given.paths if not paths.absolute(path).exists()]:  # said before torch is loaded
        raise UserError(f"{lacking[0]} is not here: give a run's folder, a record's .json, or a folder of them")
    from vidlib.studies import verify

    verdict = verify.verify(given.paths)
    yield from verdict.lines()
    wrong = verdict.findings + (verdict.flagged if given.strict else [])
    if wrong:
        raise UserError("\n".join(map(str, wrong)))
