"""The relations: each begins and ends a distance apart, and does what its name says."""

from itertools import permutations, product

import numpy as np
import pytest

from vidlib.data.world.relations import RELATIONS, pace, paths

TIMES = np.linspace(0, 1, 201)
CONTACT = 0.55


def one(name: str, contact: float = CONTACT) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Actor and partner of a relation at ``TIMES``, complex [201], and the depths that come."""
    film = [RELATIONS[name](float(t), contact) for t in TIMES]
    return np.array([p.actor for p in film]), np.array([p.partner for p in film]), {p.depth for p in film}


@pytest.mark.parametrize(("name", "contact"), product(RELATIONS, (0.4, CONTACT, 0.7)))
def test_a_relation_begins_and_ends_at_a_distance_of_one(name, contact):
    actor, partner, _ = one(name, contact)
    assert actor[0] == pytest.approx(-1) and partner[0] == pytest.approx(0)
    assert abs(actor[-1] - partner[-1]) == pytest.approx(1)
    gap = np.abs(actor - partner).min()
    assert gap >= (0 if name == "passing behind" else contact - 1e-9)
    assert np.abs(np.diff(actor)).max() < 0.06 and np.abs(np.diff(partner)).max() < 0.06


def test_no_two_relations_are_the_same():
    films = {name: np.concatenate(one(name)[:2]) for name in RELATIONS}
    for a, b in permutations(films, 2):
        assert np.abs(films[a] - films[b]).max() > 0.3, (a, b)


def test_only_who_passes_behind_is_hidden():
    for name in RELATIONS:
        assert one(name)[2] == ({-1} if name == "passing behind" else {0})
    actor, partner, _ = one("passing behind")
    assert actor[-1] == pytest.approx(1) and not partner.any() and np.abs(actor - partner).min() < 0.01


def test_the_partner_moves_first_where_it_is_followed():
    actor, partner, _ = one("following")
    starts = [int(np.argmax(np.abs(line - line[0]) > 0.01)) for line in (partner, actor)]
    assert 0 < starts[0] < starts[1] - 40
    both = [(line[-1] - line[0]).real for line in (partner, actor)]
    assert both[0] == pytest.approx(both[1]) and both[0] > 0.5


@pytest.mark.parametrize(("name", "side"), [("pushing", 1), ("pulling", -1)])
def test_the_partner_moves_only_while_it_is_touched(name, side):
    actor, partner, _ = one(name)
    moves = np.abs(np.diff(partner)) > 1e-9
    np.testing.assert_allclose(np.abs(actor - partner)[1:][moves], CONTACT, atol=1e-9)
    assert moves.sum() > 50 and partner[-1].real * side > 0.4
    assert actor[0].real < actor[-1].real if side > 0 else actor[-1].real < actor[0].real


def test_touching_and_circling_leave_the_partner_where_it_is():
    for name in ("tapping", "circling"):
        actor, partner, _ = one(name)
        assert not partner.any() and actor[-1] == pytest.approx(actor[0])
    assert np.abs(one("tapping")[0]).min() == pytest.approx(CONTACT)
    turned = np.unwrap(np.angle(one("circling")[0]))
    assert abs(turned[-1] - turned[0]) == pytest.approx(2 * np.pi)


def test_who_swaps_ends_where_the_other_was_and_who_walks_beside_keeps_apart():
    actor, partner, _ = one("swapping places with")
    assert actor[-1] == pytest.approx(0, abs=1e-9) and partner[-1] == pytest.approx(-1)
    np.testing.assert_allclose(np.abs(actor - partner), 1)
    actor, partner, _ = one("walking beside")
    np.testing.assert_allclose(actor - partner, -1)
    assert abs(actor[-1] - actor[0]) > 0.5


def told(names: tuple[str, ...], mirrored: tuple[bool, ...], steps: int = 200) -> np.ndarray:
    """Actor and partner, complex [steps*len(names)+1, 2]."""
    phases = [float(t) for t in np.linspace(0, len(names), steps * len(names) + 1)]
    return np.array([(p.actor, p.partner) for p in paths(names, phases, CONTACT, mirrored)])


@pytest.mark.parametrize("names", [*permutations(RELATIONS, 2)], ids=" then ".join)
def test_paths_of_two_relations_are_continuous_and_mirrored_ones_mirrored(names):
    for mirrored in product((False, True), repeat=2):
        film = told(names, mirrored)
        assert len(film) == 401 and np.abs(np.diff(film, axis=0)).max() < 0.06
        np.testing.assert_allclose(told(names, tuple(not flip for flip in mirrored)), film.conj(), atol=1e-9)
    second = told(names[1:], (False,))
    begun = told(names, (False, False))[200:]
    axis = begun[0, 1] - begun[0, 0]
    np.testing.assert_allclose(begun, begun[0, 1] + axis * second, atol=1e-9)


def test_a_mirrored_relation_bends_to_the_other_side():
    film, mirrored = told(("circling",), (False,)), told(("circling",), (True,))
    np.testing.assert_allclose(mirrored, film.conj(), atol=1e-9)
    assert np.abs(mirrored - film).max() > 1


def test_the_pace_rests_goes_through_every_step_and_cuts_its_speed():
    leaps = []
    for seed in range(50):
        phases = pace(np.random.default_rng(seed), 28, 2)
        assert len(phases) == 28 and 0 <= phases[0] < 0.3 and 1.7 < phases[-1] <= 2
        steps = np.diff(phases)
        assert (steps >= -1e-12).all()
        inner = steps[4:11]  # of the first relation
        leaps.append(inner.max() / inner.min())
    assert np.median(leaps) > 1.2
