"""Steps over what nobody asked for in a header: pydicom makes objects of each sequence that it passes.

Little endian files with preamble and meta header are walked so, and that is nearly all. In any doubt nothing is told,
and pydicom reads the whole header.
"""

import io
import struct
from collections.abc import Callable, Set
from functools import lru_cache

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

UNDEFINED = 0xFFFFFFFF
DELIMITERS, ITEM, ITEM_END, SEQUENCE_END = 0xFFFE0000, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
META = frozenset((0x00020000, 0x00020002, 0x00020010))  # its length, which pydicom reads; SOP class; transfer syntax
CHARACTER_SET = 0x00080005
SHORT = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
LONG = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
LETTERS = 0x4141  # "AA": where a length is no smaller, it may be the letters of a VR
explicit_at = struct.Struct("<HH2sH").unpack_from
implicit_at = struct.Struct("<HHL").unpack_from
length_at = struct.Struct("<L").unpack_from

Element = tuple[int, int, int, bool]  # tag, where its value starts, its length, whether it is a sequence
Reader = Callable[[bytes, int], Element]


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
        meta, at = _walk(content, 132, META, _explicit, group=2)
        file_meta = _meta(meta)
        implicit = file_meta.TransferSyntaxUID.is_implicit_VR
        if implicit and implicit_at(content, at)[2] >= LETTERS:
            return None
        elements, end = _walk(content, at, wanted, _implicit if implicit else _explicit)
        if not elements:
            return None
        dataset = read_dataset(io.BytesIO(elements), implicit, is_little_endian=True)
    except Exception:  # of the many kinds that damaged files lead to; pydicom shall say which
        return None
    dataset.file_meta = file_meta
    return dataset, end


@lru_cache(100)
def _meta(elements: bytes) -> FileMetaDataset:
    """Of files with the same meta header but for their own UID, once."""
    meta = FileMetaDataset(read_dataset(io.BytesIO(elements), is_implicit_VR=False, is_little_endian=True))
    syntax, _ = meta.get("TransferSyntaxUID"), meta.get("FileMetaInformationGroupLength")
    if not isinstance(syntax, UID) or syntax.is_private or not syntax.is_transfer_syntax:
        raise Doubt
    if syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        raise Doubt
    return meta


def _explicit(content: bytes, at: int) -> Element:
    group, element, vr, length = explicit_at(content, at)
    if vr in SHORT:
        return group << 16 | element, at + 8, length, False
    if vr in LONG:
        return group << 16 | element, at + 12, length_at(content, at + 8)[0], vr == b"SQ"
    if group << 16 | element == ITEM_END:
        return _implicit(content, at)
    raise Doubt


def _implicit(content: bytes, at: int) -> Element:
    group, element, length = implicit_at(content, at)
    tag = group << 16 | element
    return tag, at + 8, length, length == UNDEFINED and _may_be_sequence(tag)


def _may_be_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:  # somebody's own
        return True


def _walk(content: bytes, at: int, wanted: Set[int], element_at: Reader, group: int | None = None) -> tuple[bytes, int]:
    """The wanted elements' bytes, and where the walk ended: before the pixels, or before another group than the one."""
    kept = []
    size = len(content)
    while at < size:
        start = at
        if group is not None and implicit_at(content, at)[0] != group:
            break
        tag, at, length, sequence = element_at(content, at)
        if tag in PIXELS:
            at = start
            break
        if group is None and not 0x00080000 <= tag < DELIMITERS:
            raise Doubt
        if length == UNDEFINED:
            if tag in wanted or not sequence:
                raise Doubt
            at = _after_sequence(content, at, element_at)
        else:
            at += length
        if at > size:
            raise Doubt
        if tag in wanted:
            if sequence or dictionary_VR(tag) == "SQ" or length >= LETTERS:
                raise Doubt
            kept.append(content[start:at])
    return b"".join(kept), at


def _after_sequence(content: bytes, at: int, element_at: Reader) -> int:
    """Where a sequence of undefined length ends."""
    while True:
        group, element, length = implicit_at(content, at)
        tag = group << 16 | element
        at += 8
        if tag == SEQUENCE_END:
            return at
        if tag != ITEM:
            raise Doubt
        at = _after_item(content, at, None if length == UNDEFINED else at + length, element_at)


def _after_item(content: bytes, at: int, end: int | None, element_at: Reader) -> int:
    """Where an item's elements end: at its end if it told one, else after a delimiter."""
    while end is None or at < end:
        tag, at, length, sequence = element_at(content, at)
        if tag == ITEM_END and end is None:
            return at
        if tag >= DELIMITERS or tag == CHARACTER_SET:
            raise Doubt
        if length != UNDEFINED:
            at += length
        elif sequence:
            at = _after_sequence(content, at, element_at)
        else:
            raise Doubt
    if at != end:
        raise Doubt
    return at
