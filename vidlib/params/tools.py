"""Parameters of notebooks/datasets.ipynb."""

from typing import Any

import yaml
from pydantic import Field, field_validator

from vidlib.basics import paths
from vidlib.params.base import ProtocolParams, TowerParams
from vidlib.params.few_shot import Metric, RunParams


class DatasetsParams(TowerParams, ProtocolParams):
    """Which videos are taken away from which benchmark, and how a frozen backbone is tested on what is left."""

    dataset: str = Field(
        "moving_shapes_scene", description="whose videos go missing: moving_shapes_scene, folder:PATH or a benchmark"
    )
    metric: Metric = Field("bimhm", description="otam, bimhm, trx, prototype or cosine")
    frames: int = Field(8, ge=2, le=64, description="frames per video")
    test_episodes: int = Field(1000, ge=1, description="val episodes of each test")
    missing: list[float] = Field([0.1, 0.3, 0.5], description="shares of the val videos that are taken away")
    repeats: int = Field(20, ge=2, description="how often each share is taken away, each time other videos")
    lists: str = Field("", description="folder of published lists for the audit, empty for those that vidlib keeps")

    @field_validator("lists")
    @classmethod
    def _absolute_lists(cls, value: str) -> str:
        return str(paths.absolute(value)) if value else ""

    @field_validator("missing", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        """papermill's ``-p`` hands over text: ``-p missing "[0.1, 0.2]"``."""
        value = yaml.safe_load(value) if isinstance(value, str) else value
        numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
        if not value or not numbers or not all(0 < v < 1 for v in value):
            raise ValueError(f"missing: {value!r} is not a list of shares between 0 and 1, as in [0.1, 0.3]")
        return value

    def run_params(self) -> RunParams:
        """The parameters of the frozen backbone that is tested."""
        shared = {name: value for name, value in self if name in RunParams.model_fields}
        return RunParams.parse({**shared, "method": "frozen_clip"})
