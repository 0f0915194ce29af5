"""What several tests of the studies look at."""

import pytest

from tests.data.small import write_folder
from vidlib.data.manifest import Manifest
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.training import few_shot


@pytest.fixture(scope="module")
def sloshnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunParams, Manifest, runs.Run]:
    """A SloshNet of one training step on videos that are written here."""
    root = tmp_path_factory.mktemp("sloshnet")
    p = RunParams(
        method="sloshnet",
        dataset=f"folder:{write_folder(root / 'clips', classes=7, clips=3)}",
        backbone="resnet-mini",
        pretrained="",
        way=2,
        frames=2,
        train_episodes=1,
        val_episodes=0,
        test_episodes=2,
        metric_scale=0.1,
        device="cpu",
        runs=str(root / "runs"),
    )
    return p, few_shot.open_manifest(p), few_shot.run(p)
