"""Columns of labels.csv that ingest does not know: named, and kept where params.yaml names them."""

import pydicom
import pytest

from stages import split
from stages.lib.core import tables
from stages.lib.core.errors import UserError
from stages.lib.params.ingest import IngestParams
from stages.lib.params.split import SplitParams
from tests.raw_data import ingest, write_pictures, write_series
from tools.browse.listing import _facts

FILES = ["cat/0.png", "cat/1.jpg", "dog/0.png", "dog/1.jpg"]
TABLE = "path,label,Sex,split,kvp,age,note\n" + (
    "cat/0.png,cat,f,,070,007,\ncat/1.jpg,cat,,,120,1e3,=1+1\ndog/0.png,dog,m,,x,NA,\ndog/1.jpg,dog,m,,,40,\n"
)


@pytest.fixture
def raw(tmp_path):
    write_pictures(tmp_path / "raw", each=2)
    (tmp_path / "raw" / "labels.csv").write_text(TABLE)
    return tmp_path / "raw"


def run(raw, *columns: str, **params):
    return ingest(raw, raw.parent / "out", columns=columns, **params)


def by_path(done) -> "dict[str, dict[str, str]]":
    """The rows of cases.csv by the file of each case."""
    files = tables.parse_text((done.folder / "files.csv").read_bytes()).set_index("case")["path"]
    table = tables.parse_text(done.cases_csv.read_bytes())
    return {files[row["case"]]: row for row in table.to_dict("records")}


def test_columns_that_are_named_are_kept_as_text_beside_the_pipelines_own(raw, capsys):
    done = run(raw, "sex", "kvp", "age", "note")
    assert "not used" not in capsys.readouterr().out
    found = by_path(done)
    assert [found[path]["labels.sex"] for path in FILES] == ["f", "", "m", "m"]
    assert [found[path]["labels.kvp"] for path in FILES] == ["070", "120", "x", ""]
    assert [found[path]["labels.age"] for path in FILES] == ["007", "1e3", "NA", "40"]
    assert [found[path]["labels.note"] for path in FILES] == ["", "=1+1", "", ""]
    assert {row["kvp"] for row in found.values()} == {""}  # the header's, of which a picture has none
    assert done.counts["columns"] == {
        "labels.sex": {"values": 2, "blank": 1},
        "labels.kvp": {"values": 3, "blank": 1},
        "labels.age": {"values": 4, "blank": 0},
        "labels.note": {"values": 1, "blank": 3},
    }


def test_what_is_not_named_is_listed_and_leaves_the_raw_data_in_no_file(raw, capsys):
    done = run(raw, "sex")
    assert "labels.csv: not used: kvp, age, note (ingest.columns keeps" in capsys.readouterr().out
    assert [name for name in done.table if name.startswith("labels.")] == ["labels.sex"]
    without = ingest(raw, raw.parent / "without")
    assert "columns" not in without.counts and not [n for n in without.table if n.startswith("labels.")]


def test_opting_in_decodes_nothing_again(raw, decoded):
    run(raw)
    before = len(decoded)
    run(raw, "sex")
    assert len(decoded) == before == 4


def test_the_stages_and_pages_behind_read_a_table_with_further_columns(raw):
    done = run(raw, "sex", "note")
    cases = tables.parse_text(done.cases_csv.read_bytes())
    assert "labels.sex" in _facts(cases)
    without = ingest(raw, raw.parent / "without")
    tables_of = []
    for one in (done, without):
        split.main(one.cases_csv, one.folder / "split.csv", SplitParams(validation=0.0, test=0.5))
        tables_of.append((one.folder / "split.csv").read_text())
    assert tables_of[0] == tables_of[1]


def test_a_given_split_and_further_columns_stand_side_by_side(raw):
    (raw / "labels.csv").write_text(TABLE.replace("f,,", "f,test,").replace("m,,", "m,train,"))
    found = by_path(run(raw, "sex"))
    assert [(found[p]["split"], found[p]["labels.sex"]) for p in FILES] == [
        ("test", "f"), ("", ""), ("train", "m"), ("train", "m")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("sexe",), r"ingest.columns names sexe, and .*labels.csv has no such column: did you mean sex\?"),
        (("weight",), "no such column: known are sex, kvp, age, note"),
        (("group",), "ingest.columns names group, which ingest reads itself"),
    ],
)
def test_a_column_that_is_not_there_or_is_read_anyway_is_an_error(raw, columns, message):
    with pytest.raises(UserError, match=message):
        run(raw, *columns)


def test_class_folders_have_no_columns(raw):
    (raw / "labels.csv").unlink()
    with pytest.raises(UserError, match="ingest.columns is sex, and there is no .*labels.csv: write one"):
        run(raw, "sex")


def test_names_of_columns_are_read_as_the_header_is_and_given_once():
    assert IngestParams(columns=(" Sex", "AGE")).columns == ("sex", "age")
    for wrong in (("sex", "Sex"), (" ",), ("a\nb",)):
        with pytest.raises(ValueError, match="expected names, each once"):
            IngestParams(columns=wrong)


@pytest.mark.parametrize("cell", ['"a\nb"', "a\x1b", "x" * 5000])
def test_a_cell_that_is_no_line_of_text_is_an_error_that_does_not_quote_it(raw, cell):
    (raw / "labels.csv").write_text(TABLE.replace("070", cell))
    with pytest.raises(UserError, match=r"row 2: kvp (is no line of text in UTF-8: mend it|has 5000 characters)"):
        run(raw, "kvp")
    assert run(raw, "sex").counts["cases"] == 4


def test_slices_whose_rows_disagree_are_an_error_that_names_the_rows_and_no_value(tmp_path):
    raw = tmp_path / "raw"
    write_series(raw / "s1")
    files = sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    lines = [f"{path},x,{'Miller' if i == 3 else 'Jones'}" for i, path in enumerate(files)]
    (raw / "labels.csv").write_text("path,label,reader\n" + "\n".join(lines) + "\n")
    with pytest.raises(UserError, match="has two values of the column reader, in row . .* and row . ") as error:
        run(raw, "reader")
    assert "Miller" not in str(error.value) and "Jones" not in str(error.value)
    assert run(raw).counts["cases"] == 1


def test_a_copy_of_a_series_agrees_with_the_series_or_is_an_error(tmp_path):
    raw = tmp_path / "raw"
    write_series(raw / "one")
    write_series(raw / "two")
    (raw / "labels.csv").write_text("path,label,reader\none,x,a\ntwo,x,b\n")
    with pytest.raises(UserError, match="is a copy of .*, but they have two values of the column reader"):
        run(raw, "reader")
    (raw / "labels.csv").write_text("path,label,reader\none,x,a\ntwo,x,a\n")
    assert run(raw, "reader").table["labels.reader"].tolist() == ["a"]


def test_rows_about_series_bring_their_columns(tmp_path):
    raw = tmp_path / "raw"
    for name in ("one", "two"):
        write_series(raw / name, series=name, patient=name)
    uids = [pydicom.dcmread(next((raw / name).iterdir())).SeriesInstanceUID for name in ("one", "two")]
    (raw / "labels.csv").write_text("series,label,site\n" + f"{uids[0]},x,north\n{uids[1]},x,south\n")
    assert sorted(run(raw, "site").table["labels.site"]) == ["north", "south"]


def test_equal_pixels_keep_the_columns_of_their_own_rows(raw):
    (raw / "cat" / "2.png").write_bytes((raw / "cat" / "0.png").read_bytes())
    (raw / "labels.csv").write_text(TABLE + "cat/2.png,cat,m,,,,\n")
    found = by_path(run(raw, "sex"))
    assert (found["cat/0.png"]["labels.sex"], found["cat/2.png"]["labels.sex"]) == ("f", "m")
    assert found["cat/0.png"]["group"] == found["cat/2.png"]["group"]


def test_a_correction_of_a_label_leaves_the_columns_and_a_case_that_it_leaves_out_takes_its_own_along(raw):
    (raw / "corrections.csv").write_text("path,label,excluded\ncat/1.jpg,dog,\ndog/0.png,,yes\n")
    found = by_path(run(raw, "sex", "age"))
    assert {path: (row["label"], row["labels.age"]) for path, row in found.items()} == {
        "cat/0.png": ("cat", "007"), "cat/1.jpg": ("dog", "1e3"), "dog/1.jpg": ("dog", "40")
    }  # fmt: skip


def test_two_patterns_that_fit_a_file_agree_on_its_columns(raw):
    (raw / "labels.csv").write_text("path,label,sex\ncat/*,cat,f\n*/0.png,cat,m\ndog/1.jpg,dog,m\n")
    with pytest.raises(UserError, match=r"row 3: '\*/0.png' fits cat/0.png, and so does 'cat/\*' in row 2"):
        run(raw, "sex")
