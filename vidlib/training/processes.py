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

from vidlib.basics.devices import agree, make_fabric
from vidlib.basics.errors import UserError
from vidlib.basics.progress import COUNTING, shower
from vidlib.params.base import Params


def is_child() -> bool:
    """Whether torchrun started this process."""
    return torch.distributed.is_torchelastic_launched()


def run_apart(params: Params, module: str, devices: int) -> None:
    """Have torchrun run ``module`` with ``params`` in ``devices`` processes, passing on what they print."""
    with tempfile.TemporaryDirectory() as folder:
        file, trouble, sentence = (Path(folder, name) for name in ("params.json", "stderr", "sentence"))
        file.write_text(params.model_dump_json())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        command += ["-m", module, "--params", str(file), "--trouble", str(sentence)]
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
            if sentence.is_file():
                raise UserError(sentence.read_text())
            print(trouble.read_text()[-4000:])
            raise UserError(f"devices: the run in {devices} processes ended with code {child.returncode}, see above")


def main(kind: type[Params], open_work: Callable[[Any], Any], run: Callable[[Any], Any], about: str) -> None:
    """``torchrun -m MODULE --params FILE``: one run from a parameter file, in the processes that torchrun started, on
    one node or several; what one of them cannot open ends all."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--params", required=True, help="a recipe (YAML) or a run's params.json")
    parser.add_argument("--trouble", help="a file that takes the sentence of an error")
    given = parser.parse_args()
    try:
        params = kind.from_file(given.params)
        if is_child():  # its devices are those that torchrun was told
            run(agree(make_fabric(params.device, params.precision), lambda: open_work(params)))
        else:
            run(open_work(params))
    except UserError as error:
        if given.trouble:
            Path(given.trouble).write_text(str(error))
        sys.exit(str(error))
