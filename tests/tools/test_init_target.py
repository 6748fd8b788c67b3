"""tools.init proposes what else than a class labels.csv asks for, says why, and guesses nothing between two."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest.archives.members import NONE
from tests.demos import needs_demos
from tests.raw_data import ingest
from tests.tools.test_init import project, section
from tools.init.__main__ import begin
from tools.init.target import propose

__all__ = ["project"]
pytestmark = [needs_demos, pytest.mark.usefixtures("alone")]
NUMBERS = [f"{4 + 1.5 * i:g}" for i in range(12)]


def written(folder: Path, header: str, cells: list[str]) -> Path:
    """A folder of pictures and a labels.csv."""
    folder.mkdir()
    for i in range(len(cells)):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12), np.uint8)
        imageio.imwrite(folder / f"{i:02}.png", pixels)
    rows = [f"{i:02}.png,{cell}\n" for i, cell in enumerate(cells)]
    (folder / "labels.csv").write_text(f"{header}\n" + "".join(rows))
    return folder


def test_a_table_of_file_names_and_a_number_gets_going_as_it_is(project, tmp_path, capsys):
    begin("mine", written(tmp_path / "raw", "filename,Diameter_mm", NUMBERS))
    target = section().target
    assert (target.kind, target.column, target.unit) == ("regression", "diameter_mm", "mm")
    text = Path("params.yaml").read_text()
    line = (
        '    target: {"kind": "regression", "column": "diameter_mm", "unit": "mm"}'
        "  # no column label, and 12 numbers from 4 to 20.5 in diameter_mm; unit by its name\n"
    )
    assert line in text
    printed = capsys.readouterr().out
    assert "target     regression: no column label, and 12 numbers" in printed
    assert "diameter_mm in mm: 4 to 20.5, half of them up to 12.25" in printed
    assert "its column filename is taken for path" in printed
    assert ingest(Path("data/raw/mine"), tmp_path / "out", target=target).counts["cases"] == 12


def test_columns_of_yes_and_no_are_labels(project, tmp_path, capsys):
    cells = ["1,yes,f", "0,no,f", "0,,m", "1,yes,m"]
    begin("mine", written(tmp_path / "raw", "path,mass,edema,sex", cells))
    target = section().target
    assert (target.kind, target.columns) == ("multilabel", ("mass", "edema"))
    assert "2 columns that say yes or no: mass, edema" in Path("params.yaml").read_text()
    assert "labels     2, by files that have them: mass 2, edema 2" in capsys.readouterr().out


@pytest.mark.parametrize("column", ["label", "tags"])
@pytest.mark.parametrize("sign", ["|", ";"])
def test_labels_of_one_cell_are_parted(project, tmp_path, capsys, column, sign):
    cells = [f"mass{sign}edema", "mass", f"edema{sign}mass", "edema"]
    begin("mine", written(tmp_path / "raw", f"path,{column}", cells))
    target = section().target
    assert (target.kind, target.column, target.separator) == ("multilabel", column, sign)
    assert "labels     2, by files that have them: edema 3, mass 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("path,label", ["cat", "dog"] * 3),
        ("path,label,size", [f"{'cd'[i % 2]},{n}" for i, n in enumerate(NUMBERS)]),
        ("path,label", ["left; right", "up; down"] * 3),  # no part is of two classes
        ("path,grade", ["0", "1", "2"] * 6),
        ("path,order", [str(i) for i in range(20)]),
        ("path,patient", NUMBERS),
        ("path,mass", ["1", "0"] * 6),
        ("path,note", [f"seen on day {i}; by eye" for i in range(12)]),
        ("path,size", [*NUMBERS, "large"]),
    ],
)
def test_what_is_not_clear_is_not_proposed(tmp_path, header, cells):
    found = propose(written(tmp_path / "raw", header, cells), NONE)
    assert found is None


@pytest.mark.parametrize(
    ("header", "cells", "wanted"),
    [
        ("filename,ann,bob", ["none,mild", "severe,severe", "mild,", "none,none"] * 3, {"readers": ["ann", "bob"]}),
        ("filename,ann,bob,weight", ["0,1,1", "2,2,0.5", "1,1,1", "3,,2"] * 3, {"readers": ["ann", "bob"]}),
        ("path,p_cat,p_dog", ["0.25,0.75", "0.6,0.4", "1,0", "0.333,0.667"] * 3, {"columns": ["p_cat", "p_dog"]}),
        ("path,p_cat,p_dog,size", ["0.2,0.8,5", "0.6,0.4,5", "1,0,7", "0,1,7"] * 3, {"columns": ["p_cat", "p_dog"]}),
        ("path,cat,dog,owl", ["3,0,0", "2,1,0", "0,0,3", "1,1,1"], {"columns": ["cat", "dog", "owl"]}),
        ("image,mel,nv,bcc", ["1.0,0.0,0.0", "0.0,1.0,0.0", "0.0,0.0,1.0"] * 2, {"columns": ["mel", "nv", "bcc"]}),
    ],
)
def test_readers_and_shares_of_classes_are_told_by_what_they_say(project, tmp_path, header, cells, wanted):
    raw = written(tmp_path / "raw", header, cells)
    found = propose(raw, NONE)
    assert found is not None and found[0] == wanted
    begin("mine", raw)
    target = section().target
    assert target.kind == "classes" and list(target.columns or target.readers) == next(iter(wanted.values()))


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("path,sex,smoker", ["f,yes", "m,no", "f,no", "m,yes"]),  # no words in common
        ("path,ann,note", ["none,well seen", "mild,blurred", "none,dark", "severe,mild"]),
    ],
)
def test_columns_that_say_different_things_are_no_readers(tmp_path, header, cells):
    assert propose(written(tmp_path / "raw", header, cells), NONE) is None


def test_numbers_that_differ_by_factors_are_told_of_the_logarithm(tmp_path):
    found = propose(written(tmp_path / "raw", "path,volume_ml", [f"{2**i}" for i in range(12)]), NONE)
    assert found is not None and "log" not in found[0] and "log: true learns what differs by factors" in found[1]


def test_what_may_be_one_of_two_is_asked(project, tmp_path):
    raw = written(tmp_path / "raw", "path,width,height", [f"{n},{n}5" for n in NUMBERS])
    with pytest.raises(UserError, match="regression of width .*; regression of height .* Call the column"):
        begin("mine", raw)
    assert not Path("data").exists()


def test_without_a_unit_in_its_name_the_comment_asks_for_one(tmp_path):
    found = propose(written(tmp_path / "raw", "path,age", NUMBERS), NONE)
    assert found is not None
    target, why = found
    assert target == {"kind": "regression", "column": "age"} and why.endswith("; add their unit")
