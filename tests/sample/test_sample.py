import csv
import hashlib
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pydicom
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from stages import sample
from stages.lib.params.sample import SampleParams
from stages.lib.sample import phantoms


def labels(folder: Path) -> list[dict[str, str]]:
    with open(folder / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


@pytest.fixture(scope="module")
def phantom_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "phantoms"
    sample.main(folder, SampleParams(source="phantoms", patients=9, seed=1))
    return folder


def test_digits_are_1797_pictures_of_ten_classes(tmp_path):
    sample.main(tmp_path / "digits", SampleParams(source="digits"))
    rows = labels(tmp_path / "digits")
    assert len(rows) == 1797
    assert {row["label"] for row in rows} == set("0123456789")
    picture = imageio.imread(tmp_path / "digits" / rows[0]["path"])
    assert (picture.shape, picture.dtype, picture.max()) == ((8, 8), np.uint8, 239)


def test_phantoms_are_made_the_same_twice_and_differ_by_seed(tmp_path, phantom_folder):
    for name, seed in (("again", 1), ("other", 2)):
        sample.main(tmp_path / name, SampleParams(source="phantoms", patients=9, seed=seed))
    assert digest(tmp_path / "again") == digest(phantom_folder)
    assert digest(tmp_path / "other") != digest(phantom_folder)


def test_every_phantom_series_is_a_ct_in_hounsfield_units_whose_file_names_do_not_tell_the_order(phantom_folder):
    shuffled = 0
    for row in labels(phantom_folder):
        files = [pydicom.dcmread(path) for path in sorted((phantom_folder / row["path"]).glob("*.dcm"))]
        positions = [float(file.ImagePositionPatient[2]) for file in files]
        shuffled += positions != sorted(positions)
        assert {round(step, 2) for step in np.diff(sorted(positions))} == {float(files[0].SliceThickness)}
        assert len({file.SeriesInstanceUID for file in files}) == 1
        hounsfield = files[0].pixel_array * files[0].RescaleSlope + files[0].RescaleIntercept
        assert -1024 <= hounsfield.min() < -900
    assert shuffled == len(labels(phantom_folder))


def test_some_patients_have_two_series_under_one_label(phantom_folder):
    by_patient: dict[str, set[str]] = {}
    rows = labels(phantom_folder)
    for row in rows:
        by_patient.setdefault(row["path"].split("/")[0], set()).add(row["label"])
    assert len(rows) > len(by_patient) == 9
    assert all(len(found) == 1 for found in by_patient.values())


def test_mean_intensity_alone_does_not_tell_the_phantoms_apart():
    means, classes = [], []
    for patient in range(150):
        rng = np.random.default_rng([0, patient])
        label = phantoms.CLASSES[patient % 3]
        _, parts = phantoms.draw_body(rng, label)
        means.append([phantoms.scan_body(rng, parts, (16, 48, 48), (5.0, 6.75, 6.75)).mean()])
        classes.append(label)
    standard = (np.array(means) - np.mean(means)) / np.std(means)
    features = np.hstack([standard, standard**2, standard**3])
    assert cross_val_score(LogisticRegression(), features, classes, cv=5).mean() < 0.6


def test_a_run_that_fails_leaves_the_former_sample_in_place(tmp_path, monkeypatch):
    raw = tmp_path / "phantoms"
    sample.main(raw, SampleParams(source="phantoms", patients=1))
    before = digest(raw)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(phantoms, "_write_series", fail)
    with pytest.raises(OSError, match="no space"):
        sample.main(raw, SampleParams(source="phantoms", patients=1))
    assert digest(raw) == before
    assert list(tmp_path.iterdir()) == [raw]
