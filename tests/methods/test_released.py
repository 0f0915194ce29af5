"""Released checkpoints: what is read, what is refused and in which words, and that no weight stays as it was built."""

import argparse
import re

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests import official
from vidlib import methods
from vidlib.backbones import weights
from vidlib.backbones.clip_resnet import CLIPResNetBackbone
from vidlib.basics.errors import UserError
from vidlib.methods import released
from vidlib.methods.released import trunks

load = released.load_released


def clip_of(method: str, frames: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    size = 16 if method == "clip_fsar" else 32
    return torch.randn(2, frames, 3, size, size, generator=generator)


@pytest.mark.parametrize("method", official.METHODS)
def test_golden_states_in_their_containers_give_the_released_method(method, tmp_path):
    """The same features as the golden state loaded by the method itself on a backbone that has the trunk already."""
    tower = official.backbone(method, seed=5)
    state = official.official(method, tower)
    torch.save(official.saved(method, state), tmp_path / "official.pth")
    found = load(method, tmp_path / "official.pth", backbone=official.backbone(method))
    sizes = {name: value for name, value in released.survey(method, state).sizes.items() if name != "features"}
    direct = methods.build(method, tower, variant="released", **sizes)
    direct.load_released(official.head(method))
    assert type(found) is type(direct) and found.frames == 8 and not found.training
    with torch.no_grad():
        ours, theirs = (m.eval().embed(clip_of(method), None, "query") for m in (found, direct))
    assert ours.keys() == theirs.keys()
    held = [key for key in ours if not key.startswith("similarity")]  # STRM's classifier is in no file
    assert held and all(torch.equal(ours[key], theirs[key]) for key in held)
    not_held = r"similarity|backbone\.clip\.(?!visual)" + (r"|.*visual\.proj" if method == "aim" else "")
    kept = {name: value for name, value in direct.state_dict().items() if not re.match(not_held, name)}
    assert len(kept) > 20 and all(torch.equal(found.state_dict()[name], value) for name, value in kept.items())


@pytest.mark.parametrize("method", official.METHODS)
def test_golden_states_are_recognised_and_surveyed(method):
    state = official.official(method)
    assert released.recognise(state) == method
    found = released.survey(method, state)
    assert found.missing == found.unknown == () and found.trunk and not found.backbone
    wrapped = weights.tidy(weights.unwrap(official.saved(method, state)).tensors)
    again = released.survey(method, wrapped)
    assert (again.sizes, again.missing, again.unknown) == (found.sizes, (), ())


@pytest.mark.parametrize("method", official.METHODS)
def test_golden_states_with_a_name_missing_or_too_many_are_refused_with_it(method):
    state, backbone = official.official(method), official.backbone(method)
    needed = [name for name in state if name not in released.survey(method, state).unused]
    needed = [name for name in needed if not name.endswith("num_batches_tracked")]
    optional = [n for n in needed if n.startswith("classification_layer") or "T_Adapter_in" in n]
    for name in needed[:: max(1, len(needed) // 12)]:
        if name in optional:
            continue
        with pytest.raises(UserError) as error:
            load(method, {key: value for key, value in state.items() if key != name}, backbone=backbone)
        assert name in str(error.value) or "holds no image tower" in str(error.value), (name, error.value)
    with pytest.raises(UserError, match="unknown decoder.bias, decoder.weight"):
        load(method, state | {"decoder.bias": torch.ones(1), "decoder.weight": torch.ones(1)}, backbone=backbone)


@pytest.mark.parametrize("method", [name for name in official.METHODS if name not in ("aim", "clip_fsar")])
def test_golden_states_do_without_what_is_declared_unused(method):
    state = official.official(method)
    for name in released.survey(method, state).unused:
        if not name.endswith("transformers.0.pe.pe"):
            state.pop(name)
    load(method, state, backbone=official.backbone(method))


def test_golden_sizes_follow_from_shapes():
    sizes = {method: released.survey(method, official.official(method)).sizes for method in official.METHODS}
    cross = {"features": 64, "frames": 8}
    assert sizes["trx"] == cross | {"cardinalities": (2, 3), "out_dim": 48}
    assert sizes["strm"] == cross | {"cardinalities": (2, 3), "out_dim": 48, "grid": (4, 4)}
    assert sizes["sloshnet"] == cross | {"cardinalities": (1, 2), "projection": 48}
    assert sizes["hyrsm"] == {"features": 64, "classes": 12}
    assert sizes["molo"] == {"features": 64, "classes": 10, "factor": 8}
    assert sizes["clip_fsar"] == {"features": 64}
    assert sizes["aim"] == {"features": 64, "frames": 8, "num_tadapter": 2, "ratio": 0.25}


@pytest.mark.parametrize("frames", [4, 8, 9, 12, 16])
def test_frames_follow_from_the_table_of_positions(frames):
    state = {"transformers.0.pe.pe": torch.zeros(1, int(1.5 * frames), 8)}
    assert released.formats.frames_of(state, "transformers.0.pe.pe") == {"frames": frames}


@pytest.mark.parametrize("name", official.RESNETS)
def test_a_trunk_tells_its_backbone(name):
    state = official.resnet18_state("resnet", *official.RESNETS[name])
    trunk = trunks.resnet(state, "resnet")
    assert trunk.name == trunk.words == name
    counted = {key for key in state if key.endswith("num_batches_tracked")}
    assert set(trunk.needed) == state.keys() - counted


def test_golden_heads_alone_keep_the_backbone_that_was_given():
    tower = official.backbone("trx", seed=5)
    before = {name: value.clone() for name, value in tower.trunk.state_dict().items()}
    found = load("trx", official.head("trx"), backbone=tower)
    assert all(torch.equal(value, before[name]) for name, value in found.backbone.trunk.state_dict().items())
    with pytest.raises(UserError, match="holds no image tower: give backbone="):
        load("trx", official.head("trx"))


def test_the_backbone_is_built_as_the_trunk_tells():
    torch.manual_seed(0)
    state = official.resnet18_state("resnet")
    for kind in ("k_linear", "v_linear"):
        state |= {
            f"transformers.0.{kind}.weight": torch.randn(16, 1024),
            f"transformers.0.{kind}.bias": torch.zeros(16),
        }
    state |= {f"transformers.0.norm_k.{kind}": torch.ones(16) for kind in ("weight", "bias")}
    found = load("trx", state, frames=4)
    assert found.backbone.name == "resnet18" and found.frames == 4
    assert found.backbone.mean == (0.0,) * 3 and found.backbone.std == (1.0,) * 3  # TRX's code normalises nothing
    assert torch.equal(found.backbone.trunk.conv1.weight, state["resnet.0.weight"])
    with pytest.raises(UserError, match="no argument 'frame'.*frames"):
        load("trx", state, frame=4)


def test_golden_input_statistics_are_those_of_the_released_test():
    states = {method: official.official(method) for method in ("hyrsm", "sloshnet")}
    hyrsm, sloshnet = (load(m, state, backbone=official.backbone(m)) for m, state in states.items())
    assert hyrsm.backbone.mean == (0.45,) * 3 and hyrsm.backbone.std == (0.225,) * 3
    assert sloshnet.backbone.mean == official.backbone("sloshnet").mean
    sized = load("hyrsm", states["hyrsm"], backbone=official.backbone("hyrsm"), image_size=48)
    assert sized.backbone.image_size == 48


def test_golden_state_of_another_code_or_no_code_is_named():
    with pytest.raises(UserError, match="written by the released code of molo, not of hyrsm"):
        load("hyrsm", official.official("molo"), backbone=official.backbone("hyrsm"))
    with pytest.raises(UserError, match="has no released code that is known; did you mean 'strm'"):
        load("strn", {})
    with pytest.raises(UserError, match="there are sloshnet, strm, trx"):
        load("gghm", {})
    with pytest.raises(UserError, match="holds no state dict"):
        load("trx", {})


def test_golden_width_must_be_the_backbones():
    with pytest.raises(UserError, match=r"width 64.*test_resnet have \d+"):
        load("trx", official.head("trx"), backbone="test_resnet")


def test_golden_strm_refuses_the_score_whose_weights_were_never_saved():
    state, tower = official.official("strm"), official.backbone("strm")
    found = load("strm", state, backbone=tower)
    assert found.missing and all(name.startswith("similarity.") for name in found.missing)
    features = {name: value[None] for name, value in found.embed(clip_of("strm"), None, "query").items()}
    given = (features, torch.tensor([[0, 1]]), features, torch.zeros(1, 2, 0))
    with pytest.raises(UserError, match="similarity_weight=0"):
        found.match(*given)
    without = load("strm", state, backbone=tower, similarity_weight=0.0)
    features = {name: value[None] for name, value in without.embed(clip_of("strm"), None, "query").items()}
    assert without.missing == ()
    assert without.match(features, torch.tensor([[0, 1]]), features, torch.zeros(1, 2, 0)).logits.isfinite().all()


def test_golden_clip_fsar_refuses_texts_without_a_text_tower(monkeypatch):
    state = official.official("clip_fsar")
    given = load("clip_fsar", state, backbone=official.backbone("clip_fsar"))
    assert given.missing == () and given.backbone.encode_text(["jumping"]).shape == (1, 64)
    monkeypatch.setattr(released.backbones, "load", lambda name, pretrained: official.backbone("clip_fsar"))
    found = load("clip_fsar", state, backbone="ViT-of-a-test")
    assert found.missing == ("the text tower",)
    with pytest.raises(UserError, match="holds no text tower.*pretrained='openai'"):
        found.backbone.encode_text(["jumping"])
    assert load("clip_fsar", state, backbone="ViT-of-a-test", pretrained="some").missing == ()


def test_golden_clip_fsar_on_clips_own_resnet():
    """What every released recipe of CLIP-FSAR tunes."""

    def resnet(seed):
        torch.manual_seed(seed)
        vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}
        model = open_clip.CLIP(64, vision, official.TEXT, quick_gelu=True)
        return CLIPResNetBackbone(model, "small", (0.5,) * 3, (0.5,) * 3)

    tower = resnet(1)
    state = official.head("clip_fsar") | {f"backbone.{n}": v.clone() for n, v in tower.trunk.state_dict().items()}
    found = load("clip_fsar", state, backbone=resnet(2))
    clips = torch.randn(1, 8, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.frame_features(clips)[0], tower.encode_image(clips[0]))
        maps = found.backbone.stages(clips[0])
        assert torch.allclose(found.backbone.pool(maps[-1]), tower.encode_image(clips[0]), atol=1e-6)
    assert [x.shape[1] for x in maps] == list(found.backbone.map_dims)
    with pytest.raises(UserError, match="lacks backbone.attnpool.k_proj.bias"):
        load("clip_fsar", {n: v for n, v in state.items() if n != "backbone.attnpool.k_proj.bias"}, backbone=tower)


def test_weights_that_a_method_forgets_to_read_are_named(monkeypatch):
    state = official.official("hyrsm")
    whole = methods.METHODS["hyrsm"].load_released

    def forgetful(self, given):
        self.load_trunk(given)

    monkeypatch.setattr(methods.METHODS["hyrsm"], "load_released", forgetful)
    with pytest.raises(UserError, match="leaves weights of HyRSM as they were built: intra.norm.weight"):
        load("hyrsm", state, backbone=official.backbone("hyrsm"))
    monkeypatch.setattr(methods.METHODS["hyrsm"], "load_released", whole)
    bent = state | {"layer2.0.bias": torch.zeros(3)}
    with pytest.raises(UserError, match="does not fit HyRSM as it was built: .*size mismatch"):
        load("hyrsm", bent, backbone=official.backbone("hyrsm"))


@pytest.mark.parametrize(
    ("inside", "container"),
    [
        (lambda state: state, ""),
        (lambda state: {"model_state_dict": state, "iteration": 3}, "model_state_dict"),
        (lambda state: {"weights of mine": state, "iteration": 3}, "weights of mine"),
        (lambda state: {"state_dict": state, "optimizer": {"state": {"a": torch.ones(1)}}}, "state_dict"),
        (lambda state: state | {"note": "text"}, ""),
    ],
)
def test_containers_are_opened(inside, container, tmp_path):
    state = {"module.a.weight": torch.ones(2), "module.a.bias": torch.zeros(2)}
    torch.save(inside(state), tmp_path / "file.tar")
    stored = weights.read(tmp_path / "file.tar")
    assert stored.container == container and stored.tensors.keys() == state.keys()
    assert weights.tidy(stored.tensors).keys() == {"a.weight", "a.bias"}
    save_file(state, tmp_path / "file.safetensors", {"author": "me"})
    assert weights.read(tmp_path / "file.safetensors").notes == {"author": "me"}


def test_wrappers_are_taken_away_only_where_they_hold_everything():
    ones = torch.ones(1)
    assert weights.tidy({"module.head.a": ones, "module.head.b": ones}).keys() == {"a", "b"}
    assert weights.tidy({"head.a": ones, "backbone.module.b": ones}).keys() == {"head.a", "backbone.b"}


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no weights"), "damaged, or of another kind"),
        (
            lambda path: torch.save({"args": argparse.Namespace(a=1), "a": torch.ones(1)}, path),
            r"\(argparse.Namespace\)",
        ),
        (lambda path: torch.save({"a": torch.ones(1), "b": Harmful()}, path), "could run code"),
        (lambda path: torch.save({"b": Harmful()}, path, _use_new_zipfile_serialization=False), r"\(_?pytest.*\)"),
        (lambda path: torch.save([torch.ones(1)], path), "holds no state dict"),
        (lambda path: torch.save({"one": {"a": torch.ones(1)}, "two": {"b": torch.ones(1)}}, path), "no state dict"),
        (lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path), "TorchScript"),
    ],
)
def test_files_that_cannot_be_read_say_why_in_one_sentence(write, words, tmp_path):
    write(tmp_path / "bad.pt")
    with pytest.raises(UserError, match=words) as error:
        weights.read(tmp_path / "bad.pt")
    assert "bad.pt" in str(error.value) and "\n" not in str(error.value)
