"""The price of choosing on test: a watched training is the plain one, its answers are the checkpoints' own."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch

from tests.data.small import write_folder
from vidlib.backbones.vit import OpenClipViT
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.studies import price_of_test
from vidlib.studies.price_of_test import NAME, Price, Watched, gains
from vidlib.training import checkpoints, few_shot
from vidlib.training import run as running
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.loop import fit


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> RunParams:
    """MA-FSAR on seven classes of grey clips and an untrained tower: three checkpoints in seconds, and no claim."""
    root = tmp_path_factory.mktemp("folder")
    own = {"dataset": f"folder:{write_folder(root / 'clips', classes=7, clips=3)}", "runs": str(root / "runs")}
    size = {"train_episodes": 6, "val_episodes": 5, "val_every": 2, "test_episodes": 6, "lr": 0.01}
    return RunParams(pretrained="", way=2, frames=4, device="cpu", precision="32-true", **own, **size)


def kept(run: runs.Run) -> dict[str, np.ndarray]:
    with np.load(run.path("price_of_test.npz")) as file:
        return dict(file)


def test_answers_are_those_of_each_checkpoint_and_training_is_the_plain_runs(params, monkeypatch):
    weights = []
    validation = Watched.validation

    def watching(self, method, fabric):
        inner = validation(self, method, fabric)

        def both(trained):
            weights.append({name: value.clone() for name, value in checkpoints.trainable_state(trained).items()})
            return inner(trained)

        return both

    plain = few_shot.run(params)
    work = few_shot.work(params)
    monkeypatch.setattr(Watched, "validation", watching)
    run = price_of_test.run(params)
    assert run.id != plain.id and few_shot.recorded(params).id == plain.id
    assert run.result["fit"]["selected"] == plain.result["fit"]["selected"]
    for name in ("loss", "val_accuracy"):
        assert run.metrics()[name].equals(plain.metrics()[name])
    assert len(weights) == 3 and not torch.equal(*(next(iter(each.values())) for each in weights[:2]))
    answers = kept(run)
    assert answers["step"].tolist() == [2, 4, 6]
    method = few_shot.open_method(params)
    for number, state in enumerate(weights):
        checkpoints.put_trainable(method, state)
        for name, episodes in (("val", 5), ("test", 6)):
            split = work.split(method, name)
            alone = evaluate(method, split.clips, split.sampler, episodes, split.text, device="cpu")
            assert np.array_equal(alone.hits, answers[name][number]), (name, number)
    price = price_of_test.of_runs([run])
    assert price.val[0].tolist() == answers["val"].sum(1).tolist() and price.about["steps"] == [2, 4, 6]
    assert price.test[0, :, 0].tolist() == answers["test"].reshape(3, 6, 2)[:, ::2].sum((1, 2)).tolist()
    assert "test" not in run.result and "no result" in run.result[NAME]["what"]
    assert run.result[NAME]["test"] == answers["test"].mean(1).tolist()
    assert run.readings() == {"val": 3, "test": 3}
    purposes = {line["purpose"] for line in runs.read_lines(run.path("readings.jsonl")) if line["split"] == "test"}
    assert purposes == {f"what test would choose: step {step}" for step in (2, 4, 6)}


@pytest.mark.parametrize("finetune, factor", [("frozen", 3), ("full", 1)])
def test_a_frozen_tower_sees_a_test_video_once(params, finetune, factor, tmp_path, monkeypatch):
    strm = params.model_copy(update={"method": "strm", "options": {"finetune": finetune}})
    evaluating, seen, stages = [False], [], OpenClipViT.stages

    def looking(*given, **how):
        evaluating[0] = True
        found = evaluate(*given, **how)
        evaluating[0] = False
        return found

    monkeypatch.setattr(price_of_test, "evaluate", looking)
    monkeypatch.setattr(OpenClipViT, "stages", lambda *given: seen.append(evaluating[0]) or stages(*given))
    runs_made, counts = [], []
    for name, remembered in (("once", price_of_test.remembered), ("anew", lambda *given: nullcontext())):
        monkeypatch.setattr(price_of_test, "remembered", remembered)
        runs_made.append(price_of_test.run(strm.model_copy(update={"runs": str(tmp_path / name)})))
        counts.append(seen.count(True))
        seen.clear()
    once, anew = map(kept, runs_made)
    assert all(np.array_equal(once[name], anew[name]) for name in anew) and anew["step"].tolist() == [2, 4, 6]
    assert counts[1] == factor * counts[0] > 0
    assert runs_made[0].metrics()["loss"].equals(runs_made[1].metrics()["loss"])


def test_a_killed_run_goes_on_without_losing_or_repeating_a_checkpoint(params, tmp_path, monkeypatch):
    whole = kept(price_of_test.run(params))
    monkeypatch.setattr(running, "fit", partial(fit, checkpoint_every=2))
    here = params.model_copy(update={"runs": str(tmp_path)})
    keep = price_of_test.keep

    def killed(file, step, *rest):
        keep(file, step, *rest)
        if step == 4:  # the answers are there, the state is that of step 2
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(price_of_test, "keep", killed)
        price_of_test.run(here)
    resumed = kept(price_of_test.run(here))
    assert all(np.array_equal(whole[name], resumed[name]) for name in ("step", "val", "test"))
    monkeypatch.setattr(price_of_test, "keep", lambda file, step, *rest: step == 4 or keep(file, step, *rest))
    with pytest.raises(UserError, match="lost checkpoints"):
        price_of_test.run(here.model_copy(update={"seed": 1}))


def test_planted_gains():
    val = np.array([5, 9, 7, 7])
    test = np.array([[10, 10], [20, 4], [12, 20], [15, 15]])  # 20, 24, 32, 30 right
    assert gains(val, test, 1) == {"gain": 0.0, "same": 0.0, "other": 0.0}
    assert gains(val, test, 4)["gain"] == 32 - 24
    # beside the last: 0 (val: last, test: last), 1 (val: 1, test: last), 2 (equal on val, so the earlier: 2; test: 2)
    assert gains(val, test, 2)["gain"] == pytest.approx((0 + (30 - 24) + 0) / 3)
    # of all, the even half chooses 1, as val does; the odd half 2: 20 against 4 on its own, 12 against 20 on the other
    found = gains(val, test, 4)
    assert found["same"] == 0 + (20 - 4) and found["other"] == 0 + (12 - 20)


def planted(seeds: int = 3) -> Price:
    """Two methods of 200 answers, of which test finds 20 more than val in one and none in the other."""
    val, right = np.array([50, 40]), {"trx": [[40, 40], [50, 50]], "hyrsm": [[40, 40], [30, 30]]}
    about = {"runs": [{"method": name, "seed": seed} for name in right for seed in range(seeds)]}
    test = [np.array(right[name]) for name in right for _ in range(seeds)]
    chosen = [np.stack([np.arange(200) < each[c].sum() for c in (0, each.sum(1).argmax())]) for each in test]
    return Price(about, np.stack([val] * len(test)), np.stack(test), np.stack(chosen))


def test_the_record_comes_back_and_its_table_says_what_was_planted(tmp_path, capsys):
    price = planted()
    price_of_test.save(price, tmp_path)
    back = price_of_test.load(tmp_path)
    assert all(np.array_equal(getattr(price, name), getattr(back, name)) for name in ("val", "test", "chosen"))
    found = price_of_test.summary(price_of_test.rows(back)).set_index(["method", "k"])
    assert found.loc[("trx", 2), ["val", "test", "gain", "interval"]].tolist() == pytest.approx([40, 50, 10, 0])
    assert found.loc[("trx", 1), "gain"] == 0 == found.loc[("hyrsm", 2), "gain"]
    # the two methods' means are 10 and 0: t of one degree of freedom times 5
    assert found.loc[(price_of_test.POOLED, 2), ["gain", "interval"]].tolist() == pytest.approx(
        [5, 12.706 * 5], rel=1e-3
    )
    shown = price_of_test.table(found.reset_index())
    assert shown.loc["trx", "of 2"] == "10.00 ± 0.00" and shown.loc[price_of_test.POOLED, "runs"] == 6
    assert price_of_test.read(tmp_path)["method"].unique().tolist() == ["TRX", "HyRSM", price_of_test.POOLED]
    assert "TRX 2 of 5" in (said := capsys.readouterr().out) and "GgHM 5 of 5" in said
    price.chosen[0, 0, 0] = False
    price_of_test.save(price, tmp_path)
    with pytest.raises(UserError, match="counts differ"):
        price_of_test.load(tmp_path)
    assert price_of_test.read(tmp_path / "nowhere") is None and "vidlib evidence price" in capsys.readouterr().out


def of(seeds: list[int], right: int, method: str = "trx", **changes) -> Price:
    """A record of a method, each answer list with so many right."""
    params = RunParams(method=method, test_episodes=100).model_dump()
    del params["seed"]
    lines = [{"method": method, "seed": seed} for seed in seeds]
    about = {"steps": [1], "checksum": "same", "params": {method: params}, "runs": lines} | changes
    one = np.array([right]), np.array([[right // 2, right - right // 2]]), np.tile(np.arange(200) < right, (2, 1))
    return Price(about, *(np.stack([each] * len(seeds)) for each in one))


def test_a_record_keeps_the_runs_whose_folders_are_gone(tmp_path, monkeypatch):
    wanted = [RunParams(method="trx", test_episodes=100, seed=seed) for seed in range(4)]
    both = price_of_test.together(of([3, 1], 60), of([0, 1, 7], 40), wanted)
    assert [line["seed"] for line in both.about["runs"]] == [0, 1, 3] and both.val[:, 0].tolist() == [40, 60, 60]
    for other in (None, of([0], 40, checksum="another"), of([0], 40, steps=[2])):
        assert [line["seed"] for line in price_of_test.together(of([3], 60), other, wanted).about["runs"]] == [3]
    price_of_test.save(both, tmp_path)
    monkeypatch.setenv("VIDLIB_RECORDS", str(tmp_path))
    assert [price_of_test.has(params) for params in wanted] == [True, True, False, True]
    assert not price_of_test.has(wanted[0].model_copy(update={"lr": 1.0}))


def test_a_record_keeps_the_runs_of_a_method_whose_tries_are_gone(tmp_path, monkeypatch):
    def planned(method):
        if method == "trx":
            raise UserError("trx has no run on motion yet")
        return [RunParams(method=method, test_episodes=100)]

    price_of_test.save(of([0, 1], 40), tmp_path)
    for name, value in {"METHODS": ("trx", "hyrsm"), "planned": planned, "_work": lambda params: params}.items():
        monkeypatch.setattr(price_of_test, name, value)
    monkeypatch.setattr(running, "recorded", lambda params: params if params.method == "hyrsm" else None)
    monkeypatch.setattr(price_of_test, "of_runs", lambda finished: of([0], 60, "hyrsm"))
    price_of_test.write(tmp_path)
    kept = price_of_test.load(tmp_path)
    assert [(line["method"], line["seed"]) for line in kept.about["runs"]] == [("trx", 0), ("trx", 1), ("hyrsm", 0)]
    assert kept.val[:, 0].tolist() == [40, 40, 60]
