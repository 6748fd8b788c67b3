"""What the pages of a TIFF are, where the file says so: channels, slices, and points in time.

The description of the first page says it, as ImageJ, OME-TIFF (Bio-Formats and most microscopes) and tifffile write it,
or a tag of its own, as in Zeiss' LSM.
Sizes of pages and channels within a page are not asked for here: every page says its own.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple
from xml.etree import ElementTree

from stages.lib.ingest.readers.contract import Rejected

MAX_BYTES = 1 << 24  # of a description that is parsed
MAX_DIGITS = 9  # of a size
HEAD = 1 << 13  # characters in which XML comes to its first element
MOST_PICTURES = 1 << 17  # behind one page
# In mm, as OME writes them. ImageJ takes any word, and people type it.
MM = {
    "m": 1e3,
    "dm": 100.0,
    "cm": 10.0,
    "mm": 1.0,
    "µm": 1e-3,
    "nm": 1e-6,
    "pm": 1e-9,
    "Å": 1e-7,
    "in": 25.4,
    "ft": 304.8,
}
IN_WORDS = {"um": 1e-3, "micron": 1e-3, "inch": 25.4, "inche": 25.4, "meter": 1e3, "metre": 1e3}  # without a plural s
IN_WORDS |= {
    f"{prefix}{unit}": 1e3 * factor
    for unit in ("meter", "metre")
    for prefix, factor in (("centi", 1e-2), ("milli", 1e-3), ("micro", 1e-6), ("nano", 1e-9), ("pico", 1e-12))
}
IMAGEJ = {unit.casefold(): mm for unit, mm in (MM | IN_WORDS).items()}  # µ and the Greek letter become one
# Zeiss' LSM: the structure begins with a number, and has sizes along Z and T, of a voxel in metres, and the kind of
# scan. Of those that have a picture of X and Y a page: a stack, a time series, and of stacks (along splines, too).
LSM_NUMBERS, LSM_SIZES, LSM_VOXEL, LSM_SCAN = (0x00300494C, 0x00400494C), (16, 24), 40, 88
LSM_SCANS, LSM_BYTES = (0, 3, 6, 7), 90
OF_TIFFFILE, OF_IMAGEJ = b'{"shape":', ("ImageJ=", "SCIFIO=")
BY_TIFFFILE = "ImageJ=1.11a\n"  # how tifffile begins what it writes for ImageJ
SCIFIO = {"Channel": "C", "Z": "Z", "Time": "T"}  # axes that are read
LIKE_SLICES = "ZQI"  # tifffile's names of an axis whose pages may be slices: Z, unknown, sequence
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")  # as ImageJ writes µ
Spacing = tuple[float | None, float | None, float | None]  # in mm along D, H, W


class Series(NamedTuple):
    """Pages that belong together."""

    times: int
    slices: int
    channels: int  # pages of a slice
    pages: tuple[int, ...]  # (times * slices * channels,) places in the file, in this order
    spacing_mm: Spacing = (None, None, None)
    says: str = ""  # who says so, for messages
    names: tuple[str, ...] = ()  # of the channels; free text, which goes nowhere as it is
    is_unnamed: bool = False  # whether the axis of the pages has no name: they are slices unless somebody knows better
    no_volume: str = ""  # why the slices are not those of one volume; then times are whatever else there is several of

    def frames(self) -> list[tuple[int, ...]]:
        """The pages of each slice, time after time."""
        return [self.pages[at : at + self.channels] for at in range(0, len(self.pages), self.channels)]


def read(description: bytes, pages: int, per_unit: tuple[float | None, float | None]) -> list[Series]:
    """What ImageJ or OME-XML say of a file's pages; nothing where neither does.

    Of a single page it may say that it is followed by more pictures, without pages of their own: then the places are
    those of the pictures, 0 being the page's own.

    Args:
        description: Of the first page.
        pages: How many there are.
        per_unit: Pixels along W and H per unit of length, as of ResolutionUnit or, in ImageJ's files, of its own.

    Raises:
        Rejected: It contradicts itself or the number of pages.
    """
    text = _text(description)
    if text.startswith(OF_IMAGEJ):
        return _of_imagej(text, pages, per_unit)
    start = text[:HEAD].lstrip("\ufeff \r\n\t")
    if start.startswith("<") and re.search(r"<(\w+:)?OME\b", start) and pages > 1:
        return _of_ome(text.lstrip("\ufeff \r\n\t"), pages)
    return []


def _text(description: bytes) -> str:
    """Raises:
    Rejected: There is very much of it.
    """
    if len(description) > MAX_BYTES:
        raise Rejected("too_large", f"a description of {len(description)} bytes")
    try:
        return description.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:  # as of old files with a µ
        return description.rstrip(b"\0").decode("latin-1")


def read_lsm(info: bytes, pages: Sequence[int]) -> list[Series]:
    """What the tag of Zeiss' LSM says of its pages, thumbnails left out.

    Raises:
        Rejected: They are no pictures along Z and time alone, or not as many.
    """
    if len(info) < LSM_BYTES or struct.unpack_from("<I", info)[0] not in LSM_NUMBERS:
        raise Rejected("malformed", "a damaged tag of Zeiss' LSM: export it as OME-TIFF")
    slices, times = (struct.unpack_from("<i", info, at)[0] for at in LSM_SIZES)
    if len(pages) != slices * times or struct.unpack_from("<H", info, LSM_SCAN)[0] not in LSM_SCANS:
        what = f"{len(pages)} pictures, {slices} along Z and {times} in time"
        raise Rejected("unsupported_format", f"a Zeiss LSM of {what}: export it as OME-TIFF")
    w, h, d = (_length(metres, MM["m"]) for metres in struct.unpack_from("<3d", info, LSM_VOXEL))
    return [Series(times, slices, 1, tuple(pages), (d, h, w), "the LSM")]


def _of_imagej(text: str, pages: int, per_unit: tuple[float | None, float | None]) -> list[Series]:
    lines = dict(re.findall(r"^(\w+)=(.*?)\r?$", text, re.MULTILINE))
    if "images" not in lines:  # one picture, perhaps beside others that were put into the file later
        return []
    number, *sizes = (_size(lines.get(name, "1")) for name in ("images", "channels", "slices", "frames"))
    channels, slices, times = sizes
    if math.prod(sizes) == 1:
        slices = number  # a stack of which no more is known
    if number != math.prod((channels, slices, times)) or pages not in (1, number):
        what = f"{channels} channels, {slices} slices and {times} frames, and {pages} pages"
        raise Rejected("malformed", f"ImageJ's description has {number} images, {what}: save it in ImageJ again")
    _check_behind(number, pages)
    if text.startswith("SCIFIO="):
        return [_in_order_of_scifio(lines, channels, slices, times)] if number > 1 else []
    unit = IMAGEJ.get(_unit(lines.get("unit", "")))
    spacing: Spacing = (None, None, None)
    if unit is not None and not {"yunit", "zunit"} & lines.keys():
        w, h = (None if n is None else _length(1 / n, unit) for n in per_unit)
        # ImageJ leaves a depth of 1 out. tifffile leaves out what it wasn't given.
        depth = "1" if slices > 1 and not text.startswith(BY_TIFFFILE) else None
        spacing = (_length(abs(_number(lines.get("spacing", depth))), unit), h, w)
    order = tuple(range(number))  # channels follow each other, then slices, then times
    return [Series(times, slices, channels, order, spacing, "ImageJ")] if number > 1 else []


def _unit(text: str) -> str:
    """A unit of length as ImageJ has it, without its capitals and its plural."""
    word = ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).strip().casefold()
    return word.removesuffix("s") if len(word) > 2 else word


def _in_order_of_scifio(lines: Mapping[str, str], channels: int, slices: int, times: int) -> Series:
    """The pages as ImageJ2 (SCIFIO) writes them, whose order it gives; spacing it gives in no tag of its own.

    Raises:
        Rejected: It has axes other than Z, channels and time.
    """
    sizes = {"C": channels, "Z": slices, "T": times}
    names = [name.strip() for name in lines.get("axes", "X,Y,Channel,Z,Time").split(",")]
    order = "".join(SCIFIO.get(name, "?") for name in names if name not in ("X", "Y"))
    left = "".join(name for name in "CZT" if name not in order)
    if "?" in order or len(set(order)) < len(order) or names[:2] != ["X", "Y"]:
        what = "axes other than X, Y, channels, Z and time, or in another order"
        raise Rejected("malformed", f"ImageJ2's description has {what}: save it as an ImageJ TIFF or OME-TIFF")
    return _ordered(sizes, order + left, "ImageJ2")


NO_Y_X = "no Y and X: write the array with Y, X last, or Y, X, S"


class Shaped(NamedTuple):
    """What tifffile's description says of the pages from here on."""

    pages: int
    series: Series  # places are counted from the first of them


def read_shaped(description: bytes, pages: int, page: tuple[int, ...], samples: int) -> Shaped | None:
    """What tifffile says of the array that the next pages are; None where it says nothing.

    Args:
        pages: How many there are from here on.
        page: The sizes of the page in the order of the array, as H, W, S or S, H, W.
        samples: Of a pixel.

    Raises:
        Rejected: It contradicts the pages; or rows and columns are other axes than Y and X.
    """
    try:
        found = json.loads(_text(description))
        shape, axes, truncated = found["shape"], found.get("axes", ""), found.get("truncated", False) is True
        shape, axes = [_size(str(n)) for n in shape], str(axes).upper()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    leading = _leading(shape, page)
    is_of_page = leading is not None
    if leading is None:
        leading = max(len(shape) - (2 if samples == 1 else 3), 0)
    number, named = math.prod(shape[:leading]), len(axes) == len(shape)
    if named and is_of_page:
        _check_rows_and_columns([name for name, n in zip(axes, shape, strict=True) if n > 1 and name in "XY"])
    if number == 1 or pages == 1 and not truncated:  # a page that was taken out of a stack keeps its description
        return Shaped(1, Series(1, 1, 1, (0,), says="tifffile"))
    behind = truncated and pages == 1
    if not behind and (number > pages or not is_of_page):
        what = f"{number} pages, and the file has {pages} more" if is_of_page else "pages of another size"
        raise Rejected("malformed", f"tifffile's description has {what}: write the array again")
    _check_behind(number, pages)
    outer = [(name, n) for name, n in zip(axes, shape[:leading], strict=False) if n > 1]
    if not named or len(dict(outer)) < len(outer):  # without names of their own
        named, outer = False, [(str(axis), n) for axis, n in enumerate(shape[:leading]) if n > 1]
    if {"X", "Y"} & dict(outer).keys():
        raise Rejected("malformed", f"rows and columns of the pages are {NO_Y_X}")
    sizes = dict(outer)
    others = [name for name in sizes if name not in "TZC"]
    like_slices = len(others) == 1 and "Z" not in sizes and (not named or others[0] in LIKE_SLICES)
    is_unnamed = like_slices and len(sizes) == 1
    if like_slices:
        sizes = {("Z" if name in others else name): n for name, n in sizes.items()}
        others = []
    series = _ordered(sizes, list(sizes)[::-1], "tifffile")._replace(is_unnamed=is_unnamed)
    if others:
        what = "axes beside channels, slices, times, rows and columns, or without a name"
        series = series._replace(no_volume=f"the array has {what}: write it with axes of T, Z, C, Y and X")
    return Shaped(1 if behind else number, series)


def _check_rows_and_columns(names: Sequence[str]) -> None:
    """Raises:
    Rejected: X comes before Y, so that rows would be taken for columns.
    """
    if "X" in names and "Y" in names[names.index("X") :]:
        raise Rejected("malformed", f"rows and columns of the array are {NO_Y_X}")


def _leading(shape: Sequence[int], page: Sequence[int]) -> int | None:
    """How many axes of an array are not those of its pages; None where none of them are."""
    wanted = [n for n in page if n > 1]
    for leading in range(len(shape), -1, -1):
        if [n for n in shape[leading:] if n > 1] == wanted:
            return leading
    return None


def _check_behind(number: int, pages: int) -> None:
    """Raises:
    Rejected: One page would stand for very many pictures.
    """
    if pages == 1 and number > MOST_PICTURES:
        raise Rejected("too_large", f"{number} pictures in one page: at most {MOST_PICTURES} are read")


def _ordered(sizes: Mapping[str, int], fastest_first: Sequence[str], says: str) -> Series:
    """Pages in the order of some axes; those beside T, Z and C count as times."""
    strides, stride = {}, 1
    for name in fastest_first:
        strides[name] = stride
        stride *= sizes[name]
    others = [name for name in reversed(fastest_first) if name not in "TZC"]
    *outer, z, c = ([strides.get(name, 0) * i for i in range(sizes.get(name, 1))] for name in (*others, "T", "Z", "C"))
    times = math.prod(map(len, outer))
    return Series(times, len(z), len(c), tuple(map(sum, product(*outer, z, c))), says=says)


def _of_ome(text: str, pages: int) -> list[Series]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # which may stand for any amount of text
        raise Rejected("malformed", "OME-XML with definitions of its own")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        raise Rejected("malformed", "the OME-XML can't be parsed: export the picture again as OME-TIFF") from None
    if next(_below(root, "BinaryOnly"), None) is not None:
        raise Rejected("malformed", "the OME-XML lies in another file: export the picture as one OME-TIFF")
    images = [one for image in _below(root, "Image") for one in _below(image, "Pixels")]
    files = [{uuid for told in _below(one, "TiffData") for uuid in _uuids(told)} for one in images]
    # This file's own name may be left out where no other is spoken of.
    own = {root.get("UUID", "")} if root.get("UUID") else set().union(*files)
    found = [_of_pixels(one, pages) for one, of in zip(images, files, strict=True) if of <= own]
    if len(own) > 1 or not found or any(of & own and not of <= own for of in files):
        raise Rejected("malformed", "pages of the picture lie in other files: export it as one OME-TIFF")
    if len({page for one in found for page in one.pages}) < sum(len(one.pages) for one in found):
        raise Rejected("malformed", "the OME-XML has two images of one page")
    return found


def _uuids(told: ElementTree.Element) -> list[str]:
    """The names of the files that the pages lie in; none: of this one."""
    return [(one.text or "").strip() for one in _below(told, "UUID")]


def _of_pixels(pixels: ElementTree.Element, pages: int) -> Series:
    sizes = {name: _size(pixels.get(f"Size{name}", "")) for name in "TZC"}
    channels = list(_below(pixels, "Channel"))
    samples = {_size(one.get("SamplesPerPixel", "1")) for one in channels} or {1}
    if len(samples) > 1 or sizes["C"] % min(samples):
        raise Rejected("malformed", "the OME-XML has channels of several numbers of samples")
    sizes["C"] //= min(samples)
    order = pixels.get("DimensionOrder", "")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise Rejected("malformed", "the OME-XML has no order of its pages")
    number = math.prod(sizes.values())
    if number > pages:
        raise Rejected("malformed", f"the OME-XML has {number} pages, and the file {pages}: export it as one OME-TIFF")
    plain = _ordered(sizes, order, "the OME-XML")
    told = list(_below(pixels, "TiffData"))
    place: dict[int, int] = {}  # of each plane, in the order of the axes
    for one in told:
        strides, stride = {}, 1
        for name in order:
            strides[name] = stride
            stride *= sizes[name]
        first = sum(_size(one.get(f"First{name}", "0"), 0) * strides[name] for name in "TZC")
        page = _size(one.get("IFD", "0"), 0)
        count = _size(one.get("PlaneCount", str(number) if one.get("IFD") is None else "1"), 0)
        if max(first, len(place)) + count > number:
            axes = ", ".join(f"{sizes[name]} along {name}" for name in "ZCT")
            what = f"tells the place of {max(first, len(place)) + count} pages or more, and has {axes}, so {number}"
            raise Rejected("malformed", f"the OME-XML {what}: export it again")
        place |= {first + i: page + i for i in range(count)}
    if told and (len(place) < number or max(place.values()) >= pages):
        raise Rejected("malformed", f"the OME-XML tells the place of {len(place)} pages of {number}: export it again")
    found = tuple(place[i] for i in plain.pages) if told else plain.pages
    spacing = [
        _length(_number(pixels.get(f"PhysicalSize{name}")), MM.get(pixels.get(f"PhysicalSize{name}Unit", "µm")))
        for name in "ZYX"
    ]
    names = tuple(one.get("Name", "") for one in channels)
    return plain._replace(
        pages=found, spacing_mm=(spacing[0], spacing[1], spacing[2]), names=names if any(names) else ()
    )


def _below(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The children of a name, in whatever version of the schema."""
    return (child for child in element if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == name)


def _size(text: str, least: int = 1) -> int:
    """Raises:
    Rejected: It is no whole number, or too small.
    """
    if not re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text.strip(), re.ASCII) or int(text) < least:
        raise Rejected("malformed", "a size in the TIFF's description is no number: export the picture again")
    return int(text)


def _number(text: str | None) -> float:
    """nan where it is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _length(number: float, unit: float | None) -> float | None:
    """In mm; None where it is not known."""
    mm = math.nan if unit is None else float(f"{number * unit:.7g}")
    return mm if 0 < mm < math.inf else None
