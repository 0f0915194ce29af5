"""A training video that does not decode: what takes its place, the same for every worker and resumed run, and named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.small import write_clip
from tests.tiny import Tiny
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.clips import Clips
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler, collate
from vidlib.data.labelled import LabelledBatches
from vidlib.data.manifest import Manifest, Row
from vidlib.data.replacing import train
from vidlib.results import trust
from vidlib.results.runs import read_lines
from vidlib.training import step
from vidlib.training.loop import fit

FIT = {"lr": 1e-2, "seed": 0, "device": "cpu", "precision": "32-true"}
VIDEOS = 5


def tiny_look(frames: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
    """[T 1 2 2], what ``Tiny`` takes."""
    return torch.from_numpy(frames[:, :2, :2, :1].copy()).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows = tuple(Row(f"{c}/{v}", f"class {c}", "train") for c in range(3) for v in range(VIDEOS))
    for i, row in enumerate(rows):
        write_clip(tmp_path / f"{row.video}.mp4", frames=8, shade=13 * i)
    return Manifest("m", rows, tmp_path, {row.video: f"{row.video}.mp4" for row in rows})


def spoil(manifest: Manifest, *names: str) -> None:
    for name in names:
        (manifest.root / f"{name}.mp4").write_bytes(b"damaged after it was listed" * 9)


def clips(manifest: Manifest, seed: int = 0, **given) -> Clips:
    return Clips(manifest, "train", 4, tiny_look, tiny_look, seed, **given)


def dataset(manifest: Manifest, episodes: int = 12, query: int = 1, seed: int = 0) -> EpisodeDataset:
    sampler = EpisodeSampler(manifest, "train", 3, 1, query, seed)
    text = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    return EpisodeDataset(clips(manifest, seed), sampler, text, True, episodes)


def test_another_of_the_class_takes_the_place_and_none_that_is_in_the_episode(manifest: Manifest) -> None:
    whole = [dataset(manifest)[i] for i in range(12)]
    spoil(manifest, "0/1", "0/2")
    source, met = dataset(manifest), 0
    for i, before in enumerate(whole):
        batch, episode = source[i], source.sampler[i]
        drawn = [source.clips.rows[r].video for r in (*episode.support, *episode.query)]
        lost = [name for name in drawn if name in ("0/1", "0/2")]
        assert [each.video for each in batch.replaced] == lost
        for each in batch.replaced:
            assert each.cls == "class 0" and each.by.startswith("0/") and each.by not in (*drawn, "0/1", "0/2")
            assert each.cause and "damaged" not in each.cause and str(manifest.root) not in each.cause
        assert len({each.by for each in batch.replaced}) == len(lost)
        met += len(lost)
        for slot, name in enumerate(drawn):  # all others are as they were
            side, at = ("support", slot) if slot < 3 else ("query", slot - 3)
            same = torch.equal(getattr(batch, side)[0, at], getattr(before, side)[0, at])
            assert same == (name not in lost)
    assert met > 3
    both = collate([source[i] for i in range(12)])
    assert len(both.replaced) == met and both.to("cpu").replaced == both.replaced


def test_the_choice_follows_from_seed_episode_and_slot_alone(manifest: Manifest) -> None:
    spoil(manifest, "0/1")
    found = [dataset(manifest)[i].replaced for i in range(12)]
    used = dataset(manifest)
    assert [used[i].replaced for i in reversed(range(12))] == found[::-1], "whatever was drawn before"
    assert len({each.by for batch in found for each in batch}) > 1
    mine = clips(manifest)
    row = next(i for i, r in enumerate(mine.rows) if r.video == "0/1")
    picks = [[train(clips(manifest, seed), row, e, 0, "support", set())[2].by for e in range(8)] for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]


def test_one_in_the_episode_serves_where_no_other_is_left_and_none_is_refused(manifest: Manifest) -> None:
    spoil(manifest, "0/0", "0/1", "0/2", "0/3")
    source = dataset(manifest, query=4)  # every episode draws all videos of the class
    assert {each.by for each in source[0].replaced} == {"0/4"} and len(source[0].replaced) == 4
    spoil(manifest, "0/4")
    with pytest.raises(
        UserError, match=r"^[^\n]*0/\d\.mp4 cannot be decoded: .*no other video of class 'class 0'[^\n]*$"
    ):
        dataset(manifest)[0]


def test_a_file_that_fails_is_tried_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(manifest, "0/1")
    tried, honest = [], video.read_all
    monkeypatch.setattr(video, "read_all", lambda path: tried.append(path.stem) or honest(path))
    source = dataset(manifest)
    for i in range(12):
        source[i]
    assert tried.count("1") <= 3, "once for each class's video of that name, however often it is drawn"


@pytest.mark.parametrize("workers", [0, 2])
def test_training_names_and_counts_them_and_a_resumed_run_agrees(manifest, tmp_path, workers, monkeypatch) -> None:
    spoil(manifest, "0/1", "2/3")
    whole, cut, given = tmp_path / "whole", tmp_path / "cut", {"batches": 12, "workers": workers, **FIT}
    method = Tiny(0.0)
    fit(method, dataset(manifest), folder=whole, **given)
    found = trust.replaced(read_lines(whole / "metrics.jsonl"))
    expected = [each for i in range(12) for each in dataset(manifest)[i].replaced]
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
        fit(Tiny(0.0), dataset(manifest), folder=cut, checkpoint_every=3, **given)
    monkeypatch.setattr("vidlib.training.loop.take_step", plain)
    again = Tiny(0.0)
    fit(again, dataset(manifest), folder=cut, checkpoint_every=3, **given)
    assert trust.replaced(read_lines(cut / "metrics.jsonl")) == found
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in method.state_dict().items())


class Sentences:
    """One sentence for all."""

    ids = torch.zeros(1, 3, 2, dtype=torch.long)

    def drawn(self, k: int, batch: int, slot: int) -> torch.Tensor:
        return torch.tensor([k, 0])


def test_labelled_batches_agree_on_any_number_of_processes(manifest: Manifest) -> None:
    spoil(manifest, "0/1", "1/0")
    whole = LabelledBatches(clips(manifest), Sentences(), 6, 0)
    halves = [LabelledBatches(clips(manifest), Sentences(), 6, 0, part=(rank, 2)) for rank in (0, 1)]
    met = 0
    for i in range(6):
        batch, parts = whole[i], [half[i] for half in halves]
        assert torch.equal(torch.cat([part.clips for part in parts]), batch.clips)
        assert parts[0].replaced + parts[1].replaced == batch.replaced
        drawn = [manifest.videos("train")[r] for r in whole.rows(i)]
        names, classes = {row.video for row in drawn}, manifest.classes("train")
        assert [row.cls for row in drawn] == [classes[k] for k in batch.labels], "a replaced clip has the same label"
        for each in batch.replaced:
            assert each.video in names and each.by.split("/")[0] == each.video.split("/")[0]
            met += 1
    assert met > 3


def test_testing_replaces_nothing(manifest: Manifest) -> None:
    spoil(manifest, "0/1")
    mine = clips(manifest)
    row = next(i for i, r in enumerate(mine.rows) if r.video == "0/1")
    for read in (lambda: mine.test(row), lambda: mine.drawn(row, 0, 0, "support")):
        with pytest.raises(
            UserError, match=r"^[^\n]*0/1\.mp4 cannot be decoded \(.*never puts another video in its place"
        ):
            read()
