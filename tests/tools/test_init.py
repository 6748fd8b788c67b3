import os
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.uid import DigitalXRayImageStorageForProcessing, MRImageStorage
from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.core.errors import UserError
from tests import ROOT
from tests.demos import needs_demos
from tests.ingest.readers.test_dicom_faults import tilt
from tests.ingest.readers.test_dicom_pictures import x_ray
from tests.ingest.readers.test_nifti import save
from tests.raw_data import scan, write_pictures, write_series
from tools.init.__main__ import begin, main

pytestmark = [needs_demos, pytest.mark.usefixtures("alone")]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the shipped params.yaml, in which commands are typed."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return tmp_path / "project"


@pytest.fixture
def photographs(tmp_path):
    write_pictures(tmp_path / "photographs", each=3)
    return tmp_path / "photographs"


def section(stage: str = "ingest", name: str = "mine"):
    return params.load(Path("params.yaml")).section(name, stage)


def picture(path: Path, side: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, np.random.default_rng(len(str(path))).integers(0, 256, (side, side), np.uint8))


def test_the_block_is_added_to_params_yaml_and_all_else_stays_as_it_was(project, photographs, capsys):
    before = Path("params.yaml").read_text()
    begin("mine", photographs)
    after = Path("params.yaml").read_text()
    start = after.index("\n  mine:  # 6 pictures, half of them no larger than ")
    end = after.index("    export: {}\n", start) + len("    export: {}\n")
    assert after[:start] + after[end:] == before
    assert section("train") == params.check(params.TrainParams, {})
    printed = capsys.readouterr().out
    assert "classes    2, by cases: cat 3, dog 3" in printed
    assert "channels 3 (6 cases)" in printed
    assert "Next: dvc repro export@mine validate@mine" in printed
    assert sorted(path.name for path in Path("data/raw/mine/cat").iterdir()) == ["0.png", "1.jpg", "2.png"]
    assert photographs.exists()


def test_lists_in_the_outermost_folder_that_are_called_by_splits_are_offered(project, photographs, capsys):
    for name in ("train.txt", "val.txt", "notes.txt"):
        (photographs / name).write_text("0\n")
    (photographs / "cat" / "test.txt").write_text("0\n")
    begin("mine", photographs, dry_run=True)
    printed = capsys.readouterr().out
    assert "are dealt; train.txt, val.txt may list it: ingest.split_files" in printed
    line = (
        '# split_files: {"train": "train.txt", "validation": "val.txt"}'
        "  # lists that may give the split, by names of cases\n"
    )
    assert line in printed


def test_a_dry_run_changes_nothing(project, photographs, capsys):
    before = Path("params.yaml").read_bytes()
    begin("mine", photographs, dry_run=True)
    assert Path("params.yaml").read_bytes() == before
    assert not Path("data").exists()
    assert "  mine:" in capsys.readouterr().out


@pytest.mark.slow
def test_data_may_be_moved_or_lie_in_their_place_already(project, photographs):
    begin("mine", photographs, move=True)
    assert not photographs.exists()
    write_pictures(Path("data/raw/other"))
    begin("other", Path("data/raw/other"))
    assert list(params.load(Path("params.yaml")).datasets) == ["digits", "phantoms", "mine", "other"]


@pytest.mark.slow
@pytest.mark.parametrize("tail", ["", "\n", "\n\n# about the machine\n"])
def test_a_block_goes_to_the_end_of_datasets_whatever_comes_next(project, photographs, tail):
    text = Path("params.yaml").read_text()
    datasets, rest = text.split("machine:", 1)
    report = rest.partition("\n")[2]
    for shape in (datasets + tail + "machine:" + rest, "machine: {}\n" + report + datasets.rstrip() + tail):
        Path("params.yaml").write_text(shape)
        begin("mine", photographs, dry_run=False)
        assert YAML(typ="safe").load(Path("params.yaml"))["datasets"]["mine"]["export"] == {}
        assert all(line in Path("params.yaml").read_text() for line in shape.splitlines())
        shutil.rmtree("data")


def packed(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.make_archive(str(archive.with_suffix("")), archive.suffix[1:], folder))


def test_an_archive_in_place_of_the_folder_is_moved_into_it(project, photographs, capsys):
    packed(photographs, Path("data/raw/mine.zip"))
    main(["data/raw/mine.zip"])
    assert [path.name for path in Path("data/raw").rglob("*.zip")] == ["mine.zip"]
    assert Path("data/raw/mine/mine.zip").is_file() and not Path("data/raw/mine/mine.zip").is_symlink()
    printed = capsys.readouterr().out
    assert "data/raw/mine.zip is now data/raw/mine/mine.zip" in printed and "cat 3, dog 3" in printed
    assert section("train") == params.check(params.TrainParams, {})


def test_an_archive_elsewhere_is_copied_as_a_folder_is_or_moved(project, photographs, tmp_path):
    archive = packed(photographs, tmp_path / "day 1.tar")
    begin("mine", archive)
    assert archive.exists() and Path("data/raw/mine/day 1.tar").read_bytes() == archive.read_bytes()
    begin("moved", archive, move=True)
    assert not archive.exists() and Path("data/raw/moved/day 1.tar").is_file()


def test_nothing_of_an_archive_is_moved_in_a_dry_run_or_where_it_can_not_be_used(project, photographs, tmp_path):
    begin("mine", packed(photographs, tmp_path / "mine.zip"), dry_run=True)
    with pytest.raises(UserError, match="data/raw/mine has no class folders"):
        begin("mine", packed(photographs / "cat", tmp_path / "mine.zip"), move=True)
    assert not Path("data").exists() and (tmp_path / "mine.zip").exists()
    packed(photographs, Path("data/raw/mine.zip"))
    Path("data/raw/mine").mkdir()
    with pytest.raises(UserError, match="data/raw/mine is there already"):
        begin("mine", Path("data/raw/mine.zip"))
    Path("data/raw/mine").rmdir()
    Path("data/raw/mine.zip.dvc").touch()
    with pytest.raises(UserError, match="mkdir data/raw/mine && dvc move data/raw/mine.zip data/raw/mine/mine.zip"):
        begin("mine", Path("data/raw/mine.zip"))
    assert sorted(path.name for path in Path("data/raw").iterdir()) == ["mine.zip", "mine.zip.dvc"]


def test_a_link_to_an_archive_is_called_as_the_link_is_and_leads_to_the_same_when_it_is_moved(
    project, photographs, tmp_path
):
    packed(photographs, tmp_path / "cache/0af3.zip")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/mine.zip").symlink_to("../../../cache/0af3.zip")
    main(["data/raw/mine.zip"])
    assert Path("data/raw/mine/mine.zip").is_file() and not Path("data/raw/mine.zip").is_symlink()
    assert (tmp_path / "cache/0af3.zip").is_file()


@pytest.mark.parametrize("move", [False, True])
def test_a_folder_that_holds_the_place_of_the_data_set_is_not_copied_into_itself(project, move):
    write_pictures(project, each=3)
    with pytest.raises(UserError, match="holds data/raw/mine, where its files would go"):
        begin("mine", Path("."), move=move)
    assert not Path("data").exists()


def test_hidden_files_are_not_copied_be_they_pipes_or_links_that_go_nowhere_or_round(project, photographs, capsys):
    (photographs / "cat/.#0.png").symlink_to("somebody@host.17")  # as Emacs locks a file
    (photographs / ".git").mkdir()
    (photographs / ".git/config").touch()
    for name in ("up", "again"):
        (photographs / ".git" / name).symlink_to("..")
    os.mkfifo(photographs / "dog/.pipe")
    begin("mine", photographs)
    found = sorted(str(path.relative_to("data/raw/mine")) for path in Path("data/raw/mine").rglob("*"))
    assert found == ["cat", *(f"cat/{i}" for i in ("0.png", "1.jpg", "2.png")), "dog"] + [
        f"dog/{i}" for i in ("0.png", "1.jpg", "2.png")
    ]
    assert "data/raw/mine, without 5 hidden files and the like\n" in capsys.readouterr().out


def test_what_can_not_be_copied_is_named_and_nothing_is_left(project, photographs, monkeypatch):
    def refused(source, target, **given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "copystat", refused)  # root may read all
    with pytest.raises(UserError, match=r"photographs.* can't be copied \(.*Permission denied.*\): mend or remove it"):
        begin("mine", photographs)
    assert list(Path("data/raw").iterdir()) == []


@pytest.mark.parametrize("name", ["[", "'", "@x", "%", "!!python/object:x", "a\a", ""])
def test_a_name_that_is_no_yaml_is_refused_as_any_other_that_no_data_set_can_have(project, photographs, name):
    with pytest.raises(UserError, match="the name: .*: a dataset's name is of lower-case letters"):
        begin(name, photographs)
    with pytest.raises(SystemExit, match="the name: : a dataset's name is of lower-case letters"):
        main(["/"])


def test_what_is_neither_folder_nor_archive_or_can_not_be_read_is_said(project, photographs, monkeypatch):
    os.mkfifo("pipe.zip")
    hidden = packed(photographs, Path("photographs.zip")).rename(".photographs.zip")
    Path("data/raw/mine").mkdir(parents=True)
    Path("data/raw/other").symlink_to("nowhere")
    for name, given, told in (
        ("mine", Path("nowhere"), "nowhere not found: give a folder or an archive"),
        ("mine", Path("pipe.zip"), r"pipe.zip is a pipe \(FIFO\): give the folder"),
        ("mine", hidden, ".photographs.zip is hidden, and would not be read: rename it"),
        ("other", photographs, "data/raw/other is there already"),
    ):
        with pytest.raises(UserError, match=told):
            begin(name, given)

    def refused(path, *flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refused)  # root may read all
    with pytest.raises(UserError, match=r".photographs.zip can't be read \(Permission denied\): mend or remove it"):
        begin("mine", hidden)


def test_masks_are_left_out_by_a_pattern_that_can_be_seen(project, tmp_path, capsys):
    for label in ("a", "b"):
        for i in range(4):
            picture(tmp_path / "raw" / label / f"{i}.png")
            picture(tmp_path / "raw" / label / f"{i}_mask.png")
    begin("mine", tmp_path / "raw")
    assert section().exclude == ("*_mask.png",)
    assert (
        "left out   8 files that look like masks or thumbnails: a/0_mask.png beside a/0.png" in capsys.readouterr().out
    )


def test_a_way_to_group_is_offered_and_not_taken(project, tmp_path, capsys):
    for i in range(40):
        picture(tmp_path / "raw" / "ab"[i % 2] / f"plate{i // 4:02d}_{i % 4}.png")
    begin("mine", tmp_path / "raw")
    assert section().group is None
    text = Path("params.yaml").read_text()
    (line,) = (line for line in text.splitlines() if "# group: " in line)
    Path("params.yaml").write_text(
        text.replace("    ingest: {}\n" + line, "    ingest:\n" + line.replace("# group", "group"))
    )
    pattern = section().group
    assert pattern and "10 groups of 40 files" in capsys.readouterr().out


def test_series_are_looked_at_in_whole_folders(project, tmp_path, capsys):
    for i in range(4):
        write_series(tmp_path / "raw" / "ab"[i % 2] / f"p{i}", series=f"s{i}", patient=f"p{i}")
    begin("scans", tmp_path / "raw")
    printed = capsys.readouterr().out
    assert "4 volumes of int16" in printed and "groups     by the patient" in printed
    assert "mm from one to the next" in printed


@pytest.mark.slow
def test_of_several_kinds_of_scan_the_most_frequent_is_chosen_and_the_block_says_so(project, tmp_path, capsys):
    def as_mr(slices):
        for image in slices:
            image.Modality, image.SOPClassUID = "MR", MRImageStorage

    for i in range(6):
        change = as_mr if i > 3 else None
        write_series(tmp_path / "raw" / "ab"[i % 2] / f"p{i}", None, change, series=f"s{i}", patient=f"p{i}")
    begin("mine", tmp_path / "raw")
    assert section().select.modality == ("CT",)
    text = Path("params.yaml").read_text()
    assert "# the DICOM files are of several kinds: 4 volumes of CT, 2 volumes of MR" in text
    assert "16 set aside: unselected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("Mine!", "photographs", "call it mine"),
        ("digits", "photographs", "has a data set digits already"),
        ("mine", "nowhere", "not found"),
        ("mine", "photographs/cat", "no class folders"),
        ("mine", "one", "of the class only alone, where a classifier needs two"),
        ("2024", "photographs", "put it into quotes"),
        ("null", "photographs", "the name: null"),
        ("1e3", "photographs", "put it into quotes"),
        ("mine", "photographs/cat/0.png", "is a file: give the folder with the files, or an archive of them"),
        ("mine", "stray", "1 of 5 cases have no label, as 9.png"),
        ("mine", "listed", "2 of 4 cases have no label, as a/1.png"),
        ("mine", "texts", "none of the 2 files that were looked at can be read"),
        ("mine", "mixed", "no case of scans can be used.*the data set is one of images"),
    ],
)
def test_what_can_not_be_used_is_said_and_nothing_changes(project, photographs, tmp_path, name, folder, said):
    picture(tmp_path / "one" / "only" / "0.png")
    for place in ("stray/a/1.png", "stray/a/2.png", "stray/b/3.png", "stray/b/4.png", "stray/9.png"):
        picture(tmp_path / place)
    for place in ("listed/a/0.png", "listed/a/1.png", "listed/b/2.png", "listed/b/3.png"):
        picture(tmp_path / place)
    (tmp_path / "listed" / "labels.csv").write_text("path,label\na/0.png,x\nb/2.png,y\n")
    for label in "ab":
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "note.txt").write_text("no picture")
    for i in range(3):
        picture(tmp_path / "mixed" / "photos" / f"{i}.png")
    write_series(tmp_path / "mixed" / "scans")
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=said):
        begin(name, tmp_path / folder)
    assert Path("params.yaml").read_bytes() == before
    assert not Path("data").exists()


def series_in(folder: Path, number: int, **given) -> list:
    """That many series of as many patients, below two folders; their StudyInstanceUIDs."""
    uids = []
    for i in range(number):
        write_series(folder / "ab"[i % 2] / f"p{i}", scan(seed=i), series=f"s{i}", patient=f"p{i}", **given)
        uids.append(pydicom.dcmread(next((folder / "ab"[i % 2] / f"p{i}").iterdir())).StudyInstanceUID)
    return uids


def test_a_labels_csv_of_studies_is_understood_and_what_it_does_not_name_is_left_out(project, tmp_path, capsys):
    uids = series_in(tmp_path / "raw", 5)
    rows = "".join(f"{uid},{'xy'[i % 2]}\n" for i, uid in enumerate(uids[:4]))
    (tmp_path / "raw" / "labels.csv").write_text("study,label\n" + rows)
    begin("mine", tmp_path / "raw")
    printed = capsys.readouterr().out
    assert "cases      4 volumes" in printed and "classes    2, by rows of labels.csv: x 2, y 2" in printed
    assert "set aside: unlisted" in printed


def test_what_ingest_would_stop_at_is_said_with_the_keys_that_decide_it(project, tmp_path, capsys):
    series_in(tmp_path / "raw", 4)
    write_series(tmp_path / "raw" / "a" / "tilted", scan(seed=9), tilt, series="t", patient="t")
    begin("mine", tmp_path / "raw")
    printed = capsys.readouterr().out
    assert "First: 1 of 5 cases would be rejected" in printed and "set ingest.tilt," in printed
    assert printed.index("First: ") < printed.index("Then: dvc repro export@mine")


def test_the_table_is_printed_before_the_error_that_refers_to_it(project, tmp_path, capsys):
    series_in(tmp_path / "raw", 2)
    write_series(tmp_path / "raw" / "c" / "one", scan(1), series="t", patient="t")
    with pytest.raises(UserError, match="no case of c can be used, as the table above says"):
        begin("mine", tmp_path / "raw")
    assert "not a case 1 rejected: single_slice" in capsys.readouterr().out


def test_of_x_rays_of_two_kinds_the_most_frequent_is_chosen(project, tmp_path, capsys):
    for i in range(5):
        image = x_ray(i)
        if i > 2:
            image.SOPClassUID = DigitalXRayImageStorageForProcessing
            image.PresentationIntentType = "FOR PROCESSING"
        (tmp_path / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image.save_as(tmp_path / "raw" / "ab"[i % 2] / f"{i}", enforce_file_format=True)
    begin("mine", tmp_path / "raw")
    assert section().select.sop_class == ("Digital X-Ray Image Storage - For Presentation",)
    assert "3 FOR PRESENTATION and 2 FOR PROCESSING" in Path("params.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "key", "value"),
    [
        (lambda path, seed: tifffile.imwrite(path / f"{seed}.tif", scan(seed=seed)), "frames", "stack"),
        (lambda path, seed: save(path / f"{seed}.nii.gz", np.stack([scan(seed=seed)] * 2)), "split_4d", "first"),
    ],
)
def test_what_no_file_can_be_read_without_is_proposed(project, tmp_path, capsys, write, key, value):
    for i in range(12):
        (tmp_path / "scans" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "scans" / "ab"[i % 2], i)
    begin("mine", tmp_path / "scans")
    assert getattr(section(), key) == value
    assert "12 volumes" in capsys.readouterr().out


def test_folders_that_look_like_patients_are_remarked_on(project, tmp_path, capsys):
    for i in range(3):
        write_series(tmp_path / "raw" / f"study {i}", scan(seed=i), series=f"s{i}", patient=f"p{i}")
    begin("mine", tmp_path / "raw")
    assert "warning    each of the 3 class folders, as study 0, is of one group" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shape", "axes", "kind"),
    [((20, 16, 4), "HWC", "images"), ((2, 20, 16), "CHW", "images"), ((9, 20, 16), "DHW", "volumes")],
)
def test_the_axes_of_arrays_are_proposed_with_the_choices(project, tmp_path, capsys, shape, axes, kind):
    for i in range(4):
        (tmp_path / "raw" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "raw" / "ab"[i % 2] / f"{i}.npy", np.full(shape, i, np.uint8))
    begin("mine", tmp_path / "raw")
    assert section().axes == axes
    size = " x ".join(map(str, shape))
    assert f"of an array of {size}; of pictures HWC or CHW, of volumes DHW," in Path("params.yaml").read_text()
    printed = capsys.readouterr().out
    assert f"4 {kind}" in printed and f"taken for {axes}; if that is wrong, set ingest.axes" in printed


@pytest.mark.parametrize("name", ["sub-{:02d}", "Patient {}", "p{}"])
def test_folders_of_patients_that_would_be_classes_are_said_to_be_such(project, tmp_path, capsys, name):
    for i in range(4):
        picture(tmp_path / "raw" / name.format(i) / "anat" / f"{i}.png")
    begin("mine", tmp_path / "raw")
    printed, first = capsys.readouterr().out, name.format(0)
    assert f"First: the 4 class folders are called as patients are, as {first}: write a labels.csv" in printed
    assert f"{first},LABEL,{first})" in printed
    assert "# group: '^([^/]+)/'  # all files in a folder of the first level" in Path("params.yaml").read_text()


def test_classes_with_numbers_are_no_patients(project, tmp_path, capsys):
    for i in range(4):
        picture(tmp_path / "raw" / f"grade {i}" / f"{i}.png")
    begin("mine", tmp_path / "raw")
    assert "called as patients" not in capsys.readouterr().out
