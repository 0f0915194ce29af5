"""``vidlib data embed|export-features|import-features|list`` from the command line's arguments to the report."""

import pytest

from tests.cli.test_data_disk import _run
from tests.data.small import write_folder
from vidlib.basics.errors import UserError

pytestmark = pytest.mark.usefixtures("data")


def test_embed_list_export_import(tmp_path):
    dataset = f"folder:{write_folder(tmp_path / 'clips', classes=4, clips=2)}"
    embed = ("embed", dataset, "--backbone", "resnet-mini", "--frames", "2", "--views", "1", "--workers", "0")
    assert len(_run(*embed, "--dry-run")) == 2
    said = _run(*embed, "--dtype", "float16", "--set", "crop=window", "flip=none")
    assert said[0].startswith(
        "folder:clips (all 8 videos), resnet-mini resnet-mini, 2 frames, 1 test view and 1 augment"
    )
    assert "float16, 0.0 MB in " in said[0] and "hours" in said[1] and said[2].startswith("whole: 8 videos")
    listed = [line for line in _run("list") if line.startswith("features ")]
    assert len(listed) == 1 and "(to be rid of it, delete " in listed[0]
    name = listed[0].split()[1].rstrip(":")
    assert _run("export-features", name, str(tmp_path / "shared.zip"))[0].endswith(f"MB in {tmp_path / 'shared.zip'}")
    taken = _run("import-features", str(tmp_path / "shared.zip"), "--out", str(tmp_path / "taken"))
    assert taken[0].endswith(f"in {tmp_path / 'taken'}") and "digest" in taken[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("motoin",), "did you mean 'motion'"),
        (("motion", "--backbone", "ViT-B-32-quickgelu"), "which weights of ViT-B-32-quickgelu"),
        (("motion", "--frames", "1"), "frames"),
        (("motion", "--set", "crop=round"), "crop"),
        (("motion", "--set", "crop"), "is not of the form name=value"),
        (("folder:nowhere",), "nowhere"),
    ],
)
def test_mistakes_are_one_sentence(words, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        _run("embed", *words)
    assert "\n" not in str(error.value)
