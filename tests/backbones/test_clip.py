"""CLIP towers: open_clip's numbers, weights saved and loaded with their activation, errors in one sentence."""

import hashlib
import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.methods.small import backbone as small
from vidlib import backbones
from vidlib.backbones import clip, weights
from vidlib.basics import progress
from vidlib.basics.errors import UserError

SHAPE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny_names(monkeypatch):
    """ViT-B-16 and its QuickGELU twin, at a size that a test can afford."""
    configs = {"ViT-B-16": SHAPE, "ViT-B-16-quickgelu": {**SHAPE, "quick_gelu": True}}
    monkeypatch.setattr(clip, "_config", configs.__getitem__)
    return configs


def test_parts_put_together_equal_open_clip():
    backbone, x = small(), torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        tokens = backbone.ln_pre(backbone.tokens(x))
        for block in backbone.blocks:
            tokens = block(tokens)
        assert torch.equal(backbone.read(tokens), backbone.clip.encode_image(x))
        assert torch.equal(backbone.encode_image(x), backbone.clip.encode_image(x))


def test_facts_and_freezing():
    backbone = small()
    assert (backbone.width, backbone.embed_dim, backbone.layers, backbone.heads) == (16, 16, 2, 2)
    assert (backbone.grid, backbone.image_size, backbone.activation) == ((2, 2), 16, "QuickGELU")
    assert backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert not any(p.requires_grad for p in backbone.parameters()) and not backbone.clip.training


def test_texts_are_averaged_over_templates():
    backbone = small()
    one, two = (backbone.encode_text(["cat", "dog"], [t]) for t in ("a {}", "two {}s"))
    both = backbone.encode_text(["cat", "dog"], ["a {}", "two {}s"])
    assert both.shape == (2, 16) and torch.allclose(both, (one + two) / 2, atol=1e-6)
    tokens = open_clip.SimpleTokenizer(context_length=12)(["a photo of cat."])
    assert torch.allclose(backbone.encode_text(["cat"])[0], backbone.clip.encode_text(tokens)[0], atol=1e-6)
    assert not both.requires_grad
    with pytest.raises(UserError, match="templates"):
        backbone.encode_text(["cat"], ["a photo"])


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_activation_survives_save_and_load(tiny_names, tmp_path, name):
    torch.manual_seed(3)
    backbone = clip.load(name, "")
    assert backbone.activation == ("QuickGELU" if name.endswith("quickgelu") else "GELU")
    clip.save(backbone, tmp_path / "w.safetensors")
    again = clip.load(name, str(tmp_path / "w.safetensors"))
    x = torch.randn(2, 3, 16, 16)
    assert again.activation == backbone.activation
    assert isinstance(again.blocks[0].mlp.gelu, open_clip.transformer.QuickGELU) == name.endswith("quickgelu")
    assert torch.equal(again.encode_image(x), backbone.encode_image(x))
    assert torch.equal(again.encode_text(["a"]), backbone.encode_text(["a"]))
    other = "ViT-B-16" if name.endswith("quickgelu") else "ViT-B-16-quickgelu"
    with pytest.raises(UserError, match=f"backbone='{name}'"):
        clip.load(other, str(tmp_path / "w.safetensors"))


def test_files_of_every_kind(tiny_names, tmp_path):
    backbone = clip.load("ViT-B-16-quickgelu", "")
    state, x = backbone.clip.state_dict(), torch.randn(2, 3, 16, 16)
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "training.pt")
    save_file({k: v.half() for k, v in state.items()}, tmp_path / "half.safetensors")
    for file, tolerance in (("plain.pt", 0), ("training.pt", 0), ("half.safetensors", 1e-2)):
        loaded = clip.load("ViT-B-16-quickgelu", str(tmp_path / file))
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert torch.allclose(loaded.encode_image(x), backbone.encode_image(x), atol=tolerance, rtol=0)


def test_openais_own_archive(tiny_names, tmp_path, monkeypatch):
    backbone, x = clip.load("ViT-B-16-quickgelu", ""), torch.randn(2, 3, 16, 16)

    class Archive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = torch.nn.Linear(1, 1)

        def forward(self, x):
            return x

    archive = Archive()
    for name, value in backbone.clip.state_dict().items():
        owner = archive
        for part in (path := name.split("."))[:-1]:
            if not hasattr(owner, part):
                owner.add_module(part, torch.nn.Module())
            owner = getattr(owner, part)
        owner.register_buffer(path[-1], value.clone())
    archive.visual.__dict__.pop("in_features", None)
    archive.visual = _bare(archive.visual)
    for size in ("input_resolution", "context_length", "vocab_size"):
        archive.register_buffer(size, torch.tensor(1))
    torch.jit.script(archive).save(tmp_path / "ViT-B-16.pt")
    digest = hashlib.sha256((tmp_path / "ViT-B-16.pt").read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "openai_digests", lambda: {digest})
    assert torch.equal(
        clip.load("ViT-B-16-quickgelu", str(tmp_path / "ViT-B-16.pt")).encode_image(x), backbone.encode_image(x)
    )
    with pytest.raises(UserError, match="QuickGELU.*backbone='ViT-B-16-quickgelu'"):
        clip.load("ViT-B-16", str(tmp_path / "ViT-B-16.pt"))


def _bare(module: torch.nn.Module) -> torch.nn.Module:
    """The module's children and buffers without its own parameters."""
    bare = torch.nn.Module()
    for name, child in module.named_children():
        bare.add_module(name, child)
    for name, buffer in module.named_buffers(recurse=False):
        bare.register_buffer(name, buffer)
    return bare


def test_openai_weights_want_a_quickgelu_name():
    clip.check("ViT-B-16-quickgelu", "openai")
    with pytest.raises(UserError, match="backbone='ViT-B-16-quickgelu'"):
        clip.check("ViT-B-16", "openai")
    with pytest.raises(UserError, match="backbone='ViT-L-14-336-quickgelu'"):
        clip.check("ViT-L-14-336", "openai")


def test_names_that_are_wrong():
    assert clip.names()[0] == "clip-mini" and {"ViT-B-16-quickgelu", "ViT-B-32-quickgelu"} <= set(clip.names())
    with pytest.raises(UserError, match="ViT-B-16-quikgelu.*'ViT-B-16-quickgelu'"):
        clip.check("ViT-B-16-quikgelu", "")
    with pytest.raises(UserError, match="backbone='RN50-quickgelu'"):
        clip.check("RN50", "openai")
    with pytest.raises(UserError, match=r"missing\.pt.*tag.*openai.*tried /.*missing\.pt"):
        clip.check("ViT-B-32-quickgelu", "missing.pt")
    with pytest.raises(UserError, match="clip-mini"):
        clip.check("clip-mini", "openai")
    clip.check("clip-mini", "")


def test_a_file_of_another_model_is_refused(tiny_names, tmp_path):
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not hold weights of backbone 'ViT-B-16'"):
        clip.load("ViT-B-16", str(tmp_path / "other.safetensors"))
    (tmp_path / "noise.pt").write_bytes(b"no weights here")
    with pytest.raises(UserError, match="noise.pt cannot be read"):
        clip.load("ViT-B-16", str(tmp_path / "noise.pt"))


def test_a_tag_that_cannot_be_fetched_is_one_sentence(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(clip, "_config", lambda _name: {**SHAPE, "quick_gelu": True})
    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(UserError, match="'openai' for backbone 'ViT-B-16-quickgelu'.*no route to host") as caught:
        clip.load("ViT-B-16-quickgelu", "openai")
    assert "\n" not in str(caught.value)


def test_random_weights_follow_the_seed_and_clip_mini_is_small():
    def weights():
        torch.manual_seed(5)
        return clip.load("clip-mini", "").visual.conv1.weight

    assert torch.equal(weights(), weights())
    backbone = clip.load("clip-mini", "")
    assert (backbone.image_size, backbone.grid, backbone.layers, backbone.embed_dim) == (64, (8, 8), 4, 64)
    assert backbone.encode_text(["moving from left to right"]).shape == (1, 64)


def test_texts_longer_than_the_context_are_named_once(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_said", set())
    backbone = small()  # reads 12 tokens
    assert backbone.clip.context_length == 12
    ten = "a b c d e f g h i j"
    assert torch.equal(backbone.tokenize([ten])[0, -2:] != 0, torch.tensor([True, True]))
    backbone.encode_text(["cat"])
    backbone.tokenize(["internationalization of things"])
    assert capsys.readouterr().out == "", "what fits is no news"
    features = backbone.encode_text([f"{ten} running", f"{ten} jumping"], ["{}"])
    assert torch.equal(features[0], features[1])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "12 tokens" in said and f"'{ten} running', '{ten} jumping'" in said
    backbone.tokenize([f"{ten} running", f"{ten} jumping"])
    assert capsys.readouterr().out == ""
    backbone.tokenize(["x " * 200, *(f"{ten} {i}" for i in range(9))])
    said = capsys.readouterr().out
    assert "and 7 more" in said and len(said) < 300


def test_other_braces_of_a_template_are_letters():
    backbone = small()
    for template, text in (("a {photo} of {}", "a {photo} of cat"), ("} {} {", "} cat {"), ("{0} {}", "{0} cat")):
        assert torch.equal(backbone.encode_text(["cat"], [template]), backbone.encode_text([text], ["{}"]))
    assert torch.equal(backbone.encode_text(["{x}"], ["a {}"]), backbone.encode_text(["a {x}"], ["{}"]))


def test_names_in_open_clips_schemes_are_one_sentence_without_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    (tmp_path / "open_clip_model.safetensors").touch()
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32-quickgelu"), "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    for name, words in {
        f"local-dir:{tmp_path}": f"backbone='ViT-B-32-quickgelu' and pretrained='{tmp_path}'",
        "local-dir:nowhere": "the folder /.*nowhere does not exist",
        f"local-dir:{tmp_path.parent}": "name of the same architecture",
        "local-dir:": "name of the same architecture",
        "hf-hub:": "name of the same architecture",
        "hf-hub:timm/ViT-B-16-SigLIP": "name of the same architecture",
    }.items():
        for ask in (clip.check, clip.load, backbones.check):
            with pytest.raises(UserError, match=words) as caught:
                ask(name, "")
            assert "\n" not in str(caught.value)


def test_weights_of_another_name_are_refused_and_another_grid_is_said(tmp_path, monkeypatch, capsys):
    large = {**SHAPE, "vision_cfg": {**SHAPE["vision_cfg"], "image_size": 32}}
    monkeypatch.setattr(clip, "_config", {"ViT-L-14": SHAPE, "ViT-L-14-336": large}.__getitem__)
    monkeypatch.setattr(progress, "_said", set())
    backbone = clip.load("ViT-L-14", "")
    clip.save(backbone, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"was saved of backbone 'ViT-L-14', not 'ViT-L-14-336'; give backbone='ViT-L"):
        clip.load("ViT-L-14-336", str(tmp_path / "w.safetensors"))
    assert clip.load("ViT-L-14", str(tmp_path / "w.safetensors")).grid == (2, 2) and capsys.readouterr().out == ""
    for half in (False, True):  # of others, which say no name
        state = {name: value.half() if half else value for name, value in backbone.clip.state_dict().items()}
        save_file(state, tmp_path / f"{half}.safetensors", metadata={"activation": "GELU"})
        for _ in range(2):
            found = clip.load("ViT-L-14-336", str(tmp_path / f"{half}.safetensors"))
        assert found.grid == (4, 4) and found.encode_image(torch.randn(1, 3, 32, 32)).shape == (1, 16)
        said = capsys.readouterr().out
        assert said.count("\n") == 1 and "its 5 position embeddings are resized to the 17 of backbone 'ViT-L-" in said
