"""DICOM: series of slices as volumes, and single pictures, from a tree of files in any order and under any names.

`inspect` uses dicom_tags (parsing, by dicom_walk where it can), dicom_header (what a series has in common; dicom_terms
and dicom_burned_in guard what leaves it) and dicom_instance (what is a file's own); `assemble` dicom_series and
dicom_geometry; `read` dicom_pixels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.contract import (
    Assembly,
    Case,
    Identity,
    Inspected,
    Options,
    Refusal,
    Rejected,
    check_is_of_the_files,
    frames_taken,
    where_raised,
)
from stages.lib.ingest.readers.limits import check_sides
from stages.lib.ingest.readers.scans import (
    axes,
    dicom_burned_in,
    dicom_copies,
    dicom_grid,
    dicom_mosaic,
    dicom_pixels,
    dicom_series,
)
from stages.lib.ingest.readers.scans.dicom_choice import choose as choose
from stages.lib.ingest.readers.scans.dicom_header import Header, check_is_image, read_header
from stages.lib.ingest.readers.scans.dicom_instance import Instance, check_has_pixels, read_instance
from stages.lib.ingest.readers.scans.dicom_pixels import Recipe
from stages.lib.ingest.readers.scans.dicom_tags import TAG_OF, parse, text

ALONE = False  # several files make a case


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Header, which places it in its series, and its Instance, which places its pixels in a volume."""
    dataset, end = parse(content)
    try:
        check_is_image(dataset)
        if end >= 0:
            check_has_pixels(content, end, dataset.file_meta.TransferSyntaxUID.is_little_endian)
        descriptions = options.params.select.given().get("series_description", ())
        header = read_header(dataset, options.key, options.params.issuer, descriptions)
        header, instance = read_instance(content, dataset, end, header, options)
        if header.mosaic:
            header, instance = dicom_mosaic.unpacked(content, header, instance)
        return tuple(header), tuple(instance)
    except Rejected as error:
        # In a file that is cut within its header the last element may be, too: of a UID, a part is another UID.
        is_whole = any(tag > TAG_OF["SeriesInstanceUID"] for tag in dataset.keys())  # noqa: SIM118
        if is_whole and (uid := text(dataset, "SeriesInstanceUID")):
            error.series = options.identify("series", uid)
        raise


def identities(files: list[Inspected]) -> Iterator[Identity]:
    """What labels.csv may know the files by."""
    for file in files:
        header = Header(*file.common)
        yield Identity(file.path, header.study, header.series, header.series_number, Instance.from_plain(file.own).sop)


def assemble(files: list[Inspected], unread: Sequence[Refusal], options: Options) -> Assembly:
    """One volume per series, and one case per picture, or per frame that `ingest.frames` takes of a film.

    Raises:
        UserError: No decoder is installed for a transfer syntax that occurs; or `ingest.intensity` can't be of volumes.
    """
    _check_decoders({Header(*file.common).syntax for file in files})
    series: dict[str, list[Inspected]] = defaultdict(list)
    pictures: dict[str, list[Inspected]] = defaultdict(list)
    assembly = Assembly([])
    for file in files:
        header = Header(*file.common)
        if options.params.kind == "images" or not header.is_volumetric:
            pictures[Instance.from_plain(file.own).sop].append(file)
        else:
            series[header.series].append(file)
    unread = [*unread, *_strays(series, pictures, assembly)]
    for copies in pictures.values():
        _add_picture(copies, options, assembly)
    if series and (intensity := options.params.intensity) in ("bits", "voi"):
        raise UserError(f"ingest.intensity: {intensity} is for pictures: leave it out, or set ingest.kind: images")
    unread_files = dicom_series.UnreadFiles(unread)
    for name in sorted(series):
        dicom_series.add_volumes(series[name], unread_files, options, assembly)
    return assembly


def _strays(
    series: dict[str, list[Inspected]], pictures: dict[str, list[Inspected]], assembly: Assembly
) -> list[Refusal]:
    """Finds slices that a damaged element would lead elsewhere, so that no volume is made without them.

    A picture of a volume's series and SOP class, whose Modality is another one, goes to that series, which then does
    not agree in it. Slices without a SeriesInstanceUID are refused where their study has series: they may be of any.
    """
    files_of_volumes = [(name, file) for name, files in series.items() for file in files] if pictures else []
    classes = {(name, Header(*file.common).sop_class) for name, file in files_of_volumes}
    for sop, files in list(pictures.items()):
        header = Header(*files[0].common)
        if (header.series, header.sop_class) in classes:
            series[header.series] += pictures.pop(sop)
    studies = {header.study for files in series.values() if (header := Header(*files[0].common)).named}
    found = []
    for name, files in list(series.items()):
        header = Header(*files[0].common)
        if not header.named and header.study in studies:
            detail = "no SeriesInstanceUID, so it may be of any series of its study"
            found += [Refusal((file.path,), "malformed", detail) for file in series.pop(name)]
    assembly.refused += found
    return found


def _add_picture(files: list[Inspected], options: Options, assembly: Assembly) -> None:
    """Adds the picture of an instance, of which there may be several copies."""
    file = files[0]
    header, instance = Header(*file.common), Instance.from_plain(file.own)
    try:
        (file,), copies, twins = dicom_copies.without_copies(files)
        header, instance = Header(*file.common), Instance.from_plain(file.own)
        dicom_burned_in.check(header.burned_in, options)
        several = instance.frames > 1
        if several and options.params.frames in ("reject", "stack", "channels"):
            detail = f"{instance.frames} frames of a film; ingest.frames can be first, middle, split or a number"
            raise Rejected("several_frames", detail)
        check_sides(header.rows, header.columns, options.params)
        rescale = dicom_pixels.rescaling(header, instance.slices, options.params.intensity)
    except Rejected as error:
        paths = tuple(f.path for f in files)
        assembly.refused.append(Refusal(paths, error.reason, error.detail, series=header.series))
        return
    except Exception as error:  # whatever else goes wrong in an instance ends that one, and no other
        check_is_of_the_files(error)
        paths = tuple(f.path for f in files)
        assembly.refused.append(Refusal(paths, "unreadable", where_raised(error), series=header.series))
        return
    assembly.refused += copies
    numbers = frames_taken(instance.frames, options.params.frames) if several else [0]
    for i in numbers:
        name = options.identify("instance", f"{instance.sop} {i}" if len(numbers) > 1 else instance.sop)
        case = Case(
            case=name,
            patient=header.patient or (header.series if several else None),
            files=(file,),
            dtype=rescale.dtype,
            shape=(3 if header.in_colour else 1, header.rows, header.columns),
            spacing_mm=instance.slices[min(i, len(instance.slices) - 1)].spacing,
            units=rescale.units,
            series=header.series,
            recipe=Recipe.plain(rescale.dtype, [(0, i)]),
            attributes=(*header.attributes(), *((("phase", str(i)),) if several else ())),
            noted=("burned_in",) if header.burned_in else (),
        )
        compared = [dicom_copies.Twin(0, twin, i) for same in twins.values() for twin in same]
        assembly.cases.append(dicom_pixels.compared_with(case, compared))


def _check_decoders(syntaxes: set[str]) -> None:
    for syntax in sorted(syntaxes):
        if missing := dicom_pixels.missing_decoder(syntax):
            raise UserError(missing)


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """Slices start..stop of a volume, each (H, W), or the one picture (C, H, W), in the recipe's dtype."""
    wanted = Recipe.from_plain(recipe, start, stop)
    frames = ((files[place.file], place.frame) for place in wanted.places)
    if not (wanted.twins or wanted.grid or wanted.averaged):
        yield from _read(frames, wanted.dtype, load, options.params.intensity)
        return
    # All at once: each file is loaded once, its copies after it.
    pixels = list(_read(frames, wanted.dtype, load, options.params.intensity))
    others = _read([(twin.file, twin.frame) for twin in wanted.twins], wanted.dtype, load, options.params.intensity)
    for twin, other in zip(wanted.twins, others, strict=True):
        i = wanted.numbers.index(twin.place)
        file = files[wanted.places[i].file]
        syntaxes = [Header(*one.common).syntax for one in (file, twin.file)]
        dicom_copies.check_same(pixels[i], other, syntaxes, (file.path, twin.file.path))
    if wanted.averaged:
        pixels = axes.mean_of(pixels, wanted.averaged)
    if wanted.grid is not None:
        fill = dicom_pixels.AIR_HU if Header(*files[0].common).modality == "CT" else 0
        pixels = dicom_grid.resampled(wanted.grid, start, pixels, wanted.numbers[0], fill)[: stop - start]
    yield from pixels


def _read(
    frames: Iterable[tuple[Inspected, int]], dtype: str, load: Callable[[Inspected], bytes], intensity: str
) -> Iterator[np.ndarray]:
    for _, of_file in groupby(frames, lambda frame: frame[0].path):
        content: bytes | None = None
        for file, number in of_file:
            if content is None:
                content, header, instance = load(file), Header(*file.common), Instance.from_plain(file.own)
            try:
                yield dicom_pixels.read(content, header, instance, number, dtype, intensity)
            except Rejected as error:
                raise Rejected(error.reason, f"{file.path}: {error.detail}") from None
