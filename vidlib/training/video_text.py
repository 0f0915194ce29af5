"""One run of a video-text method from its parameters: protocol, training, selection on val, test with its controls.

The counterpart of ``training`` for labelled clips: the same run folders, loop, resume and processes.
"""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from vidlib import backbones, methods
from vidlib.basics.devices import make_fabric, pick_precision, place
from vidlib.basics.digests import file_digest, folder_digest
from vidlib.basics.errors import UserError
from vidlib.data import prefetched, views
from vidlib.data.catalogue import benchmarks, official, used
from vidlib.data.clips import Clips
from vidlib.data.labelled import LabelledBatch, LabelledBatches
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import Plan
from vidlib.data.sentences import Sentences, vocabulary
from vidlib.data.transforms import ClipTransform
from vidlib.methods import VideoTextMethod, m2clip
from vidlib.params.video_text import VideoTextParams, VideoTextRunParams
from vidlib.results import cost as accounting
from vidlib.results import runs, trust
from vidlib.results.accuracy import Evaluation, harmonic
from vidlib.training import checkpoints, micro_batches, processes
from vidlib.training import step as stepping
from vidlib.training.evaluate_videos import recognise
from vidlib.training.loop import METRICS, STATE, WEIGHTS, Fit, fit
from vidlib.training.planning import open_plan, refuse_test_data

REPORTS = {"test": ("test", "novel"), "val": ("val", "val_novel")}  # what is reported -> splits: trained, new classes

COLOUR = {"jitter": 0.4, "hue": 0.1, "grey": 0.2}  # ActionCLIP's released amounts
OF_CLASSES = ("classifier.", "word_head.")  # what a run's own classes and words make


@dataclass
class Opened:
    """What a run works with; ``words`` are those that M2-CLIP masks."""

    plan: Plan
    method: VideoTextMethod
    words: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        return self.plan.manifest


def checked(params: VideoTextParams) -> VideoTextParams:
    """``params`` again, or a ``UserError`` of one sentence for what cannot work, before anything is built."""
    backbones.check(params.backbone, params.pretrained)
    for name in (params.dataset, params.test_dataset):
        if name.startswith(official.PREFIX):
            official.describe(name.removeprefix(official.PREFIX))
        elif name and not name.startswith(benchmarks.FOLDER):
            benchmarks.describe(name)
    if params.init:
        _weights(params.init)
    if isinstance(params, VideoTextRunParams):
        methods.check_video_text(params)
    return params


def open_run(params: VideoTextRunParams) -> Opened:
    """The protocol's videos and the untrained method; what is drawn at random follows from the seed."""
    planned = open_plan(params)
    manifest = planned.manifest
    stepping.seed_everything(params.seed, -1)
    backbone = backbones.load(params.backbone, params.pretrained)
    texts = [manifest.text(cls) for cls in manifest.classes("train")]
    words = vocabulary(texts, [params.options.get("template", m2clip.TEMPLATE)]) if params.method == "m2clip" else ()
    method = methods.build_video_text(params, backbone, classes=len(texts), vocabulary=len(words))
    if params.init:
        _start_from(method, _weights(params.init))
    return Opened(planned, method, words)


def _weights(init: str) -> Path:
    """The trained weights in a finished run's folder; UserError where there are none."""
    file = Path(init) / WEIGHTS
    if not file.is_file():
        raise UserError(f"init: {init} is no folder of a finished run: {file} is absent")
    return file


def _start_from(method: VideoTextMethod, file: Path) -> None:
    """Take trained weights of another run of the same method; what belongs to its classes alone stays as built."""
    stored, _ = checkpoints.read(file)
    own = checkpoints.trainable_state(method)
    fits = {name: value for name, value in stored.items() if name in own and value.shape == own[name].shape}
    left = [name for name in own if name not in fits and not name.startswith(OF_CLASSES)]
    if left:
        raise UserError(f"init: {file} does not fit {type(method).__name__}: it lacks {', '.join(left[:3])}, and so on")
    checkpoints.put_trainable(method, own | fits, source=str(file))


def open_batches(params: VideoTextRunParams, opened: Opened, part: tuple[int, int] = (0, 1)) -> LabelledBatches:
    """The training batches, augmented; ``part``: this process and how many there are."""
    method, manifest = opened.method, opened.manifest
    flip = not manifest.directional
    scale = (0.8, 1.0) if manifest.name in benchmarks.WORLDS else (0.5, 1.0)
    colour = COLOUR if params.colour == "strong" else {}
    operations = tuple(params.rand_augment) or None
    learn = ClipTransform(**_look(method), **colour, rand_augment=operations, train=True, flip=flip, scale=scale)
    test = ClipTransform(**_look(method), train=False)
    clips = Clips(manifest, "train", params.frames, learn, test, params.seed)
    texts = [manifest.text(cls) for cls in manifest.classes("train")]
    known = opened.words if method.masks_words else None
    sentences = Sentences(method.backbone.tokenize, texts, method.templates, params.seed, vocabulary=known)
    return LabelledBatches(clips, sentences, params.batch, params.seed, part=part, masks=method.masks_words)


def open_views(params: VideoTextParams, method: VideoTextMethod, manifest: Manifest, split: str) -> list[Clips]:
    """The test views of a split: one for val, as many as ``params`` ask for otherwise."""
    clips, crops = (1, 1) if split.startswith("val") else (params.test_clips, params.test_crops)
    return list(views.test_views(manifest, split, params.frames, clips, crops, _look(method)))


def _look(method: VideoTextMethod) -> dict[str, Any]:
    backbone = method.backbone
    return {"size": backbone.image_size, "mean": backbone.mean, "std": backbone.std}


def run(params: VideoTextRunParams) -> runs.Run:
    """Train, select on val, test with both controls: a finished run, reused where there is one."""
    if params.devices > 1 and not processes.is_child():
        processes.run_apart(params, "vidlib.training.video_text", params.devices)
        return recorded(params)
    fabric = make_fabric(params.device, params.precision)
    planned = open_plan(params)
    refuse_test_data(params, planned)
    identity = _identity(params, planned)
    record = runs.open_run(*identity, fresh=params.fresh) if fabric.is_global_zero else None
    folder, state = fabric.broadcast((record.folder, record.state) if record else None)
    if state == "finished":
        return record or runs.Run(folder, folder, state, None)
    with record or nullcontext():
        opened = open_run(params)
        micro_batches.split(opened.method, params.micro_batch)
        batches = open_batches(params, opened, (fabric.global_rank, fabric.world_size))
        done = _train(params, fabric, opened, batches, folder, record)
        if record is None:  # another process than the first: its part is done
            return runs.Run(folder, folder, "finished", None)
        result = _tested(params, fabric, opened, record)
        result |= {"fit": asdict(done) if done else None, "cost": _cost(opened.method, batches, fabric)}
        result |= {"unsettled": opened.method.unsettled(), "said": opened.plan.said, "overlap": opened.plan.overlap}
        result["coverage"] = used.record(opened.manifest, opened.plan.bases)
        result["replaced"] = trust.replaced(runs.read_lines(record.path(METRICS))) if done else []
        record.path(STATE).unlink(missing_ok=True)
        record.finish(result)
    return record


def recorded(params: VideoTextRunParams) -> runs.Run | None:
    """The finished run of ``params`` if there is one; nothing is run."""
    return runs.find(*_identity(params, open_plan(params)))


def open_trained(run: runs.Run) -> tuple[VideoTextRunParams, Opened]:
    """A finished run's parameters, videos and method, with its selected weights, in evaluation mode."""
    params = VideoTextRunParams.parse(run.params)
    opened = open_run(params)
    if run.path(WEIGHTS).is_file():
        checkpoints.load_trainable(opened.method, run.path(WEIGHTS))
    opened.method.eval()
    return params, opened


def _tested(params: VideoTextRunParams, fabric: Fabric, opened: Opened, record: runs.Run) -> dict[str, Any]:
    """The test split (or val) with its controls; of base_to_novel also the novel classes, and the harmonic mean."""
    result: dict[str, Any] = {}
    trained, novel = REPORTS[params.report]
    for split in (trained, novel):
        if split not in opened.manifest.splits or (split == novel and not opened.method.uses_text):
            continue
        found = recognise(
            opened.method, open_views(params, opened.method, opened.manifest, split), fabric=fabric, controls=True
        )
        for name, one in found.items():
            record.count_reading(params.report, f"{split} {name or 'report'}")
            key = f"{split}_{name}" if name else split
            one.save(record.path(f"{key}.npz"))
            result[key] = one.summary() | _by_standard_split(params, opened.manifest, one)
    if novel in result:
        result["harmonic"] = harmonic(result[trained]["accuracy"], result[novel]["accuracy"])
    return result


def _by_standard_split(params: VideoTextRunParams, manifest: Manifest, found: Evaluation) -> dict[str, Any]:
    """Of a test on a data set with several standard splits: top-1 on the test list of each, mean and deviation."""
    name = params.test_dataset.removeprefix(official.PREFIX)
    lists = official.test_lists(name) if name != params.test_dataset else {}
    if not lists:
        return {}
    ids = [row.video.partition(":")[2] for row in manifest.videos(found.split)]
    hits = {n: found.per_trial[[video in listed for video in ids]] for n, listed in lists.items()}
    each = {str(n): float(values.mean()) for n, values in hits.items() if len(values)}
    return {
        "standard_splits": each,
        "mean": float(np.mean(list(each.values()))),
        "deviation": float(np.std(list(each.values()))),
    }


def _train(
    params: VideoTextRunParams,
    fabric: Fabric,
    opened: Opened,
    batches: LabelledBatches,
    folder: Path,
    record: runs.Run | None,
) -> Fit | None:
    method = opened.method
    if params.epochs == 0 or not method.trainable():
        fabric.to_device(method)
        return None
    validate = None
    if params.select and (method.uses_text or params.protocol != "zero_shot"):
        val = open_views(params, method, opened.manifest, "val")

        def validate(trained: nn.Module) -> float:
            record.count_reading("val", "selection")
            return recognise(trained, val, fabric=fabric, label="val")[""].accuracy

    return fit(
        method,
        batches,
        episodes=params.epochs * batches.per_epoch,
        **fit_settings(params),
        fabric=fabric,
        folder=folder,
        validate=validate,
        val_every=max(1, params.val_every * batches.per_epoch // params.accumulate),
        label=f"{params.method} {params.ablation}".strip(),
    )


def fit_settings(params: VideoTextRunParams) -> dict[str, Any]:
    """The arguments of ``loop.fit`` that ``params`` mean, but for the number of batches."""
    same = ("lr", "weight_decay", "decayed", "layer_decay", "warmup", "clip_grad", "seed", "deterministic", "workers")
    return {"episodes_per_step": params.accumulate, "together": True} | {name: getattr(params, name) for name in same}


def _cost(method: VideoTextMethod, batches: LabelledBatches, fabric: Fabric) -> dict[str, Any]:
    """Parameters, GMACs of a clip, clips embedded per second, MiB at the peak of a training step."""
    total = accounting.parameters(method).loc[accounting.ALL]
    clip = place(fabric, batches[0].clips[:1])  # not one video's own: it may not decode
    with torch.no_grad(), fabric.autocast():
        speed = accounting.throughput(lambda: method.embed(clip), 1, seconds=0.5)
    cost = {"total": int(total["total"]), "trainable": int(total["trainable"]), "clips_per_second": speed}
    cost["gmacs"] = accounting.gmacs(method.embed, clip)
    cost["training_memory"] = None
    if method.trainable():
        batch: LabelledBatch = place(fabric, batches[0])

        def step() -> None:
            with fabric.autocast():
                outcome = method(batch)
            fabric.backward(outcome.loss)

        if fabric.world_size == 1:  # a step of several processes needs all of them
            cost["training_memory"] = accounting.peak_memory(step, holding=method)
            method.zero_grad(set_to_none=True)
    return cost


def _identity(params: VideoTextRunParams, planned: Plan) -> tuple[dict, dict, str | None, dict]:
    """What ``runs.open_run`` and ``runs.find`` want; paths among the parameters enter by their content."""
    determining = params.determining() | {"precision": pick_precision(params.precision, params.device)}
    other = {name: value for name, value in params if name not in determining}
    manifest = planned.manifest
    found = {f"split {name}": manifest.checksum(name) for name in manifest.splits}
    if note := prefetched.note(manifest.name):  # other frames than decoding gives
        found["frames"] = note
    for name in ("dataset", "test_dataset"):
        if determining[name].startswith(benchmarks.FOLDER):
            other[name] = determining.pop(name)
            found[name] = folder_digest(benchmarks.load(other[name]).root)
    if params.init:
        other["init"] = determining.pop("init")
        found["init"] = file_digest(_weights(params.init))
    if Path(params.pretrained).is_file():
        other["pretrained"] = determining.pop("pretrained")
        found["pretrained"] = file_digest(params.pretrained)
    return determining, other, params.runs or None, found


if __name__ == "__main__":
    processes.main(
        VideoTextRunParams, run, "torchrun -m vidlib.training.video_text --params FILE: one run of a parameter file."
    )
