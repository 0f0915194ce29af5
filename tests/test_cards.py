"""The cards of towers and worlds say what records, entries and measurements say."""

import pandas as pd
import pytest
import yaml

import vidlib
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


def test_citation_and_changelog_name_this_version_and_the_papers():
    said = yaml.safe_load((cards.ROOT / "CITATION.cff").read_text())
    assert said["version"] == vidlib.__version__
    assert f"\n## {vidlib.__version__}\n" in (cards.ROOT / "CHANGELOG.md").read_text()
    cited = {each["identifiers"][0]["value"] for each in said["references"]}
    assert {f"arXiv:{each}" for each in ("2308.01532", "2301.07944", "2308.09346", "2109.08472", "2401.11649")} < cited
