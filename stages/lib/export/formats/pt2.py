""".pt2: torch.export's own format, for Python without this project's code and for ahead-of-time compilation."""

import io
import json
import zipfile
from pathlib import Path

import torch

from stages.lib.core.errors import UserError
from stages.lib.export.formats import archive
from stages.lib.export.formats.program import Program, Runner, torch_runner


def write(path: Path, program: Program) -> None:
    content = io.BytesIO()
    torch.export.save(program.exported, content, extra_files={archive.METADATA: json.dumps(program.metadata)})
    path.write_bytes(archive.normalised(content.getvalue()))


read_metadata = archive.read_metadata


def load(path: Path) -> Runner:
    """Loads a .pt2 after checking that no member of the archive is a pickle that could run code."""
    try:
        _refuse_pickles(path)
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()  # a path would need the suffix
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is no .pt2 file that this torch reads: {error}") from None

    return torch_runner(module, read_metadata(path))


def _refuse_pickles(path: Path) -> None:
    """Checks every member that torch.export.load might unpickle: as a fallback, it unpickles anything."""
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            content = file.read(name)
            if name.endswith(("_weights_config.json", "_constants_config.json")):
                pickled = [k for k, v in json.loads(content)["config"].items() if v["use_pickle"]]
                if pickled:
                    raise UserError(
                        f"{path} holds pickled tensors ({', '.join(pickled)}), which could run code: refused"
                    )
            elif "/data/sample_inputs/" in name:
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except Exception:
                    raise UserError(f"{path} holds a pickle that could run code ({name}): refused") from None
