""".pt2: torch.export's own format, for Python without this project's code and for ahead-of-time compilation."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive._package import load_pt2

from stages.lib.core.errors import UserError
from stages.lib.export.formats import graph_check
from stages.lib.export.formats.program import Program, torch_model
from stages.lib.export.formats.runner import Model
from stages.lib.model import archive

VOUCHED = True  # torch makes no promise about files of others, so the checks here are not relied on alone


def write(path: Path, program: Program) -> None:
    content = io.BytesIO()
    torch.export.save(program.exported, content, extra_files={archive.METADATA: json.dumps(program.metadata)})
    path.write_bytes(archive.normalised(content.getvalue()))


def load(path: Path, content: bytes | None = None, any_operator: bool = False) -> Model:
    members = graph_check.read(path, archive.read_file(path) if content is None else content, any_operator)
    metadata = archive.metadata_of(members)
    try:
        # torch.export.load would try an older format, too, which is pickled.
        program = load_pt2(io.BytesIO(archive.packed(members))).exported_programs["model"]
        module = program.module(check_guards=False)
    except Exception as error:  # of many classes, with pages of text
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"{path} is no .pt2 file that this torch reads: {reason}") from None
    return torch_model(module, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    return archive.metadata_of(graph_check.read(path, archive.read_file(path), any_operator=True))
