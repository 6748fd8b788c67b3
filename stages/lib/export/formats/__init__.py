"""The export formats, one module each; "To add a ... export format" in stages/lib/README.md tells what else to touch.

A module has three functions:

- `write(path, program)`: writes a `Program` with its metadata, the same bytes whatever the path; raises
  `runner.Unsupported` where the format can't hold its network;
- `load(path, content, any_operator)`: a `Model` in the format's own runtime, from the file alone. It is checked first:
  it runs no code, reads no other file, and calls operators that are known to be harmless, or `any_operator` if somebody
  vouches for the file. `content` is the file's, if it was read before;
- `read_metadata(path)`: the metadata that `write` wrote, see `stages.lib.export.metadata`.

`VOUCHED` is true where that is not enough, see `open_model`.
"""

import hashlib
import importlib
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.export.formats.runner import Model, Runner
from stages.lib.export.metadata_check import checked
from stages.lib.model import archive

# The modules' names: one is imported when a file needs it, as torch takes seconds, which an ONNX file can do without.
FORMATS = {
    ".torchscript": "torchscript",
    ".onnx": "onnx",
    ".pt2": "pt2",
}
METRICS = Path(__file__).parents[4] / "metrics"  # of this project: git keeps it, and nobody else's file is there
REPORTS = ("*/export.json", "*/study/export.json")


@cache
def file_format(suffix: str) -> ModuleType:
    """The module of a suffix of `FORMATS`."""
    return importlib.import_module(f"stages.lib.export.formats.{FORMATS[suffix]}")


def open_model(path: Path, trust: bool = False) -> tuple[Model, dict[str, Any]]:
    """An exported file to run, and its metadata.

    Args:
        trust: Whether the user answers for the file. Else an export.json of this project does, or it is checked more
            strictly; a .pt2 is refused.

    Raises:
        UserError: There is no such file, it is none of these formats, or it is refused.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path} is no exported model: expected one of {', '.join(f'*{suffix}' for suffix in FORMATS)}")
    if not path.exists():
        raise UserError(f"{path} not found: run the export stage first")
    content = archive.read_file(path)
    trust = trust or vouched_for(content)
    if getattr(file_format(path.suffix), "VOUCHED", False) and not trust:
        raise UserError(
            f"{path} is not from this project's export stage: its sha256 is in no {METRICS.name}/*/export.json. torch "
            f"may run code when it loads a {path.suffix} file. If you trust who made it, give --trust; or take the "
            "model's .onnx or .torchscript file"
        )
    model = file_format(path.suffix).load(path, content, any_operator=trust)
    return model, checked(model.metadata, path)


def vouched_for(content: bytes) -> bool:
    """Whether the export stage of this project wrote this file.

    An export.json beside the file would prove nothing: whoever sent the one may have sent the other.
    """
    wanted = hashlib.sha256(content).hexdigest()
    return any(wanted in _sums(path) for place in REPORTS for path in METRICS.glob(place))


def _sums(export_json: Path) -> list[str]:
    """The files' checksums; none of an export.json that is broken or of an older version."""
    try:
        report = json.loads(export_json.read_text(encoding="utf-8"))
        files = [part for part in {**report, **report["variants"]}.values() if isinstance(part, dict)]
        return [part["sha256"] for part in files if "sha256" in part]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


__all__ = ["FORMATS", "Model", "Runner", "file_format", "open_model", "vouched_for"]
