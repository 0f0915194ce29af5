"""Letters of every script in figures: what the usual font lacks is drawn with an installed one that has it, or said."""

import unicodedata
import warnings
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from vidlib.basics.progress import say_once
from vidlib.basics.words import few

# Its glyphs are boxes with a script's name, and Computer Modern's letters stand at other letters' numbers.
NO_LETTERS = ("Last Resort", "cm")
EAST_ASIAN = ("CJK", "HANGUL", "HIRAGANA", "KATAKANA")
warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")  # said here, once and with what to do


def complete(figure: Figure) -> None:
    """Give each text of the figure the fonts that its letters need; say once which letters no installed font has."""
    for text in figure.findobj(Text):
        letters = {letter for letter in text.get_text() if ord(letter) > 127 and letter.isprintable()}
        families = tuple(text.get_fontfamily())
        lacking = frozenset(letters - _drawn_by(families)) if letters else frozenset()
        if lacking:
            found, boxes = _families_with(lacking)
            text.set_fontfamily([*families, *found])
            if boxes:
                say_once(_said(boxes))


@cache
def _letters_of(path: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (RuntimeError, OSError):
        return frozenset()


@cache
def _drawn_by(families: tuple[str, ...]) -> frozenset[str]:
    paths = (font_manager.findfont(FontProperties(family=[family])) for family in families)
    return frozenset().union(*map(_letters_of, paths))


@cache
def _families_with(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Installed families that have the letters, Noto's first and as few as it takes in order; the letters left over."""
    known = {font.fname for font in fontManager.ttflist}
    for path in font_manager.findSystemFonts():  # matplotlib's list may be older than a font
        if path not in known:
            try:
                fontManager.addfont(path)
            except (RuntimeError, OSError, ValueError):
                continue
    fonts = {font.name: font.fname for font in fontManager.ttflist if not font.name.startswith(NO_LETTERS)}
    order = sorted(fonts, key=lambda name: (not name.startswith("Noto Sans"), name))
    order.sort(key=lambda name: -len(letters & _letters_of(fonts[name])))
    found, left = [], letters
    for name in order:
        if left & _letters_of(fonts[name]):
            found.append(name)
            left -= _letters_of(fonts[name])
    return tuple(found), left


def _said(letters: frozenset[str]) -> str:
    scripts = sorted({unicodedata.name(letter, "UNKNOWN").split()[0].removesuffix("-UNIFIED") for letter in letters})
    package = "fonts-noto-cjk" if set(scripts) <= set(EAST_ASIAN) else "fonts-noto-core and fonts-noto-cjk"
    return (
        f"no installed font has {few(sorted(letters), 8, '')} ({few(scripts)}), so boxes stand for them in figures; "
        f"install one that has them, such as Noto Sans (Debian and Ubuntu: {package}), and start again"
    )
