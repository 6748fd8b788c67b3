"""Raw data in which every text is a mark of its own, and a search that finds marks in whatever they are wrapped.

All marks have the form that their place asks for, and a part in common that nothing else has: STEM in words, ROOT in
UIDs, years of the 19th century, an odd time of day, and numbers of two narrow ranges.
"""

import base64
import gzip
import io
import itertools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.raw_data import make_slice

STEM, ROOT = "zqxjvkw", "99887766"
PATH_STEM = "pqwkjzx"  # of the names of files and folders, which rejected.csv and messages may hold
DECIMALS, INTEGERS = (810_000_000, 810_009_999), (1_310_000_000, 1_310_009_999)
YEARS = range(1831, 1900)

NOT_MARKED = {  # text elements that a series can't be read without: each has a value that is right
    "SOPClassUID": "says that it is a CT",
    "Modality": "likewise",
    "ImageType": "its third value is a mark",
    "PhotometricInterpretation": "says how to read the pixels",
    "NumberOfFrames": "likewise",
    "BurnedInAnnotation": "anything but NO would refuse the series",
    "ImagePositionPatient": "numbers of the geometry, which cases.csv keeps",
    "ImageOrientationPatient": "likewise",
    "PixelSpacing": "likewise",
    "GantryDetectorTilt": "likewise: a tilted series is rejected",
    "RescaleSlope": "numbers by which the pixels are scaled",
    "RescaleIntercept": "likewise",
}
COMES_THROUGH = {"KVP": "kvp", "SliceThickness": "slice_thickness"}  # numbers: the element, and its column in cases.csv


def mark(vr: str, n: int) -> str:
    """The n-th mark, of the form that a value representation of DICOM asks for."""
    word, date = f"{STEM}{n:05d}", f"{YEARS[n // 84 % len(YEARS)]}{n % 12 + 1:02d}{n % 28 + 1:02d}"
    forms = {
        "AS": f"9{n % 100:02d}Y",
        "CS": word.upper(),
        "DA": date,
        "DS": str(DECIMALS[0] + n),
        "DT": f"{date}120000",
        "IS": str(INTEGERS[0] + n),
        "PN": f"{word.capitalize()}^Anna",
        "TM": f"235947.7{n:05d}",
        "UI": f"1.2.826.0.{ROOT}.{900_000 + n}",
        "UR": f"http://{word}.example/",
    }
    return forms.get(vr, word)


TEXT_VRS = "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()


def fill(image: Dataset) -> None:
    """Gives every text element that DICOM knows a mark, and others in sequences, private elements and overlays."""
    numbers = itertools.count(1)
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in TEXT_VRS and tag >= 0x00080000 and keyword not in NOT_MARKED:
            image[tag] = DataElement(tag, vr, mark(vr, next(numbers)))
    image.ImageType = ["ORIGINAL", "PRIMARY", mark("CS", next(numbers))]
    inner, outer = (_item(numbers) for _ in range(2))
    outer.ReferencedStudySequence = Sequence([inner])
    image.RequestAttributesSequence = Sequence([outer])
    image.OriginalAttributesSequence = Sequence([_item(numbers)])
    block = image.private_block(0x0099, mark("LO", next(numbers)), create=True)
    for i, vr in enumerate(TEXT_VRS):
        block.add_new(i, vr, mark(vr, next(numbers)))
    block.add_new(0x50, "UN", mark("LO", next(numbers)).encode())
    block.add_new(0x51, "SQ", Sequence([_item(numbers)]))
    for tag, vr in ((0x60000022, "LO"), (0x60001500, "LO"), (0x50000022, "LO"), (0x50000040, "SH")):
        image.add_new(tag, vr, mark(vr, next(numbers)))  # overlays and curves: description and label
    for tag in (0x60003000, 0x50003000, 0xFFFCFFFC):  # their data, and the padding after the data set
        image.add_new(tag, "OW" if tag < 0xFFFC0000 else "OB", mark("LO", next(numbers)).encode())
    meta = image.file_meta
    meta.PrivateInformationCreatorUID, meta.PrivateInformation = mark("UI", next(numbers)), mark("LO", 1).encode()
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(meta, keyword, mark("AE", next(numbers)))
    image.preamble = (mark("LO", next(numbers)).encode() * 11)[:128]


def _item(numbers: "itertools.count[int]") -> Dataset:
    """One element of each text VR."""
    first = {vr: tag for tag, (vr, *_) in reversed(DicomDictionary.items()) if tag >= 0x00400000}
    item = Dataset()
    for vr in TEXT_VRS:
        if vr in first:
            item.add_new(first[vr], vr, mark(vr, next(numbers)))
    return item


class Study:
    """Writes many marked slices: pydicom encodes one, and the others differ from it in a few bytes."""

    DEPTH = "7.777"

    def __init__(self, side: int = 8, syntax: str | None = None) -> None:
        image = make_slice(0, np.zeros((side, side), np.int16))
        if syntax:
            image.file_meta.TransferSyntaxUID = syntax
        fill(image)
        image.ImagePositionPatient = ["-10", "-20", self.DEPTH]
        self._pixels = image.PixelData = b"\x12\x34" * side * side + mark("LO", 9000).encode()  # more than is needed
        self.own = {k: str(image[k].value) for k in ("SOPInstanceUID", "SeriesInstanceUID", "PatientID")}
        self.others = {k: str(image[k].value) for k in ("StudyInstanceUID", "FrameOfReferenceUID")}
        stream = io.BytesIO()
        with warnings.catch_warnings():  # SpecificCharacterSet holds a mark
            warnings.simplefilter("ignore")
            image.save_as(stream, enforce_file_format=True)
        self.content = stream.getvalue() + mark("LO", 9001).encode()

    def slice(self, patient: int, i: int, pixels: np.ndarray) -> bytes:
        """Slice i of a patient's one series, (H, W) in Hounsfield units."""
        stored = (pixels + 1024).astype("<u2").tobytes()
        changed = {
            self._pixels: stored + self._pixels[len(stored) :],
            self.DEPTH.encode(): f"{2.5 * i:05.1f}".encode(),
            self.own["SOPInstanceUID"].encode(): f"1.2.826.0.{ROOT}.{910_000 + 100 * patient + i}".encode(),
            self.own["SeriesInstanceUID"].encode(): f"1.2.826.0.{ROOT}.{920_000 + patient}".encode(),
            self.own["PatientID"].encode(): f"{STEM}{9100 + patient:05d}".encode(),
        }
        content = self.content
        for old, new in changed.items():
            assert content.count(old) >= 1 and len(old) == len(new), old
            content = content.replace(old, new)
        return content


# Searching


def _spellings(word: str) -> list[bytes]:
    """A word in several encodings of text, and within base64 and hexadecimal digits."""
    found = []
    for spelt in dict.fromkeys((word, word.upper(), word.capitalize())):
        plain = spelt.encode()
        found += [spelt.encode(e) for e in ("ascii", "utf-16-le", "utf-16-be", "utf-32-le")]
        found += [plain.hex().encode(), plain.hex().upper().encode()]
        for shift in range(3):  # the characters of base64 that depend on this word alone
            whole = base64.b64encode(bytes(shift) + plain)
            found.append(whole[-(-shift * 8 // 6) : (shift + len(plain)) * 8 // 6])
    return found


def _pattern(*words: str) -> "re.Pattern[bytes]":
    return re.compile(b"|".join(re.escape(spelling) for word in words for spelling in _spellings(word)))


WORDS, PATHS = _pattern(STEM, ROOT), _pattern(PATH_STEM)
TIMES = re.compile(rb"(?<![0-9a-f.])18[3-9]\d(?:0[1-9]|1[0-2])[0-3]\d(?:120000)?(?![0-9a-f.])|235947\.7\d{5}")
AGES = re.compile(rb"(?<![0-9A-Za-z])9\d\dY(?![0-9A-Za-z])")
NUMBERS = re.compile(rb"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")


def marks_in(content: bytes, paths: bool = False) -> list[str]:
    """The marks that bytes hold, whatever wraps them; with `paths` those of file names as well."""
    found: set[str] = set()
    for part in _unwrapped(content):
        for pattern in (WORDS, TIMES, *([PATHS] if paths else [])):
            found |= {part[m.start() : m.end() + 12].decode("latin-1") for m in pattern.finditer(part)}
        if _is_text(part):
            found |= {age.decode() for age in AGES.findall(part)}
            found |= {number.decode() for number in NUMBERS.findall(part) if _is_mark(float(number))}
    return sorted(found)


def marks_below(folder: Path, *left_out: str, paths: bool = True) -> dict[str, list[str]]:
    """By file below a folder, without the names in `left_out`: the marks that it holds, or its name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in left_out]
    assert files
    names = {str(path.relative_to(folder)): path for path in files}
    found = {name: marks_in(path.read_bytes() + name.encode(), paths) for name, path in names.items()}
    return {name: marks for name, marks in found.items() if marks}


def _is_mark(number: float) -> bool:
    return any(low <= number <= high for low, high in (DECIMALS, INTEGERS))


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _unwrapped(content: bytes) -> Iterator[bytes]:
    """The bytes, and what is packed in them: files of an archive, data sets, compressed text of pictures."""
    yield content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from _unwrapped(archive.read(name))
    elif content[:2] == b"\x1f\x8b":
        yield from _unwrapped(gzip.decompress(content))
    elif content[:4] == b"\x89HDF":
        yield from _of_hdf5(content)
    elif content[:4] == b"\x89PNG":
        yield from _of_png(content)
    for packed in re.findall(rb";base64,([A-Za-z0-9+/=]{8,})", content):
        yield from _unwrapped(base64.b64decode(packed))


def _of_hdf5(content: bytes) -> Iterator[bytes]:
    found = []

    def visit(name: str, item: h5py.HLObject) -> None:
        found.append(repr((name, dict(item.attrs))).encode())
        if isinstance(item, h5py.Dataset):
            values = item[()]
            found.append(np.asarray(values).tobytes() if not isinstance(values, bytes) else values)
            if np.issubdtype(np.asarray(values).dtype, np.number):
                found.extend(repr(float(n)).encode() for n in np.ravel(values) if _is_mark(float(n)))

    with h5py.File(io.BytesIO(content)) as file:
        visit("", file)
        file.visititems(visit)
    yield from found


def _of_png(content: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        chunk = content[at + 8 : at + 8 + length]
        if name in (b"zTXt", b"iTXt", b"iCCP"):
            for start in (m.end() for m in re.finditer(b"\0", chunk)):
                for skipped in (0, 1):
                    try:
                        yield zlib.decompress(chunk[start + skipped :])
                    except zlib.error:
                        pass
        at += 12 + length


# Pictures


def _exif() -> Image.Exif:
    exif = Image.Exif()
    for n, tag in enumerate((0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x8298), 200):  # description, maker, artist, ...
        exif[tag] = mark("LO", n)
    exif.get_ifd(0x8769)[0x9286] = mark("LO", 210).encode()  # UserComment
    return exif


XMP = f"<x:xmpmeta><dc:creator>{mark('LO', 220)}</dc:creator></x:xmpmeta>".encode()
ICC = b"\0\0\0\x80" + bytes(120) + b"desc" + mark("LO", 221).encode()
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0f\x1c\x02\x50\0\x0c" + mark("LO", 222).encode()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_text(word: str) -> PngImagePlugin.PngInfo:
    """A word in a compressed text chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", word, zip=True)
    return info


def pictures() -> dict[str, bytes]:
    """Sound pictures of every format with metadata, all of it marks, by the endings of their names."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (12, 14)).astype(np.uint16))
    png, tiff = png_text(mark("LO", 230)), TiffImagePlugin.ImageFileDirectory_v2()
    png.add_text("Author", mark("LO", 231))
    png.add_itxt("Title", mark("LO", 232), zip=True)
    for n, tag in enumerate((269, 270, 271, 272, 285, 305, 306, 315, 316, 33432), 240):  # names, dates, copyright
        tiff[tag] = mark("LO", n)
    tiff[700], tiff[33723], tiff[34377], tiff[65000] = XMP, IPTC, IPTC, mark("LO", 250)

    behind = mark("LO", 260).encode()
    jpeg = saved(colour, "JPEG", exif=_exif(), comment=mark("LO", 261).encode(), icc_profile=ICC, xmp=XMP)
    files = {
        "jpg": jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(IPTC) + 2) + IPTC + jpeg[2:],
        "grey.jpg": saved(colour.convert("L"), "JPEG", exif=_exif(), progressive=True),
        "png": saved(colour, "PNG", pnginfo=png, exif=_exif(), icc_profile=ICC),
        "deep.png": saved(deep, "PNG", pnginfo=png),
        "tiff": saved(colour, "TIFF", tiffinfo=tiff, icc_profile=ICC, compression="tiff_lzw"),
        "deep.tiff": saved(deep, "TIFF", tiffinfo=tiff),
        "gif": saved(colour.quantize(16), "GIF", comment=mark("LO", 262).encode()),
        "webp": saved(colour, "WEBP", exif=_exif(), xmp=XMP, icc_profile=ICC),
        "jp2": saved(colour, "JPEG2000", comment=mark("LO", 263)),
    }
    return {ending: content + behind for ending, content in files.items()}
