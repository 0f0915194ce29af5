"""Names of tensors as patterns, and the image towers that the released codes keep their weights in.

In a pattern ``{a,b}`` stands for each of a and b, and ``#`` for each number from 0 that the state has there.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from vidlib.methods.base import CHILDREN

BOTH = "{weight,bias}"
NORM = "{weight,bias,running_mean,running_var}"
BLOCKS = (  # of CLIP's Transformers
    f"transformer.resblocks.#.{{ln_1,ln_2,mlp.c_fc,mlp.c_proj,attn.out_proj}}.{BOTH}",
    "transformer.resblocks.#.attn.{in_proj_weight,in_proj_bias}",
)
TOWER = (  # CLIP's image tower
    "conv1.weight",
    "class_embedding",
    "positional_embedding",
    f"{{ln_pre,ln_post}}.{BOTH}",
    *BLOCKS,
)
TEXT = (  # CLIP's text tower, and its temperature
    "token_embedding.weight",
    "positional_embedding",
    "text_projection",
    "logit_scale",
    f"ln_final.{BOTH}",
    *BLOCKS,
)
SIZES = {  # blocks of the four stages of a ResNet, and whether they have three convolutions -> its name
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
CLIPS = {  # width, layers, patch and pixels of OpenAI's image towers -> the name here; they use QuickGELU
    (768, 12, 32, 224): "ViT-B-32-quickgelu",
    (768, 12, 16, 224): "ViT-B-16-quickgelu",
    (1024, 24, 14, 224): "ViT-L-14-quickgelu",
    (1024, 24, 14, 336): "ViT-L-14-336-quickgelu",
}
CLIP_RESNETS = {  # blocks and first channels of OpenAI's ResNets -> the name here
    ((3, 4, 6, 3), 32): "RN50-quickgelu",
    ((3, 4, 23, 3), 32): "RN101-quickgelu",
}


def under(prefix: str, patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}.{pattern}" for pattern in patterns)


def expand(pattern: str, state: Iterable[str]) -> list[str]:
    """Every name that ``pattern`` means for ``state``; at least number 0 of a ``#``."""
    if "#" in pattern:
        before, after = pattern.split("#", 1)
        numbered = re.compile(re.escape(before) + r"(\d+)\.")
        found = (numbered.match(name) for name in state)
        count = max((int(match[1]) + 1 for match in found if match), default=1)
        return [name for i in range(count) for name in expand(f"{before}{i}{after}", state)]
    parts = re.split(r"\{(.*?)\}", pattern)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def every(patterns: Iterable[str], state: Iterable[str]) -> list[str]:
    return [name for pattern in patterns for name in expand(pattern, state)]


@dataclass(frozen=True)
class Trunk:
    """The image tower in a state: in ``words`` ("": there is none), its backbone's ``name`` here ("": it has none), and
    every name ``needed`` for it, in the state's own spelling."""

    words: str = ""
    name: str = ""
    needed: tuple[str, ...] = ()


def resnet(state: Mapping[str, Tensor], prefix: str) -> Trunk:
    """The torchvision ResNet under ``prefix``."""
    renamed = resnet_names(state, prefix)
    kind = resnet_kind(set(renamed.values()))
    if kind is None:
        return Trunk()
    numbered = any(key != f"{prefix}.{name}" for key, name in renamed.items())
    spelling = {name: number for number, name in CHILDREN.items()} if numbered else {}
    needed = []
    for name in resnet_needed(*kind, set(renamed.values())):
        child, rest = name.split(".", 1)
        needed.append(f"{prefix}.{spelling.get(child, child)}.{rest}")
    name = SIZES.get(kind, "")
    return Trunk(name or f"a ResNet of {kind[0]} blocks", name, tuple(needed))


def resnet_names(state: Iterable[str], prefix: str) -> dict[str, str]:
    """Name in ``state`` -> torchvision's (which is timm's), for all under ``prefix``.

    TRX, STRM and HyRSM's family keep the trunk's children in a Sequential, by number; SloshNet keeps the names.
    """
    found = (re.fullmatch(rf"{prefix}\.(\w+)\.(.+)", name) for name in state)
    return {match[0]: f"{CHILDREN.get(match[1], match[1])}.{match[2]}" for match in found if match}


def resnet_kind(names: set[str]) -> tuple[tuple[int, ...], bool] | None:
    """Blocks of each stage and whether they have three convolutions, by torchvision's names; None where none is."""
    found = [match for match in (re.match(r"layer([1-4])\.(\d+)\.", name) for name in names) if match]
    blocks = tuple(max((int(m[2]) + 1 for m in found if int(m[1]) == stage), default=0) for stage in (1, 2, 3, 4))
    return (blocks, "layer1.0.conv3.weight" in names) if any(blocks) else None


def resnet_needed(blocks: Sequence[int], three: bool, names: set[str]) -> list[str]:
    """torchvision's names of all that a ResNet of this kind has, counters and classifier apart.

    Whether the first stage of blocks of two convolutions widens its input, ``names`` tell.
    """
    widens = three or any(name.startswith("layer1.0.downsample.") for name in names)
    patterns = ["conv1.weight", f"bn1.{NORM}"]
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            patterns += [f"{at}.conv{{1,2{',3' * three}}}.weight", f"{at}.bn{{1,2{',3' * three}}}.{NORM}"]
            if block == 0 and (stage > 1 or widens):
                patterns += [f"{at}.downsample.0.weight", f"{at}.downsample.1.{NORM}"]
    return every(patterns, ())


def resnet_width(state: Mapping[str, Tensor], prefix: str) -> int | None:
    """Width of a frame's feature: what the last convolution of the last stage gives; None without a trunk."""
    renamed = resnet_names(state, prefix)
    kind = resnet_kind(set(renamed.values()))
    last = f"layer4.0.conv{3 if kind and kind[1] else 2}.weight"
    return next((len(state[key]) for key, name in renamed.items() if name == last), None)


def clip_tower(state: Mapping[str, Tensor], prefix: str) -> Trunk:
    """CLIP's image tower under ``prefix``, in the names of OpenAI's code (``proj`` where a prefix is given).

    ActionCLIP's temporal shift puts each block into another module, ``net``.
    """
    dot = f"{prefix}." if prefix else ""
    if f"{dot}attnpool.c_proj.weight" in state:
        return clip_resnet(state, dot)
    if f"{dot}conv1.weight" not in state and f"{dot}class_embedding" not in state:
        return Trunk()
    shape = state[f"{dot}conv1.weight"].shape if f"{dot}conv1.weight" in state else (0, 0, 0)
    width, patch = shape[0], shape[2]
    places = len(state[f"{dot}positional_embedding"]) if f"{dot}positional_embedding" in state else 1
    pixels = round((places - 1) ** 0.5) * patch
    patterns = (*TOWER, "proj") if prefix else TOWER
    if is_wrapped(state, dot):
        patterns = tuple(pattern.replace("#", "#.net") for pattern in patterns)
    needed = every((f"{dot}{pattern}" for pattern in patterns), state)
    layers = len(expand(f"{dot}transformer.resblocks.#", state))
    name = CLIPS.get((width, layers, patch, pixels), "")
    words = f"a ViT of width {width}, {layers} layers, patches of {patch}, for {pixels} pixels"
    return Trunk(name or words, name, tuple(needed))


def is_wrapped(state: Iterable[str], dot: str) -> bool:
    """Whether the blocks of the image tower after ``dot`` stand in ``net``, as those with a temporal shift do."""
    wrapped = re.compile(re.escape(dot) + r"transformer\.resblocks\.\d+\.net\.")
    return any(wrapped.match(name) for name in state)


def clip_resnet(state: Mapping[str, Tensor], dot: str) -> Trunk:
    """CLIP's own ResNet, with three convolutions in the stem and a pooling by attention."""
    names = {name.removeprefix(dot) for name in state if name.startswith(dot)}
    blocks, three = resnet_kind(names) or ((), False)
    stages = [name for name in resnet_needed(blocks, three, names) if name.startswith("layer")]
    stem = every(("conv{1,2,3}.weight", f"bn{{1,2,3}}.{NORM}"), ())
    pool = every(("attnpool.positional_embedding", f"attnpool.{{q,k,v,c}}_proj.{BOTH}"), ())
    kind = blocks, len(state[f"{dot}conv1.weight"]) if f"{dot}conv1.weight" in state else 0
    name = CLIP_RESNETS.get(kind, "")
    return Trunk(name or f"a CLIP ResNet of {blocks} blocks", name, tuple(dot + n for n in (*stem, *stages, *pool)))
