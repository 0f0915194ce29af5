"""What the worlds say in words: new names of words that were met before, captions of stills that know no motion."""

import re

import numpy as np
import pytest

from vidlib.data.world import worlds
from vidlib.data.world.actions import ACTIONS
from vidlib.data.world.relations import RELATIONS
from vidlib.data.world.said import place, tilt
from vidlib.data.world.stills import still, stills

FUNCTION_WORDS = set("a an and the to of from in on then while it something".split())


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text))


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return stills(1, 0, 3000)[1]


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_every_word_of_a_novel_name_was_met_before(world, captions):
    """In its still sense in a caption, or in a training class's name."""
    classes = worlds.classes(world)
    seen = FUNCTION_WORDS | words(" ".join([*captions, *classes["train"]]))
    unmet = {name: words(name) - seen for split in ("val", "test") for name in classes[split]}
    assert {name: new for name, new in unmet.items() if new} == {}


def test_the_looks_of_words_are_all_said_in_captions(captions):
    """Colour and shape beside each other, so that the texts of its new classes say something to who read captions."""
    said = " ".join(captions)
    for split in ("val", "test"):
        looks = {" ".join(name.split()[1:3]) for name in worlds.classes("words")[split]}
        assert len(looks) == 4 and all(look in said for look in looks)


def test_captions_know_no_motion(captions):
    met = words(" ".join(captions))
    verbs = {word for action in ACTIONS for word in words(action.name) if word.endswith("ing")}
    assert verbs and met & verbs == {"thing", "something"}


def test_captions_know_no_relation_of_the_worlds(captions):
    verbs = {name.split()[0] for name in RELATIONS}
    assert len(verbs) == len(RELATIONS) == 8
    assert words(" ".join(captions)) & verbs == set()
    assert not [text for text in captions if any(name in text for name in RELATIONS)]


def test_words_for_places_and_tilts():
    assert place(0.5, 0.5) == "in the middle" and place(0.1, 0.1) == "in the upper left corner"
    assert place(0.7, 0.5) == "on the right side" and place(0.3, 0.7) == "in the lower left"
    assert tilt(0.0) == "upright" and tilt(0.7) == "tilted to the right" and tilt(-0.7) == "tilted to the left"
    assert tilt(np.pi) == "upside down" and tilt(2 * np.pi + 1.5) == "lying on its right side"


def test_stills_of_one_cast_differ_in_place_not_in_colour():
    pair = [still(np.random.default_rng(i), np.random.default_rng(9), simple=1.0) for i in range(6)]
    looks = {re.search(r"an? (\w+ \w+) (?:in|at|on) ", caption).group(1) for _, caption in pair}
    assert len(looks) == 1 and len({caption for _, caption in pair}) > 1
    images, captions = stills(4, 10, 4, alike=4)
    again, same = stills(4, 8, 8, alike=4)
    np.testing.assert_array_equal(images[:2], again[2:4])
    assert captions[:2] == same[2:4]
