"""Costs are measured in the state that they are called after, and leave the method as it was."""

from functools import partial

import pytest
import torch
from torch import nn

from tests.data.small import write_folder
from vidlib.basics.devices import make_fabric, place
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost
from vidlib.training import few_shot, memory, micro_batches, trial, video_text
from vidlib.training import run as running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("videos"), classes=6, clips=4)


def work(folder, method, **given):
    shared = {"method": method, "dataset": f"folder:{folder}", "frames": 4, "pretrained": "", "device": "cpu"}
    if method in ("actionclip", "m2clip"):
        return video_text.work(VideoTextRunParams.parse(shared | {"batch": 4, "protocol": "closed_set"} | given))
    tower = {"backbone": "resnet-mini"} if method == "molo" else {}
    return few_shot.work(RunParams.parse(shared | tower | {"way": 2, "train_episodes": 10} | given))


class Watching:
    """In which mode, and with or without gradients, a method embeds."""

    def __init__(self, method):
        self.seen, embed = [], method.embed

        def watched(*given):
            self.seen.append((method.training, torch.is_grad_enabled()))
            return embed(*given)

        method.embed = watched


@pytest.mark.parametrize("mode", [True, False], ids=["untrained", "trained"])
@pytest.mark.parametrize("name", ["molo", "ma_fsar", "aim", "actionclip"])
def test_every_cost_is_of_the_state_that_it_is_called_after(folder, name, mode, monkeypatch):
    it, fabric = work(folder, name), make_fabric("cpu", "32-true")
    method = it.build().train(mode)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    watching, states = Watching(method), {}

    def watched(own, fn, *given, **more):
        watching.seen.clear()
        value = own(fn, *given, **more)
        states[own.__name__] = set(watching.seen)
        return value

    for what in ("throughput", "gmacs", "peak_memory"):
        monkeypatch.setattr(cost, what, partial(watched, getattr(cost, what)))
    taken = running._cost(it, method, it.source(method, (0, 1))[0], fabric)
    wanted = {"throughput": {(False, False)}, "gmacs": {(False, True)}, "peak_memory": {(True, True)}}
    assert states == wanted, "(training mode, gradients): the counter of GMACs needs gradients"
    assert not method.training and all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    trained = taken["trainable"] * 4 / cost.MIB
    assert 2 * trained <= taken["optimizer_memory"] < 2.01 * trained + 0.01, "AdamW's two moments"
    assert taken["training_memory"] > taken["optimizer_memory"] + taken["total"] * 4 / cost.MIB


class Wide(nn.Module):
    """1 MiB of weights; in training 8 MiB of activations, else none."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1 << 18,), 0.5))

    def forward(self, batch):
        kept = [torch.sin(self.weight * (i + 2)) for i in range(4)] if self.training else [self.weight]
        return type("Match", (), {"loss": sum(kept).sum()})


@pytest.mark.parametrize(("optimizer", "state"), [("adamw", 2), ("sgd", 1)])
def test_memory_of_a_step_is_of_one_that_has_an_optimizer(optimizer, state):
    settings = {"lr": 1e-2, "optimizer": optimizer, "momentum": 0.9, "weight_decay": 0.0, "decayed": "matrices"}
    settings |= {"seed": 0, "deterministic": False, "clip_grad": 1.0, "batches_per_step": 1}
    wide, fabric = Wide().eval(), make_fabric("cpu", "32-true")
    peak, own = memory.of_training(wide, None, fabric, settings)
    assert own == pytest.approx(state, abs=0.01)
    assert peak >= 1 + state + 8 + 1, "weights, state, activations, gradient"
    assert torch.equal(wide.weight, torch.full((1 << 18,), 0.5)) and wide.weight.grad is None and not wide.training
    more, _ = memory.of_training(wide, None, fabric, settings | {"batches_per_step": 5})
    assert more >= peak + 0.9, "from the second batch of a step on gradients are held beside the activations"


def test_micro_batches_and_estimate_measure_the_same_step(folder):
    peaks = []
    for size in (0, 1):
        it, fabric = work(folder, "ma_fsar", query=3, micro_batch=size), make_fabric("cpu", "32-true")
        method = micro_batches.split(it.build(), size)
        batch = it.source(method, (0, 1))[0]
        peaks.append(running._cost(it, method, batch, fabric)["training_memory"])
    assert peaks[1] < 0.8 * peaks[0]
    estimated = trial.measure(it.params).train_memory
    assert estimated == pytest.approx(peaks[1], rel=0.02)
    whole, _ = memory.of_training(it.build(), place(fabric, batch), fabric, it.fit_settings())
    assert whole == pytest.approx(peaks[0], rel=0.02)
