"""Runs of ActionCLIP and M2-CLIP: from parameters to the protocol's videos, method and batches; what ``run`` does on
labelled clips.

``torchrun -m vidlib.training.video_text --params FILE`` does a run in several processes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from vidlib import backbones, methods
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, official, readable
from vidlib.data.clips import Clips, Views, test_views
from vidlib.data.labelled import LabelledBatch, LabelledBatches, Sentences, vocabulary
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import Plan, plan
from vidlib.data.transforms import ClipTransform
from vidlib.methods import VideoTextMethod
from vidlib.params.video_text import VideoTextParams, VideoTextRunParams
from vidlib.results import runs, trust
from vidlib.results.accuracy import Evaluation, harmonic
from vidlib.training import across, processes, tracking
from vidlib.training import run as running
from vidlib.training.evaluate_videos import recognise
from vidlib.training.step import seed_everything

LEAST = 3  # videos of a class that a protocol can divide into train, val and test
REPORTS = {"test": ("test", "novel"), "val": ("val", "val_novel")}  # what is reported -> splits: trained, new classes

CROPS: dict[str, dict[str, Any]] = {  # of training pictures; the last three as the released codes have them
    "area": {"scale": (0.5, 1.0)},
    "wide area": {"scale": (0.08, 1.0)},
    "short side": {"scale": None, "stretch": 1.15},
    "multi-scale": {"multi_scale": (1, 0.875, 0.75, 0.66), "interpolation": InterpolationMode.BILINEAR},
}
COLOUR = {"jitter": 0.4, "hue": 0.1, "grey": 0.2}  # ActionCLIP's released amounts, but for saturation (0.2 there)


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
    paths.check_writable(params.runs or paths.runs_dir(), "runs", folder=True)
    tracking.check(params.track)
    backbones.check(params.backbone, params.pretrained)
    for name in (params.dataset, params.test_dataset):
        if name.startswith(official.PREFIX):
            official.describe(name.removeprefix(official.PREFIX))
        elif name and not name.startswith(benchmarks.FOLDER):
            benchmarks.describe(name)
    if params.init:
        across.weights(params.init)
    if isinstance(params, VideoTextRunParams):
        methods.check(params)
    return params


def open_run(params: VideoTextRunParams, planned: Plan | None = None) -> Opened:
    """The protocol's videos and the untrained method; what is drawn at random follows from the seed."""
    planned = planned or open_plan(params)
    manifest = planned.manifest
    seed_everything(params.seed, -1)
    backbone = backbones.load(params.backbone, params.pretrained)
    texts = [manifest.text(cls) for cls in manifest.classes("train")]
    sentence = methods.find(params.method).SENTENCE
    words = vocabulary(texts, [params.options.get("template", sentence)]) if sentence else ()
    facts = methods.taken(params.method, classes=len(texts), vocabulary=len(words))
    method = methods.build(params, backbone, **facts)
    if params.init:
        across.start(method, params.init)
    return Opened(planned, method, words)


def open_batches(params: VideoTextRunParams, opened: Opened, part: tuple[int, int] = (0, 1)) -> LabelledBatches:
    """The training batches, augmented; ``part``: this process and how many there are."""
    method, manifest = opened.method, opened.manifest
    flip = not manifest.directional
    crop = CROPS[params.crop]
    if params.crop == "area" and params.dataset in benchmarks.WORLDS:  # there a place can tell the class
        crop = {"scale": (0.8, 1.0)}
    colour = COLOUR if params.colour == "strong" else {}
    operations = tuple(params.rand_augment) or None
    test = ClipTransform(**test_look(params, method), train=False)
    learn = ClipTransform(**_look(method), **colour, **crop, rand_augment=operations, train=True, flip=flip)
    clips = Clips(manifest, "train", params.frames, learn, test, params.seed)
    texts = [manifest.text(cls) for cls in manifest.classes("train")]
    known = opened.words if method.masks_words else None
    sentences = Sentences(method.backbone.tokenize, texts, method.templates, params.seed, vocabulary=known)
    return LabelledBatches(clips, sentences, params.batch, params.seed, part=part, masks=method.masks_words)


def open_views(params: VideoTextParams, method: VideoTextMethod, manifest: Manifest, split: str) -> list[Clips]:
    """The test views of a split: one for val, as many as ``params`` ask for otherwise."""
    clips, crops = (1, 1) if split.startswith("val") else (params.test_clips, params.test_crops)
    return list(test_views(manifest, split, params.frames, clips, crops, test_look(params, method)))


def test_look(params: VideoTextParams, method: VideoTextMethod) -> dict[str, Any]:
    """Arguments of ``ClipTransform`` for a test video, but for train and place; UserError where the crop is larger."""
    size = method.backbone.image_size
    if params.test_resize and params.test_resize < size:
        raise UserError(
            f"test_resize: {params.test_resize} pixels are less than the {size} of the crop that {params.backbone} "
            "takes; give at least that many, or 0"
        )
    return _look(method) | {"resize": params.test_resize or None}


def _look(method: VideoTextMethod) -> dict[str, Any]:
    backbone = method.backbone
    return {"size": backbone.image_size, "mean": backbone.mean, "std": backbone.std}


def open_plan(params: VideoTextParams) -> Plan:
    """The videos of the data set(s), as the protocol divides them; what it tests and chooses on without the videos that
    cannot be read, which the manifest's note names."""
    bases = [
        _manifest(name, split)
        for name, split in ((params.dataset, params.official_split), (params.test_dataset, 0))
        if name
    ]
    made = plan(
        bases[0],
        params.protocol,
        train_per_class=params.train_per_class,
        seed=params.seed,
        other=bases[1] if params.test_dataset else None,
        remove_overlap=params.remove_overlap,
        select=params.select,
    )
    manifest = replace(made.manifest, left_out={})  # the data sets' own: their splits are others
    if not {params.dataset, params.test_dataset} <= {"", *benchmarks.WORLDS}:
        held = [split for split in manifest.splits if split != "train"]
        manifest = readable.keep(manifest, held, {base.name: Path(base.root) for base in bases})
    lost = f" Without {len(manifest.left_out)} that cannot be read." if manifest.left_out else ""
    return replace(made, manifest=manifest, said=made.said + lost, bases=tuple(bases))


def _manifest(dataset: str, split: int) -> Manifest:
    if dataset.startswith(official.PREFIX):
        return official.load(dataset.removeprefix(official.PREFIX), split)
    manifest = benchmarks.load(dataset, need=(LEAST, 1))
    return manifest.keep_readable() if dataset.startswith(benchmarks.FOLDER) else manifest


def refuse_test_data(params: VideoTextParams, planned: Plan) -> None:
    """UserError where a test video would be trained or selected on, by this run or by that of ``params.init``."""
    names = {params.dataset, params.test_dataset} - {""}
    if not names <= set(benchmarks.WORLDS):
        trust.refuse_shared(planned.manifest, contents=any(name.startswith(benchmarks.FOLDER) for name in names))
    if params.init:
        reopen = lambda earlier: open_plan(earlier).manifest  # noqa: E731
        across.refuse_start(params.init, VideoTextRunParams, reopen, planned.manifest)


# ---------------------------------------------------------------- runs


class LabelledClips(running.Work):
    """A run on labelled clips; ``planned`` is what the protocol made of the data."""

    MODULE, UNIT, TOGETHER = "vidlib.training.video_text", "batch", True

    def __init__(self, params: VideoTextRunParams, planned: Plan):
        super().__init__(params, planned.manifest)
        self.planned = planned

    @property
    def bases(self) -> tuple[Manifest, ...]:
        return self.planned.bases

    def refuse_test_data(self) -> None:
        refuse_test_data(self.params, self.planned)

    def build(self) -> VideoTextMethod:
        self.opened = open_run(self.params, self.planned)
        return self.opened.method

    def source(self, method: nn.Module, part: tuple[int, int]) -> LabelledBatches:
        return open_batches(self.params, self.opened, part)

    def fit_settings(self) -> dict[str, Any]:
        same = (
            "lr",
            "weight_decay",
            "betas",
            "decayed",
            "layer_decay",
            "warmup",
            "clip_grad",
            "seed",
            "deterministic",
            "workers",
        )
        return {"batches_per_step": self.params.accumulate} | {name: getattr(self.params, name) for name in same}

    def length(self, source: LabelledBatches) -> tuple[int, int]:
        each = source.per_epoch
        return self.params.epochs * each, self.params.val_every * each // self.params.accumulate

    def validation(self, method: nn.Module, fabric: Fabric) -> Callable[[nn.Module], float] | None:
        if not self.params.select or (self.params.protocol == "zero_shot" and not method.uses_text):
            return None
        val = Views(open_views(self.params, method, self.manifest, "val"))
        workers = self.params.workers
        return lambda trained: recognise(trained, val, fabric=fabric, label="val", workers=workers)[""].accuracy

    def probe(self, method: nn.Module, batch: LabelledBatch) -> tuple[running.Embed, Tensor]:
        return method.embed, batch.clips[:1]  # not one video's own: it may not decode

    def test(self, method: nn.Module, fabric: Fabric, record: runs.Run | None) -> dict[str, Any]:
        """Of base_to_novel also the novel classes, and the harmonic mean."""
        params, manifest = self.params, self.manifest
        result: dict[str, Any] = {"said": self.planned.said, "overlap": self.planned.overlap}
        trained, novel = REPORTS[params.report]
        for split in (trained, novel):
            if split not in manifest.splits or (split == novel and not method.uses_text):
                continue
            test_views = open_views(params, method, manifest, split)
            evaluated = recognise(method, test_views, fabric=fabric, controls=True, workers=params.workers)
            for name, tested in evaluated.items():
                key = f"{split}_{name}" if name else split
                if record:
                    record.count_reading(params.report, f"{split} {name or 'report'}")
                    tested.save(record.path(f"{key}.npz"))
                result[key] = tested.summary() | by_standard_split(params, manifest, tested)
        if novel in result:
            result["harmonic"] = harmonic(result[trained]["accuracy"], result[novel]["accuracy"])
        return result


def by_standard_split(params: VideoTextRunParams, manifest: Manifest, found: Evaluation) -> dict[str, Any]:
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


def work(params: VideoTextRunParams, planned: Plan | None = None) -> LabelledClips:
    """The run that ``params`` name, not yet done; ``planned`` where ``open_plan`` has opened it already."""
    return LabelledClips(params, planned or open_plan(params))


def run(params: VideoTextRunParams, planned: Plan | None = None) -> runs.Run:
    """Train, select on val, test with both controls: a finished run, reused where there is one."""
    return running.run(work(params, planned))


def recorded(params: VideoTextRunParams, planned: Plan | None = None) -> runs.Run | None:
    """The finished run of ``params`` if there is one; nothing is run."""
    return running.recorded(work(params, planned))


def videos(params: VideoTextRunParams, planned: Plan | None = None) -> int:
    """How many videos training goes through."""
    return params.epochs * len((planned or open_plan(params)).manifest.videos("train")) if params.epochs else 0


def open_trained(run: runs.Run) -> tuple[VideoTextRunParams, Opened]:
    """A finished run's parameters, videos and method, with its selected weights, in evaluation mode."""
    params = VideoTextRunParams.parse(run.params)
    opened = open_run(params)
    running.put_trained(opened.method, run)
    return params, opened


if __name__ == "__main__":
    about = "torchrun -m vidlib.training.video_text --params FILE: one run from a parameter file."
    processes.main(VideoTextRunParams, work, running.run, about)
