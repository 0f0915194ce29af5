"""The door for files of weights: nothing in them runs, what they cannot tell is said, other codes' names are read."""

import argparse
import ast
import hashlib
import json
import pickle
import re
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.backbones.test_clip import SHAPE
from vidlib.backbones import clip, resnet, weights
from vidlib.basics import progress
from vidlib.basics.errors import UserError
from vidlib.cli import report_checkpoint
from vidlib.methods.released import load_released

ROOT = Path(__file__).resolve().parents[2]
READERS = {
    "clip": lambda path: clip.load("ViT-B-16", path),
    "resnet": lambda path: resnet.load("resnet-mini", path),
    "load_released": lambda path: load_released("trx", path),
    "report checkpoint": report_checkpoint.lines,
}


@pytest.fixture
def tiny_names(monkeypatch):
    """ViT-B-16 and its QuickGELU twin, at a size that a test can afford; nothing was said before."""
    configs = {"ViT-B-16": SHAPE, "ViT-B-16-quickgelu": {**SHAPE, "quick_gelu": True}}
    monkeypatch.setattr(clip, "_config", configs.__getitem__)
    monkeypatch.setattr(progress, "_said", set())


class Writes(torch.nn.Module):
    """TorchScript runs ``__setstate__`` while it reads an archive; this one's writes a file."""

    def __init__(self, target):
        super().__init__()
        self.target = str(target)

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.target, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.target = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), state[0])


class Opens:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


def _zip_of_a_pickle(path, target):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": Opens(target)}))
        file.writestr("archive/version", "3\n")


HOSTILE = {
    "script.pt": lambda path, target: torch.jit.script(Writes(target)).save(path),
    "zip.pt": lambda path, target: torch.save({"a": torch.ones(1), "b": Opens(target)}, path),
    "old.pth": lambda path, target: torch.save({"b": Opens(target)}, path, _use_new_zipfile_serialization=False),
    "bare.pkl": lambda path, target: path.write_bytes(pickle.dumps(Opens(target))),
    "named.npz": _zip_of_a_pickle,
    "script.npy": lambda path, target: torch.jit.script(Writes(target)).save(path),
    "named.safetensors": lambda path, target: torch.jit.script(Writes(target)).save(path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_is_given_as_weights_runs(reader, name, tmp_path, tiny_names):
    path, target = tmp_path / name, tmp_path / "written"
    HOSTILE[name](path, target)
    with pytest.raises(UserError, match=rf"{name}.*(could run code|cannot be read)") as caught:
        READERS[reader](str(path))
    assert not target.exists() and "\n" not in str(caught.value)


def test_the_hostile_archive_would_write_where_it_is_read(tmp_path):
    torch.jit.script(Writes(tmp_path / "written")).save(tmp_path / "a.pt")
    assert not (tmp_path / "written").exists()
    torch.jit.load(tmp_path / "a.pt")
    assert (tmp_path / "written").exists()


def test_torchscript_is_read_where_openai_published_it(tmp_path, monkeypatch):
    assert len(weights.openai_digests()) == 9 and all(re.fullmatch("[0-9a-f]{64}", d) for d in weights.openai_digests())
    path = tmp_path / "theirs.pt"
    torch.jit.script(torch.nn.Linear(2, 1)).save(path)
    with pytest.raises(UserError, match="none of those that OpenAI published"):
        weights.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "openai_digests", lambda: {digest})
    stored = weights.read(path)
    assert stored.tensors.keys() == {"weight", "bias"} and stored.notes == {"activation": "QuickGELU"}


def test_every_reader_of_weights_goes_through_the_door():
    """Whatever reads a pickle or TorchScript stands in weights.py; guard.py talks to a child of its own."""
    readers = {"load", "loads", "load_file", "Unpickler", "load_state_dict_from_url", "load_checkpoint"}
    of = {"torch", "jit", "pickle", "joblib", "dill", "hub", "package", "open_clip", "safetensors"}
    found = set()
    for path in (ROOT / "vidlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in readers:
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                found |= {path.name} if owner in of else set()
    assert found == {"weights.py", "guard.py"}


def test_a_file_says_what_it_cannot_tell(tiny_names, tmp_path, capsys):
    quick = clip.load("ViT-B-16-quickgelu", "")
    save_file(quick.clip.state_dict(), tmp_path / "bare.safetensors")
    torch.save(quick.clip.state_dict(), tmp_path / "bare.pt")
    for file in ("bare.safetensors", "bare.pt"):
        clip.load("ViT-B-16", str(tmp_path / file))
        said = capsys.readouterr().out
        assert said.count("\n") == 1 and all(
            words in said for words in (file, "activation", "runs with GELU", "mean", "backbone='ViT-B-16-quickgelu'")
        )
        clip.load("ViT-B-16", str(tmp_path / file))
        assert capsys.readouterr().out == "", "once"
        clip.load("ViT-B-16-quickgelu", str(tmp_path / file))
        assert "runs with QuickGELU" in capsys.readouterr().out
    clip.save(quick, tmp_path / "ours.safetensors")
    clip.load("ViT-B-16-quickgelu", str(tmp_path / "ours.safetensors"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}}),
        ("config.json", {"model_type": "clip", "vision_config": {}}),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}),
    ],
)
def test_the_file_beside_the_weights_is_asked(name, config, tiny_names, tmp_path):
    save_file(clip.load("ViT-B-16-quickgelu", "").clip.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / name).write_text(json.dumps(config))
    clip.load("ViT-B-16-quickgelu", str(tmp_path / "model.safetensors"))
    with pytest.raises(UserError, match="QuickGELU.*backbone='ViT-B-16-quickgelu'"):
        clip.load("ViT-B-16", str(tmp_path / "model.safetensors"))


def _as_transformers(state):
    """The same weights by the names of transformers' CLIPModel."""
    found = {}
    for name, value in state.items():
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        name = name.removeprefix("visual.")
        if name.startswith("transformer.resblocks."):
            layer, rest = re.match(r"transformer\.resblocks\.(\d+)\.(.*)", name).groups()
            stem = f"{tower}.encoder.layers.{layer}"
            if rest.startswith("attn.in_proj_"):
                for part, third in zip("qkv", value.chunk(3), strict=True):
                    found[f"{stem}.self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}"] = third.clone()
                continue
            there = {"attn.": "self_attn.", "ln_": "layer_norm", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
            for ours, theirs in there.items():
                rest = rest.replace(ours, theirs)
            found[f"{stem}.{rest}"] = value.clone()
            continue
        ends = {
            "class_embedding": "embeddings.class_embedding",
            "conv1.weight": "embeddings.patch_embedding.weight",
            "positional_embedding": "embeddings.position_embedding.weight",
            "token_embedding.weight": "embeddings.token_embedding.weight",
        }
        norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm", "ln_final": "final_layer_norm"}
        if name in ("proj", "text_projection"):
            found["visual_projection.weight" if name == "proj" else "text_projection.weight"] = value.T.clone()
        elif name == "logit_scale":
            found[name] = value.clone()
        elif name in ends:
            found[f"{tower}.{ends[name]}"] = value.clone()
        else:
            norm, part = name.split(".")
            found[f"{tower}.{norms[norm]}.{part}"] = value.clone()
    found["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    return found


def test_clip_by_transformers_names_is_read(tiny_names, tmp_path):
    torch.manual_seed(1)
    backbone, x = clip.load("ViT-B-16-quickgelu", ""), torch.randn(2, 3, 16, 16)
    state = _as_transformers(backbone.clip.state_dict())
    assert "vision_model.encoder.layers.0.self_attn.q_proj.weight" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    again = clip.load("ViT-B-16-quickgelu", str(tmp_path / "pytorch_model.bin"))
    assert torch.equal(again.encode_image(x), backbone.encode_image(x))
    assert torch.equal(again.encode_text(["a cat"]), backbone.encode_text(["a cat"]))
    del state["vision_model.encoder.layers.0.mlp.fc1.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lacks visual\.transformer\.resblocks\.0\.mlp\.c_fc\.bias"):
        clip.load("ViT-B-16-quickgelu", str(tmp_path / "pytorch_model.bin"))


def test_a_state_of_another_size_names_what_does_not_fit(tiny_names, tmp_path):
    state = open_clip.CLIP(**{**SHAPE, "embed_dim": 8}).state_dict()
    torch.save(state, tmp_path / "narrow.pt")
    with pytest.raises(UserError, match=r"narrow.pt does not .*other shapes of text_projection, visual\.proj"):
        clip.load("ViT-B-16", str(tmp_path / "narrow.pt"))


@pytest.mark.parametrize("reader", READERS)
def test_a_checkpoint_with_its_arguments_says_so_everywhere(reader, tmp_path, tiny_names):
    path = tmp_path / "with_args.pt"
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": {"a": torch.ones(1)}}, path)
    with pytest.raises(UserError, match=r"\(argparse.Namespace\).*save its state dict alone"):
        READERS[reader](str(path))
