"""README opens with what the records say."""

import pytest

from docs import result
from vidlib.basics.errors import UserError
from vidlib.studies import verify


def test_the_table_in_readme_is_that_of_the_records():
    readme = result.README.read_text()
    assert result.placed(readme, result.lines()) == readme, "python -m docs.result writes it anew"
    assert f"docs/{result.PICTURE.name}" in readme and result.PICTURE.is_file()


def test_the_shipped_records_hold():
    """As ``vidlib verify`` says it."""
    verdict = verify.verify([])
    assert not verdict.findings, verdict.findings
    assert verdict.subjects > 50


def test_marks_that_are_gone_are_named():
    with pytest.raises(UserError, match="lacks the marks"):
        result.placed("# vidlib\n", "")
