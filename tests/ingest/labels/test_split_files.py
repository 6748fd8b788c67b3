"""Lists of names that give the split: kept, checked for groups, and no name of them is passed over."""

import shutil
import zipfile

import numpy as np
import pydicom
import pytest

from stages.lib.core import tables
from stages.lib.core.errors import UserError
from stages.lib.params.ingest import IngestParams
from tests.raw_data import ingest, scan, write_pictures, write_series

FILES = {"train": "train.txt", "validation": "val.txt", "test": "lists/test.txt"}


@pytest.fixture
def raw(tmp_path):
    write_pictures(tmp_path / "raw", each=4)
    return tmp_path / "raw"


def run(raw, files=FILES, params=None, **lists: str):
    for split, text in lists.items():
        (raw / files[split]).parent.mkdir(exist_ok=True)
        (raw / files[split]).write_text(text)
    return ingest(raw, raw.parent / "out", split_files={split: files[split] for split in lists}, **(params or {}))


def by_path(done) -> "dict[str, str]":
    files = tables.parse_text((done.folder / "files.csv").read_bytes())
    split_of = dict(zip(done.table["case"], done.table["split"], strict=True))
    return {path: split_of[case] for case, path in zip(files["case"], files["path"], strict=True)}


def test_lists_of_paths_and_stems_give_the_split_and_what_none_names_is_dealt(raw, capsys):
    done = run(
        raw, train="cat/0.png\n\ncat/1\ndog\\0.png\n./dog/1.jpg\n", validation="cat/2.png\n", test="cat/3.jpg\r\n"
    )
    assert by_path(done) == {
        "cat/0.png": "train", "cat/1.jpg": "train", "cat/2.png": "validation", "cat/3.jpg": "test",
        "dog/0.png": "train", "dog/1.jpg": "train", "dog/2.png": "", "dog/3.jpg": "",
    }  # fmt: skip
    assert "4 train, 1 validation, 1 test, 2 to be dealt" in capsys.readouterr().out
    assert done.counts["split_files"]["train"] == {"names": 4, "without_case": 0}
    assert done.counts["classes"] == {"cat": 4, "dog": 4} and done.counts["files"]["total"] == 8


def test_the_mere_stem_of_one_file_is_enough_and_that_of_several_is_an_error(raw):
    (raw / "cat" / "0.png").rename(raw / "cat" / "scan-17.png")
    assert by_path(run(raw, train="scan-17\n"))["cat/scan-17.png"] == "train"
    with pytest.raises(UserError, match="line 2: '1.jpg' may be cat/1.jpg, dog/1.jpg: write the path"):
        run(raw, train="scan-17\n1.jpg\n")


def test_folders_groups_patients_series_and_cases_are_names_too(tmp_path):
    raw = tmp_path / "raw"
    for i, name in enumerate("abcd"):
        write_series(raw / "x" / f"P-{name}", scan(seed=i), series=name, patient=f"Doe {name}")
    plain = ingest(raw, tmp_path / "plain")
    files = tables.parse_text((plain.folder / "files.csv").read_bytes())
    case = files[files["path"].str.contains("P-d")]["case"].iloc[0]
    uid = pydicom.dcmread(next((raw / "x" / "P-c").iterdir())).SeriesInstanceUID
    found = by_path(run(raw, train=f"P-a\nDoe b\n{uid}\n", test=f"{case}\n"))
    assert {path.split("/")[1]: split for path, split in found.items()} == {
        "P-a": "train", "P-b": "train", "P-c": "train", "P-d": "test"
    }  # fmt: skip


def test_a_group_of_labels_csv_or_of_a_pattern_is_a_name(raw):
    found = by_path(run(raw, train="3.\n1.\n", test="0.\n", params={"group": r"(\d\.)"}))
    assert found["cat/1.jpg"] == found["dog/3.jpg"] == "train" and found["cat/0.png"] == found["dog/0.png"] == "test"
    lines = [f"{c}/{i}.{'jpg' if i % 2 else 'png'},{c},patient {i}" for c in ("cat", "dog") for i in range(4)]
    (raw / "labels.csv").write_text("path,label,group\n" + "\n".join(lines) + "\n")
    found = by_path(run(raw, train="patient 0\npatient 2\n", test="patient 1\n"))
    assert found["cat/0.png"] == found["dog/0.png"] == "train" and found["cat/1.jpg"] == "test"


def test_parts_of_a_file_are_names_and_the_file_means_all_of_them(raw):
    rng = np.random.default_rng(0)
    np.savez(raw / "x.npz", a=rng.integers(0, 255, (3, 8, 9), np.uint8), b=rng.integers(0, 255, (8, 9), np.uint8))
    shutil.rmtree(raw / "cat")
    shutil.rmtree(raw / "dog")
    lines = [*(f"x.npz::a[{i}],{'uv'[i % 2]}" for i in range(3)), "x.npz::b,u"]
    (raw / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    found = by_path(run(raw, train="x.npz::a[1]\nx.npz::b\n", test="x.npz::a[0]\n"))
    wanted = {"x.npz::a[0]": "test", "x.npz::a[1]": "train", "x.npz::a[2]": "", "x.npz::b": "train"}
    assert found == wanted
    shutil.rmtree(raw / "lists")
    assert set(by_path(run(raw, train="x\n")).values()) == {"train"}


def test_unknown_names_are_an_error_that_lists_them(raw):
    with pytest.raises(
        UserError,
        match=r"(?s)train.txt: 2 name\(s\) are of no file.*did you mean cat/2.png.*line 1: cat/2.pn\b.*line 3: x",
    ):
        run(raw, train="cat/2.pn\ncat/1.jpg\nx\n")


def test_names_of_files_that_make_no_case_are_counted(raw, capsys):
    (raw / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (raw / "cat" / "torn.png").write_bytes((raw / "cat" / "2.png").read_bytes()[:-30])
    (raw / "corrections.csv").write_text("path,excluded\ncat/0.png,yes\n")
    names = "cat/broken.png\ntorn\ncat/0.png\ncat/1.jpg\ndog/3.jpg\n"
    done = run(raw, train=names, params={"exclude": ("dog/3.jpg",)})
    assert done.counts["split_files"] == {"train": {"names": 5, "without_case": 4}}
    assert "4 of 5 names of train are of files that make no case" in capsys.readouterr().out
    assert by_path(done)["cat/1.jpg"] == "train"


def test_a_case_in_two_lists_is_an_error_that_names_both_lines(raw):
    with pytest.raises(UserError, match=r"test.txt, line 2: cat/0.png is in train already, by .*train.txt, line 1"):
        run(raw, train="cat/0.png\n", test="dog/0.png\ncat\n")


def test_a_group_on_two_sides_of_the_lists_is_an_error_or_goes_into_training(raw):
    (raw / "cat" / "copy.png").write_bytes((raw / "cat" / "0.png").read_bytes())
    lists = {"train": "cat/0.png\ndog/0.png\n", "test": "cat/copy.png\ndog/1.jpg\n"}
    with pytest.raises(
        UserError, match=r"1 group\(s\) .* on two sides .*\n  cat/0.png \(train\) and cat/copy.png \(test\)"
    ):
        run(raw, **lists)
    assert by_path(run(raw, **lists, params={"same_group": "train"}))["cat/copy.png"] == "train"


def test_a_copy_of_a_series_in_the_other_list_is_an_error(tmp_path):
    raw = tmp_path / "raw"
    write_series(raw / "x" / "one")
    write_series(raw / "x" / "two")
    with pytest.raises(UserError, match="is in train already"):
        run(raw, train="one\n", test="two\n")
    shutil.rmtree(raw / "lists")
    assert set(by_path(run(raw, train="x/one\nx/two\n")).values()) == {"train"}


def test_lists_and_files_in_an_archive_are_read_where_they_lie(raw, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "challenge.zip", "w") as archive:
        for path in sorted(raw.rglob("*.*")):
            archive.write(path, path.relative_to(raw))
        archive.writestr("train.txt", "cat/0\ndog/0.png\n")
    found = by_path(ingest(packed, tmp_path / "out", split_files={"train": "train.txt"}))
    assert {path for path, split in found.items() if split == "train"} == {"cat/0.png", "dog/0.png"}


def test_lists_beside_a_split_of_another_kind_are_an_error(raw):
    lines = [f"{c}/{i}.{'jpg' if i % 2 else 'png'},{c},train" for c in ("cat", "dog") for i in range(4)]
    (raw / "labels.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    with pytest.raises(UserError, match="ingest.split_files is set, and labels.csv's column split"):
        run(raw, train="cat/0.png\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no names"), ("\n \n", "holds no names"), ("x" * 5000, "line 1: it has 5000 characters")],
)
def test_a_list_without_names_is_an_error(raw, text, message):
    with pytest.raises(UserError, match=message):
        run(raw, train=text)


def test_a_list_that_is_missing_or_no_text_is_an_error(raw):
    with pytest.raises(UserError, match="train.txt not found: put it there"):
        ingest(raw, raw.parent / "out", split_files={"train": "train.txt"})
    (raw / "train.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        ingest(raw, raw.parent / "out", split_files={"train": "train.txt"})


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.txt", "", "a/../../b"])
def test_a_list_lies_in_the_raw_data(name):
    with pytest.raises(ValueError, match="expected a path below data/raw/<name>, without .."):
        IngestParams(split_files={"train": name})
    with pytest.raises(ValueError, match="names one file twice"):
        IngestParams(split_files={"train": "a.txt", "test": "./a.txt"})
