"""A training of shipped weights that is broken off and taken up again."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file


def goes_on(train: ModuleType, loss: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five steps of ``train`` end in the same weights where the fourth call of ``loss`` breaks them off: their file."""
    straight = train.train(folder / "straight.safetensors", steps=5)
    real, calls = getattr(train, loss), []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, loss, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(folder / "broken.safetensors", steps=5)
    assert (folder / "broken.checkpoint.pt").is_file() and not (folder / "broken.safetensors").exists()
    train.train(folder / "broken.safetensors", steps=5)
    one, other = (load_file(folder / f"{name}.safetensors") for name in ("straight", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(folder.glob("*.pt"))
    assert [line["step"] for line in straight] == [0, 4]
    return folder / "straight.safetensors"
