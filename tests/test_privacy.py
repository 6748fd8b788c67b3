"""A study full of invented identifiers goes in, and none of them is found in any out, log line, metric or picture."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from ruamel.yaml import YAML

from tests import ROOT
from tests.raw_data import ingest, scan, write_series

SECRETS = {
    "PatientName": "Zyxwvut^Quorra",
    "PatientBirthDate": "19340217",
    "PatientAge": "087Y",
    "PatientWeight": "73.4519",
    "OtherPatientIDs": "OTHERID-55512",
    "AccessionNumber": "ACC-7741-XK",
    "StudyID": "STUDY-8812",
    "StudyDate": "20190613",
    "StudyTime": "134455.661",
    "InstitutionName": "Sankt Nimmerlein Hospital",
    "StationName": "STATION-Q7",
    "DeviceSerialNumber": "SER-99182-B",
    "ReferringPhysicianName": "Wolpertinger^Adamantia",
    "OperatorsName": "Operatrix^Beatissima",
    "StudyDescription": "Thorax of Quorra Zyxwvut",
    "SeriesDescription": "series of Quorra",
    "ImageComments": "call 555-0199-77",
    "PatientComments": "lives in Zwickelbach",
    "ProtocolName": "PROTO-Quorra",
}


def fill_with_secrets(slices: list[Dataset]) -> None:
    for image in slices:
        for keyword, value in SECRETS.items():
            setattr(image, keyword, value)
        block = image.private_block(0x0099, "PRIVATE CREATOR QX", create=True)
        block.add_new(1, "LO", "PRIVATE-31337-VALUE")
        image.add_new(0x60003000, "OW", b"OVERLAY-OF-QUORRA!" * 4)


def write_study(raw: Path, patients: int = 12) -> list[str]:
    """Writes series of two classes into folders named after the patients; returns all that must not be found."""
    secrets = list(SECRETS.values()) + [part for name in SECRETS.values() if "^" in name for part in name.split("^")]
    secrets += ["PRIVATE-31337-VALUE", "PRIVATE CREATOR QX", "OVERLAY-OF-QUORRA", "555-0199-77", "Zwickelbach"]
    for i in range(patients):
        patient, label = f"PID-{i:02d}-QZX", "bright" if i % 2 else "dark"
        pixels = scan(6, 12, 12, seed=i) // 4 + (1000 if i % 2 else 0)
        folder = raw / label / f"Folder-of-{patient}"
        write_series(folder, pixels, fill_with_secrets, series=f"series {i}", patient=patient)
        image = pydicom.dcmread(next(folder.iterdir()))
        secrets += [patient, image.SeriesInstanceUID, image.StudyInstanceUID, image.SOPInstanceUID]
        secrets += [image.FrameOfReferenceUID]
    return sorted(set(secrets), key=len, reverse=True)


def found_in(content: bytes, secrets: list[str]) -> list[str]:
    """The secrets that occur in the content, in any common encoding of text."""
    lowered = content.lower()
    return [
        secret
        for secret in secrets
        for encoding in ("utf-8", "utf-16-le", "utf-16-be")
        if secret.lower().encode(encoding) in lowered
    ]


def hits(folder: Path, secrets: list[str], *except_names: str) -> dict[str, list[str]]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in except_names]
    assert files
    return {str(p.relative_to(folder)): found for p in files if (found := found_in(p.read_bytes(), secrets))}


def test_ingest_lets_out_no_identifier_and_rejected_csv_alone_names_files(tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = write_study(tmp_path / "raw", 4)
    assert found_in((next((tmp_path / "raw").rglob("000"))).read_bytes(), secrets)  # the search does find what is there
    ingest(tmp_path / "raw", tmp_path / "out")
    assert hits(tmp_path / "out", secrets, "rejected.csv", "files.csv") == {}
    printed = capfd.readouterr()
    assert found_in((printed.out + printed.err + caplog.text).encode(), secrets) == []


def test_identifiers_depend_on_the_key_and_on_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "raw", 2)
    names = {}
    for run, key in {"one": "a" * 20, "again": "a" * 20, "other": "b" * 20}.items():
        monkeypatch.setenv("IDENTIFIER_KEY", key)
        names[run] = ingest(tmp_path / "raw", tmp_path / run, identifiers="keyed").table[["case", "group"]]
    assert names["one"].equals(names["again"])
    assert not set(names["one"].to_numpy().ravel()) & set(names["other"].to_numpy().ravel())
    monkeypatch.delenv("IDENTIFIER_KEY")
    ingest(tmp_path / "raw", tmp_path / "made", identifiers="keyed")
    key_file = tmp_path / ".identifier_key"
    assert key_file.stat().st_mode & 0o077 == 0
    assert re.fullmatch("[0-9a-f]{64}\n", key_file.read_text())


def test_a_burned_in_annotation_is_counted_or_rejected(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        for image in slices:
            image.BurnedInAnnotation = "YES"

    write_series(tmp_path / "raw" / "a", scan(5, seed=1))
    write_series(tmp_path / "raw" / "a" / "b", scan(5, seed=2), spoil, series="two")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["burned_in"] == 1
    done = ingest(tmp_path / "raw", tmp_path / "out", burned_in="reject")
    assert done.counts["cases"] == 1
    assert done.counts["rejected"]["burned_in_annotation"] == 5


PARAMS = {
    "ingest": {},
    "split": {"validation": 0.25, "test": 0.25},
    "statistics": {},
    "dataset": {"shape": [4, 8, 8]},
    "train": {"network": {"name": "fully_connected", "arguments": {"widths": [4]}}, "epochs": 1},
    "validate": {},
    "export": {},
}


EVERY_STAGE = """
import runpy, sys
for stage in ("ingest", "split", "statistics", "dataset", "train", "validate", "export"):
    sys.argv = [stage, "secret"]
    runpy.run_module(f"stages.{stage}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, list[str], str]:
    """A folder in which the whole pipeline ran on the study, the secrets, and everything that was printed."""
    folder = tmp_path_factory.mktemp("private") / "project"
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    with open(folder / "params.yaml", "w") as file:
        YAML().dump({"datasets": {"secret": PARAMS}}, file)
    secrets = write_study(folder / "data" / "raw" / "secret", 16)
    done = subprocess.run(
        [sys.executable, "-c", EVERY_STAGE],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, secrets, done.stdout + done.stderr


@pytest.mark.slow
def test_the_whole_pipeline_lets_out_no_identifier(project):
    folder, secrets, printed = project
    shutil.move(folder / "data" / "raw", folder.parent / "raw")
    for outs in ("data", "models", "metrics"):
        assert hits(folder / outs, secrets, "rejected.csv", "files.csv") == {}
    assert found_in(printed.encode(), secrets) == []
    assert json.loads((folder / "metrics" / "secret" / "ingest.json").read_text())["cases"] == 16
