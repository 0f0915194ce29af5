"""A user's method by file and class: what is loaded, what is refused and in which words, what tells its runs apart."""

import pytest
import torch

from tests.data.small import write_folder
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.methods import yours
from vidlib.params.few_shot import RunParams
from vidlib.studies import few_shot as study
from vidlib.training import few_shot

SOURCE = '''
"""Mine: the mean of frames, through one layer."""
import torch
from torch import nn
from torch.nn import functional as F
from vidlib.methods import FewShotMethod, Match
from vidlib.methods.base import class_means, cosine

class Mine(FewShotMethod):
    uses_text = False
    by_role = False

    def __init__(self, backbone, frames=8, *, width=4, metric_scale=1.0):
        super().__init__(backbone, frames, feature_dim=width)
        self.layer, self.scale = nn.Linear(backbone.embed_dim, width), metric_scale

    def embed(self, clips, text, role):
        return {"mean": self.layer(self.frame_features(clips)).mean(1)}

    def match(self, support, labels, query, text, targets=None):
        logits = self.scale * cosine(query["mean"], class_means(support["mean"], labels, text.shape[1]))
        match = Match(logits)
        if targets is not None:
            match.losses["mean"] = F.cross_entropy(logits.flatten(0, 1), targets.query_labels.flatten())
        return match

class Half(FewShotMethod):
    def embed(self, clips, text, role):
        return {}

class Other:
    pass
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_class_is_loaded_and_a_changed_file_read_again(file):
    first = methods.find(f"{file}:Mine")
    assert first is methods.find(f"{file}:Mine") and issubclass(first, methods.FewShotMethod)
    file.write_text(SOURCE.replace("width=4", "width=5"))
    second = methods.find(f"{file}:Mine")
    assert second is not first
    assert study.constructor(f"{file}:Mine")["width"] == 5
    assert study.label(f"{file}:Mine") == "Mine" and study.about(f"{file}:Mine").startswith("Mine: the mean")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py:Mine", ["nowhere.py does not exist"]),
        ("mine.py:Mien", ["no class 'Mien'", "did you mean 'Mine'"]),
        ("mine.py:Torch", ["no class 'Torch'", "Mine"]),
        ("mine.py:Other", ["'Other'", "FewShotMethod"]),
        ("mine.py:Half", ["'Half'", "lacks match"]),
    ],
)
def test_what_is_refused(file, name, words, monkeypatch):
    monkeypatch.chdir(file.parent)
    with pytest.raises(UserError) as error:
        methods.find(name)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import helpers", ["imports helpers in line 1", "that one file"]),
        ("from . import helpers", ["line 1"]),
        ("import no_such_package", ["ModuleNotFoundError in line 1"]),
        ("1 / 0", ["ZeroDivisionError in line 1"]),
        ("def broken(:", ["is not Python", "line 1"]),
    ],
)
def test_a_file_that_cannot_be_run_or_does_not_stand_alone_is_named(file, line, words):
    (file.parent / "helpers.py").write_text("")
    file.write_text(line + "\n" + SOURCE)
    with pytest.raises(UserError) as error:
        methods.find(f"{file}:Mine")
    assert all(word in str(error.value) for word in [str(file), *words]), str(error.value)


def test_options_and_ablations_are_checked_before_anything_is_built(file):
    name = f"{file}:Mine"
    methods.check(RunParams(method=name, options={"width": 3}))
    with pytest.raises(UserError, match="no argument 'widht'; did you mean 'width'"):
        methods.check(RunParams(method=name, options={"widht": 3}))
    with pytest.raises(UserError, match="'cardinalites'; did you mean 'cardinalities'"):
        methods.check(RunParams(method="trx", options={"cardinalites": [2]}))
    with pytest.raises(UserError, match="'frames' follows from the other parameters"):
        methods.check(RunParams(method="otam", options={"frames": 4}))
    with pytest.raises(UserError, match="'ma_fsar' adapts a CLIP, and resnet18 is none"):
        methods.check(RunParams(method="ma_fsar", backbone="resnet18", pretrained=""))
    with pytest.raises(UserError, match="ablation 'x' is unknown"):
        methods.check(RunParams(method=name, ablation="x"))


def test_the_content_of_the_file_tells_runs_apart_and_its_place_does_not(file, tmp_path):
    clips = write_folder(tmp_path / "clips", classes=6, clips=3)
    small = {"way": 2, "frames": 2, "train_episodes": 1, "val_episodes": 0, "test_episodes": 2, "device": "cpu"}
    small |= {"dataset": f"folder:{clips}", "pretrained": "", "runs": str(tmp_path / "runs")}
    params = RunParams(method=f"{file}:Mine", **small)
    run = few_shot.run(params)
    assert run.id.startswith("Mine-")
    moved = tmp_path / "elsewhere" / "same.py"
    moved.parent.mkdir()
    moved.write_text(SOURCE)
    assert few_shot.recorded(RunParams(method=f"{moved}:Mine", **small)).id == run.id
    file.write_text(SOURCE.replace("mean(1)", "sum(1)"))
    assert few_shot.recorded(params) is None

    file.unlink()  # the run keeps the source it was made from
    method, _ = few_shot.open_trained(run, few_shot.open_manifest(params))
    assert type(method).__name__ == "Mine" and torch.isfinite(method.layer.weight).all()
    assert yours.digest(f"{moved}:Mine") != yours.digest(f"{_write(tmp_path, 'other.py')}:Mine")


def _write(folder, name):
    (folder / name).write_text(SOURCE + "\n# another\n")
    return folder / name
