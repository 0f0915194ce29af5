"""``vidlib estimate --on``: FLOPs and memory of shapes are those of a real step, and hours are the sum that is said."""

import re

import pytest

from tests.data.small import write_folder
from vidlib import cli
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.cli import cards, estimate_on
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import request
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost
from vidlib.training import counted, few_shot, memory, video_text

SMALL = {"backbone": "clip-mini", "pretrained": "clip-mini", "frames": 2, "device": "cpu"}


@pytest.mark.parametrize("name", ["ma_fsar", "gghm", "actionclip"])
def test_shapes_count_what_a_real_step_takes(name, tmp_path):
    given = SMALL | {"dataset": f"folder:{write_folder(tmp_path, classes=8, clips=4)}", "method": name}
    if name == "actionclip":
        params = VideoTextRunParams.parse(given | {"batch": 4, "protocol": "closed_set"})
        work = video_text.work(params)
    else:
        params = RunParams.parse(given | {"way": 2, "train_query": 2})
        work = few_shot.work(params)
    method, fabric = work.build().train(), make_fabric("cpu", "32-true")
    batch = work.source(method, (0, 1))[0]
    found = counted.count(params, "32-true")
    assert found.train == 2e9 * cost.gmacs(lambda: method(batch).loss.backward())
    method.zero_grad(set_to_none=True)
    real, _ = memory.of_training(method, batch, fabric, work.fit_settings())
    assert found.said["train_memory"] == pytest.approx(real, rel=0.03)
    embed, clip = work.probe(method.eval(), batch)
    assert found.embed == 2e9 * cost.gmacs(embed, clip)
    assert found.videos == (4 if name == "actionclip" else 6)


def test_hours_follow_from_the_share_and_no_video_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path))
    small = ["--set", "backbone=clip-mini", "pretrained=clip-mini", "frames=2", "train_episodes=4000000", "seeds=1"]
    small += ["val_episodes=0", "test_episodes=1"]
    command = ["estimate", "ma_fsar/hmdb51_5shot", "--on", "rtx-4090", "--share", "0.25", "--decoded", "1e6", *small]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "an estimate from counted FLOPs" in said and "at: 0.25 of its 165 TFLOP/s" in said and "fits" in said
    flops = float(re.search(r"a training episode +([\d,.]+) GFLOP", said)[1].replace(",", "")) * 1e9
    hours = float(re.search(r"\(training ([\d.]+),", said)[1])
    assert hours == pytest.approx(4e6 * flops / (0.25 * 165e12) / 3600, abs=0.01) and hours > 0.1
    assert "decoding for training     keeps up" in said and "hours with such decoding" not in said
    assert cli.main([*command[:5], "0.5", "--cores", "1", *small]) == 0
    slow = capsys.readouterr().out
    assert float(re.search(r"\(training ([\d.]+),", slow)[1]) == pytest.approx(hours / 2, abs=0.01)
    need = float(re.search(r"does not keep up, ([\d.]+) times", slow)[1])
    assert float(re.search(r"hours with such decoding +([\d.]+)", slow)[1]) == pytest.approx(need * hours / 2, rel=0.05)


def test_lists_without_videos_have_the_published_numbers():
    few, official = counted.published("hmdb51"), counted.published("official:ucf101", 2)
    assert len(few.videos("train")) == 4280 and len(few.classes("test")) == 10
    assert [len(official.videos(split)) for split in ("train", "test")] == [9586, 3734]


def test_what_cannot_be_estimated_is_a_sentence(capsys):
    assert cards.card("4090")[0] == "RTX 4090" and cards.named("NVIDIA H100 80GB HBM3") is cards.CARDS["H100"]
    assert cards.named("NVIDIA A100-SXM4-80GB").half == 312 and cards.named("NVIDIA GeForce RTX 3090").memory == 24
    assert cards.named("NVIDIA L40S") is None and cards.named("NVIDIA H100 PCIe") is None
    with pytest.raises(UserError, match="no card 'rtx4080'.*did you mean 'RTX 4090'"):
        cards.card("rtx4080")
    asked = request("ma_fsar", {"precision": "bf16-mixed"})
    with pytest.raises(UserError, match="T4 does not compute in bf16"):
        estimate_on.estimate(asked, "t4")
    with pytest.raises(UserError, match="precision: of 64-bit numbers"):
        estimate_on.estimate(request("ma_fsar", {"precision": "64-true"}), "l4")
    with pytest.raises(UserError, match="share: 2"):
        estimate_on.estimate(asked, "L4", share=2)
    with pytest.raises(UserError, match="comparison studies no single method"):
        estimate_on.estimate(request("comparison"), "L4")
    assert cli.main(["estimate", "ma_fsar", "--cores", "3"]) == 1
    assert "--cores belongs to --on CARD" in capsys.readouterr().err
