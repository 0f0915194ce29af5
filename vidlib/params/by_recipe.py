"""Parameters that a recipe completes: what the user leaves open is as the method's own recipe says.

In these notebooks an open parameter is None. What is given wins over the recipe, the recipe over the defaults, which is
settled before the model is validated. ``show`` prints where each value came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, field_validator

from vidlib.params import base, few_shot, recipes
from vidlib.params.base import PlaceParams, listed, plain_options
from vidlib.params.few_shot import METHOD_NAMES, FewShotParams, OneMethod, RunParams, known_method, names
from vidlib.params.names import WORLDS

FROZEN, ORDERED = "frozen_clip", "ordered_differences"  # the floors
WITH_TEXT = "with_text"  # the first floor's ablation
BASELINES = ("zero_shot_clip", WITH_TEXT, "simple_shot", "logistic_regression", "tip_adapter")
TOWER = frozenset({"backbone", "pretrained"})
TESTED_ON = frozenset({"test_dataset", "remove_overlap"})
PROTOCOL = frozenset(PlaceParams.model_fields) - TOWER | TESTED_ON
PROTOCOL |= {"way", "shot", "query", "shot_rule", "test_episodes"}
SAME = PROTOCOL | TOWER | {"template", "texts", "frames"}  # what methods side by side share
AMOUNT = frozenset({"train_episodes", "val_episodes", "val_every", "metric"})  # shared where the user gave them
TRAINING = frozenset(  # what changes nothing where nothing is trained
    (
        *("train_episodes", "val_episodes", "val_every", "episodes_per_step", "train_shot", "train_query", "query_sum"),
        *("clip_grad", "optimizer", "lr", "arch_lr", "weight_decay", "decayed", "momentum", "warmup", "schedule"),
        *("milestones", "flip", "colour", "train_frames"),
    )
)
NOTEBOOK = ("seeds", "compare", "ablations", "ablation_episodes")  # of a recipe, what is its notebook's and no run's
MIXED_EPISODES = 200  # small test of a variant that mixes the videos of an episode, so that each is embedded anew


def recipe_values(method: str, dataset: str, shot: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What the recipe of ``method`` says beside ``given``, as parameters of a run, and its name ("": there is none).

    A recipe may hold parameters of its notebook that are constructor arguments of the method: they become options.
    Weights belong to a backbone: who gives another backbone does not get the recipe's weights.
    """
    file = recipes.find(method, dataset, shot)
    said = dict(recipes.read(file)) if file else {}
    options = plain_options(said.pop("options", {}))
    options |= {n: said.pop(n) for n in said.keys() - {*RunParams.model_fields, *NOTEBOOK}}
    said = {name: value for name, value in said.items() if name in RunParams.model_fields} | {"options": options}
    if given.get("backbone", said.get("backbone")) != said.get("backbone"):
        said.pop("pretrained", None)
        if given["backbone"] in base.SHIPPED:
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


def baseline(name: str, params: RunParams) -> RunParams:
    """One of ``BASELINES`` beside a run, on the same backbone; nothing of the training is kept."""
    same = {field: value for field, value in params if field in SAME}
    return RunParams.parse(same | ({"method": FROZEN, "ablation": name} if name == WITH_TEXT else {"method": name}))


def ordered(params: RunParams) -> RunParams:
    """The other floor beside a run: ordered differences on the same backbone. They train by their own recipe and
    no longer than the run does."""
    same = {name: value for name, value in params if name in SAME}
    longest = min(params.train_episodes, by_recipe(ORDERED, same).train_episodes)
    return by_recipe(ORDERED, same | {"train_episodes": longest})


def own_rate(params: RunParams) -> RunParams:
    """A method beside another one's: with the learning rate of its own recipe, where there is one."""
    said, _ = recipe_values(params.method, params.dataset, params.shot, {})
    return params.model_copy(update={"lr": said.get("lr", params.lr)})


def untrained(params: RunParams) -> RunParams:
    """A run's own method before any training. Nothing of the training is kept, so that other training shares it."""
    kept = {name: value for name, value in params if name not in TRAINING | {"init"}}
    return RunParams.parse(kept | {"train_episodes": 0, "val_episodes": 0})


@dataclass(frozen=True)
class Source:
    """Where values come from: ``given`` by the user, ``said`` by the recipe of name ``recipe`` ("": there is none).

    ``options``: those that the user gave, without those that have a parameter of their own.
    """

    given: frozenset[str]
    said: frozenset[str]
    recipe: str
    options: Mapping[str, Any]


class ByRecipe(OneMethod):
    """How a model is completed by its method's recipe: behaviour alone, the fields and ``_source`` are the model's own.

    ``OWN``: what the notebook calls a parameter and the method an argument. Left open, it is the recipe's.
    """

    OWN: ClassVar[tuple[str, ...]] = ()
    OPENED: ClassVar[frozenset[str]] = TESTED_ON | {"init", "texts"}  # no recipe says them
    CLOSED: ClassVar[frozenset[str]] = PlaceParams.PLACE | OPENED | {"dataset", "shot", "seed"}

    def __init__(self, /, **values: Any) -> None:
        source, complete = self.completed(values)
        self.__pydantic_validator__.validate_python(complete, self_instance=self, context=source)

    def model_post_init(self, source: Source) -> None:
        self._source = source

    @classmethod
    def left_open(cls) -> frozenset[str]:
        """The parameters that are None in the notebook."""
        return frozenset(FewShotParams.model_fields) - cls.CLOSED | set(cls.OWN)

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of ``values`` the user chose."""
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
        """Where values come from, and ``values`` with what the recipe says for those left open, not yet validated."""
        given = cls.given(values)
        key = [str(given.get(name, cls.model_fields[name].default)) for name in ("method", "dataset", "shot")]
        said, recipe = recipe_values(*key, {name: value for name, value in given.items() if name != "options"})
        chosen = plain_options(given.get("options", {}))
        chosen = {name: value for name, value in chosen.items() if name not in cls.OWN or name not in given}
        options = said.pop("options", {}) | chosen
        own = {name: options[name] for name in cls.OWN if name in options}
        return Source(frozenset(given), frozenset(said), recipe, chosen), said | own | given | {"options": options}

    @property
    def as_recipe(self) -> bool:
        """Whether its run is the one that the method's recipe alone means, whatever data set, seed and device."""
        said, recipe = recipe_values(self.method, self.dataset, self.shot, {})
        closed = {name: getattr(self, name) for name in self.CLOSED - self.OPENED - {"shot"}}
        return bool(recipe) and self.run_params() == RunParams.parse({**said, **closed, "method": self.method})

    def run_params(self, method: str = "", **changes: Any) -> RunParams:
        """The parameters of one run of ``method``, default ``self.method``.

        Another method trains as its own recipe says, on the same data, episodes, backbone and frames, and as long as
        the user said, if the user said.
        """
        own = {name: value for name, value in self if name in RunParams.model_fields}
        own["options"] = self.options | {name: getattr(self, name) for name in self.OWN if name in self._source.given}
        if method in ("", self.method):
            return RunParams.parse(own | changes)
        shared = SAME | (AMOUNT & self._source.given)
        return by_recipe(method, {name: value for name, value in own.items() if name in shared} | changes)

    def changed(self) -> dict[str, Any]:
        """What the user gave, as a command repeats it: open parameters, and others that are not the default."""
        source = self._source
        chosen = super().changed().keys() - self.left_open() - {"options"} | source.given & self.left_open()
        given = {name: value for name, value in self if name in chosen}
        return given | ({"options": dict(source.options)} if source.options else {})

    def show(self) -> None:
        """Print what was given, what the recipe said, and what neither did, so that it is a default."""
        source, differing = self._source, self.differing()
        given = self.changed() | {n: differing[n] for n in self.PLACE & differing.keys() - source.said}
        more = {n: v for n, v in self.options.items() if n not in source.given and n not in source.options}
        own = {name: more.pop(name) for name in self.OWN if name in more}
        said = {n: v for n, v in self if n in source.said} | own | ({"options": more} if more else {})
        rest = {n: v for n, v in self if n in self.left_open() - source.given - said.keys() - source.options.keys()}
        print(listed("given", given) or "given: nothing that is not the default")
        print(listed(source.recipe, said) or f"{self.method} has no recipe for {self.dataset}")
        print(listed("defaults", rest))


class FewShotNotebookParams(ByRecipe, FewShotParams):
    """Parameters of notebooks/few_shot.ipynb."""

    method: few_shot.Method = "trx"
    options: base.Options = {}
    compare: few_shot.Compare = ""
    seeds: base.Seeds = 1
    _source: Source = PrivateAttr()


class YourMethodParams(ByRecipe, FewShotParams):
    """Parameters of notebooks/your_method.ipynb."""

    method: Annotated[str, AfterValidator(lambda value: known_method(value) if value else value)] = Field(
        "", description="FILE.py:CLASS of your method, empty for the one written here"
    )
    options: base.Options = Field({}, description="constructor arguments of the method, as in {width: 64}")
    compare: few_shot.Compare = "otam"
    seeds: base.Seeds = 1
    _source: Source = PrivateAttr()

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in super().given(values).items() if name != "method" or value}

    def named(self, method: str) -> Self:
        """The same with ``method``, where it was left empty; a command then leaves it empty too."""
        return self if self.method else self.model_copy(update={"method": known_method(method)})

    def changed(self) -> dict[str, Any]:
        """What the user gave; a method that the notebook wrote is not."""
        return {n: v for n, v in super().changed().items() if n != "method" or n in self._source.given}


class SloshNetParams(ByRecipe, FewShotParams):
    """Parameters of notebooks/sloshnet.ipynb. ``variant`` released is tested on fewer episodes of a small world."""

    method: Literal["sloshnet"] = Field("sloshnet", description="SloshNet alone; few_shot.ipynb takes the others")
    fusion: Literal["search", "even", "gp1", "gp2", "sum", "last"] = Field(
        "search", description="search, or a fixed fusion: even, gp1, gp2, sum, or last for the deepest map alone"
    )
    cardinalities: Annotated[list[int], base.AsYAML] = Field(
        [1], description="how many frames the matcher's tuples have, as in [1, 2]"
    )
    options: base.Options = Field({}, description="other constructor arguments of SloshNet, as in {long_term: false}")
    compare: few_shot.Compare = ""
    seeds: base.Seeds = 1
    ablations: base.Ablations = False
    ablation_episodes: few_shot.AblationEpisodes = 400
    _source: Source = PrivateAttr()

    OWN: ClassVar[tuple[str, ...]] = ("fusion", "cardinalities")

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        given = super().given(values)
        small = recipes.small(str(given.get("dataset", recipes.SMALL)))
        return ({"test_episodes": MIXED_EPISODES} if small and given.get("variant") == "released" else {}) | given


class GgHMParams(ByRecipe, FewShotParams):
    """Parameters of notebooks/gghm.ipynb."""

    method: Literal["gghm"] = Field("gghm", description="GgHM alone; few_shot.ipynb takes the others")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of tuples against frames, 0 is frames alone, 1 tuples")
    graph_weight: float = Field(1.0, ge=0, description="weight of the loss on the graph's edges")
    finetune: Literal["full", "frozen"] = Field(
        "full", description="full trains the trunk as papers do, frozen leaves it"
    )
    beside: str = Field("scene", description="a second world for frames against tuples, or empty")
    variant: few_shot.paper_alone("GgHM") = "paper"
    options: base.Options = Field(
        {}, description="other constructor arguments of GgHM, as in {gap: 4, transductive: true}"
    )
    compare: few_shot.Compare = ""
    seeds: base.Seeds = 1
    ablations: base.Ablations = False
    ablation_episodes: few_shot.AblationEpisodes = 600
    _source: Source = PrivateAttr()

    OWN: ClassVar[tuple[str, ...]] = ("alpha", "graph_weight", "finetune")

    @property
    def worlds(self) -> tuple[str, ...]:
        """Where frames are set against tuples: the data set, and beside an embedded world the other one."""
        beside = self.beside if self.dataset in WORLDS and not self.test_dataset else ""
        return tuple(dict.fromkeys(filter(None, (self.dataset, beside))))


class ComparisonParams(PlaceParams):
    """Parameters of notebooks/comparison.ipynb: one protocol, every method by its own recipe."""

    methods: str = Field("all", description="all, or some as in otam,trx, FILE.py:CLASS among them")
    against: few_shot.Method = Field("otam", description="the method that the others are set against")
    train: bool = Field(False, description="train what has no run yet, else list it as missing")
    train_episodes: int = Field(20, ge=0, description="training episodes of each, 0 for as many as its recipe says")
    way: few_shot.Way = 5
    shot: few_shot.Shot = 1
    query: few_shot.Query = 1
    shot_rule: few_shot.ShotRule = "own"
    test_episodes: few_shot.TestEpisodes = 1000
    backbone: base.Backbone = Field("", description="one backbone for all, empty for each recipe's own")
    pretrained: base.Pretrained = Field("", description="its weights, empty for the recipe's own or those of that name")
    seeds: base.Seeds = 1
    shape_episodes: int = Field(200, ge=1, description="val episodes of each number of shots and ways")
    published: str = Field("SSv2-Small", description="the data set of the published panel, such as SSv2-Full or HMDB51")

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, value: str) -> str:
        known = [known_method(name, "methods") for name in names(value) if name != "all"]
        if not known and "all" not in value:
            raise ValueError("methods: give all, or some as in otam,trx")
        return "all" if "all" in value else ",".join(known)

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
        given |= {name: value for name in TOWER if (value := getattr(self, name))}
        if self.train_episodes:  # too few for a selection on val to mean anything
            given |= {"train_episodes": self.train_episodes, "val_episodes": 0}
        return by_recipe(method, given)
