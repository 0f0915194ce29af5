"""The tables of actionclip.ipynb and m2clip.ipynb, on runs of small real videos."""

import pytest

from tests.data.small import write_folder
from vidlib import methods
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
    had = ablations.run(asked.model_copy(update={"ablations": False}), "actionclip")
    assert set(had) == set(nothing.index)
    assert all(run.readings().keys() == {"val"} for run in had.values()), "test is for the final table"
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


def test_what_is_claimed_of_small_runs_is_only_what_they_can_show(done):
    p, found = done
    said = list(claims_video_text.actionclip(p, found))
    assert sum(line.startswith("holds") for line in said) == 3 and sum("not claimed here" in line for line in said) == 2
    swapped = dict(found) | {"unimodal": found["actionclip"], "actionclip": found["prompted"]}
    assert list(claims_video_text.actionclip(p, swapped)), "still the same videos"


def test_published_figures_carry_a_count_of_parameters():
    rows = study.published_bubbles()
    assert rows["trainable_M"].notna().all() and rows["accuracy"].between(50, 100).all()
    assert rows["name"].str.contains("ActionCLIP").any() and not rows["name"].duplicated().any()
    assert M2CLIPParams().run_params().method == "m2clip"


@pytest.mark.parametrize("model", [ActionCLIPParams, M2CLIPParams])
def test_every_ablation_changes_what_the_notebook_has_chosen(model):
    """A notebook's own parameters are options of the run; an ablation is a change of them."""
    p = model()
    base = ablations.base(p, p.METHOD)
    full = methods.arguments(base)
    for ablation in ablations.ABLATIONS[p.METHOD]:
        changed = methods.arguments(ablation.of(base))
        assert changed != full or ablation.change == p.options().get("visual_prompt"), ablation.label
