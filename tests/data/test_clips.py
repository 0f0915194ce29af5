"""Clips: which frames, which chance, what is remembered, and what is said of a video that does not decode."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from tests.data.small import write_clip
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.clips import Clips
from vidlib.data.manifest import Manifest, Row
from vidlib.data.sampling import RULES, segment_indices, trx_indices


def crop_test(frames: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
    assert generator is None
    return rearrange(torch.from_numpy(frames[:, 8:24, 8:24].copy()), "t h w c -> t c h w").float()


def crop_train(frames: np.ndarray, generator: torch.Generator) -> torch.Tensor:
    noise = torch.rand((), generator=generator)
    return rearrange(torch.from_numpy(frames[:, :16, :16].copy()), "t h w c -> t c h w").float() + noise


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    names = ("a", "b", "c")
    for i, name in enumerate(names):
        write_clip(tmp_path / f"{name}.mp4", frames=24, shade=40 * i)
    rows = tuple(Row(name, "cls", "train") for name in names)
    return Manifest("m", rows, tmp_path, {name: f"{name}.mp4" for name in names})


def clips(manifest: Manifest, seed: int = 0, **kwargs) -> Clips:
    return Clips(manifest, "train", 4, crop_train, crop_test, seed, **kwargs)


def test_testing_takes_segment_centres(manifest: Manifest) -> None:
    wanted = video.read_frames(manifest.root / "b.mp4", segment_indices(24, 4, None))
    for cache_bytes in (0, 1 << 30):
        mine = clips(manifest, cache_bytes=cache_bytes)
        for _ in range(2):
            assert torch.equal(mine.test(1), crop_test(wanted, None))
    assert len(mine) == 3 and mine.test(1).shape == (4, 3, 16, 16)


def test_training_chance_is_a_function_of_seed_episode_and_slot(manifest: Manifest) -> None:
    cached, bare = clips(manifest), clips(manifest, cache_bytes=0)
    cached.test(2), cached.train(0, 5, 5)
    first = cached.train(0, episode=3, slot=1)
    torch.rand(7), np.random.rand(7)  # other chance is no part of it
    assert torch.equal(first, cached.train(0, 3, 1)) and torch.equal(first, bare.train(0, 3, 1))
    assert torch.equal(first, pickle.loads(pickle.dumps(cached)).train(0, 3, 1))
    for other in (cached.train(0, 4, 1), cached.train(0, 3, 2), clips(manifest, seed=1).train(0, 3, 1)):
        assert not torch.equal(first, other)


def test_a_query_may_have_another_transform_and_still_frames(manifest: Manifest) -> None:
    def doubled(frames: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        return 2 * crop_train(frames, generator)

    mine, other = clips(manifest), clips(manifest, transform_query=doubled, vary_train=("support",))
    assert torch.equal(mine.train(0, 3, 1, "support"), mine.train(0, 3, 1, "query"))
    assert torch.equal(mine.train(0, 3, 1), other.train(0, 3, 1, "support"))
    centres = crop_train(other.raw(0), torch.Generator().manual_seed(0)).floor()
    query = [other.train(0, episode, 6, "query") / 2 for episode in range(3)]
    assert all(torch.equal(clip.floor(), centres) for clip in query)
    assert not torch.equal(other.train(0, 0, 6, "support").floor(), other.train(0, 1, 6, "support").floor())


def test_test_frames_vary_by_episode_only_where_asked(manifest: Manifest) -> None:
    mine, supports = clips(manifest), clips(manifest, seed=7, vary_test=("support",))
    assert not mine.by_episode and supports.by_episode
    assert torch.equal(mine.drawn(0, 1, 2, "support"), mine.test(0))
    assert torch.equal(supports.drawn(0, 1, 2, "query"), supports.test(0))
    drawn = [supports.drawn(0, episode, 2, "support") for episode in range(4)]
    assert len({clip.sum().item() for clip in drawn}) > 1
    other = clips(manifest, seed=8, vary_test=("support", "query"))  # the seed of a training plays no part
    assert all(torch.equal(other.drawn(0, i, 2, "support"), clip) for i, clip in enumerate(drawn))


def test_frames_are_picked_by_the_rule_given(manifest: Manifest) -> None:
    mine = clips(manifest, pick=RULES["ends"])
    wanted = video.read_frames(manifest.root / "a.mp4", trx_indices(24, 4))
    assert torch.equal(mine.test(0), crop_test(wanted, None))
    assert not torch.equal(mine.test(0), clips(manifest).test(0))
    assert torch.equal(pickle.loads(pickle.dumps(mine)).test(0), mine.test(0))


def test_a_short_video_is_decoded_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = clips(manifest)
    mine.train(0, 0, 0)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    for name in ("read_frames", "read_all", "count_frames"):
        monkeypatch.setattr(video, name, never)
    assert mine.train(0, 1, 0).shape == mine.test(0).shape == (4, 3, 16, 16)
    assert torch.equal(clips(manifest).test(0), mine.test(0))  # the next run of this process decodes nothing either
    copy = pickle.loads(pickle.dumps(mine))
    monkeypatch.setattr("vidlib.data.clips._shared", {})  # as in another process
    with pytest.raises(UserError, match="decoded again"):
        copy.test(0)


def test_memory_is_bounded(manifest: Manifest) -> None:
    one = 24 * 32 * 32 * 3
    mine = clips(manifest, cache_bytes=one + one // 2)
    for row in range(3):
        mine.train(row, 0, row), mine.test(row)
    assert list(mine._whole) == [0] and set(mine._centres) == {1, 2} and mine._used <= mine.cache_bytes


def test_a_long_video_keeps_only_its_centres(tmp_path: Path, manifest: Manifest) -> None:
    write_clip(tmp_path / "a.mp4", frames=70)
    mine = clips(manifest)
    assert torch.equal(mine.test(0), clips(manifest, cache_bytes=0).test(0))
    assert not mine._whole and list(mine._centres) == [0]
    assert torch.equal(mine.train(0, 0, 0), clips(manifest, cache_bytes=0).train(0, 0, 0))


def test_a_video_that_does_not_decode_is_named(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "b.mp4").write_bytes(b"junk" * 40)
    mine = clips(manifest)
    for load in (lambda: mine.test(1), lambda: mine.train(1, 0, 0)):
        with pytest.raises(UserError, match=str(tmp_path / "b.mp4")):
            load()
    (tmp_path / "c.mp4").unlink()
    with pytest.raises(UserError, match="c.mp4"):
        mine.test(2)
    with pytest.raises(ValueError, match="no training transform"):
        Clips(manifest, "train", 4, None, crop_test, 0).train(0, 0, 0)
