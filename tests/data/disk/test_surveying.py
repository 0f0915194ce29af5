"""The benchmarks side by side, and what training on one meets of another's test list."""

import pandas as pd
import pytest

from tests.data.small_lists import videos, write_trx
from vidlib.data.catalogue import entries
from vidlib.data.disk import auditing, lists, surveying

pytestmark = pytest.mark.usefixtures("data")


def test_every_entry_has_a_row_that_says_what_is_here(tmp_path):
    table = surveying.overview()
    assert tuple(table.index) == entries.every()
    assert table.loc["ssv2_small", ["classes", "videos", "here"]].tolist() == ["64/12/24", "6400/1200/2400", "nothing"]
    assert table.loc["official:kinetics400", "videos"] == "?/?"
    write_trx(tmp_path, "hmdb51", videos("hmdb51"))
    lists.store("hmdb51", lists.read("hmdb51", tmp_path))
    assert surveying.here("hmdb51") == "lists of trx"


def test_an_episode_comes_from_lists_where_there_are_no_videos(tmp_path):
    assert surveying.first_episode("hmdb51", "test", 3, 1, 1) is None
    made = videos("hmdb51", number=3)
    write_trx(tmp_path, "hmdb51", made)
    episode = surveying.first_episode("hmdb51", "test", 3, 1, 1, tmp_path)
    assert len(episode) == 3 and set(episode["class"]) <= set(made["test"])
    for row in episode.itertuples():
        ids = {f"{row[1]}/{video}" for video in made["test"][row[1]]}
        assert {row.supports, row.queries} < ids and row.supports != row.queries


def test_overlaps_count_the_test_classes_and_the_shared_videos(tmp_path):
    full, small = videos("ssv2_full"), videos("ssv2_small")
    full = {s: {cls: [f"9{video}" for video in ids] for cls, ids in made.items()} for s, made in full.items()}
    wanted = "Dropping something into something"
    cls = next(c for c in small["test"] if c == wanted)
    same = next(c for c, text in entries.entry("ssv2_full").texts()["train"].items() if text == wanted)
    small["test"][cls] = full["train"][same]
    for name, made in (("ssv2_full", full), ("ssv2_small", small)):
        write_trx(tmp_path, name, made)
    rows = auditing.overlaps(["ssv2_full", "ssv2_small", "official:ssv2", "hmdb51"], tmp_path)
    found = rows.set_index(["trained", "tested"])
    assert found.loc[("ssv2_full", "ssv2_small"), ["classes", "of"]].tolist() == [7, 24]
    assert found.loc[("ssv2_full", "ssv2_small"), "videos"] == len(full["train"][same])
    assert found.loc[("ssv2_small", "ssv2_full"), "classes"] == 9
    assert found.loc[("official:ssv2", "ssv2_small"), "classes"] == 24
    assert found.loc[("hmdb51", "ssv2_small"), "classes"] == 0
    assert pd.isna(found.loc[("hmdb51", "official:ssv2"), "videos"]) and len(rows) == 16, "names of two sources"
