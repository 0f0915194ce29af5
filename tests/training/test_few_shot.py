"""The loop: it learns, selects on val, decays and clips as said, stops on a loss that is not finite."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.data.small import write_folder
from tests.tiny import Tiny, TinyClips, sampler, texts
from tests.tiny import training as source_of
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.results.accuracy import Evaluation
from vidlib.results.runs import load_all, read_lines
from vidlib.training import checkpoints, few_shot, loop
from vidlib.training import processes as apart
from vidlib.training import run as running
from vidlib.training import step as stepping
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.loop import fit
from vidlib.training.run import identity

COMMON = {"lr": 1e-2, "seed": 0, "device": "cpu", "precision": "32-true"}


def test_it_learns_and_leaves_its_record(tmp_path):
    method = Tiny()
    tower = method.backbone.weight.clone()
    done = fit(method, source_of(61), batches=61, batches_per_step=2, clip_grad=1.0, folder=tmp_path, **COMMON)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 32)) and lines[-1]["episode"] == 61
    assert {"loss", "loss.visual", "loss.text", "accuracy", "lr", "grad_norm", "seconds"} <= lines[0].keys()
    assert lines[0]["loss"] == pytest.approx(lines[0]["loss.visual"] + lines[0]["loss.text"], rel=1e-6)
    first, last = (sum(line["loss"] for line in part) / 8 for part in (lines[:8], lines[-8:]))
    assert last < 0.9 * first
    assert torch.equal(method.backbone.weight, tower) and not method.training
    assert done.steps == done.selected == 31 and done.val_accuracy is None
    assert (tmp_path / "checkpoint.safetensors").is_file()


def test_loss_is_the_mean_over_the_episodes_of_a_step(tmp_path):
    together, apart = tmp_path / "together", tmp_path / "apart"
    frozen = COMMON | {"lr": 1e-12, "warmup": 0.0}
    fit(Tiny(0.0), source_of(4), batches=4, batches_per_step=4, folder=together, **frozen)
    fit(Tiny(0.0), source_of(4), batches=4, batches_per_step=1, folder=apart, **frozen)
    losses = [line["loss"] for line in read_lines(apart / "metrics.jsonl")]
    assert read_lines(together / "metrics.jsonl")[0]["loss"] == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_best_on_val_is_kept_and_the_earlier_of_equals(tmp_path):
    answers, seen = iter([0.2, 0.6, 0.6, 0.4]), []

    def validate(method):
        assert not method.training
        seen.append(method.text_scale.item())
        return next(answers)

    method = Tiny()
    done = fit(method, source_of(8), batches=8, folder=tmp_path, validate=validate, val_every=2, **COMMON)
    assert (done.selected, done.val_accuracy) == (4, 0.6)
    assert method.text_scale.item() == seen[1] != seen[3]
    assert [line.get("val_accuracy") for line in read_lines(tmp_path / "metrics.jsonl")][1::2] == [0.2, 0.6, 0.6, 0.4]


def test_seconds_of_training_are_without_those_of_the_selections(tmp_path, monkeypatch):
    clock = iter(itertools.count(0.0, 0.25))  # a quarter of a second goes by between one look and the next
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    def slow(method):
        [next(clock) for _ in range(20)]
        return 0.5

    done = fit(Tiny(), source_of(4), batches=4, folder=tmp_path, validate=slow, val_every=2, **COMMON)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [(line["seconds"], line.get("selection_seconds")) for line in lines] == [(0.25, None), (0.25, 5.25)] * 2
    assert (done.seconds, done.selection_seconds) == (1.0, 10.5)


def test_training_beats_the_untrained_method(tmp_path):
    def accuracy(method):
        return evaluate(method, TinyClips("val"), sampler("val"), 60, texts("val"), device="cpu").accuracy

    before, method = accuracy(Tiny()), Tiny()
    done = fit(method, source_of(150), batches=150, folder=tmp_path, validate=accuracy, val_every=50, **COMMON)
    assert done.val_accuracy == accuracy(method) > before


@pytest.mark.parametrize("poison, word", [(math.nan, "loss"), (math.inf, "loss")])
def test_a_loss_that_is_not_finite_stops_with_its_episode(tmp_path, poison, word):
    source = [source_of(8)[i] for i in range(8)]
    source[5].query = source[5].query * poison
    with pytest.raises(UserError, match=rf"{word}.* of episode 5 is .*try"):
        fit(Tiny(), source, batches=8, batches_per_step=2, folder=tmp_path, **COMMON)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 2


def test_what_cannot_be_trained_says_so(tmp_path):
    with pytest.raises(UserError, match="no trainable parameter"):
        fit(Tiny().requires_grad_(False), source_of(2), batches=2, folder=tmp_path, **COMMON)
    for name in ("schedule", "optimizer", "decayed"):
        with pytest.raises(UserError, match=f"{name}: 'step'"):
            fit(Tiny(), source_of(2), batches=2, folder=tmp_path, **{name: "step"}, **COMMON)
    fit(Tiny(), source_of(2), batches=2, folder=tmp_path, **COMMON)
    with pytest.raises(UserError, match="another folder"):
        fit(Tiny(), source_of(3), batches=3, folder=tmp_path, **COMMON)


def test_schedule_rises_then_falls():
    rates = [stepping.rate_at(step, 100, 0.1, "cosine") for step in range(1, 101)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[-1] < 1e-3
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    assert {stepping.rate_at(step, 10, 0.0, "constant") for step in range(1, 11)} == {1.0}


def test_milestones_drop_the_rate_where_they_say():
    drops = stepping.shares([[0.5, 0.3], [150, 0.1]], batches=200)
    assert drops == [(0.5, 0.3), (0.75, 0.1)]
    rates = [stepping.rate_at(step, 100, 0.1, "steps", drops) for step in range(1, 101)]
    assert rates[:10] == [step / 10 for step in range(1, 11)]
    assert set(rates[10:50]) == {1.0} and set(rates[50:75]) == {0.3} and set(rates[75:]) == {0.1}
    for wrong in ([[0.5, 0.1], [0.2, 0.01]], [[0.0, 0.1]], [[0.5, -1.0]]):
        with pytest.raises(UserError, match="milestones"):
            stepping.shares(wrong, 10)


def weights_after(folder, method=None, **how):
    """Every trained weight after four episodes of one step each, without dropout."""
    method = method or Tiny(0.0)
    options = COMMON | {"warmup": 0.0, "schedule": "constant", "weight_decay": 0.0} | how
    fit(method, source_of(4), batches=4, folder=folder, **options)
    return {name: p.detach().clone() for name, p in method.trainable().items()}


def literal(steps, gradient_scale=1.0, method=None):
    """The same by hand: ``steps(parameters)`` makes the optimisers."""
    method = method or Tiny(0.0)
    optimizers = steps(dict(method.named_parameters()))
    method.train()
    for i in range(4):
        stepping.seed_everything(0, i)
        (gradient_scale * method(source_of(4)[i]).loss).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return {name: p.detach() for name, p in method.trainable().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())


def trained(parameters):
    return [p for p in parameters.values() if p.requires_grad]


def test_sgd_and_adam_are_torchs(tmp_path):
    sgd = weights_after(tmp_path / "sgd", optimizer="sgd", momentum=0.5, weight_decay=0.1, decayed="all")
    by_hand = literal(lambda ps: [torch.optim.SGD(trained(ps), lr=1e-2, momentum=0.5, weight_decay=0.1)])
    assert same(sgd, by_hand)
    adam = weights_after(tmp_path / "adam", optimizer="adam", weight_decay=0.1, decayed="all")
    assert same(adam, literal(lambda ps: [torch.optim.Adam(trained(ps), lr=1e-2, weight_decay=0.1)]))
    assert not same(adam, weights_after(tmp_path / "adamw", optimizer="adamw", weight_decay=0.1, decayed="all"))
    assert not same(sgd, weights_after(tmp_path / "still", optimizer="sgd", momentum=0.0, weight_decay=0.1))


def test_the_sum_over_queries_is_as_many_times_the_gradient(tmp_path):
    queries = source_of(1)[0].query.shape[1]
    assert queries == 3
    summed = weights_after(tmp_path / "sum", optimizer="sgd", momentum=0.0, query_sum=True)
    assert same(summed, literal(lambda ps: [torch.optim.SGD(trained(ps), lr=1e-2)], gradient_scale=queries))
    mean = weights_after(tmp_path / "mean", optimizer="sgd", momentum=0.0)
    assert not same(summed, mean)
    losses = [read_lines(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in ("sum", "mean")]
    assert losses[0] == losses[1]


def test_a_searched_architecture_has_an_adam_of_its_own(tmp_path):
    class Searching(Tiny):
        architecture = ("text_scale", "0.bias")

    ours = ("text_scale", "head.0.bias")
    method = Searching()
    method.backbone.text_scale = nn.Parameter(torch.ones(1))  # a tower's own of that name, as a LayerScale's gamma
    assert list(stepping.architecture(method)) == ["text_scale", "head.0.bias"]
    found = weights_after(tmp_path, Searching(0.0), optimizer="sgd", momentum=0.9, arch_lr=0.05)

    def steps(ps):
        rest = [p for name, p in ps.items() if name not in ours and p.requires_grad]
        own = torch.optim.Adam([ps[name] for name in ours], lr=0.05, betas=(0.5, 0.999), weight_decay=1e-3)
        return [torch.optim.SGD(rest, lr=1e-2, momentum=0.9), own]

    assert same(found, literal(steps, method=Searching(0.0)))
    assert not same(found, weights_after(tmp_path / "one", optimizer="sgd", momentum=0.9))


@pytest.mark.parametrize("how", [{"optimizer": "sgd"}, {"optimizer": "adam", "schedule": "steps"}], ids=str)
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, how):
    class Searching(Tiny):
        architecture = ("text_scale",)

    class Cut(Exception):
        pass

    def source(stop):
        items = [source_of(12)[i] for i in range(12)]

        class Items:
            def __getitem__(self, i):
                if i == stop:
                    raise Cut
                return items[i]

        return Items()

    how = COMMON | how | ({"milestones": [[6, 0.1]]} if "schedule" in how else {})
    options = how | {"batches": 12, "batches_per_step": 2, "checkpoint_every": 2}
    whole = Searching()
    fit(whole, source(None), folder=tmp_path / "whole", **options)
    with pytest.raises(Cut):
        fit(Searching(), source(9), folder=tmp_path / "cut", **options)
    resumed = Searching()
    fit(resumed, source(None), folder=tmp_path / "cut", **options)
    assert same(whole.trainable(), resumed.trainable())
    records = [read_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert [line["loss"] for line in records[0]] == [line["loss"] for line in records[1]]


def test_one_loss_scaler_serves_both_optimisers():
    """A scale too large for the gradients skips the step of both and is halved once, not twice."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizers = [torch.optim.SGD(weights[:1], lr=1.0), torch.optim.Adam(weights[1:2]), torch.optim.SGD(weights[2:])]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=100)
    scaling = type("Scaling", (), {"scaler": scaler})()
    for scale, moved in ((float("inf"), False), (1.0, True)):
        for weight in weights[:2]:  # the third optimiser has no gradient
            weight.grad = torch.full((2,), scaler.get_scale() * scale)
        scaler.scale(torch.ones(()))
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        stepping.take_step(scaling, optimizers)
        assert [not torch.equal(weight, torch.ones(2)) for weight in weights] == [moved, moved, False]
        assert scaler.get_scale() == 2.0**9 and all(weight.grad is None for weight in weights)


@pytest.mark.parametrize(("clip", "wrong"), [(float("inf"), float("inf")), (1.0, float("nan"))])
def test_what_overflows_in_one_optimiser_does_not_reach_the_other(clip, wrong):
    """Clipping multiplies every gradient by what the norm of all of them gives."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizers = [torch.optim.SGD(weights[:1], lr=1.0), torch.optim.Adam(weights[1:])]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale((weights[0] + weights[1]).sum()).backward()
    weights[0].grad[0] = wrong
    for each in optimizers:
        scaler.unscale_(each)
    norm = torch.nn.utils.clip_grad_norm_(weights, clip)
    stepping.take_step(type("Scaling", (), {"scaler": scaler})(), optimizers, bool(norm.isfinite()))
    assert all(torch.equal(weight, torch.ones(2)) for weight in weights) and scaler.get_scale() == 2.0**9


def test_biases_and_norms_decay_where_asked():
    method = Tiny()
    method.norm = torch.nn.LayerNorm(3)
    names = {id(p): name for name, p in method.named_parameters()}
    decays = {}
    for decayed in stepping.DECAYED:
        groups = stepping.parameter_groups(method, 0.3, decayed)
        decays[decayed] = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decays["all"] == set(method.trainable())
    assert decays["all"] - decays["all but norms"] == {"norm.weight", "norm.bias"}
    assert {name.rpartition(".")[2] for name in decays["all"] - decays["all but biases"]} == {"bias"}
    assert "norm.weight" in decays["all but biases"]
    assert {"head.0.bias", "place_embedding"} <= decays["all but norms"] - decays["matrices"]


def test_only_matrices_decay():
    method = Tiny()
    decaying, still = stepping.parameter_groups(method, 0.3)
    assert decaying["weight_decay"] == 0.3 and still["weight_decay"] == 0.0
    names = {id(p): name for name, p in method.named_parameters()}
    assert sorted(names[id(p)] for p in decaying["params"]) == ["head.0.weight", "head.3.weight", "never"]
    assert "place_embedding" in {names[id(p)] for p in still["params"]}
    assert not any(
        name.startswith("backbone") for group in (decaying, still) for p in group["params"] for name in [names[id(p)]]
    )


def test_bfloat16_and_deterministic_kernels_train(tmp_path):
    fit(Tiny(), source_of(6), batches=6, folder=tmp_path, deterministic=True, **COMMON | {"precision": "bf16-mixed"})
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(math.isfinite(line["loss"]) for line in read_lines(tmp_path / "metrics.jsonl"))


def test_episode_randomness_does_not_depend_on_what_came_before(tmp_path):
    """The second half of the episodes alone gives the same losses, dropout included, when weights do not move."""
    frozen = COMMON | {"lr": 1e-12}
    fit(Tiny(0.5), source_of(6), batches=6, folder=tmp_path / "a", **frozen)
    torch.manual_seed(1234)
    fit(Tiny(0.5), source_of(6), batches=6, folder=tmp_path / "b", workers=1, **frozen)
    a, b = ([line["loss"] for line in read_lines(tmp_path / name / "metrics.jsonl")] for name in "ab")
    assert a == b and len(set(a)) == 6


def test_metrics_are_lines_of_json(tmp_path):
    fit(Tiny(), source_of(3), batches=3, folder=tmp_path, **COMMON)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> RunParams:
    """A run of MA-FSAR on seven classes of grey clips and an untrained tower: seconds, and no claim."""
    root = tmp_path_factory.mktemp("folder")
    return RunParams(
        dataset=f"folder:{write_folder(root / 'clips', classes=7, clips=3)}",
        pretrained="",
        way=2,
        frames=4,
        train_episodes=4,
        val_episodes=3,
        val_every=2,
        test_episodes=6,
        device="cpu",
        precision="32-true",
        runs=str(root / "runs"),
    )


def test_run_from_parameters(params, capsys):
    first = few_shot.run(params)
    result = first.result
    assert first.state == "finished" and result["fit"]["steps"] == 4 and result["unsettled"]
    assert first.readings() == {"val": 2, "test": 3}
    for name in ("test", "frames_shuffled", "texts_permuted"):
        assert result[name]["episodes"] == 6 and result[name]["checksum"] == result["test"]["checksum"]
    assert Evaluation.load(first.path("episodes.npz")).accuracy == result["test"]["accuracy"]
    assert not first.path("state.safetensors").exists() and first.path("checkpoint.safetensors").is_file()
    assert RunParams.from_file(first.path("params.json")) == params
    again = few_shot.run(params.model_copy(update={"workers": 1, "fresh": False}))
    assert again.id == first.id and "reused" in capsys.readouterr().out
    assert load_all(params.runs)["result.test.accuracy"].tolist() == [result["test"]["accuracy"]]
    assert few_shot.run(params.model_copy(update={"seed": 1, "train_episodes": 0})).result["fit"] is None


def test_memory_that_runs_out_in_training_is_a_sentence(params, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nSee the documentation")

    monkeypatch.setattr(running, "fit", full)
    said = r"does not fit into the memory of cpu: give a micro_batch .*\(CUDA out of memory. Tried .*GiB.\)$"
    with pytest.raises(UserError, match=said):
        few_shot.run(params.model_copy(update={"runs": str(tmp_path)}))


def test_the_run_of_a_moved_folder_is_the_same_run(params, tmp_path):
    moved = write_folder(tmp_path / "elsewhere" / "clips", classes=7, clips=3)
    ids = []
    for dataset in (params.dataset, f"folder:{moved}"):
        here = params.model_copy(update={"dataset": dataset, "runs": str(tmp_path / "runs"), "seed": 5})
        with runs.open_run(identity(few_shot.work(here))) as run:
            ids.append(run.id)
    (moved / "class1" / "0.mp4").write_bytes((moved / "class2" / "1.mp4").read_bytes())
    with runs.open_run(identity(few_shot.work(here))) as run:
        ids.append(run.id)
    assert ids[0] == ids[1] != ids[2]


def test_selected_weights_are_those_of_the_result(params):
    run = few_shot.run(params)
    method, test = few_shot.open_trained(run, benchmarks.load(params.dataset), "test")
    found = evaluate(method, test.clips, test.sampler, 6, test.text, device="cpu")
    assert np.array_equal(found.per_trial, Evaluation.load(run.path("episodes.npz")).per_trial)
    untrained = methods.build(params, few_shot.open_backbone(params))
    meta = checkpoints.load_trainable(untrained, run.path("checkpoint.safetensors"))
    assert meta["step"] == run.result["fit"]["selected"]


def test_cost_and_coverage_stand_beside_the_result(params):
    result = few_shot.run(params).result
    method = few_shot.open_method(params)
    assert result["cost"]["trainable"] == sum(p.numel() for p in method.trainable().values())
    assert result["cost"]["gmacs"] > 0 and result["cost"]["training_memory"] > 0
    assert [(c["split"], c["present"]) for c in result["coverage"]] == [("train", 9), ("val", 6), ("test", 6)]
    assert {use: n["videos"] for use, n in result["labels"].items()} == {"train": 9, "selection": 6, "test": 6}


def test_a_record_is_found_only_where_there_is_one(params):
    assert few_shot.recorded(params).id == few_shot.run(params).id
    assert few_shot.recorded(params.model_copy(update={"seed": 99})) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_that_stops_decoding_is_named_in_one_sentence(params, tmp_path, workers):
    folder = write_folder(tmp_path / "clips", classes=7, clips=3)
    broken = params.model_copy(update={"dataset": f"folder:{folder}", "runs": str(tmp_path), "workers": workers})
    manifest = few_shot.open_manifest(broken)
    method = few_shot.open_method(broken)
    train = few_shot.open_split(broken, manifest, method.backbone, "train")
    for row in manifest.videos("train"):
        manifest.path(row).write_bytes(b"damaged after it was listed")
    with pytest.raises(UserError, match=r"^[^\n]*\.mp4[^\n]*$"):
        fit(method, train.training(2), batches=2, folder=tmp_path / "run", workers=workers, **COMMON)


def test_command_line_tells_one_sentence(tmp_path, monkeypatch):
    file = tmp_path / "bad.json"
    file.write_text('{"shoot": 3}')
    monkeypatch.setattr("sys.argv", ["training", "--params", str(file), "--trouble", str(tmp_path / "said")])
    with pytest.raises(SystemExit, match="unknown parameter 'shoot'"):
        apart.main(RunParams, few_shot.work, few_shot.run, "")
    assert "unknown parameter 'shoot'" in (tmp_path / "said").read_text(), "for who started the processes"


def test_layers_learn_slower_the_further_they_lie_below():
    tower = torch.nn.Module()
    tower.conv1, tower.ln_post = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    tower.transformer = torch.nn.Module()
    tower.transformer.resblocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    method = torch.nn.Module()
    method.clip, method.head = torch.nn.Module(), torch.nn.Linear(2, 2)
    method.clip.visual, method.rates = tower, {"head.": 10.0}
    method.visual_adapters = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    names = {id(p): name.removesuffix(".weight") for name, p in method.named_parameters() if p.ndim == 2}
    groups = stepping.parameter_groups(method, 0.1, layer_decay=0.5)
    found = {names[id(p)]: group["rate"] for group in groups for p in group["params"] if id(p) in names}
    blocks = "clip.visual.transformer.resblocks"
    expected = {f"{blocks}.2": 0.5, f"{blocks}.1": 0.25, f"{blocks}.0": 0.125, "clip.visual.conv1": 0.0625}
    expected |= {"visual_adapters.1": 0.5, "visual_adapters.0": 0.25, "clip.visual.ln_post": 1.0, "head": 10.0}
    assert found == expected
    assert {group["rate"] for group in stepping.parameter_groups(method, 0.1)} == {1.0, 10.0}
