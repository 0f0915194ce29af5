"""What a run is, whatever its data: an identity, a folder, training, selection on val, one test with its controls.

``few_shot`` and ``video_text`` say what differs between episodes and labelled clips, each as one subclass of ``Work``.
With ``devices`` > 1 torchrun does the work in processes of its own, so that none is ever forked off a kernel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib import backbones, methods
from vidlib.basics.devices import agree, exchange, make_fabric, pick_precision, place, ready
from vidlib.basics.digests import digest, file_digest, folder_digest
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.data import prefetched, protocols
from vidlib.data.catalogue import benchmarks, used
from vidlib.data.manifest import Manifest
from vidlib.methods import yours
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost, runs, trust
from vidlib.results.identity import Identity, code_digest
from vidlib.training import across, checkpoints, compiling, memory, micro_batches, processes, reading
from vidlib.training.loop import METRICS, WEIGHTS, Fit, fit
from vidlib.training.tracking import Tracker

AnyParams = RunParams | VideoTextRunParams
SOURCE = "method.py"  # a user's method, as it was when the run began
RESOLVED = ("options", "ablation", "shot_rule")  # they enter an identity as the constructor arguments that they mean
RESOLVED += ("texts",)  # and this file as what it says of each class
Embed = Callable[[Tensor], Any]  # clips [B T C H W] -> what the method makes of them


class Work(ABC):
    """One run to be done: its parameters, and its videos, opened once.

    ``MODULE`` is what torchrun starts; ``UNIT`` what a training batch is called; ``TOGETHER``: every process has a part
    of each batch, not batches of its own.
    """

    MODULE: ClassVar[str]
    UNIT: ClassVar[str]
    TOGETHER: ClassVar[bool]

    def __init__(self, params: AnyParams, manifest: Manifest):
        self.params, self.manifest = params, manifest

    @property
    def bases(self) -> tuple[Manifest, ...]:
        """The data sets that a protocol made the manifest of."""
        return ()

    def contents(self) -> Mapping[str, Path]:
        """Further parameters that name files or folders, each by what it names."""
        return {"init": across.weights(self.params.init)} if self.params.init else {}

    def digests(self) -> Mapping[str, str]:
        """Further digests of what is read."""
        return {}

    def remarks(self) -> Mapping[str, Any]:
        """What the record says besides."""
        return {}

    @abstractmethod
    def refuse_test_data(self) -> None:
        """UserError where a test video would be trained or selected on."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained method; what is drawn at random follows from the seed."""

    @abstractmethod
    def source(self, method: nn.Module, part: tuple[int, int]) -> Any:
        """The training batches; ``part``: this process and how many there are."""

    @abstractmethod
    def fit_settings(self) -> dict[str, Any]:
        """The arguments of ``loop.fit`` that the parameters mean, but for the number of batches."""

    @abstractmethod
    def length(self, source: Any) -> tuple[int, int]:
        """Training batches, and optimiser steps between selections."""

    @abstractmethod
    def validation(self, method: nn.Module, fabric: Fabric) -> Callable[[nn.Module], float] | None:
        """What gives the accuracy on val; None where nothing is selected."""

    @abstractmethod
    def probe(self, method: nn.Module, batch: Any) -> tuple[Embed, Tensor]:
        """How the method embeds test clips, and one clip [1 T C H W] of ``batch``."""

    @abstractmethod
    def test(self, method: nn.Module, fabric: Fabric, record: runs.Run | None) -> dict[str, Any]:
        """The reported splits with their controls, by all processes: the one with the ``record`` writes every trial
        into the run's folder; summaries for result.json."""


def run(work: Work) -> runs.Run:
    """Train, select on val, test once with both controls: a finished run, reused where there is one."""
    params = work.params
    if params.devices > 1 and not processes.is_child():
        processes.run_apart(params, work.MODULE, params.devices)
        return processes.found(recorded(work))
    fabric = make_fabric(params.device, params.precision)
    agree(fabric, work.refuse_test_data)
    first = fabric.is_global_zero  # it alone owns and writes the folder, on a disk that all nodes share
    own = agree(fabric, lambda: identity(work))
    if len(set(exchange(fabric, lambda: own.id))) > 1:
        raise UserError(
            f"{params.method}: the processes do not see the same data, weights or code; put all of it on a disk that "
            "all nodes share, and see to a disk or network that fails now and then"
        )
    record = agree(fabric, lambda: runs.open_run(own, fresh=params.fresh) if first else None)
    folder, state = fabric.broadcast((record.folder, record.state) if record else None)
    if state == "finished":
        return record or runs.Run(folder, folder, state, None)
    with record or nullcontext(), Tracker(params.track, record) as tracker:
        method = agree(fabric, lambda: _built(work, fabric))
        if record and yours.is_file(params.method):
            with atomic_write(record.path(SOURCE)) as part:
                part.write_bytes(yours.split(params.method)[0].read_bytes())
        source = agree(fabric, lambda: work.source(method, (fabric.global_rank, fabric.world_size)))
        try:
            trained = _train(work, fabric, method, source, folder, record, tracker)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"a training step does not fit into the memory of {fabric.device}: give a micro_batch of a few videos, "
                f"fewer frames, precision bf16-mixed, or a smaller tower ({str(error).splitlines()[0]})"
            ) from None
        tested = work.test(method, fabric, record)
        reading.release()
        if record is None:  # another process than the first: its part is done
            return runs.Run(folder, folder, "finished", None)
        result = {"fit": asdict(trained) if trained else None, "cost": _cost(work, method, source[0], fabric)}
        result |= {"unsettled": method.unsettled(), "coverage": used.record(work.manifest, work.bases)}
        result |= work.remarks()
        result["replaced"] = trust.replaced(runs.read_lines(record.path(METRICS))) if trained else []
        uses = {"train": "train" if trained else "", "selection": "val" if _selected(trained) else ""}
        uses |= {split: split for split in tested if split in work.manifest.splits}
        files = [WEIGHTS] if trained else []
        files += [runs.trials(name, found, params.report) for name, found in tested.items() if _is_test(found)]
        if params.compile:
            result["cost"]["compiled"] = compiling.counts()
        result |= {"labels": protocols.labelled(work.manifest, uses)} | tested
        tracker.finish(result)
        record.finish(result, files)
    return record


def recorded(work: Work) -> runs.Run | None:
    """The finished run of ``work`` if there is one; nothing is run."""
    return runs.find(identity(work))


def identity(work: Work) -> Identity:
    """What determines the result of ``work``: values, the source that computes, and by content whatever is read."""
    params, manifest = work.params, work.manifest
    determining = params.determining() | {"precision": pick_precision(params.precision, params.device)}
    files = {name: benchmarks.load(value).root for name, value in determining.items() if _is_folder(name, value)}
    files |= {"pretrained": file} if (file := backbones.weights_file(params.backbone, params.pretrained)) else {}
    files |= work.contents()
    contents = {name: (folder_digest if Path(path).is_dir() else file_digest)(path) for name, path in files.items()}
    contents |= {f"split {name}": manifest.checksum(name) for name in manifest.splits}
    contents |= work.digests()
    sources = dict.fromkeys(manifest.source(split) for split in manifest.splits)
    for name in sources:
        if note := prefetched.note(name):  # other frames than decoding gives
            contents["frames" if name == manifest.name else f"frames {name}"] = note
    method = methods.source_file(params.method)
    if yours.is_file(params.method):
        contents["method"] = file_digest(method)
    contents["source"] = code_digest(method)
    values = {name: value for name, value in determining.items() if name not in {*files, *RESOLVED}}
    values["method"] = params.method.rpartition(":")[2]  # of a user's file its class
    values["arguments"] = _plain(methods.arguments(params))
    values["directional"] = manifest.directional
    contents["texts"] = digest(
        {name: {c: manifest.texts(c) for c in manifest.classes(name)} for name in manifest.splits}
    )
    recorded = params.model_dump() | {"precision": determining["precision"]}
    return Identity(values["method"], values, contents, recorded, params.runs or None)


def _built(work: Work, fabric: Fabric) -> nn.Module:
    """The untrained method, compiled and in micro-batches where the parameters say so."""
    method = compiling.compiled(work.build(), work.params.compile, fabric.device.type)
    return micro_batches.split(method, work.params.micro_batch)


def _is_test(found: Any) -> bool:
    return isinstance(found, Mapping) and "checksum" in found


def _is_folder(name: str, value: Any) -> bool:
    return name in ("dataset", "test_dataset") and value.startswith(benchmarks.FOLDER)


def _plain(value: Any) -> Any:
    """As JSON has it: tuples are lists."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def put_trained(method: nn.Module, run: runs.Run) -> nn.Module:
    """``method`` with a finished run's selected weights, in evaluation mode."""
    if run.path(WEIGHTS).is_file():
        checkpoints.load_trainable(method, run.path(WEIGHTS))
    return method.eval()


def _train(
    work: Work,
    fabric: Fabric,
    method: nn.Module,
    source: Any,
    folder: Path,
    record: runs.Run | None,
    tracker: Tracker,
) -> Fit | None:
    """Fit ``method`` as the parameters say, selecting on val; None where there is nothing to train."""
    batches, val_every = work.length(source)
    if batches == 0 or not method.trainable():
        fabric.to_device(method)
        return None
    select = work.validation(method, fabric)

    def validate(trained: nn.Module) -> float:
        if record:
            record.count_reading("val", "selection")
        return select(trained)

    params = work.params
    name = f"{params.method.rpartition(':')[2]} {params.ablation}".strip()
    where = {"fabric": fabric, "folder": folder, "unit": work.UNIT, "together": work.TOGETHER, "label": name}
    where["note"] = tracker.log
    when = {"validate": validate if select else None, "val_every": max(1, val_every)}
    settings = work.fit_settings()
    at_once = batches if work.TOGETHER else min(batches, settings.get("batches_per_step", 1))
    if record and fabric.world_size > at_once:
        print(f"of {fabric.world_size} devices {at_once} train, one per {work.UNIT} of a step; all select and test")
    return fit(method, source, batches=batches, **settings, **where, **when)


def _selected(trained: Fit | None) -> bool:
    return trained is not None and trained.val_accuracy is not None


def _cost(work: Work, method: nn.Module, batch: Any, fabric: Fabric) -> dict[str, Any]:
    """Parameters; GMACs of a clip and clips embedded per second, in evaluation mode; MiB at the peak of a training step
    (``memory.of_training``), None where nothing is trained. The method is in evaluation mode afterwards."""
    method = ready(fabric, method)
    total = cost.parameters(method).loc[cost.ALL]
    batch = place(fabric, batch)
    embed, clip = work.probe(method, batch)
    with torch.no_grad(), fabric.autocast():
        speed = cost.throughput(partial(embed, clip), 1, seconds=0.5)
    measured = {"total": int(total["total"]), "trainable": int(total["trainable"]), "clips_per_second": speed}
    measured |= {"gmacs": cost.gmacs(embed, clip), "training_memory": None, "optimizer_memory": None}
    if method.trainable() and not (work.TOGETHER and fabric.world_size > 1):  # such a step needs all processes
        taken = memory.of_training(method, batch, fabric, work.fit_settings())
        measured |= dict(zip(("training_memory", "optimizer_memory"), taken, strict=True))
    return measured
