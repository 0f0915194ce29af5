"""resnet-mini: the shipped weights are the fixed ones, hold what the card says, and can be trained again."""

import hashlib
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidlib.backbones import resnet
from vidlib.backbones.resnet_mini import WEIGHTS_SHA256, train
from vidlib.basics.errors import UserError
from vidlib.data.world.drawing import SHAPES, Ground, Thing
from vidlib.data.world.stills import Facts, facts, stills

WEIGHTS = resnet.MINI_DIR / "weights.safetensors"
CARD = (resnet.MINI_DIR / "CARD.md").read_text()
GREY = Ground("dotted", "dark blue", (0.1, 0.1, 0.3), (0.2, 0.2, 0.4), 0, 0.2, 0.0)


@pytest.fixture(scope="module")
def shipped():
    return resnet.load("resnet-mini", "resnet-mini")


@pytest.fixture(scope="module")
def found(shipped):
    return train.evaluate(shipped, 512)


def test_the_weights_are_the_fixed_ones_and_small():
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == WEIGHTS_SHA256, "other weights need other result names"
    assert WEIGHTS.stat().st_size < 6_000_000


def test_the_card_tells_what_the_weights_do(shipped, found):
    """Measured on fewer stills than the card's 1,024: within four standard errors, and a little for shorter fitting."""
    rows = {"colour": "its colour", "place": "its place", "shape": "its shape", "count": "how many", "ground": "ground"}
    for name, row in rows.items():
        told = float(re.search(rf"^\| {row}.*?\| ([\d.]+) \|", CARD, re.M).group(1))
        assert abs(found[name] - told) <= 0.03 + 4 * (max(told * (1 - told), 0.01) / 512) ** 0.5, (name, found[name])
    assert f"{sum(p.numel() for p in shipped.parameters()):,} parameters" in CARD


def test_trained_weights_see_more_than_random_ones(found):
    chance = train.evaluate(resnet.load("resnet-mini", ""), 256)
    assert found["place"] > chance["place"] and found["colour"] > chance["colour"] + 0.2
    assert found["middle"] < 0.5 * chance["middle"]


def test_facts_belong_to_the_stills_of_the_captions():
    pictures, captions = stills(5, 0, 12)
    for shown, picture, caption in zip(facts(5, 0, 12), pictures, captions, strict=True):
        assert np.array_equal(shown.picture(), picture) and caption.endswith(shown.caption)


def test_targets_say_what_is_shown():
    red, star = Thing("circle", (1, 0, 0), 0.25, 0.75, 0.1, math.pi / 2), Thing("star", (0, 0, 1), 0.75, 0.75, 0.2)
    one, two = Facts(GREY, ["red"], [red], [], ""), Facts(GREY, ["red", "blue"], [red, star], [], "")
    alike = Facts(GREY, ["red", "red"], [red, star], [], "")
    told = train.targets([one, two, alike])
    assert told["where"].shape == (3, 64) and told["where"].max() <= 1
    peak = told["where"][0].argmax().item()
    assert (peak // 8, peak % 8) in {(5, 1), (5, 2), (6, 1), (6, 2)}  # row, column of x=0.25, y=0.75
    assert torch.allclose(told["middle"][1], torch.tensor([0.5, 0.75, 0.15, 1.0]))
    assert torch.allclose(told["single"][0], torch.tensor([0.25, 0.75, 0.1, train.TURN, 0.0]), atol=1e-6)
    assert told["single"][1:].isnan().all()
    assert torch.allclose(
        told["each"][1].view(-1, 3)[train.COLOUR_NAMES.index("blue")], torch.tensor([0.75, 0.75, 0.2])
    )
    assert told["each"][2].isnan().all()  # which of two red ones is meant is not told
    assert told["apart"][:, 0].tolist() == pytest.approx([math.nan, 0.5, 0.5], nan_ok=True)
    assert told["count"].tolist() == [0, 1, 1] and told["shapes"][1].nonzero().flatten().tolist() == [
        SHAPES.index("circle"),
        SHAPES.index("star"),
    ]
    assert told["pattern"].tolist() == [3, 3, 3]
    assert told["ground"].tolist() == [1, 1, 1]


def test_what_is_not_told_has_no_part_in_the_loss():
    readers, told = train.Readers(4), train.targets(facts(1, 0, 6, simple=0))
    seen = torch.randn(6, 4)
    before = readers.losses(seen, told)
    untold = {name: value.clone() for name, value in told.items()}
    untold["apart"][:] = math.nan
    after = readers.losses(seen, untold)
    assert after["apart"] == 0 and all(after[name] == before[name] for name in before if name != "apart")
    assert set(before) == set(train.FACTS) and all(loss.isfinite() for loss in before.values())


def test_held_out_stills_are_not_training_stills():
    assert train.HELD_OUT != train.SEED


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train, "BATCH", 8)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)


def test_an_interrupted_training_goes_on_as_if_undisturbed(small, monkeypatch, tmp_path):
    straight = train.train(tmp_path / "straight.safetensors", steps=5)
    real, calls = train.targets, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "targets", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(tmp_path / "broken.safetensors", steps=5)
    assert (tmp_path / "broken.checkpoint.pt").is_file() and not (tmp_path / "broken.safetensors").exists()
    train.train(tmp_path / "broken.safetensors", steps=5)
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("straight", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(tmp_path.glob("*.pt"))
    assert [line["step"] for line in straight] == [0, 4]
    fresh = resnet.load("resnet-mini", str(tmp_path / "straight.safetensors"))
    shipped = resnet.load("resnet-mini", "resnet-mini")
    assert not torch.equal(fresh.trunk.layer4[0].conv1.weight, shipped.trunk.layer4[0].conv1.weight)


def test_training_learns(small, tmp_path):
    history = train.train(tmp_path / "out.safetensors", steps=40)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_training(small, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "LR", math.inf)
    with pytest.raises(UserError, match="step 1"):
        train.train(tmp_path / "out.safetensors", steps=3)
    assert not (tmp_path / "out.safetensors").exists()
