"""Each claim of a paper names an ablation or a method of the ladder; differences become words."""

import numpy as np
import pandas as pd
import pytest

from vidlib.studies import ablations, ladder, paper_claims


@pytest.mark.parametrize("method", paper_claims.CLAIMS)
def test_every_claim_can_be_measured(method):
    rows = {ablation.label for ablation in ablations.ABLATIONS[method]}
    for claim in paper_claims.CLAIMS[method]:
        assert bool(claim.part) + bool(claim.above) + claim.texts == 1, claim
        assert not claim.part or claim.part in rows, claim
        assert not claim.above or claim.above in (*ladder.TRAINED, *ladder.METRICS), claim


def test_a_difference_in_words():
    assert paper_claims.said(3.0, 1.0) == "holds" and paper_claims.said(-3.0, 1.0) == "fails"
    assert paper_claims.said(0.9, 1.0) == paper_claims.said(2.0, np.inf) == "no difference beyond its interval"
    assert paper_claims.said(np.nan, 1.0) == "not on record"


def test_the_table_turns_ablations_round_and_counts(monkeypatch):
    gaps = {("clip-mini frozen", "motion"): (2.0, 1.0), ("clip-mini tuned", "motion"): (-2.0, 1.0)}

    def gap(method, other, column, world, test="test"):
        if other != "trx" or (column, world) not in gaps:
            raise paper_claims.UserError("no record")
        return gaps[column, world]

    monkeypatch.setattr(ladder, "gap", gap)
    monkeypatch.setattr(ladder, "trained_once", lambda method, column, world: False)
    monkeypatch.setattr(ladder, "searched_blindly", lambda method, column: (method, column) == ("trx", ladder.TUNED))
    changes = pd.DataFrame(
        {"difference": [-4.0, 2.0, 0.5, np.nan], "half": [1.0, 1.0, 1.0, np.nan], "over": "3 seeds"},
        index=[
            "without the graph's guidance",
            "without dense temporal modelling",
            "frames alone (alpha 0)",
            "tuples alone (alpha 1)",
        ],
    )
    table = paper_claims.table("gghm", changes)
    so = table["so"]
    assert so["the graph's guidance helps", "ablation, val"] == "holds"
    assert so["dense temporal modelling helps", "ablation, val"] == "fails"
    assert so["frames and tuples are better than frames alone", "ablation, val"] == paper_claims.OPEN
    assert so["frames and tuples are better than tuples alone", "ablation, val"] == paper_claims.NONE
    assert so["above TRX"].to_dict() == {
        "motion, clip-mini frozen": "holds",
        "motion, clip-mini tuned": "fails; searched blindly: TRX",
    }
    assert so["above OTAM", "ladder"] == paper_claims.NONE
    monkeypatch.setattr(ladder, "trained_once", lambda method, column, world: column == ladder.FROZEN)
    assert paper_claims.table("gghm", changes)["so"]["above TRX", "motion, clip-mini frozen"] == paper_claims.ONCE
    said = paper_claims.summary(table)
    assert said.startswith("Of 8 claims: 1 hold, 1 hold here and fail there, 1 fail, 1 stay open, 4 have no record. ")
    assert "Each of the 5 comparisons has its own 95%" in said and said.endswith("1 of them were searched blindly.")
    kinds = [paper_claims._kind({paper_claims.OPEN, *so}) for so in ({paper_claims.FAILS}, {paper_claims.HOLDS}, ())]
    assert kinds == ["fail in part", "hold in part", "stay open"]


def test_a_part_of_a_video_text_method_is_asked_on_new_classes_too():
    changes = pd.DataFrame(
        {
            "difference": [-1.0],
            "half": [2.0],
            "new classes, difference": [4.8],
            "new classes, half": [3.4],
            "over": "3 seeds",
        },
        index=["MeanP"],
    )
    table = paper_claims.table("actionclip", changes)
    here = table.loc["Transf is better than MeanP"]
    assert here["so"].to_dict() == {"ablation, val": paper_claims.OPEN, "ablation, new classes, val": "fails"}
    assert here["points"].to_list() == [1.0, -4.8]
    assert table.loc["shift, inside the network, hurts"].index.to_list() == ["ablation, val"], "not on record"
    once = paper_claims.table("actionclip", changes.assign(over="videos"))
    assert set(once.loc["Transf is better than MeanP", "so"]) == {paper_claims.ONCE}
    assert paper_claims.summary(once) == "Of 7 claims: 1 stay open, 6 have no record.", "one training compares nothing"


def test_full_tuning_is_asked_at_the_rate_of_its_own_search_too(monkeypatch):
    (claim,) = [claim for claim in paper_claims.CLAIMS["ma_fsar"] if claim.frozen]
    monkeypatch.setattr(ladder, "studied", lambda column, world: {"ma_fsar": [column]})
    monkeypatch.setattr(ladder, "apart", lambda *both: (-8.0, 1.0) if both == ([ladder.FROZEN], [ladder.TUNED]) else ())
    *_, last = paper_claims._measured("ma_fsar", claim, pd.DataFrame())
    assert last == ("motion, against the tower tuned besides", -8.0, 1.0, paper_claims.FAILS)
    monkeypatch.setattr(ladder, "studied", lambda column, world: {})
    *_, last = paper_claims._measured("ma_fsar", claim, pd.DataFrame())
    assert last[-1] == paper_claims.NONE
