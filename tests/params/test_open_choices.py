"""The file of open choices: whole and true of the classes; what a person with the paper enters is followed."""

import inspect
import re

import pytest
import yaml

from tests.methods.small import make
from vidlib import methods
from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.params import open_choices, recipes
from vidlib.params.by_recipe import by_recipe
from vidlib.params.few_shot import RunParams
from vidlib.training import few_shot, run

CHOICES = [(method, argument) for method in open_choices.NAMES for argument in open_choices.of(method)]


@pytest.fixture
def enter(tmp_path, monkeypatch):
    """Write a copy of the file with entries of one line changed or added, and let it be the file."""

    def entered(method, argument, **entries):
        said = yaml.safe_load(open_choices.FILE.read_text())
        said.setdefault(method, {}).setdefault(argument, {}).update(entries)
        file = tmp_path / "open_choices.yaml"
        file.write_text(yaml.safe_dump(said))
        monkeypatch.setattr(open_choices, "FILE", file)

    return entered


@pytest.mark.parametrize("method, argument", CHOICES)
def test_every_choice_names_an_argument_and_its_value_here(method, argument):
    choice, known = open_choices.of(method)[argument], inspect.signature(methods.find(method)).parameters
    assert argument in known, "no such constructor argument"
    default = known[argument].default
    assert choice.here == (list(default) if isinstance(default, tuple) else default)
    assert len(choice.known) > 5 and len(choice.look) > 3 and not choice.entered


def test_unread_papers_are_not_said_to_be_silent():
    for method in ("ma_fsar", "gghm", "m2clip"):
        words = " ".join(choice.known for choice in open_choices.of(method).values())
        assert "unknown to us" in words and "not stated" not in words
        assert "not stated" not in inspect.getsource(methods.find(method))
        recipes_of = (paths.checkout() / "recipes" / method).glob("*.yaml")
        assert all("not stated" not in file.read_text() for file in recipes_of)
    fitted = [a for a, choice in open_choices.of("ma_fsar").items() if "18.54" in choice.known]
    assert len(fitted) == 6 and all("chosen" in open_choices.of("ma_fsar")[a].known for a in fitted)


def test_an_entered_value_is_the_default_and_the_words_and_another_id(enter):
    manifest = few_shot.open_manifest(p := RunParams(method="gghm", backbone="resnet-mini", pretrained="resnet-mini"))
    before, plain = run.identity(few_shot.work(p, manifest)), make("gghm").unsettled()
    assert "alpha" not in methods.arguments(p)
    enter("gghm", "alpha", value=0.7, page=5)
    assert methods.arguments(p)["alpha"] == 0.7
    assert run.identity(few_shot.work(p, manifest)).id != before.id
    told = {argument: (value, words) for argument, value, words in make("gghm").unsettled()}
    assert told["alpha"] == (0.7, "the paper, p. 5")
    assert {a: (v, w) for a, v, w in plain if a != "alpha"} == {a: row for a, row in told.items() if a != "alpha"}
    given = RunParams(**p.model_dump() | {"options": {"alpha": 0.2}})
    assert methods.arguments(given)["alpha"] == 0.2, "what a user gives wins"
    assert dict((a, w) for a, _, w in make("gghm", alpha=0.2).unsettled())["alpha"] == "the paper, p. 5, has 0.7"


def test_words_alone_are_no_other_run(enter):
    manifest = few_shot.open_manifest(p := RunParams(method="gghm", backbone="resnet-mini", pretrained="resnet-mini"))
    before = run.identity(few_shot.work(p, manifest)).id
    enter("gghm", "alpha", known="other words", look="elsewhere")
    assert run.identity(few_shot.work(p, manifest)).id == before


def test_recipes_of_published_cells_follow_and_small_ones_do_not(enter):
    enter("ma_fsar", "mix_weight", value=0.8, page="6, Table 7")
    assert by_recipe("ma_fsar", {"dataset": "hmdb51", "shot": 1}).mix == 0.8
    assert by_recipe("ma_fsar", {"dataset": "hmdb51", "shot": 1, "mix": 0.3}).mix == 0.3
    assert by_recipe("ma_fsar", {"dataset": "motion", "shot": 1}).mix == RunParams().mix
    enter("aim", "num_tadapter", value=1, page=7)
    assert by_recipe("aim", {"dataset": "hmdb51", "shot": 1}).options["num_tadapter"] == 1


@pytest.mark.parametrize("file", sorted((paths.checkout() / "recipes").glob("*/*_*shot.yaml")), ids=recipes.short)
def test_recipes_as_papermill_reads_them_hold_what_was_entered(file):
    said = yaml.safe_load(file.read_text())
    assert recipes.read(file) == said, "write what open_choices.yaml has into the recipe: papermill -f reads the file"


@pytest.mark.parametrize(
    "method, argument, entries, said",
    [
        ("gghm", "alhpa", {"here": 0.5, "known": "x", "look": "y"}, "no argument 'alhpa'; did you mean 'alpha'"),
        ("gghm", "alpha", {"value": 0.7}, "gghm, alpha: a value and the page of the paper go together"),
        ("gghm", "alpha", {"page": 5}, "gghm, alpha: a value and the page of the paper go together"),
        ("gghm", "alpha", {"value": "much", "page": 5}, "value 'much' is of another kind than 0.5"),
        ("gghm", "alpha", {"value": True, "page": 5}, "value True is of another kind than 0.5"),
        ("gghm", "alpha", {"value": 7, "page": 5}, "gghm was built with alpha: 7.0: alpha"),
        ("gghm", "distance", {"value": "manhattan", "page": 5}, "built with distance: 'manhattan': .*euclidean"),
        ("gghm", "alpha", {"value": 0.7, "page": [5]}, r"page \[5\] is not a page"),
        ("gghm", "alpha", {"vlaue": 0.7}, "entry 'vlaue'; did you mean 'value'"),
        ("gghmm", "alpha", {"here": 0.5, "known": "x", "look": "y"}, "'gghmm' is no method; did you mean 'gghm'"),
    ],
)
def test_a_wrong_entry_is_one_sentence(enter, method, argument, entries, said):
    enter(method, argument, **entries)
    with pytest.raises(UserError, match=said) as caught:
        make("gghm")
    assert re.search(r"open_choices\.yaml", str(caught.value)) and "\n" not in str(caught.value)


def test_a_file_that_is_not_yaml_is_one_sentence(tmp_path, monkeypatch):
    file = tmp_path / "open_choices.yaml"
    monkeypatch.setattr(open_choices, "FILE", file)
    for text in ("gghm: {alpha: {", "[1, 2]", "gghm: 3"):
        file.write_text(text)
        with pytest.raises(UserError, match=str(file)) as caught:
            open_choices.of("gghm")
        assert "\n" not in str(caught.value)
