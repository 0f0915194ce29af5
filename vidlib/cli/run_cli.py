"""``vidlib run``, ``sweep``, ``estimate``, ``report page`` and ``report table``: their options, and what they print."""

import argparse
import signal
import sys
from collections.abc import Iterator
from typing import Any

from vidlib.basics.errors import UserError

RECIPE = "a recipe's path or short name such as ma_fsar/laptop, or a notebook's name for its defaults"


def add_commands(commands: Any) -> None:
    """Add ``run``, ``sweep`` and ``estimate`` to the subparsers of ``vidlib``."""
    run = commands.add_parser("run", help="check a recipe's parameters, then execute its notebook")
    _add_recipe(run)
    run.set_defaults(do=_run)
    sweep = commands.add_parser("sweep", help="run a recipe for every cell of a grid of parameters")
    _add_recipe(sweep)
    sweep.add_argument("--grid", nargs="+", action="extend", required=True, metavar="NAME=VALUE,VALUE", help="the grid")
    sweep.add_argument("--jobs", type=int, default=1, metavar="N", help="how many cells run at the same time")
    sweep.set_defaults(do=_sweep)
    estimate = commands.add_parser("estimate", help="memory, hours and disk of a recipe, from ten of its episodes")
    _add_recipe(estimate)
    estimate.set_defaults(do=_estimate)


def add_reports(kinds: Any) -> None:
    """Add ``page`` and ``table`` to the kinds of ``vidlib report``."""
    page = kinds.add_parser("page", help="one HTML page of all runs, with figures and commands")
    page.add_argument("--runs", default="", metavar="DIR", help="the runs folder, default the usual one")
    page.add_argument("--out", default="", metavar="FILE", help="the page, default report.html in the runs folder")
    page.set_defaults(do=_page)
    table = kinds.add_parser("table", help="a paper's figures beside ours, what was not run left blank")
    table.add_argument("paper", metavar="PAPER", help="a method's name, such as ma_fsar")
    table.add_argument("--runs", default="", metavar="DIR", help="the runs folder, default the usual one")
    table.add_argument(
        "--format", default="text", choices=("text", "csv", "latex", "markdown"), help="how it is written"
    )
    table.set_defaults(do=_table)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE)
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="parameters that differ from it"
    )
    parser.add_argument("--notebook", default="", help="which notebook, where the recipe does not say")


def _requested(given: argparse.Namespace, **more: Any) -> Any:
    from vidlib.params import notebooks as read  # here and below, so that --help starts at once

    return read.request(given.recipe, read.settings(given.set) | more, given.notebook)


def _run(given: argparse.Namespace) -> Iterator[str]:
    request = _requested(given)  # a wrong name is said before torch is loaded
    from vidlib.cli import run as running

    try:
        running.run(running.checked(request), _say)
    except KeyboardInterrupt:
        raise UserError("interrupted: the same command goes on where it stopped") from None
    yield from running.summary(request)


def _sweep(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import sweep as sweeping
    from vidlib.params import notebooks as read

    if given.jobs < 1:
        raise UserError(f"jobs: {given.jobs} is not at least 1")
    found = sweeping.cells(given.recipe, sweeping.grid(given.grid), read.settings(given.set), given.notebook)
    sweeping.skip_finished(found)
    yield from sweeping.plan(found, given.jobs)
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal is a Ctrl-C: no cell runs on unseen
        signal.signal(number, signal.default_int_handler)
    try:
        csv = sweeping.run(found, given.jobs, _say)
    except KeyboardInterrupt:
        raise UserError("interrupted: the same command goes on where it stopped") from None
    yield f"cells    {csv}"
    lines = sweeping.outcome(found)
    if any(cell.state == "failed" for cell in found):
        raise UserError("\n".join(lines))
    yield from lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _estimate(given: argparse.Namespace) -> list[str]:
    request = _requested(given)
    from vidlib.cli import estimate as estimating
    from vidlib.cli import run as running

    return estimating.estimate(running.checked(request))


def _page(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import report_page

    file, number = report_page.write(given.runs, given.out)
    yield f"{file}: {number} finished runs, {file.stat().st_size / 2**20:.1f} MiB"


def _table(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import report_table

    yield report_table.written(report_table.table(given.paper, given.runs), given.format)
