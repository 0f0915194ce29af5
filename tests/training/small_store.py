"""A folder of twenty-four tiny videos, and what a frozen resnet-mini made of them, for the tests of stores."""

from pathlib import Path
from typing import Any

from tests.data.small import write_folder
from vidlib.data.features import Store
from vidlib.params.few_shot import RunParams
from vidlib.training import embedding

TOWER = {"backbone": "resnet-mini", "pretrained": "resnet-mini", "frames": 3}
EPISODES = {"way": 2, "train_episodes": 4, "val_episodes": 2, "val_every": 2, "test_episodes": 12, "device": "cpu"}


def folder(root: Path) -> str:
    return f"folder:{write_folder(root / 'clips', classes=6, clips=4)}"


def params(dataset: str, method: str = "trx", **given: Any) -> RunParams:
    known = {"dataset": dataset, "method": method, **TOWER, **EPISODES}
    frozen = {} if method in ("frozen_clip", "ordered_differences") else {"options": {"finetune": "frozen"}}
    return RunParams.parse(known | frozen | given)


def made(dataset: str, views: int = 2, dtype: str = "float32", out: str = "", workers: int = 0, **given: Any) -> Store:
    """The store that ``vidlib data embed`` makes, with three videos a shard where ``small`` patched it so."""
    plan = embedding.plan(params(dataset, **given), views, (), dtype, out)
    list(embedding.embed(plan, workers))
    return Store(plan.store.folder)
