"""What every test shares: golden tensors and a small world."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(os.environ.get("VIDLIB_GOLDEN") or Path(__file__).parent / "golden")


def golden(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """The description and the tensors (``input.*``, ``state.*``, ``output.*``) of one golden fixture."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), load_file(GOLDEN / f"{name}.safetensors")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def worlds() -> None:
    """The embedded world, rendered once into the cache (under a minute where it is not there yet)."""
    from vidlib.data.catalogue import benchmarks

    benchmarks.load("motion")
