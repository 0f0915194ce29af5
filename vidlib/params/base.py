"""Typed parameters: the one contract of notebook cell, recipe, command line, torchrun and run record.

A notebook's parameters cell holds plain assignments; its guard cell turns them into a frozen model with
``Params.from_notebook(globals())``, which names an unknown or wrong parameter in one sentence. The same model reads
recipes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest, nearest

PLAIN = (bool, int, float, str, list, dict, type(None))
IPYTHON_NAMES = {"In", "Out"}
WEIGHT_FILES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
SEEN = "_vidlib_guarded"  # marks a kernel whose guard ran before: later cells' variables are then expected

# Names that Fabric knows; a test holds them against it.
Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed", "64-true"]


def paper_alone(value: str, method: str) -> str:
    """The ``variant`` of a method without released code: anything but "released", else ValueError."""
    if value == "released":
        raise ValueError(f"variant: {method}'s code was never released; give 'paper'")
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
            plain = {n: v for n, v in plain.items() if n in fields or nearest(n, fields, cutoff=0.8)}
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
    micro_batch: int = Field(0, ge=0, description="videos embedded at once in training, for less memory; 0 for all")
    runs: str = Field("", description="runs folder, empty for the default")
    fresh: bool = Field(False, description="repeat runs that are finished")

    PLACE: ClassVar[frozenset[str]] = frozenset(
        {"device", "devices", "deterministic", "workers", "micro_batch", "runs", "fresh"}
    )

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


class ExecutionParams(Params):
    """What one execution adds: constructor arguments, one named change of the method at most, the split it reports."""

    options: dict[str, Any] = Field(default_factory=dict, description="constructor arguments of the method")
    ablation: str = Field("", description="a named change of the method, empty for the method itself")
    report: Literal["test", "val"] = Field("test", description="the split of the final table; ablations read val")

    @field_validator("options", mode="before")
    @classmethod
    def _plain_options(cls, value: Any) -> Any:
        return plain_options(value)
