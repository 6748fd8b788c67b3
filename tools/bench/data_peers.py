"""Other libraries that bring cases to one shape, for the group `data`."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.cases import Cases
from stages.lib.workers import count
from tools.bench.processes import in_parts
from tools.bench.timing import Work, installed

CT_MM, WANTED_MM = (3.0, 0.56, 0.56), (3.0, 1.8, 1.8)


class Resampling(NamedTuple):
    """Another library's way from a case to a sample."""

    name: str
    package: str
    one: Callable[[np.ndarray], np.ndarray]
    why: str


def resampling(peer: Resampling, folder: Path, held: ExitStack) -> Work:
    """The peer in as many processes as there are cores, each at a part of the cases; `held` ends them."""
    if not installed(peer.package, bool):
        return Work(peer.name, None, peer.why)
    call = held.enter_context(in_parts(count(0)))
    return Work(peer.name, lambda: call(partial(resample_part, peer.one), folder / "cases")[0], peer.why)


def resample_part(one: Callable[[np.ndarray], np.ndarray], cases: Path, part: int, parts: int) -> np.ndarray | None:
    """Resamples each case of a part; the first of them."""
    first = None
    with Cases(cases) as opened:
        for i in range(part, len(opened), parts):
            sample = one(opened[i])
            first = sample if first is None else first
    return first


def resize(x: np.ndarray) -> np.ndarray:
    import torch
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)
    return functional.resize(torch.from_numpy(x.copy()), [224, 224], antialias=True).numpy()


def resample(x: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    volume = sitk.GetImageFromArray(x[0])
    volume.SetSpacing(CT_MM[::-1])
    half = [(b - a) / 2 for a, b in zip(CT_MM[::-1], WANTED_MM[::-1], strict=True)]  # to the first pixel's centre
    size = [160, 160, 96]
    return sitk.GetArrayFromImage(
        sitk.Resample(volume, size, sitk.Transform(), sitk.sitkLinear, half, WANTED_MM[::-1], volume.GetDirection())
    )[None]


def space(x: np.ndarray) -> np.ndarray:
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    torch.set_num_threads(1)
    affine = torch.diag(torch.tensor([*CT_MM, 1.0]))
    return Spacing(WANTED_MM, mode="bilinear")(MetaTensor(torch.from_numpy(x.astype(np.float32)), affine)).numpy()


RESAMPLING_WHY = "It rounds as its own arithmetic has it, keeps the result in memory, and computes no moments."
PEERS = {
    "large": [Resampling("torchvision, antialiased", "torchvision", resize, RESAMPLING_WHY)],
    "ct": [
        Resampling("SimpleITK, linear", "SimpleITK", resample, RESAMPLING_WHY),
        Resampling("MONAI, Spacing", "monai", space, RESAMPLING_WHY),
    ],
}
