"""Torch Hub entry points: the networks, untrained, and the models that the pipeline trained; torch alone is needed.

torch.hub.load("<owner>/<repository>", "compact", channels=3, classes=2, size=(32, 32), widths=[16, 32, 64])
torch.hub.load("<folder of the repository>", "digits", source="local")  # once models/digits is there

A trained model takes pictures as they were read, of any size (volumes with their spacing), and gives probabilities, or
a number and its interval: everything else is inside. With `about=True` the file's own metadata comes too: the classes,
what the input may be, and, where it answers more than one class, `target` and the names of its `outputs`.
"""

import functools
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from stages.lib.model import archive, script_check
from stages.lib.model.networks import NETWORKS

dependencies = ["torch"]
OF_OTHERS = ("torchvision", "hub")  # these networks are others' own, and are had from there


def _trained(path: Path, about: bool = False) -> Any:
    """The trained model; with `about`, the model and its metadata."""
    members = script_check.read(path, archive.read_file(path), any_operator=True)  # the repository's own model
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # TorchScript is deprecated, but needs no code of this project to load
        model = torch.jit.load(io.BytesIO(archive.packed(members)), map_location="cpu").eval()
    return (model, archive.metadata_of(members)) if about else model


# Torch Hub looks for a callable of the model's name in this module.
OURS = {name: network for name, network in NETWORKS.items() if name not in OF_OTHERS}
globals().update(OURS)
for _path in sorted(Path(__file__).parent.glob("models/*/model.torchscript")):
    if _path.parent.name not in OURS:  # a dataset called like a network is loaded by its file
        globals()[_path.parent.name] = functools.partial(_trained, _path)
