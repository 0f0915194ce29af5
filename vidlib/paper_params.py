"""Parameters of the notebooks of papers whose trunk is trained: what is left open is as the method's recipe says."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from vidlib.open_params import OpenParams
from vidlib.params import StudyParams, plain_options


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


class SloshNetParams(PaperParams):
    """Parameters of notebooks/sloshnet.ipynb."""

    OWN: ClassVar[tuple[str, ...]] = ("fusion", "cardinalities")

    method: Literal["sloshnet"] = Field("sloshnet", description="SloshNet alone; few_shot.ipynb takes the others")
    fusion: Literal["search", "even", "gp1", "gp2", "sum", "last"] = Field(
        "search", description="search, or a fixed fusion: even, gp1, gp2, sum, or last for the deepest map alone"
    )
    cardinalities: list[int] = Field([1], description="how many frames the matcher's tuples have, as in [1, 2]")

    @field_validator("cardinalities", mode="before")
    @classmethod
    def _cardinalities_in_words(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p cardinalities "[1]"``."""
        return yaml.safe_load(value) if isinstance(value, str) else value
