"""The command line: ``vidlib report checkpoint FILE``, also as ``python -m vidlib.cli``.

A mistake of the user's is one sentence on stderr and exit code 1.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidlib import checkpoints, paths, released
from vidlib.errors import UserError
from vidlib.methods import METHODS
from vidlib.released import files

STATISTICS = r"(running_mean|running_var|num_batches_tracked|pe\.pe)$"  # buffers by their names
LISTED = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="vidlib", description="Few-shot video action recognition.")
    report = parser.add_subparsers(required=True, metavar="COMMAND").add_parser("report", help="say what something is")
    kinds = report.add_subparsers(required=True, metavar="KIND")
    checkpoint = kinds.add_parser("checkpoint", help="what a file of weights holds, and which method it belongs to")
    checkpoint.add_argument("file", metavar="FILE", help="safetensors, or a PyTorch file (read as tensors alone)")
    checkpoint.set_defaults(run=lambda given: report_checkpoint(given.file))
    given = parser.parse_args(arguments)
    try:
        print("\n".join(f"{name:<10} {value}" for name, value in given.run(given)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def report_checkpoint(file: str | Path) -> list[tuple[str, str]]:
    """What ``file`` holds, as (word, sentence) lines; nothing is built and no code of it run."""
    path = paths.absolute(file)
    stored = files.read(path)
    state = files.tidy(stored.tensors)
    buffers = sum(value.numel() for name, value in state.items() if re.search(STATISTICS, name))
    numbers = sum(value.numel() for value in state.values())
    beside = f"; beside it {files.few(stored.beside, LISTED)}" if stored.beside else ""
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
        first = files.few(sorted({name.split(".", 1)[0] for name in state}), LISTED)
        return [("method", f"of no released code that vidlib reads; its modules are {first}")]
    found = released.survey(method, state)
    lines = [("method", f"{method}, by its names")]
    if found.sizes:
        lines.append(("sizes", _words(found.sizes)))
    lines.append(("trunk", found.trunk or "none"))
    for word, names in (("missing", found.missing), ("unknown", found.unknown), ("unused", found.unused)):
        lines.append((word, files.few(names, LISTED) or "none"))
    if METHODS[method].released_missing:
        lines.append(("never held", f"what matches {', '.join(METHODS[method].released_missing)} of {method} here"))
    if not (found.missing or found.unknown):
        backbone = "" if found.backbone else ", backbone=..."
        lines.append(("load with", f'vidlib.checkpoints.load_released("{method}", "{path}"{backbone})'))
    return lines


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
