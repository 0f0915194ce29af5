"""Long trainings run beside each other in processes of one thread, and leave what they leave in one."""

from types import SimpleNamespace

import pytest

from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.training import few_shot, processes, side_by_side


@pytest.fixture
def given(tmp_path, monkeypatch) -> RunParams:
    monkeypatch.setattr(side_by_side, "LONG", 8)
    monkeypatch.setattr(side_by_side, "cores", lambda: 2)
    clips = write_folder(tmp_path / "clips", classes=7, clips=3)
    size = {"way": 2, "frames": 2, "train_episodes": 2, "val_episodes": 1, "val_every": 2, "test_episodes": 4}
    where = {"dataset": f"folder:{clips}", "device": "cpu", "runs": str(tmp_path / "runs")}
    return RunParams.parse({"method": "protonet", "backbone": "clip-mini", "pretrained": "clip-mini", **size, **where})


def test_runs_beside_each_other_equal_runs_one_after_another(given, tmp_path, capsys):
    wanted = [given, given.model_copy(update={"seed": 1}), given.model_copy(update={"train_episodes": 1})]
    found = side_by_side.run_all(few_shot, wanted)
    said = capsys.readouterr().out
    assert "2 trainings in processes of one thread, 2 at a time" in said, "one episode is too short for a process"
    assert [run.params["seed"] for run in found] == [0, 1, 0]
    threads = [run.environment["threads"] for run in found[:2]]
    assert threads == [1, 1] and all(run.state == "finished" for run in found)
    alone = few_shot.run(given.model_copy(update={"runs": str(tmp_path / "alone")}))
    assert alone.id == found[0].id and alone.result["test"] | {"seconds": 0} == found[0].result["test"] | {"seconds": 0}

    side_by_side.run_all(few_shot, wanted)
    assert "trainings in processes" not in capsys.readouterr().out, "what is recorded is not done again"


def test_a_process_that_fails_ends_all_with_a_sentence(given):
    """A module that knows no ``--params``: of a UserError the sentence is left (``processes.main``)."""
    failing = SimpleNamespace(__name__="json.tool", videos=few_shot.videos, recorded=lambda *_: None)
    with pytest.raises(UserError, match="json.tool in a process of its own ended with code 2"):
        side_by_side.run_all(failing, [given, given.model_copy(update={"seed": 1})])


def test_a_run_that_came_out_under_another_id_is_a_sentence(given, monkeypatch):
    """Where the source or the data changed between the start of a kernel and that of its process."""
    monkeypatch.setattr(few_shot, "recorded", lambda *_: None)
    monkeypatch.setattr(processes, "run_each", lambda *_, **__: None)
    with pytest.raises(UserError, match="under another id: vidlib's source or the data have changed"):
        side_by_side.run_all(few_shot, [given, given.model_copy(update={"seed": 1})])


def test_a_process_tells_of_what_is_no_sentence(tmp_path, capsys):
    (tmp_path / "stderr").write_text("Traceback: the end of it")
    (tmp_path / "trouble.fault").write_text("OutOfMemoryError: 3 GiB more")
    with pytest.raises(UserError, match="ended with OutOfMemoryError: 3 GiB more, see above"):
        processes._end(SimpleNamespace(returncode=1), "vidlib.training.few_shot", tmp_path)
    assert "the end of it" in capsys.readouterr().out
    argv = ["few_shot", "--params", str(tmp_path / "params.yaml"), "--trouble", str(tmp_path / "told")]
    (tmp_path / "params.yaml").write_text("method: otam")
    for cause in ("first", "second"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match=cause):
            patch.setattr("sys.argv", argv)
            processes.main(RunParams, lambda _: None, lambda _, cause=cause: _raise(RuntimeError(cause)), "")
    assert (tmp_path / "told.fault").read_text() == "RuntimeError: first" and not (tmp_path / "told").exists()


def test_devices_share_the_threads_and_must_be_there(given, monkeypatch):
    seen = {}
    monkeypatch.setattr(processes, "run_each", lambda *_, **environment: seen.update(environment))
    monkeypatch.setattr(processes, "cores", lambda: 16)
    for own, wanted in (("", "4"), ("3", "3"), ("40", "4")):
        monkeypatch.setenv("OMP_NUM_THREADS", own)
        processes.run_apart(given, "vidlib.training.few_shot", 4)
        assert seen == {"OMP_NUM_THREADS": wanted}
    monkeypatch.setattr(processes, "pick_device", lambda _: "cuda")
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="devices: 4 are more than the 1 GPUs that are here"):
        processes.run_apart(given, "vidlib.training.few_shot", 4)


def _raise(error):
    raise error
