"""SloshNet: the released variant against golden tensors, the paper's against the literal maths, each defect alone."""

import copy
import dataclasses

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from tests.conftest import golden
from tests.literal import sloshnet as literal
from tests.methods.small import FRAMES, WAY, batch, make, same, shaken
from vidlib import methods
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.errors import UserError
from vidlib.layers.fusion_search import FusionCell, SpatialModulation
from vidlib.methods.sloshnet import DEFECTS
from vidlib.testing.checks import one

STAGES = (8, 16, 32, 64)


class Maps(nn.Module):
    """A backbone whose stage maps are given: the golden tensors begin behind it."""

    embed_dim, map_dims, has_text = 64, STAGES, False

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(1, 1)

    def unfreeze(self) -> None:
        pass

    def pool(self, deepest):
        return deepest.mean((-2, -1))


def released(cardinalities=(1, 2), **arguments):
    meta, tensors = golden("sloshnet")
    config = meta["config"]
    still = {"projection": config["trans_linear_out_dim"], "dropout": 0.0, "variant": "released", **arguments}
    method = methods.build("sloshnet", Maps(), frames=config["seq_len"], cardinalities=cardinalities, **still)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    if cardinalities == (1,):
        state = {key: value for key, value in state.items() if not key.startswith("transformers.1.")}
    method.load_released(state)
    return method.eval(), tensors, state


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-12)


def stages(tensors, role: str, frames: int = 0) -> list[torch.Tensor]:
    maps = [tensors[f"input.{role}_c{channels}"] for channels in STAGES]
    return [x.unflatten(0, (-1, frames)) for x in maps] if frames else maps


def logits(method, tensors) -> torch.Tensor:
    support, query = (
        {key: value[None] for key, value in method.embed_maps(stages(tensors, role, method.frames)).items()}
        for role in ("support", "query")
    )
    labels = tensors["input.support_labels"][None]
    return method.match(support, labels, query, torch.zeros(1, 5, 0)).logits


def small_resnet(seed: int = 0, channels=(4, 8, 16, 32)) -> ResNetBackbone:
    torch.manual_seed(seed)
    trunk = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0, channels=channels, zero_init_last=False)
    return ResNetBackbone(trunk, "small", 32, (0.5,) * 3, (0.5,) * 3)


def on_resnet(frames: int = FRAMES, backbone=None, **arguments):
    return shaken(methods.build("sloshnet", backbone or small_resnet(), frames=frames, **{"dropout": 0.0, **arguments}))


def episode(way: int = 3, frames: int = FRAMES, queries: int = 4, side: int = 32):
    """One episode of ``way`` classes, one shot, on images that a small ResNet takes."""
    made = batch(episodes=1, shots=(1,) * 3, queries=queries)
    g = torch.Generator().manual_seed(5)
    labels = torch.arange(queries)[None] % way
    targets = dataclasses.replace(made.targets, class_ids=torch.arange(way)[None], query_labels=labels)
    return dataclasses.replace(
        made,
        support=torch.randn(1, way, frames, 3, side, side, generator=g),
        support_labels=torch.randperm(way, generator=g)[None],
        query=torch.randn(1, queries, frames, 3, side, side, generator=g),
        text=torch.zeros(1, way, 0),
        targets=targets,
    )


# ---------------------------------------------------------------- released


def test_golden_short_term_module():
    method, tensors, _ = released()
    assert close(method.short_term(tensors["input.maps5d"]), tensors["output.cmm"])


def test_golden_long_term_module_with_its_defects():
    method, tensors, _ = released()
    maps = tensors["input.maps5d"]
    assert close(method.long_range(maps), tensors["output.cstm"])
    assert close(method.long_range(maps[:1]), tensors["output.cstm_single_video"])
    assert not close(tensors["output.cstm"][:1], tensors["output.cstm_single_video"])  # the videos mix


def test_golden_fusion_search():
    method, tensors, _ = released()
    modulated = method.modulation(stages(tensors, "query"))
    for i, state in enumerate(method.fusion.states(modulated)):
        assert close(modulated[i], tensors[f"output.align_{i}"])
        assert close(state, tensors[f"output.search_{i}"])
    operations, output = method.fusion.weights()
    assert close(operations, tensors["output.edge_weights"]) and close(output, tensors["output.beta"])
    assert close(method.gamma.softmax(-1), tensors["output.gamma"])


@pytest.mark.parametrize("cardinality", [1, 2])
def test_golden_matcher(cardinality):
    method, tensors, _ = released()
    features = [method.metric.prepare(tensors[f"input.{role}_frames"][None]) for role in ("support", "query")]
    method.metric.transformers = nn.ModuleList([method.metric.transformers[cardinality - 1]])
    found = method.metric.compare(features[0], tensors["input.support_labels"][None], features[1], 5)
    assert close(found[0], tensors[f"output.matcher_card{cardinality}"])


def test_golden_logits_of_the_whole():
    method, tensors, _ = released()
    assert close(logits(method, tensors), tensors["output.logits_full"])
    assert close(logits(released((1,))[0], tensors), tensors["output.logits_full_card1_only"])
    assert close(logits(method.train(), tensors), tensors["output.logits_full_trainmode"])


def test_golden_logits_need_each_defect_that_touches_them():
    tensors = released()[1]
    for name in ("mixes_videos", "scrambles_time"):
        method = released(defects=[d for d in DEFECTS if d != name])[0]
        assert not close(logits(method, tensors), tensors["output.logits_full"]), name


def test_released_weights_of_several_gpus_and_with_a_trunk_load_and_strange_keys_do_not():
    _, _, state = released()
    trunk = small_resnet(seed=3, channels=STAGES).trunk
    state |= {f"resnet.{key}": value for key, value in trunk.state_dict().items()}
    state |= {"resnet.fc.weight": torch.zeros(10, 64), "resnet.fc.bias": torch.zeros(10)}
    spread = {key.replace("cstm.", "cstm.module.").replace("resnet.", "resnet.module."): x for key, x in state.items()}
    arguments = {"cardinalities": (1, 2), "projection": 48, "variant": "released"}
    found = []
    for given in (state, spread):
        method = methods.build("sloshnet", small_resnet(channels=STAGES), frames=8, **arguments)
        method.load_released(given)
        found.append(method.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert torch.equal(found[0]["backbone.trunk.conv1.weight"], state["resnet.conv1.weight"])
    for wrong in (state | {"cmm.extra": torch.zeros(1)}, {k: v for k, v in state.items() if k != "cmm.qkv.weight"}):
        with pytest.raises(RuntimeError, match="short_term"):
            methods.build("sloshnet", small_resnet(channels=STAGES), frames=8, **arguments).load_released(wrong)


def test_released_mixes_the_videos_of_a_set_and_paper_does_not():
    whole = batch(episodes=1, shots=(2, 2, 2))
    others = copy.deepcopy(whole)
    others.query[:, 1:] = torch.randn_like(others.query[:, 1:])
    with torch.no_grad():
        for variant in ("paper", "released"):
            method = make("sloshnet", variant=variant).eval()
            assert method.whole_episode == (variant == "released")
            before, after = method(whole).logits[:, 0], method(others).logits[:, 0]
            assert same(before, after) == (variant == "paper")
            apart = method.embed(whole.support[0, :1], None, "support")
            together = method.embed(whole.support[0], None, "support")
            assert all(same(apart[key], together[key][:1]) for key in apart) == (variant == "paper")


def test_released_keeps_sets_and_episodes_apart():
    """Supports do not mix with queries, nor one episode with another; the order inside a set does not matter."""
    method, whole = make("sloshnet", variant="released").eval(), batch(episodes=3, shots=(2, 1, 1))
    with torch.no_grad():
        together = method(whole)
        assert same(together.logits, torch.cat([method(one(whole, e)).logits for e in range(3)]))
        order = torch.randperm(4)
        shuffled = dataclasses.replace(
            whole, support=whole.support[:, order], support_labels=whole.support_labels[:, order]
        )
        assert same(method(shuffled).logits, together.logits)


# ---------------------------------------------------------------- each defect alone


def long_output(defects, x):
    return make("sloshnet", defects=defects).eval().long_range(x)


def test_paper_attends_over_the_frames_of_one_place():
    method = make("sloshnet").double().eval()
    x = torch.randn(2, 3, 16, 2, 2, dtype=torch.float64)
    weights = method.long_term.state_dict()
    expected = torch.stack([literal.long_term(video, weights, heads=8) for video in x])
    assert torch.allclose(method.long_range(x), expected, atol=1e-9)
    other = x.clone()
    other[0, 1, :, 0, 1] += torch.randn(16).to(x)
    changed = (method.long_range(other) - method.long_range(x)).abs().amax(2) > 1e-9  # [B T h w]
    where = torch.zeros_like(changed)
    where[0, :, 0, 1] = True
    assert torch.equal(changed, where)


def test_mixing_videos_runs_over_places_and_videos_of_one_frame():
    method, x = make("sloshnet", defects="mixes_videos").eval(), torch.randn(2, 3, 16, 2, 2)
    other = x.clone()
    other[0, 1, :, 0, 1] += torch.randn(16).to(x)
    changed = (method.long_range(other) - method.long_range(x)).abs().amax(2) > 1e-6
    assert changed[:, 1].all() and not changed[:, [0, 2]].any()


def test_scrambling_reads_the_same_numbers_in_another_layout():
    x = torch.randn(2, 4, 16, 2, 2)
    right, scrambled = long_output((), x), long_output(("scrambles_time",), x)
    for video, i, j in ((0, 0, 0), (1, 1, 0)):
        numbers = right[video, :, :, i, j].flatten()  # frame by frame, as they lie in memory
        for channel in range(16):
            for frame in range(4):
                assert scrambled[video, frame, channel, i, j] == numbers[channel * 4 + frame]


def test_defects_are_named_and_say_who_trains_what():
    assert make("sloshnet").architecture == ("alpha", "beta", "gamma")
    assert make("sloshnet", variant="released").architecture == ("alpha",)
    assert make("sloshnet", variant="released", defects=()).defects == frozenset()
    assert make("sloshnet", variant="released").defects == frozenset(DEFECTS)
    assert not make("sloshnet", variant="released", long_term=False).whole_episode
    with pytest.raises(UserError, match="'mixes_vidoes' is no defect.*'mixes_videos'"):
        make("sloshnet", defects=("mixes_vidoes",))
    with pytest.raises(UserError, match="must each divide the 16 channels"):
        make("sloshnet", heads=(8, 3))
    with pytest.raises(UserError, match="fusion must be one of 'search'"):
        make("sloshnet", fusion="max")


# ---------------------------------------------------------------- fusion


@pytest.mark.parametrize("fusion", ["search", "even", "gp1", "gp2", "sum"])
def test_fusion_is_the_literal_one(fusion):
    cell = FusionCell(fusion).double()
    if fusion == "search":
        with torch.no_grad():
            cell.alpha.normal_()
            cell.beta.normal_()
    maps = [torch.randn(2, 5, 3, 2, dtype=torch.float64) for _ in range(4)]
    operations, output = cell.weights()
    for image in range(2):
        expected = literal.fusion([x[image] for x in maps], operations, output)
        assert torch.allclose(cell(maps)[image], expected, atol=1e-12)
    assert torch.allclose(operations.sum(-1), torch.ones(6, dtype=torch.float64))
    assert (fusion == "search") == bool(list(cell.parameters()))
    if fusion != "search":
        assert torch.allclose(output, torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6], dtype=torch.float64))


def test_the_search_begins_even_and_small_weights_count_nothing_where_released():
    cell, maps = FusionCell(), [torch.randn(1, 4, 2, 2) for _ in range(4)]
    operations, output = cell.weights()
    assert (operations - 1 / 3).abs().max() < 5e-3
    assert torch.allclose(output, torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6]))
    with torch.no_grad():
        cell.alpha[:] = torch.tensor([0.0, 0.0, -5.0])  # the sum weighs 0.0034
    full = cell(maps)
    cell.smallest = 0.01
    assert not torch.equal(cell(maps), full) and same(cell(maps), full, 0.05)
    assert make("sloshnet", variant="released").fusion.smallest == 0.01 and make("sloshnet").fusion.smallest == 0


@pytest.mark.parametrize(
    ("dims", "sides"),
    [
        ((4, 8, 16, 32), (16, 8, 4, 2)),  # a ResNet at 64 pixels
        ((4, 8, 16, 32), (15, 8, 4, 2)),  # a side that does not halve evenly
        ((4, 4, 6, 10), (9, 9, 5, 3)),  # widths that do not double
        ((8, 8, 8, 8), (3, 3, 3, 3)),  # a ViT: nothing to do
        ((16, 8, 8, 8), (4, 4, 2, 2)),  # a map wider than the deepest, one as wide but larger
    ],
)
def test_any_maps_take_the_shape_of_the_deepest(dims, sides):
    modulation = SpatialModulation(dims)
    maps = [torch.randn(2, dim, side, side + 1) for dim, side in zip(dims, sides, strict=True)]
    out = modulation(maps)
    assert all(x.shape == maps[-1].shape for x in out) and out[-1] is maps[-1]
    if len(set(dims)) == 1:
        assert all(torch.equal(a, b) for a, b in zip(out, maps, strict=True)) and not list(modulation.parameters())


def test_parameters_on_a_resnet50_are_those_counted_from_the_released_code():
    from vidlib import backbones

    with torch.device("meta"):
        method = methods.build("sloshnet", backbones.load("resnet50", ""), frames=8, cardinalities=(1, 2))
    millions = {name: sum(p.numel() for p in module.parameters()) / 1e6 for name, module in method.named_children()}
    assert round(millions["modulation"], 2) == 67.25
    assert round(millions["short_term"], 2) == 20.97
    assert round(millions["long_term"], 2) == 50.36
    assert round(millions["backbone"], 2) == 23.51
    heads = [sum(p.numel() for p in head.parameters()) / 1e6 for head in method.metric.transformers]
    assert [round(x, 2) for x in heads] == [4.72, 9.44]
    assert round(sum(millions.values()), 1) == 176.3


# ---------------------------------------------------------------- the whole on a ResNet


def test_gradients_reach_everything_on_a_resnet():
    method, whole = on_resnet().train(), episode()
    method(whole).loss.backward()
    assert [n for n, p in method.trainable().items() if p.grad is None or p.grad.abs().sum() == 0] == []
    names = {n.rsplit(".", 1)[-1] for n in method.trainable()}
    assert {"alpha", "beta", "gamma"} <= names and any("layer4" in n for n in method.trainable())
    assert not any(n.startswith("backbone") for n in on_resnet(finetune="frozen").trainable())


@pytest.mark.parametrize(("way", "frames"), [(2, 4), (20, 8), (5, 16), (3, 32)])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_way_2_to_20_and_4_to_32_frames(way, frames, variant):
    method = on_resnet(frames, variant=variant, cardinalities=(1, 2)).eval()
    with torch.no_grad():
        found = method(episode(way, frames, queries=2)).logits
    assert found.shape == (1, 2, way) and torch.isfinite(found).all()


def test_the_order_of_frames_matters():
    method, whole = on_resnet().eval(), episode()
    with torch.no_grad():
        assert not same(method(whole).logits, method(dataclasses.replace(whole, query=whole.query.flip(2))).logits)


def test_no_label_or_text_of_a_query_reaches_its_logits():
    method, whole = on_resnet().eval(), episode()
    other = dataclasses.replace(
        whole,
        text=torch.randn(1, WAY, 0),
        targets=dataclasses.replace(whole.targets, query_labels=(whole.targets.query_labels + 1) % WAY),
    )
    with torch.no_grad():
        one_way, other_way = method(whole), method(other)
    assert torch.equal(one_way.logits, other_way.logits) and not torch.equal(one_way.loss, other_way.loss)


def test_what_an_ablation_leaves():
    whole, maps = episode(), torch.randn(1, FRAMES, 32, 1, 1)
    none = on_resnet(long_term=False, short_term=False).eval()
    assert torch.equal(none.frames_of(maps), maps.mean((-2, -1))) and not hasattr(none, "gamma")
    short = on_resnet(long_term=False).eval()
    long, weight = 2 * short.gamma.softmax(-1)
    assert same(short.frames_of(maps), (long * maps + weight * short.short_term(maps)).mean((-2, -1)))
    last = on_resnet(fusion="last").eval()
    assert not hasattr(last, "modulation") and last.fused([maps] * 4) is maps
    for name in methods.ABLATIONS["sloshnet"]:
        method = on_resnet(**methods.ABLATIONS["sloshnet"][name]).train()
        loss = method(whole).loss
        loss.backward()
        assert torch.isfinite(loss), name


def test_the_search_is_watched():
    method = on_resnet()
    found = method.watched()
    assert len(found) == 6 * 3 + 5 + 2
    assert {"s3<s2.GP1", "out.last", "branch.long"} <= set(found)
    assert abs(sum(value for name, value in found.items() if name.startswith("out.")) - 1) < 1e-4
    assert abs(sum(value for name, value in found.items() if name.startswith("s2<s1.")) - 1) < 1e-4
    with torch.no_grad():
        method.fusion.alpha[0, 1] += 10
    assert method.watched()["s1<s0.GP2"] > 0.99
    assert set(on_resnet(fusion="last", short_term=False).watched()) == set()
