"""How the released codes name their tensors: what a file of each holds and needs, and the sizes that its shapes tell.

Names are those of the released module itself (``files.tidy`` takes wrappers away), patterns those of ``trunks``.
Sources: the modules' own state dicts (the golden fixtures hold them all but for the trunks), and the released codes for
trunks and containers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidlib.errors import UserError
from vidlib.released.trunks import BOTH, NORM, TOWER, expand, resnet_width, under

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
    ResNet apart; ``sizes``: constructor arguments, with ``width``, that of a frame's feature; ``trunk``: the name
    before the image tower's ("": it stands among the rest, in whatever holds it); ``clip``: whether that is CLIP's,
    else a torchvision ResNet; ``texts``: whether class texts matter; ``mean_std``: the released input statistics at
    test, None where they are the backbone's own.
    """

    signature: tuple[str, ...]
    needed: tuple[str, ...]
    sizes: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    trunk: str = "backbone"
    optional: tuple[str, ...] = ()
    clip: bool = False
    texts: bool = False
    mean_std: tuple[float, float] | None = None


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
    sizes = {"width": width, "cardinalities": cardinalities, out: len(heads[0])}
    return sizes | frames_of(state, "transformers.0.pe.pe")


def strm(state: Mapping[str, Tensor]) -> dict[str, Any]:
    sizes = cross(state) | {"frames": len(state["fr_enrich.Tok_MLP.inp_fc.weight"])}
    side = round((2 * state["attn_pat.pe.pe"].shape[1] / 3) ** 0.5) if "attn_pat.pe.pe" in state else 4
    return sizes | {"grid": (side, side)}


def sloshnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return cross(state, "projection")


def hyrsm(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"width": len(state["layer2.0.weight"])} | classes_of(state)


def molo(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state["class_token"].shape[-1]
    return {"width": width, "factor": width // len(state["motion_reduce.weight"])} | classes_of(state)


def clip_fsar(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"width": state["context2.layers.0.0.fn.to_q.weight"].shape[1]}


def aim(state: Mapping[str, Tensor]) -> dict[str, Any]:
    _, frames, width = state["temporal_embedding"].shape
    down = state["transformer.resblocks.0.S_Adapter.D_fc1.weight"]
    doubled = "transformer.resblocks.0.T_Adapter_in.D_fc1.weight" in state
    return {"width": width, "frames": frames, "num_tadapter": 1 + doubled, "ratio": len(down) / width}


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
}
