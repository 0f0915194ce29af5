"""README opens with what the records say."""

import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from docs import result
from vidlib.basics.errors import UserError
from vidlib.params.notebooks import MODELS
from vidlib.results.intervals import over_seeds, seed_interval
from vidlib.studies import ablations, evidence, ladder, paper_claims, price_of_test, records, tables, verify


def test_the_table_in_readme_is_that_of_the_records():
    readme = result.README.read_text()
    assert result.placed(readme, result.lines()) == readme, "python -m docs.result writes it anew"
    assert f"docs/{result.PICTURE.name}" in readme and result.PICTURE.is_file()


def test_the_shipped_records_hold():
    """As ``vidlib verify`` says it."""
    verdict = verify.verify(replaying=0.0)
    assert not verdict.findings, verdict.findings
    assert verdict.subjects > 50


def test_the_first_cell_of_ma_fsar_says_what_came_out():
    def gap(other, test):
        return ladder.gap("ma_fsar", other, ladder.FROZEN, "motion", test)

    others = [name for name in ladder.TRAINED if name != "ma_fsar"]
    assert len(others) == 9 and "above seven of nine trained methods" in _first_cell("ma_fsar")
    assert "MA-FSAR is above seven of nine" in result.README.read_text()
    for test, apart in (("test", set(others) - {"strm", "gghm"}), ("test_5shot", {"clip_fsar"})):
        found = {other: gap(other, test) for other in others}
        assert {other for other, (points, half) in found.items() if points > half} == apart, test
        assert not any(points < -half for points, half in found.values()), test
    assert abs(gap(ladder.ORDERED, "test_5shot")[0]) < 0.5, "level"
    for other in ("aim", "trx", "otam", "frozen_clip", "zero_shot_clip"):
        points, half = ladder.gap("ma_fsar", other, ladder.FROZEN, "words")
        assert points < -half, f"{other} on words"


def test_what_a_tuned_tower_has_on_motion():
    """In README and in the first cells of three notebooks."""
    found = ladder.results("motion").set_index(["column", "method"])
    tuned, frozen, readme = found.loc[ladder.RESNET], found.loc[ladder.FROZEN], result.README.read_text()
    row = tuned.loc["sloshnet"]
    assert row["accuracy"] == tuned["accuracy"].max()
    assert f"{row['accuracy']:.1f} ± {row['half']:.1f} on test after {ladder.EPISODES} episodes" in _first_cell(
        "sloshnet"
    )
    low = tuned.loc["gghm"]
    assert f"{_shown(low)} on test, second by the mean" in _first_cell("gghm")
    assert low["accuracy"] == tuned["accuracy"].drop("sloshnet").max()
    gaps = {name: ladder.gap("sloshnet", name, ladder.RESNET, "motion") for name in tuned.index if name != "sloshnet"}
    assert {name for name, (points, half) in gaps.items() if points <= half} == {"gghm"}
    said = "{:.1f} ± {:.1f}".format(*gaps["gghm"])
    assert f"but GgHM ({said}: its seeds" in _first_cell("sloshnet")
    points, half = ladder.gap("gghm", "trx", ladder.RESNET, "motion")
    assert f"SloshNet (−{said}) nor from TRX (+{points:.1f} ± {half:.1f})" in _first_cell("gghm") and points < half
    best = [tuned.loc[name] for name in ("sloshnet", "gghm", "trx")]
    high = "({}, {}, {})".format(*map(_shown, best))
    assert f"takes SloshNet, GgHM and TRX higher {high}" in _first_cell("ma_fsar")
    most = frozen["accuracy"].max()
    assert min(row["accuracy"] for row in best) > most + 10 and f"TRX ({_shown(best[2])}) are far above" in readme
    row = tuned.loc["strm"]
    assert row["accuracy"] > most and f"STRM ({_shown(row)}) is by its mean" in readme
    low = tuned["accuracy"][["otam", "bimhm", "protonet", "hyrsm", "molo"]]
    assert f"HyRSM and MoLo stay at {low.min():.0f} to {low.max():.0f}." in readme
    assert _blind(ladder.RESNET) == {tables.label(name) for name in low.index}
    assert _blind(ladder.FROZEN) == {"CLIP-FSAR", "AIM", "SloshNet"}, "as README and MA-FSAR's first cell say"


def test_what_a_tuned_clip_has_on_motion():
    """In README and in the first cell of ma_fsar."""
    found = ladder.results("motion").set_index(["column", "method"])
    tuned, frozen, readme = found.loc[ladder.TUNED], found.loc[ladder.FROZEN], result.README.read_text()
    learnt = tuned.loc[["ma_fsar", "molo", "strm", "trx"]]
    others = [_shown(learnt.loc[name]) for name in ("molo", "strm", "trx")]
    said = "MA-FSAR, MoLo ({}) and STRM ({}) read motion; the seeds of TRX ({}) lie too far apart to say."
    assert said.format(*others) in readme and set(learnt["seeds"]) == {ladder.SEEDS}
    shortcuts = pd.read_csv(result.ROOT / "docs" / "cards" / "shortcuts.csv")
    here = shortcuts[(shortcuts["world"] == "motion") & shortcuts["shortcut"].str.startswith("median picture")]
    bar = here["measured (%)"].max()
    assert [*frozen.index[frozen["accuracy"] - frozen["half"] > bar]] == ["ma_fsar"], "alone reads motion"
    above = learnt["accuracy"] - learnt["half"] > bar
    assert above.to_dict() == {"ma_fsar": True, "molo": True, "strm": True, "trx": False}
    points, half = ladder.apart(
        *(ladder.studied(column, "motion")["ma_fsar"] for column in (ladder.TUNED, ladder.FROZEN))
    )
    assert points > half and f"MA-FSAR gains {points:.1f} ± {half:.1f} points by it" in readme
    own = f"it has {_shown(tuned.loc['ma_fsar'])}, which is {points:.1f} ± {half:.1f} more"
    assert own in _first_cell("ma_fsar") and f"clip-mini has {_shown(frozen.loc['ma_fsar'])}" in _first_cell("ma_fsar")
    for other in ("trx", "molo"):
        points, half = ladder.gap("ma_fsar", other, ladder.TUNED, "motion")
        assert abs(points) < half, "not apart"
    points, half = ladder.gap("ma_fsar", "molo", ladder.TUNED, "motion", "test_5shot")
    said = f"at five shots MoLo is above it, by {-points:.1f} ± {half:.1f}."
    assert -points > half and said in readme and said in _first_cell("ma_fsar")
    rest = tuned.drop(index=learnt.index)
    assert len(rest) == 7 and set(rest["seeds"]) == {1} and _blind(ladder.TUNED) == set(rest["name"])
    low = rest["accuracy"]
    assert f"The other seven, whose tries had not left chance, have {low.min():.0f} to {low.max():.0f} " in readme


def _shown(row):
    return f"{row['accuracy']:.1f} ± {row['half']:.1f}"


def _blind(column):
    """Who was searched where no try had left chance, as the notebook says it."""
    (line,) = [line for line in ladder.searched().splitlines() if line.startswith(column) and "blindly" in line]
    return {*line.partition(" of ")[2].partition(" no try")[0].split(", ")}


def _ablated(method):
    """The runs of a method's ablations on record, those with all seeds, and their table."""
    planned = ablations.planned(MODELS[method](), method, range(ladder.SEEDS))
    done = {name: [records.find(params) for params in each] for name, each in planned.items()}
    done = {name: each for name, each in done.items() if all(each)}
    return done, ablations.table(done, method)


def _gain(done, name, control):
    """The accuracy on val minus that under a control, of each seed."""
    return [run.result["val"]["accuracy"] - run.result[control]["accuracy"] for run in done[name]]


def _first_cell(name):
    return nbformat.read(result.README.parent / "notebooks" / f"{name}.ipynb", 4).cells[0].source


def test_the_first_cell_of_gghm_says_what_came_out():
    done, table = _ablated("gghm")
    said, full = _first_cell("gghm"), table.loc["full method"]
    assert f"On val, {full['accuracy']:.1f} ± {full['interval']:.1f}" in said
    for name in ("without the channel relation", "frozen tower"):
        lost = table.loc[name]
        assert f"−{-lost['difference']:.1f} ± {lost['half']:.1f}" in said and -lost["difference"] > lost["half"], name
    dense = table.loc["without dense temporal modelling"]
    assert (
        f"−{-dense['difference']:.1f} ± {dense['half']:.1f} is not beyond" in said
        and -dense["difference"] < dense["half"]
    )
    each = [[run.result["val"]["accuracy"] for run in done[name]] for name in ("full method", dense.name)]
    assert all(whole > without for whole, without in zip(*each, strict=True))
    for name in ("the graph's guidance", "the loss on the graph's edges", "the patch relation"):
        assert table.loc[f"without {name}", ablations.SAID].startswith("no difference beyond"), name
    alone = table.loc["tuples alone (alpha 1)"]
    assert f"(+{alone['difference']:.1f} ± {alone['half']:.1f})" in said and abs(alone["difference"]) < alone["half"]


def test_the_first_cell_of_sloshnet_says_what_came_out():
    done, table = _ablated("sloshnet")
    said = _first_cell("sloshnet")
    defect = table.loc["released defect: scrambles_time"]
    assert f"**raises** it, here by {defect['difference']:.1f} ± {defect['half']:.1f}" in said
    full = table.loc["full method"]
    assert f"{full['accuracy']:.1f} ± {full['interval']:.1f}: the deepest map" in said
    for name in ("the deepest map alone", "tuples of one frame alone", "without both temporal modules"):
        lost = table.loc[name]
        assert lost[ablations.SAID].startswith("lower beyond"), name
        assert f"{-lost['difference']:.1f} ± {lost['half']:.1f}" in said, name
    lost = table.loc["without the long-term module"]
    assert f"(−{-lost['difference']:.1f} ± {lost['half']:.1f})" in said
    same = [name for name in table.index if name.startswith("a fixed")]
    for name in (*same, "without the short-term module"):
        assert table.loc[name, ablations.SAID].startswith("no difference beyond"), name
    accuracies = {name: [run.result["val"]["accuracy"] for run in done[name]] for name in done}
    assert all(np.subtract(accuracies["full method"], accuracies["without the long-term module"]) > 0)
    even = "a fixed mix: every operation a third"
    assert all(np.subtract(accuracies[even], accuracies["full method"]) > 0)
    assert f"({table.loc[even]['difference']:+.1f} ± {table.loc[even]['half']:.1f})" in said


def test_what_the_surprising_defect_gives_where_all_is_as_in_the_ladder():
    """In README and in the first cell of sloshnet."""
    changed = [records.find(params) for params in ladder.ablated(*evidence.DEFECT)]
    plain = ladder.studied(ladder.RESNET, "motion")["sloshnet"]
    mean, halves = over_seeds([run.result["test"] for run in changed])
    accuracy = f"{100 * mean:.1f} ± {100 * halves['seeds']:.1f}"
    points, half = ladder.apart(changed, plain)
    assert points > half
    lower, far = ladder.apart(changed, plain, "frames_shuffled")
    assert lower < -far
    both = [np.mean([100 * run.result["frames_shuffled"]["accuracy"] for run in each]) for each in (changed, plain)]
    shuffled = "({:.1f} against {:.1f})".format(*both)
    said, readme = _first_cell("sloshnet"), result.README.read_text()
    assert f"by {points:.1f} ± {half:.1f}, to {accuracy} on test" in said and shuffled in said
    assert f"SloshNet has {accuracy} with it, {points:.1f} ± {half:.1f} points more" in readme and shuffled in readme


def test_the_first_cell_of_ma_fsar_says_what_carries_it():
    done, table = _ablated("ma_fsar")
    said = table[ablations.SAID]
    cell = _first_cell("ma_fsar")
    for name, words in {
        "without TPCM": "without it −{:.1f} ± {:.1f}",
        "TPCM alone": "(TPCM alone −{:.1f} ± {:.1f};",
        "neither text token nor text in TPCM": "(without −{:.1f} ± {:.1f})",
    }.items():
        lost = table.loc[name]
        assert said[name].startswith("lower beyond") and words.format(-lost["difference"], lost["half"]) in cell, name
    lost = table.loc["TPCM as plain self-attention"]
    assert f"(every seed has less, −{-lost['difference']:.1f} ± {lost['half']:.1f})" in cell
    assert lost[ablations.SAID].startswith("no difference beyond")
    each = [[run.result["val"]["accuracy"] for run in done[name]] for name in ("full method", lost.name)]
    assert all(whole > without for whole, without in zip(*each, strict=True))
    lost = table.loc["no text token in the support branch"]
    assert f"suffices (−{-lost['difference']:.1f} ± {lost['half']:.1f})" in cell
    for part in ("global temporal", "local", "joint"):
        assert said[f"without {part} adaptation"].startswith("no difference beyond"), part
    assert said["no text token in the support branch"].startswith("no difference beyond")
    mean, half = seed_interval(_gain(done, "full method", "texts_permuted"), 0.0)
    assert abs(mean) < half, "the right texts, on val"
    gains = {}
    for world in ("motion", "words"):
        each = [record.result for record in ladder.studied(ladder.FROZEN, world)["ma_fsar"]]
        gains[world] = seed_interval([one["test"]["accuracy"] - one["texts_permuted"]["accuracy"] for one in each], 0.0)
    assert abs(gains["motion"][0]) < gains["motion"][1], "and on test"
    assert "worth {:.1f} ± {:.1f} points on test".format(*(100 * each for each in gains["words"])) in cell
    assert said["full tuning of the image tower"].startswith("no difference beyond"), "open at the adapters' own rate"


def test_the_first_cell_of_actionclip_says_what_came_out():
    done, table = _ablated("actionclip")
    said, full = _first_cell("actionclip"), table.loc["full method"]
    assert f"{full['accuracy']:.1f} ± {full['interval']:.1f} on 24 trained" in said
    assert f"{full[ablations.NEW]:.1f} on 16 new ones" in said
    for run in done["full method"]:
        assert run.result["val"]["accuracy"] == run.result["val_frames_shuffled"]["accuracy"], "no order of time"
    others = table.drop(index=["full method", "Transf"])  # which is the full method
    assert (others[ablations.SAID].str.startswith("no difference beyond")).all()
    rival = table.loc["1-of-N classifier (unimodal)"]
    assert f"{rival['difference']:.1f} ± {rival['half']:.1f} *more*" in said
    new = table[[f"{ablations.NEW}, difference", f"{ablations.NEW}, half"]].set_axis(["points", "half"], axis=1)
    assert (new.loc[["MeanP", "Conv1D", "joint, pre-network", "LSTM"]].eval("points - half") > 0).all()
    below = [f"{-new.points[name]:.1f} ± {new.half[name]:.1f}" for name in ("Transf_cls", "image tower alone")]
    assert f"by {' and '.join(below)}" in said
    assert f"(MeanP by {new.points['MeanP']:.1f} ± {new.half['MeanP']:.1f})" in said
    assert "Of the paper's seven claims four stay open" in said
    assert re.search("Of 7 claims: .* 4 stay open", paper_claims.summary(paper_claims.table("actionclip", table)))


def test_the_first_cell_of_m2clip_says_what_came_out():
    (done, table), said = _ablated("m2clip"), _first_cell("m2clip")
    full = table.loc["full method"]
    assert f"{full['accuracy']:.1f} ± {full['interval']:.1f} on 24 trained" in said
    assert f"{full[ablations.NEW]:.1f} on 16 new ones" in said
    lost = table.loc["without both branches"]
    loses = f"it loses\n{-lost['difference']:.1f} ± {lost['half']:.1f} points, without either"
    assert loses in said and -lost["difference"] > lost["half"]
    same = [name for name in table.index if "text adapters" in name or name.startswith("without temporal")]
    assert len(same) == 5 and table.loc[same, ablations.SAID].str.startswith("no difference beyond").all()
    new = table[[f"{ablations.NEW}, difference", f"{ablations.NEW}, half"]].set_axis(["points", "half"], axis=1)
    for name in ("contrastive head alone", "without visual classification"):
        assert f"{-new.points[name]:.1f} ± {new.half[name]:.1f}" in said and -new.points[name] > new.half[name], name
    classifiers = ("scored by the classifier", "the classifier alone")
    for name in classifiers:
        more = table.loc[name]
        assert f"{more['difference']:.1f} ± {more['half']:.1f}" in said and more["difference"] > more["half"], name
    with_four, alone = ([run.result["val"]["accuracy"] for run in done[name]] for name in classifiers)
    mean, half = seed_interval(np.subtract(alone, with_four), 0.0)
    assert abs(mean) < half and "which is not apart from 12.0" in said
    assert "Of the paper's seven claims five stay open" in said
    assert re.search("Of 7 claims: .* 5 stay open", paper_claims.summary(paper_claims.table("m2clip", table)))


def test_what_choosing_on_test_gives():
    """In README and in comparison.ipynb."""
    gained = price_of_test.read()
    twelve = gained[gained["k"] == max(price_of_test.COMPARED)].set_index("method")
    row, rest = twelve.loc[price_of_test.POOLED], twelve.drop(index=price_of_test.POOLED)
    assert len(rest) == 10 and set(rest["seeds"]) == {price_of_test.SEEDS}
    text = "\n".join(cell.source for cell in nbformat.read(result.ROOT / "notebooks" / "comparison.ipynb", 4).cells)
    most = f"{row['gain']:.1f} ± {row['interval']:.1f} points"
    assert f"gives {most} on the frozen clip-mini" in result.README.read_text()
    assert f"test gives {most} more than val (± over methods), {row['other']:.2f} of which" in text
    said = {name: f"{one['gain']:.1f} ± {one['interval']:.1f}" for name, one in rest.iterrows()}
    assert f"TRX ({said['TRX']}) and CLIP-FSAR ({said['CLIP-FSAR']})" in text
    assert f"MA-FSAR has {said['MA-FSAR']},\nevery other at most 0.3." in text
    assert rest["gain"].drop(["TRX", "CLIP-FSAR", "MA-FSAR"]).max() < 0.35
    assert gained[gained["method"] == price_of_test.POOLED].sort_values("k")["gain"].is_monotonic_increasing


def test_readme_names_the_best_shortcut_on_motion():
    rows = pd.read_csv(result.README.parent / "docs" / "cards" / "shortcuts.csv")
    rows = rows[(rows["world"] == "motion") & (rows["split"] == "test") & (rows["bar"] == "0 to 30")]
    best = rows.loc[rows["measured (%)"].idxmax()]
    assert best["shortcut"] == "median picture over time"
    assert f"the best, a clip's median picture, has {best['measured (%)']:.1f}" in result.README.read_text()


def test_readme_says_that_training_costs_accuracy_on_words():
    gaps = {name: ladder.gap(name, "frozen_clip", ladder.FROZEN, "words") for name in ladder.TRAINED}
    assert all(points < 0 for points, _ in gaps.values())
    assert {name for name, (points, half) in gaps.items() if -points <= half} == {"trx"}
    said = "every trained method is below frozen CLIP, all but TRX (−{:.1f} ± {:.1f}) beyond the interval"
    assert said.format(-gaps["trx"][0], gaps["trx"][1]) in result.README.read_text()


def test_marks_that_are_gone_are_named():
    with pytest.raises(UserError, match="lacks the marks"):
        result.placed("# vidlib\n", "")
