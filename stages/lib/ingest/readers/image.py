"""Pictures: PNG, JPEG, TIFF, BMP, GIF, WebP and the other formats of pillow.FORMATS, with 8 or 16 bits as stored.

Of a TIFF also signed, wider and floating point numbers; and the pages of a file may be the slices of a volume.

The pixels are those that imageio reads (tests compare them). imageio uses Pillow and tifffile for these formats;
calling them directly is several times as fast, and libjpeg-turbo's own call for JPEG faster still.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import (
    Assembly,
    Case,
    Inspected,
    Options,
    Refusal,
    Rejected,
    frames_taken,
    phases_of_file,
)
from stages.lib.ingest.readers.limits import check_picture
from stages.lib.ingest.readers.pictures import formats, hyperstack, jpeg, orientation, pillow, tiff
from stages.lib.ingest.readers.pictures.alpha import without_alpha
from stages.lib.ingest.readers.pictures.picture import TURNED, Picture, Stack
from stages.lib.ingest.readers.scans import axes

WAYS = "ingest.frames can be first, middle, split, stack (slices of one volume), channels (of one picture) or a number"
STACK = "stack"  # of ingest.frames; and what is known of a file begins with it, where it is a volume
CHANNELS = "channels"  # of ingest.frames
KEPT_BYTES = 256 << 20  # of pages in colour, which are decoded once while a volume is brought, if it has no more
ALONE = True  # a file is a case, unless it is split


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's pages, each as a Picture or as the reason and detail of its rejection; or the Stack that they are.

    Nothing of the file's own, as many files have the same.
    """
    if not content:
        raise Rejected("empty", "0 bytes")
    formats.check(content)
    if content[:2] == b"\xff\xd8":
        codestream.check_jpeg(content)
    params = options.params
    pages: list[Picture | Rejected]
    file = _file(content)
    if plain := jpeg.inspect(content, params.max_pixels):
        pages = [plain]
    else:
        with pillow.bounded(params.max_pixels):
            known = params.frames if params.frames in ("reject", "first") else "split"
            pages = pillow.inspect(content, known, params.max_voxels, file)
            if known == "split":
                pages = [pages[i] for i in frames_taken(len(pages), params.frames)]
    if file is not None:
        pages = _named(pages, file.series, options)
    checked = [_checked(page, options) for page in pages]
    if params.frames == STACK:
        stack = _stack(file, checked, options)
        return (STACK, *stack._replace(picture=tuple(stack.picture))), ()  # type: ignore[arg-type]
    if len(checked) > 1 and params.frames == CHANNELS:
        checked = [_as_channels(file, checked)]
    if len(checked) > 1 and params.frames == "reject":
        raise Rejected("several_frames", f"several frames or pages; {WAYS}")
    pictures = [page for page in checked if isinstance(page, Picture)]
    _check_voxels(pictures, params.max_voxels)
    if not pictures:
        raise next(page for page in checked if isinstance(page, Rejected))
    if params.intensity == "hu":
        raise Rejected("no_hounsfield_units", "ingest.intensity is hu, and these are pictures")
    return tuple(tuple(page) if isinstance(page, Picture) else page.args for page in checked), ()


def _file(content: bytes, nan: float | None = None) -> tiff.File | None:
    """Of a TIFF."""
    return tiff.File(content, nan) if content.startswith(tiff.MAGIC_NUMBERS) else None


def _named(
    pages: list[Picture | Rejected], told: Sequence[hyperstack.Series], options: Options
) -> list[Picture | Rejected]:
    """The pages, with a hash of what their channels are called, where all of them are called alike."""
    names = {one.names for one in told}
    if len(names) != 1 or not (found := names.pop()):
        return pages
    hashed = options.identify("channels", "\n".join(found))
    return [page._replace(named=hashed) if isinstance(page, Picture) else page for page in pages]


def _as_channels(file: tiff.File | None, pages: Sequence[Picture | Rejected]) -> Picture:
    """The picture whose channels are the pages of a TIFF, which says nothing of them.

    Raises:
        Rejected: One of them can't be read, or they differ; or they are something else.
    """
    others = "ingest.frames can be first, middle, split, stack or a number"
    if file is None:
        raise Rejected("several_frames", f"an animation, whose frames are no channels; {others}")
    if file.series and not (len(file.series) == 1 and file.series[0].is_unnamed):
        raise Rejected("several_frames", f"{file.series[0].says} says that they are slices or points in time; {others}")
    pictures = _all(pages, "channel")
    tiff.check_apart(file)
    return tiff.joined(pictures)


def _all(pages: Sequence[Picture | Rejected], what: str) -> list[Picture]:
    """Pages that make one case.

    Raises:
        Rejected: One of them can't be read.
    """
    pictures = []
    for number, page in enumerate(pages):
        if isinstance(page, Rejected):
            raise Rejected(page.reason, f"{what} {number + 1}: {page.detail}")
        pictures.append(page)
    return pictures


def _stack(file: tiff.File | None, pages: Sequence[Picture | Rejected], options: Options) -> Stack:
    """The volume that pages make.

    Raises:
        Rejected: One of them can't be read, or they are of several kinds, or none of them are slices.
    """
    told = file.series if file is not None else []
    if len(told) > 1:
        what = f"{len(told)} images (positions, scenes, arrays) in one file, as {told[0].says} says"
        raise Rejected("several_frames", f"{what}, not one volume: export each to a file of its own")
    if told and told[0].no_volume:
        raise Rejected("several_frames", told[0].no_volume)
    times = told[0].times if told else 1
    pictures = _all(pages, "slice")
    first = pictures[0]
    for number, page in enumerate(pictures):
        if (page.height, page.width) != (first.height, first.width):
            what = f"{page.width}x{page.height} pixels, and the first {first.width}x{first.height}"
            raise Rejected("mixed_sizes", f"slice {number + 1} has {what}: a stack has slices of one size")
        if page._replace(page=0, others=(), noted=()) != first._replace(page=0, others=(), noted=()):
            what = f"{page.channels} channels of {page.dtype}, the first {first.channels} of {first.dtype}"
            raise Rejected("mixed_pixels", f"slice {number + 1} has {what}, or is stored or turned in another way")
    depth = len(pictures) // times
    if depth == 1:
        by = f", as {told[0].says} says" if told else ""
        what = f"{times} points in time{by}: ingest.frames can be first, middle, split or a number"
        raise Rejected("single_slice", what if times > 1 else "one slice, which is no volume: see ingest.frames")
    limit, voxels = options.params.max_voxels, first.channels * first.height * first.width * len(pictures)
    if voxels > limit:
        what = f"{len(pictures)} pages of {first.width}x{first.height} pixels and {first.channels} channels"
        raise Rejected("too_large", f"{what}; ingest.max_voxels is {limit}")
    if file is not None:
        tiff.check_apart(file)
    d, h, w = told[0].spacing_mm if told else (None, None, None)
    said = (d, w, h) if first.orientation >= 5 else (d, h, w)
    given = options.params.spacing_mm or (None, None, None)
    d, h, w = (mm if mm is not None else by for mm, by in zip(said, given, strict=True))
    spacing = None if d is None or h is None or w is None else (d, h, w)
    return Stack(first, tuple((page.page, *page.others) for page in pictures), times, spacing)


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
    if isinstance(page, Picture):
        try:
            check_picture(page.height, page.width, options.params)
        except Rejected as error:
            return error
    return page


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """One case per file, or per page where `ingest.frames` is split; a page that can't be read is refused alone.

    Of a stack, one case per point in time where `ingest.split_4d` is all.
    """
    assembly = Assembly([])
    for file in files:
        if file.common[0] == STACK:
            _add_volumes(assembly, file, options)
            continue
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
                    recipe=(picture.dtype, number),
                    attributes=_channels(picture),
                    noted=(*(("exif_rotated",) if picture.orientation != 1 else ()), *picture.noted),
                )
            )
    return assembly


def _as_stack(file: Inspected) -> Stack:
    picture, *rest = file.common[1:]
    return Stack(Picture(*picture), *rest)


def _channels(picture: Picture) -> tuple[tuple[str, str], ...]:
    """The attribute by which assembly sees whether channels are called alike; no column of cases.csv."""
    return (("channel_names", picture.named),) if picture.named else ()


def _add_volumes(assembly: Assembly, file: Inspected, options: Options) -> None:
    stack, split = _as_stack(file), options.params.split_4d
    try:
        phases = phases_of_file(stack.times, split, f"points in time of {stack.depth} slices;")
    except Rejected as error:
        assembly.refused.append(Refusal((file.path,), error.reason, error.detail))
        return
    picture, name = stack.picture, options.identify("path", file.path)
    several = stack.times > 1 and split in (True, "all")
    kept = _kept_bytes(stack, split)
    unknown = () if stack.spacing_mm else ("spacing_unknown",)
    for phase in phases:
        assembly.cases.append(
            Case(
                case=options.identify("phase", f"{phase} {file.path}") if several else name,
                patient=name if several else None,
                files=(file,),
                dtype=picture.dtype,
                shape=(picture.channels, stack.depth, picture.height, picture.width),
                spacing_mm=stack.spacing_mm,
                units="HU" if options.params.intensity == "hu" else "",
                recipe=(picture.dtype, phase, kept),
                attributes=(*_channels(picture), *((("phase", str(phase)),) if stack.times > 1 else ())),
                noted=(*(("exif_rotated",) if picture.orientation != 1 else ()), *picture.noted, *unknown),
            )
        )


def _kept_bytes(stack: Stack, split: bool | int | str) -> int:
    """Of all pages of a volume, where each holds several channels and they are few enough to be kept; otherwise 0.

    Volumes are brought channel after channel, and a page has them all.
    """
    picture = stack.picture
    if stack.channels_of_page == 1:
        return 0
    size = picture.channels * picture.height * picture.width * np.dtype(picture.dtype).itemsize
    size *= stack.depth * (stack.times if split == "mean" else 1)
    return size if size <= KEPT_BYTES else 0


def unpacked_bytes(recipe: tuple[Any, ...]) -> int:
    """What the pages of a volume take in memory where they are kept: it is then brought as a whole."""
    return recipe[2] if len(recipe) > 2 else 0


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """The picture, (C, H, W); or slices (H, W) of a volume, channel after channel, in the recipe's dtype."""
    (file,), (dtype, number, *_) = files, recipe
    content, params = load(file), options.params
    pages = _file(content, params.nan)
    with pillow.bounded(params.max_pixels):
        if file.common[0] == STACK:
            stack, blocks = _as_stack(file), range(start, stop)
            kept = _kept.of(file.digest) if unpacked_bytes(recipe) else None
            yield from _slices(content, pages, stack, dtype, number, blocks, params.transparency, kept)
        else:
            pixels = _pixels(content, Picture(*file.common[number]), params.transparency, pages)
            yield pixels.transpose(2, 0, 1).astype(dtype, copy=False)


def _slices(
    content: bytes,
    pages: tiff.File | None,
    stack: Stack,
    dtype: str,
    phase: int | str,
    blocks: Iterable[int],
    transparency: str,
    kept: dict[int, np.ndarray] | None,
) -> Iterator[np.ndarray]:
    """(H, W) each.

    Args:
        pages: Of a TIFF.
        blocks: Their numbers, those of the first channel before those of the next.
        kept: Pages of which not all channels have been asked for yet, (H, W, C); None: none is kept.
    """
    samples = stack.channels_of_page

    def plane(time: int, d: int, channel: int) -> np.ndarray:
        page = stack.frames[time * stack.depth + d][channel // samples]
        pixels = kept.pop(page, None) if kept else None
        if pixels is None:
            alone = stack.picture._replace(page=page, others=(), channels=samples)
            pixels = _pixels(content, alone, transparency, pages)
        if kept is not None and channel % samples < samples - 1:
            kept[page] = pixels
        return pixels[..., channel % samples].astype(dtype, copy=False)

    for block in blocks:
        channel, d = divmod(block, stack.depth)
        if phase == "mean":
            phases = [plane(time, d, channel) for time in range(stack.times)]
            yield from axes.mean_of(phases, stack.times)
        else:
            yield plane(int(phase), d, channel)


class _Kept:
    """Pages of the stack that was read last: one that is made grey is read in all its channels at once."""

    def __init__(self) -> None:
        self._digest = b""
        self._pages: dict[int, np.ndarray] = {}

    def of(self, digest: bytes) -> dict[int, np.ndarray]:
        """Args: digest: Of the file; b"" of one that is not known, of which nothing may be taken for another's."""
        if digest != self._digest or not digest:
            self._digest, self._pages = digest, {}
        return self._pages


_kept = _Kept()


def _pixels(content: bytes, picture: Picture, transparency: str, pages: tiff.File | None) -> np.ndarray:
    """(H, W, C), turned.

    Args:
        pages: Of a TIFF.

    Raises:
        Rejected: It is damaged, or transparent against `transparency`.
    """
    if picture.others:
        places = (picture.page, *picture.others)
        parts = [_pixels(content, picture._replace(page=page, others=()), transparency, pages) for page in places]
        return np.concatenate(parts, axis=2)
    if picture.decoder == "jpeg":
        decoded = jpeg.decode(content, picture.channels)
    else:
        decoded = pillow.decode(content, picture, pages)
    pixels = without_alpha(decoded, transparency)
    return pixels if picture.decoder in TURNED else orientation.turned(pixels, picture.orientation)
