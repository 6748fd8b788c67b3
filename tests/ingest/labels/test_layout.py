"""Folders and names as people have them: given splits, masks beside pictures, several spellings of one class."""

import json
import shutil
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.lib.core.errors import UserError
from stages.lib.ingest.labels import class_names, layout
from tests.raw_data import ingest, scan, write_series


def write(raw, *paths: str) -> None:
    """A picture for each path, no two with the same pixels."""
    for path in paths:
        place = raw / path
        place.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(place)


def numbered(*folders: str, each: int = 3) -> list[str]:
    return [f"{folder}/{folder.replace('/', '-')}-{i}.png" for folder in folders for i in range(each)]


SPLIT_FOLDERS = numbered("train/cat", "train/dog", "val/cat", "val/dog", "Test/cat", "Test/dog")
WANTED = {"train": 6, "validation": 6, "test": 6}


@pytest.mark.parametrize("below", [False, True])
def test_folders_called_train_val_and_test_are_the_split_and_not_classes(tmp_path, capsys, below):
    paths = SPLIT_FOLDERS if not below else ["/".join([*p.split("/")[1::-1], p.split("/")[2]]) for p in SPLIT_FOLDERS]
    write(tmp_path / "raw", *paths)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["classes"] == {"cat": 9, "dog": 9}
    assert done.table["split"].value_counts().to_dict() == WANTED
    assert "split as the raw data have it: 6 train, 6 validation, 6 test" in capsys.readouterr().out


@pytest.mark.parametrize("around", ["archive/", "archive/data v2/"])
def test_one_folder_around_all_is_no_class_and_what_lies_in_it_is_said(tmp_path, capsys, around):
    paths = ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png"]
    write(tmp_path / "raw", *(around + path for path in paths))
    (tmp_path / "raw/README.txt").write_text("of an archive")
    table = ingest(tmp_path / "raw", tmp_path / "out").table
    assert sorted(table["label"]) == ["cat", "cat", "dog", "dog"]
    assert sorted(table["split"]) == ["test", "test", "train", "train"]
    assert f"holds the folder {around} alone: what lies in it (test, train) is taken" in capsys.readouterr().out


def test_a_table_in_the_one_folder_around_all_is_not_passed_over(tmp_path):
    write(tmp_path / "raw", "archive/a/1.png", "archive/b/2.png")
    (tmp_path / "raw/archive/labels.csv").write_text("path,label\na,x\n")
    with pytest.raises(UserError, match=r'raw/archive/labels.csv is not read: .*exclude: \["/archive/labels.csv"\]'):
        ingest(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("folder", ["all", "all/img"])
def test_a_table_in_the_only_folder_is_not_passed_over(tmp_path, folder):
    write(tmp_path / "raw", "all/img/0.png", "all/img/1.png")
    (tmp_path / f"raw/{folder}/labels.csv").write_text("path,label\n0.png,x\n")
    with pytest.raises(UserError, match=f"raw/{folder}/labels.csv is not read: expected"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_a_file_beside_the_folders_in_the_one_around_all_changes_nothing_but_its_own_fate(tmp_path):
    write(tmp_path / "raw", "archive/a/1.png", "archive/b/2.png")
    (tmp_path / "raw/archive/README.txt").write_text("of an archive")
    found = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.5)
    assert sorted(found.table["label"]) == ["a", "b"]
    assert found.counts["rejected"] == {"not_an_image": 1}
    write(tmp_path / "raw", "archive/preview.png")
    with pytest.raises(UserError, match=r"1 case\(s\) without a label: archive/preview.png"):
        ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.5)


@pytest.mark.parametrize("inner", ["seg_train", "images"])
def test_a_folder_in_each_split_that_holds_all_its_classes_is_looked_through(tmp_path, capsys, inner):
    names = {"train": inner, "test": inner.replace("train", "test")}
    write(tmp_path / "raw", *(f"seg_{split}/{name}/{x}/{split}.png" for split, name in names.items() for x in "ab"))
    table = ingest(tmp_path / "raw", tmp_path / "out").table
    assert sorted(zip(table["split"], table["label"], strict=True)) == [
        *[("test", "a"), ("test", "b"), ("train", "a"), ("train", "b")]
    ]
    assert f"what lies in seg_test/{names['test']}/, seg_train/{names['train']}/ is taken" in capsys.readouterr().out


def test_a_split_of_one_class_with_folders_is_not_looked_through(tmp_path):
    write(tmp_path / "raw", "train/a/x/1.png", "train/b/x/2.png", "test/a/x/3.png", "test/a/y/4.png")
    assert sorted(ingest(tmp_path / "raw", tmp_path / "out").table["label"]) == ["a", "a", "a", "b"]


@pytest.mark.parametrize(
    ("paths", "exclude"),
    [
        (["z/train/a/1.png", "z/test/a/2.png", "z/docs/x/3.png"], ["/z/docs/"]),
        (["train/a/1.png", "test/a/2.png", "[old] docs/x/3.png"], ["/\\[old\\] docs/"]),
        (["train/a/1.png", "test/a/2.png", "anna's/x/3.png"], ["/anna's/"]),
        (["z/train/a/1.png", "z/test/a/2.png", "z/train/list.png"], ["/z/train/*.png"]),
        (["a/train/1.png", "a/test/2.png", "b/train/3.png", "b/more/4.png"], ["/b/more/"]),
        (["a/train/1.png", "a/test/2.png", "b/train/3.png", "b/4.png"], ["/b/*.png"]),
    ],
)
def test_what_a_message_says_of_a_layout_leaves_out_what_is_wrong_with_it_and_no_more(tmp_path, paths, exclude):
    write(tmp_path / "raw", *paths)
    with pytest.raises(UserError) as stopped:
        ingest(tmp_path / "raw", tmp_path / "out")
    assert f"(ingest.exclude: {json.dumps(exclude)})" in str(stopped.value)
    assert ingest(tmp_path / "raw", tmp_path / "out", exclude=tuple(exclude)).counts["cases"] == len(paths) - 1


@pytest.mark.parametrize("paths", [["cat/1.png", "cat/2019/2.png"], ["cat/2019/1.png", "cat/2019/2.png"]])
def test_a_folder_with_files_or_a_single_folder_in_it_is_a_class(tmp_path, paths):
    write(tmp_path / "raw", *paths)
    assert set(ingest(tmp_path / "raw", tmp_path / "out").table["label"]) == {"cat"}


def test_a_folder_around_patients_is_no_folder_around_classes(tmp_path):
    for i in range(2):
        write_series(tmp_path / f"raw/ct/P{i}", scan(4, seed=i), patient=f"P{i}", series=f"{i}")
    assert set(ingest(tmp_path / "raw", tmp_path / "out").table["label"]) == {"ct"}


@pytest.mark.parametrize("name", ["Labels.csv", "labels.CSV", "labels.tsv", "labels.xlsx", "label.csv"])
def test_a_table_that_is_called_nearly_as_labels_csv_is_not_passed_over(tmp_path, name):
    write(tmp_path / "raw", "a/1.png", "b/2.png")
    (tmp_path / "raw" / name).write_text("path,label\na/1.png,x\n")
    with pytest.raises(UserError, match=f"{name} is not read: expected .*/raw/labels.csv"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert ingest(tmp_path / "raw", tmp_path / "out", exclude=(f"/{name}",)).counts["cases"] == 2


def test_they_are_classes_where_that_is_asked_for(tmp_path):
    write(tmp_path / "raw", *SPLIT_FOLDERS)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_folders="classes")
    assert done.counts["classes"] == {"Test": 6, "train": 6, "val": 6} and "split" not in done.table


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["extra/x.png"], r"look like a split, but 'extra' does not.*ingest.exclude: \[\"/extra/\"\]"),
        (["train/x.png"], "train looks like a split, but files lie in it beside its class folders"),
    ],
)
def test_a_layout_that_is_a_split_in_part_is_refused(tmp_path, paths, message):
    write(tmp_path / "raw", *SPLIT_FOLDERS, *paths)
    with pytest.raises(UserError, match=message):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_classes_with_a_split_below_some_of_them_alone_are_refused(tmp_path):
    write(tmp_path / "raw", *numbered("cat/train", "cat/test", "dog"))
    with pytest.raises(UserError, match="dog holds files such as dog-0.png as well"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_what_names_a_split_and_what_does_not():
    names = [
        "train",
        "Training",
        "val",
        "VALID",
        "validation",
        "test",
        "testing",
        "seg_train",
        "test_set",
        "train-images",
    ]
    assert all(layout.split_named(name) for name in names)
    assert not any(map(layout.split_named, ["trainer", "contest", "tests", "valve", "set", "protest", "", "latest"]))


def test_a_split_column_of_labels_csv_is_kept(tmp_path, capsys):
    write(tmp_path / "raw", "a.png", "b.png", "c.png", "d.png")
    rows = "path,label,split,age\na.png,x,train,3\nb.png,y,TRAIN,4\nc.png,x,val,5\nd.png,y,,6\n"
    (tmp_path / "raw" / "labels.csv").write_text(rows)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert sorted(done.table["split"]) == ["", "train", "train", "validation"]
    printed = capsys.readouterr().out
    assert "labels.csv: not used: age" in printed and "2 train, 1 validation, 1 to be dealt" in printed
    (tmp_path / "raw" / "labels.csv").write_text(rows.replace("val", "tset"))
    with pytest.raises(UserError, match="row 4: split is 'tset', did you mean test"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_a_patient_or_picture_on_two_sides_is_refused_or_goes_into_training(tmp_path, capsys):
    write_series(tmp_path / "raw/train/a/0", scan(4, seed=1), patient="Doe", series="one")
    write_series(tmp_path / "raw/test/b/0", scan(4, seed=2), patient="Doe", series="two")
    write_series(tmp_path / "raw/test/a/1", scan(4, seed=3), patient="Roe", series="three")
    with pytest.raises(UserError, match=r"(?s)1 group\(s\).*same_group: train.*train/a/0/000 \(train\) and test/b"):
        ingest(tmp_path / "raw", tmp_path / "out")
    done = ingest(tmp_path / "raw", tmp_path / "out", same_group="train")
    assert sorted(done.table["split"]) == ["test", "train", "train"]
    assert "1 case(s) of 1 group(s) on two sides went into training" in capsys.readouterr().out


def write_copied(folder, copy):
    """Volumes of two patients, and a copy of the first one's at another place."""
    write_series(folder / "sick/P0", scan(4, seed=1), patient="Doe", series="one")
    write_series(folder / "well/P1", scan(4, seed=2), patient="Roe", series="two")
    shutil.copytree(folder / "sick/P0", folder / copy)


@pytest.mark.parametrize("kind", ["volumes", "images"])
def test_a_copy_of_a_series_under_another_label_is_refused(tmp_path, kind):
    write_copied(tmp_path / "raw", "well/again")
    with pytest.raises(UserError, match=r"again/\S+ is a copy of sick/P0/\S+, but its label is 'well', not 'sick'"):
        ingest(tmp_path / "raw", tmp_path / "out", kind=kind)


def test_a_copy_of_a_series_in_another_split_is_refused(tmp_path):
    write_copied(tmp_path / "raw", "sick/again")
    (tmp_path / "raw/labels.csv").write_text(
        "path,label,split\nsick/P0,sick,train\nsick/again,sick,test\nwell,well,train\n"
    )
    with pytest.raises(UserError, match=r"is a copy of sick/\S+, but its split is '\w+', not '\w+'"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_a_copy_of_a_series_under_the_same_label_is_left_out_and_counted(tmp_path):
    write_copied(tmp_path / "raw", "sick/again")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["ignored"] == {"same_instance": 4}


# Files, those of them that belong to others, and what leaves out these and no other.
COMPANIONS = {
    "name": (["a/1.png", "a/1_mask.png", "b/2.png", "b/2_mask.png", "b/damask_5.png"], 2, ["*_mask.png"]),
    "several names": (["a/1.png", "a/1_mask.png", "b/2.png", "b/2-seg_1.png"], 2, ["*_mask.png", "*-seg*[0-9].png"]),
    "one alone": (["a/1.png", "a/1_mask.png", "b/2.png"], 1, ["*_mask.png"]),
    "prefix": (["a/1.jpg", "a/thumb_1.jpg", "b/2.jpg", "b/thumb_2.jpg"], 2, ["thumb_*.jpg"]),
    "classes that are called so": (["thumb_up/1.png", "fist/2.png", "fist/thumb_2.png"], 1, ["thumb_*.png"]),
    "others that are called so": (["a/1.png", "a/1_seg_2.png", "b/x_segway3.png"], 1, ["/a/1_seg_2.png"]),
    "numbers": (["a/im_1.png", "a/mask_1.png", "b/im_2.png", "b/mask_2.png"], 2, ["mask*[0-9].png"]),
    "ending": (["a/1.jpg", "a/1.png", "b/2.jpg", "b/2.png", "b/3.jpg", "b/4.bmp"], 2, ["*.png"]),
    "ending in capitals": (["a/1.JPG", "a/1.png", "b/2.JPG", "b/2.png", "b/3.png"], 2, ["*.JPG"]),
    "folder": (["images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2.png"], 2, ["masks/"]),
    "folder, in part": (["a/im/1.jpg", "a/im/2.jpg", "a/masks/1.png", "a/masks/2.png", "a/masks/9.png"], 3, ["masks/"]),
    "folder and name": (["im/1.jpg", "im/2.jpg", "masks/1_mask.png", "masks/2_mask.png"], 2, ["masks/"]),
    "folder in a class": (["a/img/1.jpg", "a/GT/1.png", "a/img/2.jpg", "a/GT/2.png"], 2, ["GT/"]),
    "folder, a class": (["a/i/1.jpg", "a/i/2.jpg", "a/masks/1.png", "a/masks/2.png", "masks/7.png"], 2, ["/a/masks/"]),
    "two kinds": (["a/1.jpg", "a/1_mask.png", "a/1.bmp", "b/2.jpg", "b/2.bmp"], 3, ["*_mask.png", "*.bmp"]),
    "special letters": (["[a] b/1.png", "[a] b/1_mask.png", "c/3_masks_mask.png"], 1, ["/\\\\[a\\\\] b/1_mask.png"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", COMPANIONS)
def test_masks_and_thumbnails_beside_pictures_stop_the_ingest_and_both_ways_out_lead_on(tmp_path, kind):
    paths, number, patterns = COMPANIONS[kind]
    write(tmp_path / "raw", *paths, "z/z.png" if not kind.startswith("ending") else "z/z.gif")
    with pytest.raises(UserError, match=f"^{number} of {len(paths) + 1} files look like masks") as stopped:
        ingest(tmp_path / "raw", tmp_path / "out")
    exclude, include = ways_out(str(stopped.value))
    assert exclude == tuple(json.loads(f'"{pattern}"') for pattern in patterns)
    without = ingest(tmp_path / "raw", tmp_path / "out", exclude=exclude)
    assert without.counts["ignored"] == {"excluded": number}
    assert without.counts["cases"] == len(paths) + 1 - number
    assert without.bytes() == ingest(tmp_path / "raw", tmp_path / "out", include=include).bytes()
    assert ingest(tmp_path / "raw", tmp_path / "out", include=("*",)).counts["cases"] == len(paths) + 1


def test_patterns_that_are_given_already_are_kept_in_what_is_offered(tmp_path):
    write(tmp_path / "raw", "a/1.png", "a/1_mask.png", "b/2.png", "b/2.txt.png")
    with pytest.raises(UserError, match=r'ingest.exclude: \["\*.txt.png", "\*_mask.png"\] leaves them out, ingest.inc'):
        ingest(tmp_path / "raw", tmp_path / "out", exclude=("*.txt.png",))


def ways_out(message: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lists that a message offers, as a person would copy them."""
    exclude, include = (
        tuple(json.loads("[" + message.split(f"ingest.{key}: [")[1].split('"]')[0] + '"]'))
        for key in ("exclude", "include")
    )
    return exclude, include


def test_ordinary_folders_are_no_companions(tmp_path):
    write(tmp_path / "raw", "a/1.png", "a/2.jpg", "b/1.png", "b/2.jpg", "masked/1.png", "a/no_mask.png")
    write(tmp_path / "raw", "mask/5.png", "no_mask/5.png", "mask/6.png", "with_mask/6.png", "a/small.png", "a/gt7.png")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["cases"] == 12


def test_a_pattern_that_fits_no_file_is_refused(tmp_path):
    write(tmp_path / "raw", "a/1.png", "b/2.png")
    with pytest.raises(UserError, match=r"ingest.exclude: no file fits the pattern '\*_maks.png'"):
        ingest(tmp_path / "raw", tmp_path / "out", exclude=("*_maks.png",))


def test_spellings_that_look_the_same_are_one_class(tmp_path, capsys):
    cafe = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    write(tmp_path / "raw", *numbered(*cafe, "cat", "cat ", "Dog", "dog", each=1))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["classes"] == {"Dog": 1, cafe[0]: 2, "cat": 2, "dog": 1}
    printed = capsys.readouterr().out
    assert "'cat' is spelt in 2 ways" in printed and "'Dog', 'dog' are 2 classes" in printed
    done = ingest(tmp_path / "raw", tmp_path / "out", aliases={"Dog": "dog"})
    assert done.counts["classes"] == {cafe[0]: 2, "cat": 2, "dog": 2}
    assert "are 2 classes" not in capsys.readouterr().out
    with pytest.raises(UserError, match="no label is 'dogg': did you mean dog"):
        ingest(tmp_path / "raw", tmp_path / "out", aliases={"dogg": "dog"})


@pytest.mark.parametrize("names", [("crack", "cracks"), ("no crack", "no_crack"), ("Cat", "cat"), ("box", "boxes")])
def test_names_that_differ_in_little_are_told(names):
    (note,) = class_names.notes([*names, "other"], {})
    assert f"'{names[0]}', '{names[1]}' are 2 classes" in note


def test_names_that_are_different_are_not_told():
    assert (
        class_names.notes(["1", "11", "class1", "class2", "A", "B", "grade 1", "grade 2", "s", "bus", "bug"], {}) == []
    )


def test_class_folders_of_one_patient_each_are_remarked_on(tmp_path, capsys):
    for i in range(3):
        write_series(tmp_path / "raw" / f"2023010{i}", scan(seed=i), None, f"s{i}", f"p{i}")
    ingest(tmp_path / "raw", tmp_path / "out")
    said = "warning: each of the 3 class folders, as 20230100, is of one group (patient)"
    assert said in capsys.readouterr().out
    write_series(tmp_path / "raw" / "20230100" / "more", scan(seed=9), None, "s9", "p9")
    ingest(tmp_path / "raw", tmp_path / "again")
    assert "class folders" not in capsys.readouterr().out


def test_one_patient_for_all_cases_is_remarked_on(tmp_path, capsys):
    for i in range(4):
        write_series(tmp_path / "raw" / "ab"[i % 2] / f"{i}", scan(seed=i), None, f"s{i}", "ANONYMOUS")
    ingest(tmp_path / "raw", tmp_path / "out")
    assert "warning: all 4 cases are of one group (patient), which can't be split" in capsys.readouterr().out
