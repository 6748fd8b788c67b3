"""Every stage checks the outs that it reads: one that is damaged gives a message that names it, and changes nothing."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from stages.lib import command, splits, tensors
from stages.lib.core.errors import DamagedOut
from stages.lib.export import validation
from tests import ROOT
from tools.fuzz_outs import STRANGE, contents, make, run

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    make(folder / "pictures", last="train")
    make(folder / "volumes", volumes=True, last="train")
    return folder


def fault(sound: Path, folder: Path, stage: str, name: str, edit: Edit, kind: str = "pictures") -> str:
    """What a stage says of a damaged out, which it names; nothing of what lay there has changed."""
    tiny = folder / "tiny"
    shutil.rmtree(tiny, ignore_errors=True)
    shutil.copytree(sound / kind, tiny)
    edit(tiny / name)
    before = contents(tiny)
    with pytest.raises(DamagedOut) as raised:
        run(stage, tiny)
    assert contents(tiny) == before
    named = tiny / name
    assert any(named == path or path in named.parents or named in path.parents for path in raised.value.paths)
    return raised.value.fault


def replaced(old: str, new: str, count: int = 1) -> Edit:
    def edit(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    return edit


def rows(change: Callable[[list[str]], object]) -> Edit:
    def edit(path: Path) -> None:
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines) + "\n")

    return edit


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


READERS = [
    ("split", "cases.csv"),
    ("statistics", "split.csv"),
    ("statistics", "cases/0.h5"),
    ("dataset", "split.csv"),
    ("dataset", "statistics.json"),
    ("dataset", "cases/1.h5"),
    ("train", "dataset.h5"),
    ("validate", "dataset.h5"),
    ("validate", "model.pt"),
    ("validate", "history.csv"),
    ("export", "dataset.h5"),
    ("export", "model.pt"),
    ("export", "validate.json"),
]


@pytest.mark.parametrize("edit", [truncated, emptied, missing, a_folder, a_link_to_itself])
@pytest.mark.parametrize(("stage", "name"), READERS)
def test_an_out_that_is_cut_short_or_gone_or_no_file_is_named(sound, tmp_path, stage, name, edit):
    def prepare(path: Path) -> None:
        if name == "validate.json":
            path.write_text(json.dumps(VALIDATION, indent=1))
        edit(path)

    assert fault(sound, tmp_path, stage, name, prepare)


SPLIT = [
    (replaced(",train\n", ",trian\n"), r"row \d+: the split is 'trian': expected one of train, validation, test"),
    (rows(lambda lines: lines.append(lines[3])), "row 37: case .* is there twice"),
    (rows(lambda lines: lines.pop(3)), "not of the same cases: the one lacks 1 (.*), the other none"),
    (rows(lambda lines: lines.append("f" * 16 + ",g,a,train")), "the one lacks none, the other 1 "),
    (rows(lambda lines: lines.insert(1, lines.pop(2))), "in another order"),
    (replaced("case,group,label,split", "case,group,label,side"), "its columns are case, group, label, side, not"),
    (replaced("0000000000000000,0000000000000000", "0000000000000000,"), "row 1: no group"),
    (
        replaced("0000000000000000,0000000000000000", "0000000000000000,é"),
        "row 1: the group 'é' is not of 1 to 16 ASCII",
    ),
    (
        replaced("0000000000000000,0000000000000000", f"0000000000000000,{'0' * 17}"),
        "row 1: the group '0{17}' is not of",
    ),
    (rows(lambda lines: lines.__setitem__(5, lines[5] + ",")), "Expected 4 fields"),
    (rows(lambda lines: lines.__setitem__(slice(1, None), [line + "," for line in lines[1:]])), "more cells"),
    (rows(lambda lines: lines.__setitem__(1, lines[1].rpartition(",")[0])), "row 1: no split"),
    (rows(lambda lines: lines.__delitem__(slice(1, None))), "it has no rows"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its last line is cut short"),
    (lambda path: path.write_bytes(path.read_bytes() + b"\xff,a,b,train\n"), "the case '.' is not of 1 to 16 ASCII"),
    (lambda path: path.write_bytes(path.read_bytes() + b"a,a,\xff,train\n"), "can't decode byte 0xff"),
]


@pytest.mark.parametrize(("edit", "said"), SPLIT)
@pytest.mark.parametrize("stage", ["statistics", "dataset"])
def test_a_split_is_read_as_one_sound_row_for_each_case(sound, tmp_path, stage, edit, said):
    assert re.search(said, fault(sound, tmp_path, stage, "split.csv", edit))


def test_a_group_in_two_splits_and_a_class_without_training_are_named(tmp_path):
    def read(*lines: str) -> None:
        (tmp_path / "split.csv").write_text("\n".join(["case,group,label,split", *lines, ""]))
        splits.read(tmp_path / "split.csv")

    with pytest.raises(DamagedOut, match="row 1: group g is in two splits, and 1 more rows likewise"):
        read("1,g,a,train", "2,h,a,train", "3,g,a,test")
    with pytest.raises(DamagedOut, match="row 2: class 'b' has no case in the training split"):
        read("1,g,a,train", "2,h,b,test")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (rows(lambda lines: lines.append(lines[3])), "is there twice"),
        (replaced("label", "lable"), "its columns are case, group, lable"),
        (replaced("0000000000000000,0000000000000000", ",0000000000000000"), "row 1: no case"),
    ],
)
def test_cases_csv_is_read_as_one_sound_row_for_each_case(sound, tmp_path, edit, said):
    assert said in fault(sound, tmp_path, "split", "cases.csv", edit)


def leaf(*keys: str | int, value: object) -> Edit:
    """Sets a leaf of a JSON file."""

    def edit(path: Path) -> None:
        tree = json.loads(path.read_text())
        place = tree
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(json.dumps(tree))

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (leaf("channels", 0, "mean", value=float("nan")), "channels.0.mean: Input should be a finite number"),
        (leaf("channels", 0, "mean", value="1"), "channels.0.mean"),
        (leaf("channels", 0, "counts", value=[1]), "edges and counts"),
        (leaf("channels", value=[]), "it has 0 channels"),
        (leaf("version", value=2), "version: Unexpected keyword argument"),
        (leaf("splits", "test", "NA", value=1), "they are of different splits"),
        (leaf("shape", "H", "median", value=1e15), "they are of different cases"),
        (leaf("dtype", value="uint16"), "they are of different cases"),
        (lambda path: path.write_text("[" * 100_000), "recursion limit"),
    ],
)
def test_statistics_are_finite_and_of_these_cases_and_this_split(sound, tmp_path, edit, said):
    assert said in fault(sound, tmp_path, "dataset", "statistics.json", edit)


def stored(name: str, change: Callable[[np.ndarray], object]) -> Edit:
    """Changes an array of an HDF5 file."""

    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = file[name][()]
            change(values)
            file[name][()] = values

    return edit


def field(name: str, value: object) -> Edit:
    return stored("index", lambda index: index[name].__setitem__(2, value))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (field("case", b"0"), "not in order"),
        (field("shape", (3, 2**62, 4)), "impossible shape"),
        (field("shape", (3, -1, 4)), "impossible shape"),
        (field("offset", -8), "its index does not fit its pixels"),
        (field("dtype", b"int16"), "its index does not fit its pixels"),
        (field("spacing_mm", (0, 1)), "a spacing that is no positive number"),
        (lambda path: shutil.copy(path, path.with_name("2.h5")), "there twice"),
        (lambda path: path.unlink(), "not of the same cases"),
        (lambda path: shutil.copy(path.parents[2] / "volumes.h5", path.with_name("2.h5")), "other axes or units"),
    ],
)
def test_the_cases_fill_their_pieces_and_are_there_once(sound, tmp_path, edit, said):
    shutil.copy(sound / "volumes" / "cases" / "0.h5", tmp_path / "volumes.h5")
    assert said in fault(sound, tmp_path, "statistics", "cases/0.h5", edit)


def test_a_pixel_that_is_no_number_is_named(sound, tmp_path):
    def edit(path: Path) -> None:
        for piece in path.iterdir():
            with h5py.File(piece, "r+") as file:
                index, pixels = file["index"][:], file["pixels/uint8"][:].astype("float32")
                pixels[7] = np.nan
                index["dtype"] = b"float32"
                del file["pixels/uint8"]
                file["pixels/float32"], file["index"][:] = pixels, index

    assert "nan or infinite" in fault(sound, tmp_path, "statistics", "cases", edit)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (stored("train/y", lambda y: y.__setitem__(0, 3)), "a case of train has a class that is not described"),
        (stored("train/y", lambda y: y.__setitem__(0, -1)), "a class that is not described"),
        (stored("train/case", lambda case: case.__setitem__(1, case[0])), "there twice"),
        (stored("test/group", lambda group: group.__setitem__(0, b"")), "no name or no group"),
        (stored("test/group", lambda group: group.__setitem__(0, b"\xff")), "no ASCII text"),
    ],
)
def test_the_tensors_have_sound_labels_and_names(sound, tmp_path, edit, said):
    assert said in fault(sound, tmp_path, "train", "dataset.h5", edit)


def test_tensors_whose_splits_share_a_case_or_a_group_are_refused(sound, tmp_path):
    def shared(what: str) -> Edit:
        def edit(path: Path) -> None:
            with h5py.File(path, "r+") as file:
                last = file[f"train/{what}"][-1:]
                file[f"test/{what}"][-1:] = max(last, file[f"test/{what}"][-1:])
                file[f"train/{what}"][-1:] = file[f"test/{what}"][-1:]

        return edit

    for what in ("case", "group"):
        assert "is in two splits" in fault(sound, tmp_path, "train", "dataset.h5", shared(what))


def described(**changed: object) -> Edit:
    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            about = json.dumps(json.loads(file["description"][()]) | changed)
            del file["description"]
            file["description"] = np.bytes_(about)

    return edit


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": ["a", "b, c"]},
        {"classes": ["a", "a", "NA"]},
        {"axes": "NCDHW"},
        {"shape": [3, 6, 10**9]},
        {"shape": [3, 6]},
        {"dtype": "object"},
        {"spacing_mm": [1.0]},
        {"geometry": {}},
        {"moments": {}},
        {"moments": {name: [float("inf")] * 3 for name in tensors.MOMENTS}},
        {"more": 1},
    ],
)
def test_a_description_that_is_not_of_the_tensors_is_refused(sound, tmp_path, changed):
    assert fault(sound, tmp_path, "train", "dataset.h5", described(**changed))


@pytest.mark.parametrize("way", STRANGE)
@pytest.mark.parametrize(
    ("stage", "file", "array"),
    [("statistics", "cases/0.h5", "index"), ("train", "dataset.h5", "train/x"), ("train", "dataset.h5", "description")],
)
def test_an_array_that_is_elsewhere_or_packed_or_of_another_kind_or_huge_is_refused(
    sound, tmp_path, way, stage, file, array
):
    def edit(path: Path) -> None:
        with h5py.File(path, "r+", libver="v110") as opened:
            place, value = opened[array].parent, opened[array][()]
            del opened[array]
            STRANGE[way](place, array.rpartition("/")[2], value)

    assert fault(sound, tmp_path, stage, file, edit)


@pytest.mark.parametrize("value", ["CHW", np.bytes_("CWH"), np.bytes_(b"\xff"), np.bytes_(b"C" * 60_000), 3])
def test_an_attribute_that_is_no_known_word_of_a_fixed_length_is_refused(sound, tmp_path, value):
    """A string of any length lies in the file's heap; one damaged byte there, and HDF5 reads it without an end."""

    def edit(path: Path) -> None:
        with h5py.File(path, "r+", libver="v110") as opened:
            opened.attrs["axes"] = value

    assert "attribute axes" in fault(sound, tmp_path, "statistics", "cases/0.h5", edit)


def test_nothing_of_the_cases_lies_in_hdf5s_heap(sound):
    assert b"GCOL" not in (sound / "pictures" / "cases" / "0.h5").read_bytes()


def recipe(change: Callable[[dict], object]) -> Edit:
    def edit(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return edit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["recipe"]["arguments"].update(widths=[10**9]), "larger than the weights that it holds"),
        (lambda file: file["recipe"]["arguments"].update(widths="x"), ""),
        (lambda file: file["recipe"].update(network="nothing"), "network 'nothing' is unknown"),
        (lambda file: file["recipe"].update(description={}), "classes: Field required"),
        (lambda file: file["recipe"]["normalise"].update(low=[float("nan")] * 3), "not one number for each"),
        (lambda file: file["recipe"]["normalise"].pop("scale"), "not one number for each"),
        (lambda file: file.pop("weights"), "no checkpoint"),
        (lambda file: file["weights"].popitem(), "weights are not those of the network"),
        (lambda file: file.update(weights=3), ""),
        (lambda file: file.update(recipe=[]), ""),
    ],
)
def test_a_recipe_that_does_not_fit_its_weights_is_refused_before_it_takes_memory(sound, tmp_path, change, said):
    assert said in fault(sound, tmp_path, "validate", "model.pt", recipe(change))


SETTINGS = {
    "temperature": 1.0,
    "flips": "W",
    "unlike_means": [0.0] * 4,
    "unlike_deviations": [1.0] * 4,
    "unlike_threshold": 2.0,
}
VALIDATION = {
    "validation": {"accuracy": 1.0},
    "test": {"accuracy": 1.0, "auroc": None},
    "test_interval": {"accuracy": [None, 1.0]},
    "deployed": SETTINGS,
    "unlike": {},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"flips": "X"},
        {"unlike_means": [0.0]},
        {"unlike_deviations": [0.0] * 4},
        {"unlike_threshold": None},
        {"more": 1},
    ],
)
def test_settings_that_no_model_can_be_deployed_with_are_refused(sound, tmp_path, changed):
    def edit(path: Path) -> None:
        path.write_text(json.dumps(VALIDATION | {"deployed": SETTINGS | changed}))

    assert "deployed" in fault(sound, tmp_path, "export", "validate.json", edit)


def test_a_damaged_out_says_how_to_get_it_back():
    def ways(*paths: str) -> str:
        return command.in_full(DamagedOut("no rows", *map(Path, paths)), ROOT / "dvc.yaml")

    assert ways("data/mine/cases/0.h5") == (
        "data/mine/cases/0.h5: no rows; `dvc checkout --force data/mine/cases` brings back what was committed; "
        "`dvc repro --force --single-item ingest@mine` makes it anew"
    )
    both = ways("metrics/mine/statistics.json", "data/mine/split.csv")
    assert "`dvc checkout --force data/mine/split.csv` and `git checkout -- metrics/mine/statistics.json`" in both
    assert "`dvc repro --force --single-item split@mine statistics@mine`" in both
    assert ways("elsewhere/split.csv") == "elsewhere/split.csv: no rows"


def test_a_damaged_out_is_known_to_the_other_processes_of_a_training():
    sent = pickle.loads(pickle.dumps(DamagedOut("no rows", Path("data/mine/split.csv"))))
    assert (str(sent), sent.paths) == ("data/mine/split.csv: no rows", (Path("data/mine/split.csv"),))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"uncalibrated": {}}, "uncalibrated.test.calibration_error is missing"),
        ({"uncalibrated": {"test": {}}}, "uncalibrated.test.calibration_error is missing"),
        ({"uncalibrated": {"test": {"calibration_error": 0.1}}}, ": test.calibration_error is missing"),
    ],
)
def test_calibration_that_the_card_would_miss_is_named(tmp_path, changed, said):
    path = tmp_path / "validate.json"
    path.write_text(json.dumps(VALIDATION | changed))
    with pytest.raises(DamagedOut, match=said):
        validation.read(path)
