"""What is found out before anything is rendered, decoded or built; and that one seed gives one method."""

import pytest
import torch

from tests.data.small import write_folder
from vidlib import opening
from vidlib.errors import UserError
from vidlib.params import MAFSARParams


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"way": 99}, ["way", "99", "moving_shapes"]),
        ({"dataset": "nowhere"}, ["dataset", "nowhere", "moving_shapes"]),
        ({"dataset": "moving_shape"}, ["did you mean 'moving_shapes'"]),
        ({"dataset": "folder:nowhere"}, ["nowhere"]),
        ({"pretrained": "missing.pt"}, ["missing.pt"]),
        ({"pretrained": "", "backbone": "ViT-B-99"}, ["backbone", "ViT-B-99"]),
        ({"dataset": "hmdb51"}, ["hmdb51", "hmdb51/<class>/<video file>"]),
    ],
    ids=str,
)
def test_what_cannot_work_is_named_at_once(given, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    with pytest.raises(UserError) as error:
        p = opening.checked(MAFSARParams.parse(given))
        opening.open_manifest(p)
    assert all(word in str(error.value) for word in words), error.value


def test_a_folder_with_an_empty_class_or_only_broken_clips_is_refused(tmp_path):
    empty = write_folder(tmp_path / "empty", classes=6)
    (empty / "nothing here").mkdir()
    broken = tmp_path / "broken"
    for i in range(6):
        (broken / f"class{i}").mkdir(parents=True)
        (broken / f"class{i}" / "a.mp4").write_bytes(b"no video")
    for folder, word in ((empty, "nothing here"), (broken, "decoded")):
        with pytest.raises(UserError, match=word):
            opening.checked(MAFSARParams.parse({"dataset": f"folder:{folder}", "way": 2}))


def test_a_seed_gives_one_method_and_another_seed_another():
    base = MAFSARParams(pretrained="").run_params("ma_fsar")
    one, again, other = (opening.open_method(p).state_dict() for p in (base, base, base.model_copy(update={"seed": 1})))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_template_reaches_the_class_texts(tmp_path):
    p = MAFSARParams.parse({"dataset": f"folder:{write_folder(tmp_path / 'clips')}", "way": 2, "pretrained": ""})
    manifest, backbone = opening.open_manifest(p), opening.open_backbone(p)
    texts = [
        opening.open_split(p.model_copy(update={"template": t}), manifest, backbone, "val").text
        for t in ("a photo of {}", "{}")
    ]
    assert not torch.equal(*texts)
    with pytest.raises(UserError, match="template"):
        MAFSARParams.parse({"template": "no place"})
