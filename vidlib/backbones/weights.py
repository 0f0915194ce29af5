"""The one door for files of weights: state dicts, read without running anything that they hold.

Pickles are read as tensors and plain values alone. TorchScript runs code while it is read, so it is read only where the
file is, byte for byte, one of the archives that OpenAI published.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from vidlib.basics import paths
from vidlib.basics.digests import file_digest
from vidlib.basics.errors import UserError
from vidlib.basics.words import few

# Where training codes put the weights in what they save: TRX and its descendants, TAdaConv's (HyRSM, MoLo, CLIP-FSAR),
# mmaction (AIM), and two frequent ones.
CONTAINERS = ("model_state_dict", "model_state", "state_dict", "model", "net")
# Entries that stand apart from the weights' and belong to them -> what their names begin with here: ActionCLIP's head.
COMPANIONS = {"fusion_model_state_dict": "fusion."}
WRAPPERS = ("model.", "head.")  # modules that hold all the others; TAdaConv's video model has all in its head

SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers beside the weights in OpenAI's archives
DAMAGED = "checkpoint {} cannot be read as a safetensors or PyTorch file ({})"

ENDINGS = (".safetensors", ".bin", ".pth", ".pt")
PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")

State = dict[str, Tensor]


@dataclass(frozen=True)
class Stored:
    """A state dict and where it was: ``container`` names the entry of the file ("": the file itself) or the two that
    belong together, ``beside`` the entries next to it, ``notes`` a safetensors file's remarks."""

    tensors: State
    container: str = ""
    beside: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def read(path: str | Path) -> Stored:
    """The state dict in a safetensors or PyTorch file; a ``UserError`` of one sentence where it cannot be had."""
    path = paths.absolute(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    if path.suffix != ".safetensors":
        found = opened(path)
        return replace(
            unwrap(found, str(path)), notes={"activation": "QuickGELU"} if isinstance(found, OpenAIs) else {}
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return Stored(tensors, notes=file.metadata() or {})
    except (SafetensorError, OSError):
        raise UserError(DAMAGED.format(path, "damaged, or of another kind")) from None


def file_at(place: str) -> Path | None:
    """The file of weights that ``place`` names: itself, or the one of a folder that open_clip or timm would read."""
    path = paths.absolute(place)
    if path.is_dir():
        files = sorted(file for ending in ENDINGS for file in path.glob(f"*{ending}"))
        return min(files, key=lambda file: (PREFERRED + (file.name,)).index(file.name), default=None)
    return path if path.is_file() else None


class OpenAIs(dict):
    """The state dict of an archive that OpenAI published."""


def opened(path: Path, device: str | torch.device = "cpu") -> Any:
    """What ``torch.save`` put into a file, tensors and plain values alone; for OpenAI's archives ``OpenAIs``."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a TorchScript archive, which is then looked at
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_unsafe(path, error)) from None
    except Exception as error:  # a damaged file makes torch's reader fail in many ways
        if "TorchScript" not in str(error):
            raise UserError(DAMAGED.format(path, "damaged, or of another kind")) from None
    if file_digest(path) not in openai_digests():
        raise UserError(
            f"checkpoint {path} is a TorchScript archive and none of those that OpenAI published, and reading it could "
            "run code; where you trust it, load it yourself and save its state dict alone"
        )
    state = torch.jit.load(path, map_location=device).state_dict()
    return OpenAIs({name: value for name, value in state.items() if name not in SIZES})


@cache
def openai_digests() -> frozenset[str]:
    """The SHA-256 of every CLIP archive that OpenAI published: they stand in their addresses, which open_clip has."""
    tags = (open_clip.get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained())
    urls = (tag.get("url", "") for tag in tags if tag)
    return frozenset(url.split("/")[-2] for url in urls if "openaipublic" in url)


def unwrap(found: Any, source: str = "the state") -> Stored:
    """The state dict in what a training code saved: under a known name, bare, or the only one there is."""
    if isinstance(found, Mapping):
        inside = {name: value for name, value in found.items() if _is_state(value)}
        name = next((name for name in CONTAINERS if name in inside), None)
        if name is None and any(isinstance(value, Tensor) for value in found.values()):
            tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
            return Stored(tensors, beside=tuple(str(key) for key in found if str(key) not in tensors))
        if name is None and len(inside) == 1:
            name = next(iter(inside))
        if name is not None:
            taken = [name, *(other for other in COMPANIONS if other in inside and other != name)]
            tensors = {
                f"{COMPANIONS.get(entry, '')}{key}": value
                for entry in taken
                for key, value in inside[entry].items()
                if isinstance(value, Tensor)
            }
            return Stored(tensors, " and ".join(map(str, taken)), tuple(str(key) for key in found if key not in taken))
    holds = f"{type(found).__name__} with {', '.join(map(str, list(found)[:5])) or 'nothing'}" if found else "nothing"
    raise UserError(f"{source} holds no state dict: it is a {holds if isinstance(found, Mapping) else type(found)}")


def tidy(tensors: Mapping[str, Tensor]) -> State:
    """The released code's own names: without DataParallel's ``module.`` anywhere, or a wrapper around everything."""
    state = {re.sub(r"(^|\.)module\.", r"\1", name): value for name, value in tensors.items()}
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What keeps ``state`` from filling ``own``, by names: ``it lacks a, b; it has unknown c``; "" where it fits."""
    # counters of BatchNorm's updates came later than many files and change no output
    misfits = {
        "lacks": sorted(key for key in own.keys() - state.keys() if not key.endswith("num_batches_tracked")),
        "has unknown": sorted(state.keys() - own.keys()),
        "has other shapes of": sorted(k for k in state.keys() & own.keys() if state[k].shape != own[k].shape),
    }
    return "; ".join(f"it {what} {few(keys, 3)}" for what, keys in misfits.items() if keys)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())


def _unsafe(path: Path, error: Exception) -> str:
    """What a file that is not tensors alone holds besides, where that can be told; else it is damaged."""
    try:
        objects = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # it reads zip files alone; the others' first object stands in the error
        objects = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
    if not objects:
        return DAMAGED.format(path, "damaged, or of another kind")
    return (
        f"checkpoint {path} holds Python objects beside tensors ({few(objects)}), and reading those could run code; "
        "where you trust it, load it yourself and save its state dict alone"
    )
