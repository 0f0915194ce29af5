"""``vidlib run``: a recipe's parameters checked, then its notebook executed by papermill and kept beside the runs.

``<runs>/notebooks/<notebook>-<id>.ipynb`` is the executed copy; the id hashes the notebook, what was given and the
source of vidlib. While it runs, and where it failed, it is ``<notebook>-<id>.unfinished.ipynb``; a whole one stays.
"""

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidlib.basics import paths
from vidlib.basics.digests import digest, file_digest, package_digest
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.basics.progress import interactive
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.params.base import PlaceParams
from vidlib.params.by_recipe import ByRecipe
from vidlib.params.few_shot import MAFSARParams, RunParams
from vidlib.params.notebooks import Request
from vidlib.params.tools import PredictParams
from vidlib.params.video_text import VideoTextParams, VideoTextRunParams, VideoTextStudy
from vidlib.results.intervals import cell

if TYPE_CHECKING:
    from vidlib.results.runs import Run
    from vidlib.training.run import Work

LAST = 12  # lines of a traceback that are printed
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
START_SECONDS = 180  # for a kernel: several started at once on a busy machine take long


def checked(request: Request) -> Request:
    """``request`` again, or a UserError of one sentence: what its notebook's first cells refuse, and absent data."""
    from vidlib.studies.predict import guess  # here and below: what a request means is known without torch
    from vidlib.training import few_shot, video_text

    p = request.params
    paths.check_writable(executed(request).parent, "runs", folder=True)
    if isinstance(p, PredictParams):
        guess.checked(p)
    elif isinstance(p, VideoTextParams):
        video_text.checked(p)
        if isinstance(p, VideoTextStudy):
            video_text.checked(p.run_params())
        if p.dataset not in WORLDS:
            video_text.open_plan(p)
    elif isinstance(p, PlaceParams):
        few_shot.checked(p)
        if not {p.dataset, getattr(p, "test_dataset", "")} <= {"", *WORLDS}:
            few_shot.open_manifest(p)
    return request


def main_runs(request: Request) -> list[RunParams | VideoTextRunParams]:
    """The runs of the notebook's own method, one for each seed; none where it studies no single method."""
    p = request.params
    if isinstance(p, VideoTextStudy):
        first = p.run_params()
    elif isinstance(p, MAFSARParams | ByRecipe) and p.method:
        first = p.run_params()
    else:
        return []
    return [first.model_copy(update={"seed": seed}) for seed in range(p.seed, p.seed + p.seeds)]


def recorded(request: Request) -> "list[Run | None]":
    """The finished run of each of ``main_runs``, or None."""
    if not (own := main_runs(request)):
        return []
    from vidlib.training import run

    return [run.recorded(work_of(params)) for params in own]


def homes(request: Request) -> list[Path]:
    """The folder of each of ``main_runs``, whether it is there or not."""
    if not (own := main_runs(request)):
        return []
    from vidlib.results import runs
    from vidlib.training import run

    return [runs.home_of(run.identity(work_of(params))) for params in own]


def work_of(params: RunParams | VideoTextRunParams) -> "Work":
    """The run that ``params`` name, not yet done."""
    from vidlib.training import few_shot, video_text

    return few_shot.work(params) if isinstance(params, RunParams) else video_text.work(params)


def runs_folder(request: Request) -> Path:
    """Where the request's runs are recorded."""
    return Path(getattr(request.params, "runs", "") or paths.runs_dir())


def executed(request: Request) -> Path:
    """Where the executed copy lies once it is whole."""
    key = {"notebook": file_digest(request.source), "vidlib": package_digest(), "given": request.determining}
    return runs_folder(request) / "notebooks" / f"{request.notebook}-{digest(key)[:12]}.ipynb"


def finished(request: Request) -> bool:
    """Whether the executed copy is whole and the runs that it shows are still recorded."""
    return executed(request).is_file() and None not in recorded(request)


def unfinished(target: Path) -> Path:
    """The name of an executed copy that is not whole."""
    return target.with_suffix(".unfinished.ipynb")


def failure(request: Request) -> Path:
    """The file that tells why the last try failed, where a sweep made it; a whole copy has none beside it."""
    return executed(request).with_suffix(".failed")


def note(request: Request, why: str) -> None:
    """Keep why a try failed for ``vidlib sweep --status``; empty: it did not. A full disk keeps nothing."""
    with contextlib.suppress(OSError, UserError):
        if why:
            failure(request).write_text(why + "\n")
        else:
            failure(request).unlink(missing_ok=True)


def run(request: Request, say: Callable[[str], None]) -> Path:
    """Execute a checked request; the executed notebook. ``say`` gets lines about how far it is.

    A UserError tells which cell failed and where the partly executed copy lies; the error's last lines go to ``say``.
    """
    target = executed(request)
    part = unfinished(target)
    try:
        lock = Lock(target.with_suffix(".lock")).acquire()
    except UserError as error:
        raise UserError(f"{target.name} is being made already: {error}") from None
    try:
        say(f"running notebooks/{request.notebook}.ipynb, kept as it goes in {part}")
        _execute(request, part, say)
        os.replace(part, target)
    finally:
        lock.release()
    return target


def _execute(request: Request, part: Path, say: Callable[[str], None]) -> None:
    import papermill  # here, because checking needs none of it and is sooner done
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's own kernel, whatever a person has
    bar: Any = {"desc": request.notebook, "unit": "cell", "leave": False} if interactive() else False
    try:
        papermill.execute_notebook(
            request.source,
            part,
            parameters=dict(request.given),
            progress_bar=bar,
            start_timeout=START_SECONDS,
            extra_arguments=["--log-level=ERROR"],  # a kernel warns of its own transport, to nobody's use
        )
    except PapermillExecutionError as error:
        lines = [line for text in error.traceback for line in COLOURS.sub("", text).splitlines()]
        for line in lines[-LAST:]:
            say(line)
        what = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        raise UserError(f"{request.notebook}.ipynb stopped at In [{error.exec_count}] with {what} -> {part}") from None
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise _no_kernel(request, part, error) from None
        raise UserError(f"{part} cannot be written ({error.strerror or error}); make room there, or set runs") from None
    except (DeadKernelError, RuntimeError) as error:
        raise _no_kernel(request, part, error) from None


def _no_kernel(request: Request, part: Path, error: Exception) -> UserError:
    what = " ".join(str(error).split()) or type(error).__name__
    name = f"{request.notebook}.ipynb"
    return UserError(f"the kernel of {name} ended or did not start ({what}), often for lack of memory -> {part}")


def summary(request: Request) -> list[str]:
    """What came out, in lines: the executed notebook, and of each of its own runs accuracy, interval and folder."""
    lines = [f"notebook {executed(request)}"]
    for run_ in recorded(request):
        if run_ is not None:
            split = run_.params["report"]
            found = run_.result[split]
            lines.append(f"run      {run_.folder}: seed {run_.params['seed']}, {split} {cell([found])}")
    return lines


def command(request: Request) -> str:
    """The line that does it again."""
    return shlex.join(["vidlib", "run", *request.arguments])
