"""Runs on stores: the same numbers as on videos in a test, known by id in training, refused where anything differs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small_store import folder, made, params
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks
from vidlib.data.clips import Undecodable
from vidlib.methods import ABLATIONS, METHODS
from vidlib.results import runs
from vidlib.training import embedding, few_shot, stored
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.run import identity


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The videos, and the folder that holds their store."""
    root, patch = tmp_path_factory.mktemp("stored"), pytest.MonkeyPatch()
    patch.setenv("VIDLIB_DATA", str(root / "data"))
    dataset = folder(root)
    made(dataset, views=2)
    patch.undo()
    return dataset, root / "data"


@pytest.fixture
def videos(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(kept[1]))
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    return kept[0]


FROZEN = [name for name, kind in METHODS.items() if kind.from_features is not None and not kind.needs_clip]


@pytest.mark.parametrize("name", FROZEN)
def test_a_test_on_a_store_is_that_on_videos(name, videos):
    p = params(videos, name, train_episodes=0, val_episodes=0, options=dict(METHODS[name].from_features))
    work = few_shot.work(p)
    method = work.build().eval()
    split, plain = work.split(method, "test"), few_shot.open_split(p, work.manifest, method.backbone, "test")
    both = [
        evaluate(method, one.clips, one.sampler, 12, one.text, device="cpu", keep_parts=True) for one in (split, plain)
    ]
    assert split.clips.test(0).shape == (3, 256) and plain.clips.test(0).shape == (3, 3, 64, 64)
    for a, b in zip(both[0].parts, both[1].parts, strict=True):
        assert a.keys() == b.keys() and all(np.allclose(a[part], b[part], rtol=1e-5, atol=1e-5) for part in a)
    assert both[0].accuracy == both[1].accuracy
    never = few_shot.work(p.model_copy(update={"features": "never"}))
    assert never.found is None and identity(work).id == identity(never).id, "the same result"


def test_a_run_finds_its_store_and_says_so(videos, capsys):
    run = few_shot.run(params(videos))
    said = capsys.readouterr().out
    assert "frames' features come from the store" in said and "training draws from 2 augmented views" in said
    record = run.result["features"]
    assert record["splits"] == ["train", "val", "test"] and record["training"] == "2 augmented views"
    other = few_shot.run(params(videos, features="never"))
    assert other.id != run.id and "features" not in other.result
    assert run.result["cost"]["gmacs"] == other.result["cost"]["gmacs"], "what a video costs"
    assert run.identity and few_shot.recorded(params(videos)).id == run.id
    assert few_shot.open_trained(run, few_shot.open_manifest(params(videos)), "test")[1].clips.test(0).ndim == 4


def test_training_on_a_store_repeats_and_resumes_alike(videos, tmp_path):
    one = few_shot.run(params(videos, runs=str(tmp_path / "a")))
    two = few_shot.run(params(videos, runs=str(tmp_path / "b"), workers=1))
    columns = ["loss", "accuracy", "grad_norm"]
    assert one.id == two.id and one.metrics()[columns].equals(two.metrics()[columns])


def test_a_training_view_is_a_function_of_seed_episode_and_slot(videos):
    work = few_shot.work(params(videos))
    clips = work.split(work.build(), "train").clips
    seen = [clips.train(0, episode, slot) for episode in range(6) for slot in range(4)]
    assert torch.equal(clips.train(0, 1, 2), clips.train(0, 1, 2, "query"))
    views = [torch.from_numpy(clips.store.feature(clips.rows[0].video, view)) for view in (1, 2)]
    drawn = [next(i for i, view in enumerate(views) if torch.equal(view, one)) for one in seen]
    assert set(drawn) == {0, 1}


def test_a_store_without_views_serves_tests_and_when_named_training(videos, tmp_path):
    store = made(videos, views=0, out=str(tmp_path / "plain"))
    named = few_shot.work(params(videos, features=str(store.folder)))
    assert named.found.trains and named.remarks()["features"]["training"] == "test views"
    clips = named.split(named.build(), "train").clips
    assert torch.equal(clips.train(0, 3, 1), clips.test(0))
    assert "training draws from test views" in named.found.line()
    assert identity(named).id != identity(few_shot.work(params(videos))).id


def test_auto_takes_a_store_without_views_for_tests_alone(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    made(kept[0], views=0)
    work = few_shot.work(params(kept[0]))
    assert work.found.splits == ("val", "test") and not work.found.trains and not work.digests()
    with_views = made(kept[0], views=2)
    assert few_shot.work(params(kept[0])).found.store.folder == with_views.folder, (
        "of two that fit, who serves training"
    )
    assert few_shot.work(params(kept[0], "otam")).digests() == {}, "where nothing trains, no view is drawn"


def test_float16_is_another_result(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    made(kept[0], views=0, dtype="float16")
    work = few_shot.work(params(kept[0], "otam"))
    assert work.digests() == {"features": work.found.store.digest}
    made(kept[0], views=0)
    assert few_shot.work(params(kept[0], "otam")).digests() == {}, "of two, the exact one"
    assert few_shot.work(params(kept[0], "otam", precision="bf16-mixed")).digests() != {}, "frames are encoded in less"


def test_what_reads_more_than_frames_says_so(videos):
    where = str(next(Path(benchmarks.paths.data_dir()).glob("features/*")))
    for name, said in (
        ("sloshnet", "method sloshnet reads more of the tower than its frames' features"),
        ("molo", "method molo reads more of the tower"),
        ("gghm", "method gghm reads more of the tower"),
        ("strm", "reads stored features with options={patch_enrichment: false} alone"),
    ):
        assert few_shot.work(params(videos, name)).found is None
        with pytest.raises(UserError, match=said):
            few_shot.work(params(videos, name, features=where))
    with pytest.raises(UserError, match="method otam reads stored features with options={finetune: frozen} alone"):
        few_shot.work(params(videos, "otam", options={}, features=where))
    method = few_shot.open_method(params(videos, "molo"))
    with pytest.raises(UserError, match="MoLo reads the tower's maps, and a store holds frames' features"):
        method.embed(torch.zeros(1, 3, 256), None, "query")


def test_every_method_with_finetune_names_its_frozen_ablation(videos):
    for name in METHODS:
        if "finetune" in methods._constructor(METHODS[name]) and name not in ("ma_fsar", "aim"):
            assert ABLATIONS[name]["frozen_tower"] == {"finetune": "frozen"}, name
            run = params(
                videos, name, options={}, ablation="frozen_tower", backbone="clip-mini", pretrained="clip-mini"
            )
            trained = few_shot.open_method(run).trainable()
            assert not [one for one in trained if one.startswith("backbone.")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"frames": 4}, "frames is 3 there, and 4 is wanted; vidlib data embed .* --frames 4 --views 2 makes it"),
        ({"pretrained": ""}, "pretrained is 'resnet-mini' there, and 'random weights of seed 0' is wanted; .*--seed 0"),
        ({"backbone": "clip-mini", "pretrained": "clip-mini"}, "backbone is 'resnet-mini' there, and 'clip-mini'"),
        ({"crop": "window"}, "crop is 'area' there, and 'window' is wanted; .*--set crop=window makes it"),
        ({"sampling": "ends"}, "sampling is 'segments' there, and 'ends' is wanted"),
        ({"flip": "none"}, "flip is 'auto' there, and 'none' is wanted; .*--set flip=none makes it"),
        ({"test_frames": "random"}, "test_frames is 'fixed' there, and 'random' is wanted"),
    ],
)
def test_a_store_that_differs_is_refused_in_one_sentence(given, said, videos):
    where = str(next(Path(benchmarks.paths.data_dir()).glob("features/*")))
    with pytest.raises(UserError, match=said) as error:
        few_shot.work(params(videos, features=where, **given))
    assert "\n" not in str(error.value)
    found = few_shot.work(params(videos, **given)).found
    assert found is None or (given == {"flip": "none"} and not found.trains), "auto passes it over"


def test_other_weights_of_the_same_name_are_refused(videos, monkeypatch):
    work = few_shot.work(params(videos))
    load = few_shot.open_backbone

    def changed(*given):
        backbone = load(*given)
        next(backbone.trunk.parameters()).data.mul_(1.001)
        return backbone

    monkeypatch.setattr(few_shot, "open_backbone", changed)
    with pytest.raises(
        UserError, match="tower.weights is [0-9a-f]{16} there, and [0-9a-f]{16} is wanted; vidlib data em"
    ):
        work.build()


def test_a_list_that_changed_is_refused(kept, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    whole = replace(benchmarks.load(kept[0]), name="motion")
    monkeypatch.setattr(benchmarks, "load", lambda name, *given, **how: whole)
    store = made("motion", views=1)
    assert set(store.head["lists"]) == {"train", "val", "test"}
    assert store.head["lists"]["test"]["checksum"] == whole.checksum("test")
    assert few_shot.work(params("motion")).found.splits == ("train", "val", "test")
    part = embedding.plan(params("motion"), 0, ["test"], out=str(tmp_path / "part"))
    list(embedding.embed(part))
    named = few_shot.work(params("motion", "otam", features=str(tmp_path / "part")))
    assert named.found.splits == ("test",) and named.split(named.build(), "test").clips.test(0).ndim == 2
    with pytest.raises(UserError, match="lists are test there, and split train is wanted"):
        few_shot.work(params("motion", features=str(tmp_path / "part")))
    gone = whole.videos("test")[0]
    fewer = replace(whole, rows=tuple(row for row in whole.rows if row != gone))
    assert few_shot.work(params("motion"), fewer).found is None
    said = r"the list of test has changed \(checksum \w+ there, \w+ here; 8 videos there, 7 here\); vidlib data embed"
    with pytest.raises(UserError, match=said):
        few_shot.work(params("motion", features=str(store.folder)), fewer)


def test_a_videos_file_that_changed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    dataset = folder(tmp_path)
    made(dataset, views=0)
    work = few_shot.work(params(dataset, "otam"))
    row = work.manifest.videos("test")[2]
    work.manifest.path(row).write_bytes(work.manifest.path(row).read_bytes() + b"more")
    with pytest.raises(UserError, match=f"the file of video {row.video} of test is another one than was encoded"):
        work.build()


def test_a_truncated_shard_is_one_sentence_and_other_runs_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    dataset = folder(tmp_path)
    store = made(dataset, views=1)
    file = store.folder / "all-0000.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"all-0000.npy is cut off or damaged \(.*\): delete it, and the same vidlib data"
    ):
        few_shot.run(params(dataset))
    assert few_shot.run(params(dataset, features="never")).state == "finished"
    file.unlink()
    assert made(dataset, views=1).lacking() == [] and few_shot.run(params(dataset)).state == "finished"


def test_a_video_that_did_not_decode_is_replaced_in_training_and_stops_a_test(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    dataset = folder(tmp_path)
    store = made(dataset, views=1)
    work = few_shot.work(params(dataset))
    train, test = (work.split(work.build(), split).clips for split in ("train", "test"))
    for clips in (train, test):
        shard, place = clips.store._where(clips.rows[0].video)
        clips.store.said(shard)["lost"][str(place)] = "it is broken"
    with pytest.raises(Undecodable, match="could not be decoded: it is broken"):
        train.train(0, 0, 0)
    with pytest.raises(UserError, match=r"could not be decoded when .* was made \(it is broken\); mend the file"):
        test.test(0)
    assert store.lost(train.rows[0].video) == ""


def test_features_without_videos_are_trained_and_tested_on(kept, monkeypatch, tmp_path):
    """Who has a benchmark's features alone: the store says which videos they are of."""
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    whole, load = replace(benchmarks.load(kept[0]), name="hmdb51"), benchmarks.load
    monkeypatch.setattr(benchmarks, "load", lambda name, *given, **how: whole)
    with_videos = few_shot.work(params("hmdb51", "otam"), whole)
    made("hmdb51", views=0)
    monkeypatch.setattr(benchmarks, "load", load)
    p = params("hmdb51", "otam")
    manifest = few_shot.open_manifest(p)
    assert [manifest.checksum(split) for split in manifest.splits] == [whole.checksum(s) for s in whole.splits]
    assert manifest.note.endswith("Features alone are here, no videos.") and manifest.prompts == whole.prompts
    run = few_shot.run(p)
    assert run.result["coverage"][2]["present"] == 8 and run.id == identity(with_videos).id
    trained = few_shot.run(params("hmdb51"))
    assert trained.result["features"]["training"] == "test views"
    with pytest.raises(UserError, match="hmdb51: the videos of HMDB51 few-shot are absent"):
        few_shot.open_manifest(params("hmdb51", "sloshnet"))


def test_the_id_of_a_run_without_stores_does_not_know_the_parameter(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "none"))
    ids = {identity(few_shot.work(params(videos, features=value))).id for value in ("auto", "never")}
    assert len(ids) == 1 and "features" not in params(videos).determining()
    assert runs.find(identity(few_shot.work(params(videos)))) is None
    with pytest.raises(UserError, match="nowhere is no store of features"):
        few_shot.checked(params(videos, features=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="nowhere is no store of features"):
        few_shot.work(params(videos, features=str(tmp_path / "nowhere")))
    assert stored.source(params(videos)) == "resnet-mini"
