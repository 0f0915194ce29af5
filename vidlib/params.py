"""Typed parameters: the one contract of notebook cell, recipe, command line, torchrun and run record.

A notebook's parameters cell holds plain assignments; its guard cell turns them into a frozen model with
``Params.from_notebook(globals())``, which names an unknown or wrong parameter in one sentence. The same model reads
recipes.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vidlib import paths
from vidlib.errors import UserError

PLAIN = (bool, int, float, str, list, dict, type(None))
IPYTHON_NAMES = {"In", "Out"}
WEIGHT_FILES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
SEEN = "_vidlib_guarded"  # marks a kernel whose guard ran before: later cells' variables are then expected

# Names that later rooms implement; a test holds them against METRICS, METHODS and the precisions that Fabric knows.
Metric = Literal["otam", "bimhm", "trx", "prototype", "cosine"]
METHOD_NAMES = (
    *("ma_fsar", "sloshnet", "gghm", "clip_fsar", "aim"),
    *("otam", "trx", "strm", "hyrsm", "molo", "protonet", "bimhm", "frozen_clip"),
)
Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed", "64-true"]


def closest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`` (did you mean 'shot'?)`` where one of ``known`` is close to ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def known_method(value: str, field: str = "method") -> str:
    """``value`` where it names a method, or a user's as ``FILE.py:CLASS`` (its path made absolute); else ValueError."""
    file, colon, name = value.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{paths.absolute(file)}:{name}"
    if value not in METHOD_NAMES:
        hint = closest(value, METHOD_NAMES)
        raise ValueError(f"{field}: '{value}' is not one of {', '.join(METHOD_NAMES)}, nor FILE.py:CLASS{hint}")
    return value


def plain_options(value: Any) -> Any:
    """Options as a dict: papermill's ``-p`` hands over text, ``-p options "{cardinalities: [2]}"``; else ValueError."""
    wrong = ValueError(f"options: {value!r} is not of the form {{name: value, name: value}}")
    try:
        value = (yaml.safe_load(value) or {}) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise wrong from None
    if not isinstance(value, Mapping):
        raise wrong
    return dict(value)


def absolute_folder(dataset: str) -> str:
    """``dataset`` with the path of ``folder:PATH`` made absolute."""
    return f"folder:{paths.absolute(dataset[7:])}" if dataset.startswith("folder:") else dataset


class Params(BaseModel):
    """Base of every notebook's parameters: frozen, no unknown names, numbers in strings understood."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        """``-p shot True`` is a slip, not the number 1."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                field = cls.model_fields.get(name)
                if field is not None and isinstance(value, bool) and field.annotation in (int, float, str):
                    raise ValueError(f"{name}: {value} is not {_wanted(field.annotation)}")
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """Validate ``values``; a ``UserError`` of one sentence names every parameter that is unknown or wrong."""
        try:
            return cls(**values)
        except ValidationError as error:
            prefix = f"{source}: " if source else ""
            raise UserError(prefix + "; ".join(cls._sentence(e) for e in error.errors())) from None

    @classmethod
    def _sentence(cls, error: Mapping[str, Any]) -> str:
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            return f"unknown parameter '{name}'{closest(name, list(cls.model_fields))}"
        if error["type"] == "value_error":
            return str(error["ctx"]["error"])
        expected = error["msg"].removeprefix("Input should be ").split(", ")[0]
        if error["type"] == "literal_error":
            expected = "one of " + error["ctx"]["expected"]
        for wordy, short in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
            expected = expected.replace(wordy, short)
        return f"{name}: {error['input']!r} is not {expected}"

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters among a notebook's globals.

        On the first run of a kernel every plain value there must be a parameter; on a re-run only names close to a
        parameter's are refused, since later cells have left theirs.
        """
        plain = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_") and name not in IPYTHON_NAMES and isinstance(value, PLAIN)
        }
        if namespace.get(SEEN):
            fields = list(cls.model_fields)
            plain = {n: v for n, v in plain.items() if n in fields or difflib.get_close_matches(n, fields, cutoff=0.8)}
        params = cls.parse(plain)
        namespace[SEEN] = True
        return params

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a recipe (YAML) or a run's ``params.json``."""
        path = paths.absolute(path)
        if not path.is_file():
            raise UserError(f"parameter file {path} does not exist")
        text = path.read_text()
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(values, dict):
            raise UserError(f"{path} holds no parameters: it should be lines of 'name: value'")
        return cls.parse(values, source=path.name)

    def changed(self) -> dict[str, Any]:
        """The parameters that are not the defaults, without those that say where it runs: what a command repeats."""
        fields, place = type(self).model_fields, getattr(self, "PLACE", ())
        return {name: value for name, value in self if value != fields[name].default and name not in place}

    def show(self) -> None:
        """Print every parameter on a line of its own."""
        width = max(map(len, type(self).model_fields))
        for name, value in self:
            print(f"{name:<{width}}  {value!r}")


def _wanted(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a name"}[kind]


class EpisodeParams(Params):
    """What is tested on what, episode by episode."""

    dataset: str = Field("moving_shapes", description="moving_shapes, moving_shapes_scene, folder:PATH or a benchmark")
    way: int = Field(5, ge=2, description="classes in an episode")
    shot: int = Field(1, ge=1, description="support videos per class")
    query: int = Field(1, ge=1, description="query videos per class")
    test_episodes: int = Field(2000, ge=1, description="test episodes")

    @field_validator("dataset")
    @classmethod
    def _absolute_folder(cls, value: str) -> str:
        return absolute_folder(value)


class PlaceParams(Params):
    """Which seed, and where a run is done."""

    seed: int = Field(0, ge=0, description="seed of weights, episodes and augmentation")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto, cpu, cuda or mps")
    devices: int = Field(1, ge=1, description="number of devices")
    precision: Precision = Field("auto", description="auto, 32-true, bf16-mixed, 16-mixed or 64-true")
    deterministic: bool = Field(False, description="deterministic kernels on a GPU")
    workers: int = Field(0, ge=0, description="loader processes, 0 loads in this one")
    runs: str = Field("", description="runs folder, empty for the default")
    fresh: bool = Field(False, description="repeat runs that are finished")

    PLACE: ClassVar[frozenset[str]] = frozenset({"device", "devices", "deterministic", "workers", "runs", "fresh"})

    @field_validator("runs")
    @classmethod
    def _absolute_runs(cls, value: str) -> str:
        return str(paths.absolute(value)) if value else ""

    def determining(self) -> dict[str, Any]:
        """Everything that the result depends on: all but where and how often it runs."""
        return {name: value for name, value in self if name not in self.PLACE}


class TowerParams(Params):
    """The pretrained towers."""

    backbone: str = Field("clip-mini", description="clip-mini or an open_clip ViT")
    pretrained: str = Field("clip-mini", description="clip-mini, an open_clip tag, a local file, or empty for random")

    @field_validator("pretrained")
    @classmethod
    def _absolute_weights(cls, value: str) -> str:
        return str(paths.absolute(value)) if Path(value).suffix in WEIGHT_FILES or "/" in value else value

    @model_validator(mode="after")
    def _weights_of_that_backbone(self) -> Self:
        shipped = ("clip-mini", "resnet-mini")  # each name is a backbone and its weights
        if self.pretrained in shipped and self.backbone != self.pretrained:
            other = f"pretrained={self.backbone}" if self.backbone in shipped else "a tag of that backbone"
            raise ValueError(
                f"pretrained: {self.pretrained}'s weights do not fit backbone '{self.backbone}'; "
                f"give {other}, a local file, or an empty string for random weights"
            )
        return self


# Of several bases the last one's fields come first.
class ProtocolParams(PlaceParams, EpisodeParams):
    """What is tested on what, and where it runs."""


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


class RunParams(RecipeParams):
    """One execution: a method, one named change of it at most, one seed."""

    method: str = Field("ma_fsar", description="which method, or FILE.py:CLASS for one of your own")
    options: dict[str, Any] = Field(default_factory=dict, description="constructor arguments of the method")
    ablation: str = Field("", description="a named change of the method, empty for the method itself")
    report: Literal["test", "val"] = Field("test", description="the split of the final table; ablations read val")

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value)

    @field_validator("options", mode="before")
    @classmethod
    def _plain_options(cls, value: Any) -> Any:
        return plain_options(value)


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
        if value == "released":
            raise ValueError("variant: MA-FSAR's code was never released; give 'paper'")
        return value


class WorldParams(Params):
    """Parameters of notebooks/moving_shapes.ipynb."""

    flavour: Literal["moving_shapes", "moving_shapes_scene"] = Field("moving_shapes", description="which world")
    examples: int = Field(6, ge=1, le=24, description="actions shown as filmstrips")
    stills: int = Field(1024, ge=64, description="held-out stills for the retrieval accuracy")
    retrain: bool = Field(False, description="train clip-mini again from scratch")
    retrain_steps: int = Field(0, ge=0, description="training steps, 0 for as many as the shipped weights had")
    seed: int = Field(0, ge=0, description="seed of what is drawn here")
