"""Counts agree with closed forms, whatever mode and gradients the module is in."""

import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from vidlib.basics.errors import UserError
from vidlib.results import cost


def tower(device: str = "cpu", **change: int) -> VisionTransformer:
    shape = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "output_dim": 48} | change
    with torch.device(device):
        return VisionTransformer(mlp_ratio=4.0, **shape)


# ---------------------------------------------------------------- multiply-adds


def vit_gmacs(
    image: int,
    patch: int,
    width: int,
    layers: int,
    mlp_ratio: float = 4.0,
    embed_dim: int = 0,
    extra: int = 0,
) -> float:
    """Closed form of one frame through a ViT, in GMACs.

    ``image`` and ``patch`` are sides in pixels; every block sees (image/patch)^2 patches, one class token and ``extra``
    tokens; ``embed_dim`` > 0 adds CLIP's projection of the class token. With N tokens of width D a block has 4ND^2
    (query, key, value, output), 2N^2D (scores, weighted sum) and 2rND^2 (MLP of ratio r) multiply-adds.
    """
    patches = (image // patch) ** 2
    tokens = patches + 1 + extra
    embedding = patches * 3 * patch**2 * width
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * int(width * mlp_ratio)
    return (embedding + layers * block + width * embed_dim) / 1e9


def test_gmacs_of_vit_b_16_equal_the_closed_form():
    shape = open_clip.get_model_config("ViT-B-16")["vision_cfg"]
    vit = tower(
        "meta", image_size=224, patch_size=16, width=shape["width"], layers=shape["layers"], heads=12, output_dim=512
    )
    counted = cost.gmacs(vit, torch.zeros(2, 3, 224, 224, device="meta")) / 2
    assert counted == pytest.approx(vit_gmacs(224, 16, 768, 12, 4.0, 512), rel=1e-12)
    assert counted == pytest.approx(17.563, abs=5e-4)  # 35.13 GFLOPs, halved


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_gmacs_do_not_depend_on_mode_freezing_or_gradients(frozen, training, grad):
    vit = tower().train(training).requires_grad_(not frozen)
    with torch.set_grad_enabled(grad):
        counted = cost.gmacs(vit, torch.randn(3, 3, 32, 32)) / 3
    assert counted == pytest.approx(vit_gmacs(32, 8, 64, 2, 4.0, 48), rel=1e-12)
    assert torch.backends.mha.get_fastpath_enabled()


def test_extra_tokens_in_the_closed_form():
    vit = tower()
    x = torch.randn(1, 17 + 2, 64)
    blocks = cost.gmacs(vit.transformer, x)
    closed = [vit_gmacs(32, 8, 64, layers, 4.0, 0, extra=2) for layers in (0, 2)]
    assert blocks == pytest.approx(closed[1] - closed[0], rel=1e-12)


def test_gmacs_of_a_function_with_keywords():
    def product(a, *, b):
        return a @ b

    assert cost.gmacs(product, torch.randn(10, 20), b=torch.randn(20, 30)) == pytest.approx(10 * 20 * 30 / 1e9)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_gradients_of_a_convolution_cost_its_sum_twice(groups):
    layer, x = nn.Conv2d(8, 12, 3, padding=1, groups=groups), torch.randn(2, 8, 5, 5, requires_grad=True)
    once = 2 * 5 * 5 * 12 * (8 // groups) * 9 / 1e9
    assert cost.gmacs(layer, x) == pytest.approx(once)
    assert cost.gmacs(lambda: layer(x).sum().backward()) == pytest.approx(3 * once)


# ---------------------------------------------------------------- parameters


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(4, 5)
        self.second.weight = self.first.weight
        self.act = nn.GELU()
        self.second.bias.requires_grad_(False)


def test_parts_add_up_and_shared_parameters_count_once():
    module = Shared()
    table = cost.parameters(module)
    assert table.index.tolist() == ["first", "second", "act", "(own)", "all"]
    assert table["total"].tolist() == [25, 5, 0, 3, 33]
    assert table["trainable"].tolist() == [25, 0, 0, 3, 28]
    assert table.loc["all", "total"] == sum(p.numel() for p in module.parameters())
    assert (table.drop("all").sum() == table.loc["all"]).all()


def test_named_parts_and_the_rest():
    module = Shared()
    table = cost.parameters(module, {"weights": [module.first.weight], "scale": module.scale})
    assert table["total"].to_dict() == {"weights": 20, "scale": 3, "rest": 10, "all": 33}
    module.parameter_parts = lambda: {"linear": module.first}
    assert cost.parameters(module).index.tolist() == ["linear", "rest", "all"]
    with pytest.raises(UserError, match="'other' holds 2 parameters"):
        cost.parameters(module, {"other": nn.Linear(2, 2)})


# ---------------------------------------------------------------- time and memory


def test_throughput_counts_clips_per_second():
    calls = []
    rate = cost.throughput(lambda: calls.append(torch.ones(1)), clips=8, seconds=0.02, warmup=2)
    timed = len(calls) - 2
    assert timed >= 1 and 0 < rate <= 8 * timed / 0.02


def test_peak_memory_follows_tensors_that_live_together():
    x = torch.randn(2**18)  # 1 MiB, there before the call

    def chain():
        y = x * 2
        z = y + 1
        del y
        return (z + 1).sum().item()

    def pile():
        y = x * 2
        z = y + 1
        return (z + y + 1).view(2, -1).sum().item()

    assert cost.peak_memory(chain, device="cpu") == pytest.approx(2, abs=0.01)
    assert cost.peak_memory(pile, device="cpu") == pytest.approx(4, abs=0.01)
    assert cost.peak_memory(lambda: x.mul_(2), device="cpu") == 0


def test_peak_memory_of_training_holds_activations_gradients_and_parameters():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(8)])  # 0.25 MiB each
    x = torch.randn(1024, 256)  # activations of 1 MiB each

    def infer():
        with torch.no_grad():
            net(x)

    def step():
        net(x).sum().backward()

    assert cost.peak_memory(infer, device="cpu") == pytest.approx(2, abs=0.01)
    first = cost.peak_memory(step, device="cpu")
    assert 8 <= first <= 8 + 2 + 1.1
    net.zero_grad(set_to_none=True)
    assert cost.peak_memory(step, holding=net) == pytest.approx(first + 2, abs=0.01)
