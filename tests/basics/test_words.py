"""A wrong name is answered with the nearest one, or with those that there are; a long list is cut and counted."""

import pytest

from vidlib.basics import words


def test_the_nearest_name_is_named_where_one_is_near():
    assert words.closest("shto", ["way", "shot"]) == " (did you mean 'shot'?)"
    assert words.closest("nothing", ["way", "shot"]) == ""
    assert words.suggest("shto", {"way": 1, "shot": 2}) == "did you mean 'shot'?"
    assert (
        words.suggest("resnet19", ["resnet18", "resnet10t", "vit"], most=2) == "did you mean 'resnet18' or 'resnet10t'?"
    )
    assert words.suggest("x", ["way", "shot"]) == "known are way, shot."
    assert (
        words.suggest("x", []) == "known are none."
        and words.suggest("x", ["way"], "give a number.") == "give a number."
    )


def test_a_known_name_is_given_back_and_another_refused():
    assert words.known_name("otam", ("otam", "trx"), "metric") == "otam"
    with pytest.raises(ValueError, match=r"^metric: 'otan' is not one of otam, trx \(did you mean 'otam'\?\)$"):
        words.known_name("otan", ("otam", "trx"), "metric")


def test_few_names_count_the_rest():
    assert words.few("abc", 3) == "a, b, c" and words.few([], 3) == ""
    assert words.few((n for n in range(5)), 2, "; ") == "0; 1 and 3 more"
