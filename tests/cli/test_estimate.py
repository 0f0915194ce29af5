"""``vidlib estimate``: what is measured on ten real episodes, and how it is extrapolated."""

import json

import pytest

from tests.data.small import write_folder
from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.cli import estimate, sweep
from vidlib.cli import run as running
from vidlib.params.notebooks import request
from vidlib.results.identity import Identity
from vidlib.training import few_shot, trial, video_text
from vidlib.training.trial import Measured

GIVEN = Measured(
    train=2.0,
    embed=0.5,
    match=0.01,
    train_memory=100.0,
    test_memory=50.0,
    weights=1000,
    state=5000,
    line=100.0,
    kept=8.0,
    whole=False,
    steps_per_epoch=0,
    trained=True,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("videos"), classes=8, clips=4)


@pytest.fixture
def asked(folder, tmp_path):
    def make(notebook: str = "few_shot", **changes):
        given = {"dataset": f"folder:{folder}", "pretrained": "", "frames": "2", "device": "cpu"}
        given |= {"backbone": "clip-mini", "runs": str(tmp_path / "runs")}
        if notebook == "few_shot":
            given |= {"method": "otam", "way": "2", "train_episodes": "40", "val_episodes": "3", "val_every": "20"}
            given |= {"test_episodes": "5", "episodes_per_step": "4"}
        return running.checked(request(notebook, given | changes))

    return make


def test_ten_episodes_are_measured_and_kept_without_a_run(asked, tmp_path, capsys):
    it = asked(seeds="2")
    (params, _) = running.main_runs(it)
    lines = estimate.estimate(it)
    said = "\n".join(lines)
    measured = estimate.known(it, params)
    assert measured is not None and measured.trained and not measured.whole
    for name in ("train", "embed", "match", "train_memory", "test_memory", "line", "kept"):
        assert getattr(measured, name) > 0, name
    assert measured.train_memory > measured.test_memory and measured.state > measured.weights > 1e5
    assert f"{measured.train:.3f} s" in said and f"{measured.train_memory:,.0f} MiB" in said
    assert "measured, on 10 training episodes and 10 tests of otam" in said
    assert "extrapolated, to 40 training and 5 test episodes" in said and "hours of 2 seeds" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["estimates"], "no run folder"
    longer = asked(seeds="2", train_episodes="4000", lr="1e-5")
    assert estimate.known(longer, running.main_runs(longer)[0]) == measured, "as long as an episode is the same"
    other = asked(frames="3")
    assert estimate.known(other, running.main_runs(other)[0]) is None
    (cell,) = sweep.cells("few_shot", {"seeds": ["2"]}, {n: _text(v) for n, v in it.changes.items() if n != "seeds"})
    hours, source = sweep.expected(cell)
    assert source == "vidlib estimate" and hours == pytest.approx(2 * estimate.extrapolate(params, measured).hours)


def _text(value) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def test_extrapolation_is_the_sum_that_it_says(asked):
    params = running.main_runs(asked())[0]
    sampler = few_shot.EpisodeSampler(few_shot.open_manifest(params), "test", 2, 1, 1, few_shot.EVALUATION_SEED)
    videos = {int(row) for i in range(5) for row in [*sampler[i].support, *sampler[i].query]}
    roles = {(int(row), role) for i in range(5) for role in ("support", "query") for row in getattr(sampler[i], role)}
    assert len(roles) >= len(videos)
    assert trial.embeddings([sampler[i] for i in range(5)], True) == len(roles)
    assert trial.embeddings([sampler[i] for i in range(5)], False) == len(videos)

    cost = estimate.extrapolate(params, GIVEN)
    assert cost.train == pytest.approx(40 * 2.0 / 3600)
    embed, match = len(roles) * 0.5, 5 * 0.01
    assert cost.test == pytest.approx((2 * embed + 3 * match) / 3600), (
        "as it is and shuffled; permuted texts match anew"
    )
    assert cost.bytes == 1000 + 10 * 100 + 8 * 15 and cost.bytes_running == cost.bytes + 5000
    looks = estimate.extrapolate(params.model_copy(update={"val_every": 40}), GIVEN).select
    assert cost.select == pytest.approx(2 * looks) and looks > 0
    assert estimate.extrapolate(params.model_copy(update={"val_episodes": 0}), GIVEN).select == 0


def test_batches_of_labelled_clips(asked):
    it = asked(
        "actionclip", batch="4", epochs="3", val_every="2", visual_prompt="meanp", protocol="closed_set", select="true"
    )
    (params,) = running.main_runs(it)
    measured = estimate.measure(params)
    assert measured.steps_per_epoch > 0 and measured.train > 0 and measured.embed > 0 and measured.match == 0
    cost = estimate.extrapolate(params, measured)
    assert cost.train == pytest.approx(3 * measured.steps_per_epoch * measured.train / 3600)
    manifest = video_text.open_plan(params).manifest
    val, test = (len(manifest.videos(split)) for split in ("val", "test"))
    assert cost.select == pytest.approx(2 * val * measured.embed / 3600)
    assert cost.test == pytest.approx(2 * test * measured.embed / 3600)


def test_a_damaged_measurement_is_none_and_no_method_is_a_sentence(asked, capsys):
    it = asked()
    params = running.main_runs(it)[0]
    file = estimate.keep(it, params, GIVEN)
    assert estimate.known(it, params) == GIVEN
    file.write_text("{")
    assert estimate.known(it, params) is None
    with pytest.raises(UserError, match="comparison studies no single method"):
        estimate.estimate(request("comparison"))
    assert cli.main(["estimate", "otam/hmdb51_1shot"]) == 1
    assert "dataset hmdb51: the videos" in capsys.readouterr().err


def test_records_of_earlier_runs_tell_what_training_takes(asked, tmp_path):
    it = asked()
    params = running.main_runs(it)[0]
    assert estimate.trained_before(it, params) is None
    run = estimate.runs.open_run(Identity("x", params.determining(), root=str(tmp_path / "runs")))
    run.finish({"fit": {"seconds": 60.0, "selection_seconds": 20.0}})
    assert estimate.trained_before(it, params) == pytest.approx(80 / 3600)
    longer = params.model_copy(update={"train_episodes": 80, "seed": 3})
    assert estimate.trained_before(it, longer) == pytest.approx(160 / 3600)
    assert estimate.trained_before(it, params.model_copy(update={"frames": 4})) is None
    here = json.loads(run.path("environment.json").read_text()) | {"host": "another"}
    run.path("environment.json").write_text(json.dumps(here))
    assert estimate.trained_before(it, params) is None, "another machine says nothing of this one"
