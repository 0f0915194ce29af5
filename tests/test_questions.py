"""Every question of the site is answered by its command, tried on small videos in a folder of its own."""

import re
import shlex

import pytest
import torch

from docs import reference
from tests import official
from tests.data.small import write_clip, write_folder
from tests.methods.test_yours import SOURCE
from vidlib import cli
from vidlib.params import notebooks
from vidlib.params.by_recipe import by_recipe
from vidlib.training import few_shot

GROUPS = reference.questions()
ENTRIES = [entry for group in GROUPS.values() for entry in group]
RUN = {"frames": 2, "way": 2, "shot": 1, "train_episodes": 1, "val_episodes": 0, "val_every": 1, "test_episodes": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which every command finds what it names, and which holds one finished run."""
    root = tmp_path_factory.mktemp("questions")
    for name, shade in (("dark", 1), ("light", 90)):
        write_clip(root / "videos" / f"{name}.mp4", 9, shade)
    (root / "videos" / "broken.mp4").write_bytes(b"no video")
    write_folder(root / "examples", classes=2)
    write_folder(root / "mine", classes=6, clips=3)
    for cls in ("clap", "fencing", "climb", "hit", "cartwheel", "pour"):  # of each split of HMDB51
        for folder in (root / "disk" / "anywhere", root / "data" / "hmdb51"):
            write_clip(folder / cls / f"{cls}_1.avi")
    (root / "lists").mkdir()
    for split, video in (("train", 78687), ("val", 2), ("test", 3)):
        (root / "lists" / f"{split}_few_shot.txt").write_text(f"{split}8//{video}\n")
    torch.save(official.saved("trx", official.official("trx")), root / "released.pth")
    (root / "my_method.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VIDLIB_RUNS", str(root / "runs"))
        patch.setenv("VIDLIB_DATA", str(root / "data"))
        few_shot.run(by_recipe("protonet", {"dataset": f"folder:{root / 'mine'}", "device": "cpu", **RUN}))
        yield root


def answer(entry: dict[str, str], capsys: pytest.CaptureFixture) -> str:
    """What the command of a question prints."""
    words = shlex.split(entry["run"]) if entry["run"].startswith("vidlib ") else []
    if entry["how"] == "parse":
        assert words[1] == "run" and words[3:4] in ([], ["--set"])
        request = notebooks.request(words[2], notebooks.settings(words[4:]))
        return f"{request.notebook} {request.params.changed() | dict(request.changes)}"
    if words:
        code = cli.main(words[1:])
        said = capsys.readouterr()
        assert code == (1 if entry.get("refused") else 0), said.err
        return said.err if code else said.out
    exec(compile(entry["run"], "question", "exec"), {})
    return capsys.readouterr().out


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["ask"])
def test_the_command_answers(entry, place, capsys):
    said = answer(entry, capsys)
    assert re.search(entry["expect"], said, re.M), said


def test_the_questions_are_enough_and_mostly_run():
    assert len(ENTRIES) >= 40 and sum(entry["how"] == "run" for entry in ENTRIES) >= 30
    assert {entry["how"] for entry in ENTRIES} == {"run", "parse"}
    assert len({entry["ask"] for entry in ENTRIES}) == len({entry["run"] for entry in ENTRIES}) == len(ENTRIES)
    assert all(re.fullmatch(r"([\w./-]+ #\d+(, )?)+", entry["asked"]) for entry in ENTRIES if "asked" in entry)
    assert all("\n" not in entry["run"] and entry["answer"].count(". ") < 3 for entry in ENTRIES)


def test_a_wrong_answer_is_seen(place, capsys):
    """The expected words are not found in what another question's command prints."""
    said = answer(ENTRIES[-1], capsys)
    alike = [entry["ask"] for entry in ENTRIES[:-1] if re.search(entry["expect"], said, re.M)]
    assert alike == []
