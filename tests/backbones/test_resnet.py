"""ResNets: timm's numbers, BatchNorm held or free, weight files of every kind, errors in one sentence."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

from vidlib.backbones import resnet
from vidlib.basics.errors import UserError
from vidlib.results import cost

TINY = "test_resnet"  # timm's own, of 0.5 million parameters


@pytest.fixture
def tiny():
    return resnet.load(TINY, "")


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", [TINY, "resnet10t", "resnet18", "resnetaa34d", "seresnet18", "resnet-mini"])
def test_stages_put_together_equal_timm(name):
    backbone, x = resnet.load(name, ""), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = backbone.stages(x)
        assert torch.equal(maps[-1], backbone.trunk.forward_features(x))
        assert torch.allclose(backbone.encode_image(x), backbone.trunk(x), atol=1e-6)
        assert torch.equal(backbone.pool(maps[-1]), backbone.encode_image(x))
    assert tuple(m.shape[1] for m in maps) == backbone.map_dims and backbone.embed_dim == backbone.map_dims[-1]
    assert [a.shape[-1] / b.shape[-1] for a, b in zip(maps, maps[1:], strict=False)] == [2, 2, 2]


def test_resnet50_has_the_sizes_of_the_papers():
    with torch.device("meta"):
        backbone = resnet.load("resnet50", "")
        shapes = [tuple(m.shape[1:]) for m in backbone.stages(torch.zeros(1, 3, 224, 224))]
        macs = cost.gmacs(backbone.encode_image, torch.zeros(1, 3, 224, 224))
    assert shapes == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
    assert (backbone.embed_dim, backbone.image_size) == (2048, 224)
    assert cost.parameters(backbone).loc["all", "total"] == 23_508_032  # torchvision's 25,557,032 without fc
    assert macs == pytest.approx(4.09, abs=0.02)


def test_facts_and_freezing(tiny):
    assert not tiny.has_text and tiny.logit_scale == 1.0
    assert (tiny.mean, tiny.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert tiny.encode_text(["a", "b", "c"]).shape == (3, 0)
    assert not any(p.requires_grad for p in tiny.parameters()) and not tiny.training
    assert {p.dtype for p in tiny.parameters()} == {torch.float32}


def _trained_a_step(backbone: resnet.ResNetBackbone) -> list[str]:
    """Train one step on a batch far from the running statistics; the keys of the trunk that changed."""
    backbone.unfreeze()
    backbone.train()
    before = _state(backbone.trunk)
    trained = [p for p in backbone.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=1e-3)
    backbone.encode_image(5 + torch.randn(4, 3, 64, 64)).square().sum().backward()
    if backbone.freeze_bn:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    optimiser.step()
    return [key for key, value in backbone.trunk.state_dict().items() if not torch.equal(value, before[key])]


def test_frozen_batchnorm_keeps_statistics_scales_and_shifts():
    backbone = resnet.load(TINY, "", freeze_bn=True)
    changed = _trained_a_step(backbone)
    norms = {name for name, m in backbone.trunk.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert changed and not {key.rpartition(".")[0] for key in changed} & norms
    assert len(changed) == len([m for m in backbone.trunk.modules() if isinstance(m, nn.Conv2d)])
    x = torch.randn(3, 3, 64, 64)
    assert torch.allclose(backbone.encode_image(x)[:1], backbone.encode_image(x[:1]), atol=1e-5)  # no look at the batch


def test_free_batchnorm_trains_as_ever():
    backbone = resnet.load(TINY, "", freeze_bn=False)
    changed = set(_trained_a_step(backbone))
    for name, module in backbone.trunk.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert {f"{name}.running_mean", f"{name}.running_var"} <= changed
            assert module.weight.requires_grad and module.bias.requires_grad
    assert {"bn1.weight", "bn1.bias"} <= changed  # in a branch that starts at zero they wait a step
    backbone.eval()
    before = _state(backbone.trunk)
    backbone.encode_image(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in backbone.trunk.state_dict().items())


def test_a_trunk_that_does_not_train_keeps_its_statistics_whatever_freeze_bn():
    backbone = resnet.load(TINY, "", freeze_bn=False).train()
    before = _state(backbone.trunk)
    backbone.encode_image(5 + torch.randn(4, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in backbone.trunk.state_dict().items())
    backbone.unfreeze()  # after train(), as much as before it
    assert all(m.training for m in _norms(backbone))


def test_random_weights_follow_the_seed():
    def weights(name):
        torch.manual_seed(5)
        return resnet.load(name, "").trunk.state_dict()

    for name in (TINY, "resnet-mini"):
        one, two = weights(name), weights(name)
        assert all(torch.equal(one[key], two[key]) for key in one)
        torch.manual_seed(6)
        assert not torch.equal(resnet.load(name, "").trunk.layer1[0].conv1.weight, one["layer1.0.conv1.weight"])


def test_save_and_load_keep_weights_and_normalisation(tmp_path):
    backbone = resnet.load(TINY, "", freeze_bn=False)
    backbone.mean, backbone.std, backbone.image_size = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 96
    backbone.unfreeze()
    backbone.train().encode_image(torch.randn(4, 3, 64, 64))  # statistics of its own
    resnet.save(backbone, tmp_path / "w.safetensors")
    again, x = resnet.load(TINY, str(tmp_path / "w.safetensors")), torch.randn(2, 3, 64, 64)
    assert torch.equal(again.encode_image(x), backbone.eval().encode_image(x))
    assert (tuple(again.mean), tuple(again.std), again.image_size) == ((0.5,) * 3, (0.2,) * 3, 96)
    with pytest.raises(UserError, match="another backbone.*backbone='test_resnet'"):
        resnet.load("resnet18", str(tmp_path / "w.safetensors"))


def test_files_of_every_kind(tiny, tmp_path):
    state, x = tiny.trunk.state_dict(), torch.randn(2, 3, 64, 64)
    classifier = {"fc.weight": torch.zeros(10, tiny.embed_dim), "fc.bias": torch.zeros(10)}
    torch.save(state | classifier, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "training.pt")
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "old.pth")
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "half.safetensors")
    for file, tolerance in (("plain.pth", 0), ("training.pt", 0), ("old.pth", 0), ("half.safetensors", 2e-2)):
        torch.manual_seed(9)
        loaded = resnet.load(TINY, str(tmp_path / file))
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert torch.allclose(loaded.encode_image(x), tiny.encode_image(x), atol=tolerance, rtol=0)
        assert loaded.image_size == tiny.image_size


def test_torchvisions_weights_give_torchvisions_features(tmp_path):
    theirs = torchvision_resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    ours, x = resnet.load("resnet18", str(tmp_path / "tv.pth")), torch.randn(2, 3, 64, 64)
    theirs.fc = nn.Identity()
    assert torch.allclose(ours.encode_image(x), theirs(x), atol=1e-5)


def test_files_that_do_not_fit_are_refused_by_their_keys(tiny, tmp_path):
    state = tiny.trunk.state_dict()
    cases = {
        "lacks conv1.0.weight": {k: v for k, v in state.items() if k != "conv1.0.weight"},
        "has unknown head.bias": {**state, "head.bias": torch.zeros(1)},
        "has other shapes of conv1.0.weight": {**state, "conv1.0.weight": torch.zeros(1)},
        "lacks .* and .* more; it has unknown other": {"other": torch.zeros(1)},
    }
    for words, bad in cases.items():
        torch.save(bad, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=f"bad.pt does not fit backbone '{TINY}': it .*{words}"):
            resnet.load(TINY, str(tmp_path / "bad.pt"))
    (tmp_path / "noise.pt").write_bytes(b"no weights here")
    (tmp_path / "noise.safetensors").write_bytes(b"no weights here")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "pickled.pt")  # code in a file is not run
    for file in ("noise.pt", "noise.safetensors", "list.pt", "empty.pt", "pickled.pt"):
        with pytest.raises(UserError, match=f"{file} (cannot be read|holds)") as caught:
            resnet.load(TINY, str(tmp_path / file))
        assert "\n" not in str(caught.value)


def test_names_that_are_wrong():
    assert resnet.names()[0] == "resnet-mini" and {"resnet18", "resnet50"} <= set(resnet.names())
    resnet.check("resnet50", "a1_in1k")
    resnet.check("resnet-mini", "")
    with pytest.raises(UserError, match="resnet5' is unknown.*'resnet50'"):
        resnet.check("resnet5", "")
    with pytest.raises(UserError, match=r"a1_in2k.*tag of resnet50 \(a1_in1k,.*did you mean 'a1_in1k'"):
        resnet.check("resnet50", "a1_in2k")
    with pytest.raises(UserError, match=r"missing\.pt.*tried /.*missing\.pt"):
        resnet.check("resnet-mini", "missing.pt")


def test_a_tag_brings_its_size_and_normalisation(monkeypatch):
    def downloaded(name, pretrained, **start):
        assert (name, pretrained) == ("test_resnet.r160_in1k", True)
        trunk = real(TINY, pretrained=False, **start)
        trunk.pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.5,) * 3, "std": (0.25,) * 3}
        return trunk

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", downloaded)
    backbone = resnet.load(TINY, "r160_in1k")
    assert (backbone.image_size, backbone.mean, backbone.std) == (48, (0.5,) * 3, (0.25,) * 3)


def test_a_tag_that_cannot_be_fetched_is_one_sentence(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match="'a1_in1k' for backbone 'resnet50'.*no route to host.*local file") as caught:
        resnet.load("resnet50", "a1_in1k")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [32, 64, 96, 224])
def test_resnet_mini_takes_other_sizes_and_is_small(size):
    backbone = resnet.load("resnet-mini", "")
    shapes = [m.shape[-1] for m in backbone.stages(torch.randn(1, 3, size, size))]
    assert shapes == [size // 2, size // 4, size // 8, size // 16]
    assert cost.parameters(backbone).loc["all", "total"] == 1_129_432
    assert cost.gmacs(backbone.encode_image, torch.zeros(1, 3, 64, 64)) == pytest.approx(0.0371, abs=1e-3)


def test_gradients_reach_every_branch_of_a_random_network_with_frozen_scales():
    """A branch that ends in a frozen zero would never train; with free scales it starts at zero, as in timm."""
    held, free = (resnet.load("resnet-mini", "", freeze_bn=f).trunk.layer1[0].bn2.weight for f in (True, False))
    assert held.ne(0).all() and free.eq(0).all()
    assert len(_trained_a_step(resnet.load("resnet-mini", "")))


def test_bfloat16(tiny):
    x = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = tiny.encode_image(x)
    whole = tiny.encode_image(x)
    assert torch.allclose(half.float(), whole, rtol=0.1, atol=0.05 * whole.abs().max().item())
