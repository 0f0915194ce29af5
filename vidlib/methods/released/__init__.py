"""Checkpoints of the papers' released codes: what one holds, and the method that it makes here.

``load_released`` builds ``variant="released"``; ``survey`` says what fits and what does not, without building anything.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vidlib import backbones, methods
from vidlib.backbones import Backbone, CLIPBackbone, weights
from vidlib.backbones.weights import State
from vidlib.basics.errors import UserError
from vidlib.basics.words import few, suggest
from vidlib.methods import FewShotMethod, VideoTextMethod
from vidlib.methods.released import formats, trunks
from vidlib.methods.released.formats import FORMATS

CLASSES: dict[str, type[FewShotMethod] | type[VideoTextMethod]] = {**methods.METHODS, **methods.VIDEO_TEXT}


@dataclass(frozen=True)
class Survey:
    """How a state dict compares with what the released code of ``method`` writes.

    ``sizes``: constructor arguments that the shapes tell, and ``features``, the width of a frame's feature. ``trunk``:
    its image tower in words, "" where it has none, ``backbone``: that tower's name here, "" where it has none.
    ``missing``: names needed and not there; ``unknown``: there, and of no use that is known; ``unused``: there, known,
    not needed. ``remark``: what names cannot tell.
    """

    method: str
    sizes: dict[str, Any] = field(default_factory=dict)
    trunk: str = ""
    backbone: str = ""
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    remark: str = ""


def recognise(state: Mapping[str, Tensor]) -> str:
    """The method whose released code wrote ``state``, by names that no other has; "" where none did."""
    return next((name for name, f in FORMATS.items() if set(f.signature) <= _seen(name, state).keys()), "")


def survey(method: str, state: Mapping[str, Tensor]) -> Survey:
    """Compare ``state`` (``weights.tidy``) with the released code of ``method``."""
    format, cls, seen = FORMATS[method], CLASSES[method], _seen(method, state)
    needed = trunks.every((*format.needed, *format.further(seen)), seen)
    read = {*needed, *trunks.every(format.optional, seen)}
    tower = trunks.clip_tower(seen, format.trunk) if format.clip else trunks.resnet(seen, format.trunk)
    missing = [name for name in dict.fromkeys((*needed, *tower.needed)) if name not in seen]
    read |= {*tower.needed, *(name for name in seen if re.search(formats.COUNTED, name))}
    rest = [name for name in seen if name not in read]
    unused = [name for name in rest if any(re.search(pattern, name) for pattern in cls.released_unused)]
    unknown = [name for name in rest if name not in unused]
    sizes = {} if missing else format.sizes(seen)
    lists = tuple(missing), tuple(unknown), tuple(unused)
    return Survey(method, sizes, tower.words, tower.name, *lists, format.remark(seen))


def load_released(
    method: str,
    state: Mapping[str, Any] | str | Path,
    *,
    backbone: Backbone | str | None = None,
    pretrained: str = "",
    image_size: int | None = None,
    **sizes: Any,
) -> FewShotMethod | VideoTextMethod:
    """``variant="released"`` of ``method`` with the weights of its released code, in evaluation mode.

    Args:
        method: sloshnet, trx, strm, hyrsm, molo, clip_fsar, aim, m2clip or actionclip.
        state: a state dict, what a training code saved around one, or a file (pickles are read as tensors alone).
        backbone: its name, or one already built, whose image tower is replaced by the state's (ActionCLIP: both
            towers). Default: the one that the state's shapes tell. A state without a tower needs one, and its weights
            stay; M2-CLIP's files hold what was trained alone, as a rule, and need the CLIP with its weights.
        pretrained: weights for what the state lacks in a backbone that is built here, above all CLIP's text tower.
        image_size: pixels, where they are not the backbone's. Input statistics are the released code's at test.
        sizes: ``frames`` and other constructor arguments, over what the shapes tell. No shape tells the frames of
            HyRSM, MoLo, CLIP-FSAR and M2-CLIP, or of ActionCLIP but with ``joint`` and ``transf_cls`` (8 where not
            given), HyRSM's and MoLo's scales of positions, and AIM's ``adapter_scale``.

    A name that the state lacks, or has too many, is a ``UserError`` that lists it, but for those that the method's
    ``released_missing`` and ``released_unused`` declare; ``method.missing`` names the weights that stay as they were
    built, and a score that needs them is refused.
    """
    if method not in FORMATS:
        otherwise = f"there are {', '.join(FORMATS)}."
        raise UserError(f"method {method!r} has no released code that is known; {suggest(method, FORMATS, otherwise)}")
    bare = isinstance(state, Mapping)
    source = "the state" if bare else str(state)
    tensors = weights.tidy((weights.unwrap(state) if bare else weights.read(state)).tensors)
    found = survey(method, tensors)
    _check(found, tensors, source)
    built_already = isinstance(backbone, backbones.Backbone)
    if FORMATS[method].whole and not (found.trunk or pretrained or built_already):
        raise UserError(
            f"{source} holds no CLIP, only what {method} trained on one: give backbone='ViT-B-16-quickgelu' (or that "
            "which it was trained on) and pretrained='openai' (or a local file), or a backbone with its weights"
        )

    given = _backbone(found, backbone, pretrained, source)
    mean_std = FORMATS[method].mean_std
    if mean_std:
        given.mean, given.std = ((number,) * 3 for number in mean_std)
    if image_size:
        given.image_size = image_size
    told = {name: value for name, value in found.sizes.items() if name != "features"}
    built = _build(method, given, told | sizes)
    built.missing = _fill(built, found, tensors, source)
    if FORMATS[method].texts and not pretrained and not built_already:
        built.missing += ("the text tower",)
        given.encode_text = _without_text(source)
    return built.eval()


def _seen(method: str, state: Mapping[str, Tensor]) -> State:
    """``state`` by the names of the released module itself, which AIM's recogniser keeps in its ``backbone``."""
    if FORMATS[method].trunk:
        return dict(state)
    return {name.removeprefix("backbone."): value for name, value in state.items()}


def _check(found: Survey, state: State, source: str) -> None:
    """UserError where the state is another code's, or has names missing or unknown."""
    likely = recognise(state)
    sure = likely and not FORMATS[likely].remark(_seen(likely, state))
    if sure and likely != found.method and (found.missing or found.unknown):
        raise UserError(f"{source} was written by the released code of {likely}, not of {found.method}")
    lists = {"lacks": found.missing, "has unknown": found.unknown}
    problems = [f"{word} {few(names, 12)}" for word, names in lists.items() if names]
    if problems:
        raise UserError(f"{source} does not fit the released code of {found.method}: it {' and '.join(problems)}")


def _backbone(found: Survey, given: Backbone | str | None, pretrained: str, source: str) -> Backbone:
    """The backbone that was given, or that the state's image tower tells; its features must be as wide as trained."""
    if given is None and not found.backbone:
        holds = f"its image tower, {found.trunk}, has no name here" if found.trunk else f"{source} holds no image tower"
        raise UserError(f"{holds}: give backbone=, one already built, or a name with pretrained=")
    chosen = found.backbone if given is None else given
    if isinstance(chosen, str):
        backbone = backbones.load(chosen, pretrained)
    else:
        backbone = chosen
    width, gives = found.sizes["features"], {backbone.embed_dim, getattr(backbone, "width", backbone.embed_dim)}
    if width not in gives:
        raise UserError(
            f"{source} was trained on features of width {width}, and those of backbone {backbone.name} have "
            f"{backbone.embed_dim}"
        )
    return backbone


def _build(method: str, backbone: Backbone, arguments: Mapping[str, Any]) -> FewShotMethod | VideoTextMethod:
    """The released variant; UserError for names that its constructor does not have, and for a backbone of no use."""
    if method in methods.METHODS:
        return methods.build(method, backbone, variant="released", **arguments)
    cls = methods.VIDEO_TEXT[method]
    known = inspect.signature(cls).parameters.keys() - {"backbone", "variant"}
    for name in sorted(arguments.keys() - known):
        raise UserError(f"method {method!r} has no argument {name!r}; {suggest(name, sorted(known))}")
    if not isinstance(backbone, CLIPBackbone):
        raise UserError(f"method {method!r} adapts a CLIP ViT, and backbone {backbone.name} is none")
    return cls(backbone, variant="released", **arguments)


def _fill(method: FewShotMethod | VideoTextMethod, found: Survey, state: State, source: str) -> tuple[str, ...]:
    """Load; what stays as it was built, and may. UserError where anything else does."""
    before = _stamps(method)
    try:
        method.load_released(state)
    except (RuntimeError, KeyError, ValueError) as error:
        sentence = " ".join(str(error).split())[:400]
        raise UserError(f"{source} does not fit {type(method).__name__} as it was built: {sentence}") from None
    same = [name for name, stamp in _stamps(method).items() if stamp == before[name]]
    trunk = method.backbone.trunk.state_dict(keep_vars=True).values() if found.trunk else ()
    own, loaded = method.state_dict(keep_vars=True), {id(value) for value in trunk}
    format = FORMATS[found.method]
    kept = () if found.trunk and format.whole else format.base
    left = [name for name in same if not name.startswith(kept) or id(own[name]) in loaded]
    left = [name for name in left if not re.search(formats.COUNTED, name)]
    wrong = [name for name in left if not any(re.search(pattern, name) for pattern in method.released_missing)]
    if wrong:
        raise UserError(f"{source} leaves weights of {type(method).__name__} as they were built: {few(wrong, 12)}")
    return tuple(left)


def _stamps(method: FewShotMethod | VideoTextMethod) -> dict[str, tuple[int, int]]:
    """Name of a weight or buffer -> which tensor it is and how often it was written."""
    return {name: (id(value), value._version) for name, value in method.state_dict(keep_vars=True).items()}


def _without_text(source: str) -> Any:
    def encode_text(names: Sequence[str], templates: Sequence[str] = ()) -> Tensor:
        raise UserError(
            f"{source} holds no text tower, so class texts mean nothing: give pretrained='openai' (or a local file) to "
            "load_released, or a backbone with its text tower"
        )

    return encode_text
