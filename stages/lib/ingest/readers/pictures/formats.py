"""Formats that people have pictures in and that are not read: each is refused by its name, with a way out."""

import struct

from stages.lib.ingest.readers import packed
from stages.lib.ingest.readers.contract import Rejected

CONVERT = "convert it to PNG or TIFF"
# No decoder of HEVC is under a permissive licence: the wheels of pillow-heif bundle x265, which is under the GPL.
HEIF = "convert it to PNG, as `heif-convert` and `sips -s format png` do, or let the camera save JPEG"
EXPORT = "export its pictures as PNG or TIFF, or its volumes as DICOM"
ARCHIVE = "one that is called .{0} and lies in no other is read in place; unpack all others"
GZIP = b"\x1f\x8b"
# By their first bytes, as (place, bytes).
NAMED: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"%PDF-", "PDF", EXPORT),
    (0, b"%!PS", "PostScript", CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", CONVERT),
    (0, b"CDF\x01", "NetCDF", EXPORT),
    (0, b"CDF\x02", "NetCDF", EXPORT),
    (0, b"MATLAB 5.0", "MATLAB", EXPORT),
    (0, b"SIMPLE  =", "FITS", CONVERT),
    (0, b"v/1\x01", "OpenEXR, whose numbers are floating point", CONVERT),
    (0, b"#?RGBE", "Radiance HDR, whose numbers are floating point", CONVERT),
    (0, b"version https://git-lfs", "Git LFS, a pointer to the file itself", "run `git lfs pull`"),
    (0, b"PK\x05\x06", "ZIP, an archive, empty", "leave it out"),
    (0, b"#?RADIANCE", "Radiance HDR, whose numbers are floating point", CONVERT),
    (0, b"PF\n", "PFM, whose numbers are floating point", CONVERT),
    (0, b"Pf\n", "PFM, whose numbers are floating point", CONVERT),
    (0, b"P7\n", "PAM", CONVERT),
    (0, b"P7 332", "XV's thumbnails", CONVERT),
    (0, b"II\xbc\x01", "JPEG XR", CONVERT),
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS", CONVERT),
    (0, b"\xff\xd8\xff\xe8\x00\x20SPIFF\0", "JPEG-LS", CONVERT),
    (0, b"8BPS\0\x02", "Photoshop's large documents (PSB)", CONVERT),
    (0, b"AT&TFORM", "DjVu", CONVERT),
    (0, b"gimp xcf", "GIMP's XCF", CONVERT),
    (0, b"\xd7\xcd\xc6\x9a", "Windows Metafile", CONVERT),
    (40, b" EMF", "Windows Enhanced Metafile", CONVERT),
    (0, b"IIRO", "raw data of an Olympus camera", CONVERT),
    (0, b"FUJIFILMCCD-RAW", "raw data of a Fujifilm camera", CONVERT),
    (0, b"IIU\0", "raw data of a Panasonic camera", CONVERT),
    (8, b"CR\x02\0", "raw data of a Canon camera", CONVERT),
    (4, b"ftypcrx", "raw data of a Canon camera", CONVERT),
    (4, b"ftyphei", "HEIF", HEIF),
    (4, b"ftyphev", "HEIF", HEIF),
    (4, b"ftypmif1", "HEIF", HEIF),
    (4, b"ftypmsf1", "HEIF", HEIF),
    (4, b"ftyp", "MP4, a video", EXPORT),
    (8, b"AVI LIST", "AVI, a video", EXPORT),
    (0, b"\x1aE\xdf\xa3", "Matroska, a video", EXPORT),
    (0, b"\0\0\x01\xba", "MPEG, a video", EXPORT),
    (0, b"\0\0\x01\xb3", "MPEG, a video", EXPORT),
    (0, b"PK\x03\x04", "ZIP, an archive", ARCHIVE.format("zip")),
    (0, GZIP, "gzip", "unpack it (gunzip)"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip, an archive", "unpack it (7z x)"),
    (0, b"Rar!\x1a\x07", "RAR, an archive", "unpack it (unrar x)"),
    (0, b"BZh", "bzip2", "unpack it (bunzip2)"),
    (0, b"\xfd7zXZ\0", "xz", "unpack it (unxz)"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard", "unpack it (unzstd)"),
    (257, b"ustar", "tar, an archive", ARCHIVE.format("tar")),
    (0, b"BPG\xfb", "BPG", CONVERT),
    (0, b"FLIF", "FLIF", CONVERT),
    (0, b"IMAGE", "IDL's or Analyze's data", EXPORT),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a compound document, as of Zeiss or FlashPix", EXPORT),
    (0, b"ZISRAWFILE", "Zeiss CZI", EXPORT),
    (0, b"\xda\xce\xbe\x0a", "Nikon ND2", EXPORT),
    (0, b"BLP1", "BLP", CONVERT),
    (0, b"BLP2", "BLP", CONVERT),
)
# FreeSurfer's volumes: a version, four sizes, a type, degrees of freedom; and whether directions follow.
MGH, MGH_BYTES, MGH_TYPES = struct.Struct(">7ih"), 284, (0, 1, 3, 4, 10)
MGH_WAY = "convert it, as `mri_convert x.mgz x.nii.gz` does"
# Analyze's header: its size, and where it has sizes along its axes, the type of a number and its bits.
ANALYZE_BYTES, ANALYZE_AXES, ANALYZE_TYPE = 348, 40, 70
ANALYZE_BITS = {1: 1, 2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24}
ANALYZE_WAY = "convert the pair to one file, as `fslchfiletype NIFTI_GZ x.hdr` does"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Byte order mark, a first "<" without it, and the codec.
UTF_16 = ((b"\xff\xfe", b"<\0", "utf-16-le"), (b"\xfe\xff", b"\0<", "utf-16-be"))
# What most files begin with, and no row above does.
READ = (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb", b"\x89PNG\r\n\x1a\n")
AVIF_BRANDS = (b"avif", b"avis")
# Most files begin in none of these ways, which is asked of each file: all at once, by place.
BEGINNINGS = {place: tuple(row[1] for row in NAMED if row[0] == place) for place, *_ in NAMED}


def _as_utf_8(head: bytes) -> bytes:
    """The beginning of a file, where it is UTF-16 in UTF-8."""
    for mark, first, encoding in UTF_16:
        if head.startswith((mark, first)):
            return head.removeprefix(mark).decode(encoding, "ignore").encode("utf-8", "ignore")
    return head


def _is_mgh(content: bytes) -> bool:
    if len(content) < MGH_BYTES:
        return False
    version, *sizes, kind, _, placed = MGH.unpack_from(content)
    return version == 1 and min(sizes) > 0 and kind in MGH_TYPES and placed in (0, 1)


def _is_analyze(content: bytes) -> bool:
    """Whether it is the header of a pair; one of NIfTI's has a word more, and its reader."""
    if len(content) < ANALYZE_BYTES:
        return False
    order = "<" if content.startswith(ANALYZE_BYTES.to_bytes(4, "little")) else ">"
    axes, *sizes = struct.unpack_from(f"{order}8h", content, ANALYZE_AXES)
    kind, bits = struct.unpack_from(f"{order}2h", content, ANALYZE_TYPE)
    is_one = struct.unpack_from(f"{order}i", content) == (ANALYZE_BYTES,) and 1 <= axes <= 7
    return is_one and min(sizes[:axes]) > 0 and ANALYZE_BITS.get(kind) == bits


def _check_volume(content: bytes) -> None:
    """Raises:
    Rejected: It is a volume of a format that is not read and that begins with no word.
    """
    if content.startswith((b"\0\0\0\1", GZIP)):
        head = packed.first(content, MGH_BYTES) if content.startswith(GZIP) else content
        if _is_mgh(head):
            raise Rejected("unsupported_format", f"FreeSurfer's MGH: {MGH_WAY}")
    if _is_analyze(content):
        raise Rejected("unsupported_format", f"Analyze's header, whose pixels are in a file .img: {ANALYZE_WAY}")


def check(content: bytes) -> None:
    """Raises:
    Rejected: It is a page of text, or of a format that is not read.
    """
    if content.startswith(READ):
        return
    if content[4:8] == b"ftyp" and any(content[8:64].find(brand) >= 0 for brand in AVIF_BRANDS):
        return
    _check_volume(content)
    text = _as_utf_8(content[:4096])
    if text[:64].removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"<":
        head = text.lower()
        if b"<svg" in head and b"<html" not in head:
            raise Rejected("unsupported_format", f"SVG: {CONVERT}")
        raise Rejected("not_an_image", "HTML or XML, whatever its name says")
    if any(content.startswith(beginnings, place) for place, beginnings in BEGINNINGS.items()):
        name, way_out = next(row[2:] for row in NAMED if content.startswith(row[1], row[0]))
        raise Rejected("unsupported_format", f"{name}: {way_out}")
