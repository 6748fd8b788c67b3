"""What tests of ingest share."""

import pytest

from stages.lib.ingest import piece_jobs


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that were decoded so far."""
    files: list[str] = []
    decode = piece_jobs.decode

    def counted(template, *given):
        files.extend(file.path for file in template.case.files)
        return decode(template, *given)

    monkeypatch.setattr(piece_jobs, "decode", counted)
    return files
