"""Typed parameters: the one contract of notebook cell, recipe, command line, torchrun and run record.

A notebook's parameters cell holds plain assignments; its guard cell turns them into a frozen model with
``Params.from_notebook(globals())``, which names an unknown or wrong parameter in one sentence. The same model reads
recipes.
"""

import re
import sys
import textwrap
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from vidlib.basics import paths, plain_yaml
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest, nearest

PLAIN = (bool, int, float, str, list, dict, type(None))
IPYTHON_NAMES = {"In", "Out"}
PAPERMILL = "PAPERMILL_"  # names that papermill itself injects, as with --inject-paths
WEIGHT_FILES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
SEEN = "_vidlib_guarded"  # marks a kernel whose guard ran before: later cells' variables are then expected
FORM = "it should be lines of 'name: value'"
SHIPPED = ("clip-mini", "resnet-mini")  # each name is a backbone and its weights


def plain_options(value: Any) -> Any:
    """Options as a dict: papermill's ``-p`` hands over text, ``-p options "{cardinalities: [2]}"``; else ValueError."""
    wrong = ValueError(f"options: {str(value)[:60]!r} is not of the form {{name: value, name: value}}")
    try:
        value = (plain_yaml.parse(value) or {}) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{wrong} ({error})") from None
    if not isinstance(value, Mapping):
        raise wrong
    return dict(value)


def _parsed(value: Any, info: ValidationInfo) -> Any:
    """A value that a command line gives as text."""
    try:
        return plain_yaml.parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{info.field_name}: {value[:60]!r} cannot be read ({error})") from None


def absolute(value: str) -> str:
    """A path made absolute; empty it stays empty."""
    return str(paths.absolute(value)) if value else ""


def absolute_folder(dataset: str) -> str:
    """``dataset`` with the path of ``folder:PATH`` made absolute."""
    return f"folder:{paths.absolute(dataset[7:])}" if dataset.startswith("folder:") else dataset


def _weights_of(value: str, info: ValidationInfo) -> str:
    """Weights with a file's path made absolute; ValueError where they are another backbone's."""
    backbone = info.data.get("backbone")
    if value in SHIPPED and backbone and backbone != value:
        other = f"pretrained={backbone}" if backbone in SHIPPED else "a tag of that backbone"
        raise ValueError(
            f"pretrained: {value}'s weights do not fit backbone '{backbone}'; "
            f"give {other}, a local file, or an empty string for random weights"
        )
    return absolute(value) if Path(value).suffix in WEIGHT_FILES or "/" in value else value


# What several classes have as a parameter, declared once: ``lr: LearningRate = 2e-3``. ``-p`` hands lists over as text.
AsYAML = BeforeValidator(_parsed)
AbsolutePath = AfterValidator(absolute)
Dataset = Annotated[
    str,
    AfterValidator(absolute_folder),
    Field(description="motion, scene, words, folder:PATH or a benchmark in data_manifests"),
]
Backbone = Annotated[
    str, Field(description="clip-mini, resnet-mini, a model of open_clip such as ViT-B-16-quickgelu, or one of timm")
]
Pretrained = Annotated[
    str,
    AfterValidator(_weights_of),
    Field(
        validate_default=True,
        description="clip-mini, resnet-mini, a tag such as openai, a file or folder, empty for random ones",
    ),
]
Seed = Annotated[int, Field(ge=0, description="seed of weights, batches or episodes, and augmentation")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Field(description="auto, cpu, cuda or mps")]
Precision = Annotated[
    Literal["auto", "32-true", "16-mixed", "bf16-mixed", "64-true"],  # Fabric's names
    Field(description="auto, 32-true, bf16-mixed, 16-mixed or 64-true"),
]
Variant = Annotated[
    Literal["paper", "released"], Field(description="paper, what the paper means, or released, what its code computes")
]
Frames = Annotated[int, Field(ge=2, le=64, description="frames per video")]
LearningRate = Annotated[float, Field(gt=0, description="peak learning rate")]
WeightDecay = Annotated[float, Field(ge=0, description="AdamW weight decay")]
Decayed = Annotated[
    Literal["matrices", "all but norms", "all but biases", "all"],
    Field(description="what weight_decay acts on: matrices, all but norms, all but biases, or all"),
]
Warmup = Annotated[float, Field(ge=0, lt=1, description="part of the steps in which the learning rate rises")]
ClipGrad = Annotated[float, Field(ge=0, description="largest gradient norm, 0 for no clipping")]
Options = Annotated[
    dict[str, Any],
    BeforeValidator(plain_options),
    Field(description="constructor arguments of the method, as in {cardinalities: [2]}"),
]
Ablation = Annotated[str, Field(description="a named change of the method, empty for the method itself")]
Report = Annotated[Literal["test", "val"], Field(description="the split of the final table; ablations read val")]
Seeds = Annotated[int, Field(ge=1, description="how many seeds, counted up from seed")]
Ablations = Annotated[bool, Field(description="train the ablations that need training, else read their records")]


class Params(BaseModel):
    """Base of every notebook's parameters: frozen, no unknown names, numbers in strings understood."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_papermill_and_recipes_write_it(cls, values: Any) -> Any:
        """A list of names is their text with commas, a date is text; ``-p shot True`` is a slip, not the number 1."""
        if not isinstance(values, Mapping):
            return values
        found = dict(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            kind = field.annotation if field is not None else None
            if isinstance(value, bool) and kind in (int, float, str):
                raise ValueError(f"{name}: {value} is not {_wanted(kind)}")
            if isinstance(value, date):
                found[name] = str(value)
            words = value if kind is str and isinstance(value, list | tuple) else None
            if words is not None and all(type(word) in (str, int, float) and "," not in str(word) for word in words):
                found[name] = ",".join(map(str, words))
        return found

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """Validate ``values``; a ``UserError`` of one sentence names every parameter that is unknown or wrong."""
        prefix = f"{source}: " if source else ""
        try:
            return cls(**values)
        except ValidationError as error:
            raise UserError(prefix + "; ".join(cls._sentence(e) for e in error.errors())) from None
        except ValueError as error:  # of completing what a recipe says, before the model is validated
            raise UserError(f"{prefix}{error}") from None

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
    def left_open(cls) -> frozenset[str]:
        """The parameters that are None in the notebook, because something else completes them."""
        return frozenset()

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters among a notebook's globals.

        On the first run of a kernel every plain value there must be a parameter; on a re-run only names close to a
        parameter's are refused, since later cells have left theirs. What papermill adds of its own, and what a person's
        IPython start-up files left, are no parameters.
        """
        others = IPYTHON_NAMES | _left_by_startup(namespace)
        plain = {
            name: value
            for name, value in namespace.items()
            if not name.startswith(("_", PAPERMILL)) and name not in others and isinstance(value, PLAIN)
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
        values = paths.read_json(path, FORM) if path.suffix == ".json" else plain_yaml.read(path, FORM)
        if not isinstance(values, dict):
            raise UserError(f"{path} holds no parameters: {FORM}")
        return cls.parse(values, source=path.name)

    def differing(self) -> dict[str, Any]:
        """The parameters that are not the defaults."""
        fields = type(self).model_fields
        return {name: value for name, value in self if value != fields[name].default}

    def changed(self) -> dict[str, Any]:
        """``differing`` without those that say where it runs: what a command repeats."""
        place = getattr(self, "PLACE", ())
        return {name: value for name, value in self.differing().items() if name not in place}

    def show(self) -> None:
        """Print the parameters that are not the defaults."""
        count = len(type(self).model_fields)
        print(listed("not the defaults", self.differing()) or f"all {count} parameters have their defaults")


def _left_by_startup(namespace: Mapping[str, Any]) -> set[str]:
    """The names that were in the kernel before its first cell, and that no cell has set."""
    ipython = sys.modules.get("IPython")  # imported by whoever runs cells, and too heavy for a command
    shell = ipython and ipython.get_ipython()
    if shell is None or namespace is not shell.user_ns:
        return set()
    cells = "\n".join(namespace.get("In", ()))
    there = shell.user_ns_hidden.items()
    return {n for n, v in there if namespace.get(n) is v and not re.search(rf"^{re.escape(n)}\b", cells, re.M)}


def listed(what: str, values: Mapping[str, Any]) -> str:
    """``what: name value, name value`` in lines of text; an empty string where there are none."""
    words = ", ".join(f"{name} {value!r}".replace(" ", "\0") for name, value in values.items())
    lines = textwrap.wrap(f"{what}: {words}", 120, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ") if words else ""


def _wanted(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a name"}[kind]


class PlaceParams(Params):
    """What every run has: which data, towers and seed, and where it is done."""

    dataset: Dataset = "motion"
    backbone: Backbone = "clip-mini"
    pretrained: Pretrained = "clip-mini"
    seed: Seed = 0
    device: Device = "auto"
    devices: int = Field(1, ge=1, description="number of devices")
    precision: Precision = "auto"
    deterministic: bool = Field(False, description="deterministic kernels on a GPU")
    compile: bool = Field(False, description="torch.compile of the towers: faster on a GPU after minutes of compiling")
    workers: int = Field(0, ge=0, description="loader processes, 0 loads in the training process")
    micro_batch: int = Field(0, ge=0, description="videos embedded at once in training, for less memory, 0 for all")
    track: Literal["", "tensorboard", "trackio", "mlflow", "wandb"] = Field(
        "", description="tracker that gets a copy of curves and result: tensorboard, trackio, mlflow or wandb"
    )
    runs: Annotated[str, AbsolutePath] = Field("", description="folder of the run records, empty for the default")
    fresh: bool = Field(False, description="repeat runs that are finished")

    PLACE: ClassVar[frozenset[str]] = frozenset(
        {"device", "devices", "deterministic", "workers", "micro_batch", "track", "runs", "fresh"}
    )

    def determining(self) -> dict[str, Any]:
        """Everything that the result depends on: all but where and how often it runs; ``compile`` where it is on."""
        return {name: value for name, value in self if name not in self.PLACE and (value or name != "compile")}
