"""Every model of open_clip is a tower here; one of each kind computes what open_clip and timm compute."""

import json
from copy import deepcopy

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

import vidlib
from vidlib import backbones, methods
from vidlib.backbones import clip, images
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.studies import tower_table

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
VIT = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}
TIMM = {"timm_model_name": "test_vit", "image_size": 160, "timm_model_pretrained": False}
SMALL = {  # by the kind's part that matters, at a size that a test can afford
    "average": {"vision_cfg": {**VIT, "pool_type": "avg", "no_ln_pre": True}},
    "norm after pooling": {"vision_cfg": {**VIT, "pool_type": "avg", "final_ln_after_pool": True}},
    "CoCa": {
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "ResNet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}},
    "timm token": {"vision_cfg": {**TIMM, "timm_pool": "token", "timm_proj": ""}, "custom_text": True},
    "timm average": {"vision_cfg": {**TIMM, "timm_pool": "avg", "timm_proj": "linear"}, "custom_text": True},
    "sigmoid": {
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "width": 8},
        "embed_dim": 96,
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "convnext": {"vision_cfg": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp"}},
}


@pytest.fixture
def small(monkeypatch):
    """A small open_clip model of a kind, under a name that open_clip lists."""

    def named(kind: str) -> str:
        config = {"embed_dim": 16, "text_cfg": TEXT, **deepcopy(SMALL[kind])}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"a small {kind}", config)
        return f"a small {kind}"

    return named


@pytest.mark.parametrize("name", clip.names())
def test_every_model_gives_frame_features(name):
    backbones.check(name, "")
    tower = backbones.outline(name)
    with torch.device("meta"), torch.no_grad():
        x = torch.zeros(2, 3, tower.image_size, tower.image_size)
        assert tower.encode_image(x).shape == (2, tower.embed_dim)
        if hasattr(tower, "blocks"):
            tokens = tower.ln_pre(tower.tokens(x))
            assert tokens.shape == (2, tower.prefix + tower.grid[0] * tower.grid[1], tower.width)
            assert tower.read(tokens).shape == (2, tower.embed_dim)
        if hasattr(tower, "map_dims"):
            assert [m.shape[1] for m in tower.stages(x)] == list(tower.map_dims)
    assert tower.has_text == (not tower.texts_need) and len(tower.mean) == len(tower.std) == 3


def test_all_144_are_accepted_and_the_table_says_what_they_give(capsys):
    assert len(open_clip.list_models()) == 144
    table = vidlib.list_backbones("ViT-B-16-quickgelu", "EVA02-E-14", "test_resnet", "resnet-mini")
    assert table.loc["ViT-B-16-quickgelu", ["frames", "texts", "adapters", "maps"]].tolist() == ["yes"] * 4
    assert table.loc["ViT-B-16-quickgelu", ["parameters (M)", "GMACs", "input", "width"]].tolist() == [
        86.19,
        pytest.approx(17.5, abs=0.1),
        224,
        512,
    ]
    assert table.loc["EVA02-E-14", "adapters"] == "no" and table.loc["resnet-mini", "texts"] == "none"
    with pytest.raises(UserError, match="no backbone's name fits 'ViT-B-16-quikgelu'; did you mean"):
        tower_table.table("ViT-B-16-quikgelu")
    assert "1024 x 768" in tower_table.table("vit_base_patch16_sapiens2")["frames"].item()


@pytest.mark.parametrize("kind", SMALL)
def test_features_and_texts_are_open_clips_own(small, kind):
    torch.manual_seed(0)
    tower = backbones.load(small(kind), "")
    theirs, _, _ = open_clip.create_model_and_transforms(tower.name)
    theirs.load_state_dict(tower.clip.state_dict())
    x = torch.randn(2, 3, tower.image_size, tower.image_size)
    with torch.no_grad():
        assert torch.allclose(tower.encode_image(x), theirs.eval().encode_image(x, normalize=False), atol=1e-6)
        ids = open_clip.get_tokenizer(tower.name)(["a photo of cat.", "a photo of dog."])
        own = tower.encode_text(["cat", "dog"], ["a photo of {}."])
        assert torch.allclose(own, theirs.encode_text(ids, normalize=False), atol=1e-6)
        if hasattr(tower, "blocks"):
            tokens = tower.ln_pre(tower.tokens(x))
            for block in tower.blocks:
                tokens = block(tokens)
            assert torch.allclose(tower.read(tokens), tower.encode_image(x), atol=1e-5)
    assert tower.logit_bias == (-10 if kind == "sigmoid" else None)
    assert tower.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert hasattr(tower, "map_dims") == (kind in ("ResNet", "timm token"))


def test_mean_and_deviation_are_those_that_the_tags_share():
    half, none = ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)
    for name, said in {"ViT-B-16-SigLIP": half, "MobileCLIP-B": none, "ViT-B-16": clip.OPENAIS}.items():
        tower = backbones.outline(name)
        assert (tower.mean, tower.std) == tuple(map(tuple, said))


@pytest.mark.skipif(clip.find_spec("transformers") is not None, reason="transformers is here")
def test_images_work_without_the_texts_of_a_hub_and_one_sentence_says_what_those_need(small, monkeypatch):
    name = small("timm token")
    text = {**TEXT, "hf_tokenizer_name": "some/tokenizer", "hf_model_name": "some/tower"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS[name], "text_cfg", text)
    tower = backbones.load(name, "")
    assert not tower.has_text and tower.encode_image(torch.randn(1, 3, 160, 160)).shape == (1, 16)
    words = "need the package transformers.*tokenizer some/tokenizer.*text tower some/tower.*images work without"
    with pytest.raises(UserError, match=words):
        tower.encode_text(["cat"])
    assert backbones.class_texts(tower, ["a", "b"], ("{}",)).shape == (2, 0)
    assert methods.build("otam", tower, frames=2).embed(torch.randn(1, 2, 3, 160, 160), None, "query")
    for ask in (
        lambda: methods.build("clip_fsar", tower),
        lambda: methods.check(RunParams.parse({"method": "ma_fsar", "backbone": name, "pretrained": ""})),
    ):
        with pytest.raises(UserError, match=f"reads class texts: .*{words}"):
            ask()


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "timm:convnext_tiny"])
def test_timms_models_give_timms_features_and_their_cfgs_statistics(name, monkeypatch):
    if name == "timm:convnext_tiny":  # the name is open_clip's too
        assert name in images.names() and "convnext_tiny" in clip.names()
        assert isinstance(backbones.outline(name), backbones.ImageBackbone)
        return
    tower, x = backbones.load(name, ""), torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(tower.encode_image(x), tower.trunk(x)) and tower.encode_image(x).shape == (
            2,
            tower.embed_dim,
        )
    config = timm.get_pretrained_cfg(name)
    assert (tower.image_size, tower.mean, tower.std) == (config.input_size[-1], config.mean, config.std)
    assert not tower.has_text and tower.encode_text(["a"]).shape == (1, 0)
    tower.unfreeze()
    tower.train()
    assert not any(m.training for m in tower.trunk.modules()), "with freeze_bn nothing is in training mode"


def test_names_of_timm_that_are_wrong_are_one_short_sentence():
    for name, words in {
        "dinov2": "there are vit_base_patch14_dinov2.* and 1 more|there are .*dinov2",
        "vit_base_patch14_dinov2.lvd142m": "give 'vit_base_patch14_dinov2', and pretrained='lvd142m'",
        "vit_bse_patch14_dinov2": "did you mean 'vit_base_patch14_dinov2'",
        "vit_base_patch16_sapiens2": "1024 x 768",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            backbones.check(name, "")
        assert len(str(caught.value)) < 300


def test_a_folder_is_weights_as_well_as_a_file(small, tmp_path):
    name = small("timm token")
    tower, x = backbones.load(name, ""), torch.randn(1, 3, 160, 160)
    save_file(tower.clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    told = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    again = backbones.load(name, str(tmp_path))
    assert torch.equal(again.encode_image(x), tower.encode_image(x)) and again.mean == (0.1,) * 3
    assert backbones.weights_file(name, str(tmp_path)) == tmp_path / "open_clip_model.safetensors"
    with pytest.raises(UserError, match=f"holds another model than backbone 'ViT-B-16'.*'{name}'"):
        backbones.load("ViT-B-16", str(tmp_path))
    with pytest.raises(UserError, match="neither a tag of .* nor a file or a folder with one"):
        backbones.load(name, str(tmp_path.parent / "nothing"))

    folder = tmp_path / "timm"
    folder.mkdir()
    tower = backbones.load("test_vit", "")
    save_file(tower.trunk.state_dict() | {"head.weight": torch.zeros(5, 64)}, folder / "model.safetensors")
    config = {"architecture": "test_vit", "pretrained_cfg": {"input_size": [3, 160, 160], "mean": [0.3] * 3}}
    (folder / "config.json").write_text(json.dumps(config))
    again = backbones.load("test_vit", str(folder))
    assert torch.equal(again.encode_image(x), tower.encode_image(x)) and again.mean == (0.3,) * 3
    with pytest.raises(UserError, match="another backbone; the right name is backbone='test_vit'"):
        backbones.load("test_vit2", str(folder))


def test_a_method_that_reads_maps_is_refused_where_there_are_none():
    for method, name in (("strm", "test_convnext"), ("molo", "ViT-B-16-SigLIP")):
        with pytest.raises(UserError, match="stage maps, and backbone .* gives none; give a ResNet such as resnet50"):
            methods.check(RunParams.parse({"method": method, "backbone": name, "pretrained": ""}))
    methods.check(RunParams.parse({"method": "strm", "backbone": "vit_small_patch14_dinov2", "pretrained": ""}))
    frames = {"method": "strm", "backbone": "test_convnext", "pretrained": "", "options": {"patch_enrichment": False}}
    methods.check(RunParams.parse(frames))
    assert not hasattr(methods.build(RunParams.parse(frames), backbones.load("test_convnext", "")).backbone, "map_dims")
