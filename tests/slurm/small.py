"""A checkout whose notebooks are cut to their parameters and a few lines, so that a cell takes seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = """from vidlib.params.by_recipe import FewShotNotebookParams
from vidlib.training import few_shot

p = few_shot.checked(FewShotNotebookParams.from_notebook(globals()))
print(few_shot.run(p.run_params()))"""
# Few videos, two frames of each, no floors beside; weights are selected twice.
SIZE = ["method=protonet", "dataset=scene", "seeds=1", "frames=2", "way=2", "val_episodes=4", "test_episodes=20"]
SIZE += ["train_episodes=6", "val_every=3"]


class Small:
    """The checkout in ``folder``; ``vidlib`` runs a command there whose records go into ``folder/<runs>``."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None):
        self.folder, self.environment = folder / "checkout", environment or {}
        for name in ("vidlib", "recipes", "data_manifests"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        (self.folder / "notebooks").mkdir()
        self.cut("few_shot", RUN)

    def cut(self, name: str, code: str) -> None:
        """That notebook with ``code`` behind its parameters, in place of all else."""
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
        cells = notebook["cells"]
        first = next(i for i, cell in enumerate(cells) if "from_notebook(globals())" in "".join(cell["source"]))
        notebook["cells"] = cells[:first] + [{**cells[first], "source": code}]
        (self.folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))

    def started(self, *words: str, runs: str = "runs", program: str = "") -> subprocess.Popen:
        """``vidlib`` with ``words`` (or another ``program``), one thread; what it prints comes in a pipe."""
        own = {"PYTHONPATH": str(self.folder), "VIDLIB_RUNS": str(self.folder.parent / runs), "OMP_NUM_THREADS": "1"}
        own["VIDLIB_DATA"] = str(self.folder.parent / "data")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTEST"))}
        return subprocess.Popen(
            [sys.executable, *(["-c", program] if program else ["-m", "vidlib.cli"]), *words],
            env=environment | self.environment | own,
            cwd=self.folder.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def vidlib(self, *words: str, runs: str = "runs", code: int = 0) -> str:
        """What that command prints; it must end with ``code``."""
        process = self.started(*words, runs=runs)
        said = process.communicate()[0]
        assert process.returncode == code, said
        return said


def sweep(grid: list[str], *more: str, size: list[str] = SIZE) -> list[str]:
    """The words of a sweep over ``grid``."""
    return ["sweep", "few_shot", "--grid", *grid, "--set", *size, *more]
