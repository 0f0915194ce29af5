"""Runs of video-text methods on a folder of real, small videos, under every protocol."""

import json

import numpy as np
import pytest
import torch

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results.accuracy import Evaluation, paired
from vidlib.training import checkpoints, video_text
from vidlib.training import step as stepping
from vidlib.training.run import identity

SMALL = {"pretrained": "", "frames": 2, "batch": 4, "epochs": 1, "device": "cpu", "val_every": 1}
M2 = {"method": "m2clip", "options": {"width": 8, "text_width": 8}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("videos"), classes=8, clips=4)


@pytest.fixture
def params(folder, tmp_path):
    def make(**given) -> VideoTextRunParams:
        chosen = {**SMALL, "dataset": f"folder:{folder}", "runs": str(tmp_path / "runs"), **given}
        return video_text.checked(VideoTextRunParams.parse(chosen))

    return make


@pytest.mark.parametrize("given", [{"options": {"visual_prompt": "meanp"}}, M2], ids=["actionclip", "m2clip"])
def test_a_run_trains_chooses_tests_and_is_found_again(params, given):
    p = params(select=True, **given)
    run = video_text.run(p)
    result = run.result
    assert result["fit"]["steps"] == len(run.metrics()) > 0 and result["test"]["videos"] > 0
    assert set(result) >= {
        "test",
        "test_frames_shuffled",
        "test_texts_permuted",
        "said",
        "coverage",
        "cost",
        "unsettled",
    }
    assert result["test"]["checksum"] == result["test_texts_permuted"]["checksum"]
    assert run.readings()["val"] >= 1 and run.readings()["test"] == 3
    found = video_text.recorded(p)
    assert found is not None and found.id == run.id
    again = video_text.run(p)
    assert again.id == run.id and again.result["finished"] == run.result["finished"]
    method = video_text.open_trained(found)[1].method
    assert not method.training and method.trainable()
    stored, _ = checkpoints.read(run.path("checkpoint.safetensors"))
    assert all(torch.equal(stored[name], value) for name, value in checkpoints.trainable_state(method).items())
    kept = Evaluation.load(run.path("test.npz"))
    assert kept.accuracy == result["test"]["accuracy"] and paired(kept, kept).difference == 0
    assert np.allclose(kept.probabilities.sum(1), 1, atol=1e-5)


def test_labels_are_kept_by_their_use_and_the_last_weights_use_none_to_select(params, tmp_path):
    more = f"folder:{write_folder(tmp_path / 'more', classes=8, clips=8)}"
    few = {
        "dataset": more,
        "protocol": "kshot",
        "train_per_class": 2,
        "batch": 2,
        "options": {"visual_prompt": "meanp"},
    }
    found = {}
    for select in (False, True):
        run = video_text.run(params(select=select, **few))
        found[select] = {use: n["videos"] for use, n in run.result["labels"].items()}
        assert ("val" in run.readings()) == select == (run.result["fit"]["val_accuracy"] is not None)
    known, classes = 2 * len(run.result["test"]["per_class"]), len(run.result["test"]["per_class"])
    tested = run.result["test"]["videos"]
    assert found[False] == {"train": known, "selection": 0, "test": tested}
    assert found[True] == {"train": classes, "selection": classes, "test": tested}
    untrained = video_text.run(params(**few | {"epochs": 0})).result["labels"]
    assert untrained["train"]["videos"] == untrained["selection"]["videos"] == 0


def test_what_determines_a_run_and_what_does_not(params):
    base = params()
    same = params(workers=1, fresh=True)
    found = [identity(video_text.work(p)) for p in (base, same, params(seed=1))]
    assert found[0].id == found[1].id != found[2].id
    assert "folder:" not in json.dumps(found[0].values) and "folder:" in found[0].params["dataset"]


def test_untrained_is_tested_without_training(params):
    run = video_text.run(params(epochs=0))
    assert run.result["fit"] is None and not run.path("checkpoint.safetensors").is_file()


def test_base_to_novel_gives_both_and_their_harmonic_mean(params):
    result = video_text.run(params(protocol="base_to_novel", epochs=0)).result
    a, b = result["test"]["accuracy"], result["novel"]["accuracy"]
    assert result["harmonic"] == pytest.approx(2 * a * b / (a + b) if a + b else 0.0)
    assert set(result["novel"]["per_class"]).isdisjoint(result["test"]["per_class"])


def test_a_classifier_of_fixed_classes_meets_no_new_ones(params):
    one = {"ablation": "unimodal", "options": {"visual_prompt": "meanp"}}
    result = video_text.run(params(protocol="base_to_novel", **one)).result
    assert "novel" not in result and "test_texts_permuted" not in result
    with pytest.raises(UserError, match="new classes"):
        params(protocol="zero_shot", **one)
    with pytest.raises(UserError, match="new classes"):
        params(protocol="zero_shot", **(M2 | {"options": {"score": "visual"}}))


def test_several_views_are_averaged(params):
    one, many = (video_text.run(params(epochs=0, test_clips=n)).result["test"] for n in (1, 3))
    assert (one["views"], many["views"]) == ("1 view of each video", "3 views of each video")
    assert one["checksum"] == many["checksum"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "zeroshot"}, "protocol: 'zeroshot' is not one of .*did you mean 'zero_shot'"),
        ({"method": "actonclip"}, "did you mean 'actionclip'"),
        ({"options": {"visual_promt": "meanp"}}, "no argument 'visual_promt'; did you mean 'visual_prompt'"),
        ({"options": {"visual_prompt": "conv2d"}}, "visual_prompt must be one of .*conv1d"),
        ({"method": "m2clip", "options": {"heads": ["contrastiv"]}}, "contrastiv.*contrastive"),
        ({"ablation": "unimodel"}, "did you mean 'unimodal'"),
        ({"protocol": "kshot"}, "train_per_class: kshot trains on that many"),
        ({"protocol": "kshot", "train_per_class": 1, "select": True}, "select: the 1 training video .* select false"),
        ({"backbone": "resnet-mini", "pretrained": "resnet-mini"}, "adapts a CLIP"),
        ({"dataset": "official:ucf11"}, "did you mean 'ucf101'"),
        ({"options": {"classes": 3}}, "'classes' follows from the other parameters"),
        ({"test_dataset": "words"}, "only protocol zero_shot"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_work_is_refused_before_anything_is_built(params, given, words):
    with pytest.raises(UserError, match=words):
        params(**given)


def test_training_starts_from_another_run(params):
    first = video_text.run(params(method="m2clip", options=M2["options"]))
    few = {"protocol": "kshot", "train_per_class": 1}
    p = params(method="m2clip", options=M2["options"], init=str(first.folder), epochs=0, **few)
    opened = video_text.open_run(p)
    stored, _ = checkpoints.read(first.path("checkpoint.safetensors"))
    own = checkpoints.trainable_state(opened.method)
    assert all(torch.equal(own[n], v) for n, v in stored.items() if not n.startswith(("classifier.", "word_head.")))
    one, other = (identity(video_text.work(q, opened.plan)) for q in (p, p.model_copy(update={"init": ""})))
    assert one.id != other.id and str(first.folder) not in json.dumps(one.values)
    with pytest.raises(UserError, match="does not fit ActionCLIP: it lacks"):
        video_text.open_run(params(init=str(first.folder), options={"visual_prompt": "lstm"}))
    with pytest.raises(UserError, match="is no folder of a finished run"):
        params(init="nowhere")


def test_zero_shot_on_another_data_set_over_its_standard_splits(params, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    root = tmp_path / "data" / "ucf101"
    (root / "annotations").mkdir(parents=True)
    names = {"A": ["v_A_g1", "v_A_g2", "v_A_g3"], "B": ["v_B_g1", "v_B_g2", "v_B_g3"]}
    for shade, (cls, videos) in enumerate(names.items()):
        for i, video in enumerate(videos):
            write_clip(root / cls / f"{video}.mp4", frames=4 + i, shade=10 + 60 * shade)
    for n in (1, 2, 3):
        tested = [f"{cls}/{videos[n - 1]}.avi" for cls, videos in names.items()]
        (root / "annotations" / f"testlist0{n}.txt").write_text("\n".join(tested))
        rest = [
            f"{cls}/{v}.avi {k}"
            for k, (cls, videos) in enumerate(names.items(), 1)
            for v in videos
            if f"{cls}/{v}.avi" not in tested
        ]
        (root / "annotations" / f"trainlist0{n}.txt").write_text("\n".join(rest))
    run = video_text.run(params(protocol="zero_shot", test_dataset="official:ucf101", epochs=0))
    result = run.result["test"]
    kept = Evaluation.load(run.path("test.npz"))
    assert result["videos"] == 6 and result["classes"] == 2 and set(result["standard_splits"]) == {"1", "2", "3"}
    each = [kept.per_trial[[i, i + 3]].mean() for i in range(3)]  # rows are sorted by id: A's three, then B's
    assert list(result["standard_splits"].values()) == each
    assert result["mean"] == pytest.approx(np.mean(each)) and result["deviation"] == pytest.approx(np.std(each))
    assert "official_ucf101" in run.result["said"] and run.result["overlap"] == []


@pytest.mark.parametrize(
    ("crop", "wanted"),
    [
        ("area", {"scale": (0.5, 1.0), "multi_scale": (), "stretch": 1.0}),
        ("wide area", {"scale": (0.08, 1.0)}),
        ("short side", {"scale": None, "stretch": 1.15, "resize": 64}),
        ("multi-scale", {"multi_scale": (1, 0.875, 0.75, 0.66)}),
    ],
)
def test_crops_are_those_that_the_parameters_name(params, crop, wanted):
    p = params(crop=crop, test_resize=73)
    opened = video_text.open_run(p)
    clips = video_text.open_batches(p, opened).clips
    assert {name: getattr(clips.transform_train, name) for name in wanted} == wanted
    (view,) = video_text.open_views(p, opened.method, opened.manifest, "test")
    assert view.transform_test.resize == 73 and view.test(0).shape[-2:] == (64, 64)
    (plain,) = video_text.open_views(params(), opened.method, opened.manifest, "test")
    assert plain.transform_test.resize == 64
    with pytest.raises(UserError, match="test_resize: 60 pixels are less than the 64 of the crop"):
        video_text.open_batches(params(test_resize=60), opened)


def test_betas_reach_the_optimiser(params):
    p = params(betas=[0.9, 0.98])
    work = video_text.work(p)
    settings = work.fit_settings()
    assert settings["betas"] == [0.9, 0.98]
    (own,) = stepping.optimizers(work.build(), "adamw", lr=1e-4, weight_decay=0.2, betas=settings["betas"])
    assert {group["betas"] for group in own.param_groups} == {(0.9, 0.98)}
    assert identity(work).id != identity(video_text.work(params())).id
