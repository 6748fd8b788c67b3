"""Recognises a format by the first bytes of a file, never by its name."""

import io
import re
import zipfile

from stages.lib.ingest.readers import packed

TGA_TYPES = tuple(bytes([kind]) for kind in (1, 2, 3, 9, 10, 11))


def looks_like_dicom(content: bytes) -> bool:
    """Whether there is a DICM, after a preamble or at the start; or a data set that starts in group 0002 or 0008.

    The latter are old files. They start with the group, followed by the element's number, which is small.
    """
    if content[128:132] == b"DICM":
        return True
    if content[:4] == b"DICM":
        return True
    little = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"
    big = content[:2] == b"\x00\x08" and content[2:3] == b"\x00"
    # A TGA with a name of two or eight letters starts in the same way; but no such element is empty.
    is_tga = content[2:3] in TGA_TYPES and content[4:8] == b"\0\0\0\0"
    return len(content) > 8 and (little or big) and not is_tga


NIFTI_BYTES = (348, 540)  # of the headers of NIfTI-1 and -2
MAGIC = {NIFTI_BYTES[0]: (344, (b"n+1\0", b"ni1\0")), NIFTI_BYTES[1]: (4, (b"n+2\0", b"ni2\0"))}


def nifti_header(content: bytes) -> bytes:
    """The header of a NIfTI file, packed by gzip or not; nothing of other files."""
    if packed.is_gzip(content):
        content = packed.first(content, max(NIFTI_BYTES))
    size = content[:4]
    for length, (place, words) in MAGIC.items():
        if content[place : place + 4] in words and length in (
            int.from_bytes(size, "little"),
            int.from_bytes(size, "big"),
        ):
            return content[:length] if len(content) >= length else b""
    return b""


def looks_like_nifti(content: bytes) -> bool:
    return bool(nifti_header(content))


def looks_like_nrrd(content: bytes) -> bool:
    return content[:5] == b"NRRD0"


META_KEYS = re.compile(rb"(?:ObjectType|ObjectSubType|NDims|Comment|TransformType|BinaryData) *= *[^\r\n]*\r?\n")
META_BYTES = 4096


def looks_like_metaimage(content: bytes) -> bool:
    """Whether it begins with a line of MetaIO's, and says soon of how many axes."""
    return bool(META_KEYS.match(content)) and b"NDims" in content[:META_BYTES]


HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = (0, *(512 << doubled for doubled in range(8)))  # bytes: before it may lie a block of the user's own
HDF5_BYTES = HDF5_PLACES[-1] + len(HDF5)


def looks_like_hdf5(content: bytes) -> bool:
    return any(content.startswith(HDF5, place) for place in HDF5_PLACES)


NPY = b"\x93NUMPY"
NPY_ENDING = ".npy"  # of the members of an .npz
ZIP, ZIP_NAME = b"PK\x03\x04", 30  # with what a ZIP's first member begins, and the byte at which its name stands


def looks_like_npy(content: bytes) -> bool:
    """Whether it is an .npy file, or a ZIP whose first member is one: an .npz."""
    if not content.startswith(ZIP):
        return content.startswith(NPY)
    length = int.from_bytes(content[26:28], "little")
    name = content[ZIP_NAME : ZIP_NAME + length].decode("latin-1")
    if is_left_behind(name):  # of one that was packed again
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                name = next((name for name in archive.namelist() if not is_left_behind(name)), "")
        except Exception:  # a file may be damaged in any way, and zipfile has as many exceptions
            return False
    return name.endswith(NPY_ENDING)


def is_left_behind(name: str) -> bool:
    """Whether a member of an .npz is a folder, or of those that macOS adds when it packs files again."""
    return name.endswith("/") or name.startswith("__MACOSX/")
