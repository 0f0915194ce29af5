"""Parameters of few-shot runs and recipes, and of the notebooks whose defaults are their own."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from vidlib.basics import paths, plain_yaml
from vidlib.basics.words import closest
from vidlib.params import base
from vidlib.params.base import PlaceParams

# Names that later rooms implement; a test holds them against METRICS and METHODS.
METHOD_NAMES = (
    *("ma_fsar", "sloshnet", "gghm", "clip_fsar", "aim"),
    *("otam", "trx", "strm", "hyrsm", "molo", "protonet", "bimhm"),
    *("ordered_differences", "frozen_clip"),  # no papers: floors
    *("zero_shot_clip", "simple_shot", "logistic_regression", "tip_adapter"),  # baselines: nothing trains
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


def names(value: str) -> tuple[str, ...]:
    """The names in a text with commas between them."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def known_methods(value: str, info: ValidationInfo) -> str:
    """Methods with commas between them; ValueError where one is none."""
    return ",".join(known_method(name, info.field_name) for name in names(value))


def paper_alone(method: str) -> Any:
    """The type of ``variant`` of a method without released code, which refuses "released"."""

    def check(value: str) -> str:
        if value == "released":
            raise ValueError(f"variant: {method}'s code was never released; give 'paper'")
        return value

    said = Field(description=f"paper alone, since {method}'s code was never released")
    return Annotated[base.Variant, AfterValidator(check), said]


def _listed(template: Any) -> Any:
    """A list that a command line gives as text; a list of one is that one."""
    if isinstance(template, str) and template.lstrip().startswith("["):
        try:
            template = plain_yaml.parse(template)
        except ValueError as error:
            raise ValueError(f"template: {template[:60]!r} cannot be read as a list ({error})") from None
    return template[0] if isinstance(template, list | tuple) and len(template) == 1 else template


def _one_place(template: str | list[str]) -> str | list[str]:
    wrong = [each for each in ([template] if isinstance(template, str) else template) if each.count("{}") != 1]
    if wrong or not template:
        given = wrong[0] if wrong else template
        raise ValueError(f"template: {given!r} should have one {{}} where the class name goes")
    return template


Method = Annotated[
    str,
    AfterValidator(lambda value, info: known_method(value, info.field_name)),
    Field(description="which method, or FILE.py:CLASS for one of your own"),
]
Compare = Annotated[
    str, AfterValidator(known_methods), Field(description="trained methods to stand beside it, as in otam,trx")
]
Metric = Annotated[
    Literal["otam", "bimhm", "trx", "prototype", "cosine"],
    Field(description="otam, bimhm, trx, prototype or cosine, where a method takes one"),
]
ShotRule = Annotated[
    Literal["own", "frames", "distances"],
    Field(description="what K supports average: frames, distances, or own, as the method (in ma_fsar MA-FSAR) does"),
]
Way = Annotated[int, Field(ge=2, description="classes in an episode")]
Shot = Annotated[int, Field(ge=1, description="support videos per class")]
Query = Annotated[int, Field(ge=1, description="query videos per class")]
TestEpisodes = Annotated[int, Field(ge=1, description="test episodes, the papers use 10000")]
AblationEpisodes = Annotated[int, Field(ge=1, description="training episodes of each ablation")]


def store_or_word(value: str) -> str:
    """ "auto" or "never", or a path made absolute."""
    return value if value in ("auto", "never") else base.absolute(value) or "auto"


class FewShotParams(PlaceParams):
    """What every few-shot run shares, and what the recipes of the papers with a trunk to tune choose besides."""

    way: Way = 5
    shot: Shot = 1
    query: Query = 1
    test_episodes: TestEpisodes = 2000
    test_dataset: Annotated[str, AfterValidator(base.absolute_folder)] = Field(
        "", description="another data set, whose test classes are tested on, empty for those of dataset"
    )
    remove_overlap: bool = Field(
        True, description="leave out what test_dataset shares with training and val, else report it"
    )
    init: Annotated[str, base.AbsolutePath] = Field(
        "", description="a finished run's folder whose weights training starts from, empty for none"
    )
    template: Annotated[str | list[str], BeforeValidator(_listed), AfterValidator(_one_place)] = Field(
        "a photo of {}", description="the sentence around a class text, or a list of them, to be averaged"
    )
    texts: Annotated[str, base.AbsolutePath] = Field(
        "", description="a YAML file of class: text or class: [text, text], to be averaged; empty for class names"
    )
    variant: base.Variant = "paper"
    metric: Metric = "otam"
    metric_scale: float = Field(4.0, gt=0, description="factor on the metric's logits before softmax")
    shot_rule: ShotRule = "own"
    frames: base.Frames = 8
    train_episodes: int = Field(800, ge=0, description="training episodes")
    val_episodes: int = Field(100, ge=0, description="val episodes at each selection, 0 keeps the last weights")
    val_every: int = Field(400, ge=1, description="training episodes between two selections of weights on val")
    episodes_per_step: int = Field(1, ge=1, description="episodes per optimiser step")
    # Of 5e-4, 1e-3 and 2e-3 the best for MA-FSAR on 1,000 val episodes of motion after 450 (seed 0, last weights):
    # 35.0, 40.5 and 36.4 %; frozen CLIP 21.8.
    lr: base.LearningRate = 1e-3
    weight_decay: base.WeightDecay = 1e-2
    warmup: base.Warmup = 0.1
    clip_grad: base.ClipGrad = 1.0
    mix: float = Field(0.1, ge=0, le=1, description="weight of MA-FSAR's text terms in loss and score")
    freeze_bn: bool = Field(True, description="a ResNet's BatchNorm keeps its statistics, scales and shifts")
    train_shot: int = Field(0, ge=0, description="support videos per class in training, 0 for as many as shot")
    train_query: int = Field(0, ge=0, description="query videos per class in training, 0 for as many as query")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="adamw, adam or sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    decayed: base.Decayed = "matrices"
    schedule: Literal["cosine", "constant", "steps"] = Field(
        "cosine", description="learning rate after the warm-up: cosine, constant or steps"
    )
    milestones: Annotated[list[tuple[float, float]], base.AsYAML] = Field(
        [], description="of schedule steps: [place, part of lr] in order; a place is an episode, or a share below 1"
    )
    arch_lr: float = Field(3e-3, gt=0, description="peak learning rate of a searched architecture's own Adam")
    query_sum: bool = Field(False, description="gradients of the sum over an episode's queries instead of the mean")
    crop: Literal["area", "window", "squashed window"] = Field(
        "area", description="area of random size, or window or squashed window of the enlarged picture"
    )
    flip: Literal["auto", "all", "queries", "none"] = Field(
        "auto", description="who is mirrored in training: all, queries, none; auto: all where direction tells nothing"
    )
    colour: Literal["none", "queries"] = Field("none", description="who changes colour in training: none or queries")
    normalise: Literal["backbone", "grey", "none", "grey/backbone"] = Field(
        "backbone", description="input statistics: backbone (its own), grey (0.45, 0.225), none, or training/test"
    )
    sampling: Literal["segments", "even segments", "ends", "span"] = Field(
        "segments", description="frames: segments (TSN), even segments (CLIP-FSAR), ends (TRX), span (its Kinetics)"
    )
    train_frames: Literal["random", "random supports"] = Field(
        "random", description="whose training frames vary: random (all) or random supports"
    )
    test_frames: Literal["fixed", "random", "random supports"] = Field(
        "fixed", description="whose test frames vary by episode; anything but fixed embeds every episode anew"
    )

    features: Annotated[str, AfterValidator(store_or_word)] = Field(
        "auto",
        description="stored frame features: auto (a store that fits, where the tower is frozen), never or a path",
    )

    def determining(self) -> dict[str, Any]:
        """Everything that the result depends on; of a store what is read of it, which the run itself says."""
        return {name: value for name, value in super().determining().items() if name != "features"}

    @property
    def templates(self) -> tuple[str, ...]:
        """The sentences around a class text."""
        return (self.template,) if isinstance(self.template, str) else tuple(self.template)

    @property
    def tested_on(self) -> str:
        """The data set whose test classes are tested on."""
        return self.test_dataset or self.dataset

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.test_dataset and self.test_dataset == self.dataset:
            raise ValueError(f"test_dataset: {self.test_dataset} is dataset itself; leave it empty")
        if self.metric == "trx" and self.frames < 3:
            raise ValueError(
                f"frames: {self.frames} are too few for metric trx, which compares triples; give at least 3"
            )
        if bool(self.milestones) != (self.schedule == "steps"):
            raise ValueError(
                f"milestones: {self.milestones} with schedule '{self.schedule}'; give milestones with schedule steps, "
                "and only with it"
            )
        return self


class RunParams(FewShotParams):
    """One execution of a few-shot method with one seed."""

    method: Method = "ma_fsar"
    options: base.Options = {}
    ablation: base.Ablation = ""
    report: base.Report = "test"
    also_shots: Annotated[list[Annotated[int, Field(ge=1)]], base.AsYAML] = Field(
        [], description="further shots that it is tested at, as in [5]"
    )

    def determining(self) -> dict[str, Any]:
        """As of every run; ``also_shots`` where there are any."""
        return {name: value for name, value in super().determining().items() if value or name != "also_shots"}


BY_SHOTS = {"prototype": "frames", "distance": "distances"}  # MA-FSAR's argument ``shots`` -> the rule


class OneMethod:
    """What a notebook that studies one method can do; its fields (``compare``, ``options``) are the model's own."""

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods named in ``compare``, in order."""
        return names(self.compare)

    @property
    def planned(self) -> tuple[str, ...]:
        """The methods that will run, where they are known yet."""
        return tuple(filter(None, (self.method, *self.compared)))

    def run_params(self, method: str = "", **changes: Any) -> RunParams:
        """The parameters of one run of ``method``, default the notebook's own, which alone has its ``options``."""
        shared = {name: value for name, value in self if name in RunParams.model_fields}
        if method not in ("", self.method):
            shared |= {"options": {}, "init": ""}
            if self.shot_rule == "own":  # one rule for all that stand beside each other: that of MA-FSAR
                shared["shot_rule"] = BY_SHOTS.get(self.options.get("shots", "prototype"), "own")
        return RunParams.parse({**shared, "method": method or self.method, **changes})


class MAFSARParams(OneMethod, FewShotParams):
    """Parameters of notebooks/ma_fsar.ipynb."""

    variant: paper_alone("MA-FSAR") = "paper"
    options: base.Options = Field({}, description="constructor arguments of MA-FSAR, as in {joint: false, ratio: 0.5}")
    compare: Compare = "aim"
    seeds: base.Seeds = 1
    ablations: base.Ablations = False
    ablation_episodes: AblationEpisodes = 450

    method: ClassVar[str] = "ma_fsar"


class ExploreParams(OneMethod, FewShotParams):
    """Parameters of notebooks/explore.ipynb: the runs of ma_fsar.ipynb, so that nothing is trained twice."""

    variant: paper_alone("MA-FSAR") = "paper"
    options: base.Options = Field({}, description="constructor arguments of MA-FSAR, as in {joint: false, ratio: 0.5}")
    compare: Compare = Field("aim", description="trained methods beside MA-FSAR, each on a ViT, as in aim,clip_fsar")
    seeds: base.Seeds = 1

    method: ClassVar[str] = "ma_fsar"
