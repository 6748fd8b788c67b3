"""Siemens mosaics: the slices of a volume as tiles of one picture, whose geometry is in private elements.

A mosaic becomes an object of several frames, one a tile, each with its own place. What the public elements say is about
the picture as a whole: ImagePositionPatient is where its corner would be if the picture were one slice around the
middle of the tiles. From which way and in which steps the tiles are stacked says Siemens' own header (CSA); nibabel
reads it. Its formulas, and dcm2niix's, are these:

    position of tile i = ImagePositionPatient + half of what the picture is larger than a tile + i x distance x normal

How many slices there are must be said twice, and all that is said twice must agree: else the mosaic is left as it is,
and rejected.
"""

import math
import re
import warnings
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.scans.dicom_geometry import normal_of
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance, Slice
from stages.lib.ingest.readers.scans.dicom_tags import number, parse

UNCERTAIN = "a Siemens mosaic whose geometry isn't certain: convert it first, as dcm2niix does"
CREATOR, IN_MOSAIC_CREATOR = "SIEMENS CSA HEADER", "SIEMENS MR HEADER"
IMAGE_HEADER, SERIES_HEADER = 0x10, 0x20  # elements of group 0029
IMAGES_IN_MOSAIC = 0x0A  # of group 0019
ALIGNED = 1e-3  # how far the length of the sum or difference of two unit vectors may be from 0
STEP_TOLERANCE_MM = 0.1  # between the protocol's slices and those that are reckoned
SLICE_COUNT = re.compile(rb"sSliceArray\.lSize\s*=\s*(\d{1,4})\b")
SLICE_CENTRE = re.compile(
    rb"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(-?[\d.]+(?:[eE][-+]?\d+)?)"
)
AXES = {b"Sag": 0, b"Cor": 1, b"Tra": 2}  # the patient's coordinates


def unpacked(content: bytes, header: Header, instance: Instance) -> tuple[Header, Instance]:
    """Header and instance as those of an object of frames; as they are where the geometry is not certain."""
    try:
        tiles, places = _geometry(parse(content, header.pixel_bytes)[0], header, instance)
    except Exception:  # private elements may hold anything
        return header, instance
    of_tiles = header._replace(mosaic=tiles, rows=header.rows // tiles, columns=header.columns // tiles)
    return of_tiles, instance._replace(frames=len(places), slices=places)


def whole(header: Header, instance: Instance) -> tuple[Header, Instance]:
    """Of a mosaic that was unpacked, those of the picture that is stored."""
    size = header.mosaic
    stored = header._replace(mosaic=0, rows=header.rows * size, columns=header.columns * size)
    return stored, instance._replace(frames=1, slices=instance.slices[:1])


def tile(picture: np.ndarray, header: Header, instance: Instance, i: int) -> np.ndarray:
    """(H, W): tile i of a picture of several, row by row.

    Raises:
        Rejected: A tile after the last one is not empty, so there are more slices than the header says.
    """
    rows, columns = header.rows, header.columns

    def at(k: int) -> np.ndarray:
        top, left = k // header.mosaic * rows, k % header.mosaic * columns
        return picture[top : top + rows, left : left + columns]

    for k in range(instance.frames, header.mosaic**2):
        if np.ptp(at(k)):
            raise Rejected("mosaic", f"tile {k + 1} of the mosaic is not empty, but it has {instance.frames} slices")
    return np.ascontiguousarray(at(i))


def _geometry(dataset: Dataset, header: Header, instance: Instance) -> tuple[int, tuple[Slice, ...]]:
    """How many tiles a side has, and each slice's place.

    Raises:
        Exception: It is not certain.
    """
    csa = _csa(bytes(dataset.private_block(0x29, CREATOR)[IMAGE_HEADER].value))
    planned = _planned(dataset)
    count = _count(dataset, csa, planned)
    tiles = math.ceil(math.sqrt(count))
    (one,) = instance.slices
    if header.rows % tiles or header.columns % tiles or instance.frames != 1:
        raise ValueError
    if one.position is None or one.orientation is None or one.spacing is None:
        raise ValueError
    across, along = np.array(one.orientation[:3]), np.array(one.orientation[3:])
    normal = np.array([float(value) for value in _only(csa, "SliceNormalVector", 3)])
    in_plane = normal_of(one.orientation)
    if min(np.linalg.norm(in_plane - normal), np.linalg.norm(in_plane + normal)) > ALIGNED:
        raise ValueError
    distance = number(dataset, "SpacingBetweenSlices")
    rest = [size - size // tiles for size in (header.rows, header.columns)]
    corner = np.array(one.position) + along * one.spacing[0] * rest[0] / 2 + across * one.spacing[1] * rest[1] / 2
    positions = [corner + i * distance * normal for i in range(count)]
    if distance <= 0 or not np.isfinite(positions).all():
        raise ValueError
    # Centre and corner of a slice lie equally far along the normal.
    if len(planned) and np.abs(np.sort(planned @ normal) - np.array(positions) @ normal).max() > STEP_TOLERANCE_MM:
        raise ValueError
    return tiles, tuple(one._replace(position=tuple(round(float(x), 6) for x in place)) for place in positions)


def _count(dataset: Dataset, csa: dict[str, Any], planned: np.ndarray) -> int:
    """How many slices there are.

    Raises:
        Exception: It is not said twice, or differently: a wrong number would cut other tiles.
    """
    counts = [int(_only(csa, "NumberOfImagesInMosaic", 1)[0])]
    if times := csa.get("MosaicRefAcqTimes", {}).get("items"):  # of each slice
        counts.append(len(times))
    if IN_MOSAIC_CREATOR in dataset.private_creators(0x19):
        block = dataset.private_block(0x19, IN_MOSAIC_CREATOR)
        if IMAGES_IN_MOSAIC in block:
            counts.append(int(block[IMAGES_IN_MOSAIC].value))
    if len(planned):
        counts.append(len(planned))
    if len(counts) < 2 or len(set(counts)) > 1 or counts[0] < 2:
        raise ValueError
    return counts[0]


def _csa(content: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():  # "experimental": hence the checks
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader  # a third of a second, for those who have mosaics

    tags: dict[str, Any] = csareader.read(content)["tags"]
    return tags


def _only(tags: dict[str, Any], name: str, count: int) -> list[Any]:
    items: list[Any] = tags[name]["items"]
    if len(items) != count:
        raise ValueError
    return items


def _planned(dataset: Dataset) -> np.ndarray:
    """(slices, 3) mm: the centres of the slices that the protocol plans; none where it isn't there."""
    block = dataset.private_block(0x29, CREATOR)
    header = bytes(block[SERIES_HEADER].value) if SERIES_HEADER in block else b""
    protocol = header.rpartition(b"### ASCCONV BEGIN")[2].partition(b"### ASCCONV END")[0]  # before it are templates
    if protocol == header:
        return np.zeros((0, 3))
    found = SLICE_COUNT.search(protocol)
    centres = np.zeros((int(found[1]) if found else 0, 3))
    # A coordinate that is 0 isn't written down; slices beyond the number are left over from an earlier plan.
    for i, axis, value in SLICE_CENTRE.findall(protocol):
        if int(i) < len(centres):
            centres[int(i), AXES[axis]] = float(value)
    return centres
