"""The tables of actionclip.ipynb and m2clip.ipynb, on runs of small real videos."""

from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from tests.data.small import write_folder
from tests.prepared import ROOT
from vidlib import methods
from vidlib.params.names import WORLDS  # which the notebooks import too
from vidlib.params.video_text import ActionCLIPParams, M2CLIPParams
from vidlib.results.accuracy import paired
from vidlib.studies import ablations, claims_video_text, looking, tables
from vidlib.studies import video_text as study
from vidlib.training import video_text

SMALL = {"pretrained": "", "frames": 2, "batch": 4, "epochs": 1, "device": "cpu", "val_every": 1}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("videos"), classes=8, clips=4)
    runs = tmp_path_factory.mktemp("runs")
    given = {**SMALL, "dataset": f"folder:{folder}", "runs": str(runs), "visual_prompt": "transf"}
    p = ActionCLIPParams.parse(given)
    return p, study.run_steps(p)


def test_the_steps_are_clip_prompted_tuned_and_the_classifier(done):
    p, found = done
    assert list(found) == ["pretrained", "prompted", "actionclip", "unimodal"]
    kinds = {name: same[0].params for name, same in found.items()}
    assert kinds["pretrained"]["options"]["templates"] == "label_words" and kinds["pretrained"]["epochs"] == 0
    assert found["pretrained"][0].result["cost"]["trainable"] == 0
    assert kinds["prompted"]["options"] == kinds["actionclip"]["options"] == p.options()
    assert found["prompted"][0].result["fit"] is None and found["actionclip"][0].result["fit"]["steps"] > 0
    assert kinds["unimodal"]["ablation"] == "unimodal"
    assert "unimodal" not in study.steps(p.model_copy(update={"protocol": "zero_shot"}))


def test_tables_hold_what_the_runs_found(done):
    p, found = done
    table = study.result_table(found)
    own = found["actionclip"][0].result
    row = table.loc[("ActionCLIP", "new classes")]
    assert (
        row["top-1"] == tables.mean_interval([own], "novel") and row["chance"] == f"{100 * own['novel']['chance']:.1f}%"
    )
    assert ("1-of-N classifier", "new classes") not in table.index, "a classifier of fixed classes meets no new ones"
    gaps = study.differences(found, "actionclip")
    tested = [study.tested(found[name][0], "novel") for name in ("actionclip", "pretrained")]
    line = gaps[(gaps["ActionCLIP minus"] == "frozen CLIP, label words") & (gaps["tested on"] == "novel")].iloc[0]
    assert line["points"] == pytest.approx(100 * paired(*tested).difference, abs=0.05)
    means = study.harmonic_means(found)
    assert means["ActionCLIP"] == pytest.approx(100 * own["harmonic"]) and "1-of-N classifier" not in means
    bubbles = study.bubble_rows(found)
    assert set(bubbles["name"]) == {"frozen CLIP, label words", "ActionCLIP", "1-of-N classifier"}


def test_clips_are_drawn_in_one_call(done, monkeypatch):
    p, _ = done
    shown = []
    monkeypatch.setattr(study, "show", shown.append)
    manifest = video_text.open_plan(p).manifest
    opened, clips = study.draw_clips(p, manifest)
    assert len(shown) == 3 and clips.manifest is manifest and clips.split == "val"
    assert opened.method.trainable() and clips.test(0).shape[0] == p.frames


def test_ablations_are_judged_on_val_and_absent_ones_are_named(done, monkeypatch):
    p, found = done
    few = [a for a in ablations.ABLATIONS["actionclip"] if a.change in ("meanp", "unimodal")]
    monkeypatch.setitem(ablations.ABLATIONS, "actionclip", few)
    nothing = ablations.table(ablations.run(p, "actionclip"), "actionclip")
    assert nothing["accuracy"].isna().all() and list(nothing.index) == ["full method", few[0].label, few[1].label]
    asked = p.model_copy(update={"ablations": True, "ablation_epochs": 1})
    table = ablations.table(ablations.run(asked, "actionclip"), "actionclip")
    assert table.loc["full method", "difference"] == 0 and table["accuracy"].notna().all()
    assert list(table["of"]) == ["", "objective", "visual prompt"]
    new, whole = table["new classes"], ablations.run(asked, "actionclip")["full method"][0]
    assert new["full method"] == pytest.approx(100 * tables.tested(whole, "val_novel").accuracy)
    assert new.isna().tolist() == [False, True, False], "a classifier of fixed classes meets no new ones"
    said = table["new classes, beyond its interval"]
    assert said["MeanP"].endswith("beyond its interval over videos") and said["1-of-N classifier (unimodal)"] == ""
    had = ablations.run(asked.model_copy(update={"ablations": False}), "actionclip")
    assert set(had) == set(nothing.index)
    assert all(run.readings().keys() == {"val"} for same in had.values() for run in same), "test is for the final table"
    points = ablations.tradeoff_rows(p.model_copy(update={"ablation_epochs": 1}), found)
    steps = points[points["group"] == "steps, on test"]["name"].tolist()
    assert steps == ["frozen CLIP, label words", "prompted, untrained", "ActionCLIP"]
    assert {"full method", "MeanP"} <= set(points["name"]) and "1-of-N classifier (unimodal)" not in set(points["name"])


def test_looking_gives_maps_and_weights_of_frames(done):
    p, found = done
    frames, maps, times, cls = looking.attention_maps({name: found[name][0] for name in ("pretrained", "actionclip")})
    assert frames.shape[0] == p.frames and set(maps) == {"frozen CLIP, label words", "ActionCLIP"}
    assert all(value.shape == (p.frames, 8, 8) for value in maps.values()) and cls.startswith("class")
    assert set(times) == {"ActionCLIP"} and float(times["ActionCLIP"].sum()) == pytest.approx(1, abs=1e-5)
    cosines, names = looking.text_similarities(found["actionclip"][0], "novel")
    assert cosines.shape == (len(names),) * 2 and abs(cosines).max() <= 1 + 1e-5


def _claims(name: str, **known) -> None:
    """Run the last code cell of a notebook."""
    cells = [
        c for c in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells if c.cell_type == "code"
    ]
    exec(cells[-1].source, {"claims_video_text": claims_video_text, "display": print, "WORLDS": WORLDS, **known})


def test_what_is_claimed_of_small_runs_is_only_what_they_can_show(done, capsys):
    p, found = done
    _claims("actionclip", p=p, found=found, best=found["actionclip"][0])
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("holds") for line in said) == 3 and sum("not claimed here" in line for line in said) == 2


@pytest.mark.parametrize(
    ("protocol", "false"),
    [("zero_shot", "on classes that training never saw"), ("closed_set", "trained it is above itself untrained")],
)
def test_what_does_not_hold_is_said_where_it_is_asked(done, protocol, false, capsys):
    """Two steps on noise teach nothing; said to be three seeds of the embedded world, it must not pass for a gain."""
    p, found = done
    world = {"dataset": "words", "pretrained": "clip-mini", "seeds": 3, "epochs": 3, "protocol": protocol}
    _claims("actionclip", p=p.model_copy(update=world), found=found, best=found["actionclip"][0])
    assert f"does not hold here: {false}" in capsys.readouterr().out


@pytest.mark.parametrize("accuracy, held", [(0.9, 5), (0.55, None)])
def test_claims_hold_where_the_intervals_are_apart(done, monkeypatch, capsys, accuracy, held):
    p, found = done
    world = {"dataset": "words", "pretrained": "clip-mini", "seeds": 3, "epochs": 3}
    worth = {"accuracy": accuracy, "interval": 0.1, "chance": 0.5, "above permuted": 0.2, "its interval": 0.1}
    monkeypatch.setattr(claims_video_text, "text_worth", lambda same: pd.DataFrame([worth]))
    gained = {"trained": 0.9, "interval": 0.1, "untrained": 0.5, "its interval": 0.1}
    monkeypatch.setattr(claims_video_text, "gained", lambda after, before: pd.DataFrame([gained]))
    known = {"p": p.model_copy(update=world), "found": found, "best": found["actionclip"][0]}
    if held:
        _claims("actionclip", **known)
        said = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("holds") for line in said) == held and "as it came out" in said[-1]
    else:
        _claims("actionclip", **known)
        assert "does not hold here: on classes that training never saw" in capsys.readouterr().out


def test_runs_on_other_videos_and_features_that_see_other_videos_fail_the_claims(done, monkeypatch):
    p, found = done
    best = found["actionclip"][0]
    other = SimpleNamespace(result=best.result | {"test": best.result["test"] | {"checksum": "other"}})
    with pytest.raises(AssertionError, match="met different videos"):
        _claims("actionclip", p=p, found={**found, "actionclip": [other]}, best=best)
    alone = type(video_text.open_trained(best)[1].method).embed
    monkeypatch.setattr(
        "vidlib.methods.actionclip.ActionCLIP.embed",
        lambda self, clips: {"video": (x := alone(self, clips)["video"]) - 0.5 * x.mean(0)},
    )
    with pytest.raises(AssertionError, match="other videos move a video's features"):
        _claims("actionclip", p=p, found=found, best=best)


def test_what_the_claims_measure_is_what_the_runs_recorded(done):
    _, found = done
    after, before = found["actionclip"], found["prompted"]
    worth, gained = claims_video_text.text_worth(after).iloc[0], claims_video_text.gained(after, before).iloc[0]
    new, known = after[0].result["novel"], after[0].result["test"]
    permuted = after[0].result["novel_texts_permuted"]["accuracy"]
    assert worth["accuracy"] == pytest.approx(new["accuracy"]) and worth["chance"] == pytest.approx(new["chance"])
    assert worth["above permuted"] == pytest.approx(new["accuracy"] - permuted)
    assert gained["trained"] == pytest.approx(known["accuracy"]) and gained["interval"] == pytest.approx(
        known["interval"]
    )
    assert gained["untrained"] == pytest.approx(before[0].result["test"]["accuracy"])
    assert claims_video_text.gap(after[0], before[0]).difference == pytest.approx(
        gained["trained"] - gained["untrained"]
    )


def test_published_figures_carry_a_count_of_parameters():
    rows = study.published_bubbles()
    assert rows["trainable_M"].notna().all() and rows["accuracy"].between(50, 100).all()
    assert rows["name"].str.contains("ActionCLIP").any() and not rows["name"].duplicated().any()
    assert M2CLIPParams().run_params().method == "m2clip"


def test_the_count_beside_the_published_one_says_what_is_left():
    table = study.counts_beside_published()
    assert table["all, here"].round(1).to_dict() == {"ViT-B/32": 170.2, "ViT-B/16": 168.5}
    assert table["unexplained"].round(1).to_dict() == {"ViT-B/32": 0.8, "ViT-B/16": 1.5}
    parts = table[["word embeddings", "image tower", "text tower", "head"]]
    assert parts.sum(axis=1).to_list() == pytest.approx(table["all, here"].to_list())
    assert table["published"].str.endswith("[from a summary, unchecked]").all()


@pytest.mark.parametrize("model", [ActionCLIPParams, M2CLIPParams])
def test_every_ablation_changes_what_the_notebook_has_chosen(model):
    """A notebook's own parameters are options of the run; an ablation is a change of them."""
    p = model()
    base = ablations.base(p, p.METHOD)
    full = methods.arguments(base)
    for ablation in ablations.ABLATIONS[p.METHOD]:
        changed = methods.arguments(ablation.of(base))
        assert changed != full or ablation.change == p.options().get("visual_prompt"), ablation.label
