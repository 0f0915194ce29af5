"""The oracle: paths are the same however they are turned, mirrored, scaled and paced, and they tell the class."""

import numpy as np
import pytest
import torch

from vidlib.data.world import oracle, stage, worlds
from vidlib.data.world.drawing import Thing
from vidlib.data.world.kinds import KINDS
from vidlib.data.world.relations import RELATIONS, paths
from vidlib.studies import shortcuts


def shot(film: list, change=lambda z: z, looks=(("red", "star"), ("blue", "ring"))) -> stage.Shot:
    """A clip of these pairs, its places changed by a function of complex numbers; the camera sees nothing."""
    things = Thing("star", (1, 0, 0)), Thing("ring", (0, 0, 1))
    actors = []
    for pair in film:
        places = [change(place) for place in (pair.actor, pair.partner)]
        moved = [thing.moved(x=at.real, y=at.imag) for thing, at in zip(things, places, strict=True)]
        actors.append([(pair.depth, moved[0]), (0, moved[1])])
    return stage.Shot(None, [], [], [], actors, looks, 20, 12)


def film(names: tuple[str, ...], phases, mirrored=None) -> list:
    return paths(names, [float(t) for t in phases], 0.6, mirrored or (False,) * len(names))


def similarity(monkeypatch, *shots: stage.Shot, world: str = "motion") -> np.ndarray:
    """Of clips whose ids are 0, 1, ..."""
    monkeypatch.setattr(worlds, "drawn", lambda world, video: shots[int(video)])
    return oracle.similarity(world, [str(i) for i in range(len(shots))])


@pytest.mark.parametrize("name", RELATIONS)
def test_a_path_is_like_itself_turned_mirrored_scaled_and_moved(name, monkeypatch):
    way = film((name, "circling" if name != "circling" else "pulling"), np.linspace(0, 2, 40))
    changes = (
        lambda z: z,
        lambda z: 0.3 * z * np.exp(2.1j) + 5 - 2j,
        lambda z: z.conjugate(),
        lambda z: 2 * z.conjugate() * np.exp(-0.4j) - 1j,
    )
    np.testing.assert_allclose(similarity(monkeypatch, *(shot(way, change) for change in changes)), 1, atol=1e-9)


def test_pace_counts_little_and_order_much(monkeypatch):
    steady, hurried = np.linspace(0, 2, 120), 2 * np.linspace(0, 1, 120) ** 1.5
    one, other = ("pushing", "circling"), ("circling", "pushing")
    shots = shot(film(one, steady)), shot(film(one, hurried)), shot(film(other, steady))
    found = similarity(monkeypatch, *shots)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)
    assert found[0, 1] > 0.99 and found[0, 2] < 0.8 and found[1, 2] < 0.8


def test_who_passes_behind_is_not_who_passes_before(monkeypatch):
    way = film(("passing behind",), np.linspace(0, 1, 40))
    before = shot([pair._replace(depth=0) for pair in way])
    assert similarity(monkeypatch, shot(way), before)[0, 1] == pytest.approx(1 - oracle.DEPTH)


def test_equal_looks_of_the_actors_count_on_words_alone(monkeypatch):
    way = film(("tapping",), np.linspace(0, 1, 40))
    shots = shot(way), shot(way, looks=(("red", "star"), ("green", "bar"))), shot(way, looks=(("red", "bar"),))
    np.testing.assert_allclose(similarity(monkeypatch, *shots, world="words")[0], [2, 2, 1], atol=1e-9)
    np.testing.assert_allclose(similarity(monkeypatch, *shots)[0], 1, atol=1e-9)


@pytest.mark.parametrize("world", ["motion", "words"])
def test_who_sees_the_paths_knows_the_class(world, tmp_path):
    folder = worlds.folder(world, tmp_path)  # told to be there: paths need no rendered clip
    folder.mkdir()
    (folder / "complete").write_text("")
    manifest = worlds.manifest(world, tmp_path)
    found = oracle.similarity(world, [row.video for row in manifest.videos("val")])
    assert np.isfinite(found).all()
    accuracy = shortcuts.asked(manifest, "val", 5, 1, 300).by_similarity(torch.from_numpy(found)).accuracy
    assert accuracy > 0.9


def test_the_place_of_the_actor_is_where_the_picture_shows_it():
    video = worlds.video(KINDS["motion"][0].name, 0)
    drawn, frames = worlds.drawn("motion", video), np.array([0, 7, 3])
    places = oracle.places("motion", video, frames)[:, 0]
    assert places.shape == (3, 2)
    for i, place in zip(frames, places, strict=True):
        alone = drawn._replace(actors=[actors[:1] for actors in drawn.actors]).masks()[i]
        rows, columns = np.nonzero(alone)
        seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / stage.PIXELS
        assert np.abs(seen - place).max() < 0.08


@pytest.mark.parametrize(("world", "video"), [("scene", None), ("moving_shapes", "growing/00")])
def test_a_world_without_an_actor_has_no_paths(world, video):
    with pytest.raises(ValueError, match=f"{world} has no actor"):
        oracle.shot(world, video or worlds.video(KINDS["scene"][0].name, 0))
