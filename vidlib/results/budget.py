"""How much a run trained, in words: what belongs beside every number and figure of it."""

from collections.abc import Mapping
from typing import Any


def budget(params: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """``1,200 episodes``, ``2 epochs``, or ``nothing`` of what was tested untrained."""
    if not result.get("fit"):
        return "nothing"
    if "epochs" in params:
        return f"{params['epochs']} epochs"
    return f"{params.get('train_episodes', 0):,} episodes"
