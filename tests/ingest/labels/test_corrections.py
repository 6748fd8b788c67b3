"""corrections.csv: labels that somebody has found wrong, and cases to leave out."""

import pytest

from stages.lib.core.errors import UserError
from tests.raw_data import ingest, write_pictures, write_series
from tests.raw_data import scan as volume

HEADER = "path,label,excluded,note\n"


@pytest.fixture
def raw(tmp_path):
    write_pictures(tmp_path / "raw", each=4)
    return tmp_path / "raw"


def run(raw, text, **params):
    (raw / "corrections.csv").write_text(text)
    return ingest(raw, raw.parent / "out", **params)


def test_a_corrected_case_has_its_new_label_and_an_excluded_one_is_ignored_and_both_are_counted(raw, capsys):
    done = run(raw, HEADER + "cat/0.png, dog ,,looks like a dog\n\ncat/1.jpg,,yes,blurred\ndog/0.png,,no,fine\n")
    assert done.counts["classes"] == {"cat": 2, "dog": 5}
    assert done.counts["corrected"] == {"relabelled": {"cat -> dog": 1}, "excluded": 1, "without_case": 0}
    assert done.counts["ignored"] == {"excluded": 1} and done.counts["files"]["total"] == 8
    assert done.reason("cat/1.jpg") == "excluded"
    assert "labels changed: 1, cases left out: 1" in capsys.readouterr().out


def test_without_corrections_nothing_is_said_of_them(raw):
    assert "corrected" not in ingest(raw, raw.parent / "out").counts


def test_labels_csv_is_corrected_like_folders_and_the_table_is_no_case(raw):
    rows = [f"{folder}/{name},{folder}" for folder in ("cat", "dog") for name in ("0.png", "1.jpg", "2.png", "3.jpg")]
    (raw / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    assert run(raw, "path,label\ndog/3.jpg,cat\n").counts["classes"] == {"cat": 5, "dog": 3}


def test_a_series_is_named_by_any_of_its_files(tmp_path):
    for i in range(4):
        write_series(tmp_path / "raw" / "ab"[i % 2] / f"p{i}", volume() + i, series=f"s{i}", patient=f"p{i}")
    files = [sorted((tmp_path / "raw" / folder).iterdir())[2] for folder in ("a/p0", "b/p1")]
    one, other = (path.relative_to(tmp_path / "raw").as_posix() for path in files)
    done = run(tmp_path / "raw", f"{HEADER}{one},b,,\n{other},,yes,\n")
    assert done.counts["classes"] == {"a": 1, "b": 2}
    assert done.counts["ignored"] == {"excluded": len(volume())}


def test_a_correction_of_a_file_that_can_not_be_read_changes_nothing_and_is_counted(raw):
    (raw / "cat" / "broken.png").write_text("no picture")
    assert run(raw, HEADER + "cat/broken.png,dog,,\n").counts["corrected"]["without_case"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,why\n", "has the columns path, label, why: expected path, label, excluded, note"),
        ("label,excluded\n", "expected path, label, excluded, note"),
        (HEADER + "cat/0.png,dgo,,\n", "row 2: 'dgo' is no class: did you mean dog"),
        (HEADER + "cat/9.png,dog,,\n", "row 2: path 'cat/9.png' is no file of a case"),
        (HEADER + "cat/0.png,dog,maybe,\n", "row 2: excluded is 'maybe', expected yes or nothing"),
        (HEADER + "cat/0.png,dog,,\ncat/0.png,,yes,\n", "row 3: row 2 is about the same case"),
        (HEADER + "cat/0.png,dog\n", "row 2: expected as many values"),
        (HEADER + ",dog,,\n", "row 2: path is empty"),
        (HEADER + 'cat/0.png,"dog,,\n', "unexpected end of data"),
    ],
)
def test_a_doubtful_row_is_an_error_that_names_it(raw, text, said):
    with pytest.raises(UserError, match=said):
        run(raw, text)


@pytest.mark.parametrize(
    "name", ["Corrections.csv", "correction.csv", "corrections.txt", "corrections.CSV", "corrections.xlsx"]
)
def test_a_table_that_is_called_nearly_so_is_not_passed_over(raw, name):
    (raw / name).write_text(HEADER + "cat/0.png,dog,,\n")
    with pytest.raises(UserError, match=f"{name} is not read: call it corrections.csv"):
        ingest(raw, raw.parent / "out")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheets_own_separator_is_read(raw, separator):
    done = run(raw, (HEADER + "cat/0.png,dog,,\n").replace(",", separator))
    assert done.counts["classes"] == {"cat": 3, "dog": 5}


def test_rows_about_files_that_make_no_case_are_counted_and_told(raw, capsys):
    (raw / "cat" / "broken.png").write_text("no picture")
    done = run(raw, HEADER + "cat/broken.png,dog,,\n")
    assert done.counts["corrected"] == {"relabelled": {}, "excluded": 0, "without_case": 1}
    assert "rows about files that make no case: 1" in capsys.readouterr().out
