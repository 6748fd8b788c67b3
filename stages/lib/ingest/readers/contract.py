"""The contract between ingest and the reader of one file format; whoever adds a format starts here.

Ingest goes over the data twice. First every file is read once and inspected: enough to know what cases there will be.
The inspected files of a reader are assembled into cases; then `read` decodes their pixels. Both passes run in several
processes, and what `inspect` and `assemble` return is cached: it is plain (numbers, strings, None, tuples of those).

A reader is a module of this package with a flag, three to eight functions, and one line in READERS, by which its files
are recognised (for the example below: `"raw4": lambda content: content[:4] == b"RAW4"`):

    inspect(content: bytes, options: Options) -> tuple[Common, Own]
        The properties of one file. `Common` holds what many files have in common (stored once for all of them), `Own`
        what is this file's own. Raises Rejected; or Ignored for a sound file without a picture (a directory, a report).

    assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly
        Makes cases of one file or of many, and checks their geometry: a case is right, or it is rejected with its
        reason. `unread` are the files that could not be inspected; one of them may be what a case lacks.

    choose(files: list[Inspected], is_named, options: Options) -> tuple[list[Inspected], list[Refusal]]
        Which files are meant as cases, and the others, set aside. Where ALONE is False alone, as the next one.

    identities(files: list[Inspected]) -> Iterator[Identity]
        What labels.csv may know the files by.

    read(files, recipe, start, stop, load, options) -> Iterator[np.ndarray]
        Decodes the blocks start..stop of a case, in the case's dtype: the slices (H, W) of a volume, those of one
        channel after those of another, or the only block (C, H, W) of a picture. `files` and `recipe` are the case's;
        `load(file)` returns a file's content. Raises Rejected.

    parts(file: Inspected, wanted: Sequence[Part], options: Options) -> Assembly
        The cases of those parts of a file that labels.csv names, as in file.npz::name[3], of a format whose files hold
        many pictures; other readers lack it. Raises NoSuchPart.

    inspect_place(path: str, options: Options) -> tuple[Common, Own]
        As `inspect`, of what is larger than memory or a folder, and so is read where it lies (`in_place`); `read` then
        asks `place_of(load, file)` for the path.

    unpacked_bytes(recipe) -> int
        Bytes of the whole content in memory, of a file that is unpacked as a whole, else 0; other readers lack it.

    ALONE: bool
        Whether `assemble` treats each file by itself, and by its Common alone. Then, where it makes one case of a file
        and names it options.identify("path", file.path), it is called once for all files with the same Common.

The recipe of a volume, and of a picture whose numbers are signed or float32, begins with its dtype, in whose place
ingest may set a wider one, so that all cases have one.

Axes are C, H, W or C, D, H, W; spacing is in mm along D, H, W (or H, W). A reader checks the params that concern it,
max_pixels and max_voxels before anything is decoded or unpacked. Identifiers never leave a reader: `inspect` passes
whatever names a patient, a series or an instance through `options.identify`.

For example, the reader of raw grey pictures of 4x4 pixels behind the four letters RAW4:

    import numpy as np

    from stages.lib.ingest.readers.contract import Assembly, Case, Rejected

    ALONE = True
    BYTES = 4 + 16  # of a file

    def inspect(content, options):
        if len(content) != BYTES:
            raise Rejected("truncated", f"{len(content)} bytes, expected {BYTES}")
        return (), ()

    def assemble(files, unread, options):
        names = [options.identify("path", file.path) for file in files]
        return Assembly([Case(name, None, (f,), "uint8", (1, 4, 4)) for name, f in zip(names, files, strict=True)])

    def read(files, recipe, start, stop, load, options):
        yield np.frombuffer(load(files[0]), np.uint8, offset=4).reshape(1, 4, 4)
"""

import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest.identifiers import identify
from stages.lib.params.ingest import IngestParams

REASONS = {
    # of any file
    "empty": "the file has no bytes",
    "not_an_image": "the content is of no known picture format",
    "unsupported_format": "pictures or volumes in a format that is not read; the detail has its name",
    "unreadable": "a library failed on the file in a way that no other reason covers",
    "truncated": "the file ends before its pixels do",
    "corrupt": "the pixels can't be decoded, or not to the size that the header gives",
    "crashed": "the process that read the file ended with it",
    "changed": "the file changed between inspection and decoding",
    "io_error": "the operating system could not read the file",
    "too_large": "more than ingest.max_pixels or ingest.max_voxels allow, or than memory holds",
    "too_small": "a side is shorter than ingest.min_side",
    "unsupported_depth": "a number of bits per sample that is not read",
    "unsupported_colours": "a colour space that is not read, or another number of channels than the data set's",
    "picture_among_volumes": "the data set is one of volumes (ingest.kind)",
    "volume_among_pictures": "the data set is one of pictures (ingest.kind)",
    # of pictures
    "float_pixels": "floating point pixels in another format than TIFF",
    "several_frames": "an animation or several pages, and ingest.frames is reject",
    "several_arrays": "a file of arrays, of which labels.csv names none",
    "unknown_axes": "an array of three axes or more, and ingest.axes does not say what they are",
    "transparent": "transparent in part, and ingest.transparency is reject, or the numbers have no black and white",
    # of DICOM files
    "malformed": "the header can't be parsed, or holds impossible values",
    "no_pixels": "an image object without pixels",
    "unknown_sop_class": "a picture of a SOP class that the DICOM dictionary does not have",
    "unknown_transfer_syntax": "pixels in an encoding that the DICOM dictionary does not have",
    "burned_in_annotation": "text may be burned into the pixels, and ingest.burned_in is reject",
    "secondary_capture": "a screenshot, scan or other capture of a picture, and ingest.burned_in is reject",
    "modality_lut": "values are mapped by a lookup table, which is not supported",
    "whole_slide": "a microscope's whole slide, whose tiles are no pictures of their own",
    "mosaic": "many slices tiled in one Siemens mosaic",
    "inverted_values": "a CT or PET in which high values stand for dark, so that it is unsure what they measure",
    "concatenation": "one part of an object that was cut into several, PS3.3 C.7.6.16.1",
    "no_decoder": "pixels in a transfer syntax that no installed decoder reads",
    "voi_missing": "neither a VOI LUT nor a window, and ingest.intensity is voi",
    "no_hounsfield_units": "no CT in Hounsfield units, and ingest.intensity is hu",
    "rescale_missing": "a CT without slope or intercept, so without Hounsfield units",
    "out_of_range": "values that the case's dtype can't hold",
    "instance_twice": "one SOPInstanceUID for different pixels or places",
    "not_finite": "floating point numbers of which some are nan or infinite",
    "frames_without_geometry": "several frames without a place for each, in what should be a volume",
    # of DICOM series
    "unreadable_slice": "a file that can't be read may be one of the slices",
    "single_slice": "one slice, which has no spacing",
    "position_missing": "a slice without ImagePositionPatient",
    "orientation_missing": "a slice without ImageOrientationPatient",
    "spacing_missing": "a slice without PixelSpacing",
    "mixed_kinds": "slices of several modalities or SOP classes",
    "mixed_sizes": "slices or channels of different numbers of rows or columns",
    "mixed_pixels": "slices or channels whose pixels are stored in different ways",
    "mixed_patients": "slices of several patients",
    "mixed_frames_of_reference": "slices whose positions are in different coordinates",
    "mixed_orientations": "slices that are not parallel",
    "mixed_spacing": "slices of different in-plane spacing",
    "several_at_a_place": "several slices at one place, and not split by ingest.split_4d",
    "missing_slices": "a gap of a whole number of slices",
    "uneven_gaps": "slices that are not evenly spaced along a line",
    "tilted": "slices stacked at an angle above ingest.max_tilt",
    # of volumes in one file
    "sheared": "axes that are not at right angles, by more than ingest.max_tilt between slices",
    "segmentation": "what somebody or a program drew, which is no picture",
    "several_numbers": "colours, vectors or tensors: more than one number a voxel",
}
"""All reasons for a rejection, as ingest.json counts them and rejected.csv lists them, with their meaning."""

IGNORED_REASONS = {
    "same_instance": "a copy of another file of the series",
    "same_scan": "a multi-frame object of a scan that is there as single slices, too",
    "litter": "hidden, or left behind by an operating system",
    "label_file": "a label or a text beside its picture (.cls, .json, .txt)",
    "excluded": "left out by ingest.include, ingest.exclude or corrections.csv",
    # beside the slices of a data set of volumes
    "no_picture": "text, a program or other content of no known picture format",
    "other_format": "a document, as PDF",
    "empty_file": "a file without a byte, not named as a slice",
    "thumbnail": "a picture in a folder of slices",
}
"""Why files are ignored. Beside these, a DICOM object without a picture is counted by the name of its SOP class."""

SET_ASIDE_REASONS = {
    "localizer": "a picture that scans were planned on",
    "secondary_capture": "a screenshot, dose page or other capture beside scans or other pictures",
    "unlisted": "of a series that a labels.csv of series does not name",
    "unselected": "not one of ingest.select",
    "other_phase": "a slice of another phase than ingest.split_4d asks for",
}
"""Why files that may well be pictures are no cases of this data set: they are neither a loss nor waste."""

PART_SIGN = "::"
"""In labels.csv, between the path of a file and what of the file is meant."""
PART = re.compile(r"(?s)(?P<name>.*?)(?:\[(?P<index>[0-9]{1,18})\])?")  # behind that
OTHER = "other"
"""What a reader gives as an attribute in place of a text that may name somebody; ingest.json counts it."""
MAX_HEADER_BYTES = 1 << 28  # all that is in a file beside its pixels


class Rejected(Exception):
    """A file or case that can't be read for certain.

    `reason` is one of REASONS, which are counted; `detail` is for a person. It may name files, as it goes into no
    out, but quotes no text that a file holds: tools.predict prints it.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
        self.series = ""  # identifier of the series that lacks the file, if its header still holds it


LOG = "INGEST_LOG"
"""An environment variable, as workers inherit it: the file that the tracebacks of libraries' errors are added to."""
_reading = [""]  # the file that is being read, for the log


def reading(path: str) -> None:
    """Is told, before a file is read, which one it is."""
    _reading[0] = path


def _log(error: Exception) -> None:
    if place := os.environ.get(LOG):
        text = "".join(traceback.format_exception(error))
        descriptor = partial(os.open, mode=0o600)  # and a name may be no UTF-8
        with suppress(OSError), open(place, "a", encoding="utf-8", errors="backslashreplace", opener=descriptor) as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {_reading[0]}\n{text}\n")  # one write: workers share it


def where_raised(error: Exception) -> str:
    """What a library's error was and where, as in "ValueError in pydicom.valuerep, line 9".

    In place of its message, which may quote what the file holds, a name too. The log, which stays on this machine, gets
    the whole of it.
    """
    _log(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_globals.get('__name__')}, line {trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place


def check_is_of_the_files(error: Exception) -> None:
    """Raises:
    UserError, ImportError, MemoryError: The error itself, where the installation or the machine is at fault.
    """
    if isinstance(error, (UserError, ImportError, MemoryError)):
        raise error


class Part(NamedTuple):
    """What of a file labels.csv names: an array, or what of it is at an index along its first axis."""

    name: str  # of the array; "" where the file is the array
    at: int | None = None  # the index

    @property
    def text(self) -> str:
        """As labels.csv writes it behind ::, in one spelling."""
        return self.name if self.at is None else f"{self.name}[{self.at}]"

    @classmethod
    def of(cls, text: str) -> "Part | None":
        """What somebody wrote behind ::; None where it names no part.

        An array's own name may end as an index does: `arrays.parts` looks for one of that name, too.
        """
        match = PART.fullmatch(text)
        if not text or match is None:
            return None
        return cls(match["name"].strip("/"), int(match["index"]) if match["index"] else None)


class NoSuchPart(Exception):
    """labels.csv names a part that a file doesn't have; `detail` says what there is."""

    def __init__(self, part: Part, detail: str) -> None:
        super().__init__(part, detail)
        self.part, self.detail = part, detail


class Ignored(Rejected):
    """A sound file without a picture; its reason is the name of what it holds instead, as of its SOP class."""


@dataclass(frozen=True)
class Options:
    """The params of ingest, and the key that hides identifiers."""

    params: IngestParams
    key: bytes

    def identify(self, kind: str, value: str) -> str:
        return identify(self.key, kind, value)

    @property
    def max_file_bytes(self) -> int:
        """No file of a case that the params allow holds more: four samples of 16 bits a pixel, and a header."""
        return 8 * max(self.params.max_pixels, self.params.max_voxels) + MAX_HEADER_BYTES


class Inspected(NamedTuple):
    """A file that a reader accepted."""

    path: str  # below data/raw/<dataset>
    digest: bytes  # of its content
    common: tuple[Any, ...]
    own: tuple[Any, ...]


class Case(NamedTuple):
    """All of a case but its pixels."""

    case: str  # identifier
    patient: str | None  # identifier
    files: tuple[Inspected, ...]  # in the order in which `read` wants them
    dtype: str
    shape: tuple[int, ...]  # (C, H, W) or (C, D, H, W), C as the file has it
    spacing_mm: tuple[float, ...] | None = None
    units: str = ""  # "HU"
    series: str | None = None  # identifier
    recipe: tuple[Any, ...] = ()  # what else `read` needs
    attributes: tuple[
        tuple[str, str], ...
    ] = ()  # columns of cases.csv (publishing.ATTRIBUTES); nothing that names a person
    noted: tuple[str, ...] = ()  # what is counted in ingest.json: "exif_rotated", "affines_differ", ...
    part: str = ""  # what of its only file it is, as labels.csv names it behind ::; "": all
    file_channels: int = 0  # of a volume, where C has become another by ingest.colour; 0: it has not

    @property
    def names(self) -> tuple[str, ...]:
        """What files.csv, labels.csv and messages call what it is made of."""
        return (f"{self.files[0].path}{PART_SIGN}{self.part}",) if self.part else tuple(f.path for f in self.files)

    def with_channels(self, channels: int) -> "Case":
        """With another number of them, which decoding makes as `ingest.colour` says."""
        if len(self.shape) == 4 and channels != self.shape[0]:
            self = self._replace(file_channels=self.file_channels or self.shape[0])
        return self._replace(shape=(channels, *self.shape[1:]))

    @property
    def blocks(self) -> int:
        """Slices of a volume, of all its channels; a picture is one block."""
        return self.shape[0] * self.shape[1] if len(self.shape) == 4 else 1


def place_of(load: Callable[[Inspected], bytes], file: Inspected) -> str | None:
    """The path of a file, for a reader that reads it where it lies; None where there is only its content to load.

    Args:
        load: What `read` is given; `decoding.Loader` tells paths.

    Raises:
        Rejected: The file has changed.
        OSError: It can't be read.
    """
    place: Callable[[Inspected], str | None] | None = getattr(load, "place", None)
    return place(file) if place else None


def frames_taken(number: int, wanted: str | int) -> list[int]:
    """Which of several frames `ingest.frames` takes, where it takes any."""
    if wanted in ("first", "middle"):
        return [0 if wanted == "first" else number // 2]
    return list(range(0, number, wanted if isinstance(wanted, int) else 1))


def phases_of_file(phases: int, split_4d: bool | int | str, what: str) -> Sequence[int | str]:
    """The numbers of a file's phases that become volumes, or that it is their mean.

    Args:
        what: What messages call them.

    Raises:
        Rejected: There are several, and `ingest.split_4d` is not given; or none of its number.
    """
    if phases == 1:
        return [0]
    if split_4d is False:
        ways = "ingest.split_4d can be all, first, mean or the number of one"
        raise Rejected("several_at_a_place", f"{phases} {what} {ways}")
    return ["mean"] if split_4d == "mean" else phases_taken(phases, split_4d)


def phases_taken(phases: int, split_4d: bool | int | str) -> list[int]:
    """Which of several phases `ingest.split_4d` takes, where it takes any and not their mean.

    Raises:
        Rejected: There is none of that number.
    """
    if split_4d is True or split_4d == "all":
        return list(range(phases))
    number = 0 if split_4d == "first" else int(split_4d)
    if number >= phases:
        raise Rejected("several_at_a_place", f"ingest.split_4d is {number}, and there are the phases 0 to {phases - 1}")
    return [number]


class Identity(NamedTuple):
    """What labels.csv may know a file by; identifiers, but for the path and the number."""

    path: str
    study: str
    series: str
    series_number: str  # "" where there is none
    instance: str


class Refusal(NamedTuple):
    """Files that make no case, and why."""

    paths: tuple[str, ...]
    reason: str
    detail: str
    ignored: bool = False
    series: str = ""  # identifier of the series that lacks the files, if their headers still hold it
    copy_of: str = ""  # path of the file that is taken instead

    @property
    def outcome(self) -> str:
        """rejected, ignored or set aside."""
        if not self.ignored:
            return "rejected"
        return "set aside" if self.reason in SET_ASIDE_REASONS else "ignored"


@dataclass
class Assembly:
    """The cases that a reader's files make, and the files that are in none."""

    cases: list[Case]
    refused: list[Refusal] = field(default_factory=list)


IsNamed = Callable[[str, str], bool]  # of a path, and of the identifier of a series


class Reader(Protocol):
    """A reader's module, for type checkers."""

    ALONE: bool

    def inspect(self, content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...

    def inspect_place(self, path: str, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...  # of some

    def assemble(self, files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly: ...

    def parts(self, file: Inspected, wanted: Sequence[Part], options: Options) -> Assembly: ...  # likewise

    def choose(  # of those that are not ALONE
        self, files: list[Inspected], is_named: IsNamed, options: Options
    ) -> tuple[list[Inspected], list[Refusal]]: ...

    def identities(self, files: list[Inspected]) -> Iterator[Identity]: ...  # likewise

    def read(
        self,
        files: Sequence[Inspected],
        recipe: tuple[Any, ...],
        start: int,
        stop: int,
        load: Callable[[Inspected], bytes],
        options: Options,
    ) -> Iterator[np.ndarray]: ...
