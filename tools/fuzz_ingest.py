"""Feeds mutated pictures, scans, volumes and arrays to the readers of ingest: none may crash, hang or exhaust memory.

Every other time the pages of a file are read as the slices of a volume.

    python -m tools.fuzz_ingest --files 10000 --seed 0

Exits 1, naming seed and number, when a file ends its process, takes more than 10 seconds or more than 2 GiB. Linux
only: the peak memory of a process is read from /proc.
"""

import copy
import gzip
import io
import json
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel
import nrrd
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from stages.lib.core import terminal
from stages.lib.ingest import readers
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import Loader, decode, reason_of
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers.contract import NoSuchPart, Options, Part
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from tools.mutations import Result, command, measured, spoilt

MAX_PIXELS = 25_000_000
MAX_VOXELS = 8 * MAX_PIXELS
MAX_CASES = 20  # pages of a file, or slices of a volume, that are decoded
PARTS = (Part("x"), Part("x", 1))  # of files of arrays
Sample = bytes | dict[str, bytes]  # a file, or the files of a store


def try_file(seed: int, number: int) -> Result:
    """Makes the file of this seed and number, and reads it as ingest would."""
    rng = np.random.default_rng([seed, number])
    samples = originals()
    content = spoilt_sample(samples[number % len(samples)], rng)
    return measured(lambda: read(content, frames="stack" if number // len(samples) % 2 else "split"))


def spoilt_sample(sample: Sample, rng: np.random.Generator) -> Sample:
    """A mutated file, or a store of which one file is mutated."""
    if isinstance(sample, bytes):
        return spoilt(sample, rng)
    name = sorted(sample)[rng.integers(len(sample))]
    return sample | {name: spoilt(sample[name], rng)}


def read(content: Sample, frames: str = "split") -> str:
    """What ingest makes of a file that is the only one: "read", or the reason why it is rejected."""
    # What a header may claim is bounded to fewer pixels than by default, as an animation of those takes half a minute.
    given = {"kind": "volumes" if frames == "stack" else "images", "frames": frames, "split_4d": "all", "axes": "DHW"}
    limits = {"max_pixels": MAX_PIXELS, "max_voxels": MAX_VOXELS}
    options = Options(check(IngestParams, {"transparency": "black", **given, **limits}), OPEN)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "file", content)
        table = FileTable(["file"])
        table.put(0, options.identify("path", "file"), inspect_file(f"{folder}/file", options))
        return _read(table, folder, options)


def _write(path: Path, content: Sample) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    for name, of in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(of)


def _read(table: FileTable, folder: str, options: Options) -> str:
    if table.refused:
        return table.refused[0].reason
    (name,) = table.accepted
    reader = readers.reader(name)
    assembly = reader.assemble([table.file(0)], [], options)
    if not assembly.cases and assembly.refused[0].reason == "several_arrays":
        try:
            assembly = reader.parts(table.file(0), PARTS, options)
        except NoSuchPart:
            return "no such part"
    if not assembly.cases:
        return assembly.refused[0].reason
    try:
        for case in assembly.cases[:MAX_CASES]:
            for _ in decode(Template(name, case), 0, min(case.blocks, MAX_CASES), Loader(folder, options), options):
                pass
    except Exception as error:
        return reason_of(error)[0]
    return "read"


@cache
def originals() -> list[Sample]:
    """Sound files of every format that can be written here, in several encodings."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 50, 3), np.uint8)
    deep = rng.integers(0, 65536, (40, 50)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(colour)
    return [
        _encoded(picture, "PNG"),
        _encoded(Image.fromarray(deep), "PNG"),
        _encoded(picture.quantize(16), "PNG"),
        _encoded(picture, "JPEG"),
        _encoded(picture.convert("L"), "JPEG", exif=exif),
        _encoded(picture, "JPEG", progressive=True),
        _encoded(picture, "TIFF", compression="tiff_lzw"),
        _encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        _tiff(deep),
        _tiff(np.dstack([colour, colour[..., 0]]), photometric="rgb", extrasamples=["unspecified"]),
        _tiff(np.dstack([deep] * 4), photometric="rgb", extrasamples=["assocalpha"], compression="zlib"),
        _pages(colour, deep, colour[..., 0]),
        _encoded(picture, "PNG", exif=exif),
        _encoded(picture.convert("L"), "PNG", transparency=7),
        *(_encoded(picture, format) for format in ("BMP", "PPM", "TGA", "PCX", "QOI", "DDS", "ICO", "SGI", "ICNS")),
        *(_encoded(picture, format) for format in ("WEBP", "AVIF", "JPEG2000")),
        *(_encoded(picture.convert("1"), format) for format in ("XBM", "MSP")),
        *(
            _encoded(picture, format, save_all=True, append_images=[picture.rotate(180)])
            for format in ("GIF", "WEBP", "PNG", "TIFF")
        ),
        b"P5 50 40 4095\n" + (deep % 4096).astype(">u2").tobytes(),
        b"P3 50 40 4095\n" + " ".join(map(str, (np.dstack([deep] * 3) % 4096).ravel())).encode() + b"\n",
        _photoshop(colour),
        bytes(imagecodecs.jpeg2k_encode(deep % 4096, bitspersample=12, reversible=True)),
        bytes(imagecodecs.avif_encode(np.dstack([deep] * 3) % 1024, level=90, bitspersample=10)),
        bytes(imagecodecs.png_encode(np.dstack([deep] * 4))),
        *microscopy(deep),
        *_dicom_files(deep % 4096),
        *_nifti_files(deep.reshape(4, 25, 20)),
        *_header_files(deep.reshape(4, 25, 20)),
        *(bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)) for pixels in (colour, deep, colour[..., 0])),
        bytes(imagecodecs.jpegxl_encode(colour, distance=1.0)),
        *_array_files(deep.reshape(4, 25, 20)),
    ]


def _encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def _pages(*pictures: np.ndarray) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for pixels in pictures:
            writer.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", metadata=None)
    return stream.getvalue()


def microscopy(pixels: np.ndarray) -> list[bytes]:
    """TIFFs of floats, signed numbers and many bands, and stacks of every kind that says what its pages are."""
    floats = pixels / 7 - 1000
    bands = np.stack([pixels] * 5)
    voxels = pixels.reshape(2, 5, 1, 10, 20) // np.arange(1, 3, dtype=np.uint16).reshape(1, 1, 2, 1, 1)
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2}
    plain = {"photometric": "minisblack"}
    imagej = {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "TZCYX", "spacing": 2, "unit": "um"}}
    return [
        _tiff(floats.astype(np.float32), compression="zlib", predictor=True),
        _tiff(floats.astype(np.float16), compression="lzw", tile=(16, 16)),
        _tiff(floats),
        _tiff(floats.astype(np.int32), byteorder=">", compression="zstd"),
        _tiff(floats.astype(np.int16), bigtiff=True),
        _tiff(bands, planarconfig="separate", tile=(16, 32), compression="zlib", **plain),
        _tiff(np.moveaxis(bands, 0, -1).astype(np.float32), planarconfig="contig", bigtiff=True, **plain),
        _tiff(voxels, ome=True, metadata={"axes": "TZCYX", **sizes}, **plain),
        _tiff(voxels.astype(np.float32), ome=True, metadata={"axes": "TZCYX", **sizes}, compression="zlib", **plain),
        _tiff(voxels, **imagej),
        _tiff(voxels, truncate=True, **imagej),
        _tiff(voxels[:, :, 0], metadata={"axes": "TZYX"}, **plain),
        _tiff(voxels[0, :, 0].astype(np.int8), truncate=True, **plain),
        _tiff(voxels[0, :, 0], metadata=None, bigtiff=True, **plain),
    ]


def _photoshop(pixels: np.ndarray) -> bytes:
    """Uncompressed, without layers; Pillow writes none."""
    height, width, channels = pixels.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, 3)
    return header + struct.pack(">IIIH", 0, 0, 0, 0) + pixels.transpose(2, 0, 1).tobytes()


def _nifti_files(pixels: np.ndarray) -> list[bytes]:
    content = [
        nibabel.Nifti1Image(pixels, np.eye(4)).to_bytes(),
        nibabel.Nifti2Image(pixels.astype(np.float32)[..., None], np.diag([-1, 1, 2, 1])).to_bytes(),
    ]
    return [*content, *(gzip.compress(one, 1) for one in content)]


def _header_files(pixels: np.ndarray) -> list[bytes]:
    """NRRD and MetaImage, packed or not."""
    found = []
    for packing in ("raw", "gzip", "bzip2"):
        directions = np.diag([0.5, 1, 2])
        header = {"space": "LPS", "space directions": directions, "space origin": [1, 2, 3], "encoding": packing}
        with tempfile.NamedTemporaryFile(suffix=".nrrd") as file:
            nrrd.write(file.name, pixels, header, index_order="C")
            found.append(Path(file.name).read_bytes())
    for is_packed in (False, True):
        content = zlib.compress(pixels.tobytes()) if is_packed else pixels.tobytes()
        lines = {"ObjectType": "Image", "NDims": 3, "BinaryData": True, "CompressedData": is_packed}
        lines |= {"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "0.5 1 2"}
        lines |= {"DimSize": "20 25 4", "ElementType": "MET_USHORT", "ElementDataFile": "LOCAL"}
        found.append("".join(f"{key} = {value}\n" for key, value in lines.items()).encode() + content)
    return found


def _array_files(pixels: np.ndarray) -> list[Sample]:
    """NumPy and HDF5 files, and Zarr stores, of arrays that PARTS name."""
    found: list[Sample] = []
    for array in (pixels, np.asfortranarray(pixels.astype(">f4"))):
        for save in (
            lambda stream, of: np.save(stream, of),
            lambda stream, of: np.savez(stream, x=of, other=of[0]),
            lambda stream, of: np.savez_compressed(stream, x=of),
        ):
            stream = io.BytesIO()
            save(stream, array)
            found.append(stream.getvalue())
    for packed in ({}, {"chunks": (1, 25, 20)}, {"compression": "gzip", "shuffle": True}, {"fletcher32": True}):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.create_dataset("x", data=pixels, **packed)
            file["group/other"] = pixels[0]
        found.append(stream.getvalue())
    return [*found, *_zarr_stores(pixels)]


def _zarr_stores(pixels: np.ndarray) -> list[Sample]:
    """Of versions 2 and 3 and with shards, written by hand: the zarr package is none that the pipeline needs."""
    depth, height, width = pixels.shape
    raw = [of.astype("<u2").tobytes() for of in pixels]
    about = {"zarr_format": 2, "shape": pixels.shape, "chunks": (1, height, width), "dtype": "<u2", "order": "C"}
    about |= {"fill_value": 0, "filters": None, "compressor": {"id": "zlib", "level": 1}}
    second = {"x/.zarray": json.dumps(about).encode()}
    second |= {f"x/{i}.0.0": zlib.compress(of) for i, of in enumerate(raw)}
    bytes_codec = {"name": "bytes", "configuration": {"endian": "little"}}
    grid = {"name": "regular", "configuration": {"chunk_shape": (1, height, width)}}
    array = {"zarr_format": 3, "node_type": "array", "shape": pixels.shape, "data_type": "uint16", "chunk_grid": grid}
    array |= {"chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [bytes_codec, {"name": "zstd"}]}
    third = {"x/zarr.json": json.dumps(array).encode()}
    third |= {f"x/c/{i}/0/0": bytes(imagecodecs.zstd_encode(of)) for i, of in enumerate(raw)}
    inner = {"chunk_shape": (1, height, width), "codecs": [bytes_codec], "index_codecs": [bytes_codec]}
    array |= {"codecs": [{"name": "sharding_indexed", "configuration": inner}]}
    array |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": pixels.shape}}}
    index = struct.pack(f"<{2 * depth}Q", *(n for i in range(depth) for n in (i * len(raw[0]), len(raw[0]))))
    shards = {"x/zarr.json": json.dumps(array).encode(), "x/c/0/0/0": b"".join(raw) + index}
    return [second, third, shards]


def _dicom_files(pixels: np.ndarray) -> list[bytes]:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality, image.PatientID = CTImageStorage, "CT", "nobody"
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = (
        generate_uid(entropy_srcs=[n]) for n in "abc"
    )
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [1, 1], 1, -1024
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels.astype("<u2").tobytes()
    files = []
    for syntax in (None, None, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        stream = io.BytesIO()
        one = copy.deepcopy(image)
        if syntax is not None:
            one.compress(syntax, generate_instance_uid=False)
        pydicom.dcmwrite(stream, one, enforce_file_format=True)
        files.append(stream.getvalue())
    return files


@terminal.program()
def main() -> None:
    command(__doc__, try_file, 10_000)


if __name__ == "__main__":
    main()
