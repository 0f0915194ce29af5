"""The house rules that a machine can check: dependencies agree, floors hold, code is clean, notebooks are bare."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FLOORS = [  # bottom first; a room imports only from floors below its own, or from itself
    {"basics", "matching"},
    {"layers", "params"},
    {"data"},
    {"backbones", "results"},
    {"methods"},
    {"training"},
    {"testing", "viz"},
    {"studies"},
    {"cli"},
]
DATA = ("disk", "catalogue", "world", "")  # rooms within data, top first: each imports from those behind it alone


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=;! ]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {_name(line): line.split("==")[1] for line in lines}


def test_constraints_pin_every_dependency_and_name_no_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    pins = _pins()
    assert [r for r in wanted if _name(r) not in pins] == []
    assert not re.search(r"https?:|@", (ROOT / "constraints.txt").read_text())


def test_torch_and_torchvision_are_a_matching_pair():
    pins = _pins()
    major, minor = (int(part) for part in pins["torch"].split(".")[:2])
    vision = tuple(int(part) for part in pins["torchvision"].split(".")[:2])
    assert (major, vision) == (2, (0, minor + 15)), "torchvision 0.(n+15) is built for torch 2.n"


def test_every_pin_installs_on_the_oldest_python_that_is_promised():
    oldest = re.search(r"\d+\.\d+", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    refused = []
    for distribution in metadata.distributions():
        wants, name = distribution.metadata["Requires-Python"], _name(distribution.metadata["Name"])
        if name in _pins() and wants and not SpecifierSet(wants).contains(f"{oldest[0]}.0"):
            refused.append(f"{name} {distribution.version} wants Python {wants}")
    assert not refused, "a system's Python may be the first of its kind, as Debian 12's 3.11.2 nearly is"


def test_environment_installs_the_project_and_nothing_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    newest = max(int(each[-2:]) for each in project["classifiers"] if "Python :: 3." in each)
    assert plain == [f"python{project['requires-python']},<3.{newest + 1}", "pip"]
    assert pip[0] == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", pip[1]).group(1).split(",")
    assert set(extras) == set(project["optional-dependencies"])
    assert len(pip) == 2


def _imports(path: Path) -> set[tuple[str, ...]]:
    """The modules of vidlib that a file imports anywhere in it, and what it takes from them: names, divided at dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {tuple(name.split(".")[1:]) for name in found if name.startswith("vidlib.")}


def test_vidlib_is_its_rooms():
    here = {path.name for path in (ROOT / "vidlib").iterdir() if path.name != "__pycache__"}
    assert here == set().union(*FLOORS) | {"__init__.py"}


def test_rooms_import_only_from_floors_below():
    level = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    broken = []
    for path in (ROOT / "vidlib").glob("*/**/*.py"):
        room = path.relative_to(ROOT / "vidlib").parts[0]
        others = {name[0] for name in _imports(path) if name[0] in level} - {room}
        broken += [f"{path.relative_to(ROOT)} imports {other}" for other in others if level[other] >= level[room]]
    assert broken == []


def test_figures_know_no_params_no_methods_and_no_training():
    """What a figure shows is handed in as arrays and tables; params.base alone may help with words."""
    broken = []
    for path in (ROOT / "vidlib" / "viz").rglob("*.py"):
        strangers = {name for name in _imports(path) if name[0] in ("params", "methods", "training")}
        named = {name for name in strangers if name[:2] != ("params", "base")}
        broken += [f"{path.name} imports {'.'.join(name)}" for name in named]
    assert broken == []


def _inside_data(names: tuple[str, ...]) -> int:
    return DATA.index(names[1] if len(names) > 1 and names[1] in DATA else "")


def test_rooms_within_data_import_only_from_those_behind_them():
    broken = []
    for path in (ROOT / "vidlib" / "data").rglob("*.py"):
        own = _inside_data(path.relative_to(ROOT / "vidlib").parts)
        named = {name for name in _imports(path) if name[0] == "data" and _inside_data(name) < own}
        broken += [f"{path.relative_to(ROOT)} imports {'.'.join(name)}" for name in named]
    assert broken == []


def _knowing(library: str) -> set[str]:
    """The files of vidlib that import ``library`` anywhere in them."""

    def knows(path: Path) -> bool:
        return any(
            name.split(".")[0] == library
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        )

    root = ROOT / "vidlib"
    return {path.relative_to(root).as_posix() for path in root.rglob("*.py") if knows(path)}


@pytest.mark.parametrize("library", ["open_clip", "timm"])
def test_only_the_backbones_know_the_libraries_of_towers(library):
    knowing = _knowing(library)
    assert knowing and all(file.startswith("backbones/") for file in knowing), knowing


def test_installed_towers_are_the_pinned_ones():
    pins = _pins()
    assert {name: metadata.version(name) for name in ("timm", "open-clip-torch")} == {
        name: pins[name] for name in ("timm", "open-clip-torch")
    }


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    """Most of them run by hand alone, so that nothing else tells of a name that has gone."""
    named = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for module, alias in [(node.module, alias.name) for node in named for alias in node.names]:
        if not hasattr(importlib.import_module(module), alias):
            importlib.import_module(f"{module}.{alias}")


def test_code_is_clean():
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stored_bare(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            kept = "nbval-check-output" in cell["metadata"].get("tags", [])  # a table that the notebook's test compares
            assert bool(cell["outputs"]) == kept and cell["execution_count"] == (1 if kept else None), source[:80]
            assert "../" not in source, "a notebook holds no relative path"
            assert not re.search(r"^\s*(class|def) \w*(Dataset|Method)", source, re.M), "such things live in vidlib"
