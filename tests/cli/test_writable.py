"""What will be written is tried before the work; a failure at the end is a sentence, after what was computed."""

from pathlib import Path

import pytest

from tests.data.small import write_clip
from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.basics.paths import check_writable
from vidlib.cli import run as running
from vidlib.params.notebooks import request
from vidlib.studies.predict import guess


@pytest.fixture
def predict(tmp_path: Path) -> list[str]:
    return ["predict", str(write_clip(tmp_path / "a.mp4")), "--classes", "a cross,a bar"]


def impossible(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").write_text("x")
    (tmp_path / "gone").symlink_to("nowhere")
    return {
        "below a file": tmp_path / "file" / "o",
        "too long": tmp_path / ("n" * 300),
        "a link that leads nowhere": tmp_path / "gone" / "o",
        "no disk": Path("/proc/nowhere/o"),
    }


@pytest.mark.parametrize("kind", ["below a file", "too long", "a link that leads nowhere", "no disk"])
@pytest.mark.parametrize("option", ["csv", "figures"])
def test_predict_says_so_before_anything_is_read(predict, tmp_path, monkeypatch, capsys, kind, option) -> None:
    monkeypatch.setattr(guess, "open_method", lambda p: pytest.fail("work was begun"))
    place = impossible(tmp_path)[kind]
    assert cli.main([*predict, f"--{option}", str(place)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{option}: {place} cannot be written (") and said.count("\n") == 1


def test_the_guesses_are_said_where_the_csv_fails_at_the_end(predict, tmp_path, monkeypatch, capsys) -> None:
    def full(table, *_, **__) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_csv", full)
    assert cli.main([*predict, "--csv", str(tmp_path / "o.csv")]) == 1
    said = capsys.readouterr()
    assert "a cross" in said.out and "1 videos" in said.out
    assert said.err.startswith(f"csv: {tmp_path / 'o.csv'} cannot be written: No space left on device; ")
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("notebook", ["few_shot", "actionclip", "worlds", "your_videos"])
def test_runs_that_cannot_be_written_are_said_before_a_kernel_starts(tmp_path, monkeypatch, notebook) -> None:
    monkeypatch.setenv("VIDLIB_RUNS", str(impossible(tmp_path)["below a file"]))
    with pytest.raises(UserError, match="runs: .*file/o.* cannot be written [(]Not a directory[)]"):
        running.checked(request(notebook, {}, ""))


def test_a_page_that_cannot_be_written_is_a_sentence(tmp_path, capsys) -> None:
    (tmp_path / "runs").mkdir()
    place = impossible(tmp_path)["below a file"]
    assert cli.main(["report", "page", "--runs", str(tmp_path / "runs"), "--out", str(place)]) == 1
    assert capsys.readouterr().err.startswith(f"out: {place} cannot be written (Not a directory)")


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "er" / "o.csv", "csv")
    check_writable(tmp_path / "new", "runs", folder=True)
    assert not list(tmp_path.iterdir())
