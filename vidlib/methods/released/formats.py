"""How the released codes name their tensors: what a file of each holds and needs, and the sizes that its shapes tell.

Names are those of the released module itself (``weights.tidy`` takes wrappers away), patterns those of ``trunks``.
Sources: the modules' own state dicts (the golden fixtures hold them all but for the trunks), and the released codes for
trunks and containers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidlib.basics.errors import UserError
from vidlib.methods.released.trunks import BLOCKS, BOTH, NORM, TEXT, TOWER, expand, is_wrapped, resnet_width, under

CROSS = (f"transformers.#.{{k_linear,v_linear,norm_k}}.{BOTH}",)  # TRX's heads, one per cardinality
COUNTED = r"(^|\.)num_batches_tracked$"  # not in old files, and no output depends on it
TEMPORAL = (  # a Transformer block over time as MoLo and CLIP-FSAR write it
    f"layers.0.0.norm.{BOTH}",
    f"layers.0.0.fn.to_out.0.{BOTH}",
    f"layers.0.1.net.{{0,3}}.{BOTH}",
)
GREY, UNCHANGED = (0.45, 0.225), (0.0, 1.0)


@dataclass(frozen=True)
class Format:
    """One released code.

    ``signature``: names that tell its files from the others'; ``needed``, ``optional``: patterns of what is read, a
    ResNet apart; ``sizes``: constructor arguments, with ``features``, the width of a frame's feature; ``trunk``: the
    name before the image tower's ("": it stands among the rest, in whatever holds it); ``clip``: whether that is
    CLIP's, else a torchvision ResNet; ``texts``: whether class texts matter that the file has no tower for;
    ``mean_std``: the released input statistics at test, None where they are the backbone's own.

    ``further``: patterns needed besides, by what a state's names tell of its variant. ``whole``: a file with an image
    tower has the text tower too, and one without holds what was trained on a CLIP whose weights it needs. ``base``:
    how names begin here that are the CLIP's. ``remark``: what is not sure of a state that has the signature.
    """

    signature: tuple[str, ...]
    needed: tuple[str, ...]
    sizes: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    trunk: str = "backbone"
    optional: tuple[str, ...] = ()
    clip: bool = False
    texts: bool = False
    mean_std: tuple[float, float] | None = None
    further: Callable[[Mapping[str, Tensor]], tuple[str, ...]] = lambda state: ()
    whole: bool = False
    base: tuple[str, ...] = ("backbone.",)
    remark: Callable[[Mapping[str, Tensor]], str] = lambda state: ""


# ---------------------------------------------------------------- what shapes tell


def frames_of(state: Mapping[str, Tensor], table: str) -> dict[str, int]:
    """T from a table of positions, which the TRX family makes one and a half times as long."""
    return {"frames": -(-2 * state[table].shape[1] // 3)} if table in state else {}


def classes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    name = "classification_layer.weight"
    return {"classes": len(state[name])} if name in state else {}


def cross(state: Mapping[str, Tensor], out: str = "out_dim") -> dict[str, Any]:
    """TRX's heads: the cardinality is how often the feature's width fits a projection's input."""
    heads = [state[name] for name in expand("transformers.#.k_linear.weight", state)]
    table = state.get("transformers.0.pe.pe")
    width = table.shape[-1] if table is not None else resnet_width(state, "resnet")
    if width is None or any(head.shape[1] % width for head in heads):
        raise UserError("the width of the features cannot be told: neither transformers.0.pe.pe nor a trunk is there")
    cardinalities = tuple(head.shape[1] // width for head in heads)
    sizes = {"features": width, "cardinalities": cardinalities, out: len(heads[0])}
    return sizes | frames_of(state, "transformers.0.pe.pe")


def strm(state: Mapping[str, Tensor]) -> dict[str, Any]:
    sizes = cross(state) | {"frames": len(state["fr_enrich.Tok_MLP.inp_fc.weight"])}
    side = round((2 * state["attn_pat.pe.pe"].shape[1] / 3) ** 0.5) if "attn_pat.pe.pe" in state else 4
    return sizes | {"grid": (side, side)}


def sloshnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return cross(state, "projection")


def hyrsm(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"features": len(state["layer2.0.weight"])} | classes_of(state)


def molo(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state["class_token"].shape[-1]
    return {"features": width, "factor": width // len(state["motion_reduce.weight"])} | classes_of(state)


def clip_fsar(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"features": state["context2.layers.0.0.fn.to_q.weight"].shape[1]}


def aim(state: Mapping[str, Tensor]) -> dict[str, Any]:
    _, frames, width = state["temporal_embedding"].shape
    down = state["transformer.resblocks.0.S_Adapter.D_fc1.weight"]
    doubled = "transformer.resblocks.0.T_Adapter_in.D_fc1.weight" in state
    return {"features": width, "frames": frames, "num_tadapter": 1 + doubled, "ratio": len(down) / width}


# ---------------------------------------------------------------- ActionCLIP: which visual prompt names tell

PROMPTS = {  # start of a head's names -> its visual prompt; the table of positions is made for others too
    "fusion.lstm_visual.": "lstm",
    "fusion.shift.": "conv1d",
    "fusion.transformer.resblocks.": "transf",
    "fusion.transformer.": "transf_cls",
    "fusion.frame_position_embeddings.": "transf",
}
LAYERS = "fusion.transformer.transformer_enc.layers.#"
PROMPT_NAMES = {
    "joint": ("visual.time_embedding",),
    "lstm": ("fusion.lstm_visual.{weight_ih_l0,weight_hh_l0,bias_ih_l0,bias_hh_l0}",),
    "conv1d": ("fusion.shift.weight",),
    "transf": ("fusion.frame_position_embeddings.weight", *under("fusion", BLOCKS)),
    "transf_cls": (
        "fusion.transformer.{cls_token,pos_embed}",
        f"{LAYERS}.self_attn.{{in_proj_weight,in_proj_bias}}",
        f"{LAYERS}.{{self_attn.out_proj,linear1,linear2,norm1,norm2}}.{BOTH}",
        f"fusion.transformer.transformer_enc.norm.{BOTH}",
    ),
}


def visual_prompt(state: Iterable[str]) -> str:
    if "visual.time_embedding" in state:
        return "joint"
    if is_wrapped(state, "visual."):
        return "shift"
    return next((prompt for start, prompt in PROMPTS.items() if any(n.startswith(start) for n in state)), "meanp")


def actionclip(state: Mapping[str, Tensor]) -> dict[str, Any]:
    prompt = visual_prompt(state)
    sizes = {"features": state["visual.proj"].shape[1], "visual_prompt": prompt}
    if prompt == "joint":
        sizes["frames"] = len(state["visual.time_embedding"])
    if prompt == "transf_cls":
        sizes["frames"] = state["fusion.transformer.pos_embed"].shape[1] - 1
    return sizes


def actionclip_remark(state: Mapping[str, Tensor]) -> str:
    if visual_prompt(state) != "meanp":
        return ""
    return "no names of a visual prompt: meanp, or a plain CLIP, or a head kept elsewhere (visual_prompt= says which)"


# ---------------------------------------------------------------- M2-CLIP: where its adapters are

PLACES = {"attn": "attention", "mlp": "mlp"}  # adapter_pre_* -> the place here


def adapted(state: Iterable[str], tower: str) -> tuple[list[int], list[str]]:
    """Blocks after ``tower`` that have adapters, in order, and the places that any of them has them at."""
    pattern = re.compile(re.escape(tower) + r"transformer\.resblocks\.(\d+)\.adapter_pre_(attn|mlp)\.")
    found = [match for match in map(pattern.match, state) if match]
    return sorted({int(match[1]) for match in found}), [place for place in PLACES if place in {m[2] for m in found}]


def is_whole(state: Iterable[str]) -> bool:
    """Whether there is more than what M2-CLIP trains: it trains what has "adapter" in its name."""
    return not all("adapter" in name for name in state)


def m2clip_names(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    _, places = adapted(state, "visual.")
    branches = "{fc1,conv,fc2,offset_adapter.fc1,offset_adapter.conv,offset_adapter.fc2}"
    names = [f"visual.transformer.resblocks.#.adapter_pre_{at}.{branches}.{BOTH}" for at in places or ["mlp"]]
    blocks, places = adapted(state, "")
    last = len(expand("transformer.resblocks.#", state)) if blocks else 0
    for block in range(blocks[0] if blocks else 0, last):
        names += [f"transformer.resblocks.{block}.adapter_pre_{at}.{{textad_fc1,textad_fc2}}.{BOTH}" for at in places]
    return (*names, *TEXT, "visual.{conv1.weight,class_embedding}") if is_whole(state) else tuple(names)


def m2clip(state: Mapping[str, Tensor]) -> dict[str, Any]:
    _, places = adapted(state, "visual.")
    down = state[f"visual.transformer.resblocks.0.adapter_pre_{places[0]}.fc1.weight"]
    blocks, text_places = adapted(state, "")
    sizes = {
        "features": state["visual.t_adapter.fc1.weight"].shape[1],
        "classes": len(state["visual.adapter_fc.weight"]),
        "vocabulary": len(state["mlm_adapter.decoder.weight"]),
        "width": len(down),
        "adapter_places": tuple(PLACES[place] for place in places),
        "text_adapter_layers": len(blocks),
        "text_adapter_places": tuple(PLACES[place] for place in text_places),
    }
    if blocks:
        first = f"transformer.resblocks.{blocks[0]}.adapter_pre_{text_places[0]}.textad_fc1.weight"
        sizes["text_width"] = len(state[first])
    return sizes


FORMATS: dict[str, Format] = {
    "sloshnet": Format(
        signature=("cmm.qkv.weight", "darts_model.alpha_normal.0"),
        needed=(
            *CROSS,
            *("beta1", "gamma1", "darts_model.alpha_normal.{0,1,2}"),
            "cmm.{qkv,qconv,kconv,mlp.fc1,mlp.fc2}.weight",
            "cstm.resblocks.0.attn.{in_proj_weight,in_proj_bias}",
            f"cstm.resblocks.0.{{attn.out_proj,ln_1,ln_2,mlp.c_fc,mlp.c_proj}}.{BOTH}",
            *(
                f"spatial_modulation.spatial_modulation.{stage}.{block}.{{conv2.weight,bn2.weight,bn2.bias,"
                "bn2.running_mean,bn2.running_var}"
                for stage, blocks in enumerate((3, 2, 1))
                for block in range(blocks)
            ),
        ),
        sizes=sloshnet,
        trunk="resnet",
    ),
    "strm": Format(
        signature=("attn_pat.query_proj.weight", "fr_enrich.Tok_MLP.inp_fc.weight"),
        needed=(
            *CROSS,
            "attn_pat.gamma",
            f"attn_pat.{{query_proj,key_proj,value_conv,Bot_MLP.inp_fc,Bot_MLP.hid_fc,Bot_MLP.out_fc}}.{BOTH}",
            f"fr_enrich.{{Tok_MLP,Bot_MLP}}.{{inp_fc,out_fc}}.{BOTH}",
        ),
        optional=(f"new_dist_loss_post_pat.#.clsW.{BOTH}",),
        sizes=strm,
        trunk="resnet",
        mean_std=UNCHANGED,
    ),
    "trx": Format(
        signature=("transformers.0.k_linear.weight",), needed=CROSS, sizes=cross, trunk="resnet", mean_std=UNCHANGED
    ),
    "molo": Format(
        signature=("class_token_motion", "motion_reduce.weight"),
        needed=(
            *("class_token", "class_token_motion", "scale", "scale_motion"),
            f"{{motion_conv,motion_reduce,motion_up,outc.conv}}.{BOTH}",
            *under("temporal_atte_before", (*TEMPORAL, "layers.0.0.fn.to_qkv.weight")),
            *under("temporal_atte_before_motion", (*TEMPORAL, "layers.0.0.fn.to_qkv.weight")),
            "up{1,2,3}.conv.double_conv.0.weight",
            f"up{{1,2,3}}.conv.double_conv.1.{NORM}",
        ),
        optional=(f"classification_layer.{BOTH}",),
        sizes=molo,
        mean_std=GREY,
    ),
    "hyrsm": Format(
        signature=("temporal_atte.w_qs.weight", "layer2.0.weight"),
        needed=(
            f"layer2.0.{BOTH}",
            "temporal_atte.{w_qs,w_ks,w_vs}.weight",
            f"temporal_atte.{{fc,layer_norm}}.{BOTH}",
            "temporal_atte_before.fn.to_qkv.weight",
            f"temporal_atte_before.{{norm,fn.to_out.0}}.{BOTH}",
        ),
        optional=(f"classification_layer.{BOTH}",),
        sizes=hyrsm,
        mean_std=GREY,
    ),
    "clip_fsar": Format(
        signature=("context2.layers.0.0.fn.to_q.weight",),
        needed=(*under("context2", (*TEMPORAL, "layers.0.0.fn.{to_q,to_k,to_v}.weight")), "scale"),
        sizes=clip_fsar,
        clip=True,
        texts=True,
    ),
    "aim": Format(
        signature=("temporal_embedding", "transformer.resblocks.0.S_Adapter.D_fc1.weight"),
        needed=(
            "temporal_embedding",
            f"transformer.resblocks.#.{{S_Adapter,T_Adapter,MLP_Adapter}}.{{D_fc1,D_fc2}}.{BOTH}",
            *TOWER,
        ),
        optional=(f"transformer.resblocks.#.T_Adapter_in.{{D_fc1,D_fc2}}.{BOTH}",),
        sizes=aim,
        trunk="",
        clip=True,
    ),
    "m2clip": Format(
        signature=("visual.t_adapter.fc1.weight", "visual.adapter_fc.weight"),
        needed=(
            f"visual.t_adapter.{{fc1,conv,fc2}}.{BOTH}",
            f"visual.adapter_fc.{BOTH}",
            "mlm_adapter.{decoder.weight,bias}",
            f"mlm_adapter.transform.{{dense,LayerNorm}}.{BOTH}",
        ),
        sizes=m2clip,
        trunk="visual",
        clip=True,
        further=m2clip_names,
        whole=True,
        base=("backbone.", "decoder."),
    ),
    "actionclip": Format(
        signature=("visual.class_embedding", "text_projection", "token_embedding.weight"),
        needed=(*TEXT, "visual.{conv1.weight,class_embedding}"),
        sizes=actionclip,
        trunk="visual",
        clip=True,
        further=lambda state: PROMPT_NAMES.get(visual_prompt(state), ()),
        whole=True,
        remark=actionclip_remark,
    ),
}
