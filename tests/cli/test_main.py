"""``vidlib report checkpoint FILE`` on released files, vidlib's own and others; ``vidlib predict`` on small videos."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import vidlib
from tests import official
from tests.data.small import write_clip, write_folder
from tests.tiny import Tiny
from vidlib import cli
from vidlib.backbones import clip_mini
from vidlib.training import checkpoints


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
    assert "features 64" in found["sizes"] and ("wrappers" in found) == (method != "aim")


VIDEO_TEXT = {  # name -> method, file, and what its report says
    "lstm": ("actionclip", official.actionclip_saved(official.actionclip("lstm")), "visual_prompt lstm"),
    "meanp": ("actionclip", official.actionclip_saved(official.actionclip("meanp")), "visual_prompt meanp"),
    "whole": ("m2clip", official.m2clip_saved(official.m2clip("m2clip")), "classes 6, vocabulary 11, width 24"),
    "part": ("m2clip", official.m2clip_saved(official.m2clip("m2clip", whole=False)), "text_adapter_layers 13"),
}


@pytest.mark.parametrize("name", VIDEO_TEXT)
def test_golden_states_of_actionclip_and_m2clip_are_reported(name, tmp_path, capsys):
    method, saved, sizes = VIDEO_TEXT[name]
    path = tmp_path / "official.pt"
    torch.save(saved, path)
    found = said(capsys, "report", "checkpoint", str(path))
    assert found["method"].startswith(f"{method},") and found["missing"] == found["unknown"] == "none"
    assert sizes in found["sizes"] and "never held" not in found
    assert ("remark" in found) == (name == "meanp") and ("none" in found["trunk"]) == (name == "part")
    both = "model_state_dict and fusion_model_state_dict; beside it epoch, optimizer_state_dict"
    container = {"lstm": both, "meanp": "model_state_dict; beside it epoch, fusion_model_state_dict"}
    assert found["container"].startswith(container.get(name, "model; beside it next_epoch"))
    given = "backbone=..., pretrained=..." if name == "part" else "backbone=..."
    assert f'load_released("{method}", "{path}", {given})' in found["load with"]


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
    (tmp_path / "params.json").write_text(json.dumps({"method": "otam", "dataset": "motion", "shot": 1}))
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
    project = tomllib.loads((Path(cli.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"vidlib": "vidlib.cli:main"}
    command = [sys.executable, "-m", "vidlib.cli", "report", "checkpoint", str(tmp_path / "nothing.pt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "nothing.pt does not exist" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["report"], ["report", "checkpoint"], ["reprot", "checkpoint", "x"], ["predict"]]
)
def test_a_command_that_is_none_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and "usage: vidlib" in capsys.readouterr().err


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"vidlib {vidlib.__version__}\n"


@pytest.fixture
def videos(tmp_path):
    write_clip(tmp_path / "videos" / "one.mp4", 1)
    write_clip(tmp_path / "videos" / "two.mp4", 9, 90, 50)
    (tmp_path / "videos" / "broken.mov").write_bytes(b"no video")
    return tmp_path / "videos"


def predicted(videos, *arguments) -> list[str]:
    return ["predict", str(videos), "--device", "cpu", "--frames", "2", *map(str, arguments)]


def test_predict_prints_a_ranked_table_and_the_broken_file(videos, tmp_path, capsys):
    file = tmp_path / "guesses.csv"
    command = predicted(videos, "--classes", "a dark picture,a light picture", "--csv", file)
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("zero-shot: frozen clip-mini")
    assert "drawn shapes" in lines[1] and "not calibrated" in lines[3]
    one = lines.index("one.mp4")
    ranked = [line.split() for line in lines[one + 1 : one + 3]]
    assert [line[0] for line in ranked] == ["1", "2"] and float(ranked[0][-1]) >= float(ranked[1][-1])
    assert any(line.startswith("  broken.mov: is not a video") for line in lines[lines.index("two.mp4") :])
    assert "2 videos in" in lines[-2] and "clips per second" in lines[-2] and "at their peak" in lines[-2]
    assert lines[-1].endswith(str(file))
    before = file.read_text()
    assert before.count("\n") == 1 + 2 * 2 + 1 and before.splitlines()[-1].startswith("zero-shot,broken.mov,,,,")
    assert cli.main(command) == 1 and "exists" in capsys.readouterr().err and file.read_text() == before
    assert cli.main([*command, "--overwrite", "--top", "1"]) == 0 and file.read_text() != before


def test_predict_by_examples_and_figures(videos, tmp_path, capsys):
    support, figures = write_folder(tmp_path / "support", classes=2), tmp_path / "figures"
    command = ["predict", *map(str, sorted(videos.iterdir())), "--support", str(support), "--device", "cpu"]
    assert cli.main([*command, "--frames", "2", "--method", "otam", "--figures", str(figures)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("few-shot: otam, untrained, on clip-mini, 2 frames") and str(videos / "two.mp4") in said
    assert "and 4 example videos" in said and len([*figures.glob("*.png")]) == 2
    assert "clip-mini knows drawn shapes alone" in said and said.endswith(f"its numbers: {figures}\n")


WRONG = [
    ([], "classes or support: give"),
    (["--classes", "a,b", "--support", "x"], "give one of them"),
    (["--classes", "a"], "1 class leaves nothing to tell"),
    (["--classes", "a,b", "--frames", "many"], "frames: 'many' is not"),
    (["--classes", "a,b", "--run", "nowhere"], "nowhere is no folder"),
    (["--classes", "a,b", "--device", "gpu"], "device: 'gpu' is not one of"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=str)
def test_what_predict_cannot_do_is_one_sentence_and_code_1(arguments, words, videos, capsys):
    assert cli.main(["predict", str(videos), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err and printed.err.count("\n") == 1


def test_predict_of_nothing_readable_is_code_1(videos, tmp_path, capsys):
    file = tmp_path / "none.csv"
    assert cli.main(predicted(videos / "broken.mov", "--classes", "a,b", "--csv", file)) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "none of the 1 videos can be read" in printed.err and not file.exists()
