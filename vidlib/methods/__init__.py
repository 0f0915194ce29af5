"""The papers' models, one file each; ``METHODS`` names them and ``build`` makes one."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vidlib import backbones
from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.layers import quick
from vidlib.methods import yours
from vidlib.methods.ablated import ABLATIONS
from vidlib.methods.actionclip import ActionCLIP
from vidlib.methods.aim import AIM
from vidlib.methods.base import FewShotMethod, Match, check_blocks
from vidlib.methods.bimhm import BiMHM
from vidlib.methods.clip_fsar import CLIPFSAR
from vidlib.methods.frozen_clip import FrozenCLIP
from vidlib.methods.gghm import GgHM
from vidlib.methods.hyrsm import HyRSM
from vidlib.methods.logistic_regression import LogisticRegression
from vidlib.methods.m2clip import M2CLIP
from vidlib.methods.ma_fsar import MAFSAR
from vidlib.methods.molo import MoLo
from vidlib.methods.ordered_differences import OrderedDifferences
from vidlib.methods.otam import OTAM
from vidlib.methods.protonet import ProtoNet
from vidlib.methods.simple_shot import SimpleShot
from vidlib.methods.sloshnet import SloshNet
from vidlib.methods.strm import STRM
from vidlib.methods.tip_adapter import TipAdapter
from vidlib.methods.trx import TRX
from vidlib.methods.video_text import VideoTextMethod
from vidlib.methods.zero_shot_clip import ZeroShotCLIP
from vidlib.params import open_choices

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.params.few_shot import RunParams
    from vidlib.params.video_text import VideoTextRunParams

METHODS: dict[str, type[FewShotMethod]] = {
    "ma_fsar": MAFSAR,
    "sloshnet": SloshNet,
    "gghm": GgHM,
    "clip_fsar": CLIPFSAR,
    "aim": AIM,
    "otam": OTAM,
    "trx": TRX,
    "strm": STRM,
    "hyrsm": HyRSM,
    "molo": MoLo,
    "protonet": ProtoNet,
    "bimhm": BiMHM,
    "ordered_differences": OrderedDifferences,
    "frozen_clip": FrozenCLIP,
    "zero_shot_clip": ZeroShotCLIP,
    "simple_shot": SimpleShot,
    "logistic_regression": LogisticRegression,
    "tip_adapter": TipAdapter,
}

VIDEO_TEXT: dict[str, type[VideoTextMethod]] = {"actionclip": ActionCLIP, "m2clip": M2CLIP}
SHARED = {"frames": "frames", "variant": "variant", "mix": "mix_weight"}  # a parameter of runs -> the argument it is
SHARED |= {"metric": "metric", "metric_scale": "metric_scale"}
CHOSEN = {*SHARED, "shot_rule"}
OF_DATA = ("classes", "vocabulary")  # constructor arguments that follow from a run's videos

__all__ = [
    "ABLATIONS",
    "METHODS",
    "VIDEO_TEXT",
    "AIM",
    "ActionCLIP",
    "BiMHM",
    "CLIPFSAR",
    "FewShotMethod",
    "FrozenCLIP",
    "GgHM",
    "HyRSM",
    "LogisticRegression",
    "M2CLIP",
    "MAFSAR",
    "Match",
    "MoLo",
    "OTAM",
    "OrderedDifferences",
    "ProtoNet",
    "SimpleShot",
    "SloshNet",
    "STRM",
    "TipAdapter",
    "TRX",
    "VideoTextMethod",
    "ZeroShotCLIP",
    "arguments",
    "build",
    "check",
    "entered",
    "find",
    "reads_frames",
    "source_file",
    "taken",
]


def find(name: str) -> type[FewShotMethod] | type[VideoTextMethod]:
    """The class of a method by its name, or a user's as ``FILE.py:CLASS``; UserError where there is none."""
    if yours.is_file(name):
        return yours.load(name)
    known = METHODS | VIDEO_TEXT
    if name not in known:
        raise UserError(f"method {name!r} is unknown; {suggest(name, known)}")
    return known[name]


def source_file(name: str) -> Path:
    """The file that holds a method's class, by its own place where the package is reached through a link."""
    return yours.split(name)[0] if yours.is_file(name) else Path(inspect.getfile(find(name))).resolve()


def check(params: "RunParams | VideoTextRunParams") -> None:
    """UserError where ``build`` would for a reason that can be known without video and without weights."""
    kind, chosen = find(params.method), arguments(params)
    if kind.needs_clip or kind.adapts_blocks or kind.needs_maps:
        texts_need = backbones.texts_need(params.backbone, params.pretrained)
        _check_tower(params.method, backbones.outline(params.backbone), chosen, texts_need)
    if not issubclass(kind, VideoTextMethod):
        return
    with torch.device("meta"):  # the constructor knows what fits; nothing is drawn or filled
        method = build(params, backbones.load(params.backbone, ""), **taken(params.method, classes=2, vocabulary=2))
    if params.protocol == "zero_shot" and not method.uses_text:
        raise UserError(
            f"protocol zero_shot: {params.method} scores by a classifier of its training classes here, which cannot "
            "meet new classes; score by texts instead"
        )


def arguments(params: "RunParams | VideoTextRunParams") -> dict[str, object]:
    """The constructor arguments that ``params`` mean for their method, with those of ``entered``; UserError for an
    ablation or an argument that it does not have."""
    known = ABLATIONS.get(params.method, {})
    if params.ablation and params.ablation not in known:
        raise UserError(
            f"ablation {params.ablation!r} is unknown for {params.method}; {suggest(params.ablation, known)}"
        )
    for name in sorted({"frames", "variant", *OF_DATA} & params.options.keys()):
        raise UserError(f"options: {name!r} follows from the other parameters; leave it out of the options")
    shared = {argument: getattr(params, name) for name, argument in SHARED.items() if hasattr(params, name)}
    rule = getattr(find(params.method), "shot_rules", {}).get(getattr(params, "shot_rule", "own"), {})
    for name in sorted(rule.keys() & params.options.keys()):
        raise UserError(f"options: {name!r} follows from shot_rule {params.shot_rule}; give another shot_rule, or own")
    chosen = entered(params.method) | taken(params.method, **shared) | rule | params.options
    _known_arguments(params.method, chosen)
    return chosen | known.get(params.ablation, {})  # a named change is one of what was chosen


def idle(name: str) -> set[str]:
    """The parameters of runs that mean nothing to the method of that name, which has no argument for them."""
    kind, known = find(name), _constructor(find(name))
    lacking = {parameter for parameter, argument in SHARED.items() if argument not in known}
    return lacking if getattr(kind, "shot_rules", {}) else lacking | {"shot_rule"}


def shot_rule(params: "RunParams") -> str:
    """What the method of ``params`` averages over the supports of a class: "frames" or "distances", "" for a rule that
    is the method's own and cannot be chosen."""
    here = {name: each.default for name, each in _constructor(find(params.method)).items()} | arguments(params)
    rules = getattr(find(params.method), "shot_rules", {})
    return next((rule for rule, given in rules.items() if all(here[n] == value for n, value in given.items())), "")


def reads_frames(params: "RunParams") -> str:
    """Empty where the method of ``params`` reads the features of a frozen tower's frames and nothing else of it, so
    that stored ones do; else why not, in words."""
    kind = find(params.method)
    wants = getattr(kind, "from_features", None)
    if wants is None:
        return f"method {params.method} reads more of the tower than its frames' features, which a store does not hold"
    here = {name: each.default for name, each in _constructor(kind).items()} | arguments(params)
    lacking = {name: value for name, value in wants.items() if here.get(name) != value}
    said = ", ".join(f"{name}: {str(value).lower()}" for name, value in lacking.items())
    return f"method {params.method} reads stored features with options={{{said}}} alone" if lacking else ""


def build(
    params: "RunParams | VideoTextRunParams | str", backbone: "Backbone", **changes: object
) -> FewShotMethod | VideoTextMethod:
    """The method that ``params`` name, or the one of that name, on ``backbone``, whose ``requires_grad`` it sets anew.

    ``changes`` are constructor arguments of the method's class, over those that ``params`` give. UserError for names
    that are not known and for values that do not fit.
    """
    name = params if isinstance(params, str) else params.method
    method = find(name)
    paper = entered(name)
    chosen = paper | (changes if isinstance(params, str) else arguments(params) | changes)
    _known_arguments(name, chosen)
    _check_tower(name, backbone, chosen)
    lacking = [argument for argument, each in _constructor(method).items() if each.default is each.empty]
    if lacking := [argument for argument in lacking if argument not in chosen]:
        raise UserError(f"method {name!r} needs {' and '.join(lacking)}; give {lacking[0]}=...")
    try:
        return quick.quicken(method(backbone, **chosen))
    except (UserError, TypeError, ValueError, ArithmeticError) as error:
        if any(chosen[argument] is value for argument, value in paper.items()):
            said = " and ".join(f"{argument}: {value!r}" for argument, value in paper.items())
            raise UserError(f"{open_choices.FILE}: {name} was built with {said}: {error}") from error
        given = changes if isinstance(params, str) else params.options | changes
        if isinstance(error, UserError) or not given:
            raise
        said = ", ".join(f"{argument}: {value!r}" for argument, value in given.items())
        raise UserError(f"method {name!r} cannot be built with {said}: {error}") from error


def entered(name: str) -> dict[str, object]:
    """The constructor arguments of a method that somebody with its paper entered in ``open_choices.yaml``; UserError
    where its class has no such argument."""
    if not (choices := open_choices.of(name)):
        return {}
    try:
        _known_arguments(name, choices)
    except UserError as error:
        raise UserError(f"{open_choices.FILE}: {error}") from None
    return open_choices.values(name)


def taken(name: str, **facts: object) -> dict[str, object]:
    """Those of ``facts`` that the constructor of the method of that name has an argument for."""
    known = _constructor(find(name))
    return {argument: value for argument, value in facts.items() if argument in known}


def _constructor(method: type) -> Mapping[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(method).parameters.items() if name != "backbone"}


def _known_arguments(name: str, chosen: Iterable[str]) -> None:
    known = _constructor(find(name))
    for argument in sorted(set(chosen) - known.keys()):
        raise UserError(f"method {name!r} has no argument {argument!r}; {suggest(argument, sorted(known))}")


def _check_tower(name: str, backbone: "Backbone", chosen: Mapping[str, object], texts_need: str | None = None) -> None:
    """UserError where the method, with the arguments ``chosen``, needs what the tower has not: class texts, blocks to
    adapt, stage maps."""
    method = find(name)
    if method.needs_clip and (backbone.texts_need if texts_need is None else texts_need):
        if isinstance(backbone, backbones.CLIPBackbone):
            raise UserError(f"method {name!r} reads class texts: {texts_need or backbone.texts_need}")
        does = "adapts a CLIP" if getattr(method, "learns", True) else "reads the class texts of a CLIP"
        raise UserError(f"method {name!r} {does}, and {backbone.name} is none; give backbone clip-mini or a CLIP ViT")
    if method.adapts_blocks:
        check_blocks(f"method {name!r}", backbone)
    maps = method.needs_maps
    maps = chosen.get(maps, True) if isinstance(maps, str) else maps
    if maps and not hasattr(backbone, "map_dims"):
        raise UserError(
            f"method {name!r} reads a tower's stage maps, and backbone {backbone.name} gives none; give a ResNet such "
            "as resnet50, or a ViT that reads its class token, such as ViT-B-16-quickgelu or vit_base_patch14_dinov2"
        )
