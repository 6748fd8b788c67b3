"""examples/dicomweb: studies come from a server as labels.csv names them, and are the cases that their files are."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pydicom
import pytest

from tests import ROOT
from tests.raw_data import ingest, make_slice, scan, write_series

pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed")
BOUNDARY = "between-instances"


class Server:
    """QIDO-RS and WADO-RS of some instances, as PS3.18 has them; `asked` is what was asked for."""

    def __init__(self) -> None:
        self.instances: list[pydicom.Dataset] = []
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.cut = False  # whether a series ends in the middle
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.tokens.add(self.headers["Authorization"])
                server.asked.append(self.path)
                kind, body = server.answer(self.path)
                self.send_response(200 if body else 204)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if server.cut and "multipart" in kind else body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/dicom-web"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[str, bytes]:
        url = urlparse(path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        found = re.fullmatch(r"/dicom-web/studies/([\d.]+)/series(?:/([\d.]+))?", url.path)
        assert found, path
        of = [
            one
            for one in self.instances
            if found[1] == one.StudyInstanceUID and found[2] in (None, one.SeriesInstanceUID)
        ]
        if found[2] is None:
            series = {one.SeriesInstanceUID for one in of if asked.get("Modality", one.Modality) == one.Modality}
            answer = [{"0020000E": {"vr": "UI", "Value": [uid]}} for uid in sorted(series)]
            return "application/dicom+json", json.dumps(answer).encode()
        body = b"".join(
            f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + as_bytes(one) + b"\r\n" for one in of
        )
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
        return kind, body + f"--{BOUNDARY}--".encode()


def as_bytes(instance: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    instance.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def study(server: Server, patient: str, modality: str = "CT", seed: int = 0) -> tuple[str, np.ndarray]:
    """Puts a series on the server; gives the study's UID, and its pixels."""
    pixels = scan(seed=seed)
    slices = [make_slice(i, one, f"{patient} {modality}", patient) for i, one in enumerate(pixels)]
    for one in slices:
        one.Modality = modality
    server.instances += slices
    return slices[0].StudyInstanceUID, pixels


def fetch(server: Server, raw: Path, *more: str, token: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "dicomweb" / "fetch.py"), server.url, str(raw), *more]
    environment = os.environ | ({"DICOMWEB_TOKEN": token} if token else {})
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_studies_of_labels_csv_are_fetched_once_and_are_the_cases_of_their_files(server, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    ill, pixels = study(server, "Doe")
    well, other = study(server, "Roe", seed=1)
    study(server, "Roe", modality="SR", seed=2)
    study(server, "Poe", seed=3)
    (raw / "labels.csv").write_text(f"study,label\n{ill},ill\n{well},well\n")
    done = fetch(server, raw, "--modality", "CT", token="secret")
    assert done.returncode == 0, done.stderr
    assert server.tokens == {"Bearer secret"}
    made = ingest(raw, tmp_path)
    assert sorted(made.table["label"]) == ["ill", "well"]
    for label, found in zip(made.table["label"], made.pixels, strict=True):
        assert np.array_equal(found[0], pixels if label == "ill" else other)
    (tmp_path / "direct" / "ill").mkdir(parents=True)
    write_series(tmp_path / "direct" / "raw" / "ill", pixels, series="Doe CT")
    direct = ingest(tmp_path / "direct" / "raw", tmp_path / "direct")
    assert set(direct.table["affine"]) == set(made.table["affine"])
    server.asked.clear()
    assert fetch(server, raw, "--modality", "CT").returncode == 0
    assert all("?" in path for path in server.asked), "series that are there are searched for, and not fetched again"


@pytest.mark.slow
def test_what_is_not_whole_is_no_case_and_a_study_without_a_series_is_told(server, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    ill, _ = study(server, "Doe")
    (raw / "labels.csv").write_text(f"study,label\n{ill},ill\n")
    server.cut = True
    assert fetch(server, raw).returncode != 0
    assert [path for path in raw.rglob("*.dcm") if not any(part.startswith(".") for part in path.parts)] == []
    server.cut = False
    assert fetch(server, raw).returncode == 0
    assert len(list(raw.rglob("*.dcm"))) == 8
    (raw / "labels.csv").write_text(f"study,label\n{ill},ill\n1.2.3,well\n")
    done = fetch(server, raw)
    assert done.returncode != 0 and "1 of 2 rows" in done.stderr


@pytest.mark.slow
def test_a_file_of_a_web_server_is_imported_by_dvc(tmp_path):
    """As docs/data.md says: dvc records where it came from."""
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "scan.nii.gz").write_bytes(content)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"one"')
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        project = tmp_path / "project"
        project.mkdir()
        url = f"http://127.0.0.1:{http.server_port}/scan.nii.gz"
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "import-url", url, "scan.nii.gz"]):
            done = subprocess.run(command, cwd=project, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        assert (project / "scan.nii.gz").read_bytes() == content
        assert url in (project / "scan.nii.gz.dvc").read_text()
    finally:
        http.shutdown()
        http.server_close()
