"""Which browser there is, or the sentence that says what to install."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLAYWRIGHT = "playwright is not installed: .venv/bin/python -m pip install -c constraints.txt -e '.[test]'"
CHROMIUM = (
    f"no Chromium on the PATH ({', '.join(NAMES)}): sudo apt-get install --no-install-recommends chromium, "
    "or name one with VIDLIB_CHROMIUM=/path/to/chromium"
)


def chromium() -> str:
    """The path of Chromium: ``$VIDLIB_CHROMIUM``, else the first of ``NAMES`` on the PATH, else an empty string."""
    named = os.environ.get("VIDLIB_CHROMIUM", "")
    if named:
        return named if Path(named).is_file() else ""
    return next((path for path in map(shutil.which, NAMES) if path), "")


def lacking() -> str:
    """What keeps the browser tests from running, with the command that installs it; empty where nothing does."""
    if importlib.util.find_spec("playwright") is None:
        return PLAYWRIGHT
    if chromium():
        return ""
    named = os.environ.get("VIDLIB_CHROMIUM", "")
    return f"VIDLIB_CHROMIUM names {named}, where no file is: name another one, or unset it" if named else CHROMIUM


if __name__ == "__main__":
    sys.exit(f"make test-browser: {lacking()}" if lacking() else 0)
