"""``vidlib report checkpoint FILE``: what a file of weights holds, whose it is, and what would load it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidlib.backbones import weights
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.methods import released
from vidlib.methods.released import CLASSES, formats
from vidlib.training import checkpoints

STATISTICS = r"(running_mean|running_var|num_batches_tracked|pe\.pe)$"  # buffers by their names
LISTED = 12


def lines(file: str | Path) -> list[tuple[str, str]]:
    """What ``file`` holds, as (word, sentence) lines; nothing is built and no code of it run."""
    path = paths.absolute(file)
    stored = weights.read(path)
    state = weights.tidy(stored.tensors)
    buffers = sum(value.numel() for name, value in state.items() if re.search(STATISTICS, name))
    numbers = sum(value.numel() for value in state.values())
    beside = f"; beside it {few(stored.beside, LISTED)}" if stored.beside else ""
    said = [
        ("file", f"{path}, {path.stat().st_size / 2**20:,.1f} MiB"),
        ("container", f"{stored.container or 'none, the tensors themselves'}{beside}"),
        ("tensors", f"{len(state)}, {numbers:,} numbers, {buffers:,} of them statistics and tables"),
        ("kinds", ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in state.values()}))),
    ]
    if (wrapped := len(stored.tensors.keys() - state.keys())) > 0:
        said.append(("wrappers", f"module., model. or head. taken from {wrapped} names"))
    if checkpoints.META in stored.notes:
        return said + _own(path, state, stored.notes[checkpoints.META])
    if "backbone" in stored.notes:
        return [*said, ("backbone", f"weights of {stored.notes['backbone']}: give the file as pretrained")]
    return said + _of_released_code(path, state)


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
        params = paths.read_json(path.parent / "params.json", "put back a copy of it, or move the checkpoint elsewhere")
        named = {
            name: params[name] for name in ("method", "backbone", "pretrained", "dataset", "shot") if name in params
        }
        lines = [("method", f"one of vidlib's own, {kind}: {_words(named)}")]
    settings = counters.pop("settings", {})
    counters.pop(checkpoints.CHECKSUM, None)
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
