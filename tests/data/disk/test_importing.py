"""Official split files found in any nesting, checked, and copied to where the loader looks."""

import json
import os
from pathlib import Path

import pytest

from vidlib.basics.errors import UserError
from vidlib.data.catalogue import entries, official
from vidlib.data.disk import importing

SHARED = Path(os.environ.get("VIDLIB_SHARED") or Path(__file__).resolve().parents[4] / "shared") / "annotations"
pytestmark = pytest.mark.usefixtures("data")


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def ucf(*splits: int) -> dict[str, str]:
    files = {}
    for n in splits:
        files[f"ucfTrainTestlist/trainlist0{n}.txt"] = "Archery/v_Archery_g08_c01.avi 3\n"
        files[f"ucfTrainTestlist/testlist0{n}.txt"] = "Archery/v_Archery_g01_c01.avi\n"
    return files


HEAD = "label,youtube_id,time_start,time_end,split\n"
ENTRY = {"id": "1", "label": "opening a box", "template": "Opening [something]"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the annotations are not beside the checkout")
@pytest.mark.parametrize(("name", "files"), [("ucf101", 7), ("hmdb51", 153), ("ssv2", 2)])
def test_the_official_files_are_those_of_the_catalogue(name, files, data):
    made = importing.import_official(name, SHARED / name)
    assert made.folder == data / name / "annotations" and len(list(made.folder.iterdir())) == len(made.files) == files
    assert set(made.table["list"]) == {"published"} and made.table["videos"].eq(made.table["expected"]).all()
    assert set(made.table["classes"]) == {len(entries.entry(f"official:{name}").classes)}
    assert made.notes == (("no train list is there",) if name == "ssv2" else ())


def test_files_are_copied_with_their_counts_and_read_by_the_loader(tmp_path, data):
    source = lay(tmp_path / "from", ucf(1, 2, 3) | {"classInd.txt": "1 Archery\n", "other.txt": "x"})
    made = importing.import_official("ucf101", source)
    assert sorted(file.name for file in made.folder.iterdir()) == sorted(made.files) and len(made.files) == 7
    assert made.table["split"].tolist()[:3] == ["train 1", "test 1", "train 2"]
    assert made.table[["classes", "videos", "expected"]].values.tolist()[:2] == [[1, 1, 9537], [1, 1, 3783]]
    assert set(made.table["list"]) == {"other"} and made.notes == ()
    assert official.test_lists("ucf101")[3] == {"Archery/v_Archery_g01_c01"}


def test_a_part_is_taken_and_named_and_the_rest_may_come_later(tmp_path):
    made = importing.import_official("ucf101", lay(tmp_path / "first", ucf(2)))
    assert len(made.notes) == 2 and "standard split 1 is not there" in made.notes[0]
    assert str(made.folder / "trainlist01.txt") in made.notes[0]
    made = importing.import_official("ucf101", lay(tmp_path / "second", ucf(1, 3)))
    assert made.notes == () and len(list(made.folder.iterdir())) == 6


def test_hmdb51_kinetics_and_ssv2(tmp_path, data):
    lines = "one.avi 1\ntwo.avi 2\nthree.avi 0\n"
    hmdb = {f"a/b/wave_test_split{n}.txt": lines for n in (1, 2, 3)}
    made = importing.import_official("hmdb51", lay(tmp_path / "hmdb", hmdb))
    assert made.table["videos"].tolist() == [1] * 6 and made.table["expected"].tolist() == [3570, 1530] * 3
    kinetics = {
        "k400/train.csv": f"{HEAD}bowling,abcdefghijk,1,11,train\n",
        "kinetics700/train700.csv": f"{HEAD}x,y,1,2,train\n",
    }
    kinetics |= {
        "k400/val.csv": f'{HEAD}"bowling",abcdefghij2,1,11,validate\n',
        "k400/labels.csv": "id,name\n0,bowling\n",
    }
    made = importing.import_official("kinetics400", lay(tmp_path / "kinetics", kinetics))
    assert sorted(made.files) == ["train.csv", "val.csv"] and made.table["list"].tolist() == ["unknown", "unknown"]
    assert made.table["videos"].tolist() == [1, 1] and made.table["expected"].isna().all()
    ssv2 = {"labels/train.json": json.dumps([ENTRY]), "labels/validation.json": json.dumps([ENTRY | {"id": "2"}])}
    made = importing.import_official("ssv2", lay(tmp_path / "ssv2", ssv2))
    assert made.table[["split", "videos"]].values.tolist() == [["train", 1], ["test", 1]]
    assert (data / "ssv2" / "annotations" / "validation.json").is_file()


REFUSED = [
    ("ucf101", {}, "holds no split files of ucf101; expected trainlist01.txt to testlist03.txt"),
    ("ucf101", {"trainlist01.txt": "Archery/v.avi 3\n"}, "no test list of UCF101 is there"),
    ("ucf101", ucf(1) | {"b/testlist01.txt": "Archery/v_x.avi\n"}, "testlist01.txt differ; give the folder of one"),
    ("ucf101", ucf(1) | {"ucfTrainTestlist/testlist01.txt": "Archary/v_x.avi\n"}, "no class 'Archary' .*'Archery'"),
    (
        "ucf101",
        ucf(1) | {"ucfTrainTestlist/testlist01.txt": "v_x.avi\n"},
        "testlist01.txt: 'v_x.avi' is not of the form",
    ),
    ("ucf101", ucf(1) | {"ucfTrainTestlist/testlist01.txt": "../v_x.avi\n"}, r"no class '\.\.'"),
    ("ucf101", ucf(1) | {"ucfTrainTestlist/testlist01.txt": "Archery/..\n"}, "names a path outside its folder"),
    ("ucf101", ucf(1) | {"ucfTrainTestlist/testlist01.txt": "Archery/a.avi\nArchery/a.avi\n"}, "is listed 2 times"),
    ("ucf101", ucf(1) | {"ucfTrainTestlist/testlist01.txt": b"Archery/\xe9.avi\n"}, "testlist01.txt is not UTF-8"),
    ("hmdb51", {"wave_test_split1.txt": "clip.avi 7\n"}, "does not end with 0, 1 or 2"),
    (
        "kinetics400",
        {"val.csv": f"{HEAD}juggling soccer ball,abcdefghijk,1,2,val\nx,abcdefghij2,1,2,val\n"},
        "no class 'x'",
    ),
    ("kinetics400", {"val.csv": f"{HEAD}bowling,,1,2,val\n"}, "val.csv, line 2: label or youtube_id is empty"),
    ("kinetics400", {"val.csv": f"{HEAD}bowling,a/../../b,1,2,val\n"}, "'a/../../b' names a path outside its folder"),
    ("kinetics400", {"kinetics600.csv": f"{HEAD}bowling,a,1,2,val\n"}, "holds no split files of kinetics400"),
    ("ssv2", {"validation.json": "{"}, "validation.json is no JSON"),
    ("ssv2", {"validation.json": '[{"id": "1"}]'}, "validation.json is not of the form"),
    ("ssv2", {"train.json": json.dumps([ENTRY])}, "no test list of Something-Something V2 is there"),
    ("ssv2", {"validation.json": json.dumps([ENTRY, ENTRY])}, "video '1' is listed 2 times"),
]


@pytest.mark.parametrize(("name", "files", "words"), REFUSED, ids=str)
def test_what_cannot_be_used_is_one_sentence_and_nothing_is_written(name, files, words, tmp_path, data):
    source = lay(tmp_path / "from", files)
    source.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=words) as error:
        importing.import_official(name, source)
    assert "\n" not in str(error.value) and not data.exists()
    assert "vidlib-import-" not in str(error.value)  # what was read is named where the user has it or will have it


def test_what_is_there_is_replaced_on_request_only(tmp_path, data):
    made = importing.import_official("ucf101", lay(tmp_path / "one", ucf(1)))
    kept = made.folder / "testlist01.txt"
    before = kept.read_text()
    other = ucf(1) | {"ucfTrainTestlist/testlist01.txt": "Archery/v_Archery_g02_c01.avi\n"}
    source = lay(tmp_path / "two", other)
    with pytest.raises(UserError, match="testlist01.txt is there and differs from .*; add --overwrite"):
        importing.import_official("ucf101", source)
    assert kept.read_text() == before
    importing.import_official("ucf101", source, overwrite=True)
    assert kept.read_text() == other["ucfTrainTestlist/testlist01.txt"]
    with pytest.raises(UserError, match="did you mean 'ucf101'"):
        importing.import_official("ucf10", source)
    (source / "link").mkdir()
    (source / "link" / "testlist02.txt").symlink_to(tmp_path / "one" / "ucfTrainTestlist" / "testlist01.txt")
    with pytest.raises(UserError, match="testlist02.txt is a link that leads outside"):
        importing.import_official("ucf101", source)
