"""The papers' models, one file each; ``METHODS`` names them and ``build`` makes one."""

import difflib
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vidlib.errors import UserError
from vidlib.methods.aim import AIM
from vidlib.methods.base import FewShotMethod, Match
from vidlib.methods.clip_fsar import CLIPFSAR
from vidlib.methods.frozen_clip import FrozenCLIP
from vidlib.methods.ma_fsar import MAFSAR

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.params import RunParams

METHODS: dict[str, type[FewShotMethod]] = {
    "ma_fsar": MAFSAR,
    "aim": AIM,
    "clip_fsar": CLIPFSAR,
    "frozen_clip": FrozenCLIP,
}

# Named changes of a method's constructor arguments; a run records the name.
ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    "ma_fsar": {
        "no_temporal": {"global_temporal": None, "temporal_embedding": False},
        "no_local": {"local_adapter": False},
        "no_joint": {"joint": False},
        "all_tokens": {"global_temporal": "all"},
        "no_text_token": {"text_token": False},
        "no_text_in_support": {"text_token": False, "tpcm": "self"},
        "plain_attention": {"tpcm": "self"},
        "no_tpcm": {"tpcm": None},
        "no_q2s": {"losses": ("s2t", "q2t")},
        "no_s2t": {"losses": ("q2s", "q2t")},
        "no_q2t": {"losses": ("q2s", "s2t")},
        "full_tuning": {"finetune": "full"},
    },
    "aim": {},
    "clip_fsar": {
        "text": {"inference": "text"},
        "combined": {"inference": "combined"},
        "merge_after": {"merge_before": False},
        "frozen_tower": {"finetune": "frozen"},
    },
    "frozen_clip": {"with_text": {"text_weight": 0.5}},
}

__all__ = [
    "ABLATIONS",
    "AIM",
    "CLIPFSAR",
    "METHODS",
    "FewShotMethod",
    "FrozenCLIP",
    "MAFSAR",
    "Match",
    "arguments",
    "build",
    "takes",
]


def arguments(params: "RunParams") -> dict[str, object]:
    """The constructor arguments that ``params`` mean for their method; UserError for an ablation it does not have."""
    known = ABLATIONS[params.method]
    if params.ablation and params.ablation not in known:
        raise UserError(
            f"ablation {params.ablation!r} is unknown for {params.method}; {_suggest(params.ablation, known)}"
        )
    shared = {"frames": params.frames, "variant": params.variant, "mix_weight": params.mix}
    shared |= {"metric": params.metric, "metric_scale": params.metric_scale}
    wanted = _constructor(METHODS[params.method])
    shared = {name: value for name, value in shared.items() if name in wanted}
    return shared | known.get(params.ablation, {}) | params.options


def build(params: "RunParams | str", backbone: "Backbone", **changes: object) -> FewShotMethod:
    """The method that ``params`` name, or the one of that name, on ``backbone``, whose ``requires_grad`` it sets anew.

    ``changes`` are constructor arguments of the method's class, over those that ``params`` give. UserError for names
    that are not known and for values that do not fit.
    """
    name = params if isinstance(params, str) else params.method
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown; {_suggest(name, METHODS)}")
    chosen = changes if isinstance(params, str) else arguments(params) | changes
    known = _constructor(METHODS[name])
    for argument in chosen.keys() - known:
        raise UserError(f"method {name!r} has no argument {argument!r}; {_suggest(argument, sorted(known))}")
    return METHODS[name](backbone, **chosen)


def takes(params: "RunParams", argument: str) -> bool:
    """Whether the constructor of the method that ``params`` name has this argument."""
    return argument in _constructor(METHODS[params.method])


def _constructor(method: type[FewShotMethod]) -> set[str]:
    return set(inspect.signature(method).parameters) - {"backbone"}


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}."
