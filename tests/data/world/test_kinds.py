"""The classes of motion, scene and words: balanced, so that val and test are equally hard."""

from collections import Counter

import pytest

from vidlib.data.world.drawing import COLOURS, SHAPES
from vidlib.data.world.kinds import KINDS, LOOKS
from vidlib.data.world.relations import RELATIONS

SPLITS = ("train", "val", "test")
CIRCLE = tuple(RELATIONS)


def pairs(split: str) -> list[tuple[str, str]]:
    """The two relations of each class of *motion*, read from its name."""
    names = [kind.name.removesuffix(" it") for kind in KINDS["motion"] if kind.split == split]
    return [tuple(name.split(" something, then ")) for name in names]


def parts(name: str) -> tuple[str, str]:
    """The look and the relation of a class of *words*."""
    _, colour, shape, *relation = name.removesuffix(" something").split()
    return f"{colour} {shape}", " ".join(relation)


@pytest.mark.parametrize("split", SPLITS)
def test_every_relation_comes_first_as_often_as_any_other_and_second_too(split):
    ordered = pairs(split)
    assert {name for pair in ordered for name in pair} == set(RELATIONS) and len(set(ordered)) == len(ordered)
    for place in (0, 1):
        assert set(Counter(pair[place] for pair in ordered).values()) == {len(ordered) // 8}
    assert all(a != b for a, b in ordered)


@pytest.mark.parametrize("split", SPLITS)
def test_the_reverse_order_of_a_class_is_in_its_own_split(split):
    ordered = set(pairs(split))
    assert {(b, a) for a, b in ordered} == ordered


def test_counting_the_circle_in_threes_turns_val_into_test_and_leaves_train():
    def turned(split: str) -> set[tuple[str, str]]:
        return {tuple(CIRCLE[3 * CIRCLE.index(name) % 8] for name in pair) for pair in pairs(split)}

    assert turned("val") == set(pairs("test")) and turned("test") == set(pairs("val"))
    assert turned("train") == set(pairs("train"))


def test_the_shot_of_a_class_is_of_the_relations_that_its_name_says():
    for kind in KINDS["motion"]:
        (relations,) = kind.shot.args
        assert kind.name == f"{relations[0]} something, then {relations[1]} it"
    for kind in KINDS["words"]:
        look, relation = parts(kind.name)
        assert kind.shot.args == ((relation,),) and kind.shot.keywords == {"look": tuple(look.split())}


def test_four_classes_of_a_look_differ_in_the_relation_alone():
    """And no look of val or test, though made of known colours and shapes, is one of train's."""
    looks = {split: Counter(parts(k.name)[0] for k in KINDS["words"] if k.split == split) for split in SPLITS}
    assert {split: tuple(found) for split, found in looks.items()} == LOOKS
    assert all(set(found.values()) == {4} for found in looks.values())
    every = [look for found in looks.values() for look in found]
    assert len(set(every)) == len(every)
    assert all(look.split()[0] in COLOURS and look.split()[1] in SHAPES for look in every)
    for split in SPLITS:
        relations = Counter(parts(k.name)[1] for k in KINDS["words"] if k.split == split)
        assert set(relations) == set(RELATIONS) and len(set(relations.values())) == 1


def test_each_split_of_scene_has_as_many_classes_of_every_kind():
    for split in SPLITS:
        kinds = [k.shot.args[0] for k in KINDS["scene"] if k.split == split]
        found = Counter((scene.count > 1, bool(scene.colours), bool(scene.pattern)) for scene in kinds)
        assert len(found) == 4 and len(set(found.values())) == 1
    names = [kind.name for kind in KINDS["scene"]]
    assert len(set(names)) == len(names)
