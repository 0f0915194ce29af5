"""The lock, the container, the development container and the hosted CI do what Makefile, README and pyproject say."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "lock-linux-x86_64.txt").read_text()
DOCKERFILE = [
    line.split(maxsplit=1) for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0] != "#"
]
LINUX = {"platform_machine": "x86_64", "sys_platform": "linux", "extra": ""}


def _locked() -> dict[str, str]:
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", LOCK, re.M)
    }


def test_the_lock_has_the_tested_versions_each_with_digests():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert _locked() == {canonicalize_name(name): version for name, version in pins.items()}
    entries = re.split(r"\n(?=\S)", LOCK.partition("make lock\n")[2].rstrip())
    assert len(entries) == len(pins)
    assert all(re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry) for entry in entries)


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_the_lock_satisfies_each_dependency(extra):
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for wanted in map(Requirement, asked):
        assert wanted.marker is None or wanted.marker.evaluate(LINUX), "the lock is for Linux x86-64"
        assert wanted.specifier.contains(_locked()[canonicalize_name(wanted.name)]), wanted


def test_the_lock_names_no_place():
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host| @ |/", LOCK)


def test_the_container_does_the_two_commands():
    steps = [(word, rest) for word, rest in DOCKERFILE if word in ("RUN", "CMD")]
    assert steps[-2:] == [("RUN", "make setup"), ("CMD", '["make", "demo"]')]
    targets = re.findall(r"^([\w-]+):(?! export)", (ROOT / "Makefile").read_text(), re.M)
    readme = (ROOT / "README.md").read_text()
    for command in ("demo", "test"):
        assert command in targets and f"\nmake {command} " in readme
    needs = re.search(r"install -y --no-install-recommends (.+)", steps[0][1])[1].split()
    assert {"make", "python3", "python3-venv"} <= set(needs), "what README says that it needs"
    assert "setup" in targets and ["COPY", "--chown=vidlib . ."] in DOCKERFILE
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert not {name for name in left_out if (ROOT / name).exists()} & {"records", "recipes", "notebooks", "vidlib"}


def test_the_development_container_is_the_containers_base():
    said = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / said["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert [rest.split()[-1] for word, rest in DOCKERFILE if word == "FROM" and " AS " in rest] == [
        said["build"]["target"]
    ]
    assert said["postCreateCommand"] == "make setup" and ["USER", said["remoteUser"]] in DOCKERFILE


def test_hosted_ci_runs_ci_on_each_python_that_is_promised():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", line)]
    assert job["strategy"]["matrix"]["python"] == promised and PROJECT["requires-python"] == f">={promised[0]}"
    assert job["steps"][-1] == {"run": "bash .ci/run", "env": {"PYTHON": "python"}} and (ROOT / ".ci" / "run").is_file()
