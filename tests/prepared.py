"""The notebooks with parameters injected, as their tests run them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BARE = {"index": "it says where the others are and computes nothing"}  # notebooks without parameters, and why


def environment(runs: Path) -> dict[str, str]:
    """The environment of a headless run whose records go into ``runs``."""
    kept = {name: value for name, value in os.environ.items() if name not in ("JPY_SESSION_NAME", "PYTEST_ADDOPTS")}
    return {**kept, "VIDLIB_RUNS": str(runs), "JUPYTER_PREFER_ENV_PATH": "1"}


def prepare(path: Path, folder: Path, smoke: bool) -> Path:
    """The notebook with its smoke parameters injected (or its defaults), not yet run."""
    target = folder / path.name
    if path.stem in BARE:
        return Path(shutil.copy(path, target))
    arguments = ["-f", str(ROOT / "tests" / "smoke" / f"{path.stem}.yaml")] if smoke else []
    command = [sys.executable, "-m", "papermill", "--prepare-only", *arguments, str(path), str(target)]
    subprocess.run(command, check=True, capture_output=True, env=environment(folder / "runs"))
    return target
