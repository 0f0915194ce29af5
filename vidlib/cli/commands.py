"""The command line: every command's options, and what it prints. Also as ``python -m vidlib.cli``.

Nothing heavy stands at the top: a command imports what it needs when it runs, so that help, a wrong name and a table
answer at once. A mistake of the user's is one sentence on stderr and exit code 1.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from vidlib import __version__
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.cli import data, provenance, verify

RECIPE = "a recipe's path or short name such as ma_fsar/laptop, or a notebook's name for its defaults"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="vidlib", description="Few-shot video action recognition.")
    parser.add_argument("--version", action="version", version=f"vidlib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="say what something is")
    kinds = report.add_subparsers(required=True, metavar="KIND")
    checkpoint = kinds.add_parser("checkpoint", help="what a file of weights holds, and which method it belongs to")
    checkpoint.add_argument("file", metavar="FILE", help="safetensors, or a PyTorch file (read as tensors alone)")
    checkpoint.set_defaults(do=_checkpoint)
    _add_reports(kinds)
    provenance.add_reports(kinds)
    _add_runs(commands)
    _add_evidence(commands.add_parser("evidence", help="make the shipped records anew, all, by parts, or one of them"))
    verify.add_command(commands.add_parser("verify", help="check runs and records: does what they say hold?"))
    _add_predict(commands.add_parser("predict", help="guess the classes of videos, by texts or by example videos"))
    _add_export(commands.add_parser("export", help="a method with its classes as one file that runs without vidlib"))
    _add_lab(commands.add_parser("lab", help="a working copy of the notebooks and recipes, for JupyterLab"))
    data.add_commands(commands.add_parser("data", help="benchmarks: what they are, what of them lies here"))
    for stream in (sys.stdout, sys.stderr):  # a terminal that has not all letters is no reason to stop
        stream.reconfigure(errors="backslashreplace")
    given = parser.parse_args(arguments)
    try:
        for line in given.do(given):
            print(line, flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is kept", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _add_runs(commands: Any) -> None:
    """Add ``run``, ``sweep`` and ``estimate`` to the subparsers of ``vidlib``."""
    run = commands.add_parser("run", help="check a recipe's parameters, then execute its notebook")
    _add_recipe(run)
    run.set_defaults(do=_run)
    sweep = commands.add_parser("sweep", help="run a recipe for every cell of a grid of parameters")
    _add_recipe(sweep)
    sweep.add_argument("--grid", nargs="+", action="extend", required=True, metavar="NAME=VALUE,VALUE", help="the grid")
    sweep.add_argument("--jobs", type=int, default=1, metavar="N", help="how many cells run at the same time")
    sweep.add_argument("--status", action="store_true", help="say how far each cell is, and start nothing")
    sweep.add_argument(
        "--slurm", nargs="*", action="extend", metavar="KEY=VALUE", help="as jobs of Slurm: partition=p time=60 gpus=1"
    )
    sweep.add_argument(
        "--embed", type=int, metavar="VIEWS", help="with --slurm: encode the videos first, with so many augmented views"
    )
    sweep.set_defaults(do=_sweep)
    estimate = commands.add_parser("estimate", help="memory, hours and disk of a recipe, from ten of its episodes")
    _add_recipe(estimate)
    estimate.add_argument("--on", default="", metavar="CARD", help="a card that is not here, as in 'RTX 4090' or h100")
    estimate.add_argument("--share", type=float, metavar="S", help="of that card's peak that is reached, default 0.5")
    estimate.add_argument("--cores", type=int, metavar="N", help="cores beside that card that decode, default 16")
    estimate.add_argument("--decoded", type=float, metavar="V", help="videos that one core decodes in a second")
    estimate.set_defaults(do=_estimate)


def _add_lab(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="where; what you have changed there is never overwritten")
    parser.add_argument("--open", action="store_true", help="open JupyterLab there")
    parser.set_defaults(do=_lab)


def _lab(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import lab

    yield from lab.lab(given.folder, given.open)


def _add_evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="PART|RECORD", help="parts, or the name of one record; without, all"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes of one thread, default 2")
    parser.add_argument("--missing", action="store_true", help="only what has no record at hand, made here or shipped")
    parser.set_defaults(do=_evidence)


def _evidence(given: argparse.Namespace) -> Iterator[str]:
    if given.jobs < 1:
        raise UserError(f"jobs: {given.jobs} is not at least 1")
    from vidlib.studies import evidence

    if given.names and re.search("-[0-9a-f]{16}$", given.names[0]):
        for name in given.names:
            evidence.again(name, _say)
        return
    evidence.check(given.names)
    root = evidence.folder()
    yield evidence.hours()
    failed = evidence.run(given.names, given.jobs, root, _say, given.missing)
    if failed:
        raise UserError("\n".join(failed))
    yield f"records  {root}"


def _add_reports(kinds: Any) -> None:
    """Add ``page``, ``backbones`` and ``table`` to the kinds of ``vidlib report``."""
    page = kinds.add_parser("page", help="one HTML page of all runs, with figures and commands")
    page.add_argument("--runs", default="", metavar="DIR", help="the runs folder, default the usual one")
    page.add_argument("--out", default="", metavar="FILE", help="the page, default report.html in the runs folder")
    page.set_defaults(do=_page)
    towers = kinds.add_parser("backbones", help="which towers there are, what they give, and what a frame costs")
    towers.add_argument("names", nargs="*", metavar="NAME", help="names, or patterns such as 'vit_*dinov2*'")
    towers.set_defaults(do=_backbones)
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
    from vidlib.params import notebooks as read

    return read.request(given.recipe, read.settings(given.set) | more, given.notebook)


def _run(given: argparse.Namespace) -> Iterator[str]:
    request = _requested(given)  # a wrong name is said before torch is loaded
    from vidlib.cli import run as running

    running.run(running.checked(request), _say)
    yield from running.summary(request)


def _sweep(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.params import notebooks as read

    if given.jobs < 1:
        raise UserError(f"jobs: {given.jobs} is not at least 1")
    if given.slurm is not None and given.jobs > 1:
        raise UserError("jobs: with --slurm give array_parallelism=N there instead")
    if given.embed is not None and (given.slurm is None or given.embed < 0):
        raise UserError("embed: give 0 or more augmented views, and --slurm; without it, vidlib data embed does it")
    read.find_recipe(given.recipe)  # a wrong name is said before torch is loaded
    from vidlib.cli import sweep as sweeping

    words = None
    if given.slurm is not None and not given.status:
        from vidlib.cli import sweep_slurm

        words = sweep_slurm.parameters(given.slurm)
    asked = (given.recipe, sweeping.grid(given.grid), read.settings(given.set), given.notebook)
    found = sweeping.cells(*asked)
    if given.status:
        from vidlib.cli import sweep_status

        yield from sweep_status.lines(found)
        return
    sweeping.skip_finished(found)
    if words is not None:
        yield from sweep_slurm.submit(found, sweep_slurm.TableJob(*asked), words, given.embed)
        return
    yield from sweeping.plan(found, given.jobs)
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal is a Ctrl-C: no cell runs on unseen
        if signal.getsignal(number) is not signal.SIG_IGN:  # but for nohup
            signal.signal(number, signal.default_int_handler)
    csv = sweeping.run(found, given.jobs, _say)
    yield f"cells    {csv}"
    lines = sweeping.outcome(found)
    if any(cell.state == "failed" for cell in found):
        raise UserError("\n".join(lines))
    yield from lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _estimate(given: argparse.Namespace) -> list[str]:
    from vidlib.cli import cards

    request = _requested(given)
    chosen = {name: getattr(given, name) for name in ("share", "cores", "decoded") if getattr(given, name) is not None}
    if given.on:
        cards.card(given.on)  # a wrong name is said before torch is loaded
        from vidlib.cli import estimate_on

        return estimate_on.estimate(request, given.on, **chosen)
    if chosen:
        raise UserError(f"--{next(iter(chosen))} belongs to --on CARD; without it a run is measured here")
    from vidlib.cli import estimate as estimating
    from vidlib.cli import run as running

    return estimating.estimate(running.checked(request))


def _checkpoint(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import report_checkpoint

    yield from (f"{name:<10} {value}" for name, value in report_checkpoint.lines(given.file))


def _page(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import report_page

    file, number = report_page.write(given.runs, given.out)
    yield f"{file}: {number} finished runs, {file.stat().st_size / 2**20:.1f} MiB"


def _table(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.cli import report_table

    yield report_table.written(report_table.table(given.paper, given.runs), given.format)


def _backbones(given: argparse.Namespace) -> Iterator[str]:
    from vidlib.studies import tower_table

    shape = "{:<34} {:<6} {:<8} {:<4} {:>10} {:>8} {:>5} {:>5}  {}"
    yield shape.format("backbone", "frames", "adapters", "maps", "million", "GMACs", "input", "width", "texts")
    for name, frames, texts, *facts in tower_table.rows(*given.names):
        yield shape.format(name, frames, *facts, texts)
    if not given.names:
        yield "timm's image models give frames too: name them, or a pattern such as 'vit_*dinov2*'"


def _add_predict(parser: argparse.ArgumentParser) -> None:
    """One option for each parameter; pydantic reads the values, so that a notebook and this refuse the same."""
    from vidlib.params.tools import PredictParams

    _add_parameters(parser, PredictParams, set(PredictParams.model_fields))
    parser.add_argument("--figures", metavar="FOLDER", help="each video's frames there, with a ViT's attention on them")
    parser.add_argument("--overwrite", action="store_true", help="replace the CSV where it exists")
    parser.set_defaults(do=_predict)


def _add_parameters(parser: argparse.ArgumentParser, model: Any, wanted: set[str]) -> None:
    for name, field in model.model_fields.items():
        if name == "videos":
            parser.add_argument(name, nargs="+", metavar="VIDEOS", help="a folder, or files")
        elif name in wanted:
            shown = "" if field.default == "" else f" (default {field.default})"
            help = f"{field.description}{shown}"
            parser.add_argument(f"--{name}", default=argparse.SUPPRESS, metavar=name.upper(), help=help)


def _add_export(parser: argparse.ArgumentParser) -> None:
    from vidlib.params.tools import PredictParams

    parser.add_argument("file", metavar="FILE", help="MODEL.pt2 for torch.export, MODEL.onnx for ONNX")
    wanted = {"classes", "support", "method", "backbone", "pretrained", "run", "frames"}
    _add_parameters(parser, PredictParams, wanted)
    parser.set_defaults(do=_export)


def _export(given: argparse.Namespace) -> Iterator[str]:
    """Write the file, compared with the method on the videos given."""
    from vidlib.params.tools import PredictParams

    values = {name: value for name, value in vars(given).items() if name in PredictParams.model_fields}
    p = PredictParams.parse(values)
    from vidlib.studies.predict import export, guess

    file = export.checked(given.file)
    worst, about = export.export(guess.checked(p), file)
    yield about.method
    yield f"frames uint8 [1 {about.frames} {about.size} {about.size} 3] -> probabilities [1 {len(about.classes)}]"
    yield f"{file}: equals the method on these videos, largest difference of a probability {worst:.1e}"


def _predict(given: argparse.Namespace) -> Iterator[str]:
    """Guess, write what was asked for, and say it in lines."""
    from vidlib.params.tools import PredictParams

    values = {name: value for name, value in vars(given).items() if name in PredictParams.model_fields}
    p = PredictParams.parse(values)  # a wrong value is said before torch is loaded
    from vidlib.studies.predict import guess, show

    p = guess.checked(p, given.overwrite, given.figures or "")
    opened = guess.open_method(p)
    found = guess.predict(p, opened)
    trouble = None
    try:
        if p.csv:
            show.write_csv(found.table(p.top), p.csv, given.overwrite)
    except UserError as error:  # the guesses are said all the same
        trouble = error
    if given.figures:
        show.save_figures(found, opened, given.figures)
    yield from show.lines(found, p.top)
    if p.csv and not trouble:
        yield f"the guesses as a table: {p.csv}"
    if given.figures:
        yield f"a picture of each video, and its numbers: {paths.absolute(given.figures)}"
    if trouble:
        raise trouble
