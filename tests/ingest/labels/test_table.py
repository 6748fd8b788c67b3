"""labels.csv and class folders: whatever leaves a label in doubt is an error that names it."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.colour import converted
from stages.lib.params.ingest import IngestParams, SelectParams
from tests.raw_data import ingest, scan, write_pictures, write_series

FILES = ["cat/0.png", "cat/1.jpg", "dog/0.png", "dog/1.jpg"]


@pytest.fixture
def raw(tmp_path):
    write_pictures(tmp_path / "raw", each=2)
    return tmp_path / "raw"


def run(raw, text: str | bytes, **params):
    content = text.encode() if isinstance(text, str) else text
    (raw / "labels.csv").write_bytes(content)
    return ingest(raw, raw.parent / "out", **params)


def rows(*more: str, header: str = "path,label") -> str:
    return "\n".join([header, *(f"{path},{path[:3]}" for path in FILES), *more]) + "\n"


def test_labels_csv_labels_files_and_folders(raw):
    assert run(raw, rows()).counts["classes"] == {"cat": 2, "dog": 2}
    assert run(raw, "path,label\ncat,feline\ndog,canine\n").counts["classes"] == {"canine": 2, "feline": 2}


@pytest.mark.parametrize(
    "text", ["\ufeff" + rows(), rows().replace(",", ";"), rows().replace(",", "\t"), rows().replace("\n", "\r\n")]
)
def test_byte_order_mark_semicolons_tabs_and_windows_line_ends_are_read(raw, text):
    assert run(raw, text).counts["classes"] == {"cat": 2, "dog": 2}


@pytest.mark.parametrize("note", ["\x85 and so on", "\x0b", "\u2028", '"two\nlines"', '"a ""quoted"" word"'])
def test_a_note_may_hold_what_other_programs_take_for_the_end_of_a_line(raw, note):
    lines = rows().splitlines()
    text = "\n".join([lines[0] + ",note", *(f"{line},{note}" for line in lines[1:])])
    assert run(raw, text).counts["classes"] == {"cat": 2, "dog": 2}


def test_excels_line_of_the_separator_is_read(raw):
    assert run(raw, "sep=;\n" + rows().replace(",", ";")).counts["classes"] == {"cat": 2, "dog": 2}
    with pytest.raises(UserError, match="row 7: label is empty"):
        run(raw, "sep=;\n" + rows("cat/0.png,").replace(",", ";"))


def test_a_row_for_a_file_that_is_left_out_says_so(raw, tmp_path):
    (raw / "labels.csv").write_text(rows())
    with pytest.raises(UserError, match="row 3: path 'cat/1.jpg' is left out by ingest.include or ingest.exclude"):
        ingest(raw, tmp_path / "out", exclude=("cat/1.jpg",))


def test_backslashes_are_folders_too(raw):
    assert run(raw, rows().replace("/", "\\")).counts["cases"] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows(header="path,class"), "no column label: .*found path, class; rename class to label"),
        (rows(header="file,image"), r"no column label"),
        (rows(header="Image_ID,Ground Truth"), "no column label.*; rename ground truth to label"),
        (rows(header="where,what"), "found where, what$"),
        ("path,label\n", "no rows"),
        (rows("cat/0.png,cat"), "row 6: 'cat/0.png' was in row 2 already"),
        (rows("cat/0.png,dog"), "row 6: 'cat/0.png' has the label 'dog', but 'cat' in row 2"),
        (rows("cat/2.png,cat"), "row 6: path 'cat/2.png' is no file or folder .*did you mean cat/"),
        (
            rows("../x.png,cat"),
            r"row 6: path '../x.png' is absolute or leads elsewhere: expected one relative to .*raw",
        ),
        (rows("/etc/passwd,cat"), "row 6: path '/etc/passwd' is absolute"),
        (rows("cat/0.png,"), "row 6: label is empty"),
        ('path,label,note\ncat/0.png,cat,"5 mm\ncat/1.jpg,cat,\n', "row 2: a quotation mark is opened and not closed"),
        ('path,label\ncat/0.png,"no\ncrack"\n', r"row 2: the label 'no\\ncrack' is no line of text"),
        ('path,label\ncat/0.png,"x"y\n', "row 2: a quotation mark is opened and not closed, or text follows it"),
        (rows("cat/0.png"), "row 6: expected as many values"),
        ("\n".join(rows().splitlines()[:-1]), r"1 case\(s\) without a label: dog/1.jpg"),
        ("path,label\nünlesbar,x\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_doubtful_table_is_an_error_that_names_row_and_value(raw, text, message):
    with pytest.raises(UserError, match=message):
        run(raw, text)


def test_a_group_column_makes_groups(raw):
    groups = dict(zip(FILES, ["p1", "p2", "p1", "p3"], strict=True))
    text = "path,label,group\n" + "".join(f"{path},{path[:3]},{group}\n" for path, group in groups.items())
    assert run(raw, text).counts["groups"] == 3


def test_a_pattern_finds_groups_in_paths(raw):
    done = ingest(raw, raw.parent / "out", group=r"/(\d)\.")
    assert done.counts["groups"] == 2
    with pytest.raises(UserError, match=r"finds no group in the path '"):
        ingest(raw, raw.parent / "out", group="(patient.*)")


def test_a_pattern_without_one_group_is_refused_with_the_params():
    with pytest.raises(ValueError, match="has 2 groups, expected one"):
        IngestParams(group="(a)(b)")


def test_series_can_be_labelled_by_their_uid(tmp_path):
    write_series(tmp_path / "raw" / "s1")
    uid = pydicom.dcmread(next((tmp_path / "raw" / "s1").iterdir())).SeriesInstanceUID
    assert run(tmp_path / "raw", f"series,label\n{uid},x\n").counts["classes"] == {"x": 1}
    with pytest.raises(UserError, match="row 3: no series '1.2.3' was read"):
        run(tmp_path / "raw", f"series,label\n{uid},x\n1.2.3,y\n")


def test_files_in_class_folders_that_are_nothing_are_errors_that_name_them(raw, tmp_path):
    (raw / "bird").mkdir()
    with pytest.raises(UserError, match=r"class folder .*bird holds no files"):
        ingest(raw, tmp_path / "out")
    (raw / "bird" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(UserError, match=r"class folder .*bird holds no files"):
        ingest(raw, tmp_path / "out")


def test_a_file_beside_the_class_folders_has_no_label(raw, tmp_path):
    (raw / "x.png").write_bytes((raw / "cat" / "0.png").read_bytes())
    with pytest.raises(UserError, match="without a label: x.png"):
        ingest(raw, tmp_path / "out")


def test_a_missing_folder_or_table_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="put the data there"):
        ingest(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.png").write_bytes(b"x")
    with pytest.raises(UserError, match="labels.csv not found"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_litter_is_ignored_and_counted_and_never_a_class(raw, tmp_path):
    for name in (".ipynb_checkpoints/0.png", "cat/._0.png", "dog/.DS_Store", "Thumbs.db", "__MACOSX/cat/0.png"):
        (raw / name).parent.mkdir(exist_ok=True, parents=True)
        (raw / name).write_bytes(b"x")
    done = ingest(raw, tmp_path / "out")
    assert done.counts["ignored"] == {"litter": 5}
    assert done.counts["classes"] == {"cat": 2, "dog": 2}
    assert done.counts["files"] == {"total": 9, "in_cases": 4, "rejected": 0, "ignored": 5, "set_aside": 0}


def test_equal_pixels_of_one_label_are_one_group_and_of_two_labels_an_error(raw, tmp_path):
    (raw / "cat" / "again.png").write_bytes((raw / "cat" / "0.png").read_bytes())
    done = ingest(raw, tmp_path / "out")
    assert (done.counts["duplicates"], done.counts["groups"], done.counts["cases"]) == (1, 4, 5)
    (copied,) = done.table.loc[done.table["copy_of"] != "", "copy_of"]
    assert copied in set(done.table["case"])
    (raw / "dog" / "again.png").write_bytes((raw / "cat" / "0.png").read_bytes())
    with pytest.raises(UserError, match=r"different labels.*\n.*cat/.* \(cat\)") as error:
        ingest(raw, tmp_path / "out")
    assert "dog/again.png (dog)" in str(error.value)


def test_colour_is_one_mode_for_all(raw, tmp_path):
    assert {p.shape[0] for p in ingest(raw, tmp_path / "out").pixels} == {3}
    grey = ingest(raw, tmp_path / "out", colour="grey_mean").pixels
    assert {p.shape[0] for p in grey} == {1}
    for path in raw.glob("*/*.jpg"):
        path.unlink()
    assert {p.shape[0] for p in ingest(raw, tmp_path / "out").pixels} == {1}


def test_grey_from_colour_is_the_mean_or_the_luminance():
    pixel = np.array([10, 20, 36], np.uint8).reshape(3, 1, 1)
    assert converted(pixel, 1, "grey_mean").item() == 22
    assert converted(pixel, 1, "grey_luminance").item() == 19  # 2.126 + 14.304 + 2.599


@pytest.mark.parametrize("label", ["sound\rcrack", "a\nb", "a\x1b[2J", "\udcff", "a\u2028b"])
def test_a_class_folder_whose_name_is_no_line_of_text_is_refused(raw, label):
    (raw / "cat").rename(raw / label)
    with pytest.raises(UserError, match=r"class folders: the label '.*\\.*' is no line of text in UTF-8: rename it"):
        ingest(raw, raw.parent / "out")


def test_a_label_in_labels_csv_is_a_line_of_text(raw):
    with pytest.raises(UserError, match=r"labels.csv, row 2: the label 'a\\u0000b' is no line of text"):
        run(raw, "path,label\ncat,a\0b\ndog,dog\n")


def test_a_column_that_seems_to_be_the_patient_is_said_to_be_worth_the_name_group(raw, capsys):
    text = rows(header="path,label,Patient ID,age").splitlines()
    run(raw, "\n".join([text[0], *(f"{row},p{i},40" for i, row in enumerate(text[1:]))]) + "\n")
    printed = capsys.readouterr().out
    assert "not used: patient id, age" in printed
    assert "if patient id says what must stay together (a patient), call it group" in printed
    run(raw, rows(header="path,label,group,patient").replace("cat\n", "cat,a,b\n").replace("dog\n", "dog,c,d\n"))
    assert "call it group" not in capsys.readouterr().out


def uid_of(series: str) -> str:
    return str(generate_uid(entropy_srcs=[series]))


def test_what_a_table_of_series_does_not_name_is_left_out_and_counted_before_anything_is_voted_on(tmp_path):
    raw = tmp_path / "raw"
    for i in range(4):
        write_series(raw / f"p{i}" / "ct", scan(seed=i), None, f"ct{i}", f"p{i}")
    for i in range(8):  # screenshots, twice as many as the scans
        write_series(raw / f"p{i % 4}" / f"shot{i}", scan(1, 20, 20, seed=50 + i), as_capture, f"shot{i}", f"p{i % 4}")
    write_series(raw / "p0" / "scout", scan(1, seed=90), None, "scout", "p0")  # a single slice: rejected, if it counted
    rows = "".join(f"{uid_of(f'ct{i}')},{'ab'[i % 2]}\n" for i in range(3))
    (raw / "labels.csv").write_text("series,label\n" + rows)
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert done.counts["cases"] == 3 and done.axes == "CDHW" and done.counts["rejected"] == {}
    # Files: of the fourth scan, the scout; and the captures.
    assert done.counts["set_aside"] == {"unlisted": 8 + 1, "secondary_capture": 8}
    assert done.reason("p3/ct/000") == "unlisted"


def test_a_series_that_is_named_and_can_not_be_read_is_rejected_and_its_row_told(tmp_path, capsys):
    raw = tmp_path / "raw"
    for i in range(3):
        write_series(raw / f"p{i}", scan(1 if i == 2 else 8, seed=i), None, f"ct{i}", f"p{i}")
    rows = "".join(f"{uid_of(f'ct{i}')},{'aba'[i]}\n" for i in range(3))
    (raw / "labels.csv").write_text("series,label\n" + rows)
    done = ingest(raw, tmp_path / "out")
    assert done.counts["cases"] == 2 and done.counts["rejected"] == {"single_slice": 1}
    assert f"no case came of row 4 ({uid_of('ct2')}): rejected.csv says why" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1 of 3 cases were rejected \(1 single_slice\)"):
        ingest(raw, tmp_path / "again", max_rejected=0.2)


def test_a_table_of_files_still_has_to_name_them_all(tmp_path):
    raw = tmp_path / "raw"
    for i in range(3):
        write_series(raw / f"p{i}", scan(seed=i), None, f"ct{i}", f"p{i}")
    (raw / "labels.csv").write_text("path,label\np0,a\np1,b\n")
    with pytest.raises(UserError, match=r"1 case\(s\) without a label"):
        ingest(raw, tmp_path / "out")


def as_capture(slices) -> None:
    for image in slices:
        image.SOPClassUID, image.Modality = SecondaryCaptureImageStorage, "OT"
        del image.ImagePositionPatient


def as_localizer(slices) -> None:
    for image in slices:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def numbered(number):
    def change(slices):
        for image in slices:
            image.SeriesNumber = number

    return change


@pytest.fixture
def studies(tmp_path):
    """Two patients, each with the series 2 and 3."""
    raw = tmp_path / "raw"
    for i in range(2):
        for number in (2, 3):
            write_series(
                raw / f"p{i}" / str(number), scan(seed=10 * i + number), numbered(number), f"{i}{number}", f"p{i}"
            )
    return raw


def labelled(done):
    return sorted(zip(done.table["label"], done.table["depth"], strict=True))


def test_rows_of_a_study_and_a_series_number_select_series(studies, tmp_path):
    rows = "".join(f"{uid_of(f'p{i}')},{number},{'ab'[i]}\n" for i, number in ((0, "2.0"), (1, "003")))
    (studies / "labels.csv").write_text("study,series_number,label\n" + rows)
    done = ingest(studies, tmp_path / "out", max_rejected=0.0)
    assert labelled(done) == [("a", "8"), ("b", "8")] and done.counts["set_aside"] == {"unlisted": 16}
    assert done.reason("p0/3/000") == "unlisted" and done.reason("p1/2/000") == "unlisted"


def test_rows_of_studies_alone_label_all_their_series(studies, tmp_path):
    (studies / "labels.csv").write_text(f"study,label\n{uid_of('p0')},a\n{uid_of('p1')},b\n")
    assert ingest(studies, tmp_path / "out").counts["classes"] == {"a": 2, "b": 2}


@pytest.mark.parametrize("by_number", [False, True])
def test_what_lies_beside_the_scans_of_a_study_is_set_aside_although_a_row_names_the_study(
    studies, tmp_path, by_number, capsys
):
    for i in range(2):
        write_series(studies / f"p{i}" / "1", scan(2, seed=40 + i), as_localizer, f"{i}1", f"p{i}")
        write_series(studies / f"p{i}" / "9", scan(1, seed=50 + i), as_capture, f"{i}9", f"p{i}")
    header, key = ("study,series_number,label", ",2") if by_number else ("study,label", "")
    (studies / "labels.csv").write_text(f"{header}\n{uid_of('p0')}{key},a\n{uid_of('p1')}{key},b\n")
    done = ingest(studies, tmp_path / "out", max_rejected=0.0)
    assert done.counts["cases"] == (2 if by_number else 4)
    assert done.counts["set_aside"]["localizer"] == 4 and done.counts["set_aside"]["secondary_capture"] == 2
    assert "no case came of" not in capsys.readouterr().out


def test_rows_about_series_that_select_leaves_out_are_told_and_no_error(studies, tmp_path, capsys):
    rows = "".join(f"{uid_of(series)},{label}\n" for series, label in (("02", "a"), ("03", "a"), ("12", "b")))
    (studies / "labels.csv").write_text("series,label\n" + rows)
    for path in studies.glob("p*/*/*"):
        image = pydicom.dcmread(path)
        image.BodyPartExamined = "HEAD" if path.parent == studies / "p0" / "3" else "CHEST"
        image.save_as(path)
    done = ingest(studies, tmp_path / "out", max_rejected=0.0, select=SelectParams(body_part="CHEST"))
    assert done.counts["cases"] == 2 and done.counts["set_aside"] == {"unlisted": 8, "unselected": 8}
    assert "no case came of row 3" in capsys.readouterr().out


def test_a_pattern_does_not_name_each_of_its_files_so_captures_stay_set_aside(studies, tmp_path):
    write_series(studies / "p0" / "9", scan(1, seed=50), as_capture, "09", "p0")
    (studies / "labels.csv").write_text("path,label\np0/**,a\np1/**,b\n")
    done = ingest(studies, tmp_path / "out", max_rejected=0.0)
    assert done.counts["cases"] == 4 and done.counts["set_aside"] == {"secondary_capture": 1}
    (studies / "labels.csv").write_text("path,label\np0/**,a\np1/**,b\np0/9/000,a\n")
    assert ingest(studies, tmp_path / "named").counts["rejected"] == {"secondary_capture": 1}


def test_rows_of_instances_select_the_cases_that_these_are_of(studies, tmp_path):
    uids = [generate_uid(entropy_srcs=[series, "4"]) for series in ("02", "13")]
    (studies / "labels.csv").write_text(f"instance,label\n{uids[0]},a\n{uids[1]},b\n")
    done = ingest(studies, tmp_path / "out", max_rejected=0.0)
    assert labelled(done) == [("a", "8"), ("b", "8")] and done.counts["set_aside"] == {"unlisted": 16}
    pictures = ingest(studies, tmp_path / "pictures", kind="images", max_rejected=0.0)
    assert pictures.counts["classes"] == {"a": 1, "b": 1} and pictures.counts["set_aside"] == {"unlisted": 30}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "study,series_number,label\n{p0},9,a\n{p1},2,b\n",
            "row 2: series 9 of the study .* has the series numbers 2, 3",
        ),
        ("study,series_number,label\n{p0},x,a\n{p1},2,b\n", "row 2: series_number is 'x', expected a whole number"),
        ("study,label\n1.2.3,a\n{p1},b\n", "row 2: no file of the study '1.2.3' was read"),
        ("instance,label\n1.2.3,a\n", "row 2: no instance '1.2.3' was read"),
        ("study,series_number,label\n{p0},2,a\n{p0},02,b\n", "has the label 'b', but 'a' in row 2"),
    ],
)
def test_a_study_or_instance_that_is_not_there_or_there_twice_is_an_error(studies, tmp_path, text, message):
    (studies / "labels.csv").write_text(text.format(p0=uid_of("p0"), p1=uid_of("p1")))
    with pytest.raises(UserError, match=message):
        ingest(studies, tmp_path / "out")


def test_patterns_of_paths_label_the_files_that_they_fit_and_a_file_s_own_row_counts_before_them(raw, tmp_path):
    (raw / "labels.csv").write_text("path,label\ncat/*,cat\ndog/?.*,dog\ndog/0.png,wolf\n")
    assert ingest(raw, tmp_path / "out").counts["classes"] == {"cat": 2, "dog": 1, "wolf": 1}
    (raw / "labels.csv").write_text("path,label\n**/*.png,png\n**/*.jpg,jpg\n")
    assert ingest(raw, tmp_path / "again").counts["classes"] == {"jpg": 2, "png": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("cat/*,cat\ndog/*,dog\nbird/*,bird\n", r"row 4: no file fits the pattern 'bird/\*'"),
        ("cat/*,cat\ndog/*,dog\n**/*.png,png\n", r"row 4: '\*\*/\*.png' fits cat/0.png, and so does 'cat/\*' in row 2"),
    ],
)
def test_a_pattern_that_fits_nothing_or_what_another_fits_is_an_error(raw, tmp_path, rows, message):
    (raw / "labels.csv").write_text("path,label\n" + rows)
    with pytest.raises(UserError, match=message):
        ingest(raw, tmp_path / "out")
