"""The study of coverage: its truths are exact, its replicates whole, its table counts, and what is shipped is read."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from vidlib.basics.errors import UserError
from vidlib.studies import coverage, fresh_videos


def _features(seed, classes, videos, spread=0.7):
    rng = np.random.default_rng(seed)
    ways = rng.normal(size=(classes, 1, 4, 6)) * spread
    return (ways + rng.normal(size=(classes, videos, 4, 6))).astype(np.float16)


@pytest.fixture(scope="module")
def methods():
    return coverage.Methods(_features(1, 6, 30))


def test_the_truth_is_the_mean_over_all_episodes():
    x = torch.nn.functional.normalize(torch.from_numpy(_features(2, 4, 3)).float().mean(2), dim=-1)
    right = []
    for classes in combinations(range(4), 3):
        for c in classes:
            for q, s in product(range(3), repeat=2):
                rest = [x[k] for k in classes if k != c]
                for others in product(*rest) if q != s else ():
                    right.append(all(x[c, q] @ other < x[c, q] @ x[c, s] for other in others))
    assert coverage.exact(x, way=3) == pytest.approx(np.mean(right))


def test_a_replicate_is_right_about_its_own_videos_and_measures_count(methods, monkeypatch):
    monkeypatch.setattr(coverage, "CLASSES", 8)
    monkeypatch.setattr(coverage, "VIDEOS", 12)
    pool = _features(3, 8, 48)
    record = coverage.measure(pool, methods, 600, 40, [0])
    assert record["half"].shape == (40, 3, 5) and record["share"] == 0.25
    off = coverage.UNIT * (record["estimate"] - record["truth"])
    assert np.abs(off[:, :2]).max() < 0.1 and abs(off[:, :2].mean()) < 0.01
    assert coverage.UNIT * record["pool"][0] == pytest.approx(coverage.exact(methods(pool)[0]), abs=1e-5)
    assert (record["pool"] - record["truth"].mean(0) <= 1500).all(), "a draw is right on average"
    again = coverage.measure(pool, methods, 600, 2, [0])
    assert (again["estimate"] == record["estimate"][:2]).all()
    rows = coverage.table([record], [coverage.Setting("fresh videos", "test", 600)])
    assert len(rows) == 2 * 3 * 5 and rows["low"].le(rows["covered"]).all() and rows["replicates"].eq(40).all()
    held = rows[rows["claimed"]].set_index(["asked", "interval"])["covered"]
    assert held.loc[:, "episodes"].min() >= 80 and held.loc[:, "videos"].min() >= 80
    alone = rows[(rows["interval"] == "episodes") & (rows["truth"] == "fresh videos")]
    assert not alone["claimed"].any() and alone["covered"].max() < 80
    with pytest.raises(UserError, match="8 classes of 12 videos; a replicate takes 8 of 12 and not all"):
        coverage.measure(pool[:, :12], methods, 600, 1, [0])


def test_fresh_videos_are_none_of_the_world_and_a_pool_goes_on(tmp_path, monkeypatch):
    from vidlib.data.world import worlds

    groups = {group: fresh_videos.classes(group) for group in fresh_videos.FULL}
    assert [len(groups[g]) for g in ("test", "train", "triples")] == [16, 24, 84]
    assert not set(groups["test"]) & set(groups["train"])
    first = fresh_videos.fresh(groups["test"][0], 0)
    published = worlds.drawn("motion", worlds.video("tapping something, then swapping places with it", 0))
    assert groups["test"][0] == ("tapping", "swapping places with")
    assert fresh_videos.seen(first).shape == (8, 72, 72, 3) == fresh_videos.decoded(first).shape
    assert not np.array_equal(fresh_videos.seen(first), fresh_videos.seen(published))
    monkeypatch.setattr(fresh_videos, "classes", lambda group: groups[group][:2])
    made = fresh_videos.pool(tmp_path, "test", 2)
    assert made.shape == (2, 2, 8, 64) and made.dtype == np.float16 and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(fresh_videos, "embedded", None)  # nothing is left to be made
    assert np.array_equal(fresh_videos.pool(tmp_path, "test", 2), made)


def test_what_is_shipped_is_read_and_says_how_it_was_made(tmp_path):
    with pytest.raises(UserError, match="no record intervals.npz"):
        coverage.load(tmp_path)
    records, said = coverage.load()
    assert len(records) == len(said["settings"]) and tuple(said["asked"]) == coverage.ASKED
    rows = coverage.table(records)
    assert rows["replicates"].min() >= 200 and said["replicates"] == rows["replicates"].max()
    own = rows[(rows["truth"] == "these videos") & (rows["interval"] == "episodes")]
    assert own["covered"].between(92, 98).all()
