"""Parameters of ActionCLIP's and M2-CLIP's runs and notebooks: which protocol on which data, how long, tested how."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from vidlib.basics.words import known_name
from vidlib.params import base
from vidlib.params.base import PlaceParams, absolute_folder

VIDEO_TEXT_NAMES = ("actionclip", "m2clip")
PROTOCOL_NAMES = ("closed_set", "zero_shot", "kshot", "base_to_novel")
VISUAL_PROMPTS = ("joint", "shift", "meanp", "conv1d", "lstm", "transf", "transf_cls")
HEADS = ("contrastive", "cross_modal", "mlm", "visual")
TED = ("enhancement", "difference")
PLACES = ("attention", "mlp")


def one_of(known: tuple[str, ...]) -> AfterValidator:
    """Refuses a name that is not ``known``, naming the nearest."""
    return AfterValidator(lambda value, info: known_name(value, known, info.field_name))


def some_of(known: tuple[str, ...], least: int = 1) -> AfterValidator:
    """Names with commas between, each of them ``known``, at least ``least``; the same without blanks."""

    def check(value: str, info: ValidationInfo) -> str:
        given = [known_name(name, known, info.field_name) for part in value.split(",") if (name := part.strip())]
        if len(given) < least:
            raise ValueError(f"{info.field_name}: give one or more of {', '.join(known)}")
        return ",".join(given)

    return AfterValidator(check)


def _two_numbers(value: Any) -> Any:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int for v in value)
    if value and not (pair and value[0] >= 1 and 0 <= value[1] <= 30):
        raise ValueError(f"rand_augment: {value!r} is not [operations, magnitude up to 30], as in [2, 9], nor empty")
    return value or []


def _betas(value: Any) -> Any:
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not (pair and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in value)):
        raise ValueError(f"betas: {value!r} is not two numbers from 0 to below 1, as in [0.9, 0.98]")
    return value


Protocol = Annotated[str, one_of(PROTOCOL_NAMES), Field(description=", ".join(PROTOCOL_NAMES))]
Unimodal = Annotated[bool, Field(description="train a classifier of 1 of N classes beside it")]
AblationEpochs = Annotated[int, Field(ge=1, description="training epochs of each ablation")]


class VideoTextParams(PlaceParams):
    """How a video-text method is built, trained and tested; defaults suit the embedded world on two cores."""

    dataset: base.Dataset = Field(
        "words", description="words, motion, scene, folder:PATH, official:NAME or a benchmark"
    )
    backbone: base.Backbone = Field("clip-mini", description="clip-mini or an open_clip ViT such as ViT-B-16-quickgelu")
    protocol: Protocol = "closed_set"
    train_per_class: int = Field(0, ge=0, description="training videos per class, 0 for all")
    official_split: int = Field(1, ge=1, le=3, description="which of the standard splits of official:NAME")
    test_dataset: Annotated[str, AfterValidator(absolute_folder)] = Field(
        "", description="of zero_shot, another data set to test on, empty for the new classes"
    )
    remove_overlap: bool = Field(True, description="leave out test classes that were trained on, else report them")
    init: Annotated[str, base.AbsolutePath] = Field(
        "", description="a finished run's folder whose weights training starts from, empty for none"
    )
    variant: base.Variant = "paper"
    frames: base.Frames = 8
    epochs: int = Field(2, ge=0, description="training epochs, 0 tests without training")
    batch: int = Field(16, ge=2, description="clips per batch, over all devices")
    accumulate: int = Field(1, ge=1, description="batches per optimiser step; a contrast stays within its batch")
    lr: base.LearningRate = Field(
        1e-4, description="peak learning rate of the towers; a visual prompt has ten times that"
    )
    weight_decay: base.WeightDecay = 0.2
    betas: Annotated[list[float], BeforeValidator(_betas), base.AsYAML] = Field(
        [0.9, 0.999], description="AdamW's memory of gradients and of their squares"
    )
    decayed: base.Decayed = "matrices"
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="part of the learning rate from each block to the one below"
    )
    warmup: base.Warmup = 0.1
    clip_grad: base.ClipGrad = 1.0
    crop: Literal["area", "wide area", "short side", "multi-scale"] = Field(
        "area", description="training crop, area (ours), wide area, short side, or multi-scale, as released codes have"
    )
    test_resize: int = Field(
        0, ge=0, description="short side in pixels of a test picture before its crop, 0 for the crop's own"
    )
    colour: Literal["none", "strong"] = Field("none", description="change of colour in training, none or strong")
    rand_augment: Annotated[list[int], BeforeValidator(_two_numbers), base.AsYAML] = Field(
        [], description="RandAugment's number of operations and magnitude of 30, as in [2, 9], empty for none"
    )
    val_every: int = Field(2, ge=1, description="epochs between two selections of weights on val")
    select: bool = Field(False, description="keep the weights that are best on val, else the last")
    test_clips: int = Field(1, ge=1, le=32, description="clips in time of each test video")
    test_crops: Literal[1, 3] = Field(1, description="crops in space of each test video, 1 or 3")

    @model_validator(mode="before")
    @classmethod
    def _shots_are_few_shot(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "shot" in values:
            raise ValueError("shot: support videos are few-shot's; give train_per_class, training videos per class")
        return values

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> Self:
        if self.protocol == "kshot" and not self.train_per_class:
            raise ValueError(
                "train_per_class: kshot trains on that many videos per class; give at least 1, such as 2, 4, 8 or 16"
            )
        if self.select and self.train_per_class == 1:
            raise ValueError(
                "select: the 1 training video of each class cannot be divided into videos to train and to select on; "
                "give select false for the last weights, or train_per_class 2 or more"
            )
        if self.test_dataset and self.protocol != "zero_shot":
            raise ValueError(f"test_dataset: only protocol zero_shot tests on other data, not {self.protocol}")
        return self


class VideoTextRunParams(VideoTextParams):
    """One execution of a video-text method with one seed."""

    method: Annotated[str, one_of(VIDEO_TEXT_NAMES)] = Field("actionclip", description="actionclip or m2clip")
    options: base.Options = {}
    ablation: base.Ablation = ""
    report: base.Report = "test"

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """As ``Params.parse``; earlier records have ``train_per_class`` under the name ``shot``."""
        return super().parse({"train_per_class" if n == "shot" else n: v for n, v in values.items()}, source)


class VideoTextStudy:
    """What the notebooks of ActionCLIP and M2-CLIP can do; ``options`` are the arguments that their fields mean."""

    METHOD: ClassVar[str]

    def run_params(self, **changes: Any) -> VideoTextRunParams:
        """The parameters of one run: the notebook's own method, with ``changes``; options are added to its own."""
        shared = {name: value for name, value in self if name in VideoTextRunParams.model_fields}
        options = changes.pop("options", self.options())
        return VideoTextRunParams.parse({**shared, "method": self.METHOD, "options": options, **changes})


class ActionCLIPParams(VideoTextStudy, VideoTextParams):
    """Parameters of notebooks/actionclip.ipynb."""

    visual_prompt: Annotated[str, one_of(VISUAL_PROMPTS)] = Field("transf", description=", ".join(VISUAL_PROMPTS))
    templates: Literal["prompts", "label_words"] = Field(
        "prompts", description="prompts, the 16 sentences, or label_words, the class name alone"
    )
    tune: Literal["both", "image", "text", "none"] = Field(
        "both", description="which tower is trained: both, image, text, none"
    )
    learned_scale: bool = Field(True, description="train the temperature, else keep CLIP's")
    protocol: Protocol = "base_to_novel"
    seeds: base.Seeds = 1
    unimodal: Unimodal = True
    ablations: base.Ablations = False
    ablation_epochs: AblationEpochs = 2

    METHOD: ClassVar[str] = "actionclip"

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("visual_prompt", "templates", "tune", "learned_scale")}


class M2CLIPParams(VideoTextStudy, VideoTextParams):
    """Parameters of notebooks/m2clip.ipynb."""

    heads: Annotated[str, some_of(HEADS)] = Field(",".join(HEADS), description=f"some of {', '.join(HEADS)}")
    score: Literal["contrastive", "visual"] = Field(
        "contrastive", description="what is tested, contrastive, or visual, the classifier of trained classes"
    )
    ted: Annotated[str, some_of(TED, 0)] = Field(
        ",".join(TED), description="branches of the TED-Adapters, empty for none"
    )
    width: int = Field(48, ge=1, description="bottleneck of the TED-Adapters, 384 in the released scripts")
    text_width: int = Field(24, ge=1, description="bottleneck of the text adapters, 384 in the released scripts")
    text_adapter_layers: int = Field(2, ge=0, description="how many of the last text blocks have adapters")
    places: Annotated[str, some_of(PLACES)] = Field(
        "mlp", description="where adapters stand in a block, attention, mlp or both"
    )
    lr: base.LearningRate = Field(
        5e-3, description="peak learning rate of the adapters; those of the text tower have half"
    )
    protocol: Protocol = "base_to_novel"
    seeds: base.Seeds = 1
    unimodal: Unimodal = True
    ablations: base.Ablations = False
    ablation_epochs: AblationEpochs = 2

    METHOD: ClassVar[str] = "m2clip"

    def options(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("score", "width", "text_width", "text_adapter_layers")}
        lists = {"heads": self.heads.split(","), "ted": self.ted.split(",") if self.ted else []}
        places = self.places.split(",")
        return plain | lists | {"adapter_places": places, "text_adapter_places": places}
