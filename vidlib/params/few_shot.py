"""Parameters of few-shot runs, recipes and notebooks."""

from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from vidlib.basics import paths
from vidlib.basics.words import closest
from vidlib.params.base import ExecutionParams, Params, ProtocolParams, TowerParams, paper_alone

# Names that later rooms implement; a test holds them against METRICS and METHODS.
Metric = Literal["otam", "bimhm", "trx", "prototype", "cosine"]
METHOD_NAMES = (
    *("ma_fsar", "sloshnet", "gghm", "clip_fsar", "aim"),
    *("otam", "trx", "strm", "hyrsm", "molo", "protonet", "bimhm", "frozen_clip"),
)


def known_method(value: str, field: str = "method") -> str:
    """``value`` where it names a method, or a user's as ``FILE.py:CLASS`` (its path made absolute); else ValueError."""
    file, colon, name = value.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{paths.absolute(file)}:{name}"
    if value not in METHOD_NAMES:
        hint = closest(value, METHOD_NAMES)
        raise ValueError(f"{field}: '{value}' is not one of {', '.join(METHOD_NAMES)}, nor FILE.py:CLASS{hint}")
    return value


class FewShotParams(TowerParams, ProtocolParams):
    """What every few-shot notebook and run shares."""

    template: str = Field("a photo of {}", description="the sentence around a class name")
    variant: Literal["paper", "released"] = Field("paper", description="paper or released")
    metric: Metric = Field("otam", description="otam, bimhm, trx, prototype or cosine")
    metric_scale: float = Field(4.0, gt=0, description="factor on the metric's logits before softmax")
    frames: int = Field(8, ge=2, le=64, description="frames per video")
    train_episodes: int = Field(450, ge=0, description="training episodes")
    val_episodes: int = Field(100, ge=0, description="val episodes at each selection, 0 keeps the last weights")
    val_every: int = Field(225, ge=1, description="training episodes between selections")
    episodes_per_step: int = Field(1, ge=1, description="episodes per optimiser step")
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW weight decay")
    warmup: float = Field(0.1, ge=0, lt=1, description="part of the steps in which the learning rate rises")
    clip_grad: float = Field(1.0, ge=0, description="largest gradient norm, 0 for no clipping")
    mix: float = Field(0.1, ge=0, le=1, description="weight of the text terms in loss and score")

    @field_validator("template")
    @classmethod
    def _has_a_place_for_the_name(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError(f"template: {value!r} should have one {{}} where the class name goes")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.metric == "trx" and self.frames < 3:
            raise ValueError(
                f"frames: {self.frames} are too few for metric trx, which compares triples; give at least 3"
            )
        return self

    def run_params(self, method: str, **changes: Any) -> "RunParams":
        """The parameters of one run of ``method``: the fields that a run knows, with ``changes``."""
        shared = {name: value for name, value in self if name in RunParams.model_fields}
        return RunParams.parse({**shared, "method": method, **changes})

    def recipe(self) -> "RecipeParams":
        """These parameters with what a recipe chooses besides, its defaults where these have none."""
        if isinstance(self, RecipeParams):
            return self
        return RecipeParams.parse({name: value for name, value in self if name in RecipeParams.model_fields})


class RecipeParams(FewShotParams):
    """What the recipes of the papers with a trunk to tune choose besides: optimiser, augmentation, frames."""

    freeze_bn: bool = Field(True, description="a ResNet's BatchNorm keeps its statistics, scales and shifts")
    train_shot: int = Field(0, ge=0, description="support videos per class in training, 0 for as many as shot")
    train_query: int = Field(0, ge=0, description="query videos per class in training, 0 for as many as query")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="adamw, adam or sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    decayed: Literal["matrices", "all but norms", "all"] = Field(
        "matrices", description="what weight_decay acts on: matrices, all but norms, or all"
    )
    schedule: Literal["cosine", "constant", "steps"] = Field(
        "cosine", description="learning rate after the warm-up: cosine, constant or steps"
    )
    milestones: list[tuple[float, float]] = Field(
        [], description="of schedule steps: [place, part of lr] in order; a place is an episode, or a share below 1"
    )
    arch_lr: float = Field(3e-3, gt=0, description="peak learning rate of a searched architecture's own Adam")
    query_sum: bool = Field(False, description="gradients of the sum over an episode's queries instead of the mean")
    crop: Literal["area", "window", "squashed window"] = Field(
        "area", description="area of random size, or a window of the enlarged picture, its shape kept or squashed"
    )
    flip: Literal["auto", "all", "queries", "none"] = Field(
        "auto", description="who is mirrored in training; auto is all where direction does not tell the class"
    )
    colour: Literal["none", "queries"] = Field("none", description="who changes colour in training")
    normalise: Literal["backbone", "grey", "none", "grey/backbone"] = Field(
        "backbone", description="input statistics: the backbone's, 0.45 and 0.225, none, or training/test"
    )
    sampling: Literal["segments", "even segments", "ends", "span"] = Field(
        "segments", description="rule of the frames: TSN's segments, CLIP-FSAR's, TRX's, CLIP-FSAR's on Kinetics"
    )
    train_frames: Literal["random", "random supports"] = Field("random", description="whose training frames vary")
    test_frames: Literal["fixed", "random", "random supports"] = Field(
        "fixed", description="whose test frames vary by episode; anything but fixed embeds every episode anew"
    )

    @field_validator("milestones", mode="before")
    @classmethod
    def _milestones_in_words(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p milestones "[[0.5, 0.1]]"``."""
        return yaml.safe_load(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _milestones_belong_to_steps(self) -> Self:
        if bool(self.milestones) != (self.schedule == "steps"):
            raise ValueError(
                f"milestones: {self.milestones} with schedule '{self.schedule}'; give milestones with schedule steps, "
                "and only with it"
            )
        return self


class RunParams(ExecutionParams, RecipeParams):
    """One execution of a few-shot method with one seed."""

    method: str = Field("ma_fsar", description="which method, or FILE.py:CLASS for one of your own")

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value)


class SeedsParams(Params):
    """What a notebook about runs adds: over how many seeds, and which methods stand beside."""

    seeds: int = Field(1, ge=1, description="how many seeds, counted up from seed")
    compare: str = Field("", description="trained methods to stand beside it, as in otam,trx")

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods named in ``compare``, in order."""
        return tuple(name.strip() for name in self.compare.split(",") if name.strip())

    @field_validator("compare")
    @classmethod
    def _known_methods(cls, value: str) -> str:
        names = filter(None, (part.strip() for part in value.split(",")))
        return ",".join(known_method(name, "compare") for name in names)


class StudyParams(SeedsParams):
    """What a notebook that studies one method adds besides: ablations."""

    ablations: bool = Field(False, description="train the ablations that need training, else read their records")
    ablation_episodes: int = Field(300, ge=1, description="training episodes of each ablation")


class MAFSARParams(FewShotParams, StudyParams):
    """Parameters of notebooks/ma_fsar.ipynb."""

    compare: str = Field("aim", description="trained methods to stand beside it, as in aim,clip_fsar")

    @field_validator("variant")
    @classmethod
    def _only_the_paper(cls, value: str) -> str:
        return paper_alone(value, "MA-FSAR")


class WorldParams(Params):
    """Parameters of notebooks/moving_shapes.ipynb."""

    flavour: Literal["moving_shapes", "moving_shapes_scene"] = Field("moving_shapes", description="which world")
    examples: int = Field(6, ge=1, le=24, description="actions shown as filmstrips")
    stills: int = Field(1024, ge=64, description="held-out stills for the retrieval accuracy")
    retrain: bool = Field(False, description="train clip-mini again from scratch")
    retrain_steps: int = Field(0, ge=0, description="training steps, 0 for as many as the shipped weights had")
    seed: int = Field(0, ge=0, description="seed of what is drawn here")
