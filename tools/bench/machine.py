"""What the measurements depend on beside the code: the machine, and the versions of packages."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from stages.lib.workers import count

PACKAGES = (
    "datasets", "dcm2niix", "executorch", "fastai", "h5py", "highdicom", "imagecodecs", "imageio", "lightning", "monai",
    "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pandas", "pillow", "pydicom", "pyvips", "SimpleITK",
    "simplejpeg", "timm", "torch", "torchvision", "ultralytics", "webdataset",
)  # fmt: skip


class Machine(NamedTuple):
    processor: str  # its model, as the system names it
    cores: int  # that this process may use
    memory_gib: float
    system: str
    python: str

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gib:.0f} GiB of memory, {self.system}, "
            f"Python {self.python}"
        )


def facts() -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return Machine(_processor(), count(0), round(memory, 1), system, platform.python_version())


def _processor() -> str:
    """The model of the processor."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The version of each of PACKAGES that is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
