"""Pictures: PNG, JPEG, TIFF, BMP, GIF, WebP and the other formats of pillow.FORMATS, with 8 or 16 bits as stored.

The pixels are those that imageio reads (tests compare them). imageio uses Pillow and tifffile for these formats;
calling them directly is several times as fast, and libjpeg-turbo's own call for JPEG faster still.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.lib.ingest.readers import codestream, jpeg, pillow
from stages.lib.ingest.readers.contract import Assembly, Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.picture import Picture

ALONE = True  # a file is a case, unless it is split


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Picture, from its header; nothing of its own, as many files have the same."""
    if not content:
        raise Rejected("empty", "0 bytes")
    if content.lstrip()[:1] == b"<" or content[:5] == b"%PDF-":
        raise Rejected("not_an_image", "HTML, XML or PDF, whatever its name says")
    if content[:2] == b"\xff\xd8":
        codestream.check_jpeg(content)
    with pillow.bounded(options.params.max_pixels):
        picture = jpeg.inspect(content) or pillow.inspect(content, options.params.frames)
    _check_size(picture, options)
    if picture.frames > 1 and options.params.frames == "reject":
        raise Rejected("several_frames", "several frames or pages; ingest.frames can be first or split")
    return tuple(picture), ()


def _check_size(picture: Picture, options: Options) -> None:
    params = options.params
    if min(picture.height, picture.width) < params.min_side:
        raise Rejected("too_small", f"{picture.width}x{picture.height} pixels; ingest.min_side is {params.min_side}")
    pixels = picture.height * picture.width
    if pixels > params.max_pixels:
        raise Rejected(
            "too_large", f"{picture.width}x{picture.height} pixels; ingest.max_pixels is {params.max_pixels}"
        )
    if picture.frames * pixels > params.max_voxels:
        size = f"{picture.frames} frames of {picture.width}x{picture.height} pixels"
        raise Rejected("too_large", f"{size}; ingest.max_voxels is {params.max_voxels}")


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """One case per file, or per frame where `ingest.frames` is split."""
    assembly = Assembly([])
    for file in files:
        picture = Picture(*file.common)
        name = options.identify("path", file.path)
        frames = picture.frames if options.params.frames == "split" else 1
        for frame in range(frames):
            assembly.cases.append(
                Case(
                    case=options.identify("frame", f"{frame} {file.path}") if frames > 1 else name,
                    patient=name if frames > 1 else None,
                    files=(file,),
                    dtype=picture.dtype,
                    shape=(picture.channels, picture.height, picture.width),
                    recipe=(frame,),
                    noted=("exif_rotated",) if picture.orientation != 1 else (),
                )
            )
    return assembly


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """The picture, (C, H, W)."""
    (file,), (frame,) = files, recipe
    picture, content = Picture(*file.common), load(file)
    if picture.decoder == "jpeg":
        pixels = jpeg.decode(content, picture.channels)  # (H, W, C)
    else:
        with pillow.bounded(options.params.max_pixels):
            pixels = pillow.decode(content, picture.decoder, frame, options.params.transparency)
    yield turned(pixels, picture.orientation).transpose(2, 0, 1)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) as EXIF's orientation, 1 to 8, means it to be seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
