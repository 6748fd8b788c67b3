"""Pictures as their owners mean them: alpha, extra channels, orientation, depth, pages, and formats of every kind."""

import io
import struct
import zlib
from collections.abc import Sequence

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.params.ingest import IngestParams
from tests.ingest.readers.test_image import (
    COLOUR,
    COLOUR_16,
    GREY,
    GREY_16,
    encoded,
    read,
    reason,
    reason_or_unreadable,
    tiff,
)

RNG = np.random.default_rng(1)
ALPHA = RNG.integers(0, 256, GREY.shape, np.uint8)
ALPHA_16 = RNG.integers(0, 65536, GREY.shape).astype(np.uint16)
WHITE, WHITE_16 = 255, 65535


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    bits: int, colours: int, rows: Sequence[bytes], width: int, early: Sequence[bytes] = (), late: Sequence[bytes] = ()
) -> bytes:
    """Of packed rows; Pillow writes neither 16 bits in colour nor one transparent grey of fewer than 8 bits."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colours, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *early, pixels, *late, chunk(b"IEND", b"")])


def noted(content: bytes, **params: object) -> tuple[str, ...]:
    options = Options(IngestParams(**params), OPEN)  # type: ignore[arg-type]
    common, own = image.inspect(content, options)
    return image.assemble([Inspected("a", b"", common, own)], [], options).cases[0].noted


# Alpha and further channels


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("grey", [True, False], ids=["grey", "colour"])
def test_a_premultiplied_tiff_is_not_multiplied_by_its_alpha_again(bits, grey):
    alpha, white = (ALPHA, WHITE) if bits == 8 else (ALPHA_16, WHITE_16)
    colours = (np.uint64(alpha[..., None]) * (COLOUR if bits == 8 else COLOUR_16) // white).astype(alpha.dtype)
    colours = colours[..., :1] if grey else colours
    content = tiff(
        np.dstack([colours, alpha]), photometric="minisblack" if grey else "rgb", extrasamples=["assocalpha"],
        planarconfig="contig",
    )  # fmt: skip
    assert reason(content) == "transparent"
    assert np.array_equal(read(content, transparency="black"), colours)
    assert np.array_equal(read(content, transparency="white"), colours + (white - alpha)[..., None])


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiffs_plain_alpha_is_laid_on_a_colour_and_dropped_where_it_is_opaque(bits):
    colours, alpha, white = (COLOUR, ALPHA, WHITE) if bits == 8 else (COLOUR_16, ALPHA_16, WHITE_16)
    for planar in ("contig", "separate"):
        stacked = np.dstack([colours, alpha])
        stacked = stacked if planar == "contig" else stacked.transpose(2, 0, 1)
        content = tiff(stacked, photometric="rgb", extrasamples=["unassalpha"], planarconfig=planar)
        expected = np.rint(colours * (alpha[..., None] / white)).astype(colours.dtype)
        assert np.array_equal(read(content, transparency="black"), expected)
    opaque = np.dstack([colours, np.full_like(alpha, white)])
    assert np.array_equal(read(tiff(opaque, photometric="rgb", extrasamples=["unassalpha"])), colours)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [1, 2, 5])
def test_a_channel_that_is_no_alpha_is_a_channel(bits, extra):
    colours, infrared = (COLOUR, ALPHA) if bits == 8 else (COLOUR_16, ALPHA_16)
    pixels = np.dstack([colours, *[infrared] * extra])
    content = tiff(pixels, photometric="rgb", extrasamples=["unspecified"] * extra, planarconfig="contig")
    assert np.array_equal(read(content), pixels)
    grey = np.dstack([infrared, *[infrared] * extra])
    content = tiff(grey, photometric="minisblack", extrasamples=["unspecified"] * extra, planarconfig="contig")
    assert np.array_equal(read(content), grey)


def test_alpha_is_told_from_channels_beside_it_wherever_it_lies():
    pixels = np.dstack([COLOUR_16, GREY_16, np.full_like(ALPHA_16, WHITE_16)])
    content = tiff(pixels, photometric="rgb", extrasamples=["unspecified", "unassalpha"], planarconfig="contig")
    assert np.array_equal(read(content), pixels[..., :4])
    content = tiff(pixels, photometric="rgb", extrasamples=["unassalpha", "assocalpha"], planarconfig="contig")
    assert reason(content) == "unsupported_colours"


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_seen_at_every_depth(bits):
    highest = (1 << bits) - 1
    values = RNG.integers(0, highest + 1, (8, 8))
    values[0, :2] = [highest, 0]
    packed = [np.packbits([int(b) for v in row for b in f"{v:0{bits}b}"]).tobytes() for row in values]
    content = png(bits, 0, packed, 8, [chunk(b"tRNS", struct.pack(">H", 0))])
    scale = 1 if bits >= 8 else 255 // highest
    expected = np.where(values == 0, highest, values) * scale
    assert reason(content) == "transparent"
    assert np.array_equal(read(content, transparency="white")[..., 0], expected)


def test_the_transparent_colour_of_a_16_bit_png_is_seen():
    colours = COLOUR_16.copy()
    colours[0, 0] = [1, 2, 3]
    rows = [row.astype(">u2").tobytes() for row in colours]
    content = png(16, 2, rows, colours.shape[1], [chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))])
    assert reason(content) == "transparent"
    colours[0, 0] = WHITE_16
    assert np.array_equal(read(content, transparency="white"), colours)


def test_of_jpeg_2000_alpha_is_what_the_file_calls_so():
    four = np.dstack([COLOUR, ALPHA])
    content = encoded(Image.fromarray(four), "JPEG2000", irreversible=False)
    assert b"cdef" in content
    assert reason(content) == "transparent"
    bare = encoded(Image.fromarray(four), "JPEG2000", irreversible=False, no_jp2=True, mct=0)
    assert np.array_equal(read(bare), four)


# Orientation


def as_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def as_xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def jpeg_with(segments: Sequence[tuple[int, bytes]]) -> bytes:
    plain = encoded(COLOUR, "JPEG", quality=95)
    packed = [struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments]
    return plain[:2] + b"".join(packed) + plain[2:]


FILLING = [(0xEF, b"\0" * 60000)] * 5  # as of a camera's own segments, 300,000 bytes
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"


def orientations(kind: str, orientation: int) -> bytes:
    rows = [row.tobytes() for row in COLOUR]
    exif = as_exif(orientation)
    width = COLOUR.shape[1]
    raw = f"\nexif\n{len(exif):8d}\n{exif.hex()}".encode()
    match kind:
        case "JPEG with EXIF behind 300,000 bytes":
            return jpeg_with([*FILLING, (0xE1, exif)])
        case "JPEG with XMP":
            return jpeg_with([(0xE1, XMP_HEADER + as_xmp(orientation))])
        case "JPEG with XMP behind 300,000 bytes":
            return jpeg_with([*FILLING, (0xE1, XMP_HEADER + as_xmp(orientation))])
        case "PNG with EXIF":
            return png(8, 2, rows, width, early=[chunk(b"eXIf", exif[6:])])
        case "PNG with EXIF behind the pixels":
            return png(8, 2, rows, width, late=[chunk(b"eXIf", exif[6:])])
        case "PNG with EXIF as text":
            return png(8, 2, rows, width, early=[chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))])
        case "PNG with XMP":
            text = b"XML:com.adobe.xmp\0\0\0\0\0" + as_xmp(orientation)
            return png(8, 2, rows, width, early=[chunk(b"iTXt", text)])
        case "PNG of 16 bits with EXIF behind the pixels":
            wide = [row.astype(">u2").tobytes() for row in COLOUR_16]
            return png(16, 2, wide, width, late=[chunk(b"eXIf", exif[6:])])
        case "WebP with XMP":
            return encoded(COLOUR, "WEBP", lossless=True, xmp=as_xmp(orientation))
        case "TIFF of 16 bits":
            return tiff(COLOUR_16, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        case "TIFF with a channel more":
            stacked = np.dstack([COLOUR, ALPHA])
            tags = [(274, 3, 1, orientation, True)]
            return tiff(stacked, photometric="rgb", extrasamples=["unspecified"], extratags=tags)
        case "TIFF with XMP":
            xmp = as_xmp(orientation)
            return tiff(COLOUR, photometric="rgb", extratags=[(700, 1, len(xmp), xmp, True)])
    raise AssertionError(kind)


KINDS = [
    *("JPEG with EXIF behind 300,000 bytes", "JPEG with XMP", "JPEG with XMP behind 300,000 bytes"),
    *("PNG with EXIF", "PNG with EXIF behind the pixels", "PNG with EXIF as text", "PNG with XMP"),
    *("PNG of 16 bits with EXIF behind the pixels", "WebP with XMP", "TIFF of 16 bits", "TIFF with a channel more"),
    "TIFF with XMP",
]


@pytest.mark.parametrize("orientation", [1, 2, 5, 6, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_orientation_is_one_rule_for_every_format_and_place(kind, orientation):
    content = orientations(kind, orientation)
    upright = read(orientations(kind, 1))
    turned = [None, None, np.fliplr, None, None, lambda x: x.swapaxes(0, 1), lambda x: np.rot90(x, -1), None, np.rot90]
    expected = upright if orientation == 1 else turned[orientation](upright)
    assert np.array_equal(read(content), expected)
    assert noted(content) == (("exif_rotated",) if orientation != 1 else ())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "16 bits" not in kind and "more" not in kind])
def test_orientation_is_what_pillows_exif_transpose_makes_of_it(kind):
    content = orientations(kind, 6)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert np.array_equal(read(content), expected)


def test_exif_counts_before_xmp():
    content = jpeg_with([(0xE1, XMP_HEADER + as_xmp(6)), (0xE1, as_exif(3))])
    assert np.array_equal(read(content), read(jpeg_with([]))[::-1, ::-1])


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0junk", b"Exif\0\0"])
def test_damaged_metadata_leave_a_picture_upright_and_are_counted(exif):
    content = jpeg_with([(0xE1, exif)])
    assert np.array_equal(read(content), read(jpeg_with([])))
    text = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 8\nno hex")
    content = png(8, 2, [row.tobytes() for row in COLOUR], COLOUR.shape[1], early=[text])
    assert np.array_equal(read(content), COLOUR)
    assert noted(content) == ("metadata_damaged",)


# Sound files


@pytest.mark.parametrize("junk", [b"\0", b"junk between the segments", b"\xff\0\xff\0"])
def test_bytes_between_a_jpegs_segments_are_no_part_of_the_picture(junk):
    plain = jpeg_with([(0xFE, b"a comment")])
    at = plain.index(b"a comment") + len(b"a comment")
    content = plain[:at] + junk + plain[at:]
    assert np.array_equal(read(content), read(plain))


@pytest.mark.parametrize(
    "segment",
    [(0xEE, b"Adobe\0d"), (0xE2, b"ICC_PROFILE\0\x09\x03junk"), (0xE2, b"ICC_PROFILE\0"), (0xED, b"Photoshop 3.0\0?")],
    ids=["Adobe", "ICC", "short ICC", "Photoshop"],
)
def test_a_damaged_segment_of_a_jpegs_metadata_is_no_reason_to_refuse_it(segment):
    assert np.array_equal(read(jpeg_with([segment])), read(jpeg_with([])))


def test_a_damaged_scan_behind_junk_is_still_refused():
    plain = jpeg_with([(0xFE, b"a comment")])
    at = plain.index(b"a comment") + len(b"a comment")
    assert reason(plain[:at] + b"junk" + plain[at : len(plain) * 4 // 5]) == "truncated"


@pytest.mark.parametrize("highest", [300, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True], ids=["binary", "text"])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_netpbm_picture_of_16_bits_keeps_its_numbers(highest, plain, colours):
    pixels = RNG.integers(0, highest + 1, (5, 7, colours)).astype(np.uint16)
    kind = {(1, False): "P5", (1, True): "P2", (3, False): "P6", (3, True): "P3"}[colours, plain]
    numbers = (" ".join(map(str, pixels.ravel())) + "\n").encode() if plain else pixels.astype(">u2").tobytes()
    content = f"{kind}\n# a scan\n7 5\n{highest}\n".encode() + numbers
    assert np.array_equal(read(content), pixels)
    assert reason(content[: len(content) // 2]) in ("truncated", "corrupt")


def test_a_picture_as_text_that_may_end_within_its_last_number_is_refused():
    assert reason(b"P2 2 2 1000\n17 234 5 6") == "truncated"
    assert reason(b"P2 2 2 255\n17 234 5 6") == "truncated"
    assert read(b"P2 2 2 1000\n17 234 5 6\n")[..., 0].tolist() == [[17, 234], [5, 6]]


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpeg2000"])
def test_rarer_compressions_of_tiff_are_read(compression):
    pixels = np.kron(COLOUR, np.ones((4, 4, 1), np.uint8))
    content = tiff(pixels, photometric="rgb", compression=compression)
    assert np.array_equal(read(content), tifffile.imread(io.BytesIO(content)))


@pytest.mark.parametrize("compression", ["jpegxr", "webp", "jpegxl", "lerc", "png"])
def test_a_tiff_around_pictures_of_other_formats_is_refused_by_its_name(compression):
    pixels = np.kron(COLOUR, np.ones((4, 4, 1), np.uint8))
    assert reason(tiff(pixels, photometric="rgb", compression=compression)) == "unsupported_format"


def test_a_tiff_around_a_larger_jpeg_2000_is_refused_before_it_is_unpacked():
    inner = imagecodecs.jpeg2k_encode(np.zeros((3000, 3000), np.uint16), codecformat="j2k", reversible=True)
    tags = [(256, 10), (257, 10), (258, 16), (259, 33003), (262, 1), (273, 8), (277, 1), (278, 10), (279, len(inner))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<I", 8 + len(inner)) + inner + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    assert reason(content) == "corrupt"


def test_a_jpeg_2000_whose_boxes_hold_another_header_is_told_by_its_own():
    pixels = RNG.integers(0, 4096, (32, 40)).astype(np.uint16)
    content = imagecodecs.jpeg2k_encode(pixels, bitspersample=12, reversible=True, codecformat="jp2")
    small = imagecodecs.jpeg2k_encode(pixels[:8, :8], bitspersample=12, reversible=True, codecformat="j2k")
    at = content.index(b"jp2h") - 4
    decoy = struct.pack(">I4s", 8 + 16 + len(small), b"uuid") + b"\0" * 16 + small
    assert np.array_equal(read(content[:at] + decoy + content[at:])[..., 0], pixels)


def test_a_png_whose_pixels_end_with_a_row_too_early_is_refused():
    """Its stream and its checksums are sound; Pillow fills up with black."""
    whole = png(8, 0, [b"\1\2\3"] * 3, 3)
    start, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    cut = whole[:start] + chunk(b"IDAT", zlib.compress(b"\0\1\2\3" * 2)) + whole[end:]
    assert read(whole).shape == (3, 3, 1)
    assert reason(cut) == "corrupt"


@pytest.mark.parametrize(("kind", "side"), [("ICO", 256), ("ICNS", 1024)])
def test_a_flipped_bit_in_a_png_inside_an_icon_is_noticed(kind, side):
    stream = io.BytesIO()
    Image.fromarray(np.kron(COLOUR, np.ones((16, 16, 1), np.uint8))).resize((256, 256)).save(stream, kind)
    content = bytearray(stream.getvalue())
    assert read(bytes(content)).shape == (side, side, 3)
    at = content.rindex(b"IDAT") + 100
    content[at] ^= 1
    assert reason(bytes(content)) == "corrupt"


@pytest.mark.parametrize("entries", [5, 1])
def test_a_palettes_transparency_that_does_not_fit_it_changes_no_colour(entries):
    """libpng leaves out one of more entries than colours, and one before the palette."""
    palette = chunk(b"PLTE", bytes(range(9)))
    transparency = chunk(b"tRNS", b"\xff" * entries)
    early = [palette, transparency] if entries > 3 else [transparency, palette]
    pixels = read(png(8, 3, [b"\0\1\2", b"\2\1\0"], 3, early))
    assert pixels.tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[6, 7, 8], [3, 4, 5], [0, 1, 2]]]


def test_a_png_with_two_headers_is_refused():
    rows = [row.tobytes() for row in COLOUR]
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 5, 16, 0, 0, 0, 0))
    assert reason(png(8, 2, rows, COLOUR.shape[1], early=[second])) == "corrupt"


@pytest.mark.parametrize("tag", [32997, 322])
def test_sizes_with_a_sign_are_sizes_too(tag):
    tags = [(256, 4, 4), (257, 4, 4), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 4)]
    tags += [(279, 4, 32), (tag, 9, 10**7), (323, 9, 10**7)]
    entries = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in sorted(tags))
    content = b"II*\0" + struct.pack("<I", 40) + b"\1" * 32 + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    assert reason(content) in ("unsupported_depth", "too_large")


def test_a_number_above_a_netpbms_highest_is_refused():
    assert reason(b"P5 2 2 1000\n" + struct.pack(">4H", 1, 2, 3, 1001)) == "corrupt"


@pytest.mark.parametrize(
    "one",
    [
        b"P5 2 2 1000\n" + struct.pack(">4H", 1, 2, 3, 4),
        b"P5 2 2 255\n\1\2\3\4",
        b"P6 2 2 255\n" + b"\1" * 12,
        b"P4 8 2\n\1\2",
        b"P2 2 2 255\n1 2\n3 4\n",
        b"P2 2 2 1000\n1 2\n3 4\n",
    ],
)
def test_several_netpbm_pictures_in_a_file_are_not_dropped_in_silence(one):
    assert reason(one + one) == "several_frames"
    read(one)


def test_a_number_above_the_highest_of_few_bits_is_refused():
    assert reason(b"P5 2 2 100\n\1\2\3\x65") == "corrupt"


def strips(compression: str | None, edit: dict[int, int]) -> bytes:
    """A TIFF of 16 bits in eight strips, some of whose tags have other values."""
    pixels = RNG.integers(0, 65536, (64, 48)).astype(np.uint16)
    content = bytearray(tiff(pixels, rowsperstrip=8, compression=compression, metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        for tag, value in edit.items():
            at = file.pages[0].tags[tag]
            content[at.valueoffset : at.valueoffset + 2] = struct.pack("<H", value)
    return bytes(content)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_tiff_that_lacks_strips_is_not_filled_with_black(compression):
    assert read(strips(compression, {})).shape == (64, 48, 1)
    assert reason(strips(compression, {257: 128})) == "truncated"  # its height
    assert reason(strips(compression, {279: 0})) == "truncated"  # the first strip's bytes


def test_a_jpeg_whose_data_end_early_is_refused_and_one_that_is_padded_is_read():
    plain = encoded(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8)), "JPEG", quality=90)
    padded = plain[:-2] + b"\0" * 13 + plain[-2:]
    assert np.array_equal(read(padded), read(plain))
    assert reason(plain[:-2] + b"these are left over" + plain[-2:]) == "corrupt"


def test_raw_data_of_a_camera_are_not_taken_for_their_small_picture():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(COLOUR, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(np.zeros((100, 100), np.uint16), metadata=None)
    for frames in ("reject", "first", "split"):
        assert reason(stream.getvalue(), frames=frames) == "unsupported_format"
    assert reason(tiff(GREY, metadata=None, extratags=[(50706, 1, 4, b"\1\4\0\0", True)])) == "unsupported_format"


@pytest.mark.parametrize("bits", [1, 4, 5])
def test_jpeg_2000_of_few_bits_is_stretched_as_pictures_of_other_formats_are(bits):
    pixels = RNG.integers(0, 1 << bits, (32, 40)).astype(np.uint8)
    content = imagecodecs.jpeg2k_encode(pixels, bitspersample=bits, reversible=True)
    assert np.array_equal(read(content)[..., 0], np.rint(pixels * (255 / ((1 << bits) - 1))))


def test_a_tiff_of_an_odd_number_of_few_bits_is_refused():
    assert reason(tiff(GREY >> 5, bitspersample=3)) == "unsupported_depth"


def test_the_unused_byte_of_a_tga_is_no_alpha():
    content = bytearray(encoded(Image.fromarray(np.dstack([COLOUR, ALPHA])), "TGA"))
    assert reason(bytes(content)) == "transparent"
    content[17] &= 0xF0  # no bits of alpha
    assert np.array_equal(read(bytes(content)), COLOUR)


def test_a_tga_with_a_short_name_is_no_dicom():
    for name in (b"ab", b"eightabc"):
        assert np.array_equal(read(encoded(COLOUR, "TGA", id_section=name)), COLOUR)


def test_a_fourth_channel_of_a_photoshop_file_is_alpha_only_if_the_file_says_so():
    planes = np.dstack([COLOUR, ALPHA]).transpose(2, 0, 1).tobytes()
    assert reason(psd(4, 8, 3, planes)) == "unsupported_colours"
    height, width = GREY.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 4, height, width, 8, 3)
    layers = struct.pack(">Ih", 2, -1)
    content = header + struct.pack(">III", 0, 0, len(layers)) + layers + struct.pack(">H", 0) + planes
    assert reason(content) == "transparent"


def test_a_jpeg_of_12_bits_and_jpeg_ls_are_told_by_what_they_are():
    assert reason(imagecodecs.jpeg_encode(GREY_16 >> 4, bitspersample=12)) == "unsupported_depth"
    assert reason(imagecodecs.jpegls_encode(GREY)) == "unsupported_format"


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_jpeg_2000_of_more_than_8_bits_keeps_its_numbers(bits, colours):
    pixels = RNG.integers(0, 1 << bits, (32, 40, colours)).astype(np.uint16)
    content = imagecodecs.jpeg2k_encode(pixels.squeeze(), bitspersample=bits, reversible=True)
    assert np.array_equal(read(content), pixels)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_of_12_bits_keeps_its_numbers(white_is_zero):
    pixels = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)
    photometric = "miniswhite" if white_is_zero else "minisblack"
    content = tiff_of_12_bits(pixels, 0 if white_is_zero else 1)
    assert tifffile.imread(io.BytesIO(content)).max() < 4096, photometric
    assert np.array_equal(read(content)[..., 0], 4095 - pixels if white_is_zero else pixels)


def tiff_of_12_bits(pixels: np.ndarray, photometric: int) -> bytes:
    """Two numbers in three bytes; tifffile writes none."""
    height, width = pixels.shape
    bits = "".join(f"{value:012b}" for value in pixels.ravel())
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def test_an_avif_of_10_bits_keeps_its_numbers():
    pixels = RNG.integers(0, 1024, (16, 24, 3)).astype(np.uint16)
    content = imagecodecs.avif_encode(pixels, level=100, bitspersample=10)
    assert np.array_equal(read(content), imagecodecs.avif_decode(content))
    assert read(content).max() > 255


# Formats


@pytest.mark.parametrize("format", ["TGA", "PCX", "ICO", "QOI", "DDS", "ICNS", "SGI", "XBM", "MSP", "DIB"])
def test_a_format_that_pillow_reads_is_read(format):
    picture = Image.fromarray(np.kron(COLOUR, np.ones((12, 12, 1), np.uint8))[:128, :128])
    if format in ("XBM", "MSP"):
        picture = picture.convert("1")
    content = encoded(picture, format, **({"sizes": [(128, 128)]} if format == "ICO" else {}))
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(opened.convert("L" if opened.mode == "1" else "RGB"))
    assert np.array_equal(read(content).squeeze(), expected)
    assert reason_or_unreadable(content[: len(content) // 2])


def psd(channels: int, bits: int, mode: int, pixels: bytes) -> bytes:
    height, width = GREY.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, bits, mode)
    return header + struct.pack(">III", 0, 0, 0) + struct.pack(">H", 0) + pixels


def test_a_photoshop_file_is_read_as_long_as_no_channel_is_left_out():
    planes = COLOUR.transpose(2, 0, 1).tobytes()
    assert np.array_equal(read(psd(3, 8, 3, planes)), COLOUR)
    assert np.array_equal(read(psd(1, 8, 1, GREY.tobytes()))[..., 0], GREY)
    assert reason(psd(3, 16, 3, planes * 2)) == "unsupported_depth"
    assert reason(psd(5, 8, 3, planes * 2)) == "unsupported_colours"
    assert reason(psd(2, 8, 1, planes)) == "unsupported_colours"
    assert reason(psd(3, 8, 3, planes)[:20]) == "truncated"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("PDF", b"%PDF-1.7 ..."),
        ("OpenEXR", b"v/1\x01\2\0\0\0"),
        ("JPEG XR", b"II\xbc\x01\x20\0\0\0"),
        ("HEIF", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("MP4", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1"),
        ("ZIP", b"PK\x03\x04"),
        ("gzip", b"\x1f\x8b\x08"),
        ("tar", b"a" * 257 + b"ustar\x0000"),
        ("SVG", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("SVG", "\ufeff<?xml version='1.0' encoding='UTF-16'?><svg/>".encode("utf-16-le")),
        ("SVG", "<svg xmlns='http://www.w3.org/2000/svg'/>".encode("utf-16-be")),
        ("SVG", b'\xef\xbb\xbf<!-- drawn by hand --><svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("FITS", b"SIMPLE  =                    T"),
        ("PSB", b"8BPS\0\2"),
        ("PFM", b"Pf\n2 2\n-1.0\n"),
        ("BLP", b"BLP2\1\0\0\0"),
        ("Canon", b"II*\0\x10\0\0\0CR\2\0"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(name, content):
    with pytest.raises(Rejected, match=name) as error:
        read(content + b"\0" * 64)
    assert error.value.reason == "unsupported_format"
    assert ":" in error.value.detail, "there is a way out"


def test_bits_that_a_reader_would_cut_are_refused():
    sgi = encoded(COLOUR, "SGI", bpc=2)
    assert reason(sgi) == "unsupported_depth"
    assert reason(encoded(GREY, "SGI", bpc=2)) == "unsupported_depth"


# Pages


def pages(*pictures: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for pixels in pictures:
            photometric = "rgb" if pixels.ndim == 3 else "minisblack"
            writer.write(pixels, photometric=photometric, contiguous=False, metadata=None)
    return stream.getvalue()


def split(content: bytes) -> tuple[list[np.ndarray], list[tuple[str, str]]]:
    """The pages that are cases, (H, W, C), and the reasons of those that are not."""
    options = Options(IngestParams(frames="split", transparency="black"), OPEN)
    common, own = image.inspect(content, options)
    assembly = image.assemble([Inspected("a", b"", common, own)], [], options)
    found = []
    for case in assembly.cases:
        (pixels,) = image.read(case.files, case.recipe, 0, 1, lambda file: content, options)
        assert (pixels.shape, pixels.dtype) == (case.shape, case.dtype)
        found.append(pixels.transpose(1, 2, 0))
    return found, [(refusal.reason, refusal.detail) for refusal in assembly.refused]


def test_pages_that_differ_are_each_read_as_what_they_are():
    found, refused = split(pages(GREY, COLOUR, GREY_16, GREY[:5, :6], COLOUR_16))
    assert refused == []
    for one, expected in zip(found, [GREY, COLOUR, GREY_16, GREY[:5, :6], COLOUR_16], strict=True):
        assert np.array_equal(one.squeeze(), expected)


def test_a_page_that_cannot_be_read_is_rejected_on_its_own():
    complex_page = GREY.astype(np.complex64)
    found, refused = split(pages(GREY, complex_page, GREY_16, complex_page))
    assert [one.dtype for one in found] == [np.uint8, np.uint16]
    assert [why for why, _ in refused] == ["unsupported_depth", "unsupported_depth"]
    assert [detail.partition(":")[0] for _, detail in refused] == ["page 2", "page 4"]


def test_a_file_whose_pages_all_fail_is_rejected_with_the_reason():
    with pytest.raises(Rejected) as error:
        split(pages(GREY.astype(np.complex64), GREY.astype(np.complex64)))
    assert error.value.reason == "unsupported_depth"


def test_a_smaller_copy_of_a_page_is_no_page():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY, metadata=None)
        writer.write(GREY[::2, ::2], subfiletype=1, metadata=None)
        writer.write(GREY[::4, ::4], subfiletype=1, metadata=None)
    assert np.array_equal(read(stream.getvalue())[..., 0], GREY)
    assert len(split(stream.getvalue())[0]) == 1


def test_two_pages_behind_a_smaller_copy_are_not_taken_for_one():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY[::2, ::2], subfiletype=1, metadata=None)
        writer.write(GREY, metadata=None)
        writer.write(255 - GREY, metadata=None)
    assert reason(stream.getvalue()) == "several_frames"
    assert np.array_equal(read(stream.getvalue(), frames="first")[..., 0], GREY)
    assert len(split(stream.getvalue())[0]) == 2


def test_a_stack_that_imagej_wrote_as_one_page_is_not_cut_to_its_first_picture():
    content = tiff(GREY, metadata=None, description="ImageJ=1.54f\nimages=30\nslices=30\n")
    assert reason(content) == "several_frames"
    assert np.array_equal(read(content, frames="first")[..., 0], GREY)


def test_frames_behind_a_damaged_one_are_rejected_and_those_before_are_kept():
    frames = [Image.fromarray(RNG.integers(0, 256, (64, 64), np.uint8)) for _ in range(3)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    cut = content[: len(content) * 5 // 6]
    found, refused = split(cut)
    assert 1 <= len(found) < 3
    assert [why for why, _ in refused] == ["corrupt"]
    assert np.array_equal(found[0][..., 0], np.asarray(frames[0]))


def test_colours_that_come_with_a_later_frame_are_kept():
    frames = [Image.fromarray(GREY), Image.fromarray(COLOUR)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    found, refused = split(content)
    assert refused == []
    assert np.array_equal(found[0][..., 0], GREY)
    with Image.open(io.BytesIO(content)) as animation:
        animation.seek(1)
        assert np.array_equal(found[1], np.asarray(animation.convert("RGB")))
