"""What is said where the browser tests cannot run."""

import pytest

from tests.browser import finding


@pytest.fixture
def installed(monkeypatch):
    """As if playwright were installed and the PATH held nothing."""
    monkeypatch.setattr(finding.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("VIDLIB_CHROMIUM", raising=False)


def test_absent_things_are_named_with_the_command_that_installs_them(monkeypatch, installed):
    assert "sudo apt-get install --no-install-recommends chromium" in finding.lacking()
    monkeypatch.setattr(finding.importlib.util, "find_spec", lambda name: None)
    assert "pip install -c constraints.txt -e '.[test]'" in finding.lacking()


def test_a_named_chromium_is_taken_or_told_to_be_absent(monkeypatch, installed, tmp_path):
    own = tmp_path / "chromium"
    monkeypatch.setenv("VIDLIB_CHROMIUM", str(own))
    assert f"VIDLIB_CHROMIUM names {own}, where no file is" in finding.lacking()
    own.touch()
    assert finding.lacking() == "" and finding.chromium() == str(own)
