"""M2-CLIP (Wang et al., AAAI 2024, arXiv 2401.11649): adapters in both CLIP towers, trained by four heads at once.

Legend: `B` videos, `T` frames, `N` patches, `D` image width, `C` joint-space width, `K` training classes, `L` tokens of
a sentence, `V` words of the vocabulary.

Everything of CLIP is frozen: blocks, norms, projections, temperature. Added and trained: TED-Adapters before the
attention or the MLP of every image block, text adapters so in the last text blocks, a residual temporal adapter on the
frames' features in the joint space, a classifier, and the word head. A frame's feature is CLIP's own readout of its
class token, then the temporal adapter; a video's is the mean over frames. The heads:

- ``contrastive``: ``video_text.contrast``, as ActionCLIP's, on each clip and its sentence;
- ``cross_modal``: cross-entropy of ``scale * cos(video, text)`` over the texts of all training classes, which are
  encoded with gradients in every step;
- ``visual``: a classifier on ln_post of the class tokens after the last block, averaged over frames;
- ``mlm``: masked words of a sentence told from the video. The words' states after the last text block attend to the
  frames' features in one more block, a frozen copy of the last; then ln_final and a BERT head.

loss = 0.5 * contrastive + 0.5 * cross_modal + visual + 0.1 * mlm, where ``contrastive`` is the mean of its two
directions. Terms are over the clips of all processes, so that the number of processes does not matter.

``variant="released"`` differs in:

1. the target of ``contrastive``: softmax of ten times the 0/1 ground truth;
2. ``cross_modal``: cross-entropy of what has already been through softmax;
3. the scale of ``cross_modal``, and of scores with it: always 100, not CLIP's own (which is 100 in OpenAI's weights);
4. ``mlm`` is disabled: no sentence is ever masked. The released code then logs NaN, the mean over no word, for this
   term and the total, though the other terms train; here the term is zero and has no gradient.

Not taken over in either variant: the released code computes ``contrastive`` on each GPU alone, without gathering, and
its adapters write into their input. How often the authors meant to mask is not known: here, the clip's sentence in
every step, beside the plain one that the other heads read.

With adapters before the MLP, the difference branch of the last block trains to no effect: only that block's class token
is ever read. It is counted in the paper's parameters, and here.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.data.labelled import LabelledBatch
from vidlib.layers.attention import block_attention
from vidlib.layers.gathering import mean_over_all
from vidlib.layers.ted_adapter import FrameAdapter, TEDAdapter, TextAdapter
from vidlib.layers.word_head import WordHead
from vidlib.matching.base import at_least_float32
from vidlib.methods.base import one_of, some_of
from vidlib.methods.video_text import (
    Features,
    Outcome,
    VideoTextMethod,
    contrast,
    retrieved,
    similarities,
)

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone

HEADS = {"contrastive": 0.5, "cross_modal": 0.5, "visual": 1.0, "mlm": 0.1}  # and their weights (released code)
RELEASED_SCALE = 100.0
TEMPLATE = "A video of {}"  # in training and in testing (released code)
PLACES = ("attention", "mlp")
BRANCHES = ("enhancement", "difference")

# Patterns in our names -> the released code's, applied one after the other.
RELEASED = {
    r"^visual_adapters\.": "visual.transformer.resblocks.",
    r"^text_adapters\.": "transformer.resblocks.",
    r"^frame_adapter\.": "visual.t_adapter.",
    r"^classifier\.": "visual.adapter_fc.",
    r"^word_head\.(?=dense|norm)": "mlm_adapter.transform.",
    r"^word_head\.": "mlm_adapter.",
    r"\.norm\.": ".LayerNorm.",
    r"\.attention\.(?=enhancement|difference|down|up)": ".adapter_pre_attn.",
    r"\.mlp\.(?=enhancement|difference|down|up)": ".adapter_pre_mlp.",
    r"\.enhancement\.": ".",
    r"\.difference\.": ".offset_adapter.",
    r"\.down\.": ".fc1.",
    r"\.up\.": ".fc2.",
    r"^(transformer\..+)\.fc(?=\d\.)": r"\1.textad_fc",
}


class M2CLIP(VideoTextMethod):
    """M2-CLIP on any CLIP; ``mlm`` needs one whose text tower is as wide as the joint space.

    classes: K, how many classes it is trained on. vocabulary: V, how many words ``mlm`` tells apart
        (``data.labelled.vocabulary`` lists them).
    heads: which of "contrastive", "cross_modal", "mlm" and "visual" train; one left out has no loss and no parameters,
        and what it alone would train is left out too. weights: head -> weight of its loss, over 0.5, 0.5, 0.1 and 1.
    width, text_width: of image and text adapters. adapter_places, text_adapter_places: before the "attention", the
        "mlp", or both, of a block. ted: branches of the TED-Adapters, of "enhancement" and "difference".
    text_adapter_layers: how many of the last text blocks have adapters, where the word head's extra block counts as the
        last: with CLIP's 12 blocks, 13 for all.
    score: "contrastive", the video against the classes' texts, also of new classes; or "visual", the classifier.
    dropout: before the classifier. template: the sentence around a class's text, in training and in testing.
    """

    adapts_blocks = True
    rates = {"text_adapters.": 0.5}
    SENTENCE = TEMPLATE

    def __init__(
        self,
        backbone: "CLIPBackbone",
        frames: int = 8,
        *,
        classes: int,
        vocabulary: int = 0,
        heads: Sequence[str] = ("contrastive", "cross_modal", "mlm", "visual"),
        weights: Mapping[str, float] | None = None,
        width: int = 384,
        text_width: int = 384,
        adapter_places: Sequence[str] = ("mlp",),
        ted: Sequence[str] = BRANCHES,
        text_adapter_layers: int = 2,
        text_adapter_places: Sequence[str] = ("mlp",),
        score: str = "contrastive",
        dropout: float = 0.5,
        template: str = TEMPLATE,
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.heads = some_of("heads", heads, tuple(HEADS))
        if not self.heads:
            raise UserError(f"heads is empty; give one or more of {', '.join(map(repr, HEADS))}.")
        some_of("weights", weights or {}, self.heads)
        self.weights = {head: (weights or {}).get(head, HEADS[head]) for head in self.heads}
        self.released = one_of("variant", variant, ("paper", "released")) == "released"
        self.uses_text = one_of("score", score, ("contrastive", "visual")) == "contrastive"
        if not self.uses_text and "visual" not in self.heads:
            raise UserError(
                "score 'visual' reads the classifier, which only the head 'visual' trains; add it to heads."
            )
        if "{}" not in template:
            raise UserError(f"template must contain {{}}, got {template!r}.")
        self.templates = (template,)
        places = some_of("adapter_places", adapter_places, PLACES)
        text_places = some_of("text_adapter_places", text_adapter_places, PLACES)
        branches = some_of("ted", ted, BRANCHES)
        for name, value in {"classes": classes, "width": width, "text_width": text_width}.items():
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value!r}.")
        self.masks_words = "mlm" in self.heads and not self.released
        last = len(backbone.text_blocks)
        if not 0 <= text_adapter_layers <= last + 1:
            raise UserError(f"text_adapter_layers must be from 0 to {last + 1}, got {text_adapter_layers!r}.")

        sizes = backbone.width, width, frames

        def image_adapters() -> nn.ModuleDict:
            made = {place: TEDAdapter(*sizes, backbone.grid, branches, backbone.prefix) for place in places}
            return nn.ModuleDict(made)

        def text_adapters(layer: int) -> nn.ModuleDict:
            there = text_places if meets_text and layer > last - text_adapter_layers else ()
            return nn.ModuleDict({place: TextAdapter(backbone.text_width, text_width) for place in there})

        meets_text = self.heads != ("visual",)
        self.visual_adapters = nn.ModuleList(image_adapters() for _ in range(backbone.layers))
        self.text_adapters = nn.ModuleList(text_adapters(layer) for layer in range(last + ("mlm" in self.heads)))
        self.frame_adapter = FrameAdapter(backbone.embed_dim, backbone.embed_dim // 2) if meets_text else None
        self.decoder = self.word_head = self.classifier = None
        if "mlm" in self.heads:
            _check_words(backbone, vocabulary)
            self.decoder = deepcopy(backbone.text_blocks[-1]).requires_grad_(False)
            self.word_head = WordHead(backbone.text_width, vocabulary)
        self.dropout = nn.Dropout(dropout)
        if "visual" in self.heads:
            self.classifier = nn.Linear(backbone.pooled_dim, classes)
            nn.init.normal_(self.classifier.weight, std=0.02)
            nn.init.zeros_(self.classifier.bias)

    @property
    def scale(self) -> Tensor:
        """The factor on cosines: CLIP's, frozen."""
        return self.backbone.log_scale.exp()

    @property
    def class_scale(self) -> Tensor | float:
        """The factor on cosines with class texts."""
        return RELEASED_SCALE if self.released else self.scale

    # ---- towers

    def embed(self, clips: Tensor) -> Features:
        """``video [B C]``, ``frames [B T C]`` and, with the head "visual", its ``logits [B K]``."""
        tokens = self.image_tokens(clips)
        frames = rearrange(self.backbone.read(tokens), "(b t) c -> b t c", t=self.frames)
        if self.frame_adapter is not None:
            frames = self.frame_adapter(frames)
        features = {"video": frames.mean(1), "frames": frames}
        if self.classifier is not None:
            features["logits"] = self.classifier(self.dropout(self.clip_feature(tokens)))
        return features

    def clip_feature(self, tokens: Tensor) -> Tensor:
        """``[(B T) P+N D] -> [B D]``: the norm of the mean class token; the mean of what a tower reads otherwise."""
        if self.backbone.reads_class_token:
            return self.backbone.ln_post(rearrange(tokens[:, 0], "(b t) d -> b t d", t=self.frames).mean(1))
        read = self.backbone.read(tokens, project=False)
        return rearrange(read, "(b t) d -> b t d", t=self.frames).mean(1)

    def image_tokens(self, clips: Tensor) -> Tensor:
        """``[B T 3 H W] -> [(B T) P+N D]``: each frame's tokens after the last block."""
        self.check_frames(clips)
        x = self.backbone.ln_pre(self.backbone.tokens(rearrange(clips, "b t c h w -> (b t) c h w")))
        for block, adapters in zip(self.backbone.blocks, self.visual_adapters, strict=True):
            x = self.image_block(block, adapters, x)
        return x

    def image_block(self, block: nn.Module, adapters: nn.ModuleDict, x: Tensor) -> Tensor:
        """One block with its adapters, ``[(B T) 1+N D] -> [(B T) 1+N D]``."""
        x = _before("attention", adapters, x)
        x = _before("mlp", adapters, x + block_attention(block, x))
        return x + block.ls_2(block.mlp(block.ln_2(x)))

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.backbone.text_head(self.text_states(ids), ids)

    def text_states(self, ids: Tensor) -> Tensor:
        """``[N L] -> [N L C]``: after the last text block, before ln_final."""
        x, mask = self.backbone.text_tokens(ids), self.backbone.text_mask
        for block, adapters in zip(self.backbone.text_blocks, self.text_adapters, strict=False):
            x = _text_block(block, adapters, x, None, mask)
        return x

    def decode(self, ids: Tensor, frames: Tensor) -> Tensor:
        """Sentences ``[B L]`` looking at their videos' ``frames [B T C]`` -> ``[B L C]``, what the word head takes."""
        x = _text_block(self.decoder, self.text_adapters[-1], self.text_states(ids), frames, None)
        return self.backbone.ln_final(x)

    # ---- testing and training

    def score(self, features: Features, text: Tensor) -> Tensor:
        """Softmax over classes of scaled cosines, averaged over templates; of the classifier with score "visual", where
        ``text`` only tells the number of classes."""
        if self.uses_text:
            cosines = similarities(features["video"], text.flatten(0, 1)).unflatten(1, text.shape[:2])
            return (self.class_scale * cosines).softmax(-1).mean(1)
        if text.shape[1] != self.classifier.out_features:
            raise UserError(
                f"score 'visual' tells its {self.classifier.out_features} training classes apart and no others; the "
                f"scores of {text.shape[1]} were asked for: use score 'contrastive'."
            )
        return at_least_float32(features["logits"]).softmax(-1)

    def losses(self, batch: LabelledBatch) -> Outcome:
        """A term for each head, weighted; parts ``video``, ``frames``, and what each head saw: ``text [B C]`` (the
        clips' sentences), ``class_logits [B K]`` (cross_modal), ``logits [B K]`` (visual)."""
        parts = self.embed(batch.clips)
        terms: dict[str, Tensor] = {}
        if "contrastive" in self.heads:
            parts["text"] = self.encode_text(batch.ids)
            terms["contrastive"] = contrast(parts["video"], parts["text"], batch.labels, self.scale, self.released)
        if "cross_modal" in self.heads:
            logits = self.class_scale * similarities(parts["video"], self.encode_text(batch.class_ids))
            parts["class_logits"] = logits
            told = logits.softmax(-1) if self.released else logits
            terms["cross_modal"] = mean_over_all(F.cross_entropy(told, batch.labels, reduction="none"))
        if "visual" in self.heads:
            logits = at_least_float32(parts["logits"])
            terms["visual"] = mean_over_all(F.cross_entropy(logits, batch.labels, reduction="none"))
        if "mlm" in self.heads:
            terms["mlm"] = self.word_loss(batch, parts["frames"])
        losses = {head: self.weights[head] * term for head, term in terms.items()}
        return Outcome(losses, self._hits(batch, parts), parts)

    def word_loss(self, batch: LabelledBatch, frames: Tensor) -> Tensor:
        """Cross-entropy of the masked words, averaged over all masked words of all processes; zero when released."""
        if self.released:
            return frames.new_zeros(())
        if batch.masked_ids is None or batch.words is None:
            raise UserError("the head 'mlm' needs masked_ids and words in every batch; leave it out of heads without.")
        asked = batch.words >= 0
        logits = at_least_float32(self.word_head(self.decode(batch.masked_ids, frames)[asked]))
        return mean_over_all(F.cross_entropy(logits, batch.words[asked], reduction="none"))

    def _hits(self, batch: LabelledBatch, parts: Features) -> Tensor:
        """Clips told right by what ``score`` reads; among the batch's sentences where no class texts were encoded."""
        logits = parts.get("class_logits") if self.uses_text else parts["logits"]
        if logits is not None:
            return logits.argmax(-1) == batch.labels
        with torch.no_grad():
            text = parts["text"] if "text" in parts else self.encode_text(batch.ids)
        return retrieved(parts["video"], text, batch.labels)

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the official state dict: all of it, or what an official checkpoint stores, the names with "adapter".

        UserError, with the names, where something lacks, is unknown or has another shape; nothing is changed then.
        """
        own = {self.released_name(name): value for name, value in self.state_dict(keep_vars=True).items()}
        if all("adapter" in name for name in state):
            own = {name: value for name, value in own.items() if "adapter" in name}
        values = {name: value.squeeze(2) if value.ndim == 5 else value for name, value in state.items()}
        problems = [f"lacks {name}" for name in own if name not in values]
        problems += [f"has {name}, which is unknown here" for name in values if name not in own]
        problems += [
            f"has {name} of shape {tuple(values[name].shape)} instead of {tuple(value.shape)}"
            for name, value in own.items()
            if name in values and values[name].shape != value.shape
        ]
        if problems:
            raise UserError(f"the released state does not fit this M2-CLIP: it {'; '.join(problems)}.")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(values[name])

    def released_name(self, name: str) -> str:
        """What the released code calls the parameter ``name``."""
        if name.startswith("backbone.clip."):
            return name.removeprefix("backbone.clip.")
        if name.startswith("decoder."):
            return f"transformer.resblocks.{len(self.backbone.text_blocks)}.{name.removeprefix('decoder.')}"
        for pattern, theirs in RELEASED.items():
            name = re.sub(pattern, theirs, name)
        return name


def _check_words(backbone: "CLIPBackbone", vocabulary: int) -> None:
    if vocabulary < 1:
        raise UserError(
            f"vocabulary must be the number of words that the head 'mlm' tells apart, got {vocabulary!r}; "
            "data.labelled.vocabulary lists them, or leave 'mlm' out of heads."
        )
    if backbone.embed_dim != backbone.text_width:
        raise UserError(
            f"the head 'mlm' needs a text tower as wide as the joint space; {backbone.name} has {backbone.text_width} "
            f"and {backbone.embed_dim}; leave 'mlm' out of heads."
        )


def _before(place: str, adapters: nn.ModuleDict, x: Tensor) -> Tensor:
    return adapters[place](x) if place in adapters else x


def _text_block(
    block: nn.Module, adapters: nn.ModuleDict, x: Tensor, keys: Tensor | None, mask: Tensor | None
) -> Tensor:
    """A text block with its adapters, ``[N L C] -> [N L C]``: on itself, or on ``keys [N T C]`` under the same norm."""
    x = _before("attention", adapters, x)
    query = block.ln_1(x)
    keys = query if keys is None else block.ln_1(keys)
    x = _before("mlp", adapters, x + block.ls_1(block.attn(query, keys, keys, need_weights=False, attn_mask=mask)[0]))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
