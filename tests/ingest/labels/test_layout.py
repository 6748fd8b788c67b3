"""Folders and names as people have them: given splits, masks beside pictures, several spellings of one class."""

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


@pytest.mark.parametrize("paths", [["cat/1.png", "cat/2019/2.png"], ["cat/2019/1.png", "cat/2019/2.png"]])
def test_a_folder_with_files_or_a_single_folder_in_it_is_a_class(tmp_path, paths):
    write(tmp_path / "raw", *paths)
    assert set(ingest(tmp_path / "raw", tmp_path / "out").table["label"]) == {"cat"}


@pytest.mark.parametrize("name", ["Labels.csv", "labels.CSV", "labels.tsv", "labels.xlsx", "label.csv"])
def test_a_table_that_is_called_nearly_as_labels_csv_is_not_passed_over(tmp_path, name):
    write(tmp_path / "raw", "a/1.png", "b/2.png")
    (tmp_path / "raw" / name).write_text("path,label\na/1.png,x\n")
    with pytest.raises(UserError, match=f"{name} is not read: call it labels.csv"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert ingest(tmp_path / "raw", tmp_path / "out", exclude=(f"/{name}",)).counts["cases"] == 2


def test_they_are_classes_where_that_is_asked_for(tmp_path):
    write(tmp_path / "raw", *SPLIT_FOLDERS)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_folders="classes")
    assert done.counts["classes"] == {"Test": 6, "train": 6, "val": 6} and "split" not in done.table


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["extra/x.png"], r"look like a split, but 'extra' does not.*ingest.exclude: \['/extra/'\]"),
        (["train/x.png"], "train looks like a split, but files lie in it beside its class folders"),
    ],
)
def test_a_layout_that_is_a_split_in_part_is_refused(tmp_path, paths, message):
    write(tmp_path / "raw", *SPLIT_FOLDERS, *paths)
    with pytest.raises(UserError, match=message):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_classes_with_a_split_below_some_of_them_alone_are_refused(tmp_path):
    write(tmp_path / "raw", *numbered("cat/train", "cat/test", "dog"))
    with pytest.raises(UserError, match="dog holds files as well"):
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


COMPANIONS = {
    "name": (["a/1.png", "a/1_mask.png", "b/2.png", "b/2_mask.png", "b/damask_5.png"], ["*_mask.*"]),
    "several names": (["a/1.png", "a/1_mask.png", "b/2.png", "b/2-seg_1.png"], ["*_mask.*", "*-seg*"]),
    "one alone": (["a/1.png", "a/1_mask.png", "b/2.png"], ["*_mask.*"]),
    "prefix": (["a/1.jpg", "a/thumb_1.jpg", "b/2.jpg", "b/thumb_2.jpg"], ["thumb_*"]),
    "ending": (["a/1.jpg", "a/1.png", "b/2.jpg", "b/2.png", "b/3.jpg", "b/4.bmp"], ["*.png"]),
    "folder": (["images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2.png"], ["masks/"]),
    "folder in a class": (["a/img/1.jpg", "a/GT/1.png", "a/img/2.jpg", "a/GT/2.png"], ["GT/"]),
}


@pytest.mark.parametrize("kind", COMPANIONS)
def test_masks_and_thumbnails_beside_pictures_stop_the_ingest_and_both_ways_out_lead_on(tmp_path, kind):
    paths, patterns = COMPANIONS[kind]
    write(tmp_path / "raw", *paths, "z/z.png" if kind != "ending" else "z/z.jpg")
    with pytest.raises(UserError, match="look like masks") as stopped:
        ingest(tmp_path / "raw", tmp_path / "out")
    exclude, include = ways_out(str(stopped.value))
    assert exclude == tuple(patterns)
    without = ingest(tmp_path / "raw", tmp_path / "out", exclude=exclude)
    left_out = 1 if kind == "one alone" else 2
    assert without.counts["ignored"] == {"excluded": left_out}
    assert without.counts["cases"] == len(paths) + 1 - left_out
    assert without.bytes() == ingest(tmp_path / "raw", tmp_path / "out", include=include).bytes()
    assert ingest(tmp_path / "raw", tmp_path / "out", include=("*",)).counts["cases"] == len(paths) + 1


def ways_out(message: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lists that a message offers, as a person would copy them."""
    parts = [message.split(f"ingest.{key}: [")[1].split("]")[0] for key in ("exclude", "include")]
    exclude, include = (tuple(text.strip('"') for text in part.split(", ")) for part in parts)
    return exclude, include


def test_ordinary_folders_are_no_companions(tmp_path):
    write(tmp_path / "raw", "a/1.png", "a/2.jpg", "b/1.png", "b/2.jpg", "masked/1.png", "a/no_mask.png")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["cases"] == 6


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
