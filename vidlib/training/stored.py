"""Which store of features (``data.features``) a few-shot run reads, in testing and in training; the rules of its fit.

Whether a store fits is known from parameters, so that a run's id needs no tower; once the tower is built, its weights
are held against the store's, and the transforms, number by number.

``features``: "auto" takes a store that fits: for tests, whatever is there of val and test; for training, one that has
augmented views. A PATH is taken for both or refused, and trains on test views where it has no others. A test
on float32 features is that on videos, to the last digits, and its id is the same; what trains on a store, or reads a
float16 one, or would encode in half precision, is another run.
"""

import contextlib
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidlib import backbones, methods
from vidlib.basics.devices import pick_precision
from vidlib.basics.digests import file_digest, folder_digest
from vidlib.basics.errors import UserError
from vidlib.data import prefetched
from vidlib.data.features import Store, Stored, stores
from vidlib.data.manifest import Manifest
from vidlib.data.transforms import ClipTransform
from vidlib.params.few_shot import FewShotParams, RunParams

EXACT = ("32-true", "64-true")
LOOK = ("sampling", "crop", "normalise", "flip", "colour", "train_frames", "freeze_bn")  # what a store depends on


def source(params: FewShotParams) -> str:
    """Which weights ``params`` name: a tag, a file's content, or random ones of a seed."""
    if file := backbones.weights_file(params.backbone, params.pretrained):
        digest = (folder_digest if file.is_dir() else file_digest)(file)
        return params.pretrained if params.pretrained == params.backbone else f"file {digest[:16]}"
    return params.pretrained or f"random weights of seed {params.seed}{'' if params.freeze_bn else ', freeze_bn false'}"


def weights_digest(backbone: backbones.Backbone) -> str:
    """sha256 of the image tower's weights and buffers, by name."""
    found = hashlib.sha256()
    for name, value in sorted(backbone.trunk.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().flatten().numpy().tobytes())
    return found.hexdigest()


def described(transform: ClipTransform) -> dict[str, Any]:
    """All that a transform does, as JSON has it."""
    return json.loads(json.dumps(vars(transform), default=str))


def wanted(params: FewShotParams) -> dict[str, dict[str, Any]]:
    """What a store must say of its tower, its test view and its training views."""
    learn, _, test = params.normalise.partition("/")
    both = {"sampling": params.sampling, "crop": params.crop}
    return {
        "tower": {"backbone": params.backbone, "pretrained": source(params)},
        "test": both | {"frames": params.frames, "normalise": test or learn, "test_frames": params.test_frames},
        "train": both
        | {"normalise": learn, "flip": params.flip, "colour": params.colour, "train_frames": params.train_frames},
    }


def command(params: FewShotParams, views: int) -> str:
    """The line that makes the store that ``params`` want."""
    words = [
        "vidlib",
        "data",
        "embed",
        params.dataset,
        "--backbone",
        params.backbone,
        "--pretrained",
        params.pretrained,
    ]
    words += ["--frames", str(params.frames), "--views", str(views)]
    words += ["--seed", str(params.seed)] if not params.pretrained else []
    chosen = {name: value for name, value in params.differing().items() if name in LOOK}
    words += ["--set", *(f"{name}={value}" for name, value in chosen.items())] if chosen else []
    return shlex.join(words)


@dataclass(frozen=True)
class Found:
    """The store that a run reads, of which splits, and whether it trains on it."""

    params: RunParams
    store: Store
    splits: tuple[str, ...]
    trains: bool

    def clips(self, manifest: Manifest, split: str) -> Stored:
        """What stands in place of ``Clips`` for one of ``splits``."""
        return Stored(self.store, manifest, split, self.params.seed)

    def digests(self) -> dict[str, str]:
        """What enters the run's id: its content, where the result is another one than from videos."""
        exact = pick_precision(self.params.precision, self.params.device) in EXACT and self.store.dtype == "float32"
        return {} if exact and not self.trains else {"features": self.store.digest}

    def remarks(self) -> dict[str, Any]:
        """What the run's record says of it."""
        views = f"{self.store.views} augmented views" if self.store.views else "test views"
        said = {"store": self.store.folder.name, "digest": self.store.digest, "splits": list(self.splits)}
        return {"features": said | {"training": views if self.trains else ""}}

    def line(self) -> str:
        """In one line, for people."""
        how = f"training draws from {self.remarks()['features']['training']}" if self.trains else "for tests alone"
        return f"frames' features come from the store {self.store.folder}: {', '.join(self.splits)} ({how})"

    def verify(self, backbone: backbones.Backbone, looks: Mapping[str, ClipTransform], manifest: Manifest) -> None:
        """UserError where the tower that was built, its transforms or a video's file is not what was encoded."""
        head, roles = self.store.head, {"test": "test"} | ({"train": "support"} if self.trains else {})
        found = {"tower.weights": (head["tower"]["weights"], weights_digest(backbone))}
        for part, role in roles.items():
            if part == "test" or self.store.views:
                there, here = head[part]["transform"], described(looks[role])
                both = there.keys() | here.keys()
                found |= {f"{part}.transform.{name}": (there.get(name), here.get(name)) for name in sorted(both)}
        for name, (there, here) in found.items():
            if there != here:
                raise _misfit(self.params, self.store, _differs(name, there, here))
        for split in self.splits:
            if video := self.store.changed(manifest, split):
                why = f"the file of video {video} of {split} is another one than was encoded"
                raise _misfit(self.params, self.store, why, "delete the store; ")


def find(params: RunParams, manifest: Manifest | None) -> Found | None:
    """The store that a run of ``params`` reads of ``manifest`` (None: its videos are not here); None for none.

    UserError where ``features`` names one that does not fit.
    """
    if params.features == "never":
        return None
    if params.test_dataset:
        if params.features != "auto":
            raise UserError("features: a store holds one data set, and test_dataset is another; give auto or never")
        return None
    if params.features != "auto":
        if why := methods.reads_frames(params):
            raise UserError(f"features: {why}; give features=auto or never")
        return _fit(params, Store(params.features), manifest, asked=True)
    if methods.reads_frames(params):
        return None
    fit = []
    for store in stores():
        with contextlib.suppress(UserError):
            fit.append(_fit(params, store, manifest, asked=False))
    return max(fit, key=lambda one: (one.trains, one.store.dtype == "float32"), default=None)


def _fit(params: RunParams, store: Store, manifest: Manifest | None, asked: bool) -> Found:
    """What the run reads of ``store``; UserError where it does not fit. ``asked``: a person named it."""
    head, name = store.head, manifest.name if manifest else params.dataset
    for key, here in {"dataset": name, "prefetched": prefetched.note(name)}.items():
        if head[key] != here:
            raise _misfit(params, store, _differs(key, head[key], here))
    want = wanted(params)
    for part in ("tower", "test"):
        for key, here in want[part].items():
            if head[part].get(key) != here:
                raise _misfit(params, store, _differs(key, head[part].get(key), here))
    if lacking := store.lacking():
        raise _misfit(params, store, f"{len(lacking)} of its {len(store.every())} shards are not there yet")
    manifest = manifest or store.manifest()
    asked = asked or manifest.root == store.folder  # features are all there is
    why = {split: store.unlike(manifest, split) for split in dict.fromkeys(("train", "val", params.report))}
    learns = bool(params.train_episodes) and methods.find(params.method).learns
    if learns and store.views and not why["train"]:
        differing = [key for key, here in want["train"].items() if head["train"].get(key) != here]
        why["train"] = "; ".join(_differs(key, head["train"].get(key), want["train"][key]) for key in differing)
    for split in (params.report, "train") if learns and asked else (params.report,):
        if why[split]:
            raise _misfit(params, store, why[split])
    trains = learns and not why["train"] and (asked or store.views > 0)
    fit = [split for split, sentence in why.items() if not sentence]
    return Found(params, store, tuple(split for split in fit if split != "train" or trains or not learns), trains)


def _differs(name: str, there: Any, here: Any) -> str:
    return f"{name} is {_short(there)} there, and {_short(here)} is wanted"


def _short(value: Any) -> str:
    return value[:16] if isinstance(value, str) and len(value) == 64 else repr(value)


def _misfit(params: RunParams, store: Store, why: str, first: str = "") -> UserError:
    line = command(params, store.views)
    return UserError(f"features: the store {store.folder} does not fit: {why}; {first}{line} makes it")
