"""Runs ingest for tools and tests, into a folder of their own with the names that dvc.yaml gives its outs."""

from pathlib import Path

from stages import ingest
from stages.lib.params.ingest import IngestParams
from stages.lib.params.machine import MachineParams


def ingest_into(out: Path, raw: Path, params: IngestParams, workers: int = 0) -> None:
    """Args: workers: 0 for as many as there are cores."""
    machine = MachineParams(workers=workers)
    ingest.main(raw, out / "cases", out / "cases.csv", out / "ingest.json", out / "ingest.png", params, machine)
