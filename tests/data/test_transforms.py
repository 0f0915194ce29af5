"""Transforms of a clip: the same for all its frames, from the generator alone, and no flip unless asked for."""

import numpy as np
import pytest
import torch

from vidlib.basics.errors import UserError
from vidlib.data import transforms
from vidlib.data.transforms import ClipTransform

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def noise(frames=4, height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


OPTIONS = {
    "resized crop": {},
    "window": {"scale": None, "resize": 40},
    "flip": {"flip": True},
    "jitter": {"jitter": 0.4},
    "squashed window": {"scale": None, "resize": 40, "squash": True},
    "colour": {"jitter": 0.5, "hue": 0.25, "grey": 0.5},
    "RandAugment": {"rand_augment": (2, 9)},
    "multi-scale": {"multi_scale": (1, 0.875, 0.75, 0.66)},
    "short side": {"scale": None, "stretch": 1.15},
    "all": {"flip": True, "jitter": 0.4, "scale": (0.2, 0.9), "hue": 0.1, "grey": 0.2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_frames_of_a_clip_get_the_same(options):
    still = np.repeat(noise(1), 5, axis=0)
    for seed in range(4):
        clip = ClipTransform(32, MEAN, STD, train=True, **options)(still, seeded(seed))
        assert clip.shape == (5, 3, 32, 32) and clip.dtype == torch.float32 and clip.is_contiguous()
        assert (clip == clip[:1]).all()


def test_a_colour_change_does_not_depend_on_the_other_frames_place():
    frames = np.stack([np.full((32, 32, 3), grey, np.uint8) for grey in (20, 120, 220, 120)])
    clip = ClipTransform(32, **PLAIN, train=True, jitter=0.5)(frames, seeded(1))
    assert torch.equal(clip[1], clip[3])
    assert clip[0].mean() < clip[1].mean() < clip[2].mean()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_chance_comes_from_the_generator_alone(options):
    transform, frames = ClipTransform(32, MEAN, STD, train=True, **options), noise()
    before = torch.random.get_rng_state()
    first = transform(frames, seeded(3))
    torch.rand(7)
    assert torch.equal(first, transform(frames, seeded(3)))
    assert len({transform(frames, seeded(seed)).sum().item() for seed in range(8)}) > 1
    torch.random.set_rng_state(before)
    transform(frames, seeded(3))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_option_draws_alike():
    ends = []
    for options in OPTIONS.values():
        generator = seeded(3)
        ClipTransform(32, MEAN, STD, train=True, **options)(noise(), generator)
        ends.append(torch.rand(1, generator=generator).item())
    assert len(set(ends)) == 1


def test_a_flip_only_where_direction_does_not_matter():
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    frames = noise(height=32, width=32)
    straight = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    flipped = 0
    for seed in range(60):
        assert torch.allclose(ClipTransform(32, **PLAIN, train=True, **whole)(frames, seeded(seed)), straight)
        clip = ClipTransform(32, **PLAIN, train=True, flip=True, **whole)(frames, seeded(seed))
        mirrored = torch.allclose(clip, straight.flip(-1))
        assert mirrored or torch.allclose(clip, straight)
        flipped += mirrored
    assert 18 < flipped < 42


def test_testing_takes_the_centre_of_the_resized_picture():
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[:, :, 20:60] = 255  # what a centre crop of the short side keeps
    transform = ClipTransform(40, MEAN, STD, train=False)
    clip = transform(frames)
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(clip, white[:, None, None].expand(2, 3, 40, 40))
    assert torch.equal(clip, transform(frames, seeded(0)))
    assert ClipTransform(32, MEAN, STD, train=False, resize=48)(noise(2, 100, 60)).shape == (2, 3, 32, 32)


def test_squashing_keeps_the_whole_width():
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[:, :, :40] = 255
    clip = ClipTransform(32, **PLAIN, train=False, resize=32, squash=True)(frames)
    assert (clip[..., :14] > 0.99).all() and (clip[..., 18:] < 0.01).all()
    trained = ClipTransform(32, **PLAIN, train=True, scale=None, resize=32, squash=True)(frames, seeded())
    assert torch.equal(clip, trained)
    assert ClipTransform(32, **PLAIN, train=False)(frames)[..., :14].min() > 0.99


def test_part_of_the_clips_lose_their_colour_and_hues_turn():
    frames = noise()
    grey = [ClipTransform(32, **PLAIN, train=True, grey=0.3)(frames, seeded(seed)) for seed in range(60)]
    assert 9 < sum(torch.equal(clip[:, 0], clip[:, 1]) for clip in grey) < 28
    plain = ClipTransform(32, **PLAIN, train=True)
    for seed in range(4):
        turned = ClipTransform(32, **PLAIN, train=True, hue=0.25)(frames, seeded(seed))
        before = plain(frames, seeded(seed))
        assert not torch.allclose(turned, before, atol=0.05)
        assert torch.allclose(turned.amax(1), before.amax(1), atol=0.02)  # the value of HSV stays


def test_a_picture_of_the_right_size_is_not_resampled():
    frames = noise(height=32, width=32)
    clip = ClipTransform(32, **PLAIN, train=False)(frames)
    assert torch.equal((clip * 255).round().to(torch.uint8), torch.from_numpy(frames).permute(0, 3, 1, 2))


def test_a_crop_has_the_area_and_shape_it_may_have():
    transform = ClipTransform(32, MEAN, STD, train=True, scale=(0.3, 0.6), ratio=(0.8, 1.25))
    areas = []
    for seed in range(200):
        height, width = transform._shape((96, 128), torch.rand(20, generator=seeded(seed)).tolist())
        assert 0.78 < width / height < 1.28
        areas.append(height * width / (96 * 128))
    assert 0.28 < min(areas) < 0.33 and 0.57 < max(areas) < 0.62


def test_a_mild_crop_keeps_what_lies_in_the_middle():
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[:, 16:48, 16:48] = 255
    for seed in range(20):
        clip = ClipTransform(64, **PLAIN, train=True, scale=(0.8, 1.0))(frames, seeded(seed))
        assert 0.24 < clip.mean() < 0.33  # a quarter of the picture, at most a fifth of which is cut away


def test_long_thin_pictures_are_cropped_within_their_edges():
    for shape in ((8, 200), (200, 8)):
        clip = ClipTransform(16, MEAN, STD, train=True, scale=(0.9, 1.0))(noise(2, *shape), seeded(0))
        assert clip.shape == (2, 3, 16, 16)


def test_read_only_frames_and_tensors_are_taken():
    frames = noise()
    frames.flags.writeable = False
    transform = ClipTransform(32, MEAN, STD, train=False)
    assert torch.equal(transform(frames), transform(torch.from_numpy(frames.copy())))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"ratio": (2, 1)}, "ratio"),
        ({"jitter": 1.0}, "jitter"),
        ({"hue": 0.6}, "hue"),
        ({"grey": -0.1}, "grey"),
        ({"resize": 8}, "size"),
    ],
)
def test_impossible_options_are_named(options, named):
    with pytest.raises(UserError, match=named):
        ClipTransform(32, MEAN, STD, train=True, **options)


def test_training_needs_a_generator():
    with pytest.raises(UserError, match="generator"):
        ClipTransform(32, MEAN, STD, train=True)(noise())


SHARES = (1, 0.875, 0.75, 0.66)


def released_multi_scale(height, width, size):
    """Every (top, left, height, width) that the released rule can give, written out as there."""
    sides = [int(min(height, width) * share) for share in SHARES]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    found = set()
    for h, w in [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]:
        y, x = (height - h) // 4, (width - w) // 4
        places = [(0, 0), (0, 4 * x), (4 * y, 0), (4 * y, 4 * x), (2 * y, 2 * x)]
        places += [(2 * y, 0), (2 * y, 4 * x), (4 * y, 2 * x), (0, 2 * x)]
        places += [(y, x), (y, 3 * x), (3 * y, x), (3 * y, 3 * x)]
        found |= {(*place, h, w) for place in places}
    return found


@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, 32), (240, 320, 224), (64, 40, 32)])
def test_multi_scale_draws_every_crop_of_the_released_set_and_no_other(height, width, size, monkeypatch):
    seen, own = [], transforms.F.resized_crop

    def noted(clip, top, left, high, wide, *given, **more):
        seen.append((top, left, high, wide))
        return own(clip, top, left, high, wide, *given, **more)

    monkeypatch.setattr(transforms.F, "resized_crop", noted)
    crop = ClipTransform(size, **PLAIN, train=True, multi_scale=SHARES)
    frames = noise(1, height, width)
    clips = {tuple(crop(frames, seeded(seed)).shape) for seed in range(1200)}
    assert clips == {(1, 3, size, size)} and set(seen) == released_multi_scale(height, width, size)


def test_short_side_is_drawn_between_the_crop_and_its_multiple_then_a_window(monkeypatch):
    seen, own = [], transforms.F.crop
    monkeypatch.setattr(
        transforms.F, "crop", lambda clip, *given: seen.append((*clip.shape[-2:], *given)) or own(clip, *given)
    )
    draw = ClipTransform(40, **PLAIN, train=True, scale=None, stretch=1.15)
    for seed in range(300):
        assert draw(noise(1), seeded(seed)).shape == (1, 3, 40, 40)
    sides = {min(high, wide) for high, wide, *_ in seen}
    assert sides == set(range(40, 47)), "each of 1 to 1.15 times 40"
    assert all(top + 40 <= high and left + 40 <= wide for high, wide, top, left, *_ in seen)
    assert {top for _, _, top, *_ in seen} > {0, 1, 2} and len({left for *_, left, _, _ in seen}) > 5


def test_a_test_picture_is_resized_to_its_short_side_then_cropped_at_the_centre():
    frames = noise(2, 60, 90)
    clip = ClipTransform(28, **PLAIN, train=False, resize=32)(frames)
    whole = ClipTransform(32, **PLAIN, train=False)(frames)
    assert clip.shape == (2, 3, 28, 28) and torch.equal(clip, whole[..., 2:30, 2:30])
    assert not torch.allclose(clip, ClipTransform(28, **PLAIN, train=False)(frames), atol=0.05)
    sides = [ClipTransform(28, **PLAIN, train=False, resize=32, place=place)(frames) for place in (0.0, 0.5, 1.0)]
    tall = transforms.F.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [32], antialias=True,
        interpolation=transforms.InterpolationMode.BICUBIC) / 255  # fmt: skip
    for left, each in zip((0, 10, 20), sides, strict=True):
        assert torch.allclose(each, tall[..., 2:30, left : left + 28])


@pytest.mark.parametrize("wrong", [{"stretch": 0.9}, {"multi_scale": (1, 0)}, {"multi_scale": (1.2,)}])
def test_shares_that_no_crop_has_are_refused(wrong):
    with pytest.raises(UserError, match="stretch must be at least 1, multi_scale shares"):
        ClipTransform(32, MEAN, STD, train=True, **wrong)
