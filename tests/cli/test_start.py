"""The command line answers at once: what needs no torch loads none, and starts about as fast as pandas and pydantic."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_reports import record
from vidlib.params.few_shot import RunParams

ROOT = Path(__file__).resolve().parents[2]
TRIES, SLOWER = 4, 1.5  # of so many one must be as fast, against the libraries below just before it
BARE = "import pandas, pydantic"
HEAVY = ("torch", "av", "decord", "scipy", "matplotlib", "lightning_fabric", "IPython")
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


def started(code: str, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess, float]:
    """A Python of its own, and the seconds of processor time that it took: other work on the machine counts less."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=os.environ | environment, cwd=ROOT, capture_output=True, text=True
    )
    after = os.times()
    return done, sum(after[2:4]) - sum(before[2:4])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("start")
    for seed in (0, 1):
        record(root / "runs", RunParams(seed=seed), 0.5)
    return {f"VIDLIB_{name.upper()}": str(root / name) for name in ("runs", "data", "cache")}


@pytest.mark.parametrize("command", STARTS)
def test_a_command_that_needs_no_torch_starts_without_it(command, folders):
    tried, (code, word) = [], STARTS[command]
    while not tried or (len(tried) < TRIES and tried[-1] >= SLOWER):
        bare = started(BARE)[1]
        done, took = started(COMMAND, *command.split(), **folders)
        tried.append(took / bare)
    assert done.returncode == code and word in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout[-200:]
    assert min(tried) < SLOWER, f"{command} took so many times as long as {BARE}: {tried}"


def test_a_papers_table_needs_no_torch(folders):
    done, _ = started(COMMAND, "report", "table", "ma_fsar", **folders)
    assert done.returncode == 0 and "hmdb51" in done.stdout and done.stdout.splitlines()[-1] == "loaded: scipy"
