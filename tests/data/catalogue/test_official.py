"""The official annotation files of the four data sets, in the forms in which they are published."""

import json

import pytest

from vidlib.basics.errors import UserError
from vidlib.data.catalogue import official


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    return tmp_path


def lay(root, name, annotations, videos):
    for file, text in annotations.items():
        path = root / name / "annotations" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for file in videos:
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


UCF = {
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nTaiChi/v_TaiChi_g08_c01.avi 2\n",
    "testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nTaiChi/v_TaiChi_g01_c01.avi\r\n",
}


def test_ucf101_in_any_layout(data):
    there = ["v_ApplyEyeMakeup_g08_c01.avi", "deep/er/v_TaiChi_g08_c01.mp4", "TaiChi/v_TaiChi_g01_c01.avi"]
    lay(data, "ucf101", UCF, there)
    made = official.load("ucf101", 1)
    assert [(r.video, r.split) for r in made.rows] == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "train"),
        ("TaiChi/v_TaiChi_g08_c01", "train"),
        ("TaiChi/v_TaiChi_g01_c01", "test"),
    ]
    assert made.text("ApplyEyeMakeup") == "apply eye makeup" and not made.directional
    assert made.note == "UCF101: 3 of 4 listed videos are here." and made.listed["test"]["ApplyEyeMakeup"] == 1
    assert made.coverage().missing == ["test/ApplyEyeMakeup: 1 of 1 videos"]
    assert made.path(made.rows[1]).name == "v_TaiChi_g08_c01.mp4"
    with pytest.raises(UserError, match="no split 4; give 1 to 3"):
        official.load("ucf101", 4)
    with pytest.raises(UserError, match="annotation file .*trainlist02.txt is absent"):
        official.load("ucf101", 2)


def test_names_that_agree_by_letters_alone_are_found_as_data_add_finds_them(data):
    lists = {
        "trainlist01.txt": "HandstandPushups/v_HandStandPushups_g08_c01.avi 1\nTaiChi/v_TaiChi_g08_c01.avi 2\n",
        "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\n",
    }
    there = [f"HandStandPushups/v_HandstandPushups_{n}_c01.avi" for n in ("g08", "g01")]
    lay(data, "ucf101", lists, [*there, "a/v_taichi_g08_c01.avi", "b/v-TaiChi-g08-c01.avi"])
    made = official.load("ucf101", 1)
    assert [row.cls for row in made.rows] == ["HandstandPushups"] * 2, "of two that are alike none is taken"


def test_hmdb51_leaves_out_what_is_in_neither(data):
    lay(
        data,
        "hmdb51",
        {
            "brush_hair_test_split2.txt": "a b_brush_hair_0.avi 1 \nx_brush_hair_1.avi 2 \ny_brush_hair_2.avi 0 \n",
            "wave_test_split2.txt": "one_wave_0.avi 1\ntwo_wave_0.avi 2\n",
            "brush_hair_test_split1.txt": "a b_brush_hair_0.avi 2 \n",
        },
        [
            "brush_hair/a b_brush_hair_0.avi",
            "brush_hair/x_brush_hair_1.avi",
            "wave/one_wave_0.avi",
            "wave/two_wave_0.avi",
        ],
    )
    made = official.load("hmdb51", 2)
    assert {(r.video, r.split) for r in made.rows} == {
        ("brush_hair/a b_brush_hair_0", "train"),
        ("brush_hair/x_brush_hair_1", "test"),
        ("wave/one_wave_0", "train"),
        ("wave/two_wave_0", "test"),
    }
    assert made.text("brush_hair") == "brush hair"


def test_hmdb51_videos_of_the_same_name_belong_to_their_own_class(data):
    lists = {f"{c}_test_split1.txt": "clip_0.avi 1\nclip_1.avi 2\n" for c in ("run", "walk")}
    lay(data, "hmdb51", lists, [f"{c}/clip_{i}.avi" for c in ("run", "walk") for i in (0, 1)])
    made = official.load("hmdb51", 1)
    assert all(made.files[row.video].startswith(f"{row.cls}/") for row in made.rows) and len(made.rows) == 4


def test_kinetics_and_its_copies_with_times_in_the_names(data):
    header = "label,youtube_id,time_start,time_end,split\n"
    lay(
        data,
        "kinetics400",
        {
            "train.csv": header + '"air drumming",_axE99QAhe8,26,36,train\n',
            "validate.csv": header + "javelin throw,--07WQ2iBlw,1,11,validate\n",
            "labels.csv": "id,name\n0,abseiling\n",
        },
        ["train/_axE99QAhe8_000026_000036.mp4", "val/javelin throw/--07WQ2iBlw.mkv"],
    )
    made = official.load("kinetics400")
    assert [(r.video, r.cls, r.split) for r in made.rows] == [
        ("_axE99QAhe8", "air drumming", "train"),
        ("--07WQ2iBlw", "javelin throw", "test"),
    ]


def test_ssv2_classes_are_templates_without_brackets_and_directions_matter(data):
    entry = {
        "id": "74225",
        "label": "spinning cube",
        "template": "Spinning [something] that stops",
        "placeholders": ["cube"],
    }
    lay(
        data,
        "ssv2",
        {
            "something-something-v2-train.json": json.dumps([entry | {"id": "1"}]),
            "something-something-v2-validation.json": json.dumps([entry]),
            "something-something-v2-test.json": json.dumps([{"id": "9"}]),
            "something-something-v2-labels.json": json.dumps({"Spinning something that stops": "0"}),
        },
        ["20bn/1.webm", "20bn/74225.webm", "20bn/9.webm"],
    )
    made = official.load("ssv2")
    assert {(r.video, r.cls, r.split) for r in made.rows} == {
        ("1", "Spinning something that stops", "train"),
        ("74225", "Spinning something that stops", "test"),
    }
    assert made.directional


def test_what_is_absent_is_said_with_what_is_expected_where(data):
    with pytest.raises(UserError, match="ucf101/annotations is absent; put the official files of UCF101 there"):
        official.load("ucf101")
    with pytest.raises(UserError, match="did you mean 'hmdb51'"):
        official.load("hmdb15")
    lay(data, "ucf101", UCF, ["v_TaiChi_g08_c01.avi"])
    with pytest.raises(UserError, match="none of the 2 test videos of UCF101 lies under"):
        official.load("ucf101")
    lay(data, "hmdb51", {"wave_test_split1.txt": "clip.avi 7\n"}, [])
    with pytest.raises(UserError, match="does not end with 0, 1 or 2"):
        official.load("hmdb51")
