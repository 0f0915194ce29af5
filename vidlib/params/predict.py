"""Parameters of ``vidlib predict`` and of notebooks/your_videos.ipynb: which videos, told apart by what."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vidlib.basics import paths
from vidlib.params.base import Precision, TowerParams
from vidlib.params.few_shot import known_method

DEFAULT_METHOD, DEFAULT_FRAMES = "frozen_clip", 8


class PredictParams(TowerParams):
    """Texts of the classes (zero-shot) or example videos of them (few-shot); with a run, the rest is the run's."""

    videos: list[str] = Field([], description="a folder or files, empty for a few clips of the embedded world")
    classes: str = Field("", description="zero-shot: class texts with commas between, or a file of one a line")
    support: str = Field("", description="few-shot: a folder with one directory of example videos per class")
    method: str = Field("", description="few-shot method, empty for the run's own or frozen_clip")
    run: str = Field("", description="folder of a finished run, empty for the untrained backbone")
    frames: int = Field(0, ge=0, le=64, description="frames per video, 0 for the run's own or 8")
    top: int = Field(3, ge=1, description="classes listed for each video")
    csv: str = Field("", description="file that the guesses are written to, empty for none")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto, cpu, cuda or mps")
    precision: Precision = Field("auto", description="auto, 32-true, bf16-mixed, 16-mixed or 64-true")

    @field_validator("videos", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        """papermill's ``-p videos PATH`` hands over text."""
        return [value] if value and isinstance(value, str) else value or []

    @field_validator("videos")
    @classmethod
    def _absolute_videos(cls, value: list[str]) -> list[str]:
        return [str(paths.absolute(path)) for path in value]

    @field_validator("support", "run", "csv")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(paths.absolute(value)) if value else ""

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        return known_method(value) if value else ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.classes and self.support:
            raise ValueError("classes and support: give one of them, texts (zero-shot) or example videos (few-shot)")
        if self.videos and not (self.classes or self.support):
            raise ValueError(
                'classes or support: give the classes\' texts, as in classes "a dog running,opening a door", '
                "or a folder with one directory of example videos per class"
            )
        if not self.videos and (self.classes or self.support):
            raise ValueError("videos: give a folder or files to tell; classes and support alone tell nothing")
        if self.classes and self.method:
            raise ValueError(
                "method: that of class texts is ActionCLIP's or the run's; give a method with support only"
            )
        return self

    @property
    def few_shot(self) -> bool:
        return bool(self.support)
