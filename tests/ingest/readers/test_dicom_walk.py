"""The fast walk over a header gives what pydicom gives, or leaves the file to it."""

import io
import random
import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from stages.lib.ingest.readers.scans import dicom_tags, dicom_walk
from tests.raw_data import make_slice, scan

MUTATED = 3000
CHARACTER_SET = 0x00080005
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def by_pydicom(content: bytes) -> tuple[Dataset, int]:
    stream = io.BytesIO(content)
    tags = dicom_tags.TAGS
    return pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=tags), stream.tell()


def described(dataset: Dataset, end: int) -> list[object]:
    encoding = (dataset.original_encoding, dataset.original_character_set, dataset.file_meta.get("TransferSyntaxUID"))
    items = [dataset.get_item(tag) for tag in dicom_tags.TAGS if tag in dataset and tag != CHARACTER_SET]
    return [end, encoding, dataset.get("SpecificCharacterSet"), [(item.tag, item.VR, item.value) for item in items]]


def written(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def nested(syntax: UID) -> bytes:
    """A header with sequences of undefined length in one another, and a private one."""
    inner = Dataset()
    inner.CodeValue = "1"
    inner.is_undefined_length_sequence_item = True
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    whole = make_slice(0, scan()[0])
    whole.file_meta.TransferSyntaxUID = syntax
    whole.SourceImageSequence = Sequence([outer, outer])
    whole["SourceImageSequence"].is_undefined_length = True
    block = whole.private_block(0x0009, "TEST", create=True)
    block.add_new(1, "SQ", Sequence([inner]))
    whole[block.get_tag(1)].is_undefined_length = True
    return written(whole)


UNDEFINED = 0xFFFFFFFF
ITEM_END, SEQUENCE_END = (struct.pack("<HHL", 0xFFFE, element, 0) for element in (0xE00D, 0xE0DD))


def element(tag: int, vr: str, value: bytes, length: int | None = None, implicit: bool = False) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    length = len(value) if length is None else length
    if implicit:
        return struct.pack("<HHL", group, number, length) + value
    if vr in EXPLICIT_VR_LENGTH_32:
        return struct.pack("<HH2sHL", group, number, vr.encode(), 0, length) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), length) + value


def item(value: bytes, length: int = UNDEFINED) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length) + value


def rows(number: int, implicit: bool = False) -> bytes:
    return element(0x00280010, "US", struct.pack("<H", number), implicit=implicit)


def file_of(*parts: bytes, syntax: str = "1.2.840.10008.1.2.1", first: bytes = b"") -> bytes:
    implicit = syntax == ImplicitVRLittleEndian
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    pixels = element(0x7FE00010, "OW", bytes(8), implicit=implicit)
    body = (element(0x00080060, "CS", b"CT", implicit=implicit), *parts, rows(2, implicit), pixels)
    return bytes(128) + b"DICM" + first + element(0x00020010, "UI", uid) + b"".join(body)


def sequence(value: bytes, tag: int = 0x00082112) -> bytes:
    return element(tag, "SQ", value + SEQUENCE_END, UNDEFINED)


HIDDEN = SEQUENCE_END + rows(64)
TAIL = element(0x00291001, "UN", HIDDEN)
SWALLOWED = SEQUENCE_END + rows(2) + TAIL[:12]
OVERLAY = item(element(0x00091001, "UN", SEQUENCE_END + rows(64, True), implicit=True)) + ITEM_END + SEQUENCE_END
CRAFTED = {
    "an element that overruns its item": file_of(sequence(item(element(0x00080100, "SH", b"", 4), 8))),
    "an element that overruns into one that hides rows": file_of(
        sequence(item(element(0x00080100, "SH", SWALLOWED), 8) + HIDDEN), TAIL
    ),
    "a delimiter within an item of defined length": file_of(sequence(item(rows(3) + ITEM_END + rows(4), 28))),
    "a character set of an item's own": file_of(sequence(item(element(0x00080005, "CS", b"NO") + ITEM_END))),
    "a delimiter's group at the top": file_of(struct.pack("<HHL", 0xFFFE, 1, 0)),
    "a short group length": file_of(first=element(0x00020000, "UL", b"\1\0")),
    "an overlay of undefined length": file_of(
        element(0x60003000, "OW", OVERLAY, UNDEFINED, implicit=True), syntax=ImplicitVRLittleEndian
    ),
}


@pytest.mark.parametrize("header", CRAFTED)
def test_what_pydicom_may_read_in_another_way_is_left_to_it(header):
    assert dicom_walk.read(file_of(sequence(item(rows(3) + ITEM_END))), dicom_tags.TAG_NUMBERS)
    assert dicom_walk.read(CRAFTED[header], dicom_tags.TAG_NUMBERS) is None


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    paths = sorted(path for path in map(Path, get_testdata_files()) if path.is_file())
    return [*(path.read_bytes() for path in paths), *(nested(syntax) for syntax in SYNTAXES)]


def test_the_walk_gives_what_pydicom_gives_of_its_own_files_or_leaves_them_to_it(contents):
    walked = 0
    for content in contents:
        if found := dicom_walk.read(content, dicom_tags.TAG_NUMBERS):
            assert described(*found) == described(*by_pydicom(content))
            walked += 1
    assert walked > len(contents) / 2


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_nested_sequences_of_undefined_length_are_stepped_over(syntax):
    content = nested(syntax)
    walked = dicom_walk.read(content, dicom_tags.TAG_NUMBERS)
    assert walked and described(*walked) == described(*by_pydicom(content))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_walk_gives_what_pydicom_gives_of_mutated_headers_or_leaves_them_to_it(contents):
    rng = random.Random(0)
    found = [(content, dicom_walk.read(content, dicom_tags.TAG_NUMBERS)) for content in contents]
    headers = [content[: walked[1] + 100] for content, walked in found if walked]
    walked = 0
    for _ in range(MUTATED):
        mutated = bytearray(rng.choice(headers))
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(100, len(mutated))
            if rng.random() < 0.8:
                mutated[at] = rng.randrange(256)
            else:
                mutated[at : at + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 8))
        try:
            expected = described(*by_pydicom(bytes(mutated)))
        except Exception:
            continue  # damaged, perhaps in a sequence that the walk skips
        if walk := dicom_walk.read(bytes(mutated), dicom_tags.TAG_NUMBERS):
            assert described(*walk) == expected
            walked += 1
    assert walked > MUTATED / 5
