"""Class names of every script: an installed font that has the letters draws them, else a sentence says what to do."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from vidlib.basics import progress
from vidlib.viz import confusion, filmstrip, letters, style

RUNNING = "\u8dd1\u6b65"  # to run, in Chinese
CACHES = (letters._families_with, letters._drawn_by, letters._letters_of)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(progress, "_said", set())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [])  # this machine's own fonts differ
    monkeypatch.setattr(
        font_manager.fontManager,
        "ttflist",
        [font for font in font_manager.fontManager.ttflist if "site-packages" in font.fname],
    )
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A font with two letters, each a small square, installed after matplotlib made its list."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 300), (300, 300), (300, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "one", "two"])
    font.setupCharacterMap({ord(letter): name for letter, name in zip(RUNNING, ("one", "two"), strict=True)})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "one": pen.glyph(), "two": pen.glyph()})
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", "one", "two"), (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Small Test", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "small.ttf")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [str(tmp_path / "small.ttf")])


def test_an_installed_font_that_has_the_letters_is_taken(installed, capsys):
    matrix = confusion.plot(np.eye(2), [RUNNING, "walk"])
    figure = matrix.get_figure(root=True)
    words = {text.get_text(): text.get_fontfamily() for text in figure.findobj(plt.Text) if text.get_text()}
    assert words[RUNNING][-1] == "Small Test" and "Small Test" not in words["walk"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert capsys.readouterr().out == ""
    plt.close(figure)


def test_letters_that_no_font_has_are_said_once(capsys):
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    for _ in range(2):
        plt.close(filmstrip.clip(frames, title=f"{RUNNING} \u00d7 \u03b1 \u0431").get_figure(root=True))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "".join(sorted(RUNNING)) in said and "(CJK)" in said and "fonts-noto-cjk" in said
    assert "\u03b1" not in said, "the usual font has Greek and Cyrillic"


def test_a_figure_that_was_written_on_later_is_completed_when_it_is_saved(installed, tmp_path):
    axes = style.new_axes(2, 2)
    axes.set_title(RUNNING)
    style.remember(axes, style.pd.DataFrame({"a": [1]}))
    style.save(axes.figure, tmp_path, "some", formats=("png",))
    assert axes.title.get_fontfamily()[-1] == "Small Test"
