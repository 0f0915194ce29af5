"""What one optimiser step of ``loop.fit`` needs: its learning rate, seeds, batches, sums over processes."""

import hashlib
import math
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Dataset

from vidlib.basics.devices import place
from vidlib.basics.errors import UserError
from vidlib.training import checkpoints

REMEDY = "try a lower lr, a longer warmup, clip_grad 1, or precision 32-true"
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant", "steps")
BLOCK = re.compile(r"(.*(?:resblocks|trunk\.blocks|adapters))\.(\d+)\.")  # towers, and adapters kept block by block
BEFORE_BLOCKS = re.compile(
    r"(.*clip\.(?:visual\.|text\.)?)(?:conv1|class_embedding|positional_embedding|token_embedding|ln_pre)\b"
    r"|(.*trunk\.)(?:patch_embed|cls_token|reg_token|pos_embed|rope|norm_pre)\b"  # timm's
)
DECAYED = ("matrices", "all but norms", "all but biases", "all")
BETAS = (0.9, 0.999)  # torch's
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
# What SloshNet's released code gives its architecture parameters beside arch_lr; DARTS's values.
ARCHITECTURE = {"betas": (0.5, 0.999), "weight_decay": 1e-3}


def rate_at(
    step: int, steps: int, warmup: float, schedule: str, milestones: Sequence[tuple[float, float]] = ()
) -> float:
    """Part of the peak learning rate in optimiser step ``step`` (from 1).

    A linear rise over ``warmup`` of the steps, then: "cosine" to 0, "constant", or "steps", where each (share, factor)
    of ``milestones``, in rising order, sets the factor once that share of all steps is done (1 before the first).
    """
    rise = round(warmup * steps)
    if step <= rise:
        return step / rise
    if schedule == "steps":
        return next((factor for share, factor in reversed(milestones) if step > round(share * steps)), 1.0)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - 1 - rise) / max(1, steps - rise)))


def shares(milestones: Sequence[Sequence[float]], batches: int) -> list[tuple[float, float]]:
    """``milestones`` [[place, factor], ...] with each place as a share of the training: below 1 it is one already, from
    1 on it counts batches. A ``UserError`` names what is out of order."""
    found = [(place if place < 1 else place / batches, factor) for place, factor in milestones]
    if any(place <= 0 or factor < 0 for place, factor in found) or found != sorted(found, key=lambda pair: pair[0]):
        raise UserError(
            f"milestones: {milestones} should be [place, factor] in rising order of places above 0, no factor below 0"
        )
    return found


def seed_everything(seed: int, batch: int) -> None:
    """Seed torch, numpy and random from (seed, batch): dropout and the like depend on nothing else."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {batch}".encode()).digest()[:4], "big")
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def optimizers(
    method: nn.Module,
    name: str,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    decayed: str = "matrices",
    arch_lr: float = 3e-3,
    layer_decay: float = 1.0,
    betas: Sequence[float] = BETAS,
) -> list[torch.optim.Optimizer]:
    """The optimiser ``name`` of the network, then Adam of the parameters that ``method.architecture`` names, if any.

    Weight decay is decoupled in "adamw" and part of the gradient in "adam" and "sgd"; ``momentum`` is "sgd"'s,
    ``betas`` are the others'. A group's ``peak`` is its highest learning rate.
    """
    ours = architecture(method)
    groups = parameter_groups(method, weight_decay, decayed, leave=ours, layer_decay=layer_decay)
    own = {"betas": tuple(betas)}
    kinds = {"adamw": (torch.optim.AdamW, own), "adam": (torch.optim.Adam, own)}
    kinds["sgd"] = (torch.optim.SGD, {"momentum": momentum})
    kind, options = kinds[name]
    found = [kind(groups, lr=lr, **options)] if groups else []
    if ours:
        found.append(torch.optim.Adam(list(ours.values()), lr=arch_lr, **ARCHITECTURE))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"] = group["lr"] * group.get("rate", 1.0)
    return found


def architecture(method: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, for those trained whose name is, or ends with a part that is, in ``method.architecture``; of
    the tower none, whatever it calls its own."""
    wanted = tuple(getattr(method, "architecture", ()))
    trained = checkpoints.trainable_parameters(method)
    own = {name: p for name, p in trained.items() if not name.startswith("backbone.")}
    return {name: p for name, p in own.items() if any(f".{name}".endswith(f".{part}") for part in wanted)}


def parameter_groups(
    method: nn.Module,
    weight_decay: float,
    decayed: str = "matrices",
    leave: Mapping[str, Any] | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups of those that decay and those that do not, without the parameters in ``leave``.

    decayed: "matrices" (vectors, scalars, embeddings and tokens do not), "all but norms" (biases and vectors decay too,
    scales and shifts of normalisation do not), "all but biases" (what is called so), or "all". ``method.rates`` (start
    of a name -> part of the learning rate, the longest start wins) divides them further, and so do the blocks of the
    towers and their adapters under ``layer_decay``: the last block has that part of the rate, each before it that part
    of the next one's, and what comes before the first block that of the first. A group's ``rate`` is its part.
    """
    tables = {id(p) for m in method.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    norms = {id(p) for m in method.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    rates = sorted(getattr(method, "rates", {}).items(), key=lambda pair: -len(pair[0]))
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    trained = checkpoints.trainable_parameters(method)
    below = _blocks_above([name for name, _ in method.named_parameters()])
    for name, p in trained.items():
        if name in (leave or ()):
            continue
        last = name.rsplit(".", 1)[-1]
        vector = p.ndim < 2 or id(p) in tables or "embed" in last or "token" in last
        kinds = {"matrices": vector, "all but norms": id(p) in norms, "all but biases": last == "bias", "all": False}
        spared = kinds[decayed]
        rate = next((rate for start, rate in rates if name.startswith(start)), 1.0) * layer_decay ** below.get(name, 0)
        found.setdefault((rate, spared), []).append(p)
    return [
        {"params": found[rate, spared], "weight_decay": 0.0 if spared else weight_decay, "rate": rate}
        for rate, spared in sorted(found, key=lambda key: (-key[0], key[1]))
    ]


def _blocks_above(names: Sequence[str]) -> dict[str, int]:
    """Name -> how many blocks of its tower lie from it to the tower's end, its own counted; the rest is not named."""
    stacks: dict[str, int] = {}
    numbered = {name: found for name in names if (found := BLOCK.match(name))}
    for stack, number in (found.groups() for found in numbered.values()):
        stacks[stack] = max(stacks.get(stack, 0), int(number) + 1)
    above = {name: stacks[found[1]] - int(found[2]) for name, found in numbered.items()}
    for name in names:
        if found := BEFORE_BLOCKS.match(name):
            stack = f"{found[1]}transformer.resblocks" if found[1] else f"{found[2]}blocks"
            if blocks := stacks.get(stack):
                above[name] = blocks + 1
    return above


def take_step(scaling: Any, optimizers: Sequence[torch.optim.Optimizer], finite: bool = True) -> None:
    """One step of every optimiser that has a gradient; a loss scaler is updated once, after the last of them. Where the
    norm of all gradients is not ``finite`` none steps: clipping has spread it to those of every optimiser."""
    scaler = getattr(scaling, "scaler", None)
    for optimizer in optimizers:
        if finite and any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            optimizer.step() if scaler is None else scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    if scaler is not None:
        scaler.update()


class Share:
    """This process's batches of every step, loaded ahead by ``workers`` processes, on the device in its precision.

    Of a step's batches, process r of n takes every n-th from the r-th on; shares may be uneven or empty. With
    ``together`` each takes all of them, ``source`` giving it its own part of every one.
    """

    def __init__(
        self,
        fabric: Fabric,
        source: Any,
        first: int,
        steps: int,
        batches: int,
        per_step: int,
        workers: int,
        together: bool = False,
    ):
        self.fabric = fabric
        start, stride = (0, 1) if together else (fabric.global_rank, fabric.world_size)
        self.numbers = {
            step: range((step - 1) * per_step + start, min(step * per_step, batches), stride)
            for step in range(first, steps + 1)
        }
        order = [number for share in self.numbers.values() for number in share]
        own = torch.Generator()  # else the loader draws from the global one
        loader = DataLoader(_Items(source), batch_size=None, sampler=order, num_workers=workers, generator=own)
        self.loaded = iter(loader)

    def of_step(self, step: int) -> Iterator[tuple[int, Any]]:
        """(number, batch) of this process's batches of ``step``; steps must be asked for in order."""
        for number in self.numbers[step]:
            yield number, place(self.fabric, next(self.loaded))


class _Items(Dataset):
    def __init__(self, source: Any):
        self.source = source

    def __getitem__(self, index: int) -> Any:
        return self.source[index]


def measure(match: Any, batch: Any, what: str) -> dict[str, float]:
    """The batch's loss, named losses and accuracy; a ``UserError`` names ``what`` has a loss that is not finite."""
    values = {"loss": match.loss, **{f"loss.{name}": value for name, value in match.losses.items()}}
    numbers = {name: float(value.detach()) for name, value in values.items()}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise UserError(f"{name} of {what} is {number}, not a finite number: {REMEDY}")
    hits = match.hits if hasattr(match, "hits") else match.logits.detach().argmax(-1) == batch.targets.query_labels
    return numbers | {"accuracy": float(hits.float().mean())}


def replaced(batch: Any, number: int) -> dict[str, list[dict[str, Any]]]:
    """Under "replaced", where there are any, the training videos of a batch that did not decode."""
    lost = getattr(batch, "replaced", ())
    return {"replaced": [{"episode": number, **each._asdict()} for each in lost]} if lost else {}


def gather(fabric: Fabric, measured: list[dict[str, float]]) -> list[dict[str, float]]:
    """The step's measures of all processes, in the order of the batches."""
    if fabric.world_size == 1:
        return measured
    parts: list[list] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(parts, measured)
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def sum_gradients(fabric: Fabric, parameters: list[nn.Parameter]) -> None:
    """Sum gradients over the processes, in place; a parameter that no process used keeps no gradient."""
    if fabric.world_size == 1:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=fabric.device)
    used = fabric.all_reduce(used, reduce_op="sum").tolist()
    flat = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="sum")
    for p, any_use, part in zip(parameters, used, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p) if any_use else None


class Statistics:
    """Running statistics of the BatchNorms that train, on several processes those of one that saw every batch.

    A batch moves them by ``r <- (1 - momentum)^k r + c``, where ``k`` counts its calls of the layer and ``c`` is what
    it leaves of zero. So each batch starts at zero here, and ``share`` puts together what all have left, in the order
    of the batches. With ``together`` a process sees a part of every batch, whose statistics are not the batch's: a
    ``UserError``.
    """

    def __init__(self, fabric: Fabric, method: nn.Module, together: bool = False) -> None:
        kinds = nn.modules.batchnorm._BatchNorm
        norms = [m for m in method.modules() if isinstance(m, kinds) and m.training and m.track_running_stats]
        if norms and together and fabric.world_size > 1:
            raise UserError(
                "devices: a BatchNorm is trained here, whose statistics are those of the whole batch, of which each "
                "device has a part; give devices 1"
            )
        self.fabric, self.norms = fabric, norms if fabric.world_size > 1 else []
        self.before, self.calls = self._read() if self.norms else (None, None)
        self.left: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # batch -> its c, and k of each layer

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Forward and backward pass of a batch."""
        if self.norms:
            self._put(torch.zeros_like(self.before), torch.zeros_like(self.calls))
        yield
        if self.norms:
            self.left[number] = self._read()

    def share(self) -> None:
        """All processes' batches of this step into the statistics."""
        if not self.norms:
            return
        every: list[dict] = [{}] * self.fabric.world_size
        torch.distributed.all_gather_object(every, self.left)
        left = {number: moved for each in every for number, moved in each.items()}
        widths = torch.tensor([2 * norm.num_features for norm in self.norms])
        momenta = torch.tensor([norm.momentum for norm in self.norms], dtype=torch.float64)
        for _, (moved, calls) in sorted(left.items(), key=lambda pair: pair[0]):
            kept = ((1 - momenta) ** calls).repeat_interleave(widths).to(self.before)
            self.before = kept * self.before + moved
            self.calls = self.calls + calls
        self._put(self.before, self.calls)
        self.left = {}

    def _read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of every layer behind each other, and how often each was called; on the CPU."""
        found = torch.cat([part for norm in self.norms for part in (norm.running_mean, norm.running_var)])
        return found.cpu(), torch.stack([norm.num_batches_tracked for norm in self.norms]).cpu()

    def _put(self, statistics: torch.Tensor, calls: torch.Tensor) -> None:
        places = iter(statistics.split([norm.num_features for norm in self.norms for _ in range(2)]))
        for norm, number in zip(self.norms, calls.tolist(), strict=True):
            norm.running_mean.copy_(next(places))
            norm.running_var.copy_(next(places))
            norm.num_batches_tracked.fill_(number)


def mean(measured: list[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every named number over the batches that have it."""
    names = list(dict.fromkeys(name for line in measured for name in line))
    values = {name: [line[name] for line in measured if name in line] for name in names}
    return {name: math.fsum(column) / len(column) for name, column in values.items()}


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Deterministic kernels inside, the former setting afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for before it repeats itself
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
