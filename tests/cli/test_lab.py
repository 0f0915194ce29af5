"""``vidlib lab DIR``: what it writes, what of a user's it never touches, and how it opens."""

import json
import sys
from types import SimpleNamespace

import pytest

from vidlib import cli
from vidlib.basics import paths
from vidlib.cli import lab


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A small set of what is shipped, which a test may change."""
    for name in (
        "notebooks/index.ipynb",
        "notebooks/worlds.ipynb",
        "recipes/otam/motion.yaml",
        "data_manifests/w.yaml",
    ):
        (tmp_path / "ours" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ours" / name).write_text(f"first {name}")
    monkeypatch.setattr(paths, "shipped", lambda: tmp_path / "ours")
    return tmp_path / "ours"


def test_it_renews_what_was_given_and_keeps_what_was_changed(ours, tmp_path, capsys):
    work = tmp_path / "work"
    assert cli.main(["lab", str(work)]) == 0
    first = capsys.readouterr().out.splitlines()
    assert "4 of them new" in first[0] and first[1].startswith(f"open it:  {sys.executable} -m jupyterlab")
    assert (work / "vidlib" / "__init__.py").is_file()
    (work / "notebooks" / "worlds.ipynb").write_text("mine")
    (work / "recipes" / "otam" / "motion.yaml").unlink()
    assert cli.main(["lab", str(work)]) == 0
    said = capsys.readouterr().out
    assert "1 of them new" in said and "kept your" not in said, "a change is no news while ours is the same"
    for name in ("index", "worlds"):
        (ours / "notebooks" / f"{name}.ipynb").write_text("second")
    assert cli.main(["lab", str(work)]) == 0
    assert capsys.readouterr().out.startswith(f"kept your {work / 'notebooks' / 'worlds.ipynb'}; vidlib's own has")
    assert [(work / "notebooks" / f"{name}.ipynb").read_text() for name in ("index", "worlds")] == ["second", "mine"]
    (work / lab.ORIGIN).unlink()  # then nothing is known to be ours but what is as ours
    (ours / "notebooks" / "index.ipynb").write_text("third")
    assert cli.main(["lab", str(work)]) == 0
    assert (work / "notebooks" / "index.ipynb").read_text() == "second"
    assert json.loads((work / lab.ORIGIN).read_text()).keys() == {"recipes/otam/motion.yaml", "data_manifests/w.yaml"}


@pytest.mark.parametrize(("place", "word"), [("ours", "give another folder"), ("file", "is no folder")])
def test_a_folder_that_cannot_be_one_is_refused(place, word, ours, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["lab", str(tmp_path / place)]) == 1
    assert word in capsys.readouterr().err and not (ours / lab.ORIGIN).exists()


def test_a_damaged_note_is_said(ours, tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / lab.ORIGIN).write_text("{")
    assert cli.main(["lab", str(tmp_path / "work")]) == 1
    assert "damaged" in capsys.readouterr().err


def test_it_opens_the_copy(ours, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(lab, "subprocess", SimpleNamespace(run=lambda words, check: calls.append(words)))
    assert cli.main(["lab", str(tmp_path / "work"), "--open"]) == 0
    assert calls == [lab.command(tmp_path / "work")] and "open it" not in capsys.readouterr().out
