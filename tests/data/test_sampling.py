"""Frame indices: equal to the released codes' wherever these are, and within the video always."""

import random
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from tests.conftest import golden
from vidlib.basics.errors import UserError
from vidlib.data.sampling import (
    RULES,
    clip_fsar_interval_indices,
    clip_fsar_segment_indices,
    segment_indices,
    trx_indices,
)
from vidlib.params.few_shot import FewShotParams


class Legacy:
    """The released codes' own random numbers behind a Generator's one method."""

    def __init__(self, integers: Callable[[int, int], int]) -> None:
        self.integers = integers

    @classmethod
    def numpy(cls, seed: int) -> "Legacy":
        return cls(np.random.RandomState(seed).randint)

    @classmethod
    def python(cls, seed: int) -> "Legacy":
        source = random.Random(seed)
        return cls(lambda low, high: source.randint(low, high - 1))


def outputs(name: str) -> dict[str, np.ndarray]:
    tensors = golden(name)[1]
    return {key.removeprefix("output."): value.numpy() for key, value in tensors.items() if key.startswith("output.")}


def number(key: str, letters: str) -> int | None:
    """The number behind ``letters`` in one part of a golden name such as val_seg8_len2_n100."""
    parts = [part.removeprefix(letters) for part in key.split("_") if part.startswith(letters)]
    return next((int(part) for part in parts if part.isdecimal()), None)


def test_segments_equal_actionclip():
    for key, expected in outputs("sampling_actionclip").items():
        total, frames, length = number(key, "n"), number(key, "seg"), number(key, "len") or 1
        if key.startswith("val"):
            assert np.array_equal(segment_indices(total, frames, length=length) + 1, expected), key
        else:
            for seed, row in enumerate(expected):
                assert np.array_equal(segment_indices(total, frames, Legacy.numpy(seed)) + 1, row), key


def test_trx_equals_the_released_code():
    for key, expected in outputs("sampling_trx").items():
        total, frames = number(key, "n"), number(key, "T")
        if key.startswith("test"):
            assert np.array_equal(trx_indices(total, frames), expected), key
        else:
            for seed, row in enumerate(expected):
                assert np.array_equal(trx_indices(total, frames, Legacy.python(seed)), row), key


def test_clip_fsar_equals_the_released_code():
    for key, expected in outputs("sampling_clipfsar").items():
        total = number(key, "n")
        if key.startswith("segment_test"):
            assert np.array_equal(clip_fsar_segment_indices(total, 8), expected), key
        elif key.startswith("interval_test"):
            found = clip_fsar_interval_indices(total, 8, number(key, "rate"), number(key, "fps"))
            assert np.array_equal(found, expected), key
        else:
            for seed, row in enumerate(expected):
                assert np.array_equal(clip_fsar_segment_indices(total, 8, Legacy.python(seed)), row), key


FORMS = {
    "segments": segment_indices,
    "trx": trx_indices,
    "clip-fsar segments": clip_fsar_segment_indices,
    "clip-fsar intervals": lambda total, frames, rng: clip_fsar_interval_indices(total, frames, 8, 25, rng=rng),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_indices_lie_in_the_video(form, rng):
    for total in (1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 500):
        for frames in (1, 2, 8, 16):
            indices = FORMS[form](total, frames, rng)
            assert indices.shape == (frames,) and indices.dtype == np.int64
            assert indices.min() >= 0 and indices.max() < total
            if "intervals" not in form:  # as released, those run backwards in short videos
                assert (np.diff(indices) >= 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_chance_comes_from_the_generator_alone(form):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first, again = (FORMS[form](200, 8, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)
    assert any(not np.array_equal(first, FORMS[form](200, 8, np.random.default_rng(seed))) for seed in range(4))
    assert np.array_equal(np.random.get_state()[1], before)


def test_every_frame_of_every_segment_is_drawn():
    rng = np.random.default_rng(0)
    drawn = np.stack([segment_indices(30, 8, rng) for _ in range(400)])
    assert set(drawn.ravel()) == set(range(30))
    for segment, column in enumerate(drawn.T):
        assert set(column) == set(range(segment * 30 // 8, (segment + 1) * 30 // 8))


def test_a_short_video_shows_all_its_frames():
    for rng in (None, np.random.default_rng(0)):
        assert set(segment_indices(5, 8, rng)) == set(range(5))
        assert segment_indices(8, 8, rng).tolist() == list(range(8))


@pytest.mark.parametrize(("total", "frames"), [(0, 8), (8, 0), (-1, 8)])
def test_nothing_to_sample(total, frames):
    with pytest.raises(UserError, match=f"got {frames} of {total}"):
        segment_indices(total, frames)


@pytest.mark.parametrize("total", [40, 100, 250, 300])
def test_kinetics_clips_are_spanned_whatever_their_rate(total):
    for rate in (25.0, 29.97, 30.0):
        assert np.array_equal(RULES["span"](total, 8, None), clip_fsar_interval_indices(total, 8, 35, rate))
    drawn = RULES["span"](total, 8, np.random.default_rng(3))
    assert np.array_equal(drawn, clip_fsar_interval_indices(total, 8, 35, 30.0, rng=np.random.default_rng(3)))


def test_every_rule_that_a_recipe_may_name_is_there():
    assert set(get_args(FewShotParams.model_fields["sampling"].annotation)) == set(RULES)
