"""Siemens mosaics: the slices of a volume as tiles of one picture."""

import math
import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from tests.raw_data import ingest, make_slice, scan

STEP_MM = 4.0
NORMAL = (0.0, 0.0, 1.0)


def csa(**tags: list) -> bytes:
    """Siemens' private header, as nibabel's documentation describes it."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(tags), 77)]
    for name, items in tags.items():
        parts.append(struct.pack("<64si4s3i", name.encode(), len(items), b"FD\0\0", 4, len(items), 77))
        for item in items:
            text = f"{item}\0".encode()
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def protocol(centres: list) -> bytes:
    """The part of Siemens' protocol that plans the slices; a coordinate that is 0 is left out, as there."""
    lines = [f"sSliceArray.lSize\t = \t{len(centres)}"]
    for i, centre in enumerate(centres):
        for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=True):
            if value:
                lines.append(f"sSliceArray.asSlice[{i}].sPosition.d{axis}\t = \t{value}")
    before = ["sSliceArray.lSize\t = \t77", "### ASCCONV BEGIN object=MrProtDataImpl ###"]  # of a template
    return "\n".join([*before, *lines, "### ASCCONV END ###"]).encode()


def mosaic(volume: np.ndarray, number: int = 1, normal=NORMAL, count: int | None = None, planned=None) -> Dataset:
    """A volume (D, H, W) as one picture, the corner of whose first slice lies at (-10, -20, 30)."""
    depth, rows, columns = volume.shape
    tiles = math.ceil(math.sqrt(depth))
    picture = np.zeros((tiles * rows, tiles * columns), volume.dtype)
    for i, plane in enumerate(volume):
        top, left = i // tiles * rows, i % tiles * columns
        picture[top : top + rows, left : left + columns] = plane
    image = make_slice(number, picture)
    image.Modality, image.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    image.PixelData = picture.tobytes()
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.AcquisitionNumber, image.SpacingBetweenSlices = number, STEP_MM
    image.PixelSpacing = [2, 3]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-10 - 3 * columns * (tiles - 1) / 2, -20 - 2 * rows * (tiles - 1) / 2, 30]
    block = image.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    tags = {"NumberOfImagesInMosaic": [count or depth], "SliceNormalVector": list(normal)}
    tags["MosaicRefAcqTimes"] = [100.0 * i for i in range(depth)]
    block.add_new(0x10, "OB", csa(**tags))
    if planned is not None:
        block.add_new(0x20, "OB", protocol(planned))
    return image


def write(folder, *images: Dataset) -> None:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save_as(folder / f"{i}.dcm", enforce_file_format=True)


def volume_of(depth: int, seed: int = 0) -> np.ndarray:
    return (scan(depth, 4, 6, seed) & 0xFFF).astype(np.uint16)


@pytest.mark.parametrize("depth", [2, 5, 9])
@pytest.mark.parametrize("turned", [1, -1])
def test_a_mosaic_is_the_volume_that_its_tiles_are(tmp_path, depth, turned):
    volume = volume_of(depth)
    write(tmp_path / "raw" / "a", mosaic(volume, normal=(0.0, 0.0, turned * 1.0)))
    got = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    (pixels,) = got.pixels
    # Slices are in the order of the normal of rows and columns, whichever way Siemens stacks them.
    assert (pixels[0] == volume[::turned]).all()
    assert got.spacings_mm.tolist() == [[STEP_MM, 2, 3]]
    lowest = 30 + min(0, turned * (depth - 1) * STEP_MM)
    affine = [float(value) for value in got.table["affine"][0].split()]
    assert np.reshape(affine, (3, 4))[:, 3].tolist() == [-10, -20, lowest]


def test_mosaics_of_a_series_are_its_phases(tmp_path):
    volumes = [volume_of(5, seed) for seed in range(3)]
    write(tmp_path / "raw" / "a", *(mosaic(volume, i + 1) for i, volume in enumerate(volumes)))
    got = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    by_phase = dict(zip(got.table["phase"], got.pixels, strict=True))
    assert all((by_phase[str(i)][0] == volume).all() for i, volume in enumerate(volumes))
    assert len(ingest(tmp_path / "raw", tmp_path / "first", split_4d="first").pixels) == 1


def test_a_compressed_mosaic_gives_the_same_volume(tmp_path):
    volume = volume_of(5)
    image = mosaic(volume)
    image.compress(RLELossless)
    write(tmp_path / "raw" / "a", image)
    (pixels,) = ingest(tmp_path / "raw", tmp_path / "out").pixels
    assert (pixels[0] == volume).all()


def test_a_protocol_that_plans_the_same_slices_is_no_obstacle_and_its_order_does_not_matter(tmp_path):
    centres = [(0, 5, 30 + i * STEP_MM) for i in (0, 2, 4, 1, 3)]
    image = mosaic(volume_of(5), planned=centres)
    left_over = b"\nsSliceArray.asSlice[5].sPosition.dTra\t = \t999"  # of an earlier plan with more slices
    element = image[0x0029, 0x1020]
    element.value = element.value.replace(b"\n### ASCCONV END", left_over + b"\n### ASCCONV END")
    write(tmp_path / "raw" / "a", image)
    assert len(ingest(tmp_path / "raw", tmp_path / "out").pixels) == 1


def sound() -> Dataset:
    """A mosaic of another series."""
    image = mosaic(volume_of(5, 7))
    image.SeriesInstanceUID += ".1"
    image.SOPInstanceUID += ".1"
    return image


def without_csa(image: Dataset) -> None:
    del image[0x0029, 0x1010]


def without_distance(image: Dataset) -> None:
    del image.SpacingBetweenSlices


def with_another_number(image: Dataset) -> None:
    image.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 6)


def with_a_broken_header(image: Dataset) -> None:
    element = image[0x0029, 0x1010]
    element.value = element.value[:50]


@pytest.mark.parametrize(
    "image",
    [
        mosaic(volume_of(5), normal=(0.0, 1.0, 0.0)),
        mosaic(volume_of(5), normal=(0.0, 0.0, math.nan)),
        mosaic(volume_of(5), count=1),
        mosaic(volume_of(5), count=10),  # four tiles a side do not fit
        mosaic(volume_of(5), count=4),  # then the fifth tile is not empty
        mosaic(volume_of(5), planned=[(0, 0, 30 + 5 * i) for i in range(5)]),
        mosaic(volume_of(5), planned=[(0, 0, 30 + STEP_MM * i) for i in range(6)]),
    ],
)
def test_a_mosaic_whose_geometry_is_not_certain_is_rejected_as_one(tmp_path, image):
    write(tmp_path / "raw" / "a" / "x", image)
    write(tmp_path / "raw" / "a" / "y", sound())
    got = ingest(tmp_path / "raw", tmp_path / "out")
    assert got.reason("a/x/0.dcm") == "mosaic" and len(got.pixels) == 1


@pytest.mark.parametrize("spoil", [without_csa, without_distance, with_another_number, with_a_broken_header])
def test_a_mosaic_whose_private_elements_are_lost_or_contradict_each_other_is_rejected_as_one(tmp_path, spoil):
    image = mosaic(volume_of(5))
    spoil(image)
    write(tmp_path / "raw" / "a" / "x", image, mosaic(volume_of(5), 2))
    write(tmp_path / "raw" / "a" / "y", sound())
    got = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    assert len(got.pixels) == 1, "the other series"
    assert got.reason("a/x/0.dcm") == got.reason("a/x/1.dcm") == "mosaic"
    assert "convert it first, as dcm2niix does" in got.rejected.set_index("path").loc["a/x/0.dcm", "detail"]


def test_a_mosaic_as_picture_is_a_film_of_its_slices(tmp_path):
    volume = volume_of(5)
    write(tmp_path / "raw" / "a", mosaic(volume))
    got = ingest(tmp_path / "raw", tmp_path / "out", kind="images", frames="middle")
    (pixels,) = got.pixels
    assert (pixels[0] == volume[2]).all()
