"""MoLo against its released code; its decoder at any size; what its loss is made of."""

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import close, golden
from tests.methods.small import FRAMES, WAY, backbone, batch, make, resnet, same
from vidlib import backbones, methods
from vidlib.basics.errors import UserError
from vidlib.data.episodes import Targets
from vidlib.methods import molo


class Maps(torch.nn.Module):
    """A backbone of which only widths and pooling are asked."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_dim, self.map_dims = width, (width,) * 4

    def unfreeze(self) -> None:
        pass

    def pool(self, deepest: Tensor) -> Tensor:
        return deepest.mean((-2, -1))


def released(**changes):
    meta, tensors = golden("molo")
    config = meta["config"]
    sizes = {"frames": config["frames"], "heads": config["heads"], "classes": config["NUM_CLASS"]}
    sizes |= {"factor": config["factor"], "position_a": config["POSITION_A"], "position_b": config["POSITION_B"]}
    still = {"position_dropout": 0.0, "dropout": 0.0, "ffn_dropout": 0.0}
    width = tensors["input.query_maps"].shape[1]
    method = methods.build("molo", Maps(width), variant="released", **{**sizes, **still, **changes})
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    method.load_released(state)
    return method, tensors, state


def features(method, tensors, name: str, shot: int = 0) -> dict[str, Tensor]:
    """What the golden maps and pictures (16 times smaller in the fixture) of supports or queries embed to."""
    suffix = f"_{shot}shot" if shot else ""
    maps, low = (tensors[f"input.{name}_{kind}{suffix}"] for kind in ("maps", "lowres"))
    clips = F.interpolate(low, scale_factor=16, mode="nearest")
    return method.embed_maps(*(rearrange(x, "(b t) c h w -> b t c h w", t=method.frames) for x in (maps, clips)))


def run(method, tensors, shot: int):
    """The golden episode: its match, and the features of supports and queries."""
    support, query = features(method, tensors, "support", shot), features(method, tensors, "query")
    targets = Targets(torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[0, 1, 2]]), torch.empty(10, 0))
    pair = ({k: v[None] for k, v in x.items()} for x in (support, query))
    labels = tensors[f"input.support_labels_{shot}shot"][None]
    return method.match(next(pair), labels, next(pair), torch.empty(1, 3, 0), targets), support, query


@pytest.mark.parametrize("shot", [1, 2])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_logits_of_every_kind(mode, shot):
    method, tensors, _ = released(reconstruction_weight=0.0)
    match, support, query = run(method.train(mode == "train"), tensors, shot)
    names = {"q2s": "logits", "base_q2c": "logits_s2q", "base_c2q": "logits_q2s"}
    names |= {"motion_q2c": "logits_s2q_motion", "motion_c2q": "logits_q2s_motion"}
    for ours, theirs in names.items():
        assert close(match.parts[ours][0], tensors[f"output.{mode}_{shot}shot_{theirs}"]), ours
    classes = torch.cat([support["classes"], query["classes"]])
    assert close(classes, tensors[f"output.{mode}_{shot}shot_class_logits"])


@pytest.mark.parametrize("shot", [1, 2])
def test_golden_tokens(shot):
    method, tensors, _ = released()
    _, support, query = run(method.eval(), tensors, shot)
    labels = tensors[f"input.support_labels_{shot}shot"]
    for ours, theirs in (("base", "feats"), ("motion", "motion")):
        prototypes = torch.stack([support[ours][labels == c].mean(0) for c in range(3)])
        assert close(prototypes, tensors[f"output.eval_{shot}shot_support_{theirs}"])
        assert close(query[ours], tensors[f"output.eval_{shot}shot_query_{theirs}"])


@pytest.mark.parametrize("shot", [1, 2])
def test_golden_reconstruction(shot):
    weight = 0.1
    method, tensors, state = released(reconstruction_weight=weight)
    with torch.no_grad():
        match, _, query = run(method.train(), tensors, shot)
        wanted = tensors[f"output.train_{shot}shot_loss_recons"]
        assert close(match.losses["reconstruction"] / (4 * weight), wanted)
        method.load_released(state)  # training moved the running statistics
        made = method.eval().reconstruct(query["motion_maps"][None, -1:], (224, 224))[0, 0, ..., ::16, ::16]
        assert close(made, tensors[f"output.eval_{shot}shot_recons_sub16"][-7:])
        assert "reconstruction" not in run(method, tensors, shot)[0].losses


def test_golden_state_without_the_counters_of_batches():
    method, tensors, state = released()
    before = run(method.eval(), tensors, 1)[0].logits
    method.load_released({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    assert torch.equal(run(method, tensors, 1)[0].logits, before)
    with pytest.raises(RuntimeError, match="motion.shift.weight"):
        method.load_released({k: v for k, v in state.items() if k != "motion_conv.weight"})


@pytest.mark.parametrize(
    ("start", "size", "between"),
    [((7, 7), (224, 224), [(14, 14), (56, 56)]), ((2, 2), (64, 64), [(4, 4), (16, 16)]), ((8, 8), (64, 64), None)],
)
def test_the_decoder_ends_at_the_size_of_the_clips(start, size, between, monkeypatch):
    sizes = []
    real = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda x, s, **kwargs: sizes.append(tuple(s)) or real(x, s, **kwargs))
    assert molo.Decoder(4)(torch.randn(2, 4, *start), size).shape == (2, 3, *size)
    assert sizes[-1] == size and (between is None or sizes[:2] == between)
    assert molo.Decoder(4)(torch.randn(2, 4, 3, 5), (48, 80)).shape == (2, 3, 48, 80)


@pytest.mark.parametrize(("on", "pixels"), [(backbone, 16), (resnet, 96)])
def test_the_loss_is_its_terms_on_either_kind_of_backbone(on, pixels):
    episodes = batch(episodes=1, shots=(2, 1, 1), pixels=pixels)
    method = make("molo", on, classes=6, class_loss_weight=0.5, contrast_weight=0.1, reconstruction_weight=2.0).train()
    match = method(episodes)
    assert list(match.losses) == ["q2s", "class", "contrast", "reconstruction"]
    targets = episodes.targets
    truth = targets.query_labels[0]
    support, query = (method.embed(clips[0], None, "query") for clips in (episodes.support, episodes.query))

    def contrast(token: Tensor, frames: Tensor, scale: Tensor) -> Tensor:
        return -scale * (1 - F.cosine_similarity(token, frames, dim=-1)).sum()

    total, logits = 0.0, 0.0
    for name, weight in (("base", 1.0), ("motion", 0.3)):
        prototypes = torch.stack([support[name][episodes.support_labels[0] == c].mean(0) for c in range(WAY)])
        pairs = [[(q, p) for p in prototypes] for q in query[name]]
        scale = method.scales[name]
        near = [[torch.stack([contrast(q[0], f, scale) for f in p[1:]]).sum() for q, p in row] for row in pairs]
        far = [[torch.stack([contrast(p[0], f, scale) for f in q[1:]]).sum() for q, p in row] for row in pairs]
        for scores in (near, far):
            total += F.cross_entropy(torch.stack([torch.stack(row) for row in scores]), truth)
        for row in pairs:
            assert row[0][0].shape == ((1 + FRAMES if name == "base" else FRAMES), method.feature_dim)
        cost = [[1 - F.normalize(q[1:], dim=-1) @ F.normalize(p[1:], dim=-1).T for q, p in row] for row in pairs]
        far = [[c.amin(0).mean() + c.amin(1).mean() for c in row] for row in cost]
        logits = logits - weight * torch.stack([torch.stack(row) for row in far])
    assert same(match.logits[0], logits, 1e-4) and same(match.losses["contrast"], 0.1 * total, 1e-4)
    means = [[x["base"].mean(1) + x["motion"].mean(1) for x in pair] for pair in ((support, query),)][0]
    ids = targets.class_ids[0, torch.cat([episodes.support_labels[0], truth])]
    assert same(match.losses["class"], 0.5 * F.cross_entropy(method.class_head(torch.cat(means)), ids), 1e-4)
    clips = torch.cat([episodes.support, episodes.query], dim=1)
    motion = torch.cat([support["motion_maps"], query["motion_maps"]])[None]
    made = method.reconstruct(motion, (pixels, pixels))
    assert same(match.losses["reconstruction"], 2 * (made - clips.diff(dim=2)).square().mean(), 1e-4)
    match.loss.backward()
    assert all(p.grad.abs().sum() > 0 for n, p in method.trainable().items() if not n.startswith("backbone"))


def test_clips_are_kept_in_training_alone():
    method, clips = make("molo"), batch().support[0]
    assert {"motion_maps", "differences"} < method.train().embed(clips, None, "query").keys()
    assert method.eval().embed(clips, None, "query").keys() == {"base", "motion"}
    without = make("molo", reconstruction_weight=0.0).train()
    assert without.decoder is None and without.embed(clips, None, "query").keys() == {"base", "motion"}


def test_variants_differ_where_the_docstring_says():
    still = {"position_b": 0.0, "contrast_weight": 0.0}
    paper, code = (make("molo", variant=v, **still).train()(batch()) for v in ("paper", "released"))
    assert same(4 * paper.losses["reconstruction"], code.losses["reconstruction"])
    assert same(FRAMES * paper.parts["base"], code.parts["base"], 0.05)  # but for 0.01 in the denominator
    assert not same(FRAMES * paper.parts["base"], code.parts["base"])
    assert same((FRAMES - 1) * paper.parts["motion"], code.parts["motion"], 0.05)
    moved = make("molo", **{**still, "position_b": 1.0}).eval()(batch()).logits
    assert not same(moved, paper.logits)


def test_ablations_leave_out_what_they_say():
    episodes = batch()
    for changes, gone in (
        ({"motion": False}, {"motion", "moving", "decoder"}),
        ({"contrast_weight": 0.0}, {"scales"}),
        ({"reconstruction_weight": 0.0}, {"decoder"}),
    ):
        method = make("molo", **changes).train()
        assert not {n.split(".")[0] for n in method.trainable()} & gone
        assert torch.isfinite(method(episodes).loss)
    assert "motion" not in make("molo", motion=False)(episodes).parts
    assert "contrast" not in make("molo", contrast_weight=0.0)(episodes).losses


def test_it_sees_the_order_of_frames():
    method, episodes = make("molo", position_b=0.0).eval(), batch()
    before = method(episodes).parts
    episodes.query = episodes.query.flip(2)
    after = method(episodes).parts
    assert same(before["base"], after["base"]) and not same(before["motion"], after["motion"])


def test_parameters_on_resnet50_are_as_published():
    with torch.device("meta"):
        method = methods.build("molo", backbones.load("resnet50", ""), classes=64)
    assert sum(p.numel() for p in method.parameters()) == 89_604_629  # 89.6M with the head


def test_arguments_that_cannot_work_are_refused():
    for changes, said in (
        ({"heads": 3}, "heads must divide.*16.*got 3"),
        ({"factor": 17}, "factor must lie between 1 and the 16 channels.*got 17"),
        ({"frames": 1}, "at least 2 frames"),
    ):
        with pytest.raises(UserError, match=said):
            methods.build("molo", backbone(), **{"frames": FRAMES, **changes})
    assert make("molo", frames=2)(batch(frames=2)).logits.shape == (2, 4, WAY)
