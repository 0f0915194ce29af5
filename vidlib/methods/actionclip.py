"""ActionCLIP (Wang et al., arXiv 2109.08472): action recognition as the match of a video with a sentence.

Legend: `B` videos, `T` frames, `N` patches, `D` tower width, `C` joint-space width, `K` classes, `P` templates.

Both CLIP towers and CLIP's temperature are trained; what makes one feature of a video's frames is the visual prompt:

- pre-network, ``joint``: a learned time embedding on the patch tokens, then the patches of all frames in one sequence
  with one class token.
- in-network, ``shift``: ``layers.temporal_shift`` before every block of the image tower, then the mean over frames.
- post-network, ``meanp``, ``conv1d``, ``lstm``, ``transf``, ``transf_cls``: ``layers.temporal_heads`` on the frames'
  features.

A clip's sentence is its class in one of 16 templates; the loss is ``video_text.contrast``. A video's probabilities are
softmax over the classes in each template, then the mean over templates.

``variant="released"`` differs in:

1. the target of the loss: softmax of ten times the 0/1 ground truth, where the paper has the ground truth itself, here
   divided by the number of positives in the row;
2. ``conv1d``: a view that mixes time and channels;
3. the temperature at test: always 100; the paper variant tests with the scale that it trained;
4. ``joint``: the released code cannot run; both variants compute what it describes, and mend it.

Not here: stochastic depth and dropout in the towers, which every released configuration sets to 0.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.layers.gathering import gather
from vidlib.layers.temporal_heads import HEADS
from vidlib.layers.temporal_shift import temporal_shift
from vidlib.matching.base import at_least_float32
from vidlib.methods.base import check_blocks, one_of
from vidlib.methods.video_text import (
    LABEL_WORDS,
    Features,
    LabelledBatch,
    Outcome,
    VideoTextMethod,
    contrast,
    retrieved,
    similarities,
)

if TYPE_CHECKING:
    from vidlib.backbones.clip import CLIPBackbone

PROMPTS = (
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)
TEMPLATES = {"prompts": PROMPTS, "label_words": LABEL_WORDS}
TEST_SCALE = 100.0  # of the released code

# For each head: how our names of its parameters begin -> how the released ones do.
HEAD_NAMES = {
    "conv1d": {"conv.": "shift."},
    "lstm": {"lstm.": "lstm_visual."},
    "transf": {"positions": "frame_position_embeddings.weight", "blocks.": "transformer.resblocks."},
    "transf_cls": {
        "token": "transformer.cls_token",
        "positions": "transformer.pos_embed",
        "encoder.": "transformer.transformer_enc.",
    },
}


class ActionCLIP(VideoTextMethod):
    """ActionCLIP on any CLIP.

    visual_prompt: "joint", "shift", "meanp", "conv1d", "lstm", "transf" (the paper's best) or "transf_cls".
    templates: "prompts" (the 16, also None), "label_words" (the class's text alone), or templates of one's own.
    tune: which tower is trained, "both", "image", "text" or "none" (the paper's V1 to V4); visual prompt and classifier
        always are. learned_scale: whether the temperature is.
    objective: "video_text", or "one_of_n", the unimodal baseline: a linear classifier of ``classes`` training classes
        on the video's feature, under cross-entropy. It has no part for the text tower, which stays frozen. The
        classifier takes the feature without normalisation and starts as the heads do; the paper's is unknown to us.
    head_lr: learning rate of post-network prompt and classifier as a multiple of the towers' (released: 10). The time
        embedding of ``joint`` belongs to the tower.
    """

    released_unused = (
        r"^(fusion\.)?frame_position_embeddings\.weight$",  # made for every head, read by one
        r"^(input_resolution|context_length|vocab_size)$",  # numbers in OpenAI's own files
    )
    released_missing = (r"^head\.", r"^classifier\.")  # of towers alone

    def __init__(
        self,
        backbone: "CLIPBackbone",
        frames: int = 8,
        *,
        visual_prompt: str = "transf",
        templates: str | Sequence[str] | None = None,
        tune: str = "both",
        learned_scale: bool = True,
        objective: str = "video_text",
        classes: int | None = None,
        head_lr: float = 10.0,
        variant: str = "paper",
    ) -> None:
        super().__init__(backbone, frames)
        self.choices = {name: value for name, value in locals().items() if name in self.sources}
        self.visual_prompt = one_of("visual_prompt", visual_prompt, ("joint", "shift", *HEADS))
        self.released = one_of("variant", variant, ("paper", "released")) == "released"
        self.uses_text = one_of("objective", objective, ("video_text", "one_of_n")) == "video_text"
        self.templates = _templates(templates)
        one_of("tune", tune, ("both", "image", "text", "none"))
        if not head_lr > 0:
            raise UserError(f"head_lr must be positive, got {head_lr!r}.")
        self.rates = {"head.": head_lr, "classifier.": head_lr}
        self.head, self.time_embedding, self.classifier = None, None, None
        if visual_prompt in ("joint", "shift"):
            check_blocks(f"visual_prompt {visual_prompt!r}", backbone)
        if visual_prompt == "joint":
            self.time_embedding = nn.Parameter(torch.randn(frames, backbone.width) * backbone.width**-0.5)
        else:
            heads = backbone.text_heads
            head = HEADS["meanp" if visual_prompt == "shift" else visual_prompt]
            self.head = head(backbone.embed_dim, frames, heads, self.released)
        if not self.uses_text:
            self.classifier = _classifier(backbone.embed_dim, classes)
            if tune == "text":
                raise UserError("tune 'text' trains the text tower, which objective 'one_of_n' has no part for.")
        if tune in ("both", "image"):
            backbone.unfreeze()
        if tune in ("both", "text") and self.uses_text:
            backbone.unfreeze_text()
        backbone.log_scale.requires_grad_(learned_scale and self.uses_text)

    @property
    def scale(self) -> Tensor:
        """The factor on cosines in training."""
        return self.backbone.log_scale.exp()

    def embed(self, clips: Tensor) -> Features:
        """Only ``video`` [B C]."""
        self.check_frames(clips)
        x = rearrange(clips, "b t c h w -> (b t) c h w")
        if self.visual_prompt == "joint":
            return {"video": self.joint(x)}
        frames = self.shifted(x) if self.visual_prompt == "shift" else self.backbone.features(x, self.training)
        return {"video": self.head(rearrange(frames, "(b t) c -> b t c", t=self.frames))}

    def joint(self, x: Tensor) -> Tensor:
        """``[(B T) 3 H W] -> [B C]``: all frames' patches in one sequence, time running fastest."""
        tokens = rearrange(self.backbone.tokens(x), "(b t) n d -> b n t d", t=self.frames)
        before, patches = tokens.tensor_split([self.backbone.prefix], dim=1)
        patches = patches + self.time_embedding.to(tokens.dtype)
        tokens = torch.cat([before[:, :, 0], rearrange(patches, "b n t d -> b (n t) d")], dim=1)
        tokens = self.backbone.ln_pre(tokens)
        for block in self.backbone.blocks:
            tokens = block(tokens)
        return self.backbone.read(tokens)

    def shifted(self, x: Tensor) -> Tensor:
        """``[(B T) 3 H W] -> [(B T) C]``: the tower with a temporal shift before every block."""
        tokens = self.backbone.ln_pre(self.backbone.tokens(x))
        for block in self.backbone.blocks:
            tokens = block(temporal_shift(tokens, self.frames, prefix=self.backbone.prefix))
        return self.backbone.read(tokens)

    def classified(self, video: Tensor) -> Tensor:
        """``[B C] -> [B K]``: the classifier's logits, in no less than float32."""
        return at_least_float32(self.classifier(video))

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.backbone.encode_tokens(ids)

    def score(self, features: Features, text: Tensor) -> Tensor:
        """Softmax over classes, then the mean over templates; with "one_of_n" the classifier's softmax, where ``text``
        only tells the number of classes. UserError after towers alone were loaded for a head or a classifier."""
        if self.missing:
            some = ", ".join(self.missing[:4]) + " ..." * (len(self.missing) > 4)
            raise UserError(
                f"the released file held no weights of {some}, which this score needs; load a file with the head, or "
                "train and then set missing = ()."
            )
        if self.classifier is not None:
            if text.shape[1] != self.classifier.out_features:
                raise UserError(
                    f"objective 'one_of_n' tells its {self.classifier.out_features} training classes apart and no "
                    f"others; the scores of {text.shape[1]} were asked for."
                )
            return self.classified(features["video"]).softmax(-1)
        scale = TEST_SCALE if self.released else self.scale
        cosines = similarities(features["video"], text.flatten(0, 1))
        return (scale * cosines.unflatten(1, text.shape[:2])).softmax(-1).mean(1)

    def losses(self, batch: LabelledBatch) -> Outcome:
        """ "contrast", or "class" with "one_of_n"; parts ``video [B C]`` and ``text [B C]``, or ``logits [B K]``."""
        video = self.encode_video(batch.clips)
        if self.classifier is not None:
            logits = self.classified(video)
            loss = F.cross_entropy(gather(logits), gather(batch.labels))
            return Outcome({"class": loss}, logits.argmax(-1) == batch.labels, {"video": video, "logits": logits})
        text = self.encode_text(batch.ids)
        loss = contrast(video, text, batch.labels, self.scale, self.released)
        hits = retrieved(video, text, batch.labels)
        return Outcome({"contrast": loss}, hits, {"video": video, "text": text})

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the official weights: both towers, the temperature, and the head where ``state`` holds it.

        An official file has them apart: ``state`` is its ``model_state_dict``, alone or with the entries of its
        ``fusion_model_state_dict`` under names that begin with ``fusion.``. DataParallel's ``module.`` may be there or
        not, so may the ``net.`` of towers with ``shift``. Without the head, and always for a classifier, ``missing``
        names what stays as it was. UserError, with the names, where one lacks, is unknown or has another shape.
        """
        held = {name.replace("module.", ""): value for name, value in state.items()}
        if self.visual_prompt == "shift":
            held = {re.sub(r"^(visual\.transformer\.resblocks\.\d+\.)net\.", r"\1", n): v for n, v in held.items()}
        wanted = {name: (f"backbone.clip.{name}", value) for name, value in self.backbone.clip.state_dict().items()}
        if self.time_embedding is not None:
            wanted["visual.time_embedding"] = ("time_embedding", self.time_embedding)
        head = {} if self.head is None else self.head.state_dict()
        named = {_released_name(self.visual_prompt, name): (f"head.{name}", value) for name, value in head.items()}
        if any(name.startswith("fusion.") for name in held):
            wanted |= named
        held = {name: value for name, value in held.items() if name in wanted or not self._is_unused(name)}
        for name in held.keys() & wanted.keys():
            if wanted[name][0] in ("head.token", "head.positions"):
                held[name] = held[name].flatten(0, -2)
            if wanted[name][0] == "head.positions" and self.visual_prompt == "transf":
                held[name] = held[name][: self.frames]
        differ = [
            f"{name} of shape {tuple(held[name].shape)} instead of {tuple(own.shape)}"
            for name, (_, own) in wanted.items()
            if name in held and held[name].shape != own.shape
        ]
        lists = {"lacks": wanted.keys() - held.keys(), "has unknown": held.keys() - wanted.keys(), "has": differ}
        problems = [f"{words} {', '.join(sorted(names))}" for words, names in lists.items() if names]
        if problems:
            raise UserError(
                f"the state does not fit visual_prompt {self.visual_prompt!r}: it {'; it '.join(problems)}."
            )
        with torch.no_grad():
            for name, (_, own) in wanted.items():
                own.copy_(held[name])
        taken = {ours for ours, _ in wanted.values()}
        self.missing = tuple(name for name in self.state_dict() if name not in taken)

    def _is_unused(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in self.released_unused)


def _templates(given: str | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(given, str):
        return TEMPLATES[one_of("templates", given, tuple(TEMPLATES))]
    found = PROMPTS if given is None else tuple(given)
    if not found or any("{}" not in template for template in found):
        raise UserError(f"templates must be one or more strings that contain {{}}, got {list(found)!r}.")
    return found


def _classifier(dim: int, classes: int | None) -> nn.Linear:
    if not classes or classes < 1:
        raise UserError(f"classes must be the number of training classes for objective 'one_of_n', got {classes!r}.")
    classifier = nn.Linear(dim, classes)
    nn.init.normal_(classifier.weight, std=0.02)
    nn.init.zeros_(classifier.bias)
    return classifier


def _released_name(visual_prompt: str, name: str) -> str:
    """Our name of a head's parameter -> the released one, as ``load_released`` takes it."""
    for ours, theirs in HEAD_NAMES[visual_prompt].items():
        if name.startswith(ours):
            return f"fusion.{theirs}{name.removeprefix(ours)}"
    raise KeyError(name)
