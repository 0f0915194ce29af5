"""Progress under papermill: sparse lines on the console, one line in the notebook; why a machine is slow, once."""

import os
import subprocess
import sys

import nbformat

from vidlib.basics import progress

CODE = """
import time
from vidlib.basics import progress
progress.SPARSE_SECONDS, progress.BUSY = 0.0, 1e9
for _ in progress.track(range(5), "training"):
    time.sleep(0.01)
progress.SPARSE_SECONDS = 60
list(progress.track(range(5), "quick"))
print("after")
"""


def test_a_notebook_keeps_one_line_and_the_console_gets_them_all(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [f"training: {i} of 5" in done.stderr for i in range(1, 6)] == [True] * 5
    assert any(line.startswith("training: 2 of 5, about") for line in lines), "on a line of its own, not behind the bar"
    assert "quick" not in done.stderr and done.stdout == ""
    outputs = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs
    kinds = [output.output_type for output in outputs]
    assert sorted(kinds) == ["display_data", "stream"]
    (line,) = (output.data["text/plain"] for output in outputs if output.output_type == "display_data")
    assert line == "training: 5 of 5 in 0.0 min" or line.startswith("training: 5 of 5 in 0.")
    assert [output.text for output in outputs if output.output_type == "stream"] == ["after\n"]


def test_a_log_gets_sparse_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_say_why_slow", lambda: None)
    monkeypatch.setattr(progress, "SPARSE_SECONDS", 0.0)
    assert list(progress.track(range(2), "reading", start=1)) == [0, 1]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(progress.COUNTING.fullmatch(line) for line in lines)
    assert lines[-1] == "reading: 3 of 3, about 0 s left"
    monkeypatch.setattr(progress, "SPARSE_SECONDS", 30.0)
    assert list(progress.track(range(2), "reading")) == [0, 1] and capsys.readouterr().out == ""


def test_what_takes_long_says_early_how_long(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_say_why_slow", lambda: None)
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.track(range(6), "short"))
    assert capsys.readouterr().out == ""
    assert list(progress.track(range(12), "long")) == [*range(12)]
    first, *later = capsys.readouterr().out.splitlines()
    assert first == "long: 2 of 12, about 40 s left" and later == ["long: 10 of 12, about 8 s left"]


def test_a_slow_start_is_not_taken_for_the_pace(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_say_why_slow", lambda: None)
    clock = iter([0.0, *(11 + 0.1 * i for i in range(3000))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.track(range(2944), "rendering"))
    assert capsys.readouterr().out.splitlines()[0] == "rendering: 2 of 2944, about 294 s left"


def test_a_busy_machine_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_said", set())
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0, 0))
    progress._say_why_slow()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (1234.5, 0, 0))
    progress._say_why_slow()
    progress._say_why_slow()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "1234.5 processes" in said and "cores" in said
