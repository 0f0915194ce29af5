"""The command line: ``vidlib data``, ``vidlib report checkpoint FILE`` and ``vidlib predict VIDEOS``.

Also as ``python -m vidlib.cli``. A mistake of the user's is one sentence on stderr and exit code 1.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.cli import data, run_cli
from vidlib.methods import released
from vidlib.methods.released import CLASSES, files, formats
from vidlib.params.tools import PredictParams
from vidlib.training import checkpoints

STATISTICS = r"(running_mean|running_var|num_batches_tracked|pe\.pe)$"  # buffers by their names
LISTED = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="vidlib", description="Few-shot video action recognition.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="say what something is")
    kinds = report.add_subparsers(required=True, metavar="KIND")
    checkpoint = kinds.add_parser("checkpoint", help="what a file of weights holds, and which method it belongs to")
    checkpoint.add_argument("file", metavar="FILE", help="safetensors, or a PyTorch file (read as tensors alone)")
    checkpoint.set_defaults(do=lambda given: (f"{name:<10} {value}" for name, value in report_checkpoint(given.file)))
    run_cli.add_reports(kinds)
    run_cli.add_commands(commands)
    _add_predict(commands.add_parser("predict", help="guess the classes of videos, by texts or by example videos"))
    data.add_commands(commands.add_parser("data", help="benchmarks: what they are, what of them lies here"))
    given = parser.parse_args(arguments)
    try:
        for line in given.do(given):
            print(line, flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _add_predict(parser: argparse.ArgumentParser) -> None:
    """One option for each parameter; pydantic reads the values, so that a notebook and this refuse the same."""
    for name, field in PredictParams.model_fields.items():
        if name == "videos":
            parser.add_argument(name, nargs="+", metavar="VIDEOS", help="a folder, or files")
        else:
            shown = "" if field.default == "" else f" (default {field.default})"
            help = f"{field.description}{shown}"
            parser.add_argument(f"--{name}", default=argparse.SUPPRESS, metavar=name.upper(), help=help)
    parser.add_argument("--figures", metavar="FOLDER", help="each video's frames there, with a ViT's attention on them")
    parser.add_argument("--overwrite", action="store_true", help="replace the CSV where it exists")
    parser.set_defaults(do=predict)


def predict(given: argparse.Namespace) -> Iterator[str]:
    """Guess, write what was asked for, and say it in lines."""
    from vidlib.studies.predict import guess, show  # here, because a report needs none of it and starts sooner

    values = {name: value for name, value in vars(given).items() if name in PredictParams.model_fields}
    p = guess.checked(PredictParams.parse(values), given.overwrite)
    opened = guess.open_method(p)
    found = guess.predict(p, opened)
    if p.csv:
        show.write_csv(found.table(p.top), p.csv, given.overwrite)
    yield from show.lines(found, p.top)
    if given.figures:
        show.save_figures(found, opened, given.figures)


def report_checkpoint(file: str | Path) -> list[tuple[str, str]]:
    """What ``file`` holds, as (word, sentence) lines; nothing is built and no code of it run."""
    path = paths.absolute(file)
    stored = files.read(path)
    state = files.tidy(stored.tensors)
    buffers = sum(value.numel() for name, value in state.items() if re.search(STATISTICS, name))
    numbers = sum(value.numel() for value in state.values())
    beside = f"; beside it {few(stored.beside, LISTED)}" if stored.beside else ""
    lines = [
        ("file", f"{path}, {path.stat().st_size / 2**20:,.1f} MiB"),
        ("container", f"{stored.container or 'none, the tensors themselves'}{beside}"),
        ("tensors", f"{len(state)}, {numbers:,} numbers, {buffers:,} of them statistics and tables"),
        ("kinds", ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in state.values()}))),
    ]
    if (wrapped := len(stored.tensors.keys() - state.keys())) > 0:
        lines.append(("wrappers", f"module., model. or head. taken from {wrapped} names"))
    if checkpoints.META in stored.notes:
        return lines + _own(path, state, stored.notes[checkpoints.META])
    if "backbone" in stored.notes:
        return [*lines, ("backbone", f"weights of {stored.notes['backbone']}: give the file as pretrained")]
    return lines + _of_released_code(path, state)


def _own(path: Path, state: Mapping[str, Any], meta: str) -> list[tuple[str, str]]:
    """A checkpoint that vidlib wrote: trained weights, or all that a resume needs."""
    try:
        counters = json.loads(meta)
    except json.JSONDecodeError:
        raise UserError(f"checkpoint {path} has unreadable notes: it is damaged") from None
    parts = sorted({name.split("/", 1)[0] for name in state if "/" in name})
    kind = f"state of an unfinished training ({', '.join(parts)})" if parts else "trained weights alone"
    lines = [("method", f"one of vidlib's own, {kind}: see params.json in its run folder")]
    if (path.parent / "params.json").is_file():
        params = json.loads((path.parent / "params.json").read_text())
        named = {
            name: params[name] for name in ("method", "backbone", "pretrained", "dataset", "shot") if name in params
        }
        lines = [("method", f"one of vidlib's own, {kind}: {_words(named)}")]
    settings = counters.pop("settings", {})
    return [*lines, ("counters", _words(counters)), *([("settings", _words(settings))] if settings else [])]


def _of_released_code(path: Path, state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which released code wrote it, and what ``load_released`` would say of it."""
    method = released.recognise(state)
    if not method:
        first = few(sorted({name.split(".", 1)[0] for name in state}), LISTED)
        return [("method", f"of no released code that vidlib reads; its modules are {first}")]
    found = released.survey(method, state)
    lines = [("method", f"{method}, by its names")]
    if found.sizes:
        lines.append(("sizes", _words(found.sizes)))
    if found.remark:
        lines.append(("remark", found.remark))
    lines.append(("trunk", found.trunk or "none"))
    for word, names in (("missing", found.missing), ("unknown", found.unknown), ("unused", found.unused)):
        lines.append((word, few(names, LISTED) or "none"))
    whole = formats.FORMATS[method].whole
    if CLASSES[method].released_missing and not whole:
        lines.append(("never held", f"what matches {', '.join(CLASSES[method].released_missing)} of {method} here"))
    if not (found.missing or found.unknown):
        backbone = "" if found.backbone else ", backbone=..."
        backbone += ", pretrained=..." if whole and not found.trunk else ""
        lines.append(("load with", f'vidlib.methods.released.load_released("{method}", "{path}"{backbone})'))
    return lines


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
