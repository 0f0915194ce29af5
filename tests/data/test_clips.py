"""Clips: which frames, which chance, what is remembered, and what is said of a video that does not decode."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from tests.data.small import write_clip
from tests.tiny import Tiny
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.clips import Clips, train_or_replace
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.guard import VARIABLE
from vidlib.data.labelled import LabelledBatches
from vidlib.data.manifest import Manifest, Row
from vidlib.data.sampling import RULES, segment_indices, trx_indices
from vidlib.results import trust
from vidlib.results.runs import read_lines
from vidlib.training import step
from vidlib.training.loop import fit


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
    monkeypatch.setattr("vidlib.data.clips._shared", {})  # other tests of this process may have filled it
    mine = clips(manifest)
    mine.train(0, 0, 0)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    for name in ("read_frames", "read_short", "count_frames"):
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


# ---------------------------------------------------------------- another in its place, the same for every worker

FIT = {"lr": 1e-2, "seed": 0, "device": "cpu", "precision": "32-true"}
VIDEOS = 5


def tiny_look(frames: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
    """[T 1 2 2], what ``Tiny`` takes."""
    return torch.from_numpy(frames[:, :2, :2, :1].copy()).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def listed(tmp_path: Path) -> Manifest:
    rows = tuple(Row(f"{c}/{v}", f"class {c}", "train") for c in range(3) for v in range(VIDEOS))
    for i, row in enumerate(rows):
        write_clip(tmp_path / f"{row.video}.mp4", frames=8, shade=13 * i)
    return Manifest("m", rows, tmp_path, {row.video: f"{row.video}.mp4" for row in rows})


def spoil(listed: Manifest, *names: str) -> None:
    for name in names:
        (listed.root / f"{name}.mp4").write_bytes(b"damaged after it was listed" * 9)


def tiny_clips(listed: Manifest, seed: int = 0, **given) -> Clips:
    return Clips(listed, "train", 4, tiny_look, tiny_look, seed, **given)


def dataset(listed: Manifest, episodes: int = 12, query: int = 1, seed: int = 0) -> EpisodeDataset:
    sampler = EpisodeSampler(listed, "train", 3, 1, query, seed)
    text = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    return EpisodeDataset(tiny_clips(listed, seed), sampler, text, True, episodes)


def test_another_of_the_class_takes_the_place_and_none_that_is_in_the_episode(listed: Manifest) -> None:
    whole = [dataset(listed)[i] for i in range(12)]
    spoil(listed, "0/1", "0/2")
    source, met = dataset(listed), 0
    for i, before in enumerate(whole):
        batch, episode = source[i], source.sampler[i]
        drawn = [source.clips.rows[r].video for r in (*episode.support, *episode.query)]
        lost = [name for name in drawn if name in ("0/1", "0/2")]
        assert [each.video for each in batch.replaced] == lost
        for each in batch.replaced:
            assert each.cls == "class 0" and each.by.startswith("0/") and each.by not in (*drawn, "0/1", "0/2")
            assert each.cause and "damaged" not in each.cause and str(listed.root) not in each.cause
        assert len({each.by for each in batch.replaced}) == len(lost)
        met += len(lost)
        for slot, name in enumerate(drawn):  # all others are as they were
            side, at = ("support", slot) if slot < 3 else ("query", slot - 3)
            same = torch.equal(getattr(batch, side)[0, at], getattr(before, side)[0, at])
            assert same == (name not in lost)
    assert met > 3
    batch = next(batch for batch in (source[i] for i in range(12)) if batch.replaced)
    assert batch.to("cpu").replaced == batch.replaced


def test_the_choice_follows_from_seed_episode_and_slot_alone(listed: Manifest) -> None:
    spoil(listed, "0/1")
    found = [dataset(listed)[i].replaced for i in range(12)]
    used = dataset(listed)
    assert [used[i].replaced for i in reversed(range(12))] == found[::-1], "whatever was drawn before"
    assert len({each.by for batch in found for each in batch}) > 1
    mine = tiny_clips(listed)
    row = next(i for i, r in enumerate(mine.rows) if r.video == "0/1")
    picks = [
        [train_or_replace(tiny_clips(listed, seed), row, e, 0, "support", set())[2].by for e in range(8)]
        for seed in (0, 0, 1)
    ]
    assert picks[0] == picks[1] != picks[2]


def test_one_in_the_episode_serves_where_no_other_is_left_and_none_is_refused(listed: Manifest) -> None:
    spoil(listed, "0/0", "0/1", "0/2", "0/3")
    source = dataset(listed, query=4)  # every episode draws all videos of the class
    assert {each.by for each in source[0].replaced} == {"0/4"} and len(source[0].replaced) == 4
    spoil(listed, "0/4")
    with pytest.raises(
        UserError, match=r"^[^\n]*0/\d\.mp4 cannot be decoded: .*no other video of class 'class 0'[^\n]*$"
    ):
        dataset(listed)[0]


def test_a_file_that_fails_is_tried_once(listed: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(listed, "0/1")
    tried, honest = [], video.read_short
    monkeypatch.setattr(video, "read_short", lambda path, *most: tried.append(path) or honest(path, *most))
    source = dataset(listed)
    for i in range(12):
        source[i]
    assert tried.count(listed.root / "0/1.mp4") == 1


def test_a_cause_that_may_pass_is_met_again_but_for_a_hang(manifest: Manifest, monkeypatch) -> None:
    monkeypatch.setattr("vidlib.data.clips._shared", {})
    mine, honest = clips(manifest), video.read_short

    def failing(error: Exception):
        def read(path: Path, *_: int) -> None:
            raise error

        return read

    for row, cause in enumerate(("Too many open files", "not a film", f"stopped: {VARIABLE}=SECONDS gives more")):
        monkeypatch.setattr(video, "read_short", failing(video.VideoError(f"{manifest.root}: {cause}")))
        with pytest.raises(UserError, match=cause):
            mine.train(row, 0, 0)
    monkeypatch.setattr(video, "read_short", failing(MemoryError()))
    with pytest.raises(MemoryError):
        mine.train(0, 0, 0)
    monkeypatch.setattr(video, "read_short", honest)
    assert mine.train(0, 0, 0).shape == (4, 3, 16, 16)
    for row in (1, 2):
        with pytest.raises(UserError, match="not a film|SECONDS"):
            mine.train(row, 0, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_names_and_counts_them_and_a_resumed_run_agrees(listed, tmp_path, workers, monkeypatch) -> None:
    spoil(listed, "0/1", "2/3")
    whole, cut, given = tmp_path / "whole", tmp_path / "cut", {"batches": 12, "workers": workers, **FIT}
    method = Tiny(0.0)
    fit(method, dataset(listed), folder=whole, **given)
    found = trust.replaced(read_lines(whole / "metrics.jsonl"))
    expected = [each for i in range(12) for each in dataset(listed)[i].replaced]
    assert [(one["video"], one["class"]) for one in found] == [("0/1", "class 0"), ("2/3", "class 2")]
    assert [one["times"] for one in found] == [sum(e.video == one["video"] for e in expected) for one in found]
    said = trust.replaced_line({"replaced": found})
    assert said.startswith(f"2 training videos that do not decode, replaced {len(expected)} times") and "0/1 (" in said

    plain, calls = step.take_step, []

    def dies(*inside):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        plain(*inside)

    monkeypatch.setattr("vidlib.training.loop.take_step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(Tiny(0.0), dataset(listed), folder=cut, checkpoint_every=3, **given)
    monkeypatch.setattr("vidlib.training.loop.take_step", plain)
    again = Tiny(0.0)
    fit(again, dataset(listed), folder=cut, checkpoint_every=3, **given)
    assert trust.replaced(read_lines(cut / "metrics.jsonl")) == found
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in method.state_dict().items())


class Sentences:
    """One sentence for all."""

    ids = torch.zeros(1, 3, 2, dtype=torch.long)

    def drawn(self, k: int, batch: int, slot: int) -> torch.Tensor:
        return torch.tensor([k, 0])


def test_labelled_batches_agree_on_any_number_of_processes(listed: Manifest) -> None:
    spoil(listed, "0/1", "1/0")
    whole = LabelledBatches(tiny_clips(listed), Sentences(), 6, 0)
    halves = [LabelledBatches(tiny_clips(listed), Sentences(), 6, 0, part=(rank, 2)) for rank in (0, 1)]
    met = 0
    for i in range(6):
        batch, parts = whole[i], [half[i] for half in halves]
        assert torch.equal(torch.cat([part.clips for part in parts]), batch.clips)
        assert parts[0].replaced + parts[1].replaced == batch.replaced
        drawn = [listed.videos("train")[r] for r in whole.rows(i)]
        names, classes = {row.video for row in drawn}, listed.classes("train")
        assert [row.cls for row in drawn] == [classes[k] for k in batch.labels], "a replaced clip has the same label"
        for each in batch.replaced:
            assert each.video in names and each.by.split("/")[0] == each.video.split("/")[0]
            met += 1
    assert met > 3


def test_testing_replaces_nothing(listed: Manifest) -> None:
    spoil(listed, "0/1")
    mine = tiny_clips(listed)
    row = next(i for i, r in enumerate(mine.rows) if r.video == "0/1")
    for read in (lambda: mine.test(row), lambda: mine.drawn(row, 0, 0, "support")):
        with pytest.raises(
            UserError, match=r"^[^\n]*0/1\.mp4 cannot be decoded \(.*never puts another video in its place"
        ):
            read()
