"""The parameters of ActionCLIP's and M2-CLIP's notebooks: names as the rooms have them, refusals, recipes."""

import inspect
import re
from pathlib import Path

import pytest

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.data import protocols
from vidlib.data.catalogue import official
from vidlib.layers import ted_adapter, temporal_heads
from vidlib.methods import actionclip, m2clip
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import (
    HEADS,
    PLACES,
    PROTOCOL_NAMES,
    TED,
    VIDEO_TEXT_NAMES,
    VISUAL_PROMPTS,
    ActionCLIPParams,
    M2CLIPParams,
    VideoTextRunParams,
)
from vidlib.studies import ablations

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"actionclip": ActionCLIPParams, "m2clip": M2CLIPParams}
LAPTOP = "laptop"  # of the embedded world; the others are published cells
RECIPES = sorted(file for name in MODELS for file in (ROOT / "recipes" / name).glob("*.yaml") if file.stem != LAPTOP)


def test_names_are_those_of_the_rooms():
    assert VIDEO_TEXT_NAMES == tuple(methods.VIDEO_TEXT) == tuple(MODELS)
    assert PROTOCOL_NAMES == protocols.PROTOCOLS
    assert set(VISUAL_PROMPTS) == {"joint", "shift", *temporal_heads.HEADS}
    assert set(HEADS) == set(m2clip.HEADS) and PLACES == m2clip.PLACES and TED == m2clip.BRANCHES
    assert set(ActionCLIPParams.model_fields["templates"].annotation.__args__) == set(actionclip.TEMPLATES)
    assert "branches" in inspect.signature(ted_adapter.TEDAdapter).parameters


@pytest.mark.parametrize("name", MODELS)
def test_what_a_notebook_means_can_be_built_and_so_can_every_ablation(name):
    for ablation in ("", *methods.ABLATIONS[name]):
        methods.check(MODELS[name]().run_params(ablation=ablation))


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("actionclip", {"visual_prompt": "conv"}, r"visual_prompt: 'conv' is not one of .*did you mean 'conv1d'"),
        ("actionclip", {"visual_promt": "lstm"}, "unknown parameter 'visual_promt' .*visual_prompt"),
        ("actionclip", {"protocol": "zero-shot"}, "did you mean 'zero_shot'"),
        ("actionclip", {"protocol": "kshot", "shot": 4}, "shot: .* give train_per_class, training videos per class"),
        ("m2clip", {"shot": 4}, "train_per_class"),
        ("actionclip", {"tune": "images"}, "tune: 'images' is not one of"),
        ("m2clip", {"heads": "contrastive,mml"}, r"heads: 'mml' is not one of .*did you mean 'mlm'"),
        ("m2clip", {"heads": ""}, "heads: give one or more of"),
        ("m2clip", {"ted": "enhance"}, "did you mean 'enhancement'"),
        ("m2clip", {"places": "mpl"}, "did you mean 'mlp'"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_right_one(name, given, words):
    with pytest.raises(UserError, match=words):
        MODELS[name].parse(given)


def test_options_follow_from_the_parameters():
    p = M2CLIPParams.parse({"heads": "contrastive, mlm", "ted": "", "places": "attention,mlp"})
    options = p.run_params().options
    assert options["heads"] == ["contrastive", "mlm"] and options["ted"] == []
    assert options["adapter_places"] == options["text_adapter_places"] == ["attention", "mlp"]
    assert ActionCLIPParams(tune="text").run_params().options["tune"] == "text"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_names_its_notebook_and_can_be_built(file):
    text, model = file.read_text(), MODELS[file.parent.name]
    head = text.split("\n\n")[0]
    assert f"papermill notebooks/{file.parent.name}.ipynb out.ipynb -f recipes/{file.parent.name}/{file.name}" in head
    assert "We have not run this recipe" in text and max(map(len, text.splitlines())) <= 120
    assert not re.search(r"https?:|@|/mnt|/home|/work", text)
    p = model.from_file(file)
    assert p.dataset.removeprefix("official:") in official.OFFICIAL
    methods.check(p.run_params())
    assert (p.frames == int(re.search(r"_(\d+)f", file.stem)[1])) and p.pretrained == "openai"
    if shot := re.search(r"_(\d+)shot", file.stem):
        assert p.protocol == "kshot" and p.train_per_class == int(shot[1]) and not p.select
    assert file.stem.startswith("zero_shot") == (p.protocol == "zero_shot") == bool(p.test_dataset)


@pytest.mark.parametrize("name", MODELS)
def test_a_laptop_recipe_makes_what_a_claim_and_the_ablation_table_need(name):
    p = MODELS[name].from_file(ROOT / "recipes" / name / f"{LAPTOP}.yaml")
    default = MODELS[name]()
    assert p.dataset == "words" and p.seeds >= 3 and p.ablations and p.protocol == default.protocol
    assert ablations.base(p, name) == ablations.base(default, name), "a default run must find these records"


def test_every_published_cell_of_actionclip_has_a_recipe():
    there = {file.stem for file in RECIPES if file.parent.name == "actionclip"}
    wanted = {"kinetics400_b32_8f", "kinetics400_b16_8f", "kinetics400_b16_16f", "kinetics400_b16_32f"}
    wanted |= {f"{data}_b16_32f" for data in ("ucf101", "hmdb51", "zero_shot_ucf101", "zero_shot_hmdb51")}
    wanted |= {f"{data}_b16_8f_{k}shot" for data in ("ucf101", "hmdb51", "kinetics400") for k in (2, 4, 8, 16)}
    assert wanted <= there


def test_every_cell_of_m2clip_that_is_quoted_has_a_recipe():
    there = {file.stem for file in RECIPES if file.parent.name == "m2clip"}
    wanted = {f"kinetics400_b16_{frames}f" for frames in (8, 16, 32)} | {"ssv2_b16_8f", "ssv2_b16_32f"}
    assert wanted | {"zero_shot_hmdb51_b16_8f", "zero_shot_ucf101_b16_8f"} <= there


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_has_the_released_crops_and_betas(file):
    p = MODELS[file.parent.name].from_file(file)
    if file.parent.name == "actionclip":
        assert (p.crop, p.test_resize, p.betas) == ("multi-scale", 256, [0.9, 0.98])
    else:  # its code has torch's betas, and resizes a test picture to the 224 that it crops
        crop = "wide area" if "ssv2" in file.stem else "short side"
        assert (p.crop, p.test_resize, p.betas) == (crop, 224, [0.9, 0.999])


def test_crops_and_betas_of_our_own_runs_are_ours():
    for model in (*MODELS.values(), VideoTextRunParams):
        p = model()
        assert (p.crop, p.test_resize, p.betas) == ("area", 0, [0.9, 0.999])


def test_betas_are_two_numbers_below_one_as_papermill_hands_them_over():
    assert ActionCLIPParams.parse({"betas": "[0.9, 0.98]"}).betas == [0.9, 0.98]
    for wrong in ("[0.9]", "", [0.9, 1], [0.9, "x"], 0.9):
        with pytest.raises(UserError, match="betas: .* is not two numbers"):
            ActionCLIPParams.parse({"betas": wrong})
    with pytest.raises(UserError, match="betas: '.0.9' cannot be read"):
        ActionCLIPParams.parse({"betas": "[0.9"})


def test_rand_augment_is_two_numbers_as_papermill_hands_them_over():
    assert ActionCLIPParams.parse({"rand_augment": "[2, 9]"}).rand_augment == [2, 9]
    assert ActionCLIPParams.parse({"rand_augment": ""}).rand_augment == []
    for wrong in ("[2]", "2", [0, 9], [2, 31], ["two", 9]):
        with pytest.raises(UserError, match="rand_augment: .* is not"):
            ActionCLIPParams.parse({"rand_augment": wrong})


def test_an_earlier_record_has_its_training_videos_per_class_under_another_name():
    assert VideoTextRunParams.parse({"protocol": "kshot", "shot": 4}).train_per_class == 4


def test_unit_of_val_every_is_said_in_both_families():
    for model, unit in ((VideoTextRunParams, "epochs"), (RunParams, "training episodes")):
        assert model.model_fields["val_every"].description.startswith(f"{unit} between two selections")
