"""The export formats, one module each; "To add a ... export format" in stages/lib/README.md tells what else to touch.

A module has three functions:

- `write(path, program)`: writes a `Program` with its metadata, the same bytes whatever the path;
- `load(path)`: a `Runner` in the format's own runtime, from the file alone; refuses a pickle that could run code;
- `read_metadata(path)`: the metadata that `write` wrote, see `stages.lib.export.metadata`.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.export.formats import onnx, pt2, torchscript
from stages.lib.export.formats.program import Runner

FORMATS: dict[str, ModuleType] = {
    ".torchscript": torchscript,
    ".onnx": onnx,
    ".pt2": pt2,
}


def open_model(path: Path) -> tuple[Runner, dict[str, Any]]:
    """An exported file to run, and its metadata.

    Raises:
        UserError: There is no such file, or it is none of these formats.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path} is no exported model: expected one of {', '.join(f'*{suffix}' for suffix in FORMATS)}")
    if not path.exists():
        raise UserError(f"{path} not found: run the export stage first")
    run = FORMATS[path.suffix].load(path)
    return run, FORMATS[path.suffix].read_metadata(path)


__all__ = ["FORMATS", "Runner", "open_model"]
