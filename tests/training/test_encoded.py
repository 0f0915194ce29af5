"""Frame features encoded once serve every method that reads nothing else, and give what encoding anew gives."""

import numpy as np
import pytest

from tests.data.small import write_folder
from vidlib.basics.devices import make_fabric
from vidlib.data.clips import Clips
from vidlib.params.few_shot import RunParams
from vidlib.training import encoded, few_shot
from vidlib.training.evaluate_episodes import evaluate, evaluate_each_episode, evaluate_with_controls


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return f"folder:{write_folder(tmp_path_factory.mktemp('encoded') / 'clips', classes=7, clips=3)}"


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The rows whose frames were read."""
    rows, own = [], Clips.test
    monkeypatch.setattr(Clips, "test", lambda self, row: rows.append(row) or own(self, row))
    return rows


def opened(dataset, manifest=None, **given) -> tuple:
    params = RunParams.parse({"dataset": dataset, "pretrained": "", "way": 2, "frames": 3, "device": "cpu"} | given)
    manifest = manifest or few_shot.open_manifest(params)
    method = few_shot.open_method(params).eval()
    return method, few_shot.open_split(params, manifest, method.backbone, "test"), manifest


@pytest.mark.parametrize("method", ["frozen_clip", "ordered_differences", "tip_adapter", "logistic_regression"])
def test_it_gives_what_embedding_each_episode_gives(dataset, method):
    built, split, _ = opened(dataset, method=method)
    listed = (split.clips, split.sampler, 8, split.text)
    once = evaluate(built, *listed, device="cpu", keep_parts=True)
    anew = evaluate_each_episode(built, *listed, keep_parts=True)
    assert np.allclose(once.logits, anew.logits, atol=1e-4)
    assert len({tuple(np.ravel(logits).round(3)) for logits in once.logits}) > 1


def test_a_video_is_read_once_whatever_the_control_and_the_method(dataset, reads):
    first, split, manifest = opened(dataset, method="frozen_clip")
    listed = (split.clips, split.sampler, 8, split.text)
    found = evaluate_with_controls(first, *listed)
    assert len(reads) == len(set(reads)) > 0
    other, again, _ = opened(dataset, manifest, method="simple_shot")
    evaluate(other, again.clips, *listed[1:], device="cpu")
    assert len(reads) == len(set(reads)), "the second reads nothing"
    plain = evaluate(first, *listed, device="cpu", control="frames_shuffled")
    assert np.array_equal(plain.predicted, found["frames_shuffled"].predicted)
    assert not np.allclose(plain.margin, found[""].margin), "frames of features are shuffled too"


def test_another_tower_other_frames_or_a_manifest_opened_anew_are_encoded_anew(dataset, reads):
    first, split, manifest = opened(dataset, method="frozen_clip")
    evaluate(first, split.clips, split.sampler, 4, split.text, device="cpu")
    once = len(reads)
    for number, (held, given) in enumerate([(manifest, {"seed": 1}), (manifest, {"frames": 2}), (None, {})], 2):
        method, other, _ = opened(dataset, held, method="frozen_clip", **given)
        evaluate(method, other.clips, other.sampler, 4, other.text, device="cpu")
        assert len(reads) == number * once


def test_what_is_kept_goes_with_its_manifest(dataset):
    first, split, manifest = opened(dataset, method="frozen_clip")
    evaluate(first, split.clips, split.sampler, 4, split.text, device="cpu")
    key = id(manifest)
    assert key in encoded._kept
    del split, manifest
    assert key not in encoded._kept


@pytest.mark.parametrize("method", ["protonet", "aim"])
def test_a_tower_that_is_trained_or_adapted_is_asked_itself(dataset, method):
    built, split, _ = opened(dataset, method=method)
    assert encoded.shared(built, split.clips, [split.sampler[0]], make_fabric("cpu")) is split.clips
