"""Parameters that a recipe completes: what the user leaves open is as the method's own recipe says.

In these notebooks' cells an open parameter is None. What is given wins over the recipe, the recipe over the defaults.
``show`` prints where each value came from.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, field_validator, model_validator

from vidlib.params import recipes
from vidlib.params.base import ProtocolParams, plain_options
from vidlib.params.few_shot import METHOD_NAMES, RecipeParams, RunParams, SeedsParams, StudyParams, known_method

SHIPPED = ("clip-mini", "resnet-mini")  # backbones whose weights have the same name
FROZEN = "frozen_clip"
PROTOCOL = frozenset(ProtocolParams.model_fields)
SAME = PROTOCOL | {"backbone", "pretrained", "template", "frames"}  # what methods side by side share
AMOUNT = frozenset({"train_episodes", "val_episodes", "val_every", "metric"})  # shared where the user gave them
TRAINING = frozenset(  # what changes nothing where nothing is trained
    ("train_episodes", "val_episodes", "val_every", "episodes_per_step", "train_shot", "train_query", "query_sum")
    + (
        "clip_grad",
        "optimizer",
        "lr",
        "arch_lr",
        "weight_decay",
        "decayed",
        "momentum",
        "warmup",
        "schedule",
        "milestones",
    )
    + ("flip", "colour", "train_frames")
)


def recipe_values(method: str, dataset: str, shot: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What the recipe of ``method`` says beside ``given``, as parameters of a run, and its name ("": there is none).

    A recipe may hold parameters of its notebook that are constructor arguments of the method: they become options.
    Weights belong to a backbone: who gives another backbone does not get the recipe's weights.
    """
    file = recipes.find(method, dataset, shot)
    said = dict(recipes.read(file)) if file else {}
    options = plain_options(said.pop("options", {}))
    options |= {n: said.pop(n) for n in said.keys() - RunParams.model_fields.keys() - StudyParams.model_fields.keys()}
    said = {name: value for name, value in said.items() if name in RunParams.model_fields} | {"options": options}
    if given.get("backbone", said.get("backbone")) != said.get("backbone"):
        said.pop("pretrained", None)
        if given["backbone"] in SHIPPED:
            said["pretrained"] = given["backbone"]
    said = {name: value for name, value in said.items() if name not in {*given, "method"}}
    return said, recipes.short(file) if file else ""


def by_recipe(method: str, given: Mapping[str, Any]) -> RunParams:
    """The run of ``method`` that is ``given`` (data set and shot among it) and otherwise as its recipe says."""
    said, _ = recipe_values(method, given["dataset"], given["shot"], given)
    return RunParams.parse({**said, **given, "method": method})


def frozen(params: RunParams) -> RunParams:
    """The floor beside a run: the same backbone's frozen features under OTAM. Nothing of the training is kept."""
    return RunParams.parse({name: value for name, value in params if name in SAME} | {"method": FROZEN})


def untrained(params: RunParams) -> RunParams:
    """A run's own method before any training. Nothing of the training is kept, so that other training shares it."""
    kept = {name: value for name, value in params if name not in TRAINING}
    return RunParams.parse(kept | {"train_episodes": 0, "val_episodes": 0})


class OpenParams(RecipeParams, SeedsParams):
    """A method's name and what the user chose; the rest is as the method's recipe says."""

    CLOSED: ClassVar[frozenset[str]] = ProtocolParams.PLACE | {"dataset", "shot", "seed"}

    method: str = Field("otam", description="which method, or FILE.py:CLASS for one of your own")
    options: dict[str, Any] = Field({}, description="constructor arguments of the method")
    _given: frozenset[str] = PrivateAttr(frozenset())
    _recipe: str = PrivateAttr("")
    _said: frozenset[str] = PrivateAttr(frozenset())
    _chosen: dict[str, Any] = PrivateAttr({})  # the options that the user gave

    @classmethod
    def left_open(cls) -> frozenset[str]:
        """The parameters that are None in the notebook's cell."""
        return frozenset(RecipeParams.model_fields) - cls.CLOSED

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping):
            return handler(values)
        given = {name: value for name, value in values.items() if value is not None}
        key = [str(given.get(name, cls.model_fields[name].default)) for name in ("method", "dataset", "shot")]
        said, recipe = recipe_values(*key, {name: value for name, value in given.items() if name != "options"})
        chosen = plain_options(given.get("options", {}))
        options = {**said.pop("options", {}), **chosen}
        self = handler({**said, **given, "options": options})
        self._given, self._recipe, self._said, self._chosen = frozenset(given), recipe, frozenset(said), chosen
        return self

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value)

    @property
    def as_recipe(self) -> bool:
        """Whether its run is the one that the method's recipe alone means, whatever data set, seed and device."""
        said, recipe = recipe_values(self.method, self.dataset, self.shot, {})
        closed = {name: getattr(self, name) for name in self.CLOSED - {"shot"}}
        return bool(recipe) and self.run_params() == RunParams.parse({**said, **closed, "method": self.method})

    @property
    def planned(self) -> tuple[str, ...]:
        """The methods that will run, where they are known yet."""
        return tuple(filter(None, (self.method, *self.compared)))

    def run_params(self, method: str = "", **changes: Any) -> RunParams:
        """The parameters of one run of ``method``, default ``self.method``.

        Another method trains as its own recipe says, on the same data, episodes, backbone and frames, and as long as
        the user said, if the user said.
        """
        own = {name: value for name, value in self if name in RunParams.model_fields} | changes
        if method in ("", self.method):
            return RunParams.parse(own)
        return by_recipe(method, {n: v for n, v in own.items() if n in SAME | (AMOUNT & self._given) | changes.keys()})

    def changed(self) -> dict[str, Any]:
        """What the user gave, as a command repeats it: open parameters, and others that are not the default."""
        given = {name: value for name, value in self if name in self._given & self.left_open()}
        given |= {"options": self._chosen} if self._chosen else {}
        return {n: v for n, v in super().changed().items() if n not in self.left_open() | {"options"}} | given

    def show(self) -> None:
        """Print every parameter; one that the recipe gave with the recipe's name."""
        width = max(map(len, type(self).model_fields))
        if not self._recipe:
            print(f"{self.method} has no recipe for {self.dataset}: what was not given is a default")
        for name, value in self:
            source = f"  ({self._recipe})" if name in self._said else ""
            print(f"{name:<{width}}  {value!r}{source}")


class FewShotNotebookParams(OpenParams):
    """Parameters of notebooks/few_shot.ipynb."""


class YourMethodParams(OpenParams):
    """Parameters of notebooks/your_method.ipynb."""

    method: str = Field("", description="FILE.py:CLASS of your method, empty for the one written here")
    compare: str = Field("otam", description="trained methods to stand beside it, as in otam,trx")
    _written: bool = PrivateAttr(False)

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value) if value else value

    def named(self, method: str) -> Self:
        """The same with ``method``, where it was left empty; a command then leaves it empty too."""
        if self.method:
            return self
        named = self.model_copy(update={"method": known_method(method)})
        named._written = True
        return named

    def changed(self) -> dict[str, Any]:
        """What the user gave; a method that the notebook wrote is not."""
        return {n: v for n, v in super().changed().items() if n != "method" or not self._written}


class ComparisonParams(ProtocolParams):
    """Parameters of notebooks/comparison.ipynb: one protocol, every method by its own recipe."""

    methods: str = Field("all", description="all, or some as in otam,trx, FILE.py:CLASS among them")
    against: str = Field("otam", description="the method that the others are set against")
    train: bool = Field(True, description="train what has no record, else list it as missing")
    train_episodes: int = Field(20, ge=0, description="training episodes of each, 0 for as many as its recipe says")
    test_episodes: int = Field(1000, ge=1, description="test episodes")
    backbone: str = Field("", description="one backbone for all, empty for each recipe's own")
    pretrained: str = Field("", description="its weights, empty for the recipe's own or those of that name")
    seeds: int = Field(1, ge=1, description="how many seeds, counted up from seed")
    shape_episodes: int = Field(200, ge=1, description="val episodes of each number of shots and ways")
    published: str = Field("SSv2-Small", description="the data set of the published panel, such as SSv2-Full or HMDB51")

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, value: str) -> str:
        names = [known_method(name.strip(), "methods") for name in value.split(",") if name.strip() not in ("", "all")]
        if not names and "all" not in value:
            raise ValueError("methods: give all, or some as in otam,trx")
        return "all" if "all" in value else ",".join(names)

    @field_validator("against")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value, "against")

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods in order, ``against`` always among them; frozen features stand beside them anyway."""
        chosen = METHOD_NAMES if self.methods == "all" else tuple(self.methods.split(","))
        return tuple(dict.fromkeys(name for name in (*chosen, self.against) if name != FROZEN))

    @property
    def planned(self) -> tuple[str, ...]:
        """The methods that must be possible: those named. Of "all", one that is not is left out later."""
        return (self.against,) if self.methods == "all" else self.compared

    def run_params(self, method: str, **changes: Any) -> RunParams:
        """The parameters of ``method``'s run: its recipe under this protocol."""
        given = {name: value for name, value in self if name in PROTOCOL} | changes
        given |= {name: value for name in ("backbone", "pretrained") if (value := getattr(self, name))}
        if self.train_episodes:  # too few for a selection on val to mean anything
            given |= {"train_episodes": self.train_episodes, "val_episodes": 0}
        return by_recipe(method, given)
