"""One rule for links to files and folders, whoever reads: they are followed wherever they lead, each folder once."""

from pathlib import Path

import pytest

from tests.data.small import write_clip, write_folder
from vidlib.basics.digests import folder_digest
from vidlib.basics.errors import UserError
from vidlib.cli import data as commands
from vidlib.data.catalogue import official
from vidlib.data.disk import checking
from vidlib.data.folder import from_folder
from vidlib.studies.predict.files import examples, list_files


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Four classes of two videos: two linked folders, one of linked files, one of its own; and a loop."""
    pool, root = write_folder(tmp_path / "pool", classes=4), tmp_path / "linked"
    root.mkdir()
    for name in ("class0", "class1"):
        (root / name).symlink_to(pool / name)
    (root / "class2").mkdir()
    for file in (pool / "class2").iterdir():
        (root / "class2" / file.name).symlink_to(file)
    (pool / "class3").rename(root / "class3")
    (root / "class3" / "loop").symlink_to(root)
    return root


def test_folder_support_predict_and_check_read_the_same(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_CACHE", str(linked.parent / "cache"))
    manifest = from_folder(linked)
    assert len({manifest.path(row) for row in manifest.rows}) == 8
    assert {name: len(files) for name, files in examples(linked).items()} == {f"class{i}": 2 for i in range(4)}
    assert len(list_files([linked])) == 8 and "class0/0.mp4" in list_files([linked]).values()
    assert len(checking.check(f"folder:{linked}", workers=1).lines) == 8


def test_official_reads_linked_files_and_folders(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = linked.parent / "data"
    monkeypatch.setenv("VIDLIB_DATA", str(data))
    (data / "ucf101" / "annotations").mkdir(parents=True)
    (data / "ucf101" / "videos").symlink_to(linked)
    (data / "ucf101" / "0.mp4").symlink_to(linked / "class2" / "0.mp4")
    for part, number in (("train", 0), ("test", 1)):
        lines = [f"class{i}/{number}.mp4" + " 1" * (part == "train") for i in range(4)]
        (data / "ucf101" / "annotations" / f"{part}list01.txt").write_text("\n".join(lines))
    assert len(official.load("ucf101").rows) == 8


def test_what_is_linked_counts_for_the_identity_of_a_run(linked: Path) -> None:
    before = folder_digest(linked)
    write_clip(linked.parent / "pool" / "class0" / "0.mp4", shade=200)
    assert folder_digest(linked) != before


def test_a_link_that_leads_nowhere_is_named(linked: Path) -> None:
    (linked / "class0" / "gone.mp4").symlink_to("nowhere.mp4")
    assert "class0/gone.mp4" in list_files([linked]).values()
    assert "class0/gone.mp4" in from_folder(linked).keep_readable().note
    (linked / "class9").symlink_to("nowhere")
    with pytest.raises(UserError, match="the link 'class9' leads nowhere; mend it or remove it"):
        from_folder(linked)
    (linked.parent / "bare").mkdir()
    (linked.parent / "bare" / "videos").symlink_to("nowhere")
    with pytest.raises(UserError, match="no video files .*links are followed.*passed over: videos: a link that l"):
        list_files([linked.parent / "bare"])


def test_the_old_option_is_still_understood(linked: Path, capsys: pytest.CaptureFixture) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    commands.add_commands(parser)
    assert parser.parse_args(["add", "ucf101", "--videos", str(linked), "--follow-links"]).follow_links
