"""The command line answers at once: what needs no torch loads none, nor anything else that takes long to import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_reports import record
from vidlib.params.few_shot import RunParams

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "av", "decord", "scipy", "matplotlib", "seaborn", "lightning_fabric", "timm", "open_clip", "IPython")
COMMAND = f"""
import sys
from vidlib import cli
try:
    code = cli.main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print("loaded:", *({{*{HEAVY}}} & {{*sys.modules}}))
sys.exit(code)
"""
STARTS = {  # command -> exit code, and a word of what it prints
    "--help": (0, "usage: vidlib"),
    "run --help": (0, "RECIPE"),
    "run ma_fsarr": (1, "did you mean 'ma_fsar'"),
    "run ma_fsar --set shoot=5": (1, "did you mean 'shot'"),
    "sweep ma_fsarr --grid seed=1,2": (1, "did you mean 'ma_fsar'"),
    "estimate ma_fsarr": (1, "did you mean 'ma_fsar'"),
    "lab --help": (0, "DIR"),
    "data --help": (0, "prefetch"),
    "data list": (0, "HERE"),
    "data show hmdb51": (0, "HMDB51 few-shot"),
    "data show hmdb5": (1, "did you mean 'hmdb51'"),
    "report page": (0, "2 finished runs"),
    "report page --runs nowhere": (1, "does not exist"),
}


def started(folders: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    """A command in a Python of its own, which prints last what it has loaded of the heavy ones."""
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, env=os.environ | folders, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("start")
    for seed in (0, 1):
        record(root / "runs", RunParams(seed=seed), 0.5)
    return {f"VIDLIB_{name.upper()}": str(root / name) for name in ("runs", "data", "cache")}


@pytest.mark.parametrize("command", STARTS)
def test_a_command_that_needs_no_torch_starts_without_it(command, folders):
    code, word = STARTS[command]
    done = started(folders, *command.split())
    assert done.returncode == code and word in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout[-200:]


def test_a_papers_table_needs_no_torch(folders):
    done = started(folders, "report", "table", "ma_fsar")
    assert done.returncode == 0 and "hmdb51" in done.stdout and done.stdout.splitlines()[-1] == "loaded: scipy"
