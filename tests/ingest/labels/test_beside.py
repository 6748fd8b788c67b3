"""Labels in files beside the pictures: the layout of WebDataset's shards, packed or not."""

import io
import json
import tarfile

import imageio.v3 as imageio
import numpy as np
import pytest

from stages.lib.core.errors import UserError
from tests.raw_data import ingest


def sample(number):
    """A picture's bytes; no two are alike."""
    target = io.BytesIO()
    imageio.imwrite(target, np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8), extension=".png")
    return target.getvalue()


def shard(numbers, label=lambda i: str(i % 2), **others):
    """Files by name; of each number a picture, a .cls and what is given."""
    found = {}
    for i in numbers:
        found[f"{i:06d}.png"] = sample(i)
        found[f"{i:06d}.cls"] = label(i).encode()
        found |= {f"{i:06d}.{ending}": of(i).encode() for ending, of in others.items()}
    return found


def write(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def pack(target, files):
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as to:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            to.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_shards_give_what_their_folders_give_and_no_label_is_a_case(tmp_path, ending):
    for i in range(2):
        files = shard(range(4 * i, 4 * i + 4), json=lambda i: json.dumps({"id": i}), txt=lambda i: f"a caption of {i}")
        write(tmp_path / f"folder/shard-{i:06d}", files)
        pack(tmp_path / f"raw/shard-{i:06d}{ending}", files)
    expected = ingest(tmp_path / "folder", tmp_path / "expected", max_rejected=0.0)
    assert expected.counts["classes"] == {"0": 4, "1": 4} and expected.counts["ignored"] == {"label_file": 24}
    assert expected.counts["files"]["total"] == 32
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == expected.bytes()


def test_one_shard_alone_is_the_data_set(tmp_path):
    write(tmp_path / "folder", shard(range(4), lambda i: ("cat", "dog")[i % 2] + "\n"))
    pack(tmp_path / "raw/x.tar", shard(range(4), lambda i: ("cat", "dog")[i % 2] + "\n"))
    expected = ingest(tmp_path / "folder", tmp_path / "expected")
    assert expected.counts["classes"] == {"cat": 2, "dog": 2}
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == expected.bytes()


def test_shards_called_train_and_val_are_the_split(tmp_path):
    pack(tmp_path / "raw/train-000000.tar", shard(range(4)))
    pack(tmp_path / "raw/train-000001.tar", shard(range(4, 6)))
    pack(tmp_path / "raw/val-000000.tar", shard(range(6, 8)))
    assert ingest(tmp_path / "raw", tmp_path / "out").table["split"].value_counts().to_dict() == {
        "train": 6, "validation": 2,
    }  # fmt: skip
    assert "split" not in ingest(tmp_path / "raw", tmp_path / "none", split_folders="classes").table


@pytest.mark.parametrize("ending", ["cls", "json"])
def test_the_name_of_a_sample_ends_at_its_first_dot_as_webdataset_has_it(tmp_path, capsys, ending):
    def said(label):
        return (label if ending == "cls" else json.dumps({"label": label})).encode()

    pictures = {f"{name}.png": sample(i) for i, name in enumerate(("a", "a.b", "a.c", "d.e", "d.f", "g.h.i"))}
    labels = {"a": "x", "a.b": "other", "d.e": "y", "d.f": "z", "g": "y"}
    write(tmp_path / "raw", pictures | {f"{name}.{ending}": said(label) for name, label in labels.items()})
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert done.counts["classes"] == {"x": 3, "y": 2, "z": 1} and done.counts["ignored"] == {"label_file": 5}
    told = f"1 .{ending} files are not used, as a.b.{ending}: a sample's name ends at its first dot"
    assert told in capsys.readouterr().out


def test_labels_csv_comes_before_cls_files_and_says_so(tmp_path, capsys):
    write(tmp_path / "raw", shard(range(4)))
    (tmp_path / "raw/labels.csv").write_text("path,label\n*.png,all\n")
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert (
        done.counts["classes"] == {"all": 4} and "4 .cls files beside pictures are not used" in capsys.readouterr().out
    )


def test_cls_files_come_before_folders_and_say_so(tmp_path, capsys):
    for folder in ("a", "b"):
        write(tmp_path / "raw" / folder, shard(range(2) if folder == "a" else range(2, 4), lambda i: "xy"[i // 2]))
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["classes"] == {"x": 2, "y": 2}
    assert "raw's .cls files: the folders a, b are no classes" in capsys.readouterr().out


def test_a_picture_without_its_label_and_a_label_without_its_picture_are_told(tmp_path):
    write(tmp_path / "raw", shard(range(4)))
    (tmp_path / "raw/000001.png").unlink()
    assert ingest(tmp_path / "raw", tmp_path / "out").reason("000001.cls") == "not_an_image"
    (tmp_path / "raw/000002.cls").unlink()
    with pytest.raises(UserError, match=r"1 case\(s\) without a label: 000002.png"):
        ingest(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b" \n", "is empty: expected the label of 000001.png"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a\nb", "no line of text"),
    ],
)
def test_a_label_that_is_none_names_its_file(tmp_path, content, said):
    write(tmp_path / "raw", shard(range(4)) | {"000001.cls": content})
    with pytest.raises(UserError, match=f"raw/000001.cls.* {said}|raw/000001.cls {said}"):
        ingest(tmp_path / "raw", tmp_path / "out")


def with_records(numbers, of):
    return {f"{i:06d}.png": sample(i) for i in numbers} | {f"{i:06d}.json": json.dumps(of(i)).encode() for i in numbers}


def test_a_label_in_the_json_file_of_each_picture_counts_where_there_are_no_folders(tmp_path):
    write(tmp_path / "raw", with_records(range(4), lambda i: {"label": i % 2, "id": i}))
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert done.counts["classes"] == {"0": 2, "1": 2} and done.counts["ignored"] == {"label_file": 4}


@pytest.mark.parametrize("folders", [("train-000000", "val-000000"), ("train", "val")])
def test_a_label_in_json_files_counts_where_all_folders_are_shards_or_splits(tmp_path, folders):
    for i, folder in enumerate(folders):
        files = with_records(range(4 * i, 4 * i + 4), lambda i: {"label": i % 2})
        write(tmp_path / "folder" / folder, files)
        pack(tmp_path / f"raw/{folder}.tar", files)
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert done.counts["classes"] == {"0": 4, "1": 4}
    assert done.table["split"].value_counts().to_dict() == {"train": 4, "validation": 4}
    assert ingest(tmp_path / "folder", tmp_path / "expected").bytes() == done.bytes()


@pytest.mark.parametrize("folders", [("s-000000", "s-000001"), ("train-000000", "val-000000"), ("00000", "00001")])
def test_shards_without_labels_are_no_classes(tmp_path, folders):
    for i, folder in enumerate(folders):
        write(tmp_path / "raw" / folder, {f"{i}.png": sample(i)})
    with pytest.raises(UserError, match=f"the folders {', '.join(folders)} are called as shards are.*labels.csv"):
        ingest(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw/labels.csv").write_text(f"path,label\n{folders[0]},a\n{folders[1]},b\n")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["classes"] == {"a": 1, "b": 1}


@pytest.mark.parametrize("folders", [("0", "1"), ("grade-1", "grade-2"), ("2019", "2020"), ("s-000000", "other")])
def test_classes_may_end_in_numbers(tmp_path, folders):
    for i, folder in enumerate(folders):
        write(tmp_path / "raw" / folder, {f"{i}.png": sample(i)})
    assert set(ingest(tmp_path / "raw", tmp_path / "out").counts["classes"]) == set(folders)


def test_json_files_beside_class_folders_must_agree_with_them(tmp_path):
    write(tmp_path / "raw/a", with_records(range(2), lambda i: {"label": "a"}))
    write(tmp_path / "raw/b", with_records(range(2, 4), lambda i: {"label": "b"}))
    assert ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0).counts["classes"] == {"a": 2, "b": 2}
    (tmp_path / "raw/b/000003.json").write_text('{"label": "a"}')
    with pytest.raises(
        UserError, match=r"000003.json says the label 'a', and the folder 'b': .*exclude: \[\"\*.json\"\]"
    ):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert ingest(tmp_path / "raw", tmp_path / "out", exclude=("*.json",)).counts["classes"] == {"a": 2, "b": 2}


@pytest.mark.parametrize("record", [{"id": 1}, [1], {"label": True}, {"label": ""}, {"label": [1]}])
def test_json_files_that_are_about_something_else_give_no_labels(tmp_path, record):
    write(tmp_path / "raw/a", with_records(range(2), lambda i: record))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["classes"] == {"a": 2} and done.counts["rejected"] == {"not_an_image": 2}
