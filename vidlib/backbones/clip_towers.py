"""CLIP towers as the methods see them: frames of every kind of open_clip's models, and class texts where they are here.

`B` images, `N` tokens before and at the patches, `D` the tower's width, `C` the joint space's width (``embed_dim``).
"""

import math
from collections.abc import Sequence

import open_clip
import torch
from open_clip.transformer import QuickGELU, TextTransformer, text_global_pool
from torch import Tensor, nn

from vidlib.backbones import vit
from vidlib.basics.errors import UserError
from vidlib.basics.progress import say_once
from vidlib.basics.words import few, first_line, sentence

TEMPLATES = ("a photo of {}.",)


class Images(nn.Module):
    """A CLIP without its text tower, by the names of the whole: where that lives on a hub, images work without it."""

    def __init__(self, visual: nn.Module, config: dict) -> None:
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.tensor(config.get("init_logit_scale", math.log(1 / 0.07))))
        bias = config.get("init_logit_bias")
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        return nn.functional.normalize(self.visual(image), dim=-1) if normalize else self.visual(image)


class CLIPBackbone(vit.Adaptable, nn.Module):
    """An open_clip model as the methods see it; every parameter starts frozen.

    ``visual`` the image tower; of a ViT also what ``vidlib.backbones.vit`` lists. ``embed_dim`` of the joint space,
    ``image_size`` in pixels, ``mean`` and ``std`` of the input normalisation, ``logit_scale`` CLIP's learned inverse
    temperature, ``logit_bias`` what SigLIP adds before its sigmoid (None of the others). ``texts_need``: what class
    texts would need that is not here, a sentence; "" where ``has_text``. ``reader``: open_clip's name of its tokenizer.
    """

    def __init__(
        self,
        clip: nn.Module,
        name: str,
        mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
        std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
        texts_need: str = "",
        reader: str = "",
    ) -> None:
        super().__init__()
        visual, size = clip.visual, clip.visual.image_size
        if not isinstance(size, int) and size[0] != size[1]:
            raise UserError(f"backbone {name!r} takes pictures of {size[0]} x {size[1]}, and clips are square here.")
        self.clip = clip.eval().requires_grad_(False)
        self.name = name
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_size = size if isinstance(size, int) else size[0]
        self.texts_need, self.has_text = texts_need, not texts_need
        self.reader = reader or name
        self.vit = vit.view(visual)
        self.embed_dim = _width(visual)

    @property
    def visual(self) -> nn.Module:
        return self.clip.visual

    @property
    def trunk(self) -> nn.Module:
        """What full tuning trains."""
        return self.clip.visual

    @property
    def logit_scale(self) -> float:
        return math.exp(self.clip.logit_scale.item())

    @property
    def logit_bias(self) -> float | None:
        return None if self.clip.logit_bias is None else self.clip.logit_bias.item()

    @property
    def activation(self) -> str:
        """ "QuickGELU" or "GELU": what open_clip's own towers run with, which no weight file stores."""
        return "QuickGELU" if any(isinstance(module, QuickGELU) for module in self.clip.modules()) else "GELU"

    def encode_image(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B C]``, open_clip's own features, not normalised."""
        return self.clip.encode_image(x, normalize=False)

    def unfreeze(self) -> None:
        """Full tuning: the image tower trains, the text tower stays."""
        self.visual.requires_grad_(True)

    def train(self, mode: bool = True) -> "CLIPBackbone":
        """The towers stay in evaluation mode: they have no dropout that a paper asks for."""
        return super().train(False)

    # ---- sentences, for the methods that train or adapt the text tower

    @property
    def text(self) -> nn.Module:
        """The text tower: of the older models the model itself, which holds its parts."""
        return getattr(self.clip, "text", self.clip)

    @property
    def text_blocks(self) -> nn.ModuleList:
        """UserError where the text tower is none of open_clip's, or has a class token of its own (CoCa)."""
        own = isinstance(self.text, open_clip.CLIP | TextTransformer)
        if not own or getattr(self.text, "cls_emb", None) is not None:
            kind = "CoCa's, with a class token" if own else "another library's"
            raise UserError(
                f"the text tower of backbone {self.name!r} is {kind}, and its blocks cannot be adapted; give clip-mini "
                "or a CLIP whose text tower is open_clip's plain one, such as ViT-B-16-quickgelu."
            )
        return self.text.transformer.resblocks

    @property
    def text_heads(self) -> int:
        """Heads of a text block, or one for 64 channels where the text tower is another library's."""
        blocks = getattr(self.text.transformer, "resblocks", None)
        return blocks[0].attn.num_heads if blocks else max(1, self.embed_dim // 64)

    @property
    def text_width(self) -> int:
        return self.text.token_embedding.embedding_dim

    @property
    def text_mask(self) -> Tensor | None:
        """``[L L]``, added to the scores of a text block's attention: no token sees a later one; None where all do."""
        return self.text.attn_mask

    @property
    def ln_final(self) -> nn.Module:
        return self.text.ln_final

    @property
    def log_scale(self) -> nn.Parameter:
        """CLIP's learned inverse temperature as it is stored: its logarithm."""
        return self.clip.logit_scale

    def tokenize(self, sentences: Sequence[str]) -> Tensor:
        """Sentences -> token ids int64 ``[N L]``, on the CPU; what does not fit is cut off, and said."""
        if self.texts_need:
            raise UserError(self.texts_need)
        length = self.clip.context_length
        reader = tokenizer(self.reader, length)
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
        return self.text.token_embedding(ids) + self.text.positional_embedding[: ids.shape[1]]

    def text_head(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """``[N L Dt]`` after the last text block, ``ids [N L]`` -> ``[N C]``: the end token (of CLIP the largest id) in
        the joint space."""
        text, named = self.text, "text_" if self.text is self.clip else ""
        pool, end = getattr(text, f"{named}pool_type"), getattr(text, f"{named}eos_id")
        pooled = text_global_pool(text.ln_final(tokens), ids, pool, eos_token_id=end)
        if text.text_projection is None:
            return pooled
        linear = isinstance(text.text_projection, nn.Linear)
        return text.text_projection(pooled) if linear else pooled @ text.text_projection

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """``[N L] -> [N C]``: the text tower with gradients, not normalised."""
        return self.clip.encode_text(ids, normalize=False)

    def unfreeze_text(self) -> None:
        """The text tower trains; the image tower and the temperature stay as they are."""
        if self.text is not self.clip:
            self.text.requires_grad_(True)
            return
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
        prompts = [sentence(template, name) for template in templates for name in names]
        tokens = self.tokenize(prompts).to(next(self.visual.parameters()).device)
        return self.encode_tokens(tokens).unflatten(0, (len(templates), len(names))).mean(0)


def tokenizer(reader: str, context_length: int):
    """open_clip's tokenizer of that model: sentences -> int64 [N context_length]; UserError where it is not here."""
    if reader not in open_clip.list_models() and not reader.startswith("local-dir:"):
        return open_clip.SimpleTokenizer(context_length=context_length)
    try:
        return open_clip.get_tokenizer(reader, context_length=context_length)
    except Exception as cause:
        raise UserError(
            f"the tokenizer of backbone {reader!r} is not on this machine and could not be downloaded "
            f"({first_line(cause)})."
        ) from cause


def _width(visual: nn.Module) -> int:
    """Of the features that an image tower of open_clip gives."""
    if hasattr(visual, "output_dim"):
        return visual.output_dim
    linear = [module for module in visual.head.modules() if isinstance(module, nn.Linear)]  # of timm's trunk
    return linear[-1].out_features if linear else visual.trunk.num_classes or visual.trunk.head_hidden_size
