"""What an id depends on: source that computes, content that is read, values; and nothing else."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.small import write_folder
from vidlib.basics.digests import PACKAGE
from vidlib.data.catalogue import benchmarks
from vidlib.methods import METHODS, VIDEO_TEXT, source_file
from vidlib.params.few_shot import RunParams
from vidlib.results.identity import COMPUTING, EXEMPT, code_digest, exempt, imported, sources
from vidlib.training import few_shot
from vidlib.training.run import identity

ENTRIES = [PACKAGE / "training" / name for name in ("few_shot.py", "video_text.py")]


def closure(*files: Path) -> set[Path]:
    """Everything of the package that the files import, lazily too; what is exempt is not followed."""
    seen, todo = set(), list(files)
    while todo:
        if (path := todo.pop()) not in seen:
            seen.add(path)
            todo += [] if exempt(path) else imported(path)
    return seen


def test_all_that_a_run_imports_is_hashed_or_exempt():
    hashed = {file for name in METHODS | VIDEO_TEXT for file in sources(source_file(name))}
    heads = {path for path in PACKAGE.rglob("__init__.py") if len(path.read_text().splitlines()) < 3}
    assert {path for path in closure(*ENTRIES) if not exempt(path)} - hashed - heads == set()


@pytest.mark.parametrize("room", COMPUTING)
def test_every_computing_room_is_reached(room):
    assert any(path.is_relative_to(PACKAGE / room) for path in closure(*ENTRIES))


@pytest.mark.parametrize("name", EXEMPT)
def test_what_is_exempt_is_there_and_its_reason_given(name):
    assert (PACKAGE / name).exists() and EXEMPT[name]


def test_every_room_is_one_or_the_other():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = {*COMPUTING, *(name.partition("/")[0] for name in EXEMPT)}
    assert rooms == named, "methods is divided: one file of it computes"


def test_a_method_brings_its_own_file_and_no_other_papers():
    names = {path.name for path in sources(source_file("ma_fsar")) if path.parent.name == "methods"}
    assert names == {"base.py", "ma_fsar.py"}


def test_a_package_reached_through_a_link_is_the_same_code(tmp_path):
    (tmp_path / "vidlib").symlink_to(PACKAGE)  # as in the folder of `vidlib lab`
    code = "from vidlib import methods; from vidlib.results.identity import code_digest as of; "
    code += "print(methods.__file__); print(of(methods.source_file('ma_fsar')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    through, digest = done.stdout.split()
    assert through.startswith(str(tmp_path)) and digest == code_digest(source_file("ma_fsar"))


def _changed(package: Path, name: str) -> dict[str, str]:
    """The digests of two methods' source in the copied package, a comment added to the file ``name``."""
    file = package / (name or "__init__.py")
    before = file.read_text()
    file.write_text(before + "\n# a comment\n" * bool(name))
    digest = code_digest.__wrapped__  # what is read once in a process
    found = {method: digest(package / "methods" / f"{method}.py", package) for method in ("ma_fsar", "sloshnet")}
    file.write_text(before)
    return found


def test_a_comment_moves_the_ids_that_it_may(tmp_path):
    package = tmp_path / "vidlib"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    plain = _changed(package, "")
    moved = {}
    for name in ("viz/bubbles.py", "studies/claims.py", "layers/adapter.py", "methods/sloshnet.py", "methods/base.py"):
        now = _changed(package, name)
        moved[name] = [method for method in plain if now[method] != plain[method]]
    assert moved == {
        "viz/bubbles.py": [],
        "studies/claims.py": [],
        "layers/adapter.py": ["ma_fsar", "sloshnet"],
        "methods/sloshnet.py": ["sloshnet"],
        "methods/base.py": ["ma_fsar", "sloshnet"],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("identity")
    params = RunParams(dataset=f"folder:{write_folder(root / 'clips')}", device="cpu")
    manifest = benchmarks.load(params.dataset)

    def name(manifest=manifest, **given):
        return identity(few_shot.work(RunParams.parse({**params.model_dump(), **given}), manifest))

    return name, manifest


def test_class_texts_and_direction_are_content(run):
    name, manifest = run
    cls = manifest.classes("test")[0]
    others = [replace(manifest, directional=not manifest.directional)]
    others += [replace(manifest, prompts={**manifest.prompts, cls: "another text"})]
    assert len({name().id, *(name(other).id for other in others)}) == 3


def test_an_ablation_is_the_arguments_that_it_means(run):
    name, _ = run
    assert name(ablation="no_joint").id == name(options={"joint": False}).id != name().id
    assert name(ablation="no_joint").params["ablation"] == "no_joint", "recorded as it was given"


def test_weights_and_a_users_method_are_content(run, tmp_path):
    name, _ = run
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    text = "from vidlib.methods.protonet import ProtoNet\n\n\nclass Mine(ProtoNet):\n    pass\n"
    a.write_text(text)
    b.write_text(text)
    one, same = (name(method=f"{file}:Mine") for file in (a, b))
    assert one.id == same.id and str(tmp_path) not in json.dumps(one.values)
    assert any(path.name == "protonet.py" for path in sources(a)), "what it builds on counts too"
    b.write_text(text + "# changed\n")
    assert name(method=f"{b}:Mine").id != one.id
    assert "pretrained" in name().contents and "pretrained" not in name().values


def test_place_and_repetition_are_not_hashed(run, tmp_path):
    name, _ = run
    assert name(workers=2, fresh=True, runs=str(tmp_path), micro_batch=3).id == name().id
