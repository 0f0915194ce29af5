"""``compile``: a method's ``embed`` through torch.compile, the tower with all that is adapted in it; matching stays.

Only the function is replaced: no module is wrapped, so that weights keep their names. It is compiled once for each mode
(training, evaluation) and kind of input, and once more for batches of any size; results differ in their last digits.
A method that a finished run gives back is not compiled; while attention is captured, nothing is.
"""

import shutil
from typing import TypeVar

import torch
from torch import nn

from vidlib.basics.errors import UserError
from vidlib.basics.words import first_line

M = TypeVar("M", bound=nn.Module)


def compiled(method: M, wanted: bool, device: str, backend: str = "inductor") -> M:
    """``method`` with ``embed`` compiled where ``wanted``; UserError where ``device`` ("cpu", ...) has no compiler.

    ``backend``: torch.compile's; "eager" traces alone, which takes no compiler."""
    if wanted:
        if backend != "eager":
            check(device)
        torch._dynamo.reset()  # counts are this method's
        torch._dynamo.utils.counters.clear()
        method.embed = torch.compile(method.embed, backend=backend)
    return method


def check(device: str) -> None:
    """UserError where torch finds nothing to compile with: a C++ compiler, and for a GPU Triton with a C compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    lack = ""
    try:
        if device == "cuda":
            c = any(map(shutil.which, ("cc", "gcc", "clang")))
            lack = "" if has_triton() and c else "Triton, which torch for CUDA brings, or the C compiler that it calls"
        elif not shutil.which(get_cpp_compiler()):
            lack = "a C++ compiler"
    except InvalidCxxCompiler as error:
        lack = f"a C++ compiler ({first_line(error)})"
    if lack:
        raise UserError(f"compile: {lack} is not on this machine; install it (as in apt install g++), or compile=false")


def counts() -> dict[str, int]:
    """Since ``compiled``: graphs made, those made again for other shapes or modes, and breaks within a graph."""
    from torch._dynamo import convert_frame, utils

    frames = convert_frame.FRAME_COMPILE_COUNTER
    return {
        "graphs": utils.counters["stats"]["unique_graphs"],
        "recompilations": sum(frames.values()) - len(frames),
        "breaks": sum(utils.counters["graph_break"].values()),
    }
