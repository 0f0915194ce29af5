"""The published figures load whole, say where they come from, and are never printed without their mark."""

import re

import numpy as np
import pytest

from vidlib.basics.errors import UserError
from vidlib.results import published


def test_every_figure_has_source_and_confidence():
    table = published.load()
    assert list(table.columns) == [*published.COLUMNS, *published.ITS]
    assert len(table) == 210
    assert table["source"].str.len().gt(0).all()
    assert table["confidence"].notna().all()
    assert table["value"].between(0, 100).all()
    assert list(table["confidence"].cat.categories) == ["recalled", "seed", "secondary", "verified"]
    assert table["confidence"].value_counts().to_dict() == {"secondary": 70, "verified": 67, "recalled": 66, "seed": 7}


def test_what_is_not_published_stays_nan():
    otam = published.rows("OTAM", "SSv2-Small", "5-way 1-shot")
    assert len(otam) == 1 and np.isnan(otam["trainable_params_M"].item()) and np.isnan(otam["gflops"].item())


def test_rows_by_method_dataset_protocol():
    found = published.rows(method="ma-fsar", dataset="SSv2-Small")
    assert found["value"].tolist() == [59.1, 64.5]
    assert (found["confidence"] == "recalled").all() and (found["trainable_params_M"] == 18.54).all()
    both = published.rows(dataset=["HMDB51", "UCF101"], protocol="5-way 5-shot")
    assert set(both["dataset"]) == {"HMDB51", "UCF101"} and set(both["protocol"]) == {"5-way 5-shot"}
    assert published.rows("EMP-Net", "UCF101", "5-way 5-shot").empty


def test_loading_twice_gives_independent_tables():
    once = published.load()
    once["value"] = 0.0
    assert published.load()["value"].gt(0).all()


@pytest.mark.parametrize(
    "name, value", [("method", "CLIP-FSRA"), ("dataset", "SSv2-Smal"), ("protocol", "5-way 2-shot")]
)
def test_an_unknown_name_is_an_error_that_knows_better(name, value):
    with pytest.raises(UserError, match=f"{name}: .*{value}.*known and near: .*(CLIP-FSAR|SSv2-Small|5-way 1-shot)"):
        published.rows(**{name: value})


def test_mark():
    assert published.mark(59.1, "recalled") == "59.1 [recalled, unchecked]"
    assert published.mark(88.9, "verified") == "88.9"
    assert published.mark(18.54, "secondary", digits=2) == "18.54 [quoted by others]"
    assert published.mark(float("nan"), "recalled") == "not published"
    with pytest.raises(UserError, match="guessed"):
        published.mark(1.0, "guessed")


def test_the_printed_table_marks_every_recalled_figure():
    figures = published.load()
    printed = published.table(figures)
    recalled = (figures["confidence"] == "recalled").to_numpy()
    assert printed["figure (%)"][recalled].str.endswith("[recalled, unchecked]").all()
    assert not printed["figure (%)"][~recalled].str.contains("recalled").any()
    assert printed["source"].tolist() == figures["source"].tolist()
    known = figures["trainable_params_M"].notna().to_numpy()
    assert printed["trainable (M)"][recalled & known].str.endswith("[recalled, unchecked]").all()
    summary = (figures["trainable_params_M_confidence"] == "seed").to_numpy()
    assert printed["trainable (M)"][summary & known].str.endswith("[from a summary, unchecked]").all()
    assert (summary & known & (figures["confidence"] == "verified").to_numpy()).sum() == 14
    assert (printed["trainable (M)"][~known] == "not published").all()
    unmarked = [text for text in printed["figure (%)"] if re.fullmatch(r"[\d.]+", text)]
    assert len(unmarked) == (figures["confidence"] == "verified").sum()


def test_comparison_for_the_bubble_plot():
    rows = published.comparison()
    assert set(rows["origin"]) == {"published"}
    assert {"AIM as FSAR baseline", "MA-CLIP (v1)", "OTAM", "EMP-Net"} <= set(rows["name"])
    assert not rows["name"].str.contains("reproduction").any()
    assert rows.set_index("name").loc["HyRSM", ["trainable_M", "accuracy"]].tolist() == [65.6, 40.6]
    assert rows[["low", "high"]].isna().all(axis=None)
    assert published.comparison(reruns=True)["name"].str.contains("reproduction").sum() == 2


def test_costs_stand_one_row_a_configuration_with_their_marks():
    table = published.costs()
    assert not table.duplicated(["method", "backbone", "frames", "protocol"]).any()
    first = table[
        (table["backbone"] == "ViT-B/16") & (table["frames"] == "32") & table["method"].str.match("ActionCLIP")
    ]
    mark = "[from a summary, unchecked]"
    assert first["top-1 (%)"].tolist() == ["82.3", "83.8"], "verified, and marked as such"
    assert first["GMACs per view"].tolist() == [f"563.1 {mark}"] * 2 and first["views"].tolist() == ["1", "30"]
    assert first["videos per second"].tolist() == [f"13.0 {mark}"] * 2
    others = table[table["method"].str.contains("TimeSformer|ViViT")]
    assert len(others) == 2 and others["GMACs per view"].str.contains("unchecked").all()


def test_multiplications_are_of_one_clip_and_view():
    aim = published.rows("AIM", "Kinetics-400", metric="top1")
    tower = aim[(aim["backbone"] == "ViT-B/16") & (aim["frames"] == 8)].iloc[0]
    assert (tower["gflops"], tower["views"]) == (202.0, 3), "606 is printed, for three views"
    for (_, _), same in published.load().dropna(subset="gflops").groupby(["method", "backbone"]):
        each = same["gflops"] / same["frames"]
        assert each.max() < 1.25 * each.min() or set(same["confidence"]) & {"secondary"}, "another number of views"


def test_a_count_of_ours_is_in_no_row():
    counts = published.load().dropna(subset="trainable_params_M")
    assert not set(counts["method"]) & {"STRM", "SloshNet", "TRX", "OTAM", "GgHM"}
    assert not counts["trainable_params_M_source"].str.contains("comput|counted").any()
    trust = counts.groupby("method")["trainable_params_M_confidence"].agg(lambda each: set(each))
    assert trust["MoLo"] == trust["HyRSM"] == trust["MA-CLIP (v1)"] == {"recalled"}


def test_a_number_of_its_own_confidence_needs_a_known_one():
    row = {"source": "a", "confidence": "verified", "gflops": {"value": 12, "views": 3, "confidence": "seed"}}
    each = published._each(row, 1)
    assert (each["gflops"], each["gflops_confidence"], each["gflops_source"]) == (4.0, "seed", "a")
    assert each["views_confidence"] == "verified"
    for wrong in ({"value": 1, "confidence": "guessed"}, {"value": 1, "views": 0}, {"valeu": 1}):
        with pytest.raises(UserError, match="row 7: gflops is a number, or value with source"):
            published._each(row | {"gflops": wrong}, 7)
