"""Published lists: both families in any nesting, labels, damage, storage, comparison."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.data.small_lists import TRX, videos, write_clip_fsar, write_trx
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import entries
from vidlib.data.disk import list_files, lists

SHARED = Path(os.environ.get("VIDLIB_SHARED") or Path(__file__).resolve().parents[4] / "shared") / "splits" / "lists"
COUNTS = {  # classes, videos, fewest and most of a class: of train, val, test
    "hmdb51": [(31, 4280, 102, 548), (10, 1194, 102, 143), (10, 1292, 103, 232)],
    "ucf101": [(70, 9154, 100, 164), (10, 1421, 114, 167), (21, 2745, 109, 166)],
    "kinetics100": [(64, 6400, 100, 100), (12, 1200, 100, 100), (24, 2400, 100, 100)],
    "ssv2_small": [(64, 6400, 100, 100), (12, 1200, 100, 100), (24, 2400, 100, 100)],
    "ssv2_full": [(64, 67013, 156, 3170), (12, 1926, 56, 360), (24, 2857, 17, 272)],
}
WAYS = {"hmdb51": "class folder", "ucf101": "class folder", "kinetics100": "class folder"}
WAYS |= {"ssv2_small": "shared videos", "ssv2_full": "shared videos"}
pytestmark = pytest.mark.usefixtures("data")


def both(root: Path, name: str, number: int = 2) -> dict[str, lists.Published]:
    made = videos(name, number)
    write_trx(root / "deep", name, made)
    write_clip_fsar(root, name, made)
    return lists.read(name, root)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not beside the checkout")
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_lists_are_those_of_the_catalogue(name):
    found = lists.read(name, SHARED)
    table = lists.table(name, found)
    assert list(found) == ["trx", "clip_fsar"] and set(table["list"]) == {"published"}
    counts = table[["classes", "videos", "fewest", "most"]].itertuples(index=False, name=None)
    assert list(counts) == COUNTS[name] * 2
    compared = lists.compare(found["trx"], found["clip_fsar"])
    differ = (
        {"train": 179, "val": 41, "test": 57} if name == "kinetics100" else dict.fromkeys(("train", "val", "test"), 0)
    )
    rows = compared.table.set_index("split")
    assert rows["only_a"].to_dict() == rows["only_b"].to_dict() == differ
    assert compared.moved == compared.labels == () and compared.agree is (name != "kinetics100")
    labels = found["clip_fsar"].labels
    assert Counter(label.way for label in labels.values()) == {WAYS[name]: sum(n for n, *_ in COUNTS[name])}
    assert not found["clip_fsar"].unresolved and not found["trx"].unresolved
    assert bool(found["trx"].labels) is (name == "ssv2_full")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not beside the checkout")
def test_ssv2_small_of_one_family_alone_has_its_classes_by_the_catalogue():
    found = lists.read("ssv2_small", SHARED / "clip_fsar")
    assert set(lists.table("ssv2_small", found)["list"]) == {"published"}
    assert {label.way for label in found["clip_fsar"].labels.values()} == {"catalogue's order"}


@pytest.mark.parametrize("name", TRX)
def test_both_families_are_found_in_any_nesting_and_agree(name, tmp_path):
    for other in TRX:  # the other benchmarks' lists lie beside them
        write_trx(tmp_path / "deep", other, videos(other, 1))
    found = both(tmp_path, name, 3)
    made = videos(name, 3)
    rows = sorted(f"{cls}/{v}" for classes in made.values() for cls, ids in classes.items() for v in ids)
    for family, published in found.items():
        assert published.family == family and sorted(row.video for row in published.rows) == rows
        assert {(row.cls, row.split) for row in published.rows} == {
            (c, s) for s, classes in made.items() for c in classes
        }
        assert published.notes == () and published.unresolved == () and published.splits == ("train", "val", "test")
    assert lists.compare(*found.values()).agree
    assert {label.way for label in found["clip_fsar"].labels.values()} == {WAYS[name]}


def test_a_list_is_the_published_one_by_its_checksum(tmp_path, monkeypatch):
    found = both(tmp_path, "hmdb51")
    assert set(lists.table("hmdb51", found)["list"]) == {"other"}
    sums = {"trx": {split: found["trx"].checksum(split) for split in ("train", "val", "test")}, "clip_fsar": {}}
    facts = entries.entry("hmdb51").model_copy(update={"checksums": sums})
    monkeypatch.setattr(lists, "few_shot", lambda name: facts)
    assert list(lists.table("hmdb51", found)["list"]) == ["published"] * 3 + ["other"] * 3


def test_labels_without_class_folder_are_named_by_shared_videos_or_not_at_all(tmp_path):
    made = videos("hmdb51")
    write_clip_fsar(tmp_path / "alone", "hmdb51", made, folders=False)
    alone = lists.read("hmdb51", tmp_path / "alone")["clip_fsar"]
    assert len(alone.unresolved) == 51 and alone.labels["train3"] == lists.Resolved("train3", None, "unresolved")
    write_trx(tmp_path / "named", "hmdb51", made)
    lists.store("hmdb51", lists.read("hmdb51", tmp_path / "named"))  # what is stored helps as what lies beside it does
    helped = lists.read("hmdb51", tmp_path / "alone")["clip_fsar"]
    assert helped.unresolved == () and helped.labels["train0"].cls == "brush_hair"
    assert helped.labels["train0"].text == "brush hair" and helped.labels["train0"].way == "shared videos"


def test_sources_that_contradict_each_other_are_reported(tmp_path):
    made = videos("ssv2_small")
    first, second, *_ = entries.entry("ssv2_small").classes["val"]
    write_clip_fsar(tmp_path, "ssv2_small", made)
    swapped = {**made["val"], first.name: made["val"][second.name], second.name: made["val"][first.name]}
    write_trx(tmp_path, "ssv2_small", {**made, "val": swapped})
    found = lists.read("ssv2_small", tmp_path)["clip_fsar"]
    assert len(found.notes) == 2 and "by shared videos, but" in found.notes[0]


def test_lists_that_differ_are_compared_video_by_video(tmp_path):
    made = videos("kinetics100", 4)
    write_trx(tmp_path, "kinetics100", made)
    bowling, busking = made["train"]["bowling"], made["test"]["busking"]
    made["train"]["bowling"] = ["replaced_01", *bowling[1:]]
    made["test"]["busking"], made["train"]["beatboxing"] = busking[1:], [*made["train"]["beatboxing"], busking[0]]
    write_clip_fsar(tmp_path, "kinetics100", made)
    compared = lists.compare(*lists.read("kinetics100", tmp_path).values())
    assert compared.only["train"] == ((f"bowling/{bowling[0]}",), (f"beatboxing/{busking[0]}", "bowling/replaced_01"))
    assert [(v, a.split, b.split) for v, a, b in compared.moved] == [(busking[0], "test", "train")]
    assert compared.table[["only_a", "only_b"]].values.tolist() == [[1, 2], [0, 0], [1, 0]] and not compared.agree
    said = compared.lines()
    assert said[0] == "train: 1 videos only in trx, 2 only in clip_fsar, 255 in both"
    assert said[-1] == f"{busking[0]} is 'busking' in test of trx, 'beatboxing' in train of clip_fsar"
    del made["val"]["baking cookies"]
    write_clip_fsar(tmp_path, "kinetics100", made)
    assert (
        "val: only trx has the classes baking cookies"
        in lists.compare(*lists.read("kinetics100", tmp_path).values()).lines()
    )


DAMAGE = [  # a line that replaces the second of HMDB51's training list, and what is said
    (b"../../etc/passwd", r"trainlist03.txt, line 2: '../../etc/passwd' leaves its folder by '..'"),
    (b"wave/../../x", r"line 2: .* leaves its folder by '..'; such an entry is refused"),
    (b"wave/..\\x", "leaves its folder"),
    (b"/videos/wave/x.avi", r"line 2: '/videos/wave/x.avi' names an absolute path"),
    (b"train0///videos/x.avi", "names an absolute path"),
    (b"C:\\videos\\wave/x.avi", "names an absolute path"),
    (b"wave/caf\xe9", "line 2: is not UTF-8 text"),
    (b"w\0a\0v\0e\0", "line 2: .* is not of the form"),
    (b"wave", "line 2: 'wave' is not of the form"),
    (b"wave/", "line 2: .* is not of the form"),
    (b"waves/x", "line 2: 'waves' is no class of hmdb51 .did you mean 'wave'.*another benchmark's list"),
    (b"cartwheel/x", "'cartwheel' is a val class of hmdb51, but stands in a list of train"),
    (b"test3/x", "label 'test3' stands in a list of train"),
    (b"train31/x", "label 'train31' is beyond the 31 train classes of hmdb51"),
    (b"wave/v_x.avi 1", "a data set's own split, .*import-official"),
    (b"wave/v(1)_brush_hair_g1!", "line 2: video .* is 'wave' in train here and 'brush_hair' in train in .*line 1"),
]


@pytest.mark.parametrize(("line", "words"), DAMAGE, ids=str)
def test_a_damaged_list_is_one_sentence_with_file_and_line(line, words, tmp_path):
    file = write_trx(tmp_path, "hmdb51", videos("hmdb51")) / "trainlist03.txt"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(UserError, match=words) as error:
        lists.read("hmdb51", tmp_path)
    assert "\n" not in str(error.value)


def test_a_video_in_two_splits_and_labels_of_two_classes_are_refused(tmp_path):
    made = videos("ucf101")
    file = write_clip_fsar(tmp_path, "ucf101", made) / "test_few_shot.txt"
    whole, (one, two, *_) = file.read_text(), made["test"]
    for line, words in (
        (f"test0//videos/{one}/{made['train']['Archery'][0]}.avi", f"is '{one}' in test here and 'Archery' in train"),
        (f"test0//videos/{two}/new.avi", f"label 'test0' stands for two class folders, '{one}' and '{two}'"),
        ("test0//videos/Archery/new.avi", "'Archery' is a train class of ucf101, but stands in a list of test"),
    ):
        file.write_text(f"{whole}{line}\n")
        with pytest.raises(UserError, match=words):
            lists.read("ucf101", tmp_path)
    file.write_text(whole.replace(f"test1//videos/{two}/", f"test1//videos/{one}/"))
    with pytest.raises(UserError, match=f"labels test0 and test1 are both '{one}' of ucf101"):
        lists.read("ucf101", tmp_path)


def test_harmless_damage_is_tidied_and_named(tmp_path):
    file = write_trx(tmp_path, "hmdb51", videos("hmdb51")) / "vallist03.txt"
    (file.parent / "testlist03.txt").unlink()
    clean = lists.read("hmdb51", tmp_path)["trx"]
    assert clean.notes == ("no list of test is there",)
    lines = file.read_text().splitlines()
    text = "\r\n".join([lines[0], "", *lines, "", ""])
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = lists.read("hmdb51", tmp_path)["trx"]
    assert found.rows == clean.rows and found.checksum("val") == clean.checksum("val")
    said = " ".join(found.notes)
    assert (
        "vallist03.txt has line ends of Windows" in said and "2 blank lines" in said and "val: 1 line repeats" in said
    )


def test_where_lists_lie_is_said_when_they_do_not(tmp_path):
    with pytest.raises(UserError, match="does not exist; give a folder or file with"):
        lists.read("hmdb51", tmp_path / "nowhere")
    write_trx(tmp_path, "ucf101", videos("ucf101", 1))
    with pytest.raises(list_files.NoLists, match=r"holds no list of hmdb51; expected \{train,val,test\}listNN.txt"):
        lists.read("hmdb51", tmp_path)
    with pytest.raises(UserError, match="official:hmdb51 has no published few-shot lists; .*import-official hmdb51"):
        lists.read("official:hmdb51", tmp_path)
    with pytest.raises(UserError, match="did you mean 'hmdb51'"):
        lists.read("hmdb5", tmp_path)
    own = write_trx(tmp_path / "a", "hmdb51", videos("hmdb51"))
    other = write_trx(tmp_path / "b", "hmdb51", videos("hmdb51"))
    assert lists.read("hmdb51", tmp_path)["trx"].splits == ("train", "val", "test")  # the same twice
    (other / "vallist03.txt").write_text("cartwheel/x\n")
    with pytest.raises(UserError, match="are both val lists of hmdb51 and differ"):
        lists.read("hmdb51", tmp_path)
    assert len(lists.read("hmdb51", own)["trx"].rows) == 102
    own.rename(tmp_path / "a" / "any name")  # the only lists there
    assert len(lists.read("hmdb51", tmp_path / "a")["trx"].rows) == 102
    assert lists.read("hmdb51", tmp_path / "a" / "any name" / "vallist03.txt")["trx"].splits == ("val",)


def test_ucf101s_own_lists_are_not_taken_for_few_shot_ones(tmp_path):
    own = tmp_path / "ucf101" / "annotations"
    own.mkdir(parents=True)
    (own / "trainlist03.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n")
    (own / "testlist03.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g15_c01.avi\n")
    with pytest.raises(UserError, match="one of the data set's own split files, .*vidlib data import-official ucf101"):
        lists.read("ucf101", tmp_path)
    write_trx(tmp_path, "ucf101", videos("ucf101"))
    assert len(lists.read("ucf101", tmp_path)["trx"].rows) == 202


def test_a_link_that_leads_outside_is_refused(tmp_path):
    outside = write_trx(tmp_path / "outside", "hmdb51", videos("hmdb51")) / "vallist03.txt"
    inside = write_trx(tmp_path / "inside", "hmdb51", videos("hmdb51")) / "vallist03.txt"
    inside.unlink()
    inside.symlink_to(outside)
    with pytest.raises(UserError, match="vallist03.txt is a link that leads outside"):
        lists.read("hmdb51", tmp_path / "inside")


def test_lists_are_stored_whole_and_a_later_part_adds_to_them(tmp_path, data):
    assert lists.stored("hmdb51") == {}
    found = both(tmp_path, "hmdb51")
    files = lists.store("hmdb51", found)
    assert files["trx"] == data / "hmdb51" / "lists" / "trx.tsv" and files["trx"].is_file()
    kept = lists.stored("hmdb51")
    assert {f: sorted(p.rows, key=str) for f, p in kept.items()} == {
        f: sorted(p.rows, key=str) for f, p in found.items()
    }
    part = lists.Published("trx", tuple(row for row in found["trx"].rows if row.split == "val")[:3])
    lists.store("hmdb51", {"trx": part})
    assert Counter(row.split for row in lists.stored("hmdb51")["trx"].rows) == {"train": 62, "val": 3, "test": 20}
    files["trx"].write_text("video\tclass\n")
    with pytest.raises(UserError, match="trx.tsv is damaged; delete it and run vidlib data lists hmdb51 again"):
        lists.stored("hmdb51")


def test_an_interrupted_store_leaves_the_old_list(tmp_path, monkeypatch):
    found = both(tmp_path, "hmdb51")
    file = lists.store("hmdb51", found)["trx"]
    before = file.read_bytes()
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(UserError, match="trx.tsv cannot be written: no space left; what was .* unchanged; make room"):
        lists.store("hmdb51", {"trx": lists.Published("trx", found["trx"].rows[:5])})
    assert file.read_bytes() == before and sorted(p.name for p in file.parent.iterdir()) == ["clip_fsar.tsv", "trx.tsv"]
