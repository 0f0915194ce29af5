"""Parameters of the notebooks of papers whose trunk is trained: what is left open is as the method's recipe says."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from vidlib.params.base import paper_alone, plain_options
from vidlib.params.by_recipe import OpenParams
from vidlib.params.few_shot import StudyParams


class PaperParams(OpenParams, StudyParams):
    """``OWN``: what the notebook calls a parameter and the method an argument. Left open, it is the recipe's."""

    OWN: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def left_open(cls) -> frozenset[str]:
        return super().left_open() | set(cls.OWN)

    @model_validator(mode="wrap")
    @classmethod
    def _own_are_options(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        given = {n: values[n] for n in cls.OWN if values.get(n) is not None} if isinstance(values, Mapping) else {}
        if given:
            values = {**values, "options": {**plain_options(values.get("options", {})), **given}}
        self = handler(values)
        for name in cls.OWN:
            if name in given:
                self.options[name] = getattr(self, name)
            self.__dict__[name] = self.options.get(name, getattr(self, name))
        self._chosen = {name: value for name, value in self._chosen.items() if name not in given}
        return self


MIXED_EPISODES = 200  # small test of a variant that mixes the videos of an episode, so that each is embedded anew


class SloshNetParams(PaperParams):
    """Parameters of notebooks/sloshnet.ipynb. ``variant`` released is tested on fewer episodes of a small world."""

    OWN: ClassVar[tuple[str, ...]] = ("fusion", "cardinalities")

    method: Literal["sloshnet"] = Field("sloshnet", description="SloshNet alone; few_shot.ipynb takes the others")
    fusion: Literal["search", "even", "gp1", "gp2", "sum", "last"] = Field(
        "search", description="search, or a fixed fusion: even, gp1, gp2, sum, or last for the deepest map alone"
    )
    cardinalities: list[int] = Field([1], description="how many frames the matcher's tuples have, as in [1, 2]")

    @model_validator(mode="wrap")
    @classmethod
    def _fewer_where_videos_mix(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, Mapping) and values.get("variant") == "released" and values.get("test_episodes") is None:
            if str(values.get("dataset", "moving_shapes")).startswith(("moving_shapes", "folder:")):
                values = {**values, "test_episodes": MIXED_EPISODES}
        return handler(values)

    @field_validator("cardinalities", mode="before")
    @classmethod
    def _cardinalities_in_words(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p cardinalities "[1]"``."""
        return yaml.safe_load(value) if isinstance(value, str) else value


class GgHMParams(PaperParams):
    """Parameters of notebooks/gghm.ipynb."""

    OWN: ClassVar[tuple[str, ...]] = ("alpha", "graph_weight", "finetune")

    method: Literal["gghm"] = Field("gghm", description="GgHM alone; few_shot.ipynb takes the others")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of tuples against frames, 0 is frames alone")
    graph_weight: float = Field(1.0, ge=0, description="weight of the loss on the graph's edges")
    finetune: Literal["full", "frozen"] = Field(
        "full", description="full trains the trunk as papers do, frozen leaves it"
    )
    beside: str = Field("moving_shapes_scene", description="a second world for frames against tuples, or empty")

    @field_validator("variant")
    @classmethod
    def _only_the_paper(cls, value: str) -> str:
        return paper_alone(value, "GgHM")

    @property
    def worlds(self) -> tuple[str, ...]:
        """Where frames are set against tuples: the data set, and beside an embedded world the other one."""
        beside = self.beside if self.dataset.startswith("moving_shapes") else ""
        return tuple(dict.fromkeys(filter(None, (self.dataset, beside))))
