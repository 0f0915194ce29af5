"""Parameters of the notebooks of papers whose trunk is trained: a recipe, a study, and the method's own arguments.

The method of the notebook takes them as they stand; a method beside it trains as its own recipe says, on the same data,
episodes, backbone and frames.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, field_validator

from vidlib.open_params import AMOUNT, SAME, by_recipe
from vidlib.params import RecipeParams, RunParams, StudyParams


class PaperParams(RecipeParams, StudyParams):
    """``METHOD`` is the notebook's method, ``OWN`` the parameters that are arguments of its constructor.

    An argument with the value that ``OWN`` has for it, its default there, goes unsaid, as in the recipes: the same run
    keeps the same id.
    """

    METHOD: ClassVar[str] = ""
    OWN: ClassVar[Mapping[str, Any]] = {}

    backbone: str = Field("resnet-mini", description="resnet-mini, a timm ResNet, clip-mini or an open_clip ViT")
    pretrained: str = Field("resnet-mini", description="its name, a tag, a local file, or empty for random weights")

    @property
    def method(self) -> str:
        return self.METHOD

    @property
    def planned(self) -> tuple[str, ...]:
        """The methods that will run."""
        return (self.METHOD, *self.compared)

    def run_params(self, method: str = "", **changes: Any) -> RunParams:
        """The parameters of one run of ``method``, default the notebook's, with ``changes``."""
        if method not in ("", self.METHOD):
            shared = {name: getattr(self, name) for name in SAME | (AMOUNT & self.model_fields_set)}
            return by_recipe(method, {**shared, **changes})
        shared = {name: value for name, value in self if name in RunParams.model_fields}
        own = {name: getattr(self, name) for name, usual in self.OWN.items() if getattr(self, name) != usual}
        options = own | changes.pop("options", {})
        return RunParams.parse({**shared, "method": self.METHOD, "options": options, **changes})


class SloshNetParams(PaperParams):
    """Parameters of notebooks/sloshnet.ipynb."""

    METHOD: ClassVar[str] = "sloshnet"
    OWN: ClassVar[Mapping[str, Any]] = {"fusion": "search", "cardinalities": None}

    fusion: Literal["search", "even", "gp1", "gp2", "sum", "last"] = Field(
        "search", description="search, or a fixed fusion: even, gp1, gp2, sum, or last for the deepest map alone"
    )
    cardinalities: list[int] = Field([1, 2], description="how many frames the matcher's tuples have")
    metric_scale: float = Field(0.2, gt=0, description="factor on the matcher's logits before softmax")
    train_episodes: int = Field(250, ge=0, description="training episodes")
    val_every: int = Field(125, ge=1, description="training episodes between selections")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")

    @field_validator("cardinalities", mode="before")
    @classmethod
    def _cardinalities_in_words(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p cardinalities "[1]"``."""
        return yaml.safe_load(value) if isinstance(value, str) else value
