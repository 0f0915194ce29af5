"""clip-mini: the shipped weights are the fixed ones, hold what the card says, and can be trained again."""

import hashlib
import re

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from vidlib.backbones import clip
from vidlib.backbones.clip_mini import WEIGHTS_SHA256, train
from vidlib.basics.errors import UserError

WEIGHTS = clip.MINI_DIR / "weights.safetensors"
CARD = (clip.MINI_DIR / "CARD.md").read_text()


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
    for name, row in rows.items():
        told = float(re.search(rf"^\| {row}.*?\| ([\d.]+) \|", CARD, re.M).group(1))
        assert abs(found[name] - told) <= 4 * (max(told * (1 - told), 0.01) / 512) ** 0.5, (name, found[name], told)


def test_held_out_pictures_are_not_training_pictures():
    assert train.HELD_OUT != train.SEED


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train, "BATCH", 8)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)


def test_an_interrupted_training_goes_on_as_if_undisturbed(small, monkeypatch, tmp_path):
    straight = train.train(tmp_path / "straight.safetensors", steps=5)
    real, calls = train.contrastive_loss, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "contrastive_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(tmp_path / "broken.safetensors", steps=5)
    assert (tmp_path / "broken.checkpoint.pt").is_file() and not (tmp_path / "broken.safetensors").exists()
    train.train(tmp_path / "broken.safetensors", steps=5)
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("straight", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(tmp_path.glob("*.pt"))
    assert [line["step"] for line in straight] == [0, 4]
    fresh = clip.load("clip-mini", str(tmp_path / "straight.safetensors"))
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


def test_patches_start_where_they_lie():
    """Near patches have near position vectors, far ones do not; the class token's is left alone."""
    model = clip.load("clip-mini", "").clip
    first = model.visual.positional_embedding[0].clone()
    train._place_patches(model)
    table = model.visual.positional_embedding
    assert torch.equal(table[0], first)
    near, far = (torch.cosine_similarity(table[1], table[i], dim=0).item() for i in (2, 64))
    assert near > 0.6 > 0.4 > far
