"""``vidlib report checkpoint FILE``: what it says of released files, of vidlib's own, and of files it cannot read."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from tests import official
from tests.tiny import Tiny
from vidlib import checkpoints, cli
from vidlib.backbones import clip_mini


def said(capsys, *arguments: str) -> dict[str, str]:
    """What the command prints, by the word in front of each line."""
    assert cli.main(arguments) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    return {line[:10].strip(): line[10:].strip() for line in lines}


@pytest.mark.parametrize("method", official.METHODS)
def test_golden_states_are_reported(method, tmp_path, capsys):
    state, path = official.official(method), tmp_path / "official.pth"
    saved = official.saved(method, state)
    torch.save(saved, path)
    found = said(capsys, "report", "checkpoint", str(path))
    assert found["method"].startswith(f"{method},") and found["missing"] == found["unknown"] == "none"
    container = next(name for name in saved if "state" in name and "optim" not in name)
    assert found["container"].startswith(f"{container}; beside it ")
    names = len(saved[container])
    assert found["tensors"].startswith(f"{names}, {sum(x.numel() for x in saved[container].values()):,} numbers")
    assert f'load_released("{method}", "{path}", backbone=...)' in found["load with"]
    assert "width 64" in found["sizes"] and ("wrappers" in found) == (method != "aim")


def test_golden_state_with_other_names_is_reported_with_them(tmp_path, capsys):
    state = official.official("strm")
    state.pop("attn_pat.gamma")
    torch.save(state | {"decoder.weight": torch.ones(2)}, tmp_path / "odd.pt")
    found = said(capsys, "report", "checkpoint", str(tmp_path / "odd.pt"))
    assert found["missing"] == "attn_pat.gamma" and found["unknown"] == "decoder.weight"
    assert "similarity" in found["never held"] and "load with" not in found and "sizes" not in found


def test_a_trunk_in_a_released_file_is_named(tmp_path, capsys):
    state = official.resnet18_state("resnet") | {"transformers.0.k_linear.weight": torch.zeros(4, 1024)}
    torch.save(state, tmp_path / "part.pt")
    found = said(capsys, "report", "checkpoint", str(tmp_path / "part.pt"))
    assert found["trunk"] == "resnet18" and "transformers.0.k_linear.bias" in found["missing"]


def test_files_of_vidlibs_own_and_of_nobody_are_told_apart(tmp_path, capsys):
    method, settings = Tiny(), {"lr": 0.1, "optimizer": "sgd"}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    weights, state = tmp_path / "checkpoint.safetensors", tmp_path / "state.safetensors"
    checkpoints.save_trainable(method, weights, {"step": 3, "steps": 9, "settings": settings})
    found = said(capsys, "report", "checkpoint", str(weights))
    assert "vidlib's own, trained weights alone" in found["method"] and found["counters"] == "step 3, steps 9"
    assert found["settings"] == "lr 0.1, optimizer sgd"
    checkpoints.save_state(state, method, [optimizer], {"step": 3, "best": {"step": 0}})
    (tmp_path / "params.json").write_text(json.dumps({"method": "otam", "dataset": "moving_shapes", "shot": 1}))
    found = said(capsys, "report", "checkpoint", str(state))
    assert "unfinished training (weights)" in found["method"] and "method otam" in found["method"]
    mini = Path(clip_mini.__file__).parent / "weights.safetensors"
    assert "clip-mini" in said(capsys, "report", "checkpoint", str(mini))["backbone"]
    torch.save({"encoder.weight": torch.ones(3)}, tmp_path / "other.pt")
    assert "no released code" in said(capsys, "report", "checkpoint", str(tmp_path / "other.pt"))["method"]


BAD = [(None, "does not exist"), (b"nothing", "damaged"), (b"", "damaged"), (b"PK\3\4ab", "damaged")]


@pytest.mark.parametrize(("content", "words"), BAD, ids=str)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_bad_file_is_one_sentence_and_code_1(content, words, suffix, tmp_path, capsys):
    path = tmp_path / f"bad.{suffix}"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["report", "checkpoint", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err and str(path) in printed.err
    assert printed.err.count("\n") == 1


def test_the_command_is_installed_and_runs_as_a_module(tmp_path):
    project = tomllib.loads((Path(cli.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"vidlib": "vidlib.cli:main"}
    command = [sys.executable, "-m", "vidlib.cli", "report", "checkpoint", str(tmp_path / "nothing.pt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "nothing.pt does not exist" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["report"], ["report", "checkpoint"], ["reprot", "checkpoint", "x"]])
def test_a_command_that_is_none_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and "usage: vidlib" in capsys.readouterr().err
