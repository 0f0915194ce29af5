"""From parameters to objects: manifest, backbone, method, a split ready to use. ``Params`` stop here.

``checked`` finds out in a few seconds what cannot work, before anything is rendered, decoded or built.
"""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from vidlib import backbones, methods, stepping
from vidlib.backbones import Backbone
from vidlib.data import benchmarks
from vidlib.data.clips import Clips
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.data.transforms import ClipTransform
from vidlib.errors import UserError
from vidlib.params import FewShotParams, RunParams

EVALUATION_SEED = 0  # of val and test episodes: every method and every training seed meets the same ones
P = TypeVar("P", bound=FewShotParams)


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
    """``params`` again, or a ``UserError`` of one sentence: unknown data set or weights, more ways than classes."""
    backbones.check(params.backbone, params.pretrained)
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


def open_manifest(params: FewShotParams) -> Manifest:
    """The videos of ``params.dataset``; of a user's folder, those that can be read (its note names the others)."""
    manifest = benchmarks.load(params.dataset)
    return manifest.keep_readable() if params.dataset.startswith(benchmarks.FOLDER) else manifest


def open_backbone(params: FewShotParams, freeze_bn: bool = True) -> Backbone:
    """The pretrained towers; random weights follow from the seed."""
    stepping.seed_everything(params.seed, -1)
    return backbones.load(params.backbone, params.pretrained, freeze_bn)


def open_method(params: RunParams) -> methods.FewShotMethod:
    """The untrained method on a backbone of its own; what is drawn at random follows from the seed."""
    seen = len(benchmarks.splits_of(params.dataset)["train"])
    classes = {"classes": seen} if methods.takes(params, "classes") else {}  # of an auxiliary class head
    return methods.build(params, open_backbone(params, params.freeze_bn), **classes)


def open_split(params: FewShotParams, manifest: Manifest, backbone: Backbone, name: str) -> Split:
    """Clips, episodes and class texts of split ``name`` as ``params`` ask for them."""
    size = {"size": backbone.image_size, "mean": backbone.mean, "std": backbone.std, "flip": not manifest.directional}
    crop = (0.8, 1.0) if manifest.name in benchmarks.WORLDS else (0.5, 1.0)  # there a place can tell the class
    learn = ClipTransform(**size, train=True, scale=crop) if name == "train" else None
    clips = Clips(manifest, name, params.frames, learn, ClipTransform(**size, train=False), params.seed)
    seed = params.seed if name == "train" else EVALUATION_SEED
    sampler = EpisodeSampler(manifest, name, params.way, params.shot, params.query, seed)
    texts = [manifest.text(cls) for cls in sampler.classes]
    return Split(clips, sampler, backbone.encode_text(texts, (params.template,)))
