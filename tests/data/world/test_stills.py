"""Runs of stills differ in what they say they differ in, and in nothing else; captions never speak of a motion."""

import math
import re

import numpy as np
import pytest

from vidlib.data.world.actions import ACTIONS
from vidlib.data.world.drawing import COLOURS, SHAPES
from vidlib.data.world.stills import LEAST, LIGHT, plain_stills, runs

WORDS = {"shape": {*SHAPES, *(f"{shape}s" for shape in SHAPES), "crosses"}, "colour": {*COLOURS}}


@pytest.mark.parametrize(("what", "length", "simple"), [("shape", 8, 1.0), ("shape", 8, 0.0), ("colour", 4, 0.0)])
def test_a_run_of_looks_shows_one_picture_with_the_first_thing_in_another_look(what, length, simple):
    """And its captions are told apart by that look's word alone (and by 'a' or 'an' before it)."""
    _, captions, shown = runs(3, 0, [(what, length, 20)], simple)
    for at in range(0, len(shown), length):
        run, first = shown[at : at + length], shown[at]
        assert len({(one.ground, tuple(one.behind)) for one in run}) == 1
        looks = [(one.colours[0], one.things[0].shape) for one in run]
        assert len(set(looks)) == length and len({look[what == "colour"] for look in looks}) == 1
        for one in run:
            where = [(t.x, t.y, t.size, t.angle, t.alpha) for t in one.things]
            assert where == [(t.x, t.y, t.size, t.angle, t.alpha) for t in first.things]
        words = [re.findall(r"[a-z]+", caption) for caption in captions[at : at + length]]
        assert len({" ".join(each) for each in words}) == length
        for several in zip(*words, strict=True):
            if len(set(several)) > 1:
                assert set(several) <= WORDS[what] or set(several) == {"a", "an"}, captions[at : at + length]


def test_a_run_of_places_keeps_ground_and_looks():
    _, _, shown = runs(3, 1, [("place", 4, 20)])
    for at in range(0, len(shown), 4):
        run = shown[at : at + 4]
        assert len({(one.ground, *one.colours, *(thing.shape for thing in one.things)) for one in run}) == 1
        assert len({(one.things[0].x, one.things[0].y) for one in run}) == 4


def test_a_crowd_has_things_of_different_colours_whose_middles_are_seen_and_names_them():
    _, captions, shown = runs(3, 2, [("crowd", 1, 60)])
    assert {len(one.things) for one in shown} >= {3, 4}
    for caption, one in zip(captions, shown, strict=True):
        assert len(set(one.colours)) == len(one.colours) == len(one.things)
        for colour, thing in list(zip(one.colours, one.things, strict=True))[:3]:
            assert f"{colour} {thing.shape} " in caption
        for i, thing in enumerate(one.things):
            assert all(math.dist((thing.x, thing.y), (over.x, over.y)) > over.size * 0.8 for over in one.things[:i])


def test_stills_of_runs_have_a_light_of_their_own():
    images, _, shown = runs(3, 3, [("shape", 8, 4)])
    gains = []
    for image, one in zip(images, shown, strict=True):
        drawn = one.picture().astype(float)
        dim = drawn < 200  # what no light can bring to the end of the scale
        gains.append(image[dim].sum() / drawn[dim].sum())
    assert 1 - LIGHT - 0.02 < min(gains) < 0.95 and 1.05 < max(gains) < 1 + LIGHT + 0.02


def test_runs_are_the_same_each_time_and_others_in_each_batch():
    plan = [("shape", 2, 2), ("place", 2, 1), ("", 1, 2), ("crowd", 1, 1)]
    images, captions, _ = runs(3, 4, plan)
    again, same, _ = runs(3, 4, plan)
    assert images.shape == (9, 64, 64, 3) and np.array_equal(images, again) and captions == same
    others, _, _ = runs(3, 5, plan)
    assert all((one != other).any() for one, other in zip(images, others, strict=True))


def test_the_smallest_thing_is_as_large_as_asked():
    least = 0.12
    drawn = [thing.size for one in runs(3, 6, [("", 1, 60)], 1.0, least)[2] for thing in one.things]
    usual = [thing.size for one in runs(3, 6, [("", 1, 60)], 1.0)[2] for thing in one.things]
    assert min(drawn) >= least > min(usual) >= LEAST


def test_captions_of_runs_know_no_motion():
    captions = runs(3, 7, [("shape", 8, 20), ("colour", 4, 20), ("place", 4, 40), ("", 1, 100), ("crowd", 1, 60)])[1]
    words = set(re.findall(r"[a-z]+", " ".join(captions)))
    verbs = {w for action in ACTIONS for w in action.name.split() if w.endswith("ing")} - {"thing", "something"}
    assert words & verbs == set() and words >= {*COLOURS, *SHAPES}


def test_plain_stills_show_one_thing_evenly_over_nine_places():
    images, told = plain_stills(3, 90)
    assert images.shape == (90, 64, 64, 3)
    places = [fact["place"] for fact in told]
    assert len(set(places)) == 9 and {places.count(where) for where in set(places)} == {10}
    assert {fact["shape"] for fact in told} == {*SHAPES}
