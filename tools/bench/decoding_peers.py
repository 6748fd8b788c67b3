"""Other libraries that decode pictures and CT series, for the group `decoding`."""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import numpy as np

CHECKS_WHY = "Ours refuses files that end early or are damaged, and brings the picture into the order C, H, W."
SERIES_WHY = "It does not check the geometry of the series, or less of it."
AFFINE_WHY = "Ours turns the volume and holds its affine against what the header says elsewhere."


class Decoder(NamedTuple):
    """A library that decodes pictures."""

    name: str
    package: str
    decode: Callable[[bytes], np.ndarray]  # to (H, W, 3) uint8
    formats: tuple[str, ...] = ("jpeg", "png")
    why: str = CHECKS_WHY


class VolumeReader(NamedTuple):
    """A library that makes a volume of a CT series, or of one file."""

    name: str
    package: str
    # Of a folder for files of its own, and the series' folder or the file; in any order of axes.
    read: Callable[[Path, Path], np.ndarray]
    why: str = SERIES_WHY
    endings: tuple[str, ...] = ()  # of the files


def by_simplejpeg(content: bytes) -> np.ndarray:
    import simplejpeg

    return simplejpeg.decode_jpeg(content)


def by_torchvision(content: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_image

    coded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_image(coded, ImageReadMode.RGB).permute(1, 2, 0).numpy()


def by_pillow(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))


def by_imagecodecs_jpeg(content: bytes) -> np.ndarray:
    import imagecodecs

    return imagecodecs.jpeg8_decode(content)


def by_imagecodecs_png(content: bytes) -> np.ndarray:
    import imagecodecs

    return imagecodecs.png_decode(content)


def by_opencv(content: bytes) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def by_pyvips(content: bytes) -> np.ndarray:
    import pyvips

    return pyvips.Image.new_from_buffer(content, "").numpy()


def by_pydicom(scratch: Path, series: Path) -> np.ndarray:
    import pydicom

    slices: list[Any] = [pydicom.dcmread(path) for path in series.rglob("*") if path.is_file()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    stored = np.stack([one.pixel_array for one in slices])
    return (stored * slices[0].RescaleSlope + slices[0].RescaleIntercept).astype(np.int16)


def by_simpleitk(scratch: Path, series: Path) -> np.ndarray:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return sitk.GetArrayFromImage(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))))


def by_highdicom(scratch: Path, series: Path) -> np.ndarray:
    import highdicom
    import pydicom

    files = [pydicom.dcmread(path) for path in series.rglob("*") if path.is_file()]
    return highdicom.get_volume_from_series(files).array


def by_monai(scratch: Path, series: Path) -> np.ndarray:
    from monai.transforms import LoadImage

    return np.asarray(LoadImage("PydicomReader", image_only=True)(str(series)))


def by_dcm2niix(scratch: Path, series: Path) -> np.ndarray:
    """By way of an uncompressed NIfTI file, whose pixels follow its header of 352 bytes."""
    import dcm2niix

    scratch.mkdir(exist_ok=True)
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-w", "1", "-f", "volume", "-o", str(scratch), str(series)]
    subprocess.run(command, check=True, capture_output=True)
    slope, intercept = np.fromfile(scratch / "volume.nii", "<f4", 2, offset=112)
    return (np.fromfile(scratch / "volume.nii", "<i2", offset=352) * slope + intercept).astype(np.int16)


def by_nibabel(scratch: Path, file: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]


def by_pynrrd(scratch: Path, file: Path) -> np.ndarray:
    import nrrd

    return nrrd.read(str(file))[0]


def by_simpleitk_file(scratch: Path, file: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


DECODERS = [
    Decoder("simplejpeg", "simplejpeg", by_simplejpeg, ("jpeg",), f"Ours calls it. {CHECKS_WHY}"),
    Decoder("torchvision.io", "torchvision", by_torchvision),
    Decoder("Pillow", "PIL", by_pillow),
    Decoder("imageio", "imageio", imageio.imread),
    Decoder("imagecodecs", "imagecodecs", by_imagecodecs_jpeg, ("jpeg",)),
    Decoder("imagecodecs", "imagecodecs", by_imagecodecs_png, ("png",)),
    Decoder("OpenCV", "cv2", by_opencv),
    Decoder("libvips", "pyvips", by_pyvips),
]
VOLUME_READERS = [
    VolumeReader("pydicom", "pydicom", by_pydicom),
    VolumeReader("SimpleITK", "SimpleITK", by_simpleitk),
    VolumeReader("highdicom", "highdicom", by_highdicom),
    VolumeReader("MONAI, PydicomReader", "monai", by_monai),
    VolumeReader("dcm2niix", "dcm2niix", by_dcm2niix, f"It is a program in C++. {SERIES_WHY}"),
]
FILE_READERS = [
    VolumeReader("nibabel", "nibabel", by_nibabel, AFFINE_WHY, (".nii.gz",)),
    VolumeReader("pynrrd", "nrrd", by_pynrrd, AFFINE_WHY, (".nrrd",)),
    VolumeReader("SimpleITK", "SimpleITK", by_simpleitk_file, AFFINE_WHY, (".nii.gz", ".nrrd", ".mha")),
]
