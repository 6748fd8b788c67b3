"""TIFF: which of its pages are pictures, what each is, and the decoding of those that Pillow would get wrong.

Pillow decodes what it gets right, the pages of 8 bits without extra channels, and turns them as their orientation says.
It cuts 16 bits in colour to 8, leaves out channels that are no alpha, and walks from the first page to the one that it
is asked for.
"""

import io
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.pictures import orientation
from stages.lib.ingest.readers.pictures.picture import Decoded, Frames, Picture

BIG = 43  # version of a TIFF whose offsets have 64 bits
MAGIC_NUMBERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TAG_VALUES = 1 << 12  # that are read of one tag: none of those below has more in a file that can be decoded
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes, by the type
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, FILL_ORDER, DESCRIPTION = 254, 256, 257, 258, 259, 262, 266, 270
ORIENTATION, SAMPLES, PLANAR, TILE_WIDTH, TILE_HEIGHT = 274, 277, 284, 322, 323
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, DEPTH, TILE_DEPTH = 338, 339, 700, 32997, 32998
READ = {SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, DESCRIPTION, ORIENTATION, SAMPLES, PLANAR, TILE_WIDTH}
STRIP_OFFSETS, ROWS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES = 273, 278, 279, 324, 325
SUB_IFDS, DNG_VERSION = 330, 50706
SEPARATE = 2  # a value of PLANAR
MANY = {STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES}  # tags that may have very many values
MAX_STRIPS = 1 << 20
READ |= {STRIP_OFFSETS, ROWS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES, SUB_IFDS, DNG_VERSION}
READ |= {TILE_HEIGHT, EXTRA_SAMPLES, SAMPLE_FORMAT, DEPTH, TILE_DEPTH, FILL_ORDER}
WAY = (BITS, COMPRESSION, COLOURS, FILL_ORDER, SAMPLES, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT)  # in which it is written
REDUCED, MASK = 1, 4  # bits of SUBFILE
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4  # values of SAMPLE_FORMAT; the last is read as unsigned
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # values of COLOURS
PALETTE, SEPARATED, YCBCR, LAB = 3, 5, 6, 8
SAMPLES_OF = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3, LAB: 3}
# What Pillow's libtiff unpacks: nothing, CCITT's, LZW, JPEG, Deflate, PackBits, LZMA and Zstandard.
LIBTIFF = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
NOT_PACKED = 1
# What tifffile's decoders unpack to any size, whatever the TIFF says of its own; and JPEG XR, where a file that is cut
# is taken for a whole one.
OTHER_PICTURES = {22610, 34887, 34892, 34927, 34933, 34934, 50001, 50002, 52546, 48124}
JPEG_2000 = {33003, 33004, 33005, 34712}
ASSOCIATED, UNASSOCIATED = 1, 2  # values of EXTRA_SAMPLES: alpha
IMAGEJ_STACK = re.compile(rb"\AImageJ=.*?^images=(\d{1,9})$", re.DOTALL | re.MULTILINE)

Tags = Mapping[int, tuple[int, ...]]
# What a page without the tag has. 0 of a size: none.
DEFAULTS = dict.fromkeys((SUBFILE, HEIGHT, WIDTH, TILE_HEIGHT, TILE_WIDTH), 0)
DEFAULTS |= dict.fromkeys((SAMPLES, PLANAR, DEPTH, TILE_DEPTH), 1)
DEFAULTS |= {COMPRESSION: NOT_PACKED, COLOURS: WHITE_IS_ZERO}


def _first(tags: Tags, tag: int) -> int:
    """The only value of a tag."""
    return tags.get(tag, (DEFAULTS[tag],))[0]


@lru_cache(maxsize=1)
def pages(content: bytes) -> list[int]:
    """The byte at which each page's directory starts, up to the last one or to one that was there before.

    Raises:
        Rejected: One lies outside of the file.
    """
    layout = _Layout.of(content)
    found: dict[int, None] = {}  # a set that keeps its order
    total = 0
    try:
        (at,) = struct.unpack_from(layout.offset, content, layout.first)
        while at and at not in found:
            found[at] = None
            (tags,) = struct.unpack_from(layout.tag_count, content, at)
            size = struct.calcsize(layout.tag_count) + layout.entry_bytes * tags
            (at,) = struct.unpack_from(layout.offset, content, at + size)
            total += size
            if total > len(content):  # else few bytes could stand for very many tags
                raise Rejected("corrupt", "directories of the TIFF lie over each other")
    except (struct.error, OverflowError):
        raise Rejected("truncated", f"page {len(found)} of the TIFF lies outside of the file") from None
    return list(found)


class _Layout(NamedTuple):
    """How numbers are written."""

    order: str
    first: int  # byte of the first page's offset
    offset: str
    tag_count: str
    value_count: str
    entry_bytes: int

    @staticmethod
    def of(content: bytes) -> "_Layout":
        order = "<" if content[:2] == b"II" else ">"
        if struct.unpack_from(order + "H", content, 2)[0] == BIG:
            return _Layout(order, 8, order + "Q", order + "Q", order + "Q", 20)
        return _Layout(order, 4, order + "I", order + "H", order + "I", 12)


def _tags(content: bytes, at: int) -> Tags:
    """Those of a page that matter here; of a text its bytes.

    Raises:
        Rejected: The directory is damaged.
    """
    layout = _Layout.of(content)
    found: dict[int, tuple[int, ...]] = {}
    width = struct.calcsize(layout.offset)
    try:
        (number,) = struct.unpack_from(layout.tag_count, content, at)
        at += struct.calcsize(layout.tag_count)
        for entry in range(at, at + number * layout.entry_bytes, layout.entry_bytes):
            tag, kind = struct.unpack_from(layout.order + "HH", content, entry)
            if tag not in READ or tag in found:  # of two, libtiff takes the first
                continue
            if kind not in SIZES:
                raise Rejected("corrupt", f"the TIFF's tag {tag} is of a type that it can't have")
            (values,) = struct.unpack_from(layout.value_count, content, entry + 4)
            place = entry + 4 + struct.calcsize(layout.value_count)
            if values * SIZES[kind] > width:
                (place,) = struct.unpack_from(layout.offset, content, place)
            if tag == DESCRIPTION:
                values = min(values, MAX_TAG_VALUES)
            elif values > (MAX_STRIPS if tag in MANY else MAX_TAG_VALUES):
                raise Rejected("corrupt", f"{values} values of the TIFF's tag {tag}")
            found[tag] = struct.unpack_from(f"{layout.order}{values}{CODES[kind]}", content, place)
            if min(found[tag], default=0) < 0:
                raise Rejected("corrupt", f"a negative value of the TIFF's tag {tag}")
    except (struct.error, OverflowError):
        raise Rejected("truncated", "a directory of the TIFF lies outside of the file") from None
    return found


class FromPage(io.BytesIO):
    """A TIFF that starts with another of its pages, without a copy of its bytes."""

    def __init__(self, content: bytes, page: int) -> None:
        super().__init__(content)
        layout = _Layout.of(content)
        self._at = layout.first
        self._first = struct.pack(layout.offset, pages(content)[page])

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        content = super().read(size)
        if at > self._at or at + len(content) < self._at + len(self._first):
            return content
        before = self._at - at
        return content[:before] + self._first + content[before + len(self._first) :]


def opened(content: bytes, page: int) -> Image.Image:
    """By Pillow, with this page as its first."""
    stream = FromPage(content, page) if page else io.BytesIO(content)
    return Image.open(stream, formats=("TIFF",))


def inspect(content: bytes, frames: Frames) -> list[Picture | Rejected]:
    """Each page that is a picture, or why it can't be read. Smaller copies of a page and masks are none.

    Of several pages, "first" gives the first, and "reject" two at least.

    Raises:
        Rejected: The file can't be read as pages.
    """
    enough = {"first": 1, "reject": 2}.get(frames)
    tags: list[Tags] = []
    pictures: list[int] = []
    for page, at in enumerate(pages(content)):
        tags.append(_tags(content, at))
        if not _aside(tags[-1]):
            pictures.append(page)
        if len(pictures) == enough:
            break
    if any(DNG_VERSION in of for of in tags):
        raise Rejected("unsupported_format", "raw data of a camera (DNG): convert it to PNG or TIFF")
    if not pictures:
        if any(SUB_IFDS in of for of in tags):
            raise Rejected(
                "unsupported_format", "a TIFF whose pages are smaller copies of pictures that lie in SubIFDs"
            )
        pictures = [0]
    _check_stack(tags[0] if tags else {}, len(pictures), frames)
    found: list[Picture | Rejected] = []
    known: dict[tuple[Any, ...], bool] = {}
    for page in pictures:
        try:
            found.append(_picture(content, page, tags[page], known))
        except Rejected as error:
            found.append(error)
    return found


def _aside(tags: Tags) -> bool:
    """Whether a page is a smaller copy of another, or a mask."""
    return bool(_first(tags, SUBFILE) & (REDUCED | MASK))


def _check_stack(tags: Tags, number: int, frames: Frames) -> None:
    """Raises:
    Rejected: ImageJ wrote more pictures than the file describes as pages, as it does above 4 GiB.
    """
    claimed = IMAGEJ_STACK.match(bytes(value & 0xFF for value in tags.get(DESCRIPTION, ())))
    if claimed and number == 1 < int(claimed[1]) and frames != "first":
        raise Rejected("several_frames", f"a stack of {int(claimed[1])} pictures in one page, as ImageJ writes it")


def _picture(content: bytes, page: int, tags: Tags, known: dict[tuple[Any, ...], bool]) -> Picture:
    """What a page is.

    Args:
        known: Whether Pillow knows the ways in which pages of this file are written, as far as they were seen.

    Raises:
        Rejected: It is no page of 8 or 16 bits, in colours that are read.
    """
    height, width = _first(tags, HEIGHT), _first(tags, WIDTH)
    if not (height and width):
        raise Rejected("corrupt", "a page of the TIFF without height and width")
    bits, kinds = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    if FLOAT in kinds:
        raise Rejected("float_pixels", "floating point: write it as 8- or 16-bit integers")
    if max(bits) > 16 or set(kinds) - {UNSIGNED, UNDEFINED}:
        raise Rejected("unsupported_depth", f"{max(bits)} bits, {'signed' if SIGNED in kinds else 'unsigned'}")
    if _first(tags, DEPTH) * _first(tags, TILE_DEPTH) > 1:
        raise Rejected("unsupported_depth", f"a TIFF of {_first(tags, DEPTH)} planes a page")
    _check_compression(_first(tags, COMPRESSION))
    _check_tiles(tags)
    _check_whole(content, tags)
    colours = _first(tags, COLOURS)
    extra = _extra(tags)
    turning = _turning(content, page, tags)
    height, width = orientation.size(height, width, turning.orientation)
    if max(bits) <= 8 and not extra and colours in SAMPLES_OF and _known_to_pillow(content, page, tags, known):
        channels = 1 if colours in (WHITE_IS_ZERO, BLACK_IS_ZERO) or len(bits) == 1 and colours == YCBCR else 3
        return Picture(height, width, channels, "uint8", page, turning.orientation, "turned", turning.noted)
    if max(bits) < 8:
        raise Rejected("unsupported_depth", f"a TIFF of {max(bits)} bits with {len(extra)} extra channels")
    if colours not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) or len(set(bits)) > 1:
        name = {PALETTE: "a palette", SEPARATED: "CMYK", YCBCR: "YCbCr", LAB: "CIELAB"}.get(colours, str(colours))
        raise Rejected("unsupported_colours", f"a TIFF of {name} with {max(bits)} bits and {len(extra)} extra channels")
    dtype = "uint8" if max(bits) <= 8 else "uint16"
    channels = _first(tags, SAMPLES) - sum(kind in (ASSOCIATED, UNASSOCIATED) for kind in extra)
    return Picture(height, width, channels, dtype, page, turning.orientation, "tiff", turning.noted)


def _check_compression(compression: int) -> None:
    """Raises:
    Rejected: It can't be unpacked, or not so that damage is seen.
    """
    if compression in LIBTIFF:
        return
    import tifffile

    if compression in OTHER_PICTURES or compression not in tifffile.TIFF.DECOMPRESSORS:
        names = {int(one): one.name for one in tifffile.COMPRESSION}
        name = names.get(compression, str(compression))
        raise Rejected("unsupported_format", f"a TIFF compressed as {name}: write it with another compression")


def _check_whole(content: bytes, tags: Tags) -> None:
    """Checks that all strips or tiles are there: readers fill in zeros for those that are not.

    Raises:
        Rejected: One is missing, or lies outside of the file.
    """
    tiled = TILE_OFFSETS in tags
    starts, sizes = (tags.get(tag) for tag in ((TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)))
    if starts is None or sizes is None:  # old files may lack the sizes; who reads it says what is wrong
        return
    height, width = _first(tags, HEIGHT), _first(tags, WIDTH)
    if tiled:
        tile_height, tile_width = (max(1, tags.get(tag, (1,))[0]) for tag in (TILE_HEIGHT, TILE_WIDTH))
        expected = -(-height // tile_height) * -(-width // tile_width)
    else:
        expected = -(-height // max(1, min(tags.get(ROWS, (height,))[0], height)))
    if _first(tags, PLANAR) == SEPARATE:
        expected *= _first(tags, SAMPLES)
    if min(len(starts), len(sizes)) < expected or 0 in starts[:expected] or 0 in sizes[:expected]:
        raise Rejected("truncated", f"the TIFF lacks strips or tiles of the {expected} that its size needs")
    if _first(tags, COMPRESSION) != NOT_PACKED:
        if _first(tags, COMPRESSION) in (7, *JPEG_2000):
            most = (tile_height, tile_width) if tiled else (min(tags.get(ROWS, (height,))[0], height), width)
            for start, size in zip(starts[:expected], sizes[:expected], strict=True):
                _check_segment(content[start : start + size], most)
        if max(start + size for start, size in zip(starts[:expected], sizes[:expected], strict=True)) > len(content):
            raise Rejected("truncated", "a strip or tile of the TIFF lies outside of the file")
        return
    bits, samples = tags.get(BITS, (1,)), _first(tags, SAMPLES)
    if not tiled and max(bits) == min(bits) and samples == len(bits):
        needed = height * (-(-width * max(bits) * samples // 8))
        there = sum(min(size, len(content) - start) for start, size in zip(starts, sizes, strict=False))
        if there < needed:
            raise Rejected("truncated", f"{there} bytes of pixels, where {needed} are needed")


def _check_segment(segment: bytes, most: tuple[int, int]) -> None:
    """Raises:
    Rejected: A strip or tile is a picture of its own that is larger than it may be.
    """
    codestream.check_jpeg(segment)
    found = codestream.size(segment)
    if found is not None and found[0] * found[1] > most[0] * most[1]:
        raise Rejected("corrupt", f"a strip of {found[1]}x{found[0]} pixels, expected {most[1]}x{most[0]} at most")


def _extra(tags: Tags) -> tuple[int, ...]:
    """What each channel beside the colours is; those that no tag tells of are no alpha.

    Raises:
        Rejected: Two of them are alpha.
    """
    number = _first(tags, SAMPLES) - SAMPLES_OF.get(_first(tags, COLOURS), 1)
    told = tags.get(EXTRA_SAMPLES, ())
    extra = (told + (0,) * number)[: max(number, 0)]
    if sum(kind in (ASSOCIATED, UNASSOCIATED) for kind in extra) > 1:
        raise Rejected("unsupported_colours", "a TIFF with two alpha channels")
    return extra


@lru_cache(maxsize=1)
def _has_xmp(content: bytes) -> bool:
    """Whether anything in the file may be an orientation in XMP; of many pages, the file is searched once."""
    return content.find(b"tiff:Orientation") >= 0


def _turning(content: bytes, page: int, tags: Tags) -> orientation.Turning:
    if ORIENTATION in tags:
        given = tags[ORIENTATION][0] if tags[ORIENTATION] else 1
        return orientation.Turning(given if given in range(1, 9) else 1)
    if not _has_xmp(content):
        return orientation.Turning()
    with opened(content, page) as image:  # XMP
        return orientation.of(image)


def _known_to_pillow(content: bytes, page: int, tags: Tags, known: dict[tuple[Any, ...], bool]) -> bool:
    """Whether Pillow knows the way in which a page is written."""
    if _first(tags, COMPRESSION) not in LIBTIFF:
        return False
    way = tuple(tags.get(tag) for tag in WAY)
    if way not in known:
        try:
            opened(content, page).close()
        except Image.DecompressionBombError:
            raise
        except Exception:  # a KeyError for a compression that it has no name for, and more
            known[way] = False
        else:
            known[way] = True
    return known[way]


def _check_tiles(tags: Tags) -> None:
    """Raises:
    Rejected: The page, or one tile of it, takes more memory than any picture may.
    """
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    pixels = _first(tags, HEIGHT) * _first(tags, WIDTH)
    if limit and pixels > limit:
        raise Rejected("too_large", f"{pixels} pixels; ingest.max_pixels is {limit}")
    height, width = (tags.get(tag, (0,))[0] for tag in (TILE_HEIGHT, TILE_WIDTH))
    if limit and height * width > limit:
        raise Rejected("too_large", f"tiles of {width}x{height} pixels; ingest.max_pixels is {limit}")


def decode(content: bytes, page: int) -> Decoded:
    """A page of 8 or 16 bits, grey or RGB, with whatever else it has, by tifffile.

    Raises:
        Rejected: It is damaged.
    """
    import tifffile

    tags = _tags(content, pages(content)[page])
    with tifffile.TiffFile(FromPage(content, page) if page else io.BytesIO(content)) as file:
        first: Any = file.pages[0]
        try:
            pixels = first.asarray()
        except Exception as error:  # tifffile and its decoders raise many types
            raise Rejected("corrupt", where_raised(error)) from None
        if pixels.ndim == 3 and first.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = pixels.transpose(1, 2, 0)
    bits = max(tags.get(BITS, (1,)))
    white = (1 << bits) - 1
    extra = _extra(tags)
    alpha = next((i for i, kind in enumerate(extra) if kind in (ASSOCIATED, UNASSOCIATED)), None)
    base = (pixels.shape[2] if pixels.ndim == 3 else 1) - len(extra)
    if _first(tags, COLOURS) == WHITE_IS_ZERO:
        pixels = _inverted(pixels, base, white)
    return Decoded(
        pixels.astype(np.uint8 if bits <= 8 else np.uint16, copy=False),
        None if alpha is None else base + alpha,
        alpha is not None and extra[alpha] == ASSOCIATED,
        white,
    )


def _inverted(pixels: np.ndarray, base: int, white: int) -> np.ndarray:
    """With the grey of high values for black; what is no grey stays."""
    if pixels.ndim == 2:
        return white - pixels
    return np.concatenate([white - pixels[..., :base], pixels[..., base:]], axis=2)
