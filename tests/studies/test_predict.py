"""Guesses for real small videos, a broken one among them, are the method's own; what cannot work is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.data import video
from vidlib.data.sampling import segment_indices
from vidlib.data.transforms import ClipTransform
from vidlib.params.few_shot import RunParams
from vidlib.params.tools import PredictParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results.calibration import fit_temperature
from vidlib.studies.predict import files as given
from vidlib.studies.predict import guess, held_out, show
from vidlib.training import few_shot, video_text

CPU = {"device": "cpu", "frames": 2}
TEXTS = "a dark picture,a light picture,something else"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos of other lengths and sizes, one of a single frame, in a folder with a broken one and what is none."""
    root = tmp_path_factory.mktemp("asked")
    for i, (frames, size) in enumerate([(1, 32), (2, 34), (5, 48), (12, 64), (7, 32)]):
        write_clip(root / "deep" / f"{i}.mp4" if i == 4 else root / f"{i}.mp4", frames, 40 * i, size)
    (root / "broken.avi").write_bytes(b"no video")
    (root / "notes.txt").write_text("no video either")
    (root / ".hidden.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def support(tmp_path_factory):
    """Three classes of unequal numbers of examples, one of which cannot be read."""
    root = write_folder(tmp_path_factory.mktemp("examples"), classes=3, clips=2)
    write_clip(root / "class1" / "more.mp4", 6, 90)
    (root / "class0" / "broken.mp4").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Finished runs of an adapted few-shot method and of M2-CLIP, on a folder of small videos."""
    folder = write_folder(tmp_path_factory.mktemp("world"), classes=8, clips=4)
    shared = {"dataset": f"folder:{folder}", "pretrained": "", "frames": 2, "device": "cpu"}
    shared |= {"runs": str(tmp_path_factory.mktemp("runs"))}
    few = {"method": "aim", "way": 2, "train_episodes": 2, "val_episodes": 0, "test_episodes": 2, "lr": 0.1}
    text = {"method": "m2clip", "options": {"width": 8, "text_width": 8}, "epochs": 1, "batch": 4, "select": False}
    return {
        "aim": few_shot.run(RunParams.parse(shared | few)),
        "m2clip": video_text.run(VideoTextRunParams.parse(shared | text)),
    }


def asked(videos, **values) -> PredictParams:
    return guess.checked(PredictParams.parse({"videos": [str(videos)], **CPU, **values}))


def clips(files, tower) -> torch.Tensor:
    """Files [N T C H W] as a test reads them, without ``guess``."""
    look = ClipTransform(tower.image_size, tower.mean, tower.std, train=False)
    return torch.stack([look((whole := video.read_all(f))[segment_indices(len(whole), 2)]) for f in files])


def test_zero_shot_is_the_methods_own_scores(videos):
    p = asked(videos, classes=TEXTS)
    opened = guess.open_method(p)
    found = guess.predict(p, opened)
    assert [path.name for path in found.read] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    with torch.no_grad():
        by_hand = opened.method.scores(clips(found.read, opened.method.backbone), TEXTS.split(","))
    assert np.allclose(found.scores, by_hand.numpy(), atol=1e-5) and np.ptp(found.scores, axis=1).min() > 1e-3
    assert opened.method.visual_prompt == "meanp" and not opened.method.trainable().keys() - {
        "backbone.clip.logit_scale"
    }
    cosines = opened.method.backbone.encode_image(clips(found.read[:1], opened.method.backbone)[0]).mean(0)
    text = torch.nn.functional.normalize(opened.method.class_text(TEXTS.split(",")), dim=-1)
    logits = opened.method.backbone.logit_scale * text @ torch.nn.functional.normalize(cosines, dim=0)
    assert np.allclose(logits.softmax(-1).mean(0).detach().numpy(), found.scores[0], atol=1e-4), "a plain frozen CLIP"


@pytest.mark.parametrize("method", ["", "ma_fsar", "trx"])
def test_few_shot_is_the_methods_own_match(videos, support, method):
    p = asked(videos, support=str(support), method=method, frames=3 if method == "trx" else 2)
    if method == "trx":
        p = p.model_copy(update={"backbone": "resnet-mini", "pretrained": "resnet-mini"})
    opened = guess.open_method(p)
    found = guess.predict(p, opened)
    m, examples = opened.method, [f for same in given.examples(support).values() for f in same]
    readable = [f for f in examples if f.name != "broken.mp4"]
    labels = torch.tensor([int(f.parent.name[-1]) for f in readable])
    text = m.backbone.encode_text([f"class{k}" for k in range(3)], ("a photo of {}",))
    with torch.no_grad():
        own = text[labels] if m.support_text else None
        sup = m.embed(torch.stack([opened.read(f) for f in readable]), own, "support")
        logits = []
        for file in found.read:  # alone: the guess of a video depends on no other
            query = m.embed(opened.read(file)[None], None, "query")
            stacked = ({n: v[None] for n, v in features.items()} for features in (sup, query))
            one, other = stacked
            logits.append(m.match(one, labels[None], other, text[None]).logits[0, 0])
    assert np.allclose(found.scores, torch.stack(logits).softmax(-1).numpy(), atol=1e-4)
    assert found.classes == ("class0", "class1", "class2") and found.examples == len(readable) == 7
    assert [path.name for path in found.lost] == ["broken.mp4"]


def test_every_video_is_embedded_once_and_a_broken_one_is_never_guessed_at(videos, support, monkeypatch):
    p = asked(videos, support=str(support))
    opened = guess.open_method(p)
    seen, embed = [], opened.method.embed
    monkeypatch.setattr(opened.method, "embed", lambda c, text, role: seen.append(len(c)) or embed(c, text, role))
    found = guess.predict(p, opened)
    assert sum(seen) == 7 + 5
    assert found.guesses().keys() == {"0.mp4", "1.mp4", "2.mp4", "3.mp4", "deep/4.mp4"}
    table = found.table(2)
    assert list(table.columns) == show.COLUMNS and (table["video"].value_counts().drop("broken.avi") == 2).all()
    broken = table[table["video"] == "broken.avi"].iloc[0]
    assert broken["class"] == "" and pd.isna(broken["score"]) and "FFmpeg" in broken["unreadable"]
    assert np.allclose(found.scores.sum(1), 1, atol=1e-5)
    said = "\n".join(show.lines(found, 2))
    assert "softmax over the method's logits" in said and "clips per second" in said
    assert "7 examples, each told by the others" in said and "not calibrated" not in said
    assert said.index("deep/4.mp4") < said.index("broken.avi: ") and "class0/broken.mp4: " in said


@pytest.mark.parametrize("method", ["", "ma_fsar"])
def test_confidence_and_none_of_these_come_of_the_examples_each_held_out(videos, support, method):
    p = asked(videos, support=str(support), method=method)
    opened = guess.open_method(p)
    found, told, m = guess.predict(p, opened), [], opened.method
    examples = [f for same in given.examples(support).values() for f in same if f.name != "broken.mp4"]
    labels = [int(f.parent.name[-1]) for f in examples]
    text = m.backbone.encode_text([f"class{k}" for k in range(3)], ("a photo of {}",))
    with torch.no_grad():
        for i, file in enumerate(examples):  # by the method's own match, one at a time
            rest = [j for j in range(len(examples)) if j != i]
            of_rest = torch.tensor([labels[j] for j in rest])
            own = text[of_rest] if m.support_text else None
            sup = m.embed(torch.stack([opened.read(examples[j]) for j in rest]), own, "support")
            query = m.embed(opened.read(file)[None], None, "query")
            one, other = ({n: v[None] for n, v in features.items()} for features in (sup, query))
            told.append(m.match(one, of_rest[None], other, text[None]).logits[0, 0].numpy())
    told, held = np.stack(told), found.held
    assert (held.number, held.right) == (7, sum(told.argmax(1) == labels))
    assert held.temperature == pytest.approx(fit_temperature(told, np.array(labels), 2 / 10), rel=1e-2)
    assert held.threshold == pytest.approx(min(told.max(1)), rel=1e-3), "of seven, 95% are all"
    table = found.table(3)
    rows = table[table["video"] == "2.mp4"]
    logits = found.logits[[path.name for path in found.read].index("2.mp4")]
    calibrated = torch.tensor(logits / held.temperature).softmax(-1).numpy()
    assert np.allclose(rows["confidence"], np.sort(calibrated)[::-1], atol=1e-5)
    assert set(rows["none_of_these"]) == {"yes" if logits.max() < held.threshold else "no"}
    assert table["confidence"].isna().sum() == 1, "of the broken one"


def test_no_number_of_right_answers_makes_a_guess_certain():
    for number in (4, 40):
        labels = np.arange(number) % 2
        held = held_out.measured(10.0 * np.eye(2)[labels], labels)
        assert held.right == number
        assert held.confidence(np.array([[10.0, 0.0]]))[0, 0] == pytest.approx((number + 1) / (number + 2), abs=1e-4)
    assert held.none_of_these(np.array([[9.9, 0.0], [10.0, 0.0]])).tolist() == [True, False]


def test_one_example_of_a_class_gives_no_confidence(videos, tmp_path):
    for k in range(2):
        (tmp_path / f"k{k}").mkdir()
        write_clip(tmp_path / f"k{k}" / "a.mp4", 5, 60 * k)
    write_clip(tmp_path / "k0" / "b.mp4", 5, 20)
    p = asked(videos, support=str(tmp_path))
    found = guess.predict(p, guess.open_method(p))
    said = "\n".join(show.lines(found, 1))
    assert "no confidence can be calibrated: class 'k1' has one example; give two or more of each class" in said
    assert "not calibrated: 0.9" in said and found.table(1)["confidence"].isna().all()
    assert set(found.table(1)["none_of_these"]) == {""}


def test_a_video_that_is_an_example_too_is_told(support):
    p = asked(support / "class0", support=str(support))
    found = guess.predict(p, guess.open_method(p))
    assert found.known == 2 and "2 of the videos are example videos too" in "\n".join(found.summary())


@pytest.mark.parametrize("way", ["aim", "m2clip"])
def test_a_trained_run_guesses_with_its_own_weights(videos, support, trained, way):
    run = trained[way]
    told = {"support": str(support)} if way == "aim" else {"classes": TEXTS}
    p = asked(videos, run=str(run.folder), frames=0, **told)
    opened = guess.open_method(p)
    assert opened.frames == 2 and run.id in opened.words and not opened.method.training
    if way == "aim":
        manifest = few_shot.open_manifest(RunParams.parse(run.params))
        same, split = few_shot.open_trained(run, manifest, "train")
        assert vars(opened.transform) == vars(split.clips.transform_test) and opened.pick is split.clips.pick
    else:
        same = video_text.open_trained(run)[1].method
    own = opened.method.state_dict()
    assert all(torch.equal(own[name], value) for name, value in same.state_dict().items())
    assert np.allclose(guess.predict(p, opened).scores.sum(1), 1, atol=1e-5)


def test_the_csv_is_whole_and_never_overwritten_silently(videos, tmp_path):
    file = tmp_path / "new folder" / "guesses.csv"
    p = asked(videos, classes=TEXTS, csv=str(file))
    found = guess.predict(p, guess.open_method(p))
    show.write_csv(found.table(3), file)
    read = pd.read_csv(file, keep_default_na=False)
    assert len(read) == 5 * 3 + 1 and list(read.columns) == show.COLUMNS and set(read["way"]) == {"zero-shot"}
    best = read[read["rank"].astype(str) == "1"]
    assert dict(zip(best["video"], best["class"], strict=True)) == found.guesses()
    assert list(read.iloc[-1][["video", "rank", "class", "score"]]) == ["broken.avi", "", "", ""]
    sums = read[read["class"] != ""].astype({"score": float}).groupby("video")["score"].sum()
    assert np.allclose(sums, 1, atol=1e-5)
    before = file.read_bytes()
    for refused in (
        lambda: show.write_csv(found.table(1), file),
        lambda: asked(videos, classes=TEXTS, csv=str(file)),
    ):
        with pytest.raises(UserError, match="exists; give another name, or --overwrite"):
            refused()
    assert file.read_bytes() == before
    show.write_csv(found.table(1), file, overwrite=True)
    assert len(pd.read_csv(file)) == 6 and [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("backbone", ["clip-mini", "resnet-mini"])
def test_figures_have_attention_where_the_tower_is_a_vit(videos, support, tmp_path, backbone):
    files = [str(videos / "2.mp4"), str(write_clip(tmp_path / "in$1 & $2, ü.mp4", 3))]
    p = PredictParams.parse(CPU | {"videos": files, "support": str(support)})
    p = p.model_copy(update={"backbone": backbone, "pretrained": backbone})
    opened = guess.open_method(p)
    found = guess.predict(p, opened)
    show.save_figures(found, opened, tmp_path / "figures")
    drawn = sorted((tmp_path / "figures").iterdir())
    assert [f.name for f in drawn] == ["001_2.csv", "001_2.png", "002_in_1_2_ü.csv", "002_in_1_2_ü.png"]
    assert ("attention" in pd.read_csv(drawn[0])) == (backbone == "clip-mini")
    if backbone == "clip-mini":
        assert pd.read_csv(drawn[0])["attention"].between(0, 1, "neither").all()


def test_attention_of_video_text_methods_and_of_frames_in_one_sequence(videos):
    from vidlib.methods import ActionCLIP

    p = asked(videos, classes=TEXTS)
    opened = guess.open_method(p)
    clip = opened.read(videos / "3.mp4")
    assert show._attention(opened, clip).shape[0] == 2
    opened.method = ActionCLIP(opened.method.backbone, 2, visual_prompt="joint", tune="none").eval()
    assert show._attention(opened, clip) is None


def test_texts_come_from_commas_or_from_a_file(tmp_path):
    (tmp_path / "names").write_text("\ufeffdog, running\r\n\r\nopening a door\r\n", encoding="utf-8")
    assert given.class_texts(str(tmp_path / "names")) == ("dog, running", "opening a door")
    assert given.class_texts(" dog running , opening a door,") == ("dog running", "opening a door")
    assert given.class_texts(",".join(f"class number {i}" for i in range(200)))[-1] == "class number 199"


def test_the_demo_renders_only_the_clips_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_CACHE", str(tmp_path))
    demo = given.demo()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == len(given.CHOSEN) * (given.SHOTS + given.ASKED) + 1 and given.demo() == demo
    assert [file.name for file in files if file.stat().st_size < 100] == [given.BROKEN]


def test_what_a_shipped_tower_knows_is_said_beside_its_guesses():
    words = guess.open_zero_shot(PredictParams()).words
    assert "drawn shapes alone" in words and "ViT-B-32-quickgelu" in words
    assert "drawn" not in guess.open_zero_shot(PredictParams(pretrained="")).words


def test_the_demo_world_has_both_ways_and_names_that_tell_nothing(worlds):
    found = guess.ways(PredictParams())
    assert list(found) == ["zero-shot", "few-shot"] and found["few-shot"].few_shot
    demo = given.demo()
    assert set(demo.truth.values()) == set(given.examples(demo.support)) == set(given.class_texts(demo.classes))
    assert len(given.list_files([demo.videos])) == len(demo.truth) + 1
    assert [*guess.ways(PredictParams(backbone="resnet-mini", pretrained="resnet-mini"))] == ["few-shot"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "classes or support: give the classes' texts, as in classes \"a dog"),
        ({"classes": TEXTS, "support": "x"}, "classes and support: give one of them"),
        ({"classes": "a dog running"}, "classes: 1 class leaves nothing to tell; give two or more"),
        ({"classes": "a dog,a cat,a dog"}, "'a dog' is given twice"),
        ({"classes": "nowhere.txt"}, "nowhere.txt is not a file"),
        ({"classes": TEXTS, "method": "otam"}, "give a method with support only"),
        ({"classes": TEXTS, "frames": 1}, "frames: 1 is not at least 2"),
        ({"classes": TEXTS, "backbone": "resnet-mini", "pretrained": "resnet-mini"}, "adapts a CLIP"),
        ({"classes": TEXTS, "pretrained": "opnai"}, "pretrained 'opnai' is neither a tag"),
        ({"classes": TEXTS, "videos": ["nowhere"]}, "videos: .*nowhere does not exist; give a folder or files"),
        ({"classes": TEXTS, "videos": ["EMPTY"]}, "holds no video files"),
        ({"classes": TEXTS, "videos": []}, "videos: give a folder or files"),
        ({"support": "nowhere"}, "support: .*nowhere does not exist; give a folder with one directory"),
        ({"support": "EMPTY"}, "support: no classes leave nothing to tell"),
        ({"support": "ONE"}, "class 'nothing' in .* holds no video files"),
        ({"support": "SUPPORT", "method": "otm"}, "did you mean 'otam'"),
        (
            {"support": "SUPPORT", "method": "ma_fsar", "backbone": "resnet-mini", "pretrained": "resnet-mini"},
            "adapts a",
        ),
        ({"support": "SUPPORT", "run": "nowhere"}, "run: .*nowhere is no folder; give a run's folder"),
        ({"support": "SUPPORT", "run": "EMPTY"}, "is not a finished run"),
        ({"support": "SUPPORT", "run": "DAMAGED"}, r"damaged/result.json cannot be read \(it holds a list"),
        (
            {"support": "SUPPORT", "run": "m2clip"},
            "is of m2clip, which wants class texts: give classes, or a run of a few-sh",
        ),
        ({"classes": TEXTS, "run": "aim"}, "is of aim, which wants example videos of each class: give support"),
        ({"support": "SUPPORT", "run": "aim", "frames": 8}, "frames: the run has 2 a video, not 8; leave frames out"),
        ({"support": "SUPPORT", "run": "aim", "method": "otam"}, "method: the run is of aim, not otam"),
        (
            {"support": "SUPPORT", "run": "aim", "backbone": "ViT-B-32", "pretrained": ""},
            "backbone: the run has 'clip-mini'",
        ),
        ({"classes": TEXTS, "csv": "EMPTY"}, "is a folder; give the name of a file"),
        ({"classes": TEXTS, "clases": "x"}, "unknown parameter 'clases' .did you mean 'classes'"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_work_is_one_sentence(values, words, videos, support, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "one", classes=1, clips=1)
    (tmp_path / "one" / "nothing").mkdir()
    (tmp_path / "damaged").mkdir()
    for name in ("params.json", "result.json"):
        (tmp_path / "damaged" / name).write_text("[]")
    places = {
        "DAMAGED": "damaged",
        "EMPTY": "empty",
        "ONE": "one",
        "SUPPORT": str(support),
        **{n: str(r.folder) for n, r in trained.items()},
    }
    told = {"videos": [str(videos)], "device": "cpu", **values}
    for name in ("support", "run", "csv"):
        told[name] = places.get(told.get(name, ""), told.get(name, ""))
    told["videos"] = [places.get(path, path) for path in told["videos"]]
    with pytest.raises(UserError, match=words) as refused:
        p = guess.checked(PredictParams.parse(told))
        guess.open_method(p)
    assert "\n" not in str(refused.value)


def test_nothing_readable_is_refused_with_the_first_cause(support, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    p = asked(tmp_path, classes=TEXTS)
    with pytest.raises(UserError, match=r"none of the 2 videos can be read \(first failure: .*a.mp4: is empty"):
        guess.predict(p, guess.open_method(p))
    write_clip(tmp_path / "c.mp4", 3)
    for i in range(2):
        (tmp_path / f"k{i}").mkdir()
        write_clip(tmp_path / f"k{i}" / "a.mp4", 3)
    (tmp_path / "k1" / "a.mp4").write_bytes(b"no video")
    p = asked(tmp_path / "c.mp4", support=str(tmp_path))
    with pytest.raises(UserError, match="no example video of class 'k1' can be read"):
        guess.predict(p, guess.open_method(p))


def test_a_classifier_of_fixed_classes_is_refused(videos, trained, tmp_path):
    old = trained["m2clip"].params
    again = video_text.run(
        VideoTextRunParams.parse(old | {"options": old["options"] | {"score": "visual"}, "epochs": 0})
    )
    p = asked(videos, classes=TEXTS, run=str(again.folder), frames=0)
    with pytest.raises(UserError, match="a classifier of its training classes, which cannot meet yours"):
        guess.open_method(p)
