"""``check_method``: does a method meet the contract? It asks of any method what this suite's tests ask of every one."""

from collections.abc import Sequence

import pandas as pd

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.methods.base import FewShotMethod
from vidlib.testing.bench import FRAMES, Bench, Broken
from vidlib.testing.checks import CHECKS, WHOLE

__all__ = ["ContractError", "check_method"]


class ContractError(UserError):
    """A method does not do what every method must; ``table`` holds all checks."""

    def __init__(self, message: str, table: pd.DataFrame) -> None:
        super().__init__(message)
        self.table = table


def check_method(
    method: str | type[FewShotMethod],
    backbone: str = "clip-mini",
    *,
    frames: int = FRAMES,
    only: Sequence[str] = tuple(CHECKS),
    **options: object,
) -> pd.DataFrame:
    """One row per check of the contract: what it asks, what was found, whether it holds. Seconds on a CPU.

    Args:
        method: a method's name, a user's ``FILE.py:CLASS``, or a class.
        backbone: one that ships with vidlib, or any name that ``backbones.load`` knows, then with random weights.
        only: the names of some checks.
        options: constructor arguments.

    Raises ``ContractError``, a ``UserError`` that says everything that is wrong, with the table as ``.table``.
    """
    cls = methods.find(method) if isinstance(method, str) else method
    bench = Bench(cls, backbone, frames, options)
    rows = []
    for name in only:
        asks, check = CHECKS[name]
        if name in WHOLE and getattr(bench.method, "whole_episode", False):
            found, holds = "whole_episode: it says that it cannot", "not required"
        else:
            try:
                found, holds = check(bench), "yes"
            except Broken as broken:
                found, holds = str(broken), "no"
            except Exception as error:  # whatever a user's code throws
                found, holds = f"it raises {type(error).__name__}: {' '.join(str(error).split())[:200]}", "no"
        rows.append({"check": name, "asks": asks, "found": found, "holds": holds})
    table = pd.DataFrame(rows).set_index("check")
    wrong = table[table["holds"] == "no"]
    if len(wrong):
        said = "; ".join(f"{name}: {row['found']}" for name, row in wrong.iterrows())
        raise ContractError(
            f"{cls.__name__} does not meet the contract in {len(wrong)} of {len(table)} checks: {said}", table
        )
    return table
