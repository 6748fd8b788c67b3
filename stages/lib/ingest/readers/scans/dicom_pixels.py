"""The pixels of a DICOM frame: stored values, masked to their bits and rescaled to physical values."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import Case, Rejected, where_raised
from stages.lib.ingest.readers.scans import dicom_copies, dicom_mosaic, dicom_voi
from stages.lib.ingest.readers.scans.dicom_copies import Twin
from stages.lib.ingest.readers.scans.dicom_grid import Grid
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance, Slice
from stages.lib.ingest.readers.scans.dicom_tags import parse

AIR_HU, MOST_HU = -1000, 3071  # 3071: the most that 12 bits hold, as of metal
QUANTITIES = ("CT", "PT")  # modalities whose values measure something
MOST_16_BITS = 65535
BY_CODEC = ("YBR_ICT", "YBR_RCT")  # colours that JPEG 2000 alone turns into RGB
PARTIAL = ("YBR_PARTIAL_420", "YBR_PARTIAL_422")  # nobody turns these
# Packages of pyproject.toml, which `make setup` installs, by how the names of their transfer syntaxes start.
DECODERS = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg", "JPEG": "python-gdcm"}


class FramePlace(NamedTuple):
    """Where the pixels of a slice are."""

    file: int  # its position among the case's files
    frame: int


class Recipe(NamedTuple):
    """What `dicom.read` needs to know of a case beside its files."""

    dtype: str
    places: tuple[FramePlace, ...]  # of the slices in their order, or of the one picture
    twins: tuple[Twin, ...] = ()  # frames of other files that must show the same
    grid: Grid | None = None  # that the slices are resampled onto
    numbers: tuple[int, ...] = ()  # of the places, among all of the case
    averaged: int = 0  # of so many phases, one after the other in places, the mean is taken

    @staticmethod
    def plain(
        dtype: str, places: Iterable[tuple[int, int]], grid: Grid | None = None, averaged: int = 0
    ) -> tuple[Any, ...]:
        """As the contract wants it: plain tuples; no more of them than there is to say."""
        short: tuple[Any, ...] = (dtype, tuple(places))
        return (*short, (), grid.plain() if grid else None, averaged) if grid or averaged else short

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...], start: int, stop: int) -> "Recipe":
        """Of what the slices start..stop of the case are made of alone."""
        left_out: tuple[Any, ...] = ((), None, 0)
        dtype, places, twins, grid, averaged = plain + left_out[len(plain) - 2 :]
        on = Grid.from_plain(grid) if grid else None
        first, last = on.sources(start, stop) if on else (start, stop)
        depth = len(places) // (averaged or 1)
        numbers = tuple(phase * depth + i for phase in range(averaged or 1) for i in range(first, last))
        compared = tuple(dicom_copies.from_plain(twins, set(numbers))) if twins else ()
        return cls(dtype, tuple(FramePlace(*places[i]) for i in numbers), compared, on, numbers, averaged)


def compared_with(case: Case, twins: Sequence[Twin]) -> Case:
    """The case, whose pixels are held against those of other files when they are read."""
    if not twins:
        return case
    dtype, places, *more = case.recipe
    return case._replace(recipe=(dtype, places, dicom_copies.plain(twins), *more[1:]))


class Rescaling(NamedTuple):
    dtype: str
    units: str  # "HU" or ""


def rescaling(header: Header, slices: Sequence[Slice], intensity: str = "stored") -> Rescaling:
    """The dtype that holds every value of these slices, and its unit; `intensity` as of `IngestParams`.

    Slope and intercept that differ between slices (PET), or are no integers, give float32.

    Raises:
        Rejected: It is not certain what the values mean.
    """
    if header.lookup_table:
        raise Rejected("modality_lut", "a modality lookup table is not supported")
    if header.mosaic < 0:
        raise Rejected("mosaic", dicom_mosaic.UNCERTAIN)
    if header.in_colour:
        return Rescaling("uint16" if max(header.palette_bits, header.bits_allocated) > 8 else "uint8", "")
    ct = header.modality == "CT"
    if header.modality in QUANTITIES and header.inverted:
        detail = "by MONOCHROME1 or PresentationLUTShape high values stand for dark, in a CT or PET"
        raise Rejected("inverted_values", detail)
    if ct and any(s.slope is None or s.intercept is None for s in slices):
        raise Rejected(
            "rescale_missing", "RescaleSlope or RescaleIntercept is missing, so these are no Hounsfield units"
        )
    if intensity in ("bits", "voi"):
        return Rescaling("uint16", "")
    if intensity == "hu" and not (ct and header.rescale_type in ("", "HU")):
        raise Rejected("no_hounsfield_units", "ingest.intensity is hu, and these are none")
    scales = {_scale(s) for s in slices}
    if any(slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept) for slope, intercept in scales):
        raise Rejected("malformed", "RescaleSlope is 0 or no number")
    units = "HU" if ct and header.rescale_type in ("", "HU") else ""
    if len(scales) > 1 or any(number != int(number) for number in next(iter(scales))):
        return Rescaling("float32", units)
    return Rescaling(_integer_type(header, *next(iter(scales))), units)


def _scale(s: Slice) -> tuple[float, float]:
    return 1.0 if s.slope is None else s.slope, 0.0 if s.intercept is None else s.intercept


def _integer_type(header: Header, slope: float, intercept: float) -> str:
    """The smallest integer type that holds every value of the stored bits; float32 where 16 bits are too few."""
    low, high = _ends(header, slope, intercept)
    if header.modality == "CT":
        return "int16"  # enough for any tissue or metal; whether these values fit is checked when they are read
    for dtype in ("uint8", "uint16", "int16"):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    return "float32"


def _stored_range(header: Header) -> tuple[int, int]:
    if header.signed:
        return -(1 << header.bits_stored - 1), (1 << header.bits_stored - 1) - 1
    return 0, (1 << header.bits_stored) - 1


def _ends(header: Header, slope: float, intercept: float) -> tuple[float, float]:
    """The least and the largest value that the stored bits can stand for."""
    one, other = (value * slope + intercept for value in _stored_range(header))
    return min(one, other), max(one, other)


def missing_decoder(syntax: str) -> str | None:
    """A message that names the package to install for a transfer syntax; None where nothing is missing."""
    uid = UID(syntax)
    if not uid.is_compressed or uid.is_deflated:
        return None
    try:
        if get_decoder(uid).is_available:
            return None
        names = [package for start, package in DECODERS.items() if uid.name.startswith(start)]
        return f"no decoder for DICOM files compressed as {uid.name} ({uid}): pip install {names[0] if names else ''}"
    except NotImplementedError:
        return None  # no decoder exists: each such file is rejected


def read(
    content: bytes, header: Header, instance: Instance, frame: int, dtype: str, intensity: str = "stored"
) -> np.ndarray:
    """A frame's values: (H, W), or (3, H, W) in colour; `intensity` as of `IngestParams`.

    Raises:
        Rejected: The pixels can't be decoded, or don't fit.
    """
    if header.mosaic > 0:
        return dicom_mosaic.tile(_mosaic(content, header, instance, dtype, intensity), header, instance, frame)
    if header.in_colour:
        return np.ascontiguousarray(_colours(content, header, instance.frames, frame).transpose(2, 0, 1)).astype(
            dtype, copy=False
        )
    container = _uncompressed(content, header, instance, frame) if instance.pixel_start >= 0 else None
    if container is None:
        container = _decoded(content, header, instance.frames, frame)
    place = instance.slices[min(frame, len(instance.slices) - 1)]
    if intensity == "bits":
        low, high = _stored_range(header)
        return _in_16_bits((_stored(container, header).astype(np.float64) - low) / (high - low), header)
    if intensity == "voi":
        slope, intercept = _scale(place)
        values = _stored(container, header) * slope + intercept
        may_be_negative = _ends(header, slope, intercept)[0] < 0
        shown = dicom_voi.shown(values, _whole(content, header, instance.frames).dataset, frame, may_be_negative)
        return _in_16_bits(shown, header)
    is_air = _is_padding(container, header, place) if header.modality == "CT" and header.padding is not None else None
    return _rescaled(_stored(container, header), place, header, dtype, is_air)


@lru_cache(maxsize=1)
def _mosaic(content: bytes, header: Header, instance: Instance, dtype: str, intensity: str) -> np.ndarray:
    """The picture of all tiles of the mosaic that was read last: of each, all tiles are asked for."""
    return read(content, *dicom_mosaic.whole(header, instance), 0, dtype, intensity)


def _in_16_bits(shown: np.ndarray, header: Header) -> np.ndarray:
    """From 0 for the darkest to 1 for the brightest, but where the header says that it is the other way round."""
    return np.rint((1 - shown if header.inverted else shown) * MOST_16_BITS).astype(np.uint16)


def _uncompressed(content: bytes, header: Header, instance: Instance, frame: int) -> np.ndarray:
    """(H, W) unsigned integers of all allocated bits, as they are in the file."""
    size = header.rows * header.columns
    dtype = np.dtype(f"{'<' if header.little_endian else '>'}u{header.bits_allocated // 8}")
    flat = np.frombuffer(content, dtype, size, instance.pixel_start + frame * size * dtype.itemsize)
    return flat.reshape(header.rows, header.columns)


@contextmanager
def _errors_of_decoders(header: Header) -> Iterator[None]:
    """Raises:
    Rejected: What is done in the block fails, or no decoder reads the transfer syntax, which the detail names.
    """
    name = UID(header.syntax).name
    try:
        yield
    except Rejected:
        raise
    except NotImplementedError:
        way = "decompress it first, as gdcmconv or dcmdjpeg do"
        raise Rejected("no_decoder", f"no decoder reads {name}: {way}") from None
    except Exception as error:  # every plugin raises its own types
        raise Rejected("corrupt", f"{where_raised(error)} ({name})") from None


def _decoded(content: bytes, header: Header, frames: int, frame: int) -> np.ndarray:
    """(H, W) unsigned integers of all allocated bits, decoded by pydicom and its plugins."""
    with _errors_of_decoders(header):
        pixels = _whole(content, header, frames).decode(frame)
    if pixels.shape != (header.rows, header.columns):
        raise Rejected("corrupt", f"decoded to {pixels.shape}, expected {header.rows} rows, {header.columns} columns")
    return pixels.astype(pixels.dtype.newbyteorder("=")).view(f"u{pixels.dtype.itemsize}")


def _colours(content: bytes, header: Header, frames: int, frame: int) -> np.ndarray:
    """(H, W, 3)."""
    if header.photometric in BY_CODEC and not UID(header.syntax).is_compressed or header.photometric in PARTIAL:
        raise Rejected("unsupported_colours", f"{header.photometric} in {UID(header.syntax).name}")
    with _errors_of_decoders(header):
        whole = _whole(content, header, frames)
        pixels = whole.decode(frame)  # YBR_FULL comes back as RGB, and so do those of BY_CODEC
        if header.photometric == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, whole.dataset)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise Rejected("unsupported_colours", f"decoded to {pixels.shape}, expected rows, columns and 3 colours")
    return pixels


class _Whole:
    """A file with its pixels, parsed once for all of its frames."""

    def __init__(self, dataset: pydicom.Dataset, header: Header, frames: int) -> None:
        self.dataset = dataset
        self._header = header
        self._compressed: list[bytes] | None = None
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            # All at once: pydicom would look for each frame from the first one on.
            self._compressed = list(generate_frames(dataset.PixelData, number_of_frames=frames))

    def decode(self, frame: int) -> np.ndarray:
        if self._compressed is None:
            return pixel_array(self.dataset, index=frame)
        codestream.check_frame(self._compressed[frame], self._header.rows, self._header.columns)
        self.dataset.NumberOfFrames = 1
        self.dataset.PixelData = encapsulate([self._compressed[frame]], has_bot=False)
        return pixel_array(self.dataset, index=0)


@lru_cache(maxsize=1)
def _whole(content: bytes, header: Header, frames: int) -> _Whole:
    """The file, if there is one of several frames the one that was read last."""
    dataset = parse(content, pixel_bytes=header.pixel_bytes * frames)[0]
    if not dataset.get("BitsStored"):
        dataset.BitsStored = dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
    return _Whole(dataset, header, frames)


def _stored(container: np.ndarray, header: Header) -> np.ndarray:
    """Masks what lies outside the stored bits (old overlays, garbage) and restores the sign."""
    if header.bits_stored == header.bits_allocated:
        return container.view(container.dtype.str.replace("u", "i")) if header.signed else container
    shift = header.high_bit + 1 - header.bits_stored
    masked = (container >> shift if shift else container) & ((1 << header.bits_stored) - 1)
    if not header.signed:
        return masked
    sign = 1 << (header.bits_stored - 1)
    return (masked ^ sign).view(
        f"i{masked.itemsize}"
    ) - sign  # there is a bit above the stored ones, so the difference fits


def _rescaled(
    stored: np.ndarray, place: Slice, header: Header, dtype: str, is_air: np.ndarray | None = None
) -> np.ndarray:
    """Args: is_air: (H, W) where there are no values: they become air, before it is checked whether values fit."""
    values = _scaled(stored, place, header, dtype)
    if is_air is not None:
        values[is_air] = AIR_HU
    if values.dtype == dtype:
        return values
    _check_fits(values, dtype)
    return values.astype(dtype)


def _scaled(stored: np.ndarray, place: Slice, header: Header, dtype: str) -> np.ndarray:
    """The values, in the dtype if they all fit; else as int32, of which some may not."""
    if header.inverted:
        low, high = _stored_range(header)
        stored = (low + high) - stored.astype(np.int32)
    slope, intercept = _scale(place)
    if dtype == "float32":
        return (stored * np.float64(slope) + intercept).astype(np.float32)
    limits = np.iinfo(dtype)
    least, most = _ends(header, slope, intercept)
    checked = least < limits.min or most > limits.max
    if slope == 1 and not checked:
        values = stored.astype(dtype)
        values += np.int64(intercept).astype(dtype)  # intermediate values may wrap around, the sum does not
        return values
    values = stored.astype(np.int32) * int(slope) + int(intercept)
    return values if checked else values.astype(dtype)


def _check_fits(values: np.ndarray, dtype: str) -> None:
    limits = np.iinfo(dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise Rejected("out_of_range", f"values from {low} to {high}, more than {dtype} holds")


def _is_padding(container: np.ndarray, header: Header, place: Slice) -> np.ndarray:
    """Which pixels are padding, by a value that no tissue has: one that may be tissue's is left as it is.

    The value may lie outside the stored bits, so all allocated bits are compared.
    """
    assert header.padding is not None
    bits = 8 * container.dtype.itemsize
    wrapped = [value & ((1 << bits) - 1) for value in header.padding]
    numbers = container
    if header.signed:
        numbers = container.view(f"i{container.dtype.itemsize}")
        wrapped = sorted(value - (1 << bits) if value >> (bits - 1) else value for value in wrapped)
    found = (numbers >= wrapped[0]) & (numbers <= wrapped[1])
    slope, intercept = _scale(place)
    ends = [value * slope + intercept for value in wrapped]
    if max(ends) >= AIR_HU and min(ends) <= MOST_HU:
        units = numbers * np.float64(slope) + intercept
        found &= (units < AIR_HU) | (units > MOST_HU)
    return found
