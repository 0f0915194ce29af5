"""What missing videos do: the right ones are gone, nothing changes where none is, and the table says what was found."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks
from vidlib.params.few_shot import MAFSARParams
from vidlib.studies import missing_videos
from vidlib.training import evaluate_episodes, few_shot
from vidlib.viz import missing_videos as figure


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("videos"), classes=6, clips=6)
    given = {"dataset": f"folder:{folder}", "pretrained": "", "frames": 2, "way": 2, "device": "cpu"}
    p = MAFSARParams.parse(given)
    return p, benchmarks.load(p.dataset), few_shot.open_method(p.run_params("frozen_clip"))


def test_a_share_of_one_split_is_gone_and_no_other(small):
    _, manifest, _ = small
    split = manifest.splits[-1]
    all_of_it = {row.video for row in manifest.videos(split)}
    left = missing_videos.drop(manifest, split, 0.25, seed=1)
    kept = {row.video for row in left.videos(split)}
    assert kept < all_of_it and len(kept) == round(0.75 * len(all_of_it))
    assert kept != {row.video for row in missing_videos.drop(manifest, split, 0.25, seed=2).videos(split)}
    assert left.videos("train") == manifest.videos("train")
    assert missing_videos.drop(manifest, split, 0, seed=1).rows == manifest.rows
    with pytest.raises(UserError, match="missing: a share of 1"):
        missing_videos.drop(manifest, split, 1, seed=0)


def test_what_is_left_is_tested_as_an_evaluation_of_its_own_would(small):
    p, manifest, method = small
    found = missing_videos.measure(p, manifest, method, "test", (0.0, 0.25), repeats=2, episodes=20)
    assert found["share"].tolist() == [0, 0, 0.25, 0.25] and found["videos"].tolist() == [12, 12, 9, 9]
    left = missing_videos.drop(manifest, "test", 0.25, seed=1)
    split = few_shot.open_split(p, left, method.backbone, "test")
    sampler = missing_videos.EpisodeSampler(left, "test", p.way, p.shot, p.query, few_shot.EVALUATION_SEED + 1)
    alone = evaluate_episodes.evaluate(method, split.clips, sampler, 20, split.text, device="cpu")
    assert found["accuracy"].iloc[3] == pytest.approx(100 * alone.accuracy)
    with pytest.raises(UserError, match=r"missing: a share of 0.9 is too large: class '.*' has no video left"):
        missing_videos.measure(p, manifest, None, "test", (0.0, 0.9), repeats=2, episodes=20)
    few = p.model_copy(update={"shot": 5})
    with pytest.raises(UserError, match=r"missing: a share of 0.25 is too large: shot and query: 5 \+ 1 videos"):
        missing_videos.measure(few, manifest, None, "test", (0.0, 0.25), repeats=2, episodes=20)
    table = missing_videos.table(found)
    assert list(table.index) == ["0%", "25%"]
    assert table["mean (%)"].tolist() == pytest.approx([found["accuracy"][:2].mean(), found["accuracy"][2:].mean()])
    ax = figure.plot(found, title="left")
    drawn = np.concatenate([container.lines[0].get_ydata() for container in ax.containers])
    assert drawn.tolist() == found["accuracy"].tolist()
    plt.close(ax.figure)
