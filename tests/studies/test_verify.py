"""What is true passes; every planted forgery is found, by the check that it should be."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.small import write_pictures
from vidlib import cli
from vidlib.basics import paths
from vidlib.data.world import worlds
from vidlib.params.few_shot import RunParams
from vidlib.results.identity import Identity
from vidlib.studies import records, verify
from vidlib.studies.verify import subject, together
from vidlib.training import checkpoints, few_shot


def write_noise(root, classes, clips):
    """Videos that no method tells apart without error."""
    draw = np.random.default_rng(0)
    for c in range(classes):
        for i in range(clips):
            coarse = draw.integers(0, 256, (4, 8, 8, 3))
            write_pictures(root / f"class{c}" / f"{i}.mp4", [each.repeat(4, 0).repeat(4, 1) for each in coarse])
    return root


@pytest.fixture(scope="module")
def true(tmp_path_factory):
    """Three seeds of a trained method, its run at another rate, and a floor: runs and records."""
    root = tmp_path_factory.mktemp("verify")
    size = {"train_episodes": 4, "val_episodes": 4, "val_every": 2, "test_episodes": 120, "also_shots": [2]}
    size |= {"dataset": f"folder:{write_noise(root / 'clips', classes=9, clips=4)}", "way": 2, "device": "cpu"}
    size |= {"method": "clip_fsar", "options": {"finetune": "frozen"}, "runs": str(root / "runs")}
    changes = [{}, {"seed": 1}, {"seed": 2}, {"lr": 0.05}, {"method": "zero_shot_clip", "options": {}}]
    made = [few_shot.run(RunParams.parse(size | change)) for change in changes]
    files = [records.pack(run, root / "records") for run in made]
    return SimpleNamespace(root=root, runs=made, names=[file.stem for file in files])


def found(path, replaying=0.0):
    verdict = verify.verify([path], replaying)
    return verdict, {finding.check for finding in verdict.findings}


class Forged:
    """A copy of the records; ``own`` is the first one's content, ``rename`` gives it the name of what it says."""

    def __init__(self, true, root):
        self.root, self.names = shutil.copytree(true.root / "records", root), [*true.names]
        self.own = json.loads(self.file(0).read_text())
        self.identity = self.own["environment"]["identity"]
        self.test, self.fit = self.own["result"]["test"], self.own["result"]["fit"]
        self.selections = [line for line in self.own["curve"] if "val_accuracy" in line]

    def file(self, number, ending="json"):
        return self.root / "runs" / f"{self.names[number]}.{ending}"

    def save(self):
        self.file(0).write_text(json.dumps(self.own))

    def pack(self, file, **changed):
        with np.load(file) as kept:
            records._write(file, **{**kept, **changed})

    @property
    def answers(self):
        return self.file(0, "npz")

    @property
    def list(self):
        return self.root / "lists" / f"{self.test['checksum'][:16]}.npz"

    def rename(self):
        """What a careful forger does: a name that fits."""
        made = Identity(self.identity["values"]["method"], self.identity["values"], self.identity["contents"]).id
        shutil.copy(self.answers, self.file(0).with_name(f"{made}.npz"))
        self.own["environment"]["id"] = self.names[0] = made


def a_test_that_other_seeds_have(f):
    """Gone with its answers and its reading, where not every method has it."""
    del f.own["result"]["texts_permuted"]
    with np.load(f.answers) as kept:
        records._write(f.answers, **{name: kept[name] for name in kept if name != "texts_permuted"})
    f.own["readings"]["test"] -= 1


def a_changed_accuracy(f):
    f.test["accuracy"] += 0.01


def a_changed_interval(f):
    f.test["interval"] *= 0.5


def a_changed_interval_over_classes(f):
    f.test["intervals"]["classes"] *= 0.5


def a_changed_accuracy_of_a_control(f):
    f.own["result"]["frames_shuffled"]["accuracy"] = 0.5001


def a_changed_class(f):
    f.test["per_class"][next(iter(f.test["per_class"]))] += 0.1


def a_class_that_was_not_asked(f):
    f.test["per_class"]["dancing"] = 1.0


def a_flipped_answer(f):
    with np.load(f.answers) as kept:
        f.pack(f.answers, test=kept["test"] ^ np.array([128] + [0] * (len(kept["test"]) - 1), np.uint8))


def answers_of_another_run(f):
    shutil.copy(f.file(1, "npz"), f.answers)
    other = json.loads(f.file(1).read_text())["result"]
    f.own["result"] |= {name: other[name] for name in f.own["result"] if "checksum" in (other[name] or {})}


def a_swapped_seed(f):
    f.own["params"]["seed"] = 1


def a_run_again_under_another_seed(f):
    f.own["params"]["seed"] = f.identity["values"]["seed"] = 7
    f.rename()


def a_seed_that_is_hashed_no_more(f):
    del f.identity["values"]["seed"]
    f.own["params"]["seed"] = 3
    f.rename()


def a_second_record_before_the_true_one(f):
    for ending in ("json", "npz"):
        shutil.copy(f.file(0, ending), f.file(0, f"0.{ending}"))


def a_seed_that_is_gone(f):
    for ending in ("json", "npz"):
        f.file(1, ending).unlink()


def answers_whose_record_is_gone(f):
    f.file(2).unlink()


def a_test_in_less_than_no_time(f):
    f.test["seconds"] = -5.0


def an_edited_rate(f):
    f.own["params"]["lr"] = 2e-3


def a_hashed_rate_too(f):
    f.own["params"]["lr"] = f.identity["values"]["lr"] = 2e-3


def a_rate_in_everything_but_the_curve(f):
    a_hashed_rate_too(f)
    f.rename()


def an_ablation_that_only_the_command_names(f):
    f.own["params"]["ablation"] = "text"


def another_list(f):
    f.test["checksum"] = f.own["result"]["test_2shot"]["checksum"]


def a_list_with_swapped_truth(f):
    with np.load(f.list) as asked:
        f.pack(f.list, truth=asked["truth"][::-1])


def a_list_with_other_queries(f):
    with np.load(f.list) as asked:
        f.pack(f.list, query=np.roll(asked["query"], 1))


def a_list_of_another_name(f):
    f.pack(f.list, checksum=np.array("0" * 64))


def fewer_episodes_than_stated(f):
    with np.load(f.list) as asked:
        f.pack(
            f.list, **{name: asked[name][:-20] for name in ("truth", "query")}, per_episode=asked["per_episode"][:-10]
        )


def a_test_left_out(f):
    del f.own["result"]["frames_shuffled"]


def a_checkpoint_that_test_chose(f):
    f.selections[0]["val_accuracy"], f.selections[1]["val_accuracy"] = 1.0, 0.5
    f.fit |= {"selected": f.selections[1]["step"], "val_accuracy": 0.5}


def a_step_after_the_last(f):
    f.fit["selected"] = 6


def a_selection_left_out(f):
    f.own["curve"].remove(f.selections[0])


def a_val_accuracy_that_no_answers_give(f):
    f.selections[0]["val_accuracy"] = 0.33
    f.fit |= {"selected": 4}


def more_training(f):
    f.fit["steps"] = 40


def another_schedule(f):
    f.selections[0]["lr"] *= 2


def a_curve_of_another_run(f):
    f.own["curve"] = json.loads(f.file(1).read_text())["curve"]


def a_loss_that_is_none(f):
    f.own["curve"][0]["loss"] = float("nan")


def test_read_twice(f):
    f.own["readings"]["test"] += 1


def val_read_beside_the_selections(f):
    f.own["readings"]["val"] += 1


def an_edited_name(f):
    f.own["environment"]["id"] = "clip_fsar-0123456789abcdef"


def another_code(f):
    place = f.root / "code" / f"{f.identity['contents']['source'][:16]}.json"
    f.identity["contents"]["source"] = "0" * 64
    shutil.copy(place, place.with_name(f"{'0' * 16}.json"))
    f.rename()


def an_edited_list_of_code(f):
    place = f.root / "code" / f"{f.identity['contents']['source'][:16]}.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"training/loop.py": "0" * 64}))


def other_weights(f):
    f.identity["contents"]["pretrained"] = "0" * 64
    f.rename()


def other_class_texts(f):
    f.identity["contents"]["texts"] = "0" * 64
    f.rename()


def other_videos(f):
    f.identity["contents"]["split train"] = f.own["result"]["coverage"][0]["checksum"] = "0" * 64
    f.rename()


def coverage_that_hides_what_was_left_out(f):
    f.own["result"]["coverage"][2]["used"] -= 1


def fewer_labels(f):
    f.own["result"]["labels"]["train"]["videos"] = 3


def fewer_trained_parameters(f):
    f.own["result"]["cost"]["trainable"] -= 1000


def an_empty_file(f):
    f.own.clear()
    f.own |= {"params": {}, "environment": {}, "result": {}, "readings": {}, "curve": []}


FORGERIES = {  # a forgery -> the check that finds it
    "numbers": (a_changed_accuracy, a_changed_interval, a_changed_interval_over_classes, a_changed_class),
    "numbers ": (a_changed_accuracy_of_a_control, a_class_that_was_not_asked, a_flipped_answer),
    "twins": (answers_of_another_run, a_run_again_under_another_seed),
    "parameters": (a_swapped_seed, an_edited_rate, an_ablation_that_only_the_command_names),
    "parameters ": (a_seed_that_is_hashed_no_more,),
    "once": (a_second_record_before_the_true_one, a_seed_that_is_gone),
    "figures": (answers_whose_record_is_gone,),
    "name": (a_hashed_rate_too, an_edited_name),
    "lists": (another_list, a_list_with_swapped_truth, a_list_with_other_queries, a_list_of_another_name),
    "lists ": (fewer_episodes_than_stated,),
    "asked": (a_test_left_out,),
    "tests": (a_test_that_other_seeds_have,),
    "selection": (a_checkpoint_that_test_chose, a_step_after_the_last, a_selection_left_out),
    "selection ": (a_val_accuracy_that_no_answers_give,),
    "training": (a_rate_in_everything_but_the_curve, more_training, another_schedule, a_curve_of_another_run),
    "training ": (a_loss_that_is_none,),
    "readings": (test_read_twice, val_read_beside_the_selections),
    "code": (another_code, an_edited_list_of_code),
    "contents": (other_weights, other_class_texts, other_videos),
    "coverage": (coverage_that_hides_what_was_left_out, fewer_labels),
    "costs": (fewer_trained_parameters, a_test_in_less_than_no_time),
    "read": (an_empty_file,),
}
test_read_twice.__test__ = False


def test_what_is_true_holds(true, capsys):
    for place in ("records", "runs", f"records/runs/{true.names[0]}.json"):
        verdict, _ = found(true.root / place)
        assert not verdict.findings and not verdict.flagged, place
    assert cli.main(["verify", str(true.root / "records")]) == 0
    assert "5 runs or records" in (said := capsys.readouterr().out) and "what they say holds" in said


@pytest.mark.parametrize(
    ("check", "forgery"),
    [(c, each) for c, some in FORGERIES.items() for each in some],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_forgery_is_found(true, tmp_path, check, forgery):
    forged = Forged(true, tmp_path / "records")
    forgery(forged)
    forged.save()
    verdict, checks = found(forged.root)
    assert check.strip() in checks, verdict.findings
    assert all(finding.said.strip() and "\n" not in str(finding) for finding in verdict.findings)


def test_a_studys_run_is_no_run_with_a_test(true, tmp_path):
    home = shutil.copytree(true.runs[0].folder, tmp_path / true.runs[0].id)
    result = json.loads((home / "result.json").read_text())
    tests = {name for name, each in result.items() if isinstance(each, dict) and "checksum" in each}
    own = {name: each for name, each in result.items() if name not in tests}
    (home / "result.json").write_text(json.dumps(own | {"price_of_test": {"what": "no result", "checksum": "a"}}))
    verdict = verify.verify([tmp_path])
    assert not verdict.findings and verdict.unknown == {"a study's run (no result)": 1}


@pytest.mark.parametrize("left", [0, 1])
def test_a_long_test_of_another_run_is_found_among_own_ones(true, tmp_path, monkeypatch, left):
    """All its answers, or all but one."""
    monkeypatch.setattr(together, "LONG", 100)
    forged = Forged(true, tmp_path / "records")
    with np.load(forged.answers) as own, np.load(forged.file(1, "npz")) as kept:
        test = kept["test"] ^ np.array([128 * left] + [0] * (len(kept["test"]) - 1), np.uint8)
        others = {name: own[name] ^ own["test"] ^ test for name in ("frames_shuffled", "texts_permuted")}
        forged.pack(forged.answers, test=test, **others)
    assert "twins" in found(forged.root)[1]


def test_invented_answers_of_one_seed_are_found(true, monkeypatch):
    """As many are right as before; that which ones hangs together over seeds is what nobody invents."""
    subjects = [subject.Subject(run) for run in records.load(true.root / "records")][:3]
    draw = np.random.default_rng(0)
    easy, coin = draw.random(4000) < 0.5, draw.random(4000)
    own = [easy ^ (draw.random(4000) < 0.3) for _ in range(2)] + [coin < 0.5]
    monkeypatch.setattr(together, "SURE", 4000)
    monkeypatch.setattr(together, "kind", lambda it: "one")
    for it, right in zip(subjects, own, strict=True):
        it.bits = {("test", "a list"): (4000, np.packbits(right))}
    (found_one,) = together.strangers(subjects)
    assert found_one[0] is subjects[2] and "nothing in common" in found_one[1]


def test_parameters_that_every_seed_overstates_are_counted_anew(true, tmp_path):
    forged = Forged(true, tmp_path / "records")
    for number in range(4):
        own = json.loads(forged.file(number).read_text())
        own["result"]["cost"]["trainable"] += 1000
        forged.file(number).write_text(json.dumps(own))
    verdict, checks = found(forged.root)
    assert checks == {"size"} and "and its method has" in verdict.findings[0].said


def test_what_cannot_be_read_does_not_hide_the_rest(true, tmp_path):
    home = shutil.copytree(true.root / "runs", tmp_path / "runs")
    (home / true.names[0] / "result.json").write_text("")
    verdict, checks = found(home)
    assert verdict.subjects == 4 and [each.of for each in verdict.findings] == [true.names[0]] and checks == {"read"}
    forged = Forged(true, tmp_path / "records")
    (forged.root / "runs" / ".part-abc.json").write_text("")  # of a writer that was killed
    del forged.own["result"]["cost"]["gmacs"]
    forged.save()
    assert found(forged.root)[0].subjects == 5
    forged.file(1).write_text("{")
    forged.file(2).write_text(json.dumps(json.loads(forged.file(2).read_text()) | {"result": []}))
    verdict, _ = found(forged.root)
    assert verdict.subjects == 5 and {forged.names[1], forged.names[2]} <= {
        each.of for each in verdict.findings if each.check == "read"
    }


def test_a_finding_is_a_sentence_and_the_exit_code(true, tmp_path, capsys):
    forged = Forged(true, tmp_path / "records")
    a_changed_accuracy(forged)
    forged.save()
    assert cli.main(["verify", str(forged.root)]) == 1
    then, now = forged.test["accuracy"] - 0.01, forged.test["accuracy"]
    assert f"{true.names[0]}: accuracy of test is {now}, and its outcomes give {then}" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path)]) == 1 and "is no finished run, record" in capsys.readouterr().err


def test_weights_of_another_run_are_found(true, tmp_path):
    home = shutil.copytree(true.runs[0].folder, tmp_path / true.names[0])
    verdict, checks = found(home, 60)
    assert not checks and verdict.replayed == [true.names[0]]
    shutil.copy(true.runs[1].path("checkpoint.safetensors"), home)
    assert "weights" in found(home)[1]
    method = few_shot.trained_method(true.runs[0])[1]
    for value in method.parameters():
        value.data.mul_(-1.5).add_(0.1 * value.detach().std(unbiased=False))
    meta = checkpoints.read(true.runs[0].path("checkpoint.safetensors"))[1]
    checkpoints.save_trainable(method, home / "checkpoint.safetensors", meta)
    verdict, checks = found(home, 60)
    assert checks == {"replay"}, verdict.findings


def test_a_run_unlike_its_kind_is_flagged(true, monkeypatch, capsys):
    place = str(true.root / "records")
    own = together.measures
    strange = lambda it: own(it) | ({"training loss": (50.0, 0.1)} if it.run.id == true.names[1] else {})  # noqa: E731
    monkeypatch.setattr(together, "measures", strange)
    monkeypatch.setenv("VIDLIB_RECORDS", place)
    assert cli.main(["verify", place]) == 0
    assert f"flagged: {true.names[1]}: its training loss 50 is outside the band" in capsys.readouterr().out
    assert cli.main(["verify", place, "--strict"]) == 1
    verdict, _ = found(true.runs[1].folder)  # a person's own run is held against the shipped ones by itself
    assert [each.of for each in verdict.flagged] == [true.names[1]]
    assert [said.split(":")[0] for said in verify.unlike(true.runs[:2])] == [true.names[1]]
    assert verify.unlike(true.runs[-1:]) == [], "what is not trained has no band"


def test_a_world_is_listed_without_a_clip():
    for world in worlds.WORLDS:
        assert {*subject.listed(world).rows} == {*worlds._listing(world)}


def swapped(about, kept):
    about["runs"][0]["method"] = about["runs"][5]["method"]


def a_seed_twice(about, kept):
    about["runs"][1]["seed"] = 0


def a_seed_left_out(about, kept):
    del about["runs"][1]
    kept |= {name: np.delete(kept[name], 1, 0) for name in ("val", "test", "chosen")}


def answers_of_another_seed(about, kept):
    for name in ("val", "test", "chosen"):
        kept[name][1] = kept[name][0]


def another_rate(about, kept):
    about["params"]["trx"]["lr"] = 9.0


def another_price_list(about, kept):
    about["checksum"] = "0" * 64


def other_checkpoints(about, kept):
    about["steps"][0] += 1


def more_right_than_asked(about, kept):
    kept["val"][0, 0] = 30_000


def fewer_than_none(about, kept):
    kept["test"][0, 0] = -1


PRICE = (swapped, a_seed_twice, a_seed_left_out, answers_of_another_seed, another_rate, another_price_list)


@pytest.mark.parametrize("forgery", [*PRICE, other_checkpoints, more_right_than_asked, fewer_than_none])
def test_a_forged_price_of_choosing_on_test_is_found(forgery, tmp_path):
    kept = dict(records.npz(paths.records_dir() / "price_of_test.npz"))
    about = json.loads(str(kept["about"]))
    forgery(about, kept)
    kept["about"] = np.array(json.dumps(about))
    np.savez_compressed(tmp_path / "price_of_test.npz", **kept)
    (tmp_path / "price_of_test.json").write_text(json.dumps(about))
    assert list(together.figures(tmp_path))


@pytest.mark.parametrize("name", ["price_of_test", "intervals"])
def test_a_study_in_the_records_is_checked(name, tmp_path):
    """The shipped ones hold; one whose arrays were changed does not."""
    for file in paths.records_dir().glob(f"{name}.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert list(together.figures(tmp_path)) == []
    with np.load(tmp_path / f"{name}.npz") as kept:
        changed = {key: np.array(value) for key, value in kept.items()}
    changed["chosen" if name == "price_of_test" else "0.estimate"].reshape(-1)[:1] ^= 128
    np.savez_compressed(tmp_path / f"{name}.npz", **changed)
    assert [of for of, _ in together.figures(tmp_path)] == [f"{name}.json"]
    for damaged in (b"", (tmp_path / f"{name}.npz").read_bytes()[:-30]):
        (tmp_path / f"{name}.npz").write_bytes(damaged)
        assert "cannot be read" in str(list(together.figures(tmp_path)))
    (tmp_path / f"{name}.npz").unlink()
    assert list(together.figures(tmp_path)), "it has lost its partner"
