"""What a bare array is as a case, in whatever file it lies: it says its dtype and shape, and nothing else of itself.

Two axes are a grey picture, (H, W). What three are, `ingest.axes` has to say, but where one reading alone gives a
picture: a first or last axis of one, and a last one of three in uint8, as every library writes a picture in colour.

Numbers are those of the array, in 8 or 16 bits, or else as float32, as those of a TIFF. Truth values become 0 and 255,
as a picture of one bit does in every format, so that both are the same case.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.ingest.readers.contract import (
    Assembly,
    Case,
    Inspected,
    NoSuchPart,
    Options,
    Part,
    Refusal,
    Rejected,
)
from stages.lib.ingest.readers.limits import check_picture
from stages.lib.ingest.readers.numbers import as_float32

WAYS = "name one in labels.csv, as in file::name or file::name[3]"
RGB = 3
MOST_CHUNKS = 100_000  # of a picture or slice
AUTO = "auto"  # of ingest.axes
Get = Callable[[tuple[Any, ...]], np.ndarray]  # a part of an array, by indices and slices


class Array(NamedTuple):
    """An array as `inspect` finds it in a file."""

    name: str  # identifier of its name in the file
    stored: str = ""  # dtype with its byte order, as "<i2"
    shape: tuple[int, ...] = ()
    place: tuple[Any, ...] = ()  # where a reader finds it
    reason: str = ""  # why it can't be read
    detail: str = ""


class Recipe(NamedTuple):
    """What `read` needs."""

    dtype: str  # of the case
    axes: str  # of the array, or of what of it is taken
    at: tuple[int, ...]  # indices along its first axes, of what is taken
    name: str  # in the file; "" where the file is the array
    array: Array
    nan: float | None = None  # ingest.nan


def identified(name: str, options: Options) -> str:
    """An array's name as `inspect` gives it: it may be a person's."""
    return options.identify("array", name)


def dtype_of(stored: np.dtype) -> str:
    """The dtype of a case.

    Raises:
        Rejected: The array holds no numbers that are read: objects, which would have to be unpickled, text, dates,
            complex numbers, several fields, more than 64 bits.
    """
    if stored.hasobject:
        raise Rejected("unsupported_depth", "an array of Python objects, which is not unpickled: save one of numbers")
    if stored.fields or stored.kind not in "biuf" or stored.itemsize > 8:
        kinds = {
            "c": "complex numbers",
            "U": "text",
            "S": "text",
            "M": "dates",
            "m": "durations",
            "V": "several fields" if stored.fields else "bytes without a type, as NumPy saves bfloat16 and float8",
        }
        what = kinds.get(stored.kind, f"numbers of {8 * stored.itemsize} bits")
        raise Rejected("unsupported_depth", f"an array of {what}: save one of real numbers")
    if stored.kind == "b":
        return "uint8"
    if stored.kind in "iu" and stored.itemsize <= 2:
        return "int16" if stored.kind == "i" else stored.newbyteorder("=").name
    return "float32"


def axes_of(shape: Sequence[int], stored: np.dtype, wanted: str) -> str:
    """What the axes are, as "HWC".

    Args:
        wanted: `ingest.axes`.

    Raises:
        Rejected: It is unknown, or they are none of a picture or volume.
    """
    size = " x ".join(map(str, shape)) or "a single number"
    if len(shape) < 2:
        raise Rejected("not_an_image", f"an array of {size}: no picture")
    if len(shape) == 2:
        return "HW"
    if len(wanted) == len(shape) and wanted != AUTO:
        return wanted
    if len(shape) > 3:
        way = "one of them, by its index along the first axis, can be named in labels.csv, as in file::name[3]"
        raise Rejected("unknown_axes", f"an array of {size}: {way}; or ingest.axes can be CDHW or DHWC")
    if wanted != AUTO:
        raise Rejected("unknown_axes", f"an array of {size}, and ingest.axes is {wanted}")
    channels_last = shape[2] == 1 or (shape[2] == RGB and stored == np.uint8)
    if channels_last != (shape[0] == 1):
        return "HWC" if channels_last else "CHW"
    raise Rejected("unknown_axes", f"an array of {size}: ingest.axes can be HWC, CHW, DHW or another order of these")


def case(file: Inspected, array: Array, part: Part | None, options: Options) -> Case:
    """The case that an array, or an index along its first axis, makes.

    Raises:
        Rejected: It makes none.
    """
    if array.reason:
        raise Rejected(array.reason, array.detail)
    stored, params = np.dtype(array.stored), options.params
    dtype = dtype_of(stored)
    at = () if part is None or part.at is None else (part.at,)
    most = 3 if params.axes == AUTO else len(params.axes)
    while len(array.shape) - len(at) > most and array.shape[len(at)] == 1:  # as time and channel, first in OME-Zarr
        at = (*at, 0)
    shape = array.shape[len(at) :]
    axes = axes_of(shape, stored, params.axes)
    sides = dict(zip(axes, shape, strict=True))
    height, width = sides["H"], sides["W"]
    check_picture(height, width, params)
    if math.prod(shape) > params.max_voxels:
        raise Rejected("too_large", f"{math.prod(shape)} numbers; ingest.max_voxels is {params.max_voxels}")
    if sides.get("C") == 0:
        raise Rejected("unsupported_colours", "a picture without a channel")
    if params.intensity == "hu" and "D" not in sides:
        raise Rejected("no_hounsfield_units", "ingest.intensity is hu, and these are pictures")
    if sides.get("D", 2) < 2:
        raise Rejected("single_slice", "an array of one slice or none; save a picture with the axes H, W")
    name = options.identify("path", file.path)
    is_volume = "D" in sides
    channels = sides.get("C", 1)
    return Case(
        case=options.identify("part", f"{part.text} {file.path}") if part else name,
        patient=None,
        files=(file._replace(common=(), own=()),),  # there may be a case for each of a hundred thousand parts
        dtype=dtype,
        shape=(channels, sides["D"], height, width) if is_volume else (channels, height, width),
        spacing_mm=params.spacing_mm if is_volume else None,
        units="HU" if params.intensity == "hu" else "",
        recipe=tuple(Recipe(dtype, axes, at, part.name if part else "", array, params.nan)),
        noted=("spacing_unknown",) if is_volume and params.spacing_mm is None else (),
        part=part.text if part else "",
    )


def whole(files: Sequence[Inspected], options: Options) -> Assembly:
    """The cases of files of which no part is named: of each its only array."""
    assembly = Assembly([])
    for file in files:
        arrays = [Array(*one) for one in file.common]
        try:
            if len(arrays) != 1:
                raise Rejected("several_arrays", f"{len(arrays)} arrays: {WAYS}")
            assembly.cases.append(case(file, arrays[0], None, options))
        except Rejected as error:
            assembly.refused.append(Refusal((file.path,), error.reason, error.detail))
    return assembly


def parts(file: Inspected, wanted: Sequence[Part], options: Options) -> Assembly:
    """The cases of the parts of a file that labels.csv names.

    Raises:
        NoSuchPart: The file has no such array, or it is not as long, or what is written means two arrays.
    """
    by_name = {array.name: array for array in (Array(*one) for one in file.common)}
    assembly = Assembly([])
    for written in wanted:
        part, array = written, by_name.get(identified(written.name, options))
        if written.at is not None and (exact := by_name.get(identified(written.text, options))):
            if array is not None:
                detail = "there is both an array of this name and one that has such an index: rename one of the two"
                raise NoSuchPart(written, detail)
            part, array = Part(written.text), exact
        if array is None:
            hint = "; an index is a whole number from 0 on, as in name[3]" if part.text.endswith("]") else ""
            raise NoSuchPart(written, f"there is no array of this name among its {len(by_name)}{hint}")
        if part.at is not None and not array.reason and part.at >= (array.shape or (0,))[0]:
            raise NoSuchPart(written, f"the array's shape is {array.shape}, and indices begin with 0")
        try:
            assembly.cases.append(case(file, array, part, options))
        except Rejected as error:
            assembly.refused.append(Refusal((file.path,), error.reason, f"{part.text}: {error.detail}"))
    return assembly


def check_chunks(ranges: Sequence[range]) -> None:
    """Args:
        ranges: Along each axis, the chunks that a picture or slice takes.

    Raises:
        Rejected: They are so many that to look each of them up takes minutes.
    """
    if (number := math.prod(map(len, ranges))) > MOST_CHUNKS:
        raise Rejected("too_large", f"{number} chunks in one picture or slice: save it again in larger chunks")


def blocks(recipe: Recipe, get: Get, start: int, stop: int) -> Iterator[np.ndarray]:
    """The slices start..stop of a volume, each (H, W), channel after channel; or the one picture, (C, H, W).

    Args:
        get: Gives what of the array indices and slices mean.

    Raises:
        Rejected: A number can't be held.
    """
    axes, taken = recipe.axes, recipe.at
    dtype = np.dtype(recipe.dtype)
    if "D" in axes:
        depth = recipe.array[2][len(taken) + axes.index("D")]
        for block in range(start, stop):
            channel, d = divmod(block, depth)
            plane = get((*taken, *({"C": channel, "D": d}.get(axis, slice(None)) for axis in axes)))
            yield numbers(plane if axes.index("H") < axes.index("W") else plane.T, dtype, recipe.nan)
        return
    pixels = numbers(get((*taken, *(slice(None) for _ in axes))), dtype, recipe.nan)
    yield pixels[None] if axes == "HW" else pixels.transpose([axes.index(axis) for axis in "CHW"])


def numbers(values: np.ndarray, dtype: np.dtype, nan: float | None = None) -> np.ndarray:
    """Values in the dtype of a case; `nan` is `ingest.nan`.

    Raises:
        Rejected: One is no number, or float32 can't hold it.
    """
    if values.dtype.kind == "b":
        return values.astype(dtype) * dtype.type(np.iinfo(np.uint8).max)
    if dtype.kind == "f":
        return as_float32(values, nan)
    return values.astype(dtype, casting="safe")  # one of the same numbers, or widened, as from 8 bits to 16
