"""The cards of towers and worlds say what records, entries and measurements say."""

import pandas as pd
import pytest

from docs import cards
from vidlib.studies import bars


@pytest.mark.parametrize("name", [*cards.TOWERS, *cards.ladder.WORLDS])
def test_a_card_has_todays_numbers(name):
    assert cards.written(name) == cards.place(name).read_text(), "python -m docs.cards writes them anew"


def test_every_bar_was_measured_and_holds():
    measured = pd.read_csv(cards.MEASURED, keep_default_na=False)
    assert measured["holds"].all()
    for bar in bars.BARS:
        own = measured[(measured["world"] == bar.world) & measured["shortcut"].str.startswith(bar.shortcut)]
        own = own[(own["what"] == bar.column) & (own["bar"] == f"{bar.at_least:g} to {bar.at_most:g}")]
        assert set(own["split"]) == {"val", "test"}, bar
        assert own["measured (%)"].between(bar.at_least, bar.at_most).all()
