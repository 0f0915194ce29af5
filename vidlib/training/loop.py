"""The training loop, on episodes or on batches of labelled clips: one loop on Lightning Fabric for 1..N devices.

A batch is one episode, or some labelled clips. Before batch ``i`` every generator is seeded from (seed, i), so a
resumed run, and any rank, draws for batch ``i`` what an undisturbed run draws. The loss of a step is the mean over its
batches, on however many devices. Gradients are summed by one collective after the step's last batch, not by DDP's
hooks: shares may then be uneven, and a parameter that no batch used stays without a gradient everywhere, as on one
device. Running statistics of BatchNorms are put together likewise (``step.Statistics``). With ``together`` every
process has its part of each batch instead of whole ones, and a loss over all of it (``layers.gathering``).

A batch names the videos that did not decode and what took their places (``data.clips``); they are written with the
step in metrics.jsonl, whose lines a resumed run keeps or repeats with the steps themselves.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from vidlib.basics import paths
from vidlib.basics.devices import exchange, make_fabric
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.results import runs
from vidlib.results.runs import METRICS, STATE, WEIGHTS
from vidlib.training import checkpoints, reading
from vidlib.training.step import (
    BETAS,
    DECAYED,
    OPTIMIZERS,
    REMEDY,
    SCHEDULES,
    Share,
    Statistics,
    deterministic_kernels,
    gather,
    mean,
    measure,
    optimizers,
    rate_at,
    replaced,
    seed_everything,
    shares,
    sum_gradients,
    take_step,
)

KEEP_SECONDS = 300  # of training that a kill may cost


@dataclass(frozen=True)
class Fit:
    """How training ended: optimiser steps, the step whose weights were selected, its val accuracy (None: the last),
    seconds of the steps and, beside them, of the selections."""

    steps: int
    selected: int
    val_accuracy: float | None
    seconds: float
    selection_seconds: float = 0.0


def fit(
    method: nn.Module,
    source: Any,
    *,
    batches: int,
    lr: float,
    seed: int,
    folder: str | Path,
    batches_per_step: int = 1,
    optimizer: str = "adamw",
    weight_decay: float = 0.01,
    betas: Sequence[float] = BETAS,
    decayed: str = "matrices",
    layer_decay: float = 1.0,
    momentum: float = 0.9,
    arch_lr: float = 3e-3,
    warmup: float = 0.1,
    schedule: str = "cosine",
    milestones: Sequence[Sequence[float]] = (),
    query_sum: bool = False,
    clip_grad: float = 0.0,
    together: bool = False,
    device: str = "auto",
    precision: str = "auto",
    fabric: Fabric | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    val_every: int = 100,
    checkpoint_every: int = 50,
    deterministic: bool = False,
    workers: int = 0,
    unit: str = "episode",
    label: str = "training",
    note: Callable[[dict[str, Any]], None] | None = None,
) -> Fit:
    """Train ``method`` in place on ``source[0..batches-1]``: ``EpisodeBatch`` of one episode or ``LabelledBatch``.

    Goes on from ``folder``'s last checkpoint where there is one; ends with the selected weights in the method and in
    ``folder/checkpoint.safetensors``, and one line of ``metrics.jsonl`` per optimiser step.

    Args:
        batches_per_step: batches per optimiser step (the papers' "tasks per step"); the last step may have fewer.
        optimizer: "adamw", "adam" (with ``betas``) or "sgd" (with ``momentum``); ``lr`` is its peak rate.
        weight_decay: decoupled in "adamw", else added to the gradient. decayed: which parameters it acts on: "matrices"
            (not biases, norms, embeddings), "all but norms", "all but biases", "all".
        arch_lr: peak rate of the Adam that the parameters named by ``method.architecture`` have to themselves; it
            follows the same schedule.
        warmup: part of the steps in which the rate rises linearly; then ``schedule``: "cosine" to 0, "constant", or
            "steps": from each [place, factor] of ``milestones`` on, that part of the peak; a place below 1 is a share
            of the training, from 1 on it counts batches.
        query_sum: the gradient is that of an episode's loss times its queries: the sum over them that TRX's code and
            its descendants take. The record keeps the mean.
        clip_grad: largest norm of the gradient, 0 for no clipping.
        together: ``source[i]`` is this process's part of batch i, and a loss is that of the batch of all processes.
        fabric: a launched Fabric; default one on ``device`` with ``precision``.
        validate: accuracy on val, asked every ``val_every`` steps and at the end, by all processes together; the best
            weights win (the earlier of equals). Without it the last ones do.
        checkpoint_every: most optimiser steps between checkpoints, of which there is one after each selection and
            after ``KEEP_SECONDS``, too; it does not change the result.
        deterministic: deterministic kernels on a GPU. A CPU run repeats bit for bit with the same number of threads.
        unit: what a batch is called in metrics.jsonl and in errors, "episode" or "batch".
        note: is given each line of metrics.jsonl, by the process that writes it.

    Raises ``UserError`` where nothing can be trained, or a loss or gradient is not finite (it names the batch).
    """
    _check(method, batches, batches_per_step, optimizer, schedule, decayed)
    fabric = fabric or make_fabric(device, precision)
    scaling = fabric.strategy.precision
    folder, steps = Path(folder), math.ceil(batches / batches_per_step)
    settings = {"batches": batches, "batches_per_step": batches_per_step, "lr": lr, "weight_decay": weight_decay}
    settings |= {"warmup": warmup, "schedule": schedule, "clip_grad": clip_grad, "seed": seed}
    settings |= {
        "optimizer": optimizer,
        "betas": list(betas),
        "decayed": decayed,
        "momentum": momentum,
        "arch_lr": arch_lr,
        "layer_decay": layer_decay,
    }
    settings |= {"milestones": [list(map(float, pair)) for pair in milestones], "query_sum": query_sum}
    drops = shares(milestones, batches)

    method = fabric.to_device(scaling.convert_module(method))
    parameters = [p for p in method.parameters() if p.requires_grad]
    own = optimizers(method, optimizer, lr, weight_decay, momentum, decayed, arch_lr, layer_decay, betas)
    done, best, best_weights = _resume(fabric, folder, method, own, settings)
    share = Share(fabric, source, done + 1, steps, batches, batches_per_step, workers, together)
    parts = fabric.world_size if together else 1

    method.train()
    statistics, kept = Statistics(fabric, method, together), time.perf_counter()
    with deterministic_kernels(deterministic), reading.loading(workers):
        for step in track(range(done + 1, steps + 1), label, total=steps, start=done):
            began = time.perf_counter()
            last = min(step * batches_per_step, batches)
            count = last - (step - 1) * batches_per_step

            measured = []
            for number, batch in share.of_step(step):
                seed_everything(seed, number)
                with statistics.of(number):
                    with fabric.autocast():
                        match = method(batch)
                    measured.append(measure(match, batch, f"{unit} {number}") | replaced(batch, number))
                    loss = match.loss * batch.query.shape[1] if query_sum else match.loss
                    fabric.backward(loss / (count * parts))
            statistics.share()
            measured = gather(fabric, measured)
            lost = [line for each in measured for line in each.pop("replaced", ())]
            record = {"step": step, unit: last, **mean(measured), **({"replaced": lost} if lost else {})}

            sum_gradients(fabric, parameters)
            for each in own:
                scaling.unscale_gradients(each)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_grad or math.inf))
            if not math.isfinite(norm) and getattr(scaling, "scaler", None) is None:  # a loss scaler skips such a step
                raise UserError(f"the gradient of {unit} {last - count}..{last - 1} is not finite: {REMEDY}")
            rate = rate_at(step, steps, warmup, schedule, drops)
            for group in (group for each in own for group in each.param_groups):
                group["lr"] = group["peak"] * rate
            take_step(scaling, own, math.isfinite(norm))
            record |= {"lr": lr * rate, "grad_norm": norm if math.isfinite(norm) else None}
            record |= getattr(method, "watched", dict)()
            trained = time.perf_counter()
            record["seconds"] = round(trained - began, 6)

            if validate is not None and (step % val_every == 0 or step == steps):
                method.eval()
                accuracy = fabric.broadcast(float(validate(method)))
                method.train()
                record |= {"val_accuracy": accuracy, "selection_seconds": round(time.perf_counter() - trained, 6)}
                if best["accuracy"] is None or accuracy > best["accuracy"]:
                    best, best_weights = {"step": step, "accuracy": accuracy}, checkpoints.trainable_state(method)
            if fabric.is_global_zero:
                runs.append_line(folder / METRICS, record)
                if note:
                    note(record)
                late = "val_accuracy" in record or time.perf_counter() - kept > KEEP_SECONDS
                if late or step % checkpoint_every == 0 or step == steps:
                    paths.flush(folder / METRICS)  # before the state that counts on its lines
                    counters = {"step": step, "best": best, "settings": settings, "scaling": scaling.state_dict()}
                    checkpoints.save_state(folder / STATE, method, own, counters, best_weights)
                    kept = time.perf_counter()

    if best_weights:
        checkpoints.put_trainable(method, best_weights)
    selected = best["step"] if best_weights else steps
    if fabric.is_global_zero:
        meta = {"step": selected, "steps": steps, "val_accuracy": best["accuracy"], "settings": settings}
        checkpoints.save_trainable(method, folder / WEIGHTS, meta)
    fabric.barrier()
    method.eval()
    lines = runs.read_lines(folder / METRICS)
    spent = [sum(line.get(name, 0.0) for line in lines) for name in ("seconds", "selection_seconds")]
    return Fit(steps, selected, best["accuracy"], *spent)


def _check(method: nn.Module, batches: int, per_step: int, optimizer: str, schedule: str, decayed: str) -> None:
    for name, value, known in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("schedule", schedule, SCHEDULES),
        ("decayed", decayed, DECAYED),
    ):
        if value not in known:
            raise UserError(f"{name}: '{value}' is not one of {', '.join(known)}")
    if batches < 1 or per_step < 1:
        raise UserError(f"batches ({batches}) and batches_per_step ({per_step}) should be at least 1")
    if not any(p.requires_grad for p in method.parameters()):
        raise UserError(f"{type(method).__name__} has no trainable parameter: evaluate it without training")


def _resume(fabric: Fabric, folder: Path, method: nn.Module, optimizers: Sequence, settings: dict) -> tuple:
    """(steps done, best so far, its weights): from the last checkpoint, or the beginning. Later metrics lines go."""
    paths.check_ours(folder / STATE)
    with paths.writing(folder / STATE):
        folder.mkdir(parents=True, exist_ok=True)
    done, best, weights = 0, {"step": 0, "accuracy": None}, {}
    if (folder / STATE).is_file():
        counters, weights = checkpoints.load_state(folder / STATE, method, optimizers)
        if lost := [name for name in checkpoints.COUNTERS if name not in counters]:
            raise UserError(f"checkpoint {folder / STATE} lacks {', '.join(lost)}: {checkpoints.RESTART}")
        if counters["settings"] != settings:
            raise UserError(f"{folder / STATE} was written with settings {counters['settings']}: use another folder")
        done, best = counters["step"], counters["best"]
        fabric.strategy.precision.load_state_dict(counters["scaling"])
    if len(set(exchange(fabric, lambda: done))) > 1:
        raise UserError(f"{folder} is not the same for all processes: put runs on a disk that all nodes share")
    if fabric.is_global_zero:
        kept = runs.keep_lines(folder / METRICS, lambda line: line.get("step") in range(1, done + 1))
        if [line.get("step") for line in kept] != [*range(1, done + 1)]:
            raise UserError(
                f"{folder / METRICS} does not hold the steps 1 to {done} that {STATE} has done: put back a copy of it, "
                f"or delete {STATE} to train from the beginning"
            )
    return done, best, weights
