"""Saving and resuming in safetensors: trainable weights alone for a result, with optimiser and counters for a resume.

Every file is written whole to a temporary name and renamed, so a kill leaves the last good one. Training derives all
random states anew from (seed, episode) before every episode, so the stored episode counter is the random state.
A checksum of the tensors and the counters lies in the file itself: a byte that a disk turned is told when it is read.
"""

import errno
import json
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.basics.words import few
from vidlib.results.runs import ANEW

RESTART = "delete it to start again"
META, CHECKSUM = "vidlib", "crc32"
COUNTERS = ("step", "best", "settings", "scaling")  # what training keeps in a state beside the tensors


def trainable_parameters(method: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, for those that training changes."""
    return {name: p for name, p in method.named_parameters() if p.requires_grad}


def trainable_state(method: nn.Module) -> dict[str, Tensor]:
    """Copies of what training changes: parameters with ``requires_grad`` and all persistent buffers; on the CPU."""
    parameters = dict(method.named_parameters())
    changing = {
        name: value
        for name, value in method.state_dict().items()
        if name not in parameters or parameters[name].requires_grad
    }
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in changing.items()}


def put_trainable(method: nn.Module, state: Mapping[str, Tensor], source: str = "checkpoint") -> None:
    """Copy ``state`` into the method: the same names and shapes, or a ``UserError`` that names the first few."""
    own = {**method.state_dict(keep_vars=True)}
    wanted = {name for name, value in own.items() if not isinstance(value, nn.Parameter) or value.requires_grad}
    problems = [f"lacks {name}" for name in sorted(wanted - state.keys())]
    problems += [f"has {name}, which this method does not train" for name in sorted(state.keys() - wanted)]
    problems += [
        f"has {name} of shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(wanted & state.keys())
        if state[name].shape != own[name].shape
    ]
    if problems:
        raise UserError(
            f"{source} does not fit {type(method).__name__}: it {few(problems, 3, '; ')}; "
            "build the method with the parameters it was trained with"
        )
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(state[name])


def save_trainable(method: nn.Module, path: str | Path, meta: Mapping[str, Any] | None = None) -> None:
    """Write the trainable weights and ``meta`` (JSON values) to one safetensors file."""
    _write(path, trainable_state(method), meta or {})


def load_trainable(method: nn.Module, path: str | Path) -> dict[str, Any]:
    """Read what ``save_trainable`` wrote into the method, its ``meta``; a ``UserError`` where a value is NaN."""
    tensors, meta = read(path)
    if broken := [name for name, value in tensors.items() if value.is_floating_point() and value.isnan().any()]:
        raise UserError(f"checkpoint {path} holds values that are not numbers, in {few(broken, 3)}: {ANEW}")
    put_trainable(method, tensors, source=str(path))
    return meta


def save_state(
    path: str | Path,
    method: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    counters: Mapping[str, Any],
    best: Mapping[str, Tensor] | None = None,
) -> None:
    """Write all that a resume needs to one file: weights, optimisers, ``counters`` (JSON), the best weights so far."""
    names = {parameter: name for name, parameter in method.named_parameters()}
    tensors = {f"weights/{name}": value for name, value in trainable_state(method).items()}
    tensors |= {f"best/{name}": value for name, value in (best or {}).items()}
    for optimizer in optimizers:
        for parameter, entries in optimizer.state.items():
            for key, value in entries.items():
                if value is not None:  # SGD's buffer before its first gradient
                    tensors[f"optimizer/{names[parameter]}/{key}"] = value.detach().to("cpu", copy=True).contiguous()
    _write(path, tensors, counters)


def load_state(
    path: str | Path, method: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what ``save_state`` wrote into method and optimisers; returns (counters, best weights, empty where none)."""
    tensors, counters = read(path, sealed=True)
    put_trainable(method, _under(tensors, "weights"), source=str(path))
    parameters = dict(method.named_parameters())
    owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for full, value in _under(tensors, "optimizer").items():
        name, _, key = full.rpartition("/")
        if (parameter := parameters.get(name)) not in owner:
            raise UserError(f"checkpoint {path} has an optimiser's {full}, which is not trained here: {RESTART}")
        where = "cpu" if key == "step" else parameter.device  # Adam counts its steps on the CPU
        owner[parameter].state[parameter][key] = value.to(where)
    return counters, _under(tensors, "best")


def progress(path: str | Path) -> tuple[int, int]:
    """Optimiser steps done and of how many, of a state that ``save_state`` wrote; its tensors are not read."""
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads(file.metadata()[META])
        settings = meta["settings"]
        return meta["step"], math.ceil(settings["batches"] / settings["batches_per_step"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {path} cannot be read ({error}): {RESTART}") from None


def read(path: str | Path, sealed: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the JSON ``meta`` of a file written here; a ``UserError`` where it is absent or damaged.

    ``sealed``: it must have its checksum; weights of earlier versions have none.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            meta = json.loads(notes.get(META, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if not isinstance(meta, dict):
            raise ValueError(f"its notes are a {type(meta).__name__}")
        noted = meta.pop(CHECKSUM, None)
        if noted != _checksum(tensors, meta) and (sealed or noted is not None):
            raise ValueError("its checksum is another: it was changed after it was written")
        return tensors, meta
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"checkpoint {path} cannot be read ({error}): {RESTART}") from None


def _write(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    text = json.dumps({**meta, CHECKSUM: _checksum(tensors, meta)})
    with atomic_write(path) as part:
        try:
            save_file(dict(tensors), part, metadata={META: text})
        except SafetensorError as error:  # a full disk, in its own words
            number = re.search(r"os error (\d+)", str(error))
            number = int(number[1]) if number else errno.EIO
            raise OSError(number, os.strerror(number) if number != errno.EIO else str(error)) from None


def _checksum(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """Of names, kinds, shapes and bytes of all tensors, and of the counters."""
    found = zlib.crc32(json.dumps(dict(meta)).encode())
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        found = zlib.crc32(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), found)
    return f"{found:08x}"


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(prefix + "/")}
