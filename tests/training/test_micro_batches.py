"""Embedding in pieces: every method's loss and gradients are those of the whole, and memory is less."""

import copy
import dataclasses

import pytest
import torch

from tests.data.small import write_folder
from tests.methods import test_actionclip as actionclip
from tests.methods import test_m2clip as m2clip
from tests.methods.small import NAMES, UNTRAINED, batch, make, resnet
from vidlib.basics.errors import UserError
from vidlib.methods import METHODS
from vidlib.params.few_shot import RunParams
from vidlib.results import cost, runs
from vidlib.training import few_shot, micro_batches

TRAINED = [name for name in NAMES if name not in UNTRAINED]


def gradients(method, episodes):
    """The loss, and the gradient of every parameter that has one."""
    outcome = method(episodes)
    outcome.loss.backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return outcome, found


def compared(method, episodes, size):
    buffers = copy.deepcopy(dict(method.named_buffers()))
    whole, wanted = gradients(method, episodes)
    for name, buffer in method.named_buffers():
        buffer.data.copy_(buffers[name])
    pieces, found = gradients(micro_batches.split(method, size), episodes)
    assert torch.allclose(pieces.loss, whole.loss, rtol=1e-9, atol=1e-12)
    assert wanted and found.keys() == wanted.keys()
    largest = max(gradient.abs().max() for gradient in wanted.values())  # some are 0 but for rounding
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= 1e-8 * gradient.abs().max() + 1e-14 * largest, name


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_of_every_few_shot_method_are_the_unsplit_ones(name, size):
    own = {"fusion": "last"} if name == "sloshnet" else {}  # its others train a BatchNorm
    given = {} if METHODS[name].needs_clip or METHODS[name].adapts_blocks or name in ("otam", "trx") else {"on": resnet}
    frames = {"pixels": 32} if given else {}
    method = make(name, **given, **own).double().train()
    compared(method, batch(queries=4, dtype=torch.float64, **frames), size)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("prompt", ["joint", "shift", "meanp", "transf"])
def test_gradients_of_actionclip(prompt, size):
    method = actionclip.make(visual_prompt=prompt).double().train()
    compared(method, in_double(actionclip.batch()), size)


@pytest.mark.parametrize("size", [1, 2])
def test_gradients_of_m2clip(size):
    compared(m2clip.make().double().train(), in_double(m2clip.batch()), size)


def in_double(labelled):
    return dataclasses.replace(labelled, clips=labelled.clips.double())


def test_fewer_activations_are_held():
    episodes = batch(episodes=1, shots=(5,) * 5, queries=25, frames=3)
    peaks = []
    for size in (0, 5, 1):
        method = micro_batches.split(make("ma_fsar").train(), size)
        peaks.append(cost.peak_memory(lambda method=method: method(episodes).loss.backward(), holding=method))
    assert peaks[1] < 0.75 * peaks[0] and peaks[2] < peaks[1]


def test_nothing_is_split_without_gradients():
    method, seen = make("otam").eval(), []
    embed = method.embed
    method.embed = lambda clips, *rest: (seen.append(len(clips)), embed(clips, *rest))[1]
    micro_batches.split(method, 2)
    episodes = batch(episodes=1, queries=4)
    with torch.no_grad():
        method(episodes)
    assert seen == [3, 4]
    method(episodes)
    assert seen[2:] == [2, 1, 2, 2]


def test_what_depends_on_other_videos_is_refused():
    with pytest.raises(UserError, match="mixes the videos of a set"):
        micro_batches.split(make("sloshnet", on=resnet, variant="released"), 2)
    with pytest.raises(UserError, match="BatchNorm is trained here"):
        micro_batches.split(make("sloshnet", on=resnet).train(), 2)(batch(pixels=32))
    method = make("otam", on=resnet_in_training)
    with pytest.raises(UserError, match="BatchNorm is trained here"):
        micro_batches.split(method.train(), 2)(batch(pixels=32))
    with pytest.raises(UserError, match="micro_batch: -1"):
        micro_batches.split(method, -1)


def resnet_in_training():
    """The small ResNet with BatchNorm that takes its statistics from the batch."""
    from vidlib.backbones.resnet import load

    torch.manual_seed(0)
    return load("test_resnet", "", False)


def test_a_run_has_the_id_and_nearly_the_numbers_of_the_unsplit_one(tmp_path):
    clips = write_folder(tmp_path / "clips", classes=8, clips=4)
    given = {"method": "otam", "dataset": f"folder:{clips}", "pretrained": "", "frames": 2, "way": 2, "device": "cpu"}
    given |= {"train_episodes": 3, "val_episodes": 2, "val_every": 3, "test_episodes": 4, "lr": 1e-4}
    lines, ids = [], []
    for size in (0, 1):
        run = few_shot.run(RunParams.parse(given | {"micro_batch": size, "runs": str(tmp_path / f"runs{size}")}))
        lines.append(runs.read_lines(run.path("metrics.jsonl")))
        ids.append(run.id)
    assert ids[0] == ids[1]
    for whole, pieces in zip(*lines, strict=True):
        assert pieces["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert pieces["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)
