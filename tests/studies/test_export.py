"""Exported models: the same probabilities as the method's, without vidlib; what cannot be exported is one sentence."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.cli import main
from vidlib.params.few_shot import RunParams
from vidlib.params.tools import PredictParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.studies.predict import export, guess
from vidlib.training import few_shot, video_text

EXAMPLE = Path(__file__).parents[2] / "docs" / "exported.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("world"), classes=8, clips=4)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Finished runs of MA-FSAR and M2-CLIP on small videos, their parts away from where they began."""
    shared = {"dataset": f"folder:{folder}", "frames": 4, "device": "cpu", "runs": str(tmp_path_factory.mktemp("runs"))}
    few = {"way": 2, "train_episodes": 3, "val_episodes": 0, "test_episodes": 2, "lr": 0.01}
    text = {"method": "m2clip", "options": {"width": 8, "text_width": 8}, "epochs": 1, "batch": 4, "select": False}
    return {
        "ma_fsar": few_shot.run(RunParams.parse(shared | few)),
        "m2clip": video_text.run(VideoTextRunParams.parse(shared | text)),
    }


def printed(file: Path, clip: Path) -> list[tuple[float, str]]:
    done = subprocess.run([sys.executable, EXAMPLE, file, clip], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return [(float(line[:5]), line[7:]) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["ma_fsar", "m2clip"])
def test_a_trained_model_tells_the_same_without_vidlib(name, trained, folder, tmp_path, capsys):
    clips = sorted(folder.rglob("*.mp4"))[:2]
    known = ["--support", str(folder)] if name == "ma_fsar" else ["--classes", "a cat, a dog,a moon"]
    run, file = ["--run", str(trained[name].folder)], tmp_path / "model.pt2"
    assert main(["export", str(file), *map(str, clips), *known, *run]) == 0
    worst = re.search(r"difference of a probability (\S+)", capsys.readouterr().out)
    assert float(worst[1]) <= export.NEAR
    p = PredictParams.parse({"videos": [str(clips[1])], "run": run[1], known[0][2:]: known[1], "device": "cpu"})
    told = guess.predict(p, guess.open_method(p))
    wanted = dict(zip(told.classes, told.scores[0], strict=True))
    got = printed(file, clips[1])
    assert len(got) == len(wanted) and [score for score, _ in got] == sorted((s for s, _ in got), reverse=True)
    assert all(abs(score - wanted[name]) < 6e-4 for score, name in got), "three digits are printed"
    assert main(["export", str(file), str(clips[0]), *known, *run]) == 1 and "exists" in capsys.readouterr().err


def test_onnx_tells_the_same(folder, trained, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'vidlib[export]')")
    clip = str(sorted(folder.rglob("*.mp4"))[5])
    given = {"videos": [clip], "support": str(folder), "run": str(trained["ma_fsar"].folder)}
    worst, about = export.export(PredictParams.parse(given), tmp_path / "model.onnx")
    assert worst <= export.NEAR
    kept = {each.key: each.value for each in onnx.load(str(tmp_path / "model.onnx")).metadata_props}
    assert json.loads(kept["about"])["classes"] == about.classes


def test_a_file_that_differs_is_not_left(folder, trained, tmp_path, monkeypatch):
    clip = str(sorted(folder.rglob("*.mp4"))[0])
    given = {"videos": [clip], "support": str(folder), "run": str(trained["ma_fsar"].folder)}
    monkeypatch.setattr(export, "_program", lambda program, part, about, frames: torch.full((1, 8), 0.5))
    with pytest.raises(UserError, match="differ by .* not written"):
        export.export(PredictParams.parse(given), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_one_sentence(folder, tmp_path, capsys, monkeypatch):
    clip = str(sorted(folder.rglob("*.mp4"))[0])
    known = ["--support", str(folder), "--method"]
    assert main(["export", str(tmp_path / "model.pth"), clip, *known, "otam"]) == 1
    assert "ends with none of .pt2, .onnx" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "model.pt2"), clip, *known, "trx"]) == 1
    assert "torch.export cannot follow trx" in capsys.readouterr().err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if "onnx" in name else find(name, *more))
    assert main(["export", str(tmp_path / "model.onnx"), clip, *known, "otam"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install onnx onnxscript" in said and not list(tmp_path.iterdir())
