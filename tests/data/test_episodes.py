"""Episodes: pure functions of (split, way, shot, query, seed, i), and their assembly into batches."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.small import listed, write_folder
from tests.data.test_clips import crop_test, crop_train
from vidlib.basics.errors import UserError
from vidlib.data.clips import Clips
from vidlib.data.episodes import Episode, EpisodeDataset, EpisodeSampler, assemble
from vidlib.data.folder import from_folder

ARRAYS = ("class_ids", "support", "support_labels", "query", "query_labels")


def sampler(way: int = 3, shot: int | tuple[int, ...] = 2, query: int = 3, seed: int = 7, **world) -> EpisodeSampler:
    return EpisodeSampler(listed(**world), "test", way, shot, query, seed)


def same(a: Episode, b: Episode) -> bool:
    return a.classes == b.classes and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ARRAYS)


def test_an_episode_does_not_depend_on_place_row_order_or_what_was_drawn_before() -> None:
    first, other = sampler(), sampler(root="/elsewhere", order=-1)
    backwards = [other[i] for i in range(9, -1, -1)][::-1]
    assert all(same(first[i], backwards[i]) for i in range(10))
    assert same(pickle.loads(pickle.dumps(first))[3], first[3])
    assert first.checksum(10) == other.checksum(10)


@pytest.mark.parametrize("change", [{"seed": 8}, {"way": 4}, {"shot": 1}, {"query": 2}, {"videos": 9}, {"classes": 7}])
def test_it_depends_on_everything_else(change: dict) -> None:
    assert sampler().checksum(5) != sampler(**change).checksum(5)
    a, b = sampler(), sampler(**change)
    assert any(a[i].classes != b[i].classes for i in range(20))


def test_episodes_are_frozen() -> None:
    """These numbers name evaluation lists: a change here makes every stored result incomparable."""
    episode = sampler()[0]
    assert episode.classes == ("class 5", "class 4", "class 3")
    assert episode.support.tolist() == [44, 41, 39, 32, 24, 26]
    assert episode.query.tolist() == [40, 43, 42, 35, 36, 34, 29, 25, 28]
    assert sampler().checksum(100) == "bc245e1aa99674b7d994b999848c1163dc8ee7b658e0490438478ed78bb8c86c"


def test_another_process_draws_the_same() -> None:
    program = "from tests.data.test_episodes import sampler; print(sampler().checksum(50))"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == sampler().checksum(50), done.stderr


@pytest.mark.parametrize("shot", [1, 2, (1, 3, 2)])
def test_labels_counts_and_classes(shot: int | tuple[int, ...]) -> None:
    draw, manifest = sampler(shot=shot), listed()
    shots = (shot,) * 3 if isinstance(shot, int) else shot
    rows = manifest.videos("test")
    for i in range(30):
        e = draw[i]
        assert e.index == i and len(set(e.classes)) == 3
        assert [manifest.classes("test")[c] for c in e.class_ids] == list(e.classes)
        assert np.bincount(e.support_labels).tolist() == list(shots) and np.bincount(e.query_labels).tolist() == [3] * 3
        for videos, labels in ((e.support, e.support_labels), (e.query, e.query_labels)):
            assert [rows[v].cls for v in videos] == [e.classes[label] for label in labels]
        together = [*e.support, *e.query]
        assert len(set(together)) == len(together), "a query video is never a support video"
        assert all(getattr(e, name).dtype == np.int64 for name in ARRAYS)


def test_classes_and_videos_are_drawn_evenly() -> None:
    """4,000 episodes, 3 of 6 classes, 5 of 8 videos: each count within five standard deviations of its mean."""
    draw, n = sampler(), 4000
    classes, first, support, query = Counter(), Counter(), Counter(), Counter()
    for i in range(n):
        e = draw[i]
        classes.update(e.class_ids.tolist())
        first[int(e.class_ids[0])] += 1
        support.update(e.support.tolist())
        query.update(e.query.tolist())
    for counts, number, p in ((classes, 6, 3 / 6), (first, 6, 1 / 6), (support, 48, 2 / 16), (query, 48, 3 / 16)):
        spread = (n * p * (1 - p)) ** 0.5
        assert len(counts) == number and all(abs(c - n * p) < 5 * spread for c in counts.values())


@pytest.mark.parametrize(
    "bad, said",
    [
        ({"way": 7}, "way: 7 does not fit split test of listed with 6 classes"),
        ({"way": 1}, "way: 1 does not fit"),
        ({"shot": (1, 2)}, "shot: 2 numbers for 3 classes"),
        ({"shot": 0}, "give at least 1 of each"),
        ({"shot": 6}, r"6 \+ 3 videos per class are more than the 8 of class 'class 0'.*at most 8 together"),
    ],
)
def test_what_cannot_be_drawn_is_named(bad: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sampler(**bad)
    with pytest.raises(IndexError):
        sampler()[-1]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clips, EpisodeSampler, torch.Tensor]:
    manifest = from_folder(write_folder(tmp_path_factory.mktemp("world") / "f", classes=6, clips=4))
    clips = Clips(manifest, "train", 3, crop_train, crop_test, seed=5)
    return clips, EpisodeSampler(manifest, "train", 2, (1, 2), 2, seed=5), torch.arange(8.0).reshape(2, 4)


def test_a_batch_holds_the_episodes_clips(loaded: tuple) -> None:
    clips, draw, text = loaded
    episodes = [draw[3], draw[4]]
    batch = assemble(clips, episodes, text, train=False)
    assert batch.support.shape == (2, 3, 3, 3, 16, 16) and batch.query.shape == (2, 4, 3, 3, 16, 16)
    assert batch.targets is None
    for e, episode in enumerate(episodes):
        assert torch.equal(batch.support[e, 2], clips.test(int(episode.support[2])))
        assert torch.equal(batch.query[e, 1], clips.test(int(episode.query[1])))
        assert torch.equal(batch.support_labels[e], torch.tensor([0, 1, 1]))
        assert torch.equal(batch.text[e], text[torch.from_numpy(episode.class_ids)])


def test_a_training_batch_is_augmented_by_episode_and_slot(loaded: tuple) -> None:
    clips, draw, text = loaded
    batch = assemble(clips, [draw[3]], text, train=True)
    assert torch.equal(batch.query[0, 1], clips.train(int(draw[3].query[1]), episode=3, slot=3 + 1))
    assert torch.equal(batch.targets.query_labels, torch.tensor([[0, 0, 1, 1]]))
    assert torch.equal(batch.targets.class_ids[0], torch.from_numpy(draw[3].class_ids))
    assert batch.targets.all_text is text
    moved = batch.to("meta")
    assert moved.query.device.type == moved.targets.class_ids.device.type == "meta"
    assert moved.query.shape == batch.query.shape


def test_loader_processes_give_what_this_process_gives(loaded: tuple) -> None:
    clips, draw, text = loaded
    data = EpisodeDataset(clips, draw, text, train=True, count=4, start=10)
    batches = list(DataLoader(data, batch_size=None, num_workers=2))
    assert len(batches) == 4
    for k, batch in enumerate(batches):
        wanted = assemble(clips, [draw[10 + k]], text, train=True)
        for name in ("support", "support_labels", "query", "text"):
            assert torch.equal(getattr(batch, name), getattr(wanted, name)), name
        assert torch.equal(batch.targets.query_labels, wanted.targets.query_labels)
        assert torch.equal(batch.targets.class_ids, wanted.targets.class_ids)
        assert torch.equal(batch.targets.all_text, text)
