"""The public face: what ``import vidlib`` brings without torch, how threads wait, and README's example, run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vidlib
from vidlib.basics.errors import UserError
from vidlib.methods import METHODS, VIDEO_TEXT, FewShotMethod, VideoTextMethod
from vidlib.params.names import LABELS

ROOT = Path(__file__).resolve().parent.parent


def python(*words: str, code: str = "", **environment: str) -> subprocess.CompletedProcess:
    """A Python of its own, or the command of ``words``, that ended well; a variable given empty is not set there."""
    given = {name: value for name, value in {**os.environ, **environment}.items() if value or name not in environment}
    done = subprocess.run(words or [sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_names_and_runs_are_told_without_torch(tmp_path):
    said = python(
        code="import sys, json, vidlib; names = vidlib.list_methods(), vidlib.list_benchmarks(); vidlib.load_runs(); "
        "print(json.dumps([names, 'torch' in sys.modules]))",
        VIDLIB_RUNS=str(tmp_path),
    ).stdout
    (methods, benchmarks), torch_is_there = json.loads(said)
    assert not torch_is_there and tuple(methods) == (*METHODS, *VIDEO_TEXT) and set(methods) <= LABELS.keys()
    assert {"motion", "moving_shapes", "hmdb51", "official:ucf101"} <= set(benchmarks)
    table = vidlib.list_backbones("clip-mini", "resnet50", "ViT-B-16-SigLIP")
    assert list(table.index) == ["clip-mini", "ViT-B-16-SigLIP", "resnet50"]
    assert vidlib.__version__ and all(getattr(vidlib, name).__doc__ for name in vidlib.__all__)


@pytest.mark.parametrize(("given", "policy", "spins"), [("", "PASSIVE", "0"), ("ACTIVE", "ACTIVE", "[1-9]\\d+")])
def test_threads_wait_passively_unless_a_person_chose(given, policy, spins):
    code = "import vidlib, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    assert python(code=code, OMP_WAIT_POLICY=given).stdout == f"{policy} False\n"
    shown = python(
        "make", "--no-print-directory", "--eval=show:; @echo $$OMP_WAIT_POLICY", "show", OMP_WAIT_POLICY=given
    )
    assert shown.stdout == f"{policy}\n", "what the recipes of the Makefile are given"
    told = {"OMP_WAIT_POLICY": given, "OMP_NUM_THREADS": "", "OMP_DISPLAY_ENV": "VERBOSE"}
    libgomp = python(code="import vidlib, torch", **told).stderr  # how often a thread looks before it sleeps
    assert "GOMP" not in libgomp or re.search(f"GOMP_SPINCOUNT = '{spins}'", libgomp)


def test_no_notebook_loads_torch_before_vidlib():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = (c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
        code = "\n".join("".join(cell["source"]) for cell in cells)
        first = re.search(r"^\s*(?:import|from) (torch|lightning|vidlib)", code, re.M)
        assert first is None or first[1] == "vidlib", path.name


def test_readme_shows_an_example_that_runs(tmp_path):
    (example,) = re.findall(r"## From Python\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    said = python(code=example, VIDLIB_RUNS=str(tmp_path)).stdout
    assert "'ma_fsar'" in said and re.search(r"^\d+ numbers to train$", said, re.M) and "no run is finished yet" in said
    run = tmp_path / "otam-1"
    run.mkdir()
    (run / "params.json").write_text(json.dumps({"method": "otam"}))
    (run / "result.json").write_text(json.dumps({"test": {"accuracy": 0.625}}))
    assert re.search(r"^otam +0\.625$", python(code=example, VIDLIB_RUNS=str(tmp_path)).stdout, re.M)


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("otam", {"backbone": "resnet-mini", "frames": 4}, FewShotMethod),
        ("clip_fsar", {"pretrained": ""}, FewShotMethod),
        ("actionclip", {"visual_prompt": "meanp"}, VideoTextMethod),
        ("m2clip", {"classes": 3, "vocabulary": 5}, VideoTextMethod),
    ],
)
def test_a_method_is_opened_ready(name, given, kind):
    method = vidlib.open_method(name, **given)
    assert isinstance(method, kind) and not any(module.training for module in method.modules())
    assert method.backbone.name == given.get("backbone", "clip-mini")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("otan", {}, "did you mean 'otam'"),
        ("otam", {"backbone": "clip-minni"}, "did you mean .*'clip-mini'"),
        ("otam", {"backbone": "resnet50"}, "resnet50 comes without weights"),
        ("ma_fsar", {"frame": 4}, "no argument 'frame'; did you mean 'frames'"),
        ("ma_fsar", {"backbone": "resnet-mini"}, "adapts a CLIP, and resnet-mini is none"),
        ("m2clip", {}, "'m2clip' needs classes; give classes="),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(name, given, words):
    with pytest.raises(UserError, match=words) as refused:
        vidlib.open_method(name, **given)
    assert "\n" not in str(refused.value)


def test_a_runs_folder_that_is_none_is_refused(tmp_path):
    assert len(vidlib.load_runs(tmp_path)) == 0
    with pytest.raises(UserError, match="nowhere is no folder"):
        vidlib.load_runs(tmp_path / "nowhere")
