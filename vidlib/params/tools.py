"""Parameters of the notebooks that study no method: the benchmarks, towers, your own videos, the embedded world."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from vidlib.basics import paths
from vidlib.params import base
from vidlib.params.base import Params, PlaceParams
from vidlib.params.by_recipe import FROZEN, PROTOCOL, by_recipe
from vidlib.params.few_shot import Metric, Query, RunParams, Shot, TestEpisodes, Way, known_method, names

DEFAULT_METHOD, DEFAULT_FRAMES = "frozen_clip", 8
RANDOM = "random "  # before a tower's name: no weights, as a control
HEADS = (  # "all" of towers.ipynb: texts alone, plain transfer, frame metrics, and three that train on frozen features
    *("zero_shot_clip", "simple_shot", "logistic_regression", "tip_adapter", "protonet", "bimhm", "otam"),
    *("trx", "hyrsm", "ordered_differences"),
)


def _each(heads: str) -> list[str]:
    """The heads that a text names, ``all`` as ``HEADS``."""
    return [head for name in names(heads) for head in (HEADS if name == "all" else (name,))]


def _shares(value: Any) -> Any:
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if not value or not numbers or not all(0 < v < 1 for v in value):
        raise ValueError(f"missing: {value!r} is not a list of shares between 0 and 1, as in [0.1, 0.3]")
    return value


def _several(value: Any) -> Any:
    """One path as a list of it; papermill makes a number of a folder's name such as 2024."""
    if type(value) in (int, float):
        return [str(value)]
    return [value] if value and isinstance(value, str) else value or []


class DatasetsParams(PlaceParams):
    """Which videos are taken away from which benchmark, and how a frozen backbone is tested on what is left."""

    dataset: base.Dataset = Field("scene", description="whose videos go missing: scene, folder:PATH or a benchmark")
    missing: Annotated[list[float], BeforeValidator(_shares), base.AsYAML] = Field(
        [0.1, 0.3, 0.5], description="shares of the val videos that are taken away"
    )
    repeats: int = Field(20, ge=2, description="how often each share is taken away, each time other videos")
    lists: Annotated[str, base.AbsolutePath] = Field(
        "", description="folder of published lists for the audit, empty for those that vidlib keeps"
    )
    way: Way = 5
    shot: Shot = 1
    query: Query = 1
    test_episodes: TestEpisodes = Field(1000, description="val episodes of each test")
    metric: Metric = "bimhm"
    frames: base.Frames = 8

    def run_params(self) -> RunParams:
        """The parameters of the frozen backbone that is tested."""
        shared = {name: value for name, value in self if name in RunParams.model_fields}
        return RunParams.parse({**shared, "method": "frozen_clip"})


def _numbers(least: int) -> Any:
    """The type of a list of whole numbers, each at least ``least``."""

    def check(value: list[int], info: ValidationInfo) -> list[int]:
        if not value or min(value) < least:
            raise ValueError(f"{info.field_name}: {value} is not a list of whole numbers of at least {least}")
        return sorted(set(value))

    return Annotated[list[int], base.AsYAML, AfterValidator(check)]


class TowersParams(Params):
    """Parameters of notebooks/towers.ipynb: heads on towers that are left alone, each video encoded once a tower."""

    dataset: base.Dataset = "motion"
    towers: str = Field(
        "clip-mini, resnet-mini, random clip-mini",
        description="names, a tag or file behind each, or random before it",
    )
    heads: str = Field("all", description="all, or some as in otam,trx: what reads a frozen tower's frame features")
    shown: str = Field("logistic_regression,otam,trx", description="heads whose surfaces and curves are drawn, run too")
    train_episodes: int = Field(600, ge=1, description="training episodes of heads that have something to train")
    views: int = Field(0, ge=0, description="augmented views of a training video in a store, 0 trains on test views")
    way: Way = 5
    shot: Shot = 1
    query: Query = 1
    frames: base.Frames = 8
    test_episodes: TestEpisodes = 1000
    ways: _numbers(2) = Field([2, 3, 5, 8, 12, 16, 20], description="ways of the surface, those that val can give")
    shots: _numbers(1) = Field([1, 2, 3, 5, 10], description="shots of the surface, those that val can give")
    shape_episodes: int = Field(40, ge=2, description="val episodes of each way and shot of the surface")
    answer_episodes: int = Field(500, ge=2, description="val and test episodes of open set and calibration")
    seeds: base.Seeds = 1
    seed: base.Seed = 0
    device: base.Device = "auto"
    precision: base.Precision = "auto"
    workers: int = Field(1, ge=0, description="processes that decode while a store is made")
    runs: Annotated[str, base.AbsolutePath] = Field("", description="folder of the run records, empty for the default")
    fresh: bool = Field(False, description="repeat runs that are finished")

    PLACE: ClassVar[frozenset[str]] = frozenset({"device", "workers", "runs", "fresh"})

    @field_validator("towers")
    @classmethod
    def _known_weights(cls, value: str) -> str:
        if not (given := names(value)):
            raise ValueError("towers: give some, as in clip-mini, random clip-mini")
        for tower in given:
            if " " not in tower and tower not in base.SHIPPED:
                raise ValueError(
                    f"towers: which weights of {tower}? Give '{tower} TAG', '{tower} FILE' or '{RANDOM}{tower}'"
                )
        return ", ".join(dict.fromkeys(" ".join(tower.split()) for tower in given))

    @field_validator("heads", "shown")
    @classmethod
    def _known_heads(cls, value: str, info: ValidationInfo) -> str:
        if not names(value):
            raise ValueError(f"{info.field_name}: give all, or some, as in otam,trx")
        return ",".join(name if name == "all" else known_method(name, info.field_name) for name in names(value))

    @property
    def planned(self) -> dict[str, dict[str, str]]:
        """The towers by the names that figures print: backbone and weights."""
        found = {}
        for tower in names(self.towers):
            first, _, rest = tower.partition(" ")
            pair = (rest, "") if f"{first} " == RANDOM else (first, rest or first)
            found[tower] = dict(zip(("backbone", "pretrained"), pair, strict=True))
        return found

    @property
    def compared(self) -> tuple[str, ...]:
        """The heads in order, those that are drawn among them."""
        return tuple(dict.fromkeys(_each(self.heads) + _each(self.shown)))

    @property
    def drawn(self) -> tuple[str, ...]:
        """The heads whose surfaces and curves are drawn."""
        return tuple(dict.fromkeys(_each(self.shown)))

    def run_params(self, tower: str, head: str = FROZEN, **changes: Any) -> RunParams:
        """The parameters of ``head``'s run on ``tower``: its recipe under this protocol; no selection on val."""
        given = {name: value for name, value in self if name in PROTOCOL - {"workers"} or name == "frames"}
        given |= self.planned[tower] | {"train_episodes": self.train_episodes, "val_episodes": 0}
        return by_recipe(head, given | changes)


class WorldParams(Params):
    """Parameters of notebooks/worlds.ipynb."""

    world: Literal["motion", "scene", "words", "moving_shapes", "moving_shapes_scene"] = Field(
        "motion", description="which world: motion, scene, words, or an easy one"
    )
    backbone: base.Backbone = Field("clip-mini", description="clip-mini or resnet-mini: the tower that the tricks use")
    episodes: int = Field(2000, ge=10, description="episodes on which each trick is asked")
    examples: int = Field(6, ge=1, le=16, description="classes shown as filmstrips")
    stills: int = Field(1024, ge=64, description="held-out stills on which the towers are asked")
    retrain: bool = Field(False, description="train clip-mini again from scratch")
    retrain_steps: int = Field(0, ge=0, description="training steps, 0 for as many as the shipped weights had")
    seed: int = Field(0, ge=0, description="seed of what is drawn here")


class IntervalsParams(Params):
    """Parameters of notebooks/intervals.ipynb."""

    episodes: Annotated[
        Literal[2000, 10000], BeforeValidator(lambda value: int(value) if str(value).isdecimal() else value)
    ] = Field(10000, description="which record to draw: tests of 2000 or 10000 episodes")
    replicates: int = Field(0, ge=0, description="replicates made anew here, on videos rendered now; 0 for none")
    videos: int = Field(48, ge=33, description="videos of each class in the small pool that is rendered for them")
    seed: int = Field(0, ge=0, description="seed of the replicates that are made anew")


class PredictParams(Params):
    """``vidlib predict`` and your_videos.ipynb: texts of the classes (zero-shot) or example videos of them (few-shot);
    with a run, the rest is the run's."""

    videos: Annotated[
        list[str],
        BeforeValidator(_several),
        AfterValidator(lambda value: [str(paths.absolute(path)) for path in value]),
    ] = Field([], description="a folder or files, empty for a few clips of the embedded world")
    classes: str = Field("", description="zero-shot: class texts with commas between, or a file of one a line")
    support: Annotated[str, base.AbsolutePath] = Field(
        "", description="few-shot: a folder with one directory of example videos per class"
    )
    method: Annotated[str, AfterValidator(lambda value: known_method(value) if value else "")] = Field(
        "", description="few-shot method, empty for the run's own or frozen_clip"
    )
    backbone: base.Backbone = "clip-mini"
    pretrained: base.Pretrained = "clip-mini"
    run: Annotated[str, base.AbsolutePath] = Field(
        "", description="folder of a finished run, empty for the untrained backbone"
    )
    frames: int = Field(0, ge=0, le=64, description="frames per video, 0 for the run's own or 8")
    top: int = Field(3, ge=1, description="classes listed for each video")
    csv: Annotated[str, base.AbsolutePath] = Field(
        "", description="file that the guesses are written to, empty for none"
    )
    device: base.Device = "auto"
    precision: base.Precision = "auto"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.classes and self.support:
            raise ValueError("classes and support: give one of them, texts (zero-shot) or example videos (few-shot)")
        if self.videos and not (self.classes or self.support):
            raise ValueError(
                'classes or support: give the classes\' texts, as in classes "a dog running,opening a door", '
                "or a folder with one directory of example videos per class"
            )
        if not self.videos and (self.classes or self.support):
            raise ValueError("videos: give a folder or files to tell; classes and support alone tell nothing")
        if self.classes and self.method:
            raise ValueError(
                "method: that of class texts is ActionCLIP's or the run's; give a method with support only"
            )
        return self

    @property
    def few_shot(self) -> bool:
        return bool(self.support)
