"""What every test shares: golden tensors and a small world."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

LONGEST = (
    "test_bars.py",
    "test_notebooks.py",
    "test_browser.py",
)  # minutes each, so begun first
GOLDEN = Path(os.environ.get("VIDLIB_GOLDEN") or Path(__file__).parent / "golden")


def golden(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """The description and the tensors (``input.*``, ``state.*``, ``output.*``) of one golden fixture."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), load_file(GOLDEN / f"{name}.safetensors")


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal but for the last digits of float32."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def worlds() -> None:
    """The embedded world, rendered once into the cache (under a minute where it is not there yet)."""
    from vidlib.data.catalogue import benchmarks

    benchmarks.load("motion")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
