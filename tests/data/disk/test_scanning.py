"""Scanning a folder of any layout: what is found, what is passed over, and that links end."""

import os
from pathlib import Path

import pytest

from tests.data.fake_disk import lay
from vidlib.basics.errors import UserError
from vidlib.data.disk.scanning import scan


def _names(root: Path) -> list[str]:
    return [file.name for file in scan(root).files]


def test_any_layout_any_container_any_case(tmp_path: Path) -> None:
    held = ["a.AVI", "deep/er/ünï (1).WebM", "deep/b [2].mkv", "c.d.mp4"]
    lay(tmp_path, [*held, "notes.txt", ".hidden.mp4", ".git/x.mp4", "deep/no_ending"])
    assert _names(tmp_path) == sorted(held)
    (tmp_path / "empty.mov").touch()
    assert {file.name: file.size for file in scan(tmp_path).files}["empty.mov"] == 0


def test_links_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "in and out"
    lay(inside, ["a/1.mp4"])
    lay(outside, ["other.mp4"])
    (inside / "file.mp4").symlink_to(outside / "other.mp4")
    (inside / "folder").symlink_to(outside)
    (inside / "up").symlink_to("../in and out")
    (inside / "here.mp4").symlink_to("a/1.mp4")
    found = scan(inside)
    assert [file.name for file in found.files] == ["a/1.mp4", "file.mp4", "folder/other.mp4", "here.mp4"]
    assert set(found.refused) == {"up"} and "links are followed" in found.refused["up"]


def test_the_given_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    lay(tmp_path / "real", ["a/1.mp4"])
    (tmp_path / "link").symlink_to("real")
    assert _names(tmp_path / "link") == ["a/1.mp4"]


def test_loops_of_links_end_and_nothing_is_found_twice(tmp_path: Path) -> None:
    lay(tmp_path, ["a/b/1.mp4"])
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/self").symlink_to("self")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "Z").symlink_to("a/b")
    found = scan(tmp_path)
    assert [file.name for file in found.files] == ["a/b/1.mp4"]
    assert found.refused["gone.mp4"] == found.refused["a/self"] == "a link that leads nowhere"
    assert found.refused["Z"] == found.refused["a/b/up"]
    assert found.refused["Z"].startswith("a link to a folder that is read already")


def test_pipes_and_names_with_tabs_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    lay(tmp_path, ["tab\there.mp4", "line\nbreak.mp4", "good.mp4"])
    found = scan(tmp_path)
    assert [file.name for file in found.files] == ["good.mp4"]
    assert found.refused["pipe.mp4"] == "not a plain file" and "tab" in found.refused["tab\there.mp4"]


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        scan(tmp_path / "nowhere")
    lay(tmp_path, ["file.mp4"])
    with pytest.raises(UserError, match="file.mp4 is not a folder"):
        scan(tmp_path / "file.mp4")
