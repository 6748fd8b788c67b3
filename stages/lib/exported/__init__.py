"""The formats a model leaves the pipeline in, one a file.

Each has two functions:

- `write(path, program)`: writes a `Program` with its metadata, the same bytes whatever the path;
- `load(path)`: a `Runner` in the format's own runtime, from the file alone; refuses pickled code.
"""

from types import ModuleType

from stages.lib.exported import onnx, pt2, torchscript
from stages.lib.exported.program import Runner

FORMATS: dict[str, ModuleType] = {
    ".torchscript": torchscript,
    ".onnx": onnx,
    ".pt2": pt2,
}

__all__ = ["FORMATS", "Runner"]
