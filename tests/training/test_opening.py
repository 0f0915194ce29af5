"""What is found out before anything is rendered, decoded or built; and that one seed gives one method."""

from dataclasses import replace

import pytest
import torch

from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.data import sampling
from vidlib.params.by_recipe import ComparisonParams, FewShotNotebookParams, GgHMParams
from vidlib.params.few_shot import MAFSARParams, RunParams
from vidlib.training import few_shot


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"way": 99}, ["way", "99", "motion"]),
        ({"dataset": "nowhere"}, ["dataset", "nowhere", "moving_shapes"]),
        ({"dataset": "moving_shape"}, ["did you mean 'moving_shapes'"]),
        ({"dataset": "folder:nowhere"}, ["nowhere"]),
        ({"pretrained": "missing.pt"}, ["missing.pt"]),
        ({"pretrained": "", "backbone": "ViT-B-99"}, ["backbone", "ViT-B-99"]),
        ({"dataset": "hmdb51"}, ["hmdb51", "hmdb51/<class>/<video file>"]),
    ],
    ids=str,
)
def test_what_cannot_work_is_named_at_once(given, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    with pytest.raises(UserError) as error:
        p = few_shot.checked(MAFSARParams.parse(given))
        few_shot.open_manifest(p)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("model", "given", "word"),
    [
        (FewShotNotebookParams, {"method": "trx", "metric": "otam"}, "metric: trx would not read it"),
        (
            FewShotNotebookParams,
            {"method": "molo", "mix": 0.7, "compare": "trx"},
            "mix: molo and trx would not read it",
        ),
        (FewShotNotebookParams, {"method": "strm", "shot_rule": "frames"}, "shot_rule: strm would not read it"),
        (GgHMParams, {"metric": "bimhm"}, "metric: gghm would not read it"),
        (FewShotNotebookParams, {"method": "trx", "mix": 0.7, "compare": "ma_fsar"}, "mix: trx and ma_fsar would"),
        (ComparisonParams, {"methods": "trx,molo", "against": "trx", "shot_rule": "frames"}, "shot_rule: trx and molo"),
        (ComparisonParams, {"against": "trx", "shot_rule": "frames"}, ""),
        (MAFSARParams, {"metric": "bimhm", "mix": 0.7, "metric_scale": 2.0}, ""),
        (FewShotNotebookParams, {"method": "trx", "metric": "bimhm", "compare": "aim"}, ""),
        (FewShotNotebookParams, {"method": "otam", "shot_rule": "frames"}, ""),
    ],
)
def test_what_no_method_would_read_is_refused(model, given, word):
    if not word:
        assert few_shot.checked(model.parse(given))
        return
    with pytest.raises(UserError, match=word):
        few_shot.checked(model.parse(given))


def test_a_folder_with_an_empty_class_or_only_broken_clips_is_refused(tmp_path):
    empty = write_folder(tmp_path / "empty", classes=6)
    (empty / "nothing here").mkdir()
    broken = tmp_path / "broken"
    for i in range(6):
        (broken / f"class{i}").mkdir(parents=True)
        (broken / f"class{i}" / "a.mp4").write_bytes(b"no video")
    for folder, word in ((empty, "nothing here"), (broken, "decoded")):
        with pytest.raises(UserError, match=word):
            few_shot.checked(MAFSARParams.parse({"dataset": f"folder:{folder}", "way": 2}))


def test_a_seed_gives_one_method_and_another_seed_another():
    base = MAFSARParams(pretrained="").run_params("ma_fsar")
    one, again, other = (
        few_shot.open_method(p).state_dict() for p in (base, base, base.model_copy(update={"seed": 1}))
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_template_reaches_the_class_texts(tmp_path):
    p = MAFSARParams.parse({"dataset": f"folder:{write_folder(tmp_path / 'clips')}", "way": 2, "pretrained": ""})
    manifest, backbone = few_shot.open_manifest(p), few_shot.open_backbone(p)
    texts = [
        few_shot.open_split(p.model_copy(update={"template": t}), manifest, backbone, "val").text
        for t in ("a photo of {}", "{}")
    ]
    assert not torch.equal(*texts)
    with pytest.raises(UserError, match="template"):
        MAFSARParams.parse({"template": "no place"})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(parameters, manifest, backbone) of six classes of grey clips, five to a class."""
    folder = write_folder(tmp_path_factory.mktemp("small") / "clips", clips=5)
    params = RunParams(dataset=f"folder:{folder}", way=2, pretrained="", frames=3)
    return params, few_shot.open_manifest(params), few_shot.open_backbone(params)


@pytest.mark.parametrize("given", [{"also_shots": [9]}, {"shot": 9, "train_shot": 1}])
def test_a_test_that_does_not_fit_is_refused_before_training(small, given):
    params, manifest, backbone = small
    work = few_shot.work(params.model_copy(update=given), manifest)
    with pytest.raises(UserError, match="more than the 5 of class"):
        work.source(few_shot.open_method(params), (0, 1))


def test_a_recipe_chooses_augmentation_and_statistics(small):
    params, manifest, backbone = small

    def opened(**chosen):
        clips = few_shot.open_split(params.model_copy(update=chosen), manifest, backbone, "train").clips
        return clips.transform_train, clips.transform_query, clips.transform_test

    undirected = few_shot.open_split(params, replace(manifest, directional=False), backbone, "train").clips
    assert undirected.transform_train.flip and undirected.transform_query.flip
    support, query, test = opened()
    assert not support.flip and not query.flip and not query.hue and support.scale == (0.5, 1.0)  # direction may tell
    assert support.mean == test.mean == backbone.mean and test.resize == test.size == backbone.image_size
    support, query, test = opened(crop="squashed window", flip="queries", colour="queries", normalise="grey/backbone")
    assert (support.flip, query.flip, support.hue, query.hue) == (False, True, 0.0, 0.25)
    assert (support.jitter, query.jitter, support.grey, query.grey) == (0.0, 0.5, 0.0, 0.3)
    assert support.squash and test.squash and support.scale is None and support.resize == test.resize == 73
    assert support.mean == query.mean == (0.45,) * 3 and support.std == (0.225,) * 3
    assert test.mean == backbone.mean and test.std == backbone.std
    support, query, test = opened(crop="window", flip="all", normalise="none")
    assert not support.squash and support.flip and query.flip and test.mean == (0.0,) * 3 and support.std == (1.0,) * 3


def test_a_recipe_chooses_frames_and_the_size_of_training_episodes(small):
    params, manifest, backbone = small
    chosen = params.model_copy(
        update={"sampling": "ends", "train_frames": "random supports", "test_frames": "random"}
        | {"train_shot": 2, "train_query": 3}
    )
    train, test = (few_shot.open_split(chosen, manifest, backbone, name) for name in ("train", "test"))
    assert train.clips.pick is test.clips.pick is sampling.trx_indices
    assert train.clips.vary_train == ("support",) and not train.clips.by_episode
    assert test.clips.vary_test == ("support", "query") and test.clips.by_episode
    assert (train.sampler.shots, test.sampler.shots) == ((2, 2), (1, 1))
    assert (len(train.sampler[0].query), len(test.sampler[0].query)) == (2 * 3, 2 * params.query)
    plain = few_shot.open_split(params, manifest, backbone, "test").clips
    assert not plain.by_episode and plain.pick is sampling.segment_indices


def test_parameters_without_a_recipes_fields_mean_its_defaults(small):
    params, manifest, backbone = small
    notebook = MAFSARParams.parse({name: getattr(params, name) for name in ("dataset", "way", "pretrained", "frames")})
    ours, theirs = (few_shot.open_split(p, manifest, backbone, "train") for p in (params, notebook))
    for i in range(3):
        assert torch.equal(ours.training(3)[i].query, theirs.training(3)[i].query)
