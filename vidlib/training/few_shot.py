"""One run from its parameters: train (``fit``), select on val, test once with both controls, in one run folder.

``torchrun -m vidlib.training.few_shot --params FILE`` does the same in several processes; ``run`` starts that where it
is asked for more than one device, so that no process is ever forked off a kernel.
"""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from vidlib.basics.devices import make_fabric, pick_precision, place
from vidlib.basics.digests import file_digest, folder_digest
from vidlib.basics.paths import atomic_write
from vidlib.data import prefetched
from vidlib.data.catalogue import benchmarks, used
from vidlib.data.episodes import EpisodeBatch
from vidlib.data.manifest import Manifest
from vidlib.methods import FewShotMethod, yours
from vidlib.params.few_shot import RunParams
from vidlib.results import cost as accounting
from vidlib.results import runs, trust
from vidlib.training import checkpoints, micro_batches, processes
from vidlib.training.evaluate_episodes import evaluate, evaluate_with_controls
from vidlib.training.loop import METRICS, STATE, WEIGHTS, Fit, fit
from vidlib.training.opening import Split, open_manifest, open_method, open_split

SOURCE = "method.py"  # a user's method, as it was when the run began


def run(params: RunParams) -> runs.Run:
    """Train, select on val, report on ``params.report`` with both controls: a finished run, reused where there is one.

    With ``devices`` > 1 the work is done by torchrun in processes of its own; none is started inside this one.
    """
    if params.devices > 1 and not processes.is_child():
        processes.run_apart(params, "vidlib.training.few_shot", params.devices)
        return recorded(params)
    manifest = open_manifest(params)
    if params.dataset not in benchmarks.WORLDS:
        trust.refuse_shared(manifest, contents=params.dataset.startswith(benchmarks.FOLDER))
    fabric = make_fabric(params.device, params.precision)
    record = runs.open_run(*_identity(params, manifest), fresh=params.fresh) if fabric.is_global_zero else None
    folder, state = fabric.broadcast((record.folder, record.state) if record else None)
    if state == "finished":
        return record or runs.Run(folder, folder, state, None)

    with record or nullcontext():
        method = micro_batches.split(open_method(params), params.micro_batch)
        if record and yours.is_file(params.method):
            _keep_source(params.method, record.path(SOURCE))
        train = open_split(params, manifest, method.backbone, "train")
        done = _train(params, manifest, fabric, method, train, folder, record)
        if record is None:  # another process than the first: its part is done
            return runs.Run(folder, folder, "finished", None)
        split = open_split(params, manifest, method.backbone, params.report)
        cost = _cost(method, split.clips.test(0), train.training(1)[0], fabric)
        result = {"fit": asdict(done) if done else None, "cost": cost, "unsettled": method.unsettled()}
        result["coverage"] = used.record(manifest)
        result["replaced"] = trust.replaced(runs.read_lines(record.path(METRICS))) if done else []
        listed = (split.clips, split.sampler, params.test_episodes, split.text)
        found = evaluate_with_controls(method, *listed, fabric=fabric)
        for name, evaluated in found.items():
            record.count_reading(params.report, name or "report")
            evaluated.save(record.path(f"{name or 'episodes'}.npz"))
            result[name or params.report] = evaluated.summary()
        record.path(STATE).unlink(missing_ok=True)
        record.finish(result)
    return record


def recorded(params: RunParams) -> runs.Run | None:
    """The finished run of ``params`` if there is one; nothing is run."""
    return runs.find(*_identity(params, open_manifest(params)))


def open_trained(run: runs.Run, manifest: Manifest, split: str = "val") -> tuple[FewShotMethod, Split]:
    """A finished run's method with its selected weights, in evaluation mode, and one split, opened as for the run."""
    params, method = trained_method(run)
    return method, open_split(params, manifest, method.backbone, split)


def trained_method(run: runs.Run) -> tuple[RunParams, FewShotMethod]:
    """A finished run's parameters and method with its selected weights, in evaluation mode."""
    params = RunParams.parse(run.params)
    if run.path(SOURCE).is_file():  # the user's file may have moved or changed since
        params = params.model_copy(update={"method": f"{run.path(SOURCE)}:{params.method.rpartition(':')[2]}"})
    method = open_method(params)
    if run.path(WEIGHTS).is_file():
        checkpoints.load_trainable(method, run.path(WEIGHTS))
    return params, method.eval()


def _identity(params: RunParams, manifest: Manifest) -> tuple[dict, dict, str | None, dict]:
    """What ``runs.open_run`` and ``runs.find`` want: determining parameters, the others, the folder, the digests.

    Paths among the determining ones enter by their content.
    """
    determining = params.determining() | {"precision": pick_precision(params.precision, params.device)}
    other = {name: value for name, value in params if name not in determining}
    found = {f"split {name}": manifest.checksum(name) for name in manifest.splits}
    if note := prefetched.note(manifest.name):  # other frames than decoding gives
        found["frames"] = note
    if params.dataset.startswith("folder:"):
        other["dataset"] = determining.pop("dataset")
        found["dataset"] = folder_digest(manifest.root)
    if Path(params.pretrained).is_file():
        other["pretrained"] = determining.pop("pretrained")
        found["pretrained"] = file_digest(params.pretrained)
    if yours.is_file(params.method):
        other["method"], determining["method"] = params.method, params.method.rpartition(":")[2]
        found["method"] = yours.digest(params.method)
    return determining, other, params.runs or None, found


def _keep_source(name: str, to: Path) -> None:
    with atomic_write(to) as part:
        part.write_bytes(yours.split(name)[0].read_bytes())


def _train(
    params: RunParams,
    manifest: Manifest,
    fabric: Fabric,
    method: FewShotMethod,
    train: Split,
    folder: Path,
    record: runs.Run | None,
) -> Fit | None:
    """Fit ``method`` as ``params`` say, selecting on val; None where there is nothing to train."""
    if params.train_episodes == 0 or not method.trainable():
        fabric.to_device(method)
        return None
    validate = None
    if params.val_episodes:
        val = open_split(params, manifest, method.backbone, "val")

        def validate(trained: nn.Module) -> float:
            record.count_reading("val", "selection")
            return evaluate(trained, val.clips, val.sampler, params.val_episodes, val.text, fabric=fabric).accuracy

    return fit(
        method,
        train.training(params.train_episodes),
        **fit_settings(params),
        fabric=fabric,
        folder=folder,
        validate=validate,
        val_every=max(1, params.val_every // params.episodes_per_step),
        label=f"{params.method.rpartition(':')[2]} {params.ablation}".strip(),  # of a user's method its class
    )


def fit_settings(params: RunParams) -> dict[str, Any]:
    """The arguments of ``loop.fit`` that ``params`` mean."""
    same = ("episodes_per_step", "lr", "optimizer", "weight_decay", "decayed", "momentum", "arch_lr", "warmup")
    same += ("schedule", "milestones", "query_sum", "clip_grad", "seed", "deterministic", "workers")
    return {"episodes": params.train_episodes} | {name: getattr(params, name) for name in same}


def _cost(method: FewShotMethod, clip: Tensor, batch: EpisodeBatch, fabric: Fabric) -> dict[str, Any]:
    """Parameters, GMACs of a query clip [T C H W], clips embedded per second, MiB at the peak of a training episode."""
    total = accounting.parameters(method).loc[accounting.ALL]
    clip = place(fabric, clip)[None]
    with torch.no_grad(), fabric.autocast():
        speed = accounting.throughput(lambda: method.embed(clip, None, "query"), 1, seconds=0.5)
    cost = {"total": int(total["total"]), "trainable": int(total["trainable"]), "clips_per_second": speed}
    cost["gmacs"] = accounting.gmacs(method.embed, clip, None, "query")
    cost["training_memory"] = None
    if method.trainable():
        batch = place(fabric, batch)

        def episode() -> None:
            with fabric.autocast():
                match = method(batch)
            fabric.backward(match.loss)

        cost["training_memory"] = accounting.peak_memory(episode, holding=method)
        method.zero_grad(set_to_none=True)
    return cost


if __name__ == "__main__":
    processes.main(RunParams, run, "torchrun -m vidlib.training.few_shot --params FILE: one run from a parameter file.")
