"""A wheel carries notebooks, recipes, manifests and records, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.studies import evidence

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("data_manifests", "notebooks", "recipes", "records")
FILES = {
    file.relative_to(ROOT).as_posix(): file.read_bytes() for name in FOLDERS for file in paths.files_under(ROOT / name)
}


def python(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """What a build reads, copied, so that it leaves nothing in the checkout; with a module that is gone since."""
    place = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, "vidlib"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for file in [*ROOT.glob("*.*"), *ROOT.glob("LICENSE")]:
        if file.is_file():
            shutil.copy(file, place)
    (place / "build" / "lib" / "vidlib").mkdir(parents=True)
    (place / "build" / "lib" / "vidlib" / "of_an_earlier_build.py").touch()
    return place


@pytest.fixture(scope="module")
def installed(source) -> Path:
    """The wheel, unpacked as pip does it."""
    done = python("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", "dist", ".", cwd=source)
    assert done.returncode == 0, done.stderr
    wheels = [*(source / "dist").glob("vidlib-*-py3-none-any.whl")]
    assert len(wheels) == 1
    place = source.parent / f"{source.name}-installed"
    zipfile.ZipFile(wheels[0]).extractall(place)
    return place


def outside(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A Python that knows the unpacked wheel alone, in a folder that is no checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("VIDLIB_")}
    own |= {"PYTHONPATH": str(installed), "HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CACHE_HOME": ""}
    return python("-P", *words, cwd=folder, env=own)


def test_the_wheel_carries_what_the_checkout_has(installed):
    place = installed / "vidlib" / "shipped"
    assert {
        file.relative_to(place).as_posix(): file.read_bytes() for file in place.rglob("*") if file.is_file()
    } == FILES
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "vidlib").rglob("*.py")}
    assert {file.relative_to(installed).as_posix() for file in installed.rglob("*.py")} == modules


def test_an_archive_of_the_source_carries_them_too(source):
    done = python("-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=source)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next((source / "dist").glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*FILES, "setup.py", "constraints.txt", "vidlib/methods/open_choices.yaml"} <= names


def test_commands_work_outside_a_checkout(installed, tmp_path):
    command = ("-m", "vidlib.cli")
    said = outside(installed, tmp_path, *command, "lab", "work")
    assert said.returncode == 0 and f"{tmp_path}/work/notebooks/index.ipynb" in said.stdout, said.stderr
    given = {name: content for name, content in FILES.items() if not name.startswith("records")}
    assert {name: (tmp_path / "work" / name).read_bytes() for name in given} == given
    assert "hmdb51" in outside(installed, tmp_path, *command, "data", "list").stdout
    said = outside(installed, tmp_path, *command, "run", "ma_fsar/laptp")
    assert said.returncode == 1 and "did you mean 'ma_fsar/laptop'" in said.stderr
    code = "import vidlib; from vidlib.basics.paths import *; print(checkout(), records_dir(), runs_dir())"
    places = f"None {installed}/vidlib/shipped/records {tmp_path}/.local/share/vidlib/runs\n"
    (installed / "pyproject.toml").touch()  # as some packages leave beside them
    assert outside(installed, tmp_path, "-c", code).stdout == places


def test_records_are_not_made_in_what_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.delenv("VIDLIB_RECORDS", raising=False)
    with pytest.raises(UserError, match="set VIDLIB_RECORDS"):
        evidence.folder()
    monkeypatch.setenv("VIDLIB_RECORDS", str(tmp_path / "mine"))
    assert evidence.folder() == tmp_path / "mine"
