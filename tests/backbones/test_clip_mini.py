"""clip-mini: the shipped weights are the fixed ones, hold what the card says, and can be trained again."""

import hashlib
import re

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from tests.backbones.interrupted import goes_on
from vidlib.backbones import clip
from vidlib.backbones.clip_mini import WEIGHTS_SHA256, train
from vidlib.basics.errors import UserError
from vidlib.data.world.drawing import Ground, Thing
from vidlib.data.world.stills import Facts

WEIGHTS = clip.MINI_DIR / "weights.safetensors"
CARD = (clip.MINI_DIR / "CARD.md").read_text()
GREY = Ground("dotted", "dark blue", (0.1, 0.1, 0.3), (0.2, 0.2, 0.4), 0, 0.2, 0.0)


@pytest.fixture(scope="module")
def shipped():
    return clip.load("clip-mini", "clip-mini")


def test_the_weights_are_the_fixed_ones_and_small():
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == WEIGHTS_SHA256, "other weights need other result names"
    assert WEIGHTS.stat().st_size < 16_000_000
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float16}


def test_it_is_an_open_clip_model(shipped):
    config = clip._config("clip-mini")
    model = open_clip.CLIP(**config)
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval().encode_image(x), shipped.encode_image(x))
    parameters = sum(p.numel() for p in shipped.visual.parameters())
    assert f"{parameters:,} parameters" in CARD


def test_the_card_tells_what_the_weights_do(shipped):
    """Measured on fewer pictures than the card's 1,024: within four standard errors of 512 draws."""
    rows = {"image_to_text": "picture to caption", "text_to_image": "caption to picture", "colour": "naming the colour"}
    rows |= {"place": "naming its place", "shape": "naming its shape"}
    found = train.evaluate(shipped, 512)
    assert found["shape"] >= 0.9 and found["colour"] >= 0.97 and found["place"] >= 0.95, found
    for name, row in rows.items():
        told = float(re.search(rf"^\| {row}.*?\| ([\d.]+) \|", CARD, re.M).group(1))
        assert abs(found[name] - told) <= 4 * (max(told * (1 - told), 0.01) / 512) ** 0.5, (name, found[name], told)


def test_held_out_pictures_are_not_training_pictures():
    assert train.HELD_OUT != train.SEED


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train, "RUNS", (("shape", 4, 1), ("crowd", 1, 4)))
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)


def test_an_interrupted_training_goes_on_as_if_undisturbed(small, monkeypatch, tmp_path):
    straight = goes_on(train, "contrastive_loss", tmp_path, monkeypatch)
    fresh = clip.load("clip-mini", str(straight))
    assert not torch.equal(fresh.visual.proj, clip.load("clip-mini", "clip-mini").visual.proj)


def test_a_loss_that_is_not_finite_stops_the_training(small, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "contrastive_loss", lambda images, texts, scale: images.sum() * float("nan"))
    with pytest.raises(UserError, match="step 0"):
        train.train(tmp_path / "out.safetensors", steps=3)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_loss_is_the_textbook_one():
    images, texts = (torch.nn.functional.normalize(torch.randn(4, 6), dim=-1) for _ in range(2))
    total = 0.0
    for i in range(4):
        rows = [10 * float(images[i] @ texts[j]) for j in range(4)]
        columns = [10 * float(images[j] @ texts[i]) for j in range(4)]
        for cosines in (rows, columns):
            total -= torch.log_softmax(torch.tensor(cosines), 0)[i].item() / 8
    assert train.contrastive_loss(images, texts, torch.tensor(10.0)).item() == pytest.approx(total, rel=1e-5)


def test_tokens_with_a_look_are_the_patches_of_middles_and_stills_of_one_look():
    red, star = Thing("circle", (1, 0, 0), 0.26, 0.74, 0.1), Thing("star", (0, 0, 1), 0.999, 0.01, 0.1)
    alone, pair = Facts(GREY, ["red"], [red], [], ""), Facts(GREY, ["red", "blue"], [red, star], [], "")
    alike = Facts(GREY, ["red", "red"], [red, red.moved(x=0.6)], [], "")
    hidden = Facts(GREY, ["red", "blue"], [red, star.moved(x=0.3, y=0.7)], [], "")
    rows = train.looks_shown([alone, pair, alike, hidden], 8).T.tolist()
    a, b = train.LOOKS.index("a red circle"), train.LOOKS.index("a blue star")
    assert rows == [[0, 0, a], [0, 43, a], [1, 43, a], [1, 8, b], [2, 0, a], [2, 43, a], [2, 45, a], [3, 43, b]]
    assert len(set(train.LOOKS)) == 80 and "an orange cross" in train.LOOKS


def test_places_are_told_of_lone_things_alone():
    red = Thing("circle", (1, 0, 0), 0.26, 0.74, 0.1)
    alone, pair = Facts(GREY, ["red"], [red], [], ""), Facts(GREY, ["red", "red"], [red, red], [], "")
    middle = Facts(GREY, ["red"], [red.moved(x=0.5, y=0.5)], [], "")
    rows = train.places_shown([pair, alone, middle]).T.tolist()
    assert rows == [
        [1, train.WHERE.index("a thing in the lower left")],
        [2, train.WHERE.index("a thing in the middle")],
    ]
    assert train.places_shown([pair]).shape == (2, 0)
    assert {f"a thing {where}" for where in train.PLACES} <= {*train.WHERE}


def test_the_loss_of_names_is_least_where_a_feature_is_its_own_caption():
    looks = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    right = train.naming_loss(looks[[3, 0]], looks, torch.tensor([3, 0]), torch.tensor(10.0))
    wrong = train.naming_loss(looks[[3, 0]], looks, torch.tensor([1, 2]), torch.tensor(10.0))
    assert right < wrong
    none = train.naming_loss(looks[:0], looks, torch.tensor([], dtype=torch.long), torch.tensor(10.0))
    assert none == 0
    expected = -torch.log_softmax(10 * looks[[3, 0]] @ looks.T, 1)[[0, 1], [3, 0]].mean()
    assert right.item() == pytest.approx(expected.item(), rel=1e-5)


def test_patches_start_whitened():
    """What the filters give on the patches that they were made from is about uncorrelated, the strongest about 1."""
    model = clip.load("clip-mini", "").clip
    images = torch.randn(40, 3, 64, 64).cumsum(2).cumsum(3) / 30
    train._whiten_patches(model, images)
    given = model.visual.conv1(images).flatten(2).transpose(1, 2).flatten(0, 1)
    spread = given.std(0)
    assert 0.4 < spread[:3].min() and spread.max() < 2 and spread[0] > 2 * spread[-1]
    assert model.visual.conv1.weight.shape == (128, 3, 8, 8)


def test_patches_start_where_they_lie():
    """Near patches have near position vectors, far ones do not; the class token's is left alone."""
    model = clip.load("clip-mini", "").clip
    first = model.visual.positional_embedding[0].clone()
    train._place_patches(model)
    table = model.visual.positional_embedding
    assert torch.equal(table[0], first)
    near, far = (torch.cosine_similarity(table[1], table[i], dim=0).item() for i in (2, 64))
    assert near > 0.6 > 0.4 > far
