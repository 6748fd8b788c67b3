"""TIFF: which of its pages are pictures, what each is, and the decoding of those that Pillow would get wrong.

Pillow decodes what it gets right, the pages of 8 bits without extra channels, and turns them as their orientation says.
It cuts 16 bits in colour to 8, leaves out channels that are no alpha, and walks from the first page to the one that it
is asked for.
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import Rejected, check_is_of_the_files, where_raised
from stages.lib.ingest.readers.numbers import as_float32
from stages.lib.ingest.readers.pictures import hyperstack, orientation
from stages.lib.ingest.readers.pictures.picture import Decoded, Frames, Picture

BIG = 43  # version of a TIFF whose offsets have 64 bits
MAGIC_NUMBERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TAG_VALUES = 1 << 12  # that are read of one tag: none of those below has more in a file that can be decoded
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes, by the type
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, FILL_ORDER, DESCRIPTION = 254, 256, 257, 258, 259, 262, 266, 270
ORIENTATION, SAMPLES, PLANAR, TILE_WIDTH, TILE_HEIGHT = 274, 277, 284, 322, 323
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, DEPTH, TILE_DEPTH = 338, 339, 700, 32997, 32998
READ = {SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, ORIENTATION, SAMPLES, PLANAR, TILE_WIDTH}
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
DTYPES = {(SIGNED, 8): "int16", (SIGNED, 16): "int16"}  # of cases, by SAMPLE_FORMAT and BITS
DTYPES |= {(kind, bits): "float32" for kind in (UNSIGNED, SIGNED) for bits in (32, 64)}
DTYPES |= {(FLOAT, bits): "float32" for bits in (16, 32, 64)}
RANGES = ("uint8", "uint16")  # dtypes of pictures whose black and white are known
WRITE_AS = "write it as integers of 8 or 16 bits, or as float32"
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
RATIONAL = 5  # a type of two numbers of four bytes
X_RESOLUTION, Y_RESOLUTION, STK_PLANES, LSM_INFO, SOFTWARE = 282, 283, 33629, 34412, 305
# Files that say in a way of their own what their pages are, beside those that are read: by a tag, and by how the
# software that wrote them or the description begins. Of tifffile's kinds of series, those left out say nothing of axes.
OWN_TAGS = {34361: "Olympus FluoView", 34362: "Olympus FluoView", 33560: "Olympus SIS", 33471: "Olympus SIS"}
OWN_TAGS |= {51123: "Micro-Manager"}
OWN_WORDS = {b"SI.": "ScanImage", b"state.": "ScanImage", b"IndicaLabsImageWriter": "Indica Labs"}
OWN_WORDS |= {b"PerkinElmer-QPI": "PerkinElmer's QPI"}
SCAN_IMAGE = b"scanimage.SI"  # in the description, wherever
# Slides, whose pages are one picture in several sizes, a label and a map.
SLIDE_TAGS = {65420: "Hamamatsu NDPI"}
SLIDE_WORDS = {b"Aperio ": "Aperio SVS", b"Philips DP": "Philips", b"ScanOutputManager": "Ventana BIF"}
SLIDE_END = (b"</scn>", "Leica SCN")  # of the description

Tags = Mapping[int, tuple[int, ...]]
# What a page without the tag has. 0 of a size: none.
DEFAULTS = dict.fromkeys((SUBFILE, HEIGHT, WIDTH, TILE_HEIGHT, TILE_WIDTH), 0)
DEFAULTS |= dict.fromkeys((SAMPLES, PLANAR, DEPTH, TILE_DEPTH, FILL_ORDER), 1)
DEFAULTS |= {COMPRESSION: NOT_PACKED, COLOURS: WHITE_IS_ZERO}


def _first(tags: Tags, tag: int) -> int:
    """The only value of a tag."""
    return tags.get(tag, (DEFAULTS[tag],))[0]


class File:
    """A TIFF of which each thing is parsed once, however many of its pages are asked for.

    Whoever has the content makes one of it and hands that on: nothing is kept beyond it.
    """

    def __init__(self, content: bytes, nan: float | None = None) -> None:
        """Args: nan: `ingest.nan`."""
        self.content, self.nan = content, nan
        self.layout = _Layout.of(content)
        self._tags: dict[int, Tags] = {}

    @cached_property
    def directories(self) -> list[int]:
        """The byte at which each page's directory starts, up to the last one or to one that was there before.

        Raises:
            Rejected: One lies outside of the file.
        """
        content, layout = self.content, self.layout
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

    def tags(self, page: int) -> Tags:
        """Those of a page that matter here.

        Raises:
            Rejected: The directory is damaged.
        """
        if page not in self._tags:
            self._tags[page] = _read_tags(self, self.directories[page])
        return self._tags[page]

    @cached_property
    def shown(self) -> list[int]:
        """The pages that are neither smaller copies of others nor masks; all, where there would be none."""
        pages = range(len(self.directories))
        return [page for page in pages if not _aside(self.tags(page))] or list(pages)

    @cached_property
    def series(self) -> list[hyperstack.Series]:
        """What the file says of its pages: which are channels of a picture, slices of a volume, or points in time.

        Raises:
            Rejected: It contradicts itself.
        """
        return _series(self)

    @cached_property
    def has_xmp(self) -> bool:
        """Whether anything in the file may be an orientation in XMP."""
        return self.content.find(b"tiff:Orientation") >= 0


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


def _entries(layout: _Layout, content: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Of each tag of a directory: where its entry is, its number and its type."""
    (number,) = struct.unpack_from(layout.tag_count, content, at)
    at += struct.calcsize(layout.tag_count)
    for entry in range(at, at + number * layout.entry_bytes, layout.entry_bytes):
        tag, kind = struct.unpack_from(layout.order + "HH", content, entry)
        yield entry, tag, kind


def _value(layout: _Layout, content: bytes, entry: int, size: int) -> tuple[int, int]:
    """How many values of so many bytes a tag has, and where they are."""
    (values,) = struct.unpack_from(layout.value_count, content, entry + 4)
    place = entry + 4 + struct.calcsize(layout.value_count)
    if values * size > struct.calcsize(layout.offset):
        (place,) = struct.unpack_from(layout.offset, content, place)
    return values, place


def _series(file: File) -> list[hyperstack.Series]:
    directories, layout = file.directories, file.layout
    if not directories:
        return []
    lengths: dict[int, tuple[int, int]] = {}  # pixels per unit
    there: set[int] = set()
    try:
        for entry, tag, kind in _entries(layout, file.content, directories[0]):
            there.add(tag)
            if tag in (X_RESOLUTION, Y_RESOLUTION) and kind == RATIONAL:
                place = _value(layout, file.content, entry, 8)[1]
                lengths[tag] = struct.unpack_from(layout.order + "II", file.content, place)
            elif tag == LSM_INFO and len(directories) > 1:
                values, place = _value(layout, file.content, entry, 1)
                shown = file.shown
                return hyperstack.read_lsm(file.content[place : place + values], shown) if len(shown) > 1 else []
            elif tag == STK_PLANES and _value(layout, file.content, entry, 8)[0] > 1:
                raise Rejected("unsupported_format", "a MetaMorph stack (STK): export it as OME-TIFF")
        description, software = (_words(file, 0, tag) for tag in (DESCRIPTION, SOFTWARE))
    except (struct.error, OverflowError):
        raise Rejected("truncated", "a directory of the TIFF lies outside of the file") from None
    if description.startswith(hyperstack.OF_TIFFFILE):
        return _shaped(file)
    x, y = (lengths.get(tag, (0, 0)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    per_unit = tuple(above / below if above and below else None for above, below in (x, y))
    found = hyperstack.read(description, len(directories), (per_unit[0], per_unit[1]))
    if not found:
        return _of_other_software(file, there, description, software)
    used = {page for one in found for page in one.pages}
    if left := [page for page in file.shown if page not in used]:
        raise Rejected(
            "malformed", f"{len(left)} pages of the TIFF are none that {found[0].says} tells of: export it again"
        )
    return found


def _words(file: File, page: int, wanted: int) -> bytes:
    """The text of a page's tag, as far as it is read; nothing where there is none."""
    for entry, tag, _ in _entries(file.layout, file.content, file.directories[page]):
        if tag == wanted:
            values, place = _value(file.layout, file.content, entry, 1)
            return file.content[place : place + min(values, hyperstack.MAX_BYTES + 1)]
    return b""


def _of_other_software(file: File, there: set[int], description: bytes, software: bytes) -> list[hyperstack.Series]:
    """Nothing, as none of it is read; of a whole slide that its pages are no slices.

    Raises:
        Rejected: The pages may be channels, slices or times, as software says in a way that is not read.
    """
    if len(file.directories) < 2 or len(file.shown) < 2:
        return []
    names = [name for tag, name in OWN_TAGS.items() if tag in there]
    names += [name for word, name in OWN_WORDS.items() if software.startswith(word) or description.startswith(word)]
    if names or SCAN_IMAGE in description:
        what = f"a TIFF of {(*names, 'ScanImage')[0]}, which says in its own way what its pages are"
        raise Rejected("unsupported_format", f"{what}: export it as OME-TIFF, or as a TIFF of ImageJ")
    slides = [name for tag, name in SLIDE_TAGS.items() if tag in there]
    slides += [name for word, name in SLIDE_WORDS.items() if software.startswith(word) or description.startswith(word)]
    slides += [SLIDE_END[1]] if description.rstrip(b"\0 \r\n").endswith(SLIDE_END[0]) else []
    if not slides:
        return []
    what = f"a whole slide ({slides[0]}), whose pages are sizes of one picture: export its regions as pictures"
    return [hyperstack.Series(1, len(file.shown), 1, tuple(file.shown), says=slides[0], no_volume=what)]


def _shaped(file: File) -> list[hyperstack.Series]:
    """The arrays that tifffile wrote into the file, one after the other; nothing where each of them is one page.

    Raises:
        Rejected: A description contradicts the pages.
    """
    found, page, last, total = [], 0, len(file.directories), 0
    while page < last:
        tags, told = file.tags(page), None
        try:
            description = _words(file, page, DESCRIPTION)
        except (struct.error, OverflowError):
            raise Rejected("truncated", "a directory of the TIFF lies outside of the file") from None
        total += len(description)
        if total > len(file.content):  # else few bytes could be parsed very often
            raise Rejected("corrupt", "descriptions of the TIFF lie over each other")
        if description.startswith(hyperstack.OF_TIFFFILE):
            samples = _first(tags, SAMPLES)
            rows = (_first(tags, HEIGHT), _first(tags, WIDTH))
            size = (samples, *rows) if _first(tags, PLANAR) == SEPARATE else (*rows, samples)
            told = hyperstack.read_shaped(description, last - page, size, samples)
        series = told.series if told else hyperstack.Series(1, 1, 1, (0,), says="tifffile")
        if len(series.pages) > 1 or not _aside(tags):
            found.append(series._replace(pages=tuple(page + place for place in series.pages)))
        page += told.pages if told else 1
    return found if any(len(one.pages) > 1 for one in found) else []


def _read_tags(file: File, at: int) -> Tags:
    content, layout = file.content, file.layout
    found: dict[int, tuple[int, ...]] = {}
    try:
        for entry, tag, kind in _entries(layout, content, at):
            if tag not in READ or tag in found:  # of two, libtiff takes the first
                continue
            if kind not in SIZES:
                raise Rejected("corrupt", f"the TIFF's tag {tag} is of a type that it can't have")
            values, place = _value(layout, content, entry, SIZES[kind])
            if not values:  # as if it were not there
                continue
            if values > (MAX_STRIPS if tag in MANY else MAX_TAG_VALUES):
                raise Rejected("corrupt", f"{values} values of the TIFF's tag {tag}")
            found[tag] = struct.unpack_from(f"{layout.order}{values}{CODES[kind]}", content, place)
            if min(found[tag], default=0) < 0:
                raise Rejected("corrupt", f"a negative value of the TIFF's tag {tag}")
    except (struct.error, OverflowError):
        raise Rejected("truncated", "a directory of the TIFF lies outside of the file") from None
    return found


class FromPage(io.BytesIO):
    """A TIFF that starts with another of its pages, without a copy of its bytes."""

    def __init__(self, file: File, page: int) -> None:
        super().__init__(file.content)
        self._at = file.layout.first
        self._first = struct.pack(file.layout.offset, file.directories[page])

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        content = super().read(size)
        if at > self._at or at + len(content) < self._at + len(self._first):
            return content
        before = self._at - at
        return content[:before] + self._first + content[before + len(self._first) :]


def opened(file: File, page: int) -> Image.Image:
    """By Pillow, with this page as its first."""
    return Image.open(FromPage(file, page), formats=("TIFF",))


def inspect(file: File, frames: Frames) -> list[Picture | Rejected]:
    """Each picture that the pages make, or why it can't be read. Smaller copies of a page and masks are none.

    Pages that the file calls channels are one picture. Of several pictures, "first" gives the first, and "reject" two
    at least.

    Raises:
        Rejected: The file can't be read as pages.
    """
    enough = {"first": 1, "reject": 2}.get(frames)
    told, number = file.series, len(file.directories)
    if told:
        wanted = [frame for one in told for frame in one.frames()][:enough]
    else:
        wanted = []
        for page in range(number):
            if not _aside(file.tags(page)):
                wanted.append((page,))
            if len(wanted) == enough:
                break
    in_file = {page for frame in wanted for page in frame if page < number}
    tags = {page: file.tags(page) for page in (in_file if told else range(number)[: max(in_file, default=number) + 1])}
    if any(DNG_VERSION in of for of in tags.values()):
        raise Rejected("unsupported_format", "raw data of a camera (DNG): convert it to PNG or TIFF")
    if not wanted:
        if any(SUB_IFDS in of for of in tags.values()):
            raise Rejected(
                "unsupported_format", "a TIFF whose pages are smaller copies of pictures that lie in SubIFDs"
            )
        shown = file.shown[:enough] or [0]
        wanted = [(page,) for page in shown]
        tags = {page: file.tags(page) if number else {} for page in shown}
    if told:
        _check_apart(tags)
    found: list[Picture | Rejected] = []
    known: dict[tuple[Any, ...], bool] = {}
    is_page = not told or in_file == {page for frame in wanted for page in frame}
    for frame in wanted:
        try:
            parts = (_picture(file, n, tags[n], known) if is_page else _plane_of(file, n) for n in frame)
            found.append(joined(list(parts)))
        except Rejected as error:
            found.append(error)
    return found


def check_apart(file: File) -> None:
    """Checks that no two pages have pixels in common: few bytes would stand for very many.

    Raises:
        Rejected: They have.
    """
    _check_apart({page: file.tags(page) for page in range(len(file.directories))})


def _check_apart(tags: Mapping[int, Tags]) -> None:
    places = []
    for page, of in tags.items():
        for starts, sizes in ((STRIP_OFFSETS, STRIP_SIZES), (TILE_OFFSETS, TILE_SIZES)):
            places += [(at, at + size, page) for at, size in zip(of.get(starts, ()), of.get(sizes, ()), strict=False)]
    places.sort()
    end, last = 0, -1
    for start, stop, page in places:
        if start < end and page != last:
            raise Rejected("corrupt", "pages of the TIFF have pixels in common")
        if stop > end:
            end, last = stop, page


def joined(parts: Sequence[Picture]) -> Picture:
    """The picture whose channels are those of several pages.

    Raises:
        Rejected: They differ.
    """
    first = parts[0]
    if len({(part.height, part.width) for part in parts}) > 1:
        raise Rejected("mixed_sizes", "pages of one picture are of several sizes")
    if len({part._replace(page=0, noted=()) for part in parts}) > 1:
        raise Rejected("mixed_pixels", "pages of one picture differ in numbers, channels or orientation")
    channels = sum(part.channels for part in parts)
    return first._replace(channels=channels, others=tuple(part.page for part in parts[1:]))


def _aside(tags: Tags) -> bool:
    """Whether a page is a smaller copy of another, or a mask."""
    return bool(_first(tags, SUBFILE) & (REDUCED | MASK))


def _plane_of(file: File, number: int) -> Picture:
    """One of several pictures that the only page stands for, as ImageJ writes them above 4 GiB.

    Raises:
        Rejected: As of `_picture`; or the file doesn't hold it.
    """
    tags = file.tags(0)
    picture, (start, size) = _picture(file, 0, tags, {}), _plane(tags)
    if start + (number + 1) * size > len(file.content):
        there = (len(file.content) - start) // size
        raise Rejected("truncated", f"it ends behind {there} pictures of {number + 1} or more in its description")
    return picture._replace(page=number, decoder="plane")


def _plane(tags: Tags) -> tuple[int, int]:
    """Where the pixels of a page begin, and how many bytes they take; those of further pictures follow.

    Raises:
        Rejected: They are packed, or not in one piece, so that none can follow.
    """
    starts, sizes, bits = tags.get(STRIP_OFFSETS, ()), tags.get(STRIP_SIZES, ()), tags.get(BITS, (1,))
    size = _first(tags, HEIGHT) * _first(tags, WIDTH) * _first(tags, SAMPLES) * max(bits) // 8
    ends = [start + length for start, length in zip(starts, sizes, strict=False)]
    plain = _first(tags, COMPRESSION) == NOT_PACKED and TILE_OFFSETS not in tags and _first(tags, FILL_ORDER) == 1
    plain = plain and _first(tags, COLOURS) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and set(bits) <= {8, 16, 32, 64}
    if not (plain and starts and size and len(set(bits)) == 1) or list(starts[1:]) != ends[:-1]:
        raise Rejected("unsupported_format", "pictures in one page, but not end to end as ImageJ writes them")
    return starts[0], size


def decode_plane(file: File, number: int) -> Decoded:
    """A picture behind the only page, as `_plane_of` found it.

    Raises:
        Rejected: The dtype of the case can't hold its numbers.
    """
    return _at_plane(file, file.tags(0), number)


def _at_plane(file: File, tags: Tags, number: int) -> Decoded:
    content = file.content
    start, size = _plane(tags)
    kind = {FLOAT: "f", SIGNED: "i"}.get(max(tags.get(SAMPLE_FORMAT, (UNSIGNED,))), "u")
    stored = np.dtype(f"{file.layout.order}{kind}{tags[BITS][0] // 8}")
    height, width, samples = (_first(tags, tag) for tag in (HEIGHT, WIDTH, SAMPLES))
    flat = np.frombuffer(content, stored, size // stored.itemsize, start + number * size)
    if _first(tags, PLANAR) == SEPARATE:
        pixels = flat.reshape(samples, height, width).transpose(1, 2, 0)
    else:
        pixels = flat.reshape((height, width) if samples == 1 else (height, width, samples))
    return _as_decoded(pixels.astype(stored.newbyteorder("=")), tags, file.nan)


def _picture(file: File, page: int, tags: Tags, known: dict[tuple[Any, ...], bool]) -> Picture:
    """What a page is.

    Args:
        known: Whether Pillow knows the ways in which pages of this file are written, as far as they were seen.

    Raises:
        Rejected: It is no page of numbers and colours that are read.
    """
    height, width = _first(tags, HEIGHT), _first(tags, WIDTH)
    if not (height and width and _first(tags, SAMPLES)):
        raise Rejected("corrupt", "a page of the TIFF without height, width or samples")
    bits = tags.get(BITS, (1,))
    dtype = _dtype(tags)
    if _first(tags, DEPTH) * _first(tags, TILE_DEPTH) > 1:
        raise Rejected("unsupported_depth", f"a TIFF of {_first(tags, DEPTH)} planes a page")
    _check_compression(_first(tags, COMPRESSION))
    _check_tiles(tags)
    _check_whole(file.content, tags)
    colours = _first(tags, COLOURS)
    extra = _extra(tags)
    turning = _turning(file, page, tags)
    height, width = orientation.size(height, width, turning.orientation)
    if (
        max(bits) <= 8
        and dtype == "uint8"
        and not extra
        and colours in SAMPLES_OF
        and _known_to_pillow(file, page, tags, known)
    ):
        channels = 1 if colours in (WHITE_IS_ZERO, BLACK_IS_ZERO) or len(bits) == 1 and colours == YCBCR else 3
        return Picture(height, width, channels, "uint8", page, turning.orientation, "turned", turning.noted)
    if max(bits) < 8:
        raise Rejected("unsupported_depth", f"a TIFF of {max(bits)} bits with {len(extra)} extra channels")
    if colours not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) or len(set(bits)) > 1:
        name = {PALETTE: "a palette", SEPARATED: "CMYK", YCBCR: "YCbCr", LAB: "CIELAB"}.get(colours, str(colours))
        raise Rejected("unsupported_colours", f"a TIFF of {name} with {max(bits)} bits and {len(extra)} extra channels")
    if colours == WHITE_IS_ZERO and dtype not in RANGES:
        what = "signed or floating point numbers, or more than 16 bits, whose white is not known"
        raise Rejected("unsupported_colours", f"{what}, with 0 for white: write it with 0 for black (BlackIsZero)")
    channels = _first(tags, SAMPLES) - sum(kind in (ASSOCIATED, UNASSOCIATED) for kind in extra)
    return Picture(height, width, channels, dtype, page, turning.orientation, "tiff", turning.noted)


def _dtype(tags: Tags) -> str:
    """The dtype of the case.

    Raises:
        Rejected: No dtype of cases holds its numbers.
    """
    bits, kinds = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (UNSIGNED,)))
    kind = UNSIGNED if kinds <= {UNSIGNED, UNDEFINED} else min(kinds)
    if kind == UNSIGNED and max(bits) <= 16:
        return "uint8" if max(bits) <= 8 else "uint16"
    names = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOAT: "floating point"}
    if len(kinds) > 1 and kind != UNSIGNED or len(bits) > 1 or kind not in names:
        found = " and ".join(sorted({names.get(one, "complex numbers") for one in kinds}))
        raise Rejected("unsupported_depth", f"{found} of {' and '.join(map(str, sorted(bits)))} bits: {WRITE_AS}")
    if (kind, max(bits)) not in DTYPES:
        raise Rejected("unsupported_depth", f"{names[kind]} of {max(bits)} bits: {WRITE_AS}")
    return DTYPES[kind, max(bits)]


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


def _turning(file: File, page: int, tags: Tags) -> orientation.Turning:
    if ORIENTATION in tags:
        given = tags[ORIENTATION][0] if tags[ORIENTATION] else 1
        return orientation.Turning(given if given in range(1, 9) else 1)
    if not file.has_xmp:
        return orientation.Turning()
    with opened(file, page) as image:  # XMP
        return orientation.of(image)


def _known_to_pillow(file: File, page: int, tags: Tags, known: dict[tuple[Any, ...], bool]) -> bool:
    """Whether Pillow knows the way in which a page is written."""
    if _first(tags, COMPRESSION) not in LIBTIFF:
        return False
    way = tuple(tags.get(tag) for tag in WAY)
    if way not in known:
        try:
            opened(file, page).close()
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


def decode(file: File, page: int) -> Decoded:
    """A page of any numbers, grey or RGB, with whatever else it has, by tifffile; or as it is, where it is not packed.

    Raises:
        Rejected: It is damaged, or holds numbers that the dtype of its case can't.
    """
    tags = file.tags(page)
    if _is_plain(tags):
        return _at_plane(file, tags, 0)
    import tifffile

    try:
        with tifffile.TiffFile(FromPage(file, page)) as opened_file:
            first: Any = opened_file.pages[0]
            pixels = first.asarray()
            if pixels.ndim == 3 and first.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = pixels.transpose(1, 2, 0)
    except Exception as error:  # tifffile and its decoders raise many types
        check_is_of_the_files(error)
        raise Rejected("corrupt", where_raised(error)) from None
    return _as_decoded(pixels, tags, file.nan)


def _is_plain(tags: Tags) -> bool:
    """Whether the numbers of a page lie in the file as they are, pixel after pixel: parsing it again takes longer."""
    sizes, height = tags.get(STRIP_SIZES, ()), _first(tags, HEIGHT)
    if _first(tags, PLANAR) == SEPARATE or len(tags.get(BITS, ())) not in (0, _first(tags, SAMPLES)):
        return False
    try:
        _, size = _plane(tags)
    except Rejected:
        return False
    rows = min(tags.get(ROWS, (height,))[0], height)
    strips = [rows * (size // height)] * (height // max(rows, 1))
    strips += [size - sum(strips)] if size > sum(strips) else []
    return list(sizes) == strips and len(sizes) == len(tags[STRIP_OFFSETS])


def _as_decoded(pixels: np.ndarray, tags: Tags, nan: float | None) -> Decoded:
    """(H, W) or (H, W, S) as they are stored -> the numbers of the case, and which of them is alpha.

    Raises:
        Rejected: The dtype of the case can't hold one; or it is transparent, and has no black and white.
    """
    extra, dtype = _extra(tags), _dtype(tags)
    alpha = next((i for i, kind in enumerate(extra) if kind in (ASSOCIATED, UNASSOCIATED)), None)
    base = (pixels.shape[2] if pixels.ndim == 3 else 1) - len(extra)
    if dtype not in RANGES:
        if alpha is not None:
            pixels = _opaque(pixels, base + alpha)
        return Decoded(as_float32(pixels, nan) if dtype == "float32" else pixels.astype(dtype, copy=False))
    white = (1 << max(tags.get(BITS, (1,)))) - 1
    if _first(tags, COLOURS) == WHITE_IS_ZERO:
        pixels = _inverted(pixels, base, white)
    return Decoded(
        pixels.astype(dtype, copy=False),
        None if alpha is None else base + alpha,
        alpha is not None and extra[alpha] == ASSOCIATED,
        white,
    )


def _opaque(pixels: np.ndarray, alpha: int) -> np.ndarray:
    """The other channels.

    Raises:
        Rejected: Alpha is not 1 (of integers their highest value) everywhere.
    """
    if (pixels[..., alpha] != (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max)).any():
        raise Rejected("transparent", "numbers without black and white can be laid on neither: write it without alpha")
    return np.delete(pixels, alpha, axis=2)


def _inverted(pixels: np.ndarray, base: int, white: int) -> np.ndarray:
    """With the grey of high values for black; what is no grey stays."""
    if pixels.ndim == 2:
        return white - pixels
    return np.concatenate([white - pixels[..., :base], pixels[..., base:]], axis=2)
