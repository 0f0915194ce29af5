"""A run in several processes: torchrun starts them, never a fork of this one, and their errors come back as one."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vidlib.basics.errors import UserError
from vidlib.basics.progress import COUNTING, shower
from vidlib.params.base import Params

ERROR = "VIDLIB_ERROR_FILE"  # where a process that another one started leaves the sentence of its UserError


def is_child() -> bool:
    """Whether torchrun started this process."""
    return torch.distributed.is_torchelastic_launched()


def run_apart(params: Params, module: str, devices: int) -> None:
    """Have torchrun run ``module`` with ``params`` in ``devices`` processes, passing on what they print."""
    with tempfile.TemporaryDirectory() as folder:
        file, trouble = Path(folder, "params.json"), Path(folder, "stderr")
        file.write_text(params.model_dump_json())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        command += ["-m", module, "--params", str(file)]
        headless = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
        with open(trouble, "w") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=headless)
            show = None
            for line in child.stdout:
                if COUNTING.fullmatch(line.strip()):
                    show = show or shower()
                    show(line.strip(), False)
                else:
                    print(line, end="", flush=True)
        if child.wait() != 0:
            sentence = _error_file(file)
            if sentence.is_file():
                raise UserError(sentence.read_text())
            print(trouble.read_text()[-4000:])
            raise UserError(f"devices: the run in {devices} processes ended with code {child.returncode}, see above")


def main(kind: type[Params], run: Callable[[Any], Any], about: str) -> None:
    """``torchrun -m MODULE --params FILE``: one run from a parameter file."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--params", required=True, help="a recipe (YAML) or a run's params.json")
    file = Path(parser.parse_args().params)
    try:
        run(kind.from_file(file))
    except UserError as error:
        if place := os.environ.get(ERROR) or (is_child() and _error_file(file)):
            Path(place).write_text(str(error))
        sys.exit(str(error))


def _error_file(params_file: Path) -> Path:
    """Where a child process leaves the sentence of its ``UserError`` for the one that started it."""
    return params_file.with_suffix(".error")
