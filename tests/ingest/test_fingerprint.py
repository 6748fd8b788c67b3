"""The ingest store forgets what code that has changed made."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.lib.core import sources
from stages.lib.ingest import fingerprint as module
from stages.lib.ingest.fingerprint import fingerprint
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Options
from stages.lib.params.ingest import IngestParams
from tests import ROOT
from tests.core import test_sources
from tests.raw_data import bytes_below, scan, write_pictures, write_series

INGEST = """
import sys
from pathlib import Path
from stages import ingest
from stages.lib.params.ingest import IngestParams

raw, out = map(Path, sys.argv[1:])
given = IngestParams(identifiers="open", kind="images", max_rejected=1.0)
ingest.main(raw, out / "cases", out / "cases.csv", out / "ingest.json", out / "ingest.png", given)
"""


def ingest_by(project: Path, raw: Path, out: Path) -> dict[str, bytes]:
    """Runs a copy of the project's code, as it is now."""
    subprocess.run([sys.executable, "-c", INGEST, str(raw), str(out)], cwd=project, check=True, capture_output=True)
    return bytes_below(out)


@pytest.mark.slow
def test_after_a_change_of_how_patients_are_named_an_incremental_ingest_has_the_groups_of_a_full_one(tmp_path):
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_pictures(raw)
    write_series(raw / "cat" / "first", scan(seed=1), patient="Doe", series="first")
    before = ingest_by(tmp_path, raw, out)
    identifiers = next((tmp_path / "stages" / "lib").rglob("identifiers.py"))
    code = identifiers.read_text()
    assert "[:8].hex()" in code
    identifiers.write_text(code.replace("[:8].hex()", "[8:16].hex()"))
    write_series(
        raw / "dog" / "second", scan(seed=2), patient="Doe", series="second"
    )  # of the patient that was there before
    incremental = ingest_by(tmp_path, raw, out)
    assert incremental["cases.csv"] != before["cases.csv"]
    assert incremental == ingest_by(tmp_path, raw, tmp_path / "full")


@pytest.fixture
def of_a_copy(tmp_path, monkeypatch) -> Path:
    """stages/lib of a copy of the code, whose fingerprint `changed_by` takes."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    lib = tmp_path / "stages" / "lib"
    monkeypatch.setattr(sources, "NOT_FOLLOWED", lib / "params" / "__init__.py")
    monkeypatch.setattr(module, "HERE", lib / "ingest")
    yield lib
    test_sources.forget()


def changed_by(file: Path, text: str) -> bool:
    options = Options(IngestParams(), OPEN)
    test_sources.forget()
    before = fingerprint(options)
    file.write_text(file.read_text() + text)
    test_sources.forget()
    return fingerprint(options) != before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(
            "ingest/identifiers.py",
            "ingest/readers/scans/dicom_pixels.py",
            "ingest/readers/pictures/jpeg.py",
            "cases.py",
        ),
        *("ingest/pieces.py", "ingest/piece_jobs.py", "ingest/decoding.py", "ingest/inspection.py"),
    ],
)
def test_whatever_the_stored_cases_come_from_renames_the_store(of_a_copy, name):
    assert changed_by(of_a_copy / name, "\nNEW = 1\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ingest/groups.py", "ingest/results/publishing.py", "train/loop.py", "params/train.py"]
)
def test_what_no_stored_case_comes_from_leaves_the_store_its_name(of_a_copy, name):
    assert not changed_by(of_a_copy / name, "\nNEW = 1\n")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["\n# a comment\n", '\n"""A docstring."""\n'])
def test_a_comment_or_docstring_leaves_the_store_its_name(of_a_copy, text):
    assert not changed_by(of_a_copy / "ingest" / "identifiers.py", text)


def test_another_version_of_a_decoder_renames_the_store(monkeypatch):
    before = fingerprint(Options(IngestParams(), OPEN))
    version = sources._version
    monkeypatch.setattr(sources, "_version", lambda name: "99" if name == "pylibjpeg" else version(name))
    test_sources.forget()
    assert fingerprint(Options(IngestParams(), OPEN)) != before
    test_sources.forget()


def test_another_key_or_reading_renames_the_store_and_another_limit_does_not():
    name = fingerprint(Options(IngestParams(), OPEN))
    assert fingerprint(Options(IngestParams(), b"another key")) != name
    assert fingerprint(Options(IngestParams(min_side=3), OPEN)) != name
    assert fingerprint(Options(IngestParams(max_rejected=0.5), OPEN)) == name
