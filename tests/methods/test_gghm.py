"""GgHM against its equations written out, and what its graph may see."""

import dataclasses
import inspect

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from tests.literal import gghm as literal
from tests.methods.small import FRAMES, WAY, batch, make, same, shaken
from vidlib import methods
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.errors import UserError
from vidlib.layers.dense_temporal import ChannelRelation, PatchRelation
from vidlib.layers.graph import initial_edges
from vidlib.matching import hybrid
from vidlib.methods import gghm
from vidlib.testing.checks import one

FORMS = [
    {},
    {"guide": "exchange", "edges": "intra", "relative_edges": False, "graph_layers": 1, "graph_loss": "last"},
    {"dense": "patch", "shifted": "grid", "gap": 3, "gamma": 0.8, "shared_attention": False, "fuse_residual": False},
    {"dense": "channel", "attention_residual": False, "channel_start": "identity", "pool": "after"},
    {"dense": None, "distance": "cosine", "position": 0.7, "alpha": 0.9, "shots": "features", "pool": "after"},
    {"graph": False, "alpha": 0.2, "beta": 0.3, "kernel": 1, "metric_scale": 3.0, "heads": 2},
    {"transductive": True, "graph_width": 5},
]


def trunk() -> ResNetBackbone:
    """A ResNet with 2x2 maps of 16 channels at 32 pixels."""
    torch.manual_seed(0)
    net = ResNet(
        BasicBlock, [1, 1, 1, 1], num_classes=0, channels=(8, 8, 16, 16), output_stride=16, zero_init_last=False
    )
    return ResNetBackbone(net, "small", 32)


def on_resnet(frames: int = FRAMES, **arguments):
    return shaken(methods.build("gghm", trunk(), frames=frames, **arguments))


def wider(episodes):
    """The same episodes at 32 pixels, with no text, as on a ResNet."""

    def grown(clips: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(clips.flatten(0, 2), scale_factor=2).unflatten(0, clips.shape[:3])

    bare = {"support": grown(episodes.support), "query": grown(episodes.query), "text": episodes.text[..., :0]}
    return dataclasses.replace(episodes, **bare)


def frames_of(episodes: int, videos: int, frames: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(episodes, videos, frames, width, generator=torch.Generator().manual_seed(seed))


def matched(method, support, labels, query, way):
    """``match`` in evaluation on frame features ``[E S T C]``, ``[E Q T C]``."""
    ours, theirs = ({"frames": x, "parts": method.guidance.frame_part(x[..., None, :])} for x in (query, support))
    with torch.no_grad():
        return method.match(theirs, labels, ours, torch.zeros(len(labels), way, 0))


some_forms = pytest.mark.parametrize("form", [FORMS[0], FORMS[3], FORMS[-1]], ids=["defaults", "after", "transductive"])


@pytest.mark.parametrize(
    ("tower", "form"), [("clip", FORMS[0]), ("clip", FORMS[3]), *(("resnet", form) for form in FORMS)]
)
def test_equals_the_equations_written_out(tower, form):
    episodes = batch(episodes=1, shots=(2, 1, 1), queries=3, dtype=torch.float64)
    method = make("gghm", **form) if tower == "clip" else on_resnet(**form)
    episodes, targets = episodes if tower == "clip" else wider(episodes), episodes.targets
    method = method.double().eval()
    options = {n: p.default for n, p in inspect.signature(methods.METHODS["gghm"]).parameters.items()} | form

    def maps(clips: torch.Tensor) -> list:
        found = method.frame_maps(clips)[-1].flatten(3)  # [V T D N]
        return [[list(frame.unbind(-1)) for frame in video] for video in found]

    def readout(places: list[torch.Tensor]) -> list[torch.Tensor]:
        if options["pool"] == "after":
            return [method.backbone.pool(x[None, :, None, None])[0] for x in places]
        return [method.backbone.pool(torch.stack(places, dim=-1)[None, :, None])[0]]

    with torch.no_grad():
        found = method(episodes)
        logits, edges, losses = literal.episode(
            maps(episodes.support[0]),
            episodes.support_labels[0].tolist(),
            maps(episodes.query[0]),
            targets.query_labels[0].tolist(),
            WAY,
            method.state_dict(),
            options,
            readout,
        )
    assert same(found.logits[0], torch.tensor(logits, dtype=torch.float64))
    assert found.losses.keys() == losses.keys()
    assert all(same(found.losses[name], torch.tensor(value, dtype=torch.float64)) for name, value in losses.items())
    if edges:
        assert same(found.parts["graph"][0].exp(), torch.tensor(edges, dtype=torch.float64))


@some_forms
def test_gradients_reach_everything_on_a_resnet_and_bfloat16_is_close(form):
    method, episodes = on_resnet(**form).train(), wider(batch(shots=(2, 1, 3)))
    exact = method(episodes)
    exact.loss.backward()
    trained = method.trainable()
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert any(n.startswith("backbone") for n in trained)
    with torch.autocast("cpu", torch.bfloat16):
        rough = method(episodes)
    assert rough.logits.dtype == torch.float32
    assert (rough.logits - exact.logits).abs().max() < 0.15 * exact.logits.abs().max()


@some_forms
def test_no_label_and_no_text_of_a_query_leaks_and_only_a_shared_graph_sees_other_queries(form):
    method, episodes = make("gghm", **form).eval(), batch(shots=(2, 2, 1))
    before = method(episodes)
    told = dataclasses.replace(episodes.targets, query_labels=(episodes.targets.query_labels + 1) % WAY)
    after = method(dataclasses.replace(episodes, targets=told, text=torch.randn_like(episodes.text)))
    assert torch.equal(before.logits, after.logits) and not same(before.loss, after.loss)
    episodes.query[:, 1:] = torch.randn_like(episodes.query[:, 1:])
    apart = same(before.logits[:, 0], method(episodes).logits[:, 0], 1e-6)
    assert apart != form.get("transductive", False)


@some_forms
def test_renaming_classes_and_reordering_supports_only_permutes_logits(form):
    method, episodes = make("gghm", **form).eval(), batch(episodes=1, shots=(2, 1, 3))
    new, order = torch.tensor([2, 0, 1]), torch.randperm(6)
    other = dataclasses.replace(
        episodes,
        support=episodes.support[:, order],
        support_labels=new[episodes.support_labels[:, order]],
        targets=dataclasses.replace(episodes.targets, query_labels=new[episodes.targets.query_labels]),
    )
    one_way, other_way = method(episodes), method(other)
    assert same(one_way.logits[..., new.argsort()], other_way.logits) and same(one_way.loss, other_way.loss)
    assert not same(one_way.logits, other_way.logits)


@some_forms
def test_pieces_of_episodes_and_queries_give_what_all_at_once_gives(form, monkeypatch):
    method, episodes = make("gghm", **form).eval(), batch(episodes=3, shots=(2, 1, 1))
    whole = method(episodes)
    alone = torch.cat([method(one(episodes, e)).logits for e in range(3)])
    largest = []
    distances = gghm.hybrid_distances

    def watched(query, support, *options):
        largest.append(query.shape[:2].numel())
        return distances(query, support, *options)

    monkeypatch.setattr(gghm, "hybrid_distances", watched)
    monkeypatch.setattr(gghm, "CHUNK", 1)
    pieces = method(episodes)
    assert set(largest) == {1} and len(largest) == 12
    assert same(whole.logits, pieces.logits) and same(whole.loss, pieces.loss) and same(whole.logits, alone)


def test_edges_start_from_labels_and_neutral_where_a_query_is_part():
    start = initial_edges(3, 1, torch.zeros(1))
    assert torch.equal(start[:3, :3], torch.eye(3)) and (start[3, :3] == 0.5).all() and (start[:3, 3] == 0.5).all()
    method = make("gghm").eval()
    seen = {}
    method.guidance.graph.register_forward_hook(lambda _, given, found: seen.update(start=given[1], found=found))
    match = method(batch(episodes=2, shots=(1, 2, 1)))
    assert torch.equal(seen["start"], start) and seen["found"].shape == (
        8,
        4,
        4,
        2,
    )  # a graph for each of 2 x 4 queries
    between = seen["found"][:, :3, :3]
    assert torch.equal(between, torch.eye(3)[:, :, None].expand_as(between))  # what labels say is not unlearnt
    assert (match.parts["graph"].exp() - 0.5).abs().max() > 1e-3
    shared = make("gghm", transductive=True).eval()
    shared.guidance.graph.register_forward_hook(lambda _, given, found: seen.update(start=given[1], found=found))
    shared(batch(episodes=2))
    assert seen["found"].shape == (2, 7, 7, 2) and (seen["start"][3:, 3:] == 0.5 + 0.5 * torch.eye(4)).all()


def test_a_class_is_one_node_however_many_shots():
    method = make("gghm").eval()
    support, query = frames_of(1, 4, FRAMES), frames_of(1, 2, FRAMES, seed=1)
    labels = torch.tensor([[0, 1, 1, 2]])
    merged = torch.stack([support[0, 0], support[0, 1:3].mean(0), support[0, 3]])[None]
    many = matched(method, support, labels, query, 3)
    few = matched(method, merged, torch.arange(3)[None], query, 3)
    assert same(many.parts["graph"], few.parts["graph"]) and not same(many.logits, few.logits)
    by_mean = make("gghm", shots="features").eval()
    by_mean.load_state_dict(method.state_dict())
    assert same(matched(by_mean, support, labels, query, 3).logits, few.logits)


@pytest.mark.parametrize(("way", "shot", "frames"), [(2, 5, 4), (20, 1, 8), (5, 1, 32)])
def test_ways_and_frames(way, shot, frames):
    method = shaken(methods.build("gghm", trunk(), frames=frames)).eval()
    labels = torch.arange(way).repeat(2, shot)
    match = matched(method, frames_of(2, way * shot, frames), labels, frames_of(2, 3, frames, seed=1), way)
    assert match.logits.shape == (2, 3, way) and torch.isfinite(match.logits).all()


def test_guidance_adds_nothing_before_training_and_only_edges_guide():
    torch.manual_seed(0)
    plain, guided = (methods.build("gghm", trunk(), frames=FRAMES, graph=graph).eval() for graph in (False, True))
    guided.dense.load_state_dict(plain.dense.state_dict())
    episodes = wider(batch())
    assert same(plain(episodes).logits, guided(episodes).logits)
    assert "parts" not in plain.embed(episodes.support[0], None, "support")
    shaken(guided)

    def under(strength: torch.Tensor) -> torch.Tensor:
        """Logits where the query's edges to the three classes are these."""
        guided.guidance.edges = lambda classes, query: strength[:, None].expand(*query.shape[:2], WAY, 2)
        return guided(episodes).logits

    first, second = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    before = under(first)
    assert not same(before, under(second)), "edges guide"
    with torch.no_grad():
        for parameter in guided.guidance.graph.parameters():
            parameter.normal_()
    assert torch.equal(before, under(first)), "nothing else comes out of the graph"


def test_another_alpha_needs_no_other_embedding():
    method, episodes = make("gghm", alpha=0.5).eval(), batch()
    found = method(episodes)
    for alpha in (0.0, 0.3, 1.0):
        other = make("gghm", alpha=alpha).eval()
        assert same(method.mix(found.parts, alpha), other(episodes).logits)


def test_frames_are_a_set_and_tuples_have_order():
    query, support = frames_of(2, 3, 5), frames_of(2, 4, 5, seed=1)[:, None]
    frame, pair = hybrid.hybrid_distances(query, support, position=0.0)
    turned, turned_pair = hybrid.hybrid_distances(query.flip(2), support, position=0.0)
    assert frame.shape == pair.shape == (2, 3, 4)
    assert same(frame, turned) and not same(pair, turned_pair)
    repeated = support.expand(-1, 3, -1, -1, -1)
    assert all(
        same(a, b) for a, b in zip((frame, pair), hybrid.hybrid_distances(query, repeated, position=0.0), strict=True)
    )


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_video_is_nearest_to_itself_with_a_finite_gradient(distance):
    query = frames_of(1, 2, 4).requires_grad_()
    frame, pair = hybrid.hybrid_distances(query, query.detach()[:, None], distance)
    assert (frame.argmin(-1) == torch.arange(2)).all() and (pair.argmin(-1) == torch.arange(2)).all()
    assert frame.diagonal(dim1=1, dim2=2).max() < 2e-3 and pair.diagonal(dim1=1, dim2=2).max() < 2e-3
    (frame + pair).sum().backward()
    assert torch.isfinite(query.grad).all() and query.grad.abs().max() < 10


def test_the_patch_shift_keeps_the_grid_and_the_channel_shift_moves_frames():
    x = torch.randn(2, 6, 16, 4)  # [B N C T]
    for shifted, kept in (("others", [0, 3]), ("grid", [1, 2, 4, 5])):
        out = PatchRelation(16, 4, gap=3, shifted=shifted).shift(x)
        assert [n for n in range(6) if torch.equal(out[:, n], x[:, n])] == kept
    assert torch.equal(PatchRelation(16, 4, gap=1).shift(x), x)
    maps = torch.randn(1, 4, 6, 16)
    moved = ChannelRelation(16)(maps)  # its attention adds nothing before training
    assert same(moved[:, :3, :, :2], maps[:, 1:, :, :2]) and (moved[:, 3, :, :2] == 0).all()
    assert same(moved[:, 1:, :, 2:4], maps[:, :3, :, 2:4]) and same(moved[..., 4:], maps[..., 4:])
    assert same(ChannelRelation(16, start="identity")(maps), maps)


def test_every_ablation_changes_what_it_names():
    episodes = batch()
    full = make("gghm").eval()
    before = full(episodes)
    for name, change in methods.ABLATIONS["gghm"].items():
        method = make("gghm", **change).eval()
        method.load_state_dict({k: v for k, v in full.state_dict().items() if k in method.state_dict()})
        training = name in ("frozen_tower", "full_tuning", "no_graph_loss")  # what they change is how it trains
        assert same(method(episodes).logits, before.logits) == training, name
        gone = {"no_graph": "guidance", "no_dense": "dense.", "no_patch": "dense.patch", "no_channel": "dense.channel"}
        lost = {k for k in full.state_dict() if k not in method.state_dict()}
        assert lost == {k for k in full.state_dict() if name in gone and k.startswith(gone[name])}, name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gap": 0}, "gap is 0"),
        ({"kernel": 2}, "kernel is 2"),
        ({"heads": 3}, "heads is 3, which does not divide the maps' 16 channels"),
        ({"graph_layers": 0}, "graph_layers is 0"),
        ({"alpha": 1.5}, "alpha must lie between 0 and 1"),
        ({"dense": "time"}, "dense must be one of 'both'"),
        ({"guide": "sum"}, "guide must be one of"),
        ({"distance": "manhattan"}, "distance must be one of 'euclidean', 'cosine'"),
        ({"variant": "released"}, "no code was released"),
    ],
    ids=lambda v: "" if isinstance(v, str) else "".join(v),
)
def test_wrong_arguments_are_refused_in_a_sentence(wrong, said):
    with pytest.raises(UserError, match=said):
        make("gghm", **wrong)


def test_every_unsettled_choice_is_an_argument():
    known = inspect.signature(gghm.GgHM).parameters
    told = {"gap", "beta", "gamma", "alpha", "graph_layers", "graph_width", "edges", "graph_weight", "pool", "distance"}
    assert told | {"shots", "guide", "kernel", "shifted"} <= set(gghm.GgHM.sources) <= set(known)
    values = {name: value for name, value, _ in make("gghm", gap=3, alpha=0.3).unsettled()}
    assert (values["gap"], values["alpha"], values["graph_width"]) == (3, 0.3, 8)
