"""Parameters of ActionCLIP's and M2-CLIP's runs and notebooks: which protocol on which data, how long, tested how."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from vidlib.basics import paths
from vidlib.basics.words import known_name
from vidlib.params.base import ExecutionParams, Params, PlaceParams, TowerParams, absolute_folder

VIDEO_TEXT_NAMES = ("actionclip", "m2clip")
PROTOCOL_NAMES = ("closed_set", "zero_shot", "kshot", "base_to_novel")
VISUAL_PROMPTS = ("joint", "shift", "meanp", "conv1d", "lstm", "transf", "transf_cls")
HEADS = ("contrastive", "cross_modal", "mlm", "visual")
TED = ("enhancement", "difference")
PLACES = ("attention", "mlp")


class DataParams(Params):
    """What is trained and tested on what."""

    dataset: str = Field(
        "moving_shapes", description="moving_shapes, moving_shapes_scene, folder:PATH, official:NAME or a benchmark"
    )
    protocol: str = Field("closed_set", description="closed_set, zero_shot, kshot or base_to_novel")
    shot: int = Field(0, ge=0, description="training videos per class, 0 for all")
    official_split: int = Field(1, ge=1, le=3, description="which of the standard splits of official:NAME")
    test_dataset: str = Field("", description="of zero_shot, another data set to test on, empty for the new classes")
    remove_overlap: bool = Field(True, description="leave out test classes that were trained on, else report them")

    @field_validator("dataset", "test_dataset")
    @classmethod
    def _absolute_folder(cls, value: str) -> str:
        return absolute_folder(value)

    @field_validator("protocol")
    @classmethod
    def _known_protocol(cls, value: str) -> str:
        return known_name(value, PROTOCOL_NAMES, "protocol")

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> Self:
        if self.protocol == "kshot" and not self.shot:
            raise ValueError("shot: kshot trains on that many videos per class; give at least 1, such as 2, 4, 8 or 16")
        if self.test_dataset and self.protocol != "zero_shot":
            raise ValueError(f"test_dataset: only protocol zero_shot tests on other data, not {self.protocol}")
        return self


class VideoTextParams(TowerParams, PlaceParams, DataParams):
    """How a video-text method is built, trained and tested; defaults suit the embedded world on two cores."""

    init: str = Field("", description="a finished run's folder whose weights training starts from, empty for none")
    variant: Literal["paper", "released"] = Field("paper", description="paper or released")
    frames: int = Field(8, ge=2, le=64, description="frames per video")
    epochs: int = Field(2, ge=0, description="training epochs, 0 tests without training")
    batch: int = Field(16, ge=2, description="clips per batch, over all devices")
    accumulate: int = Field(1, ge=1, description="batches per optimiser step; a contrast stays within its batch")
    lr: float = Field(1e-4, gt=0, description="peak learning rate of the towers; the method's own parts have theirs")
    weight_decay: float = Field(0.2, ge=0, description="AdamW weight decay")
    decayed: Literal["matrices", "all but norms", "all"] = Field(
        "matrices", description="what weight_decay acts on: matrices, all but norms, or all"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="part of the learning rate from each block to the one below"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="part of the steps in which the learning rate rises")
    clip_grad: float = Field(1.0, ge=0, description="largest gradient norm, 0 for no clipping")
    colour: Literal["none", "strong"] = Field("none", description="change of colour in training, none or strong")
    rand_augment: list[int] = Field(
        [], description="RandAugment's number of operations and magnitude of 30, as in [2, 9], empty for none"
    )
    val_every: int = Field(2, ge=1, description="epochs between selections of weights on val")
    select: bool = Field(True, description="keep the weights that are best on val, else the last")
    test_clips: int = Field(1, ge=1, le=32, description="clips in time of each test video")
    test_crops: Literal[1, 3] = Field(1, description="crops in space of each test video, 1 or 3")

    @field_validator("rand_augment", mode="before")
    @classmethod
    def _two_numbers(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p rand_augment "[2, 9]"``."""
        value = yaml.safe_load(value) if isinstance(value, str) else value
        pair = isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int for v in value)
        if value and not (pair and value[0] >= 1 and 0 <= value[1] <= 30):
            raise ValueError(
                f"rand_augment: {value!r} is not [operations, magnitude up to 30], as in [2, 9], nor empty"
            )
        return value or []

    @field_validator("init")
    @classmethod
    def _absolute_init(cls, value: str) -> str:
        return str(paths.absolute(value)) if value else ""


class VideoTextRunParams(ExecutionParams, VideoTextParams):
    """One execution of a video-text method with one seed."""

    method: str = Field("actionclip", description="actionclip or m2clip")

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_name(value, VIDEO_TEXT_NAMES, "method")


class VideoTextStudyParams(VideoTextParams, ABC):
    """What the notebooks of ActionCLIP and M2-CLIP share besides."""

    protocol: str = Field("base_to_novel", description="closed_set, zero_shot, kshot or base_to_novel")
    seeds: int = Field(1, ge=1, description="how many seeds, counted up from seed")
    unimodal: bool = Field(True, description="train a classifier of 1 of N classes beside it")
    ablations: bool = Field(False, description="train the ablations that need training, else read their records")
    ablation_epochs: int = Field(2, ge=1, description="training epochs of each ablation")

    METHOD: ClassVar[str]

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor arguments that the notebook's own parameters mean."""

    def run_params(self, **changes: Any) -> VideoTextRunParams:
        """The parameters of one run: the notebook's own method, with ``changes``; options are added to its own."""
        shared = {name: value for name, value in self if name in VideoTextRunParams.model_fields}
        options = changes.pop("options", self.options())
        return VideoTextRunParams.parse({**shared, "method": self.METHOD, "options": options, **changes})


class ActionCLIPParams(VideoTextStudyParams):
    """Parameters of notebooks/actionclip.ipynb."""

    visual_prompt: str = Field("transf", description="joint, shift, meanp, conv1d, lstm, transf or transf_cls")
    templates: Literal["prompts", "label_words"] = Field("prompts", description="prompts (16) or label_words")
    tune: Literal["both", "image", "text", "none"] = Field("both", description="which tower is trained")
    learned_scale: bool = Field(True, description="train the temperature, else keep CLIP's")

    METHOD: ClassVar[str] = "actionclip"

    @field_validator("visual_prompt")
    @classmethod
    def _known_prompt(cls, value: str) -> str:
        return known_name(value, VISUAL_PROMPTS, "visual_prompt")

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("visual_prompt", "templates", "tune", "learned_scale")}


class M2CLIPParams(VideoTextStudyParams):
    """Parameters of notebooks/m2clip.ipynb."""

    heads: str = Field(",".join(HEADS), description="some of contrastive, cross_modal, mlm, visual")
    score: Literal["contrastive", "visual"] = Field("contrastive", description="what is tested, contrastive or visual")
    ted: str = Field("enhancement,difference", description="branches of the TED-Adapters, empty for none")
    width: int = Field(48, ge=1, description="bottleneck of the TED-Adapters, 384 in the paper")
    text_width: int = Field(24, ge=1, description="bottleneck of the text adapters, 384 in the paper")
    text_adapter_layers: int = Field(2, ge=0, description="how many of the last text blocks have adapters")
    places: str = Field("mlp", description="where adapters stand in a block, attention, mlp or both")
    lr: float = Field(5e-3, gt=0, description="peak learning rate; text adapters have half")

    METHOD: ClassVar[str] = "m2clip"

    @field_validator("heads", "ted", "places")
    @classmethod
    def _known_parts(cls, value: str, info: ValidationInfo) -> str:
        known = {"heads": HEADS, "ted": TED, "places": PLACES}[info.field_name]
        names = [known_name(name, known, info.field_name) for part in value.split(",") if (name := part.strip())]
        if info.field_name != "ted" and not names:
            raise ValueError(f"{info.field_name}: give one or more of {', '.join(known)}")
        return ",".join(names)

    def options(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("score", "width", "text_width", "text_adapter_layers")}
        lists = {"heads": self.heads.split(","), "ted": self.ted.split(",") if self.ted else []}
        places = self.places.split(",")
        return plain | lists | {"adapter_places": places, "text_adapter_places": places}
