"""CLIP towers: with ``weights``, the only file that knows open_clip.

`B` images, `N` patches, `D` the tower's width, `C` the joint space's width (``embed_dim``).

Any open_clip model whose image tower is a VisionTransformer read out at its class token, and ``clip-mini``, whose
config and weights ship with vidlib. Nothing touches the network unless ``pretrained`` is a tag such as "openai".
OpenAI's weights were trained with QuickGELU: they belong to the names that end in ``-quickgelu``, and this file refuses
the others, because a model saved under such a name would come back with another activation.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from safetensors.torch import save_file
from torch import Tensor, nn

from vidlib.backbones import clip_names, weights
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write
from vidlib.basics.progress import say_once
from vidlib.basics.words import few, sentence, suggest

MINI = "clip-mini"
MINI_DIR = Path(__file__).parent / "clip_mini"
SCHEMES = ("local-dir:", "hf-hub:")  # open_clip's own, for a folder and for a repository of the hub
TEMPLATES = ("a photo of {}.",)


class CLIPBackbone(nn.Module):
    """An open_clip model as the methods see it; every parameter starts frozen.

    ``visual`` the VisionTransformer, ``blocks`` its layers, ``ln_pre`` the norm before them; ``width`` of its tokens,
    ``embed_dim`` of the joint space, ``layers``, ``heads``, ``grid`` (rows, columns of patches), ``image_size`` in
    pixels, ``mean`` and ``std`` of the input normalisation, ``logit_scale`` CLIP's learned inverse temperature.
    """

    def __init__(
        self,
        clip: nn.Module,
        name: str,
        mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
        std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
    ) -> None:
        super().__init__()
        visual = clip.visual
        if (
            not isinstance(visual, open_clip.transformer.VisionTransformer)
            or visual.pool_type != "tok"
            or visual.attn_pool is not None
            or visual.image_size[0] != visual.image_size[1]
            or not isinstance(visual.transformer.resblocks[0], ResidualAttentionBlock)
        ):
            raise UserError(
                f"backbone {name!r} is not a plain ViT with a class token; choose one such as "
                "'ViT-B-16-quickgelu', 'ViT-B-32-quickgelu' or 'clip-mini'."
            )
        self.clip = clip.eval().requires_grad_(False)
        self.name = name
        self.mean, self.std = tuple(mean), tuple(std)
        self.width = visual.conv1.out_channels
        self.embed_dim = visual.output_dim
        self.layers = len(visual.transformer.resblocks)
        self.heads = visual.transformer.resblocks[0].attn.num_heads
        self.grid = tuple(visual.grid_size)
        self.image_size = visual.image_size[0]

    has_text = True

    @property
    def visual(self) -> nn.Module:
        return self.clip.visual

    @property
    def trunk(self) -> nn.Module:
        """What full tuning trains."""
        return self.clip.visual

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Channels of the four maps of ``stages``: a ViT has the same width everywhere."""
        return (self.width,) * 4

    @property
    def blocks(self) -> nn.ModuleList:
        return self.visual.transformer.resblocks

    @property
    def ln_pre(self) -> nn.Module:
        return self.visual.ln_pre

    @property
    def logit_scale(self) -> float:
        return math.exp(self.clip.logit_scale.item())

    @property
    def activation(self) -> str:
        """ "QuickGELU" or "GELU": the image tower's activation, which no weight file stores."""
        return "QuickGELU" if isinstance(self.blocks[0].mlp.gelu, QuickGELU) else "GELU"

    def tokens(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B 1+N D]``: class token first, positions added, before ``ln_pre``; no patch dropout."""
        visual = self.visual
        patches = visual.conv1(x).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        return torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(patches.dtype)

    def head(self, cls: Tensor) -> Tensor:
        """``[... D] -> [... C]``: the class token after the last block, into the joint space (ln_post, projection)."""
        visual = self.visual
        return visual.ln_post(cls) if visual.proj is None else visual.ln_post(cls) @ visual.proj

    def encode_image(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B C]``, open_clip's own features, not normalised."""
        return self.clip.encode_image(x)

    def stages(self, x: Tensor) -> list[Tensor]:
        """``[B 3 H W] -> 4 x [B D h w]``: the patch tokens after each quarter of the blocks, a ViT's four stages."""
        tokens, maps = self.ln_pre(self.tokens(x)), []
        ends = {max(1, round(self.layers * quarter / 4)) for quarter in (1, 2, 3, 4)}
        for layer, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if layer in ends:
                maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid))
        return [maps[0]] * (4 - len(maps)) + maps

    def pool(self, deepest: Tensor) -> Tensor:
        """``[B D h w] -> [B C]``: the mean patch token, read out as the class token is. Not CLIP's own feature."""
        return self.head(deepest.flatten(2).mean(-1))

    def unfreeze(self) -> None:
        """Full tuning: the image tower trains, the text tower stays."""
        self.visual.requires_grad_(True)

    def train(self, mode: bool = True) -> "CLIPBackbone":
        """The towers stay in evaluation mode: they have no dropout that a paper asks for."""
        return super().train(False)

    # ---- sentences, for the methods that train or adapt the text tower

    @property
    def text_blocks(self) -> nn.ModuleList:
        return self.clip.transformer.resblocks

    @property
    def text_width(self) -> int:
        return self.clip.token_embedding.embedding_dim

    @property
    def text_mask(self) -> Tensor:
        """``[L L]``, added to the scores of a text block's attention: no token sees a later one."""
        return self.clip.attn_mask

    @property
    def log_scale(self) -> nn.Parameter:
        """CLIP's learned inverse temperature as it is stored: its logarithm."""
        return self.clip.logit_scale

    def tokenize(self, sentences: Sequence[str]) -> Tensor:
        """Sentences -> token ids int64 ``[N L]``, on the CPU; what does not fit is cut off, and said."""
        length, reader = self.clip.context_length, tokenizer(self.name, self.clip.context_length)
        ids = reader(list(sentences))
        long = [text for text in sentences if len(text.encode()) > length - 2]  # a token is a byte or more
        if long:
            *rows, empty = reader([*long, ""], context_length=length + 1)  # one place more: is it taken?
            cut = {text: None for text, row in zip(long, rows, strict=True) if row[-1] != empty[-1]}
            if cut:
                said = few((repr(text if len(text) < 90 else f"{text[:60]}...{text[-25:]}") for text in cut), 3)
                say_once(f"cut to the {length} tokens that backbone {self.name!r} reads, the rest is not seen: {said}")
        return ids

    def text_tokens(self, ids: Tensor) -> Tensor:
        """``[N L] -> [N L Dt]``: embedded, positions added; what the first text block takes."""
        return self.clip.token_embedding(ids) + self.clip.positional_embedding[: ids.shape[1]]

    def text_head(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """``[N L Dt]`` after the last text block, ``ids [N L]`` -> ``[N C]``: the end token (the largest id) in the
        joint space."""
        end = self.clip.ln_final(tokens)[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]
        return end @ self.clip.text_projection

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """``[N L] -> [N C]``: the text tower with gradients, not normalised."""
        x = self.text_tokens(ids)
        for block in self.text_blocks:
            x = block(x, attn_mask=self.text_mask)
        return self.text_head(x, ids)

    def unfreeze_text(self) -> None:
        """The text tower trains; the image tower and the temperature stay as they are."""
        clip = self.clip
        for part in (clip.token_embedding, clip.transformer, clip.ln_final):
            part.requires_grad_(True)
        clip.positional_embedding.requires_grad_(True)
        clip.text_projection.requires_grad_(True)

    @torch.no_grad()
    def encode_text(self, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
        """``[W C]``: each name put into every template's ``{}``, encoded and averaged over templates; not normalised.

        Averaging raw features rather than directions is a choice: with one template (CLIP-FSAR) they are the same.
        """
        if not templates or any("{}" not in template for template in templates):
            raise UserError(f"templates must be one or more strings that contain {{}}, got {list(templates)!r}.")
        device = self.visual.conv1.weight.device
        prompts = [sentence(template, name) for template in templates for name in names]
        tokens = self.tokenize(prompts).to(device)
        features = self.clip.encode_text(tokens)
        return features.unflatten(0, (len(templates), len(names))).mean(0)


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: clip-mini first, then open_clip's ViTs with a class token."""
    return (MINI, *(name for name in open_clip.list_models() if _is_plain_vit(open_clip.get_model_config(name))))


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    if backbone not in names():
        if backbone.startswith(SCHEMES):
            raise UserError(_scheme(backbone))
        if open_clip.get_model_config(backbone) is not None:
            raise UserError(
                f"backbone {backbone!r} is not a ViT with a class token; choose one such as "
                "'ViT-B-16-quickgelu' or 'clip-mini'."
            )
        otherwise = "choose 'clip-mini' or an open_clip ViT such as 'ViT-B-16-quickgelu'."
        raise UserError(f"backbone {backbone!r} is unknown; {suggest(backbone, names(), otherwise, 3, 0.4)}")
    if pretrained == "":
        return
    if pretrained in _tags(backbone):
        if backbone != MINI:
            quick = open_clip.get_pretrained_cfg(backbone, pretrained).get("quick_gelu", False)
            _check_activation(backbone, "QuickGELU" if quick else "GELU", f"pretrained {pretrained!r}")
        return
    path = absolute(pretrained)
    if not path.is_file():
        raise UserError(
            f"pretrained {pretrained!r} is neither a tag of {backbone} ({', '.join(_tags(backbone))}) nor "
            f"a file (tried {path}); '' gives random weights."
        )


def load(backbone: str, pretrained: str) -> CLIPBackbone:
    """The CLIP model ``backbone`` in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag that open_clip knows for this name
    ("openai"; downloaded, or read from open_clip's cache), or a file: safetensors, a state dict, or OpenAI's archive.
    """
    check(backbone, pretrained)
    return CLIPBackbone(*build(backbone, pretrained))


def build(backbone: str, pretrained: str) -> tuple[nn.Module, str, Sequence[float], Sequence[float]]:
    """What ``load`` wraps: the open_clip model, its name, mean and deviation of its input."""
    config = _config(backbone)
    try:
        clip = _build(config)
    except Exception as cause:  # text towers from the transformers hub fail in many ways, offline most of all
        raise UserError(f"backbone {backbone!r} cannot be built here ({_first_line(cause)}).") from cause
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    path = None
    if backbone == MINI:
        mean, std = config.get("mean", mean), config.get("std", std)
        path = MINI_DIR / "weights.safetensors" if pretrained == MINI else path
    elif pretrained in _tags(backbone):
        tag = open_clip.get_pretrained_cfg(backbone, pretrained)
        mean, std = tag.get("mean", mean), tag.get("std", std)
        try:
            path = open_clip.download_pretrained(tag)
        except Exception as cause:
            raise UserError(
                f"pretrained {pretrained!r} for backbone {backbone!r} could not be downloaded "
                f"({_first_line(cause)}); give a local file instead."
            ) from cause
    told = path is not None  # a tag, and clip-mini, say how they were trained
    if path is None and pretrained:
        path = absolute(pretrained)
    if path is not None:
        _load_weights(clip, Path(path), backbone, told)
    return clip, backbone, mean, std


def save(backbone: CLIPBackbone, path: str | Path) -> None:
    """Write the whole model as safetensors, with its name and activation, so that ``load`` refuses a wrong name."""
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.clip.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"backbone": backbone.name, "activation": backbone.activation})


def _config(backbone: str) -> dict:
    if backbone == MINI:
        return json.loads((MINI_DIR / "config.json").read_text())
    return open_clip.get_model_config(backbone)


def _scheme(backbone: str) -> str:
    """What to give instead of open_clip's ``local-dir:FOLDER`` or ``hf-hub:REPOSITORY``."""
    scheme, place = backbone.split(":", 1)
    start = f"backbone {backbone!r}: a model's name and its file are given apart here, not as open_clip's {scheme}:"
    folder = absolute(place)
    if scheme == "local-dir" and place and not folder.is_dir():
        return f"{start}, and the folder {folder} does not exist."
    if scheme == "local-dir" and place:
        files = sorted(file for ending in ("safetensors", "bin", "pt", "pth") for file in folder.glob(f"*.{ending}"))
        wanted = clip_names.said_by(folder / "open_clip_config.json").get("model_cfg")
        same = [name for name in names()[1:] if open_clip.get_model_config(name) == wanted]
        if same and files:
            return f"{start}; give backbone={same[0]!r} and pretrained='{files[0]}'."
    return (
        f"{start}; give the name of the same architecture, such as 'ViT-B-16-quickgelu', as backbone, and its "
        "downloaded file (open_clip_model.safetensors) as pretrained."
    )


def _is_plain_vit(config: dict) -> bool:
    vision = config["vision_cfg"]
    return not (
        "timm_model_name" in vision
        or "multimodal_cfg" in config
        or vision.get("attentional_pool")
        or isinstance(vision.get("layers", 12), list | tuple)
        or vision.get("pool_type", "tok") != "tok"
    )


def _tags(backbone: str) -> list[str]:
    return [MINI] if backbone == MINI else open_clip.list_pretrained_tags_by_model(backbone)


def _build(config: dict) -> nn.Module:
    custom = config.get("custom_text", False) or "hf_model_name" in config["text_cfg"]
    keys = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias")
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return kind(**{key: config[key] for key in keys if key in config})


def _check_activation(backbone: str, activation: str, source: str) -> None:
    quick = _config(backbone).get("quick_gelu", False)
    if (activation == "QuickGELU") != quick:
        right = backbone.removesuffix("-quickgelu") if quick else f"{backbone}-quickgelu"
        raise UserError(
            f"{source} was trained with {activation}, which backbone {backbone!r} does not use; "
            f"the right name is backbone={right!r}."
        )


def _load_weights(clip: nn.Module, path: Path, backbone: str, told: bool) -> None:
    """Fill ``clip`` from a file; UserError where the file's activation or its shapes are another model's. ``told``: its
    activation and statistics are known already; else what the file does not say of them is said."""
    stored = weights.read(path)
    state = clip_names.from_transformers(weights.tidy(stored.tensors))
    activation = stored.notes.get("activation") or clip_names.activation_beside(path)
    if activation and not told:
        _check_activation(backbone, activation, f"pretrained file {path}")
    problem = ""
    try:
        state = open_clip.convert.convert_state_dict(clip, state)
        if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
            state = open_clip.model.convert_to_custom_text_state_dict(state)
        for name in {"logit_scale", "logit_bias"} & state.keys():
            state[name] = state[name].reshape(getattr(clip, name).shape)  # a number, or one in a list
        open_clip.model.resize_pos_embed(state, clip)
        open_clip.model.resize_text_pos_embed(state, clip)
        problem = weights.misfit(clip.state_dict(), state)
        clip.load_state_dict(state)
    except Exception as cause:
        raise UserError(
            f"pretrained file {path} does not hold weights of backbone {backbone!r}: {problem or _first_line(cause)}."
        ) from cause
    if not (told or activation):
        say_once(_untold(path, backbone))


def _untold(path: Path, backbone: str) -> str:
    """What a file of weights cannot tell of itself, and what is therefore assumed."""
    here, there, twin = "GELU", "QuickGELU, as OpenAI's were,", f"{backbone}-quickgelu"
    if _config(backbone).get("quick_gelu", False):
        here, there, twin = "QuickGELU", "GELU", backbone.removesuffix("-quickgelu")
    other = (
        f"; weights trained with {there} belong to backbone={twin!r}" if twin in names() and twin != backbone else ""
    )
    return (
        f"{path} does not say with which activation and which statistics of pixels it was trained: it runs with "
        f"{here}, as backbone {backbone!r} does, and OpenAI's mean and deviation{other}."
    )


def tokenizer(backbone: str, context_length: int):
    """open_clip's tokenizer of that model: sentences -> int64 [N context_length]; UserError where it is not here."""
    if backbone not in open_clip.list_models():
        return open_clip.SimpleTokenizer(context_length=context_length)
    try:
        return open_clip.get_tokenizer(backbone, context_length=context_length)
    except Exception as cause:
        raise UserError(
            f"the tokenizer of backbone {backbone!r} is not on this machine and could not be downloaded "
            f"({_first_line(cause)})."
        ) from cause


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160]
