"""Steps over what nobody asked for in a header: pydicom makes objects of each sequence that it passes.

Files in explicit little endian with preamble and meta header are walked so, and that is nearly all. In any doubt
nothing is told, and pydicom reads the whole header.
"""

import io
import struct
from collections.abc import Set
from functools import lru_cache

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
META = frozenset((0x00020002, 0x00020010))  # SOP class and transfer syntax
SHORT = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
LONG = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
OTHER_ENCODINGS = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
element_at = struct.Struct("<HH2sH").unpack_from
item_at = struct.Struct("<HHL").unpack_from
length_at = struct.Struct("<L").unpack_from


class Doubt(Exception):
    """This is for pydicom to say."""


def read(content: bytes, wanted: Set[int]) -> tuple[Dataset, int] | None:
    """The wanted elements, and where the element of the pixels starts (or the file ends); None in any doubt.

    Args:
        wanted: Tags as whole numbers. Sequences among them are left to pydicom.
    """
    if content[128:132] != b"DICM":
        return None
    try:
        meta, at = _walk(content, 132, META, 2)
        elements, end = _walk(content, at, wanted, None)
        if not elements:
            return None
        file_meta = _meta(meta)
    except (Doubt, struct.error, RecursionError):
        return None
    dataset = read_dataset(io.BytesIO(elements), is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = file_meta
    return dataset, end


@lru_cache(100)
def _meta(elements: bytes) -> FileMetaDataset:
    """Of files with the same meta header but for their own UID, once."""
    meta = FileMetaDataset(read_dataset(io.BytesIO(elements), is_implicit_VR=False, is_little_endian=True))
    syntax = meta.get("TransferSyntaxUID")
    if not syntax or syntax.is_private or not syntax.is_transfer_syntax or syntax in OTHER_ENCODINGS:
        raise Doubt
    return meta


def _walk(content: bytes, at: int, wanted: Set[int], only: int | None) -> tuple[bytes, int]:
    """The wanted elements' bytes, and where the walk ended: before the pixels, or before another group than `only`."""
    kept = []
    size = len(content)
    while at < size:
        group, element, vr, length = element_at(content, at)
        tag = group << 16 | element
        if tag in PIXELS or (only is not None and group != only):
            break
        if only is None and group < 8:
            raise Doubt
        start = at
        if vr in SHORT:
            at += 8 + length
        elif vr in LONG:
            (length,) = length_at(content, at + 8)
            at += 12
            if tag in wanted and (vr == b"SQ" or length == UNDEFINED):
                raise Doubt
            at = at + length if length != UNDEFINED else _after_sequence(content, at, vr)
        else:
            raise Doubt
        if at > size:
            raise Doubt
        if tag in wanted:
            kept.append(content[start:at])
    return b"".join(kept), at


def _after_sequence(content: bytes, at: int, vr: bytes) -> int:
    """Where a sequence of undefined length ends."""
    if vr != b"SQ":
        raise Doubt
    while True:
        group, element, length = item_at(content, at)
        tag = group << 16 | element
        at += 8
        if tag == SEQUENCE_END:
            return at
        if tag != ITEM:
            raise Doubt
        at = at + length if length != UNDEFINED else _after_item(content, at)


def _after_item(content: bytes, at: int) -> int:
    """Where an item of undefined length ends."""
    while True:
        group, element, vr, length = element_at(content, at)
        if vr in SHORT:
            at += 8 + length
        elif vr in LONG:
            (length,) = length_at(content, at + 8)
            at += 12
            at = at + length if length != UNDEFINED else _after_sequence(content, at, vr)
        elif group << 16 | element == ITEM_END:
            return at + 8
        else:
            raise Doubt
