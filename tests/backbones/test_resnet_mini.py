"""resnet-mini: the shipped weights are the fixed ones, hold what the card says, and can be trained again."""

import hashlib
import math
import re

import numpy as np
import pytest
import torch

from tests.backbones.interrupted import goes_on
from vidlib.backbones import resnet
from vidlib.backbones.resnet_mini import WEIGHTS_SHA256, train
from vidlib.basics.errors import UserError
from vidlib.data.world.stills import facts, stills

WEIGHTS = resnet.MINI_DIR / "weights.safetensors"
CARD = (resnet.MINI_DIR / "CARD.md").read_text()


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
    torch.manual_seed(0)
    chance = train.evaluate(resnet.load("resnet-mini", ""), 512)
    assert found["place"] > chance["place"] + 0.05, (found, chance)
    assert found["colour"] > chance["colour"] + 0.3 and found["shape"] > chance["shape"] + 0.3, (found, chance)
    assert found["middle"] < 0.8 * chance["middle"], (found, chance)


def test_facts_belong_to_the_stills_of_the_captions():
    pictures, captions = stills(5, 0, 12)
    for shown, picture, caption in zip(facts(5, 0, 12), pictures, captions, strict=True):
        assert np.array_equal(shown.picture(), picture) and caption.endswith(shown.caption)


def test_the_loss_is_the_textbook_one():
    """Chen et al. 2020, eq. 1, view by view."""
    one, other = torch.randn(3, 5), torch.randn(3, 5)
    views = [*one, *other]
    total = 0.0
    for i, view in enumerate(views):
        cosines = [torch.cosine_similarity(view, each, dim=0).item() / 0.5 for each in views]
        others = sum(math.exp(cosine) for k, cosine in enumerate(cosines) if k != i)
        total -= math.log(math.exp(cosines[(i + 3) % 6]) / others) / 6
    assert train.nt_xent(one, other, 0.5).item() == pytest.approx(total, rel=1e-5)


def test_a_view_changes_light_and_leaves_things_where_they_are():
    image = torch.full((1, 3, 64, 64), 0.3)
    image[:, 0, 20:36, 40:56] = 0.9  # a red square, its middle at column 47.5, row 27.5
    seen = train.view(image.expand(64, -1, -1, -1), torch.Generator().manual_seed(0))
    assert seen.shape == (64, 3, 64, 64) and seen.min() >= 0 and seen.max() <= 1
    assert seen.mean((1, 2, 3)).std() > 0.02  # light differs
    red = (seen[:, 0] - seen[:, 1]).clamp(min=0.15) - 0.15
    line = torch.arange(64.0)
    column, row = ((red.sum(side) * line).sum(1) / red.sum((1, 2)) for side in (1, 2))
    assert column.std() > 0.3 and row.std() > 0.3
    assert (column - 47.5).abs().median() < 2.5 and (row - 27.5).abs().median() < 2.5
    again = train.view(image.expand(64, -1, -1, -1), torch.Generator().manual_seed(0))
    assert torch.equal(seen, again)


def test_held_out_stills_are_not_training_stills():
    assert train.HELD_OUT != train.SEED


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train, "RUNS", (("shape", 4, 1), ("crowd", 1, 4)))
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)


def test_an_interrupted_training_goes_on_as_if_undisturbed(small, monkeypatch, tmp_path):
    straight = goes_on(train, "nt_xent", tmp_path, monkeypatch)
    fresh = resnet.load("resnet-mini", str(straight))
    shipped = resnet.load("resnet-mini", "resnet-mini")
    assert not torch.equal(fresh.trunk.layer4[0].conv1.weight, shipped.trunk.layer4[0].conv1.weight)


def test_training_learns(small, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "RUNS", (("", 1, 12),))
    history = train.train(tmp_path / "out.safetensors", steps=60)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_training(small, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "LR", math.inf)
    with pytest.raises(UserError, match="step 1"):
        train.train(tmp_path / "out.safetensors", steps=3)
    assert not (tmp_path / "out.safetensors").exists()
