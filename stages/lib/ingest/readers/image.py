"""Pictures: PNG, JPEG, TIFF, BMP, GIF, WebP and the other formats of pillow.FORMATS, with 8 or 16 bits as stored.

The pixels are those that imageio reads (tests compare them). imageio uses Pillow and tifffile for these formats;
calling them directly is several times as fast, and libjpeg-turbo's own call for JPEG faster still.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import Assembly, Case, Inspected, Options, Refusal, Rejected, frames_taken
from stages.lib.ingest.readers.pictures import formats, jpeg, orientation, pillow
from stages.lib.ingest.readers.pictures.alpha import without_alpha
from stages.lib.ingest.readers.pictures.picture import Picture

WAYS = "ingest.frames can be first, middle, split or a number"
ALONE = True  # a file is a case, unless it is split


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's pages, each as a Picture or as the reason and detail of its rejection.

    Nothing of the file's own, as many files have the same.
    """
    if not content:
        raise Rejected("empty", "0 bytes")
    formats.check(content)
    if content[:2] == b"\xff\xd8":
        codestream.check_jpeg(content)
    params = options.params
    pages: list[Picture | Rejected]
    if plain := jpeg.inspect(content, params.max_pixels):
        pages = [plain]
    else:
        with pillow.bounded(params.max_pixels):
            known = params.frames if params.frames in ("reject", "first") else "split"
            pages = pillow.inspect(content, known, params.max_voxels)
            if known == "split":
                pages = [pages[i] for i in frames_taken(len(pages), params.frames)]
    checked = [_checked(page, options) for page in pages]
    if len(checked) > 1 and params.frames == "reject":
        raise Rejected("several_frames", f"several frames or pages; {WAYS}")
    pictures = [page for page in checked if isinstance(page, Picture)]
    _check_voxels(pictures, params.max_voxels)
    if not pictures:
        raise next(page for page in checked if isinstance(page, Rejected))
    return tuple(tuple(page) if isinstance(page, Picture) else page.args for page in checked), ()


def _check_voxels(pictures: Sequence[Picture], limit: int) -> None:
    """Raises:
    Rejected: The pages take too many pixels together; a channel beyond three counts as a page.
    """
    pixels = sum(picture.height * picture.width * max(1, picture.channels - 2) for picture in pictures)
    if pixels > limit:
        what = f"{len(pictures)} pages" if len(pictures) > 1 else f"{pictures[0].channels} channels"
        raise Rejected("too_large", f"{pixels} pixels in {what}; ingest.max_voxels is {limit}")


def _checked(page: Picture | Rejected, options: Options) -> Picture | Rejected:
    """The page, or why its size is not wanted."""
    params = options.params
    if isinstance(page, Rejected):
        return page
    size = f"{page.width}x{page.height} pixels"
    if min(page.height, page.width) < params.min_side:
        return Rejected("too_small", f"{size}; ingest.min_side is {params.min_side}")
    if page.height * page.width > params.max_pixels:
        return Rejected("too_large", f"{size}; ingest.max_pixels is {params.max_pixels}")
    return page


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """One case per file, or per page where `ingest.frames` is split; a page that can't be read is refused alone."""
    assembly = Assembly([])
    for file in files:
        name = options.identify("path", file.path)
        several = len(file.common) > 1
        for number, page in enumerate(file.common):
            if isinstance(page[0], str):
                reason, detail = page
                assembly.refused.append(Refusal((file.path,), reason, f"page {number + 1}: {detail}"))
                continue
            picture = Picture(*page)
            assembly.cases.append(
                Case(
                    case=options.identify("frame", f"{picture.page} {file.path}") if several else name,
                    patient=name if several else None,
                    files=(file,),
                    dtype=picture.dtype,
                    shape=(picture.channels, picture.height, picture.width),
                    recipe=(number,),
                    noted=(*(("exif_rotated",) if picture.orientation != 1 else ()), *picture.noted),
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
    (file,), (number,) = files, recipe
    picture, content = Picture(*file.common[number]), load(file)
    if picture.decoder == "jpeg":
        decoded = jpeg.decode(content, picture.channels)
    else:
        with pillow.bounded(options.params.max_pixels):
            decoded = pillow.decode(content, picture)
    pixels = without_alpha(decoded, options.params.transparency)  # (H, W, C)
    if picture.decoder != "turned":
        pixels = orientation.turned(pixels, picture.orientation)
    yield pixels.transpose(2, 0, 1)
