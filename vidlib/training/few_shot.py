"""Few-shot runs: from parameters to manifest, backbone, method and splits; what ``run`` does on episodes.

``checked`` finds out in a few seconds what cannot work, before anything is rendered, decoded or built.
``torchrun -m vidlib.training.few_shot --params FILE`` does a run in several processes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib import backbones, methods
from vidlib.backbones import Backbone
from vidlib.basics import paths, progress
from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.data.catalogue import benchmarks, readable
from vidlib.data.clips import ROLES, Clips
from vidlib.data.crossed import Crossed
from vidlib.data.episodes import EpisodeBatch, EpisodeDataset, EpisodeSampler
from vidlib.data.features import Store
from vidlib.data.folder import borrowed
from vidlib.data.manifest import Manifest
from vidlib.data.sampling import RULES
from vidlib.data.transforms import ClipTransform
from vidlib.params.base import PlaceParams
from vidlib.params.by_recipe import BASELINES, FROZEN, ComparisonParams
from vidlib.params.few_shot import FewShotParams, RunParams
from vidlib.results import runs, trust
from vidlib.training import across, processes, stored, tracking
from vidlib.training import run as running
from vidlib.training.evaluate_episodes import evaluate, evaluate_with_controls
from vidlib.training.loop import WEIGHTS
from vidlib.training.step import seed_everything

GREY = (0.45,) * 3, (0.225,) * 3  # mean and deviation in the released code of HyRSM and SloshNet
COLOUR = {"jitter": 0.5, "hue": 0.25, "grey": 0.3}  # of queries, in the same code
VARY = {"fixed": (), "random": ROLES, "random supports": ("support",)}  # whose frames are drawn at random
EVALUATION_SEED = 0  # of val and test episodes: every method and every training seed meets the same ones
P = TypeVar("P", bound=PlaceParams)


@dataclass
class Split:
    """One split ready to use: clips, episodes, and the raw class texts [K D] in the order of ``sampler.classes``."""

    clips: Clips
    sampler: EpisodeSampler
    text: Tensor

    def training(self, episodes: int) -> EpisodeDataset:
        """The first ``episodes`` episodes with augmentation and targets, as ``fit`` wants them."""
        return EpisodeDataset(self.clips, self.sampler, self.text, True, episodes)


def checked(params: P) -> P:
    """``params`` again, or a ``UserError`` of one sentence: unknown data, weights or option, more ways than classes.

    Of notebooks that let the user name methods, every run that they mean is checked.
    """
    paths.check_writable(params.runs or paths.runs_dir(), "runs", folder=True)
    tracking.check(getattr(params, "track", ""))  # towers.ipynb has none
    if isinstance(params, FewShotParams):
        backbones.check(params.backbone, params.pretrained)
        if params.init:
            across.weights(params.init)
        if params.features not in ("auto", "never"):
            Store(params.features)
    given, unread = params.changed(), {}
    for name in getattr(params, "planned", ()):
        meant = params.run_params(name)
        other = {each for each in methods.CHOSEN & given.keys() if getattr(meant, each) != getattr(params, each)}
        unread[meant.method] = methods.idle(meant.method) | other
        backbones.check(meant.backbone, meant.pretrained)
        methods.check(meant)
    if isinstance(params, ComparisonParams):  # of "all", which it does not plan
        unread |= {name: methods.idle(name) for name in params.compared}
    for name in sorted(set.intersection(*unread.values()) & given.keys() if unread else ()):
        raise UserError(f"{name}: {' and '.join(unread)} would not read it; leave it out")
    splits = across.classes(_datasets(params), *_joined(params), **_episode(params))
    counts = {split: len(classes) for split, classes in splits.items()}
    split, fewest = min(counts.items(), key=lambda item: item[1])
    if params.way > fewest:
        of = _datasets(params)[-1 if split == "test" else 0]
        left = f" that {params.dataset} does not train or select on" if of != params.dataset else ""
        raise UserError(
            f"way: {params.way} is more than the {fewest} classes of split {split} of {of}{left}; give at most {fewest}"
        )
    if _folders(params):
        _check_episodes(params, open_manifest(params))
    return params


def _datasets(params: PlaceParams) -> list[str]:
    """What is trained on, and what is tested on where that is another data set."""
    return list(filter(None, (params.dataset, getattr(params, "test_dataset", ""))))


def _joined(params: PlaceParams) -> tuple[bool, str]:
    """Whether what two data sets share is left out, and the file of class texts."""
    return getattr(params, "remove_overlap", True), getattr(params, "texts", "")


def _folders(params: PlaceParams) -> bool:
    """Whether a user's own videos are among what is read."""
    return any(name.startswith(benchmarks.FOLDER) for name in _datasets(params))


def _episode(params: PlaceParams) -> dict[str, Any]:
    """What ``params``' episodes take of a user's folder: classes, and videos of each in training and in val."""
    own = params.shot + params.query
    return {"way": params.way, "need": (sum(_train_shape(params)), own)}


def _train_shape(params: PlaceParams) -> tuple[int, int]:
    """Support videos and queries of a class in training."""
    return getattr(params, "train_shot", 0) or params.shot, getattr(params, "train_query", 0) or params.query


def _check_episodes(params: PlaceParams, manifest: Manifest) -> None:
    """UserError where an episode does not fit into a split of a user's folder, with what would fit."""
    select = getattr(params, "val_episodes", 0)
    if both := sorted(set(manifest.classes("train")) & set(manifest.classes("test"))):
        raise UserError(
            f"dataset {params.dataset}: train and test share classes ({few(both)}), and few-shot tests on new ones; "
            "give the folder of one split, whose classes are then divided, or a notebook of actionclip or m2clip"
        )
    for split in manifest.splits:
        shape = _train_shape(params) if split == "train" else (params.shot, params.query)
        counts = Counter(row.cls for row in manifest.videos(split))
        fewest = min(counts, key=lambda cls: counts[cls])
        if sum(shape) > counts[fewest]:
            most = counts[fewest] - 1
            fits = f"give at most {counts[fewest]} together, as in shot={most} query=1, or add videos"
            right = fits if most else "add videos or remove it"
            raise UserError(
                f"shot and query: an episode takes {shape[0]} + {shape[1]} videos of a class, and {split} has "
                f"{counts[fewest]} of class {fewest!r} in {params.dataset}; {right}"
            )
    if select and borrowed(manifest):
        need = sum(_train_shape(params)) + params.shot + params.query
        raise UserError(
            f"val_episodes: {select}, but {params.dataset} has too few videos for a val split of its own to select "
            f"weights on: training and val take {need} videos of each of {params.way} training classes; give "
            "val_episodes=0 (the last weights count), fewer shot and query, or more videos"
        )


def open_manifest(params: PlaceParams) -> Manifest:
    """The videos of ``params.dataset``, the test split that of ``test_dataset`` where one is given, with the texts that
    the user gave; what both data sets share is left out or kept, and the note says which.

    What cannot be read is left out, and the note names it: in every split of a user's folder, in val and test of a
    benchmark. Episodes to evaluate on are drawn from what is left. Of a benchmark whose videos are not here, a store of
    their features that fits says which they were."""
    try:
        bases = [_readable(name, params) for name in _datasets(params)]
    except UserError:
        if isinstance(params, RunParams) and (found := stored.find(params, None)):
            return found.store.manifest()
        raise
    return across.opened(bases, *_joined(params))


def _readable(dataset: str, params: PlaceParams) -> Manifest:
    manifest = benchmarks.load(dataset, **_episode(params))
    if dataset.startswith(benchmarks.FOLDER):
        return manifest.keep_readable()
    return manifest if dataset in benchmarks.WORLDS else readable.keep(manifest, ("val", "test"))


def open_backbone(params: FewShotParams, freeze_bn: bool = True) -> Backbone:
    """The pretrained towers; random weights follow from the seed."""
    seed_everything(params.seed, -1)
    return backbones.load(params.backbone, params.pretrained, freeze_bn)


def open_method(params: RunParams) -> methods.FewShotMethod:
    """The method on a backbone of its own, untrained or with the weights of ``init``; what is drawn at random follows
    from the seed."""
    seen = len(benchmarks.splits_of(params.dataset, **_episode(params))["train"])  # for an auxiliary class head
    facts = methods.taken(params.method, classes=seen)
    method = methods.build(params, open_backbone(params, params.freeze_bn), **facts)
    if params.init:
        across.refuse_other(params.init, method=params.method, backbone=params.backbone)
        across.start(method, params.init)
    return method


def open_split(
    params: FewShotParams, manifest: Manifest, backbone: Backbone, name: str, found: stored.Found | None = None
) -> Split:
    """Clips (of what ``found`` holds, its features), episodes and class texts of split ``name`` as ``params`` ask."""
    training = name == "train"
    looks = transforms(params, manifest, backbone)
    clips = Clips(
        manifest,
        name,
        params.frames,
        looks["support"] if training else None,
        looks["test"],
        params.seed,
        transform_query=looks["query"] if training else None,
        pick=RULES[params.sampling],
        vary_train=VARY[params.train_frames],
        vary_test=() if training else VARY[params.test_frames],
    )
    seed, shot, query = EVALUATION_SEED, params.shot, params.query
    if training:
        seed, (shot, query) = params.seed, _train_shape(params)
    sampler = EpisodeSampler(manifest, name, params.way, shot, query, seed)
    if found and name in found.splits:
        clips = found.clips(manifest, name)
    texts = [manifest.texts(cls) for cls in sampler.classes]
    features = backbones.class_texts(backbone, [text for each in texts for text in each], params.templates)
    means = [each.mean(0) for each in features.split([len(each) for each in texts])]
    return Split(clips, sampler, torch.stack(means))


def transforms(params: FewShotParams, manifest: Manifest, backbone: Backbone) -> dict[str, ClipTransform]:
    """What ``params`` make of a training support's frames, a training query's, and a test video's."""
    statistics = {"backbone": (backbone.mean, backbone.std), "grey": GREY, "none": ((0.0,) * 3, (1.0,) * 3)}
    learn, test = (dict(zip(("mean", "std"), statistics[name], strict=True)) for name in _both(params.normalise))
    size: dict[str, Any] = {"size": backbone.image_size}
    if params.crop == "area":  # in the worlds a place can tell the class
        cut = {"scale": (0.8, 1.0) if params.dataset in benchmarks.WORLDS else (0.5, 1.0)}
    else:
        cut = {"scale": None}
        size |= {"resize": round(backbone.image_size * 256 / 224), "squash": params.crop == "squashed window"}
    mirrored = {"auto": () if manifest.directional else ROLES, "all": ROLES, "queries": ("query",), "none": ()}
    coloured = {"queries": ("query",), "none": ()}[params.colour]
    found = {"test": ClipTransform(**size, **test, train=False)}
    for role in ROLES:
        colour = COLOUR if role in coloured else {}
        flip = role in mirrored[params.flip]
        found[role] = ClipTransform(**size, **learn, **cut, **colour, train=True, flip=flip)
    return found


def _both(normalise: str) -> tuple[str, str]:
    """The names of the statistics in training and in testing: "grey/backbone", or one name for both."""
    first, _, second = normalise.partition("/")
    return first, second or first


# ---------------------------------------------------------------- runs


class Episodes(running.Work):
    """A run on episodes."""

    MODULE, UNIT, TOGETHER = "vidlib.training.few_shot", "episode", False

    def __init__(self, params: RunParams, manifest: Manifest):
        super().__init__(params, manifest)
        self.found = stored.find(params, manifest)

    def digests(self) -> dict[str, str]:
        return self.found.digests() if self.found else {}

    def remarks(self) -> dict[str, Any]:
        return self.found.remarks() if self.found else {}

    def split(self, method: nn.Module, name: str) -> Split:
        """One split, from a store where one fits."""
        return open_split(self.params, self.manifest, method.backbone, name, self.found)

    def refuse_test_data(self) -> None:
        if not set(_datasets(self.params)) <= set(benchmarks.WORLDS):
            trust.refuse_shared(self.manifest, contents=_folders(self.params))
        if self.params.init:
            across.refuse_start(self.params.init, RunParams, open_manifest, self.manifest)

    def build(self) -> methods.FewShotMethod:
        method = open_method(self.params)
        if self.found:
            looks = transforms(self.params, self.manifest, method.backbone)
            self.found.verify(method.backbone, looks, self.manifest)
            progress.say_once(self.found.line())
        return method

    def source(self, method: nn.Module, part: tuple[int, int]) -> EpisodeDataset:
        self.tested()  # before training, where an episode of the test does not fit
        split = self.split(method, "train")
        return split.training(max(1, self.params.train_episodes))  # the cost is that of one, trained or not

    def fit_settings(self) -> dict[str, Any]:
        same = ("lr", "optimizer", "weight_decay", "decayed", "momentum", "arch_lr", "warmup", "schedule", "milestones")
        same += ("query_sum", "clip_grad", "seed", "deterministic", "workers")
        own = {name: getattr(self.params, name) for name in same}
        return {"batches_per_step": self.params.episodes_per_step} | own

    def length(self, source: EpisodeDataset) -> tuple[int, int]:
        return self.params.train_episodes, self.params.val_every // self.params.episodes_per_step

    def validation(self, method: nn.Module, fabric: Fabric) -> Callable[[nn.Module], float] | None:
        if not self.params.val_episodes:
            return None
        val = self.split(method, "val")
        listed = (val.clips, val.sampler, self.params.val_episodes, val.text)
        workers = self.params.workers
        return lambda trained: evaluate(trained, *listed, fabric=fabric, label="val", workers=workers).accuracy

    def probe(self, method: nn.Module, batch: EpisodeBatch) -> tuple[running.Embed, Tensor]:
        clip = batch.query[0, :1]
        if clip.ndim == 3:  # features: what it costs is what a video costs
            size = method.backbone.image_size
            clip = clip.new_zeros(1, self.params.frames, 3, size, size)
        return lambda clips: method.embed(clips, None, "query"), clip

    def tested(self) -> dict[str, EpisodeSampler]:
        """The episodes of the report and of ``also_shots``, by their names in the result; UserError where one does not
        fit into the split."""
        p = self.params
        shots = {p.report: p.shot} | {f"{p.report}_{shot}shot": shot for shot in p.also_shots}
        return {
            name: EpisodeSampler(self.manifest, p.report, p.way, shot, p.query, EVALUATION_SEED)
            for name, shot in shots.items()
        }

    def test(self, method: nn.Module, fabric: Fabric, record: runs.Run | None) -> dict[str, Any]:
        report = self.params.report
        split = self.split(method, report)
        listed = (split.clips, split.sampler, self.params.test_episodes, split.text)
        result = {"overlap": self.manifest.overlap} if isinstance(self.manifest, Crossed) else {}
        others = {name: sampler for name, sampler in self.tested().items() if name != report}
        evaluated = evaluate_with_controls(method, *listed, fabric=fabric, workers=self.params.workers, others=others)
        for name, tested in evaluated.items():
            if record:
                record.count_reading(report, name or "report")
                tested.save(record.path(f"{name or 'episodes'}.npz"))
            result[name or report] = tested.summary()
        return result


def work(params: RunParams, manifest: Manifest | None = None) -> Episodes:
    """The run that ``params`` name, not yet done; ``manifest`` where ``open_manifest`` has opened it already."""
    return Episodes(params, manifest or open_manifest(params))


def run(params: RunParams, manifest: Manifest | None = None) -> runs.Run:
    """Train, select on val, test with both controls: a finished run, reused where there is one."""
    return running.run(work(params, manifest))


def recorded(params: RunParams, manifest: Manifest | None = None) -> runs.Run | None:
    """The finished run of ``params`` if there is one; nothing is run."""
    return running.recorded(work(params, manifest))


def videos(params: RunParams, _opened: Manifest | None = None) -> int:
    """How many videos training goes through."""
    learns = params.method not in (FROZEN, *BASELINES)
    return params.train_episodes * params.way * (params.shot + params.query) * learns


def trained_method(run: runs.Run) -> tuple[RunParams, methods.FewShotMethod]:
    """A finished run's parameters and method with its selected weights, in evaluation mode."""
    params = RunParams.parse(run.params)
    if run.path(running.SOURCE).is_file():  # the user's file may have moved or changed since
        own = f"{run.path(running.SOURCE)}:{params.method.rpartition(':')[2]}"
        params = params.model_copy(update={"method": own})
    own = {"init": ""} if run.path(WEIGHTS).is_file() else {}  # its own weights replace those that it started from
    return params, running.put_trained(open_method(params.model_copy(update=own)), run)


def open_trained(run: runs.Run, manifest: Manifest, split: str = "val") -> tuple[methods.FewShotMethod, Split]:
    """A finished run's method with its selected weights, in evaluation mode, and one split, opened as for the run."""
    params, method = trained_method(run)
    return method, open_split(params, manifest, method.backbone, split)


if __name__ == "__main__":
    about = "torchrun -m vidlib.training.few_shot --params FILE: one run from a parameter file."
    processes.main(RunParams, work, running.run, about)
