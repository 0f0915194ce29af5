"""``vidlib data croissant``, ``vidlib report crate`` and ``vidlib report card``: descriptions that other tools read."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError

if TYPE_CHECKING:
    from vidlib.results.runs import Run

RUN = "a finished run's folder, its id among the runs, or a shipped record's id or .json"


def add_data(commands: Any) -> None:
    """Add ``croissant`` to the commands of ``vidlib data``."""
    one = commands.add_parser("croissant", help="a benchmark's entry as Croissant 1.1, JSON-LD that other tools read")
    one.add_argument("name", metavar="NAME|all", help="a benchmark as vidlib data list names it, or all")
    one.add_argument("--out", default="", metavar="DIR", help="default: croissant in the data folder")
    one.set_defaults(do=_croissant)


def add_reports(kinds: Any) -> None:
    """Add ``crate`` and ``card`` to the kinds of ``vidlib report``."""
    one = kinds.add_parser("crate", help="a finished run as an RO-Crate: inputs, results, versions, times")
    one.add_argument("run", metavar="RUN", help=RUN)
    one.add_argument("--out", default="", metavar="DIR", help="default: crates/RUN in the runs folder")
    one.set_defaults(do=_crate)
    one = kinds.add_parser("card", help="a model card of a run's trained weights, with its results as model-index")
    one.add_argument("run", metavar="RUN", help=RUN)
    one.add_argument("--out", default="", metavar="FILE", help="default: README.md beside the weights")
    one.set_defaults(do=_card)


def _croissant(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.data.catalogue import entries
    from vidlib.studies import croissant

    names = entries.every() if given.name == "all" else (entries.entry(given.name).name,)
    out = paths.absolute(given.out) if given.out else paths.absolute(paths.data_dir() / "croissant")
    yield from (f"kept: {croissant.write(name, out)}" for name in names)


def _crate(given: argparse.Namespace) -> Iterator[str]:
    run = found(given.run)
    from vidlib.studies import run_crate

    yield f"kept: {run_crate.write(run, paths.absolute(given.out) if given.out else None)}"


def _card(given: argparse.Namespace) -> Iterator[str]:
    run = found(given.run)
    from vidlib.cli import report_page
    from vidlib.studies import model_card, records

    again = records.again(run) if isinstance(run, records.Record) else report_page.command(run.params)
    module = "video_text" if "protocol" in run.params else "few_shot"
    text = model_card.card(run, again or f"python -m vidlib.training.{module} --params params.json")
    file = paths.absolute(given.out) if given.out else run.path("README.md")
    with paths.written("out", file), paths.atomic_write(file) as part:
        part.write_text(text, encoding="utf-8")
    yield f"kept: {file}"


def found(name: str) -> "Run":
    """The finished run or record that a user names; a UserError where there is none, or more than one."""
    root = paths.records_dir()
    places = [paths.absolute(name), paths.runs_dir() / name, *([root / "runs" / f"{name}.json"] if root else [])]
    if not (there := [place for place in places if place.exists()]):  # said before torch is loaded
        raise UserError(f"run: {name} is no finished run or record here; give {RUN}")
    from vidlib.studies import verify

    run, *others = verify.found(there[0])
    if others:
        raise UserError(f"run: {name} holds {len(others) + 1} runs; give one: {RUN}")
    return run
