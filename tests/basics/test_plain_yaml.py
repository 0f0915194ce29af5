"""What a recipe may say, and what is refused at once: bombs, aliases, names twice, depth, endless numbers."""

import pytest

from vidlib import cli
from vidlib.basics import plain_yaml
from vidlib.basics.errors import UserError
from vidlib.data import folder
from vidlib.params import recipes
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import request

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    LAUGHS: "anchors",
    "options: &o\n  a: *o\n": "anchors",
    "x: *nowhere\n": "aliases",
    "shot: 1\nway: 5\nshot: 5\n": "line 3: 'shot' is given twice",
    "options: {a: 1, a: 2}\n": "'a' is given twice",
    "1: 2\n": "the name '1' is no text",
    "null: 2\n": "is no text",
    "on: 2\n": "is no text",
    "<<: {shot: 1}\n": "is no text",
    "? [1, 2]\n: 3\n": "no text|cannot be read",
    "shot: " + "9" * 5000 + "\n": "a number of 5,000 characters",
    "shot: " + "1e" + "9" * 5000 + "\n": "a number of 5,002 characters",
    "options: " + "[" * 100_000 + "\n": "lie within one another",
    "options: " + "{a: " * 50 + "1" + "}" * 50 + "\n": "lie within one another",
    "x: !!python/object/apply:os.system [ls]\n": "tags",
    "x: !!binary aGk=\n": "tags",
    "x: 2024-13-45\n": "month",
    "x: [1, 2\n": "did not find|expected",
    "x: \x00\n": "not allowed",
    "a: 1\n--- \nb: 2\n": "single document",
    "x: " + "long " * 100_000: "characters are more than",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:30]))
def test_what_is_not_plain_is_one_sentence_at_once(text, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    (tmp_path / "a").mkdir()
    readers = [recipes.read, RunParams.from_file, lambda file: request(str(file), notebook="ma_fsar")]
    readers += [lambda file: folder._read_splits(file, {})]
    for read in readers:
        with pytest.raises(UserError, match=f"recipe.yaml cannot be read as YAML: .*({WRONG[text]})") as refused:
            read(file)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:30]))
def test_text_of_a_command_line_is_read_by_the_same_rules(text):
    for name in ("options", "milestones"):
        with pytest.raises(UserError, match=f"^{name}: ") as refused:
            RunParams.parse({name: text})
        assert len(str(refused.value)) < 700


def test_a_recipe_that_is_a_bomb_ends_the_command(tmp_path, capsys):
    (tmp_path / "bomb.yaml").write_text(LAUGHS)
    assert cli.main(["run", str(tmp_path / "bomb.yaml"), "--notebook", "ma_fsar"]) == 1
    said = capsys.readouterr().err
    assert "bomb.yaml cannot be read as YAML: line 1: anchors" in said and "Traceback" not in said


def test_what_recipes_hold_is_read_as_before():
    text = "# a comment\nname: value\nnumber: 1.5e-3\nflag: true\nnone:\nlist: [[0.5, 0.1], [0.8, 0.01]]\n'1': x\n"
    assert plain_yaml.parse(text) == {
        "name": "value",
        "number": 1.5e-3,
        "flag": True,
        "none": None,
        "list": [[0.5, 0.1], [0.8, 0.01]],
        "1": "x",
    }
    assert plain_yaml.parse("") is None
    assert plain_yaml.parse("id: " + "a1" * 100) == {"id": "a1" * 100}
