"""Device and precision, chosen or given: the one place where a Fabric is made."""

import atexit
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.precision import DoublePrecision
from torch import nn

from vidlib.basics.errors import UserError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
Found = TypeVar("Found")


def pick_device(device: str = "auto") -> str:
    """``auto`` is the first of cuda, mps and cpu that is there; anything else must be there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(device):
        have = ", ".join(name for name, present in there.items() if present)
        raise UserError(f"device: '{device}' is not on this machine; it has {have} (or give 'auto')")
    return device


def pick_precision(precision: str = "auto", device: str = "auto") -> str:
    """``auto`` is bf16-mixed on a CUDA device that computes in it, else 32-true."""
    if precision == "auto":
        fast = pick_device(device) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if fast else "32-true"
    if precision not in PRECISIONS:
        raise UserError(f"precision: '{precision}' is not one of auto, {', '.join(PRECISIONS)}")
    return precision


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """A launched Fabric on one device, or on this process's share of the devices where torchrun started us.

    Fabric gives the device, the autocast context, loss scaling and the collectives; processes are only ever started by
    torchrun, on one node or several with as many processes each, never from inside a kernel. Without torchrun one
    process is one process: what a batch system (Slurm, LSF, MPI) says of the allocation around it makes it no rank of
    several.
    """
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    everywhere, here = (int(os.environ.get(name, 1)) if torchrun else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if everywhere % here:
        raise UserError(f"torchrun: {here} processes on this node of {everywhere} in all; give every node as many")
    fabric = Fabric(
        accelerator=pick_device(device),
        devices=here,
        num_nodes=everywhere // here,
        strategy="ddp" if everywhere > 1 else "auto",
        precision=pick_precision(precision, device),
        plugins=[TorchElasticEnvironment() if torchrun else LightningEnvironment()],
    )
    first = not torch.distributed.is_initialized()
    fabric.launch()
    if first and torch.distributed.is_initialized():
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """Leave the process group before the interpreter ends: gloo's threads, still running then, abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def exchange(fabric: Fabric, work: Callable[[], Found]) -> list[Found]:
    """What ``work()`` gives on every process, in their order; a ``UserError`` of any of them is raised on all.

    Every process must get here: so none waits for one that has given up.
    """
    if fabric.world_size == 1:
        return [work()]
    try:
        found: tuple[Any, str] = (work(), "")
    except UserError as error:
        found = (None, str(error))
    every: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(every, found)
    if said := next((sentence for _, sentence in every if sentence), ""):
        raise UserError(said)
    return [value for value, _ in every]


def agree(fabric: Fabric, work: Callable[[], Found]) -> Found:
    """``work()`` of this process, once no process has a ``UserError`` to tell (``exchange``)."""
    own: list[Found] = []
    exchange(fabric, lambda: own.append(work()))
    return own[0]


def place(fabric: Fabric, batch: Any) -> Any:
    """``batch`` (tensors, dataclasses or collections of them) on the device; in float64 where the run is.

    In mixed precision it stays float32: autocast rounds what it multiplies, class texts keep their digits.
    """
    batch = fabric.to_device(batch)
    precision = fabric.strategy.precision
    return precision.convert_input(batch) if isinstance(precision, DoublePrecision) else batch


def ready(fabric: Fabric, module: nn.Module) -> nn.Module:
    """``module`` on the device, in the precision, in evaluation mode."""
    return fabric.to_device(fabric.strategy.precision.convert_module(module)).eval()
