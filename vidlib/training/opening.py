"""From parameters to objects: manifest, backbone, method, a split ready to use. ``Params`` stop here.

``checked`` finds out in a few seconds what cannot work, before anything is rendered, decoded or built.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from vidlib import backbones, methods
from vidlib.backbones import Backbone
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, readable
from vidlib.data.clips import ROLES, Clips
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.data.sampling import RULES
from vidlib.data.transforms import ClipTransform
from vidlib.params.base import PlaceParams
from vidlib.params.few_shot import FewShotParams, RunParams
from vidlib.training import step

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
    if isinstance(params, FewShotParams):
        backbones.check(params.backbone, params.pretrained)
    for name in getattr(params, "planned", ()):
        meant = params.run_params(name)
        backbones.check(meant.backbone, meant.pretrained)
        methods.check(meant)
    counts = {split: len(classes) for split, classes in benchmarks.splits_of(params.dataset).items()}
    split, fewest = min(counts.items(), key=lambda item: item[1])
    if params.way > fewest:
        raise UserError(
            f"way: {params.way} is more than the {fewest} classes of split {split} of {params.dataset}; "
            f"give at most {fewest}"
        )
    if params.dataset.startswith(benchmarks.FOLDER):
        open_manifest(params)
    return params


def open_manifest(params: PlaceParams) -> Manifest:
    """The videos of ``params.dataset`` without those that cannot be read, which its note names: in every split of a
    user's folder, in val and test of a benchmark. Episodes to evaluate on are drawn from what is left."""
    manifest = benchmarks.load(params.dataset)
    if params.dataset.startswith(benchmarks.FOLDER):
        return manifest.keep_readable()
    return manifest if params.dataset in benchmarks.WORLDS else readable.keep(manifest, ("val", "test"))


def open_backbone(params: FewShotParams, freeze_bn: bool = True) -> Backbone:
    """The pretrained towers; random weights follow from the seed."""
    step.seed_everything(params.seed, -1)
    return backbones.load(params.backbone, params.pretrained, freeze_bn)


def open_method(params: RunParams) -> methods.FewShotMethod:
    """The untrained method on a backbone of its own; what is drawn at random follows from the seed."""
    seen = len(benchmarks.splits_of(params.dataset)["train"])
    classes = {"classes": seen} if methods.takes(params, "classes") else {}  # of an auxiliary class head
    return methods.build(params, open_backbone(params, params.freeze_bn), **classes)


def open_split(params: FewShotParams, manifest: Manifest, backbone: Backbone, name: str) -> Split:
    """Clips, episodes and class texts of split ``name`` as ``params`` ask for them."""
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
        seed, shot, query = params.seed, params.train_shot or shot, params.train_query or query
    sampler = EpisodeSampler(manifest, name, params.way, shot, query, seed)
    texts = [manifest.text(cls) for cls in sampler.classes]
    return Split(clips, sampler, backbone.encode_text(texts, (params.template,)))


def transforms(params: FewShotParams, manifest: Manifest, backbone: Backbone) -> dict[str, ClipTransform]:
    """What ``params`` make of a training support's frames, a training query's, and a test video's."""
    statistics = {"backbone": (backbone.mean, backbone.std), "grey": GREY, "none": ((0.0,) * 3, (1.0,) * 3)}
    learn, test = (dict(zip(("mean", "std"), statistics[name], strict=True)) for name in _both(params.normalise))
    size: dict[str, Any] = {"size": backbone.image_size}
    if params.crop == "area":  # in the worlds a place can tell the class
        cut = {"scale": (0.8, 1.0) if manifest.name in benchmarks.WORLDS else (0.5, 1.0)}
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
