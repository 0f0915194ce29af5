"""The clips of motion, scene and words: what is not the class tells nothing of it, and nothing leaves the picture."""

import numpy as np
import pytest

from vidlib.data.world import stage
from vidlib.data.world.kinds import KINDS
from vidlib.data.world.relations import RELATIONS

CLIPS = 64


def shots(kind) -> list[stage.Shot]:
    return [kind.shot(np.random.default_rng([7, i])) for i in range(CLIPS)]


@pytest.fixture(scope="module")
def motion() -> dict[str, list[stage.Shot]]:
    return {kind.name: shots(kind) for kind in KINDS["motion"]}


def test_no_class_determines_a_direction_or_a_side(motion):
    for name, every in motion.items():
        ways = [shot.paths()[:, 0, :2] for shot in every]
        way = np.array([path.mean(0) - path[0] for path in ways])
        length = np.linalg.norm(way, axis=1).mean()
        assert length > 0.005 and np.linalg.norm(way.mean(0)) < 0.4 * length, name
        assert np.abs(np.mean([path[0] for path in ways], axis=0) - 0.5).max() < 0.1, name  # no side of the picture


def test_either_side_comes_as_often():
    """The actor of 'circling' goes round one way in half of the clips."""
    areas = []
    for shot in shots(next(kind for kind in KINDS["words"] if kind.name.endswith("circling something"))):
        x, y = (shot.paths()[:, 0, :2] - shot.paths()[:, 0, :2].mean(0)).T
        areas.append(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
    assert 0.3 < np.mean(np.array(areas) > 0) < 0.7


def test_paths_stay_in_the_picture_where_the_camera_rests(motion):
    for name, every in motion.items():
        for shot in every:
            places = shot.paths()[..., :2]
            assert places.min() >= stage.SIDE - 1e-9 and places.max() <= 1 - stage.SIDE + 1e-9, name


def test_a_camera_that_moves_seldom_loses_what_acts(motion):
    inside = []
    for every in motion.values():
        for shot in every[:8]:
            for view, actors in zip(shot.views, shot.actors, strict=True):
                seen = [view.of(thing) for _, thing in actors]
                inside += [0 < thing.x < 1 and 0 < thing.y < 1 for thing in seen]
    assert np.mean(inside) > 0.98


def test_bystanders_lengths_light_and_camera_vary_alike_in_every_class(motion):
    assert stage.FRAMES == (20, 32)
    for name, every in motion.items():
        assert {len(shot.behind[0]) for shot in every} == {1, 2}, name
        lengths = [len(shot.actors) for shot in every]
        assert stage.FRAMES[0] <= min(lengths) < 23 and 29 < max(lengths) <= stage.FRAMES[1], name
    one, other = list(motion.values())[:2]
    for a, b in zip(one, other, strict=True):  # with one generator two classes get the same of everything but the path
        assert (a.ground, a.looks, a.views, a.light, a.behind) == (b.ground, b.looks, b.views, b.light, b.behind)
        assert (a.quantiser, a.rate) == (b.quantiser, b.rate)


def test_the_camera_and_the_light_move_within_their_bounds(motion):
    shot = next(iter(motion.values()))[0]
    views, light = np.array([(v.x, v.y, v.zoom) for v in shot.views]), np.array(shot.light)
    assert np.abs(views[:, :2] - 0.5).max() <= stage.PAN + stage.SHAKE and views[:, :2].std(0).min() > 0.02
    assert np.abs(views[:, 2] - 1).max() <= stage.ZOOM
    assert np.abs(light - 1).max() <= 1.5 * stage.FLICKER and light.std() > 0


def test_of_two_that_act_the_farther_is_hidden():
    """Where the actor passes behind its partner, the pixels at the partner's middle are the partner's."""
    covered = 0
    for seed in range(12):
        shot = stage.related(("passing behind",), np.random.default_rng(seed))
        gaps = np.linalg.norm(shot.paths()[:, 0, :2] - shot.paths()[:, 1, :2], axis=1)
        if gaps.min() > 0.03:
            continue
        i = int(gaps.argmin())
        alone = shot._replace(actors=[[pair for pair in actors if pair[0] == 0] for actors in shot.actors])
        partner = shot.views[i].of(shot.actors[i][1][1])
        at = int(partner.y * stage.PIXELS), int(partner.x * stage.PIXELS)
        if not 0 <= min(at) <= max(at) < stage.PIXELS or shot.looks[1][1] in ("ring", "moon"):  # hollow in the middle
            continue
        covered += 1
        np.testing.assert_array_equal(shot.frames()[i][at], alone.frames()[i][at])
    assert covered >= 4


@pytest.mark.parametrize("world", KINDS)
def test_masks_are_of_the_frames_shape(world):
    for kind in KINDS[world][::9]:
        shot = kind.shot(np.random.default_rng(1))
        frames, masks = shot.frames(), shot.masks()
        assert frames.shape == (*masks.shape, 3) and masks.shape == (len(shot.actors), stage.PIXELS, stage.PIXELS)
        assert frames.dtype == np.uint8 and masks.dtype == bool and 0 < masks.mean() < 0.5
        nobody = [[]] * len(masks)
        bare = shot._replace(actors=nobody, behind=nobody)
        np.testing.assert_array_equal(shot.frames(acting=False), bare.frames())


def test_a_look_that_is_given_acts_and_the_partner_has_another_colour():
    for seed in range(24):
        shot = stage.related(("pushing",), np.random.default_rng(seed), look=("blue", "star"))
        assert shot.looks[0] == ("blue", "star") and shot.looks[1][0] != "blue"
        assert shot.actors[0][0][1].shape == "star" and shot.actors[0][1][1].shape == shot.looks[1][1]
    looks = {stage.related(("pushing",), np.random.default_rng(seed)).looks[0] for seed in range(24)}
    assert looks == set(stage.PAIR), "without a look either of the pair acts, and no other"


@pytest.mark.parametrize("name", RELATIONS)
def test_actor_and_partner_begin_and_end_a_reach_apart(name):
    for seed in range(8):
        places = stage.related((name,), np.random.default_rng(seed)).paths()[..., :2]
        first, last = (np.linalg.norm(frame[0] - frame[1]) for frame in (places[0], places[-1]))
        assert 0.2 < first < 1.05 * stage.REACH[1] and last == pytest.approx(first, rel=0.2)
