"""README opens with what the records say."""

import pytest

from docs import result
from vidlib.basics.errors import UserError
from vidlib.params.notebooks import MODELS
from vidlib.studies import ablations, ladder, records, verify


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

    for other in ("clip_fsar", "aim", "trx", "hyrsm", ladder.ORDERED):
        points, half = gap(other, "test")
        assert points > half, f"{other} at one shot"
    for other, test in [
        ("strm", "test"),
        *((other, "test_5shot") for other in ("strm", "trx", "hyrsm", ladder.ORDERED)),
    ]:
        points, half = gap(other, test)
        assert points <= half, f"{other}, {test}"
    for other in ("trx", "otam", "frozen_clip", "zero_shot_clip"):
        points, half = ladder.gap("ma_fsar", other, ladder.FROZEN, "words")
        assert points < -half, f"{other} on words"


def test_the_first_cell_of_ma_fsar_says_what_carries_it():
    planned = ablations.planned(MODELS["ma_fsar"](), "ma_fsar", range(ladder.SEEDS))
    done = {name: [records.find(params) for params in each] for name, each in planned.items()}
    said = ablations.table({name: each for name, each in done.items() if all(each)}, "ma_fsar")[ablations.SAID]
    for name in ("without TPCM", "neither text token nor text in TPCM"):
        assert said[name].startswith("lower beyond"), name
    for part in ("global temporal", "local", "joint"):
        assert said[f"without {part} adaptation"].startswith("no difference beyond"), part


def test_readme_says_that_training_costs_accuracy_on_words():
    found = ladder.results("words")
    found = found[found["column"] == ladder.FROZEN].set_index("method")
    trained = found[~found["floor"]]
    assert "no trained method reaches the untrained tower" in result.README.read_text()
    assert (trained["accuracy"] < found.loc["frozen_clip", "accuracy"]).all()


def test_marks_that_are_gone_are_named():
    with pytest.raises(UserError, match="lacks the marks"):
        result.placed("# vidlib\n", "")
