import re
from dataclasses import MISSING, field, fields
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.lib.core.sections import Count, Positive, section, unit

Patterns = str | tuple[str, ...]
NOBODY_KNOWS = frozenset({"", "na", "n/a", "nan", "null", "?", "unknown", "missing"})  # in lower case

READING = (
    *("frames", "axes", "intensity", "split_4d", "gap_tolerance", "max_tilt", "uneven", "tilt"),
    *("orientation_tolerance", "spacing_tolerance", "instance_uids", "spacing_mm", "nan"),
)


@section
class SelectParams:
    """`datasets.<name>.ingest.select`: which DICOM files are meant, in an archive that holds others, too. Patterns as
    `CT`, `*lung*` or `[T1*, T2*]`, without regard to capitals; what one of each given key fits is taken, all else is
    set aside. `python -m tools.survey data/raw/<name>` shows what there is."""

    modality: Patterns = ()
    """CT, MR, PT, CR, DX, MG, US, ..."""

    sop_class: Patterns = ()
    """The name of the SOP class, as 'CT Image Storage', or its UID."""

    series_description: Patterns = ()
    """SeriesDescription. As people type names into it, it stands in no out."""

    body_part: Patterns = ()
    """BodyPartExamined."""

    image_type: Patterns = ()
    r"""The values of ImageType with backslashes between them, as 'ORIGINAL\\PRIMARY\\AXIAL' or '*AXIAL*'."""

    view: Patterns = ()
    """ViewPosition of an X-ray, as PA or MLO."""

    laterality: Patterns = ()
    """ImageLaterality or Laterality: L, R or B."""

    slice_thickness: Annotated[tuple[float, float] | None, unit("mm")] = None
    """The least and the largest SliceThickness."""

    def __post_init__(self) -> None:
        if self.slice_thickness is not None and self.slice_thickness[0] > self.slice_thickness[1]:
            raise ValueError(f"slice_thickness is {list(self.slice_thickness)}: expected the least before the largest")

    def given(self) -> dict[str, tuple[str, ...]]:
        """The keys that hold patterns, with these."""
        patterns = {name: value for name, value in vars(self).items() if name != "slice_thickness" and value}
        return {name: (value,) if isinstance(value, str) else value for name, value in patterns.items()}

    def __bool__(self) -> bool:
        return bool(self.given()) or self.slice_thickness is not None


@section
class TargetParams:
    """`datasets.<name>.ingest.target`: what a model is to answer, declared once for all stages. Left out: the class of
    each case."""

    kind: Literal["classes", "ordinal", "multilabel", "regression"] = "classes"
    """classes: a case is of one. ordinal: of one, and they have an order. multilabel: any number of labels hold, each
    by itself. regression: a number."""

    column: str | None = None
    """Of labels.csv. regression: the one that holds the number. multilabel: one that lists all labels that hold, as
    `edema|mass`."""

    columns: tuple[str, ...] = ()
    """Of labels.csv. multilabel: one a label, with yes or no, 1 or 0, or nothing where nobody knows: that is not taken
    for no. classes, ordinal: one a class, with its probability or its number of votes (soft labels); a blank one is 0
    where others are given."""

    readers: tuple[str, ...] = ()
    """Of labels.csv, for classes and ordinal: one a reader, each with the class that this one chose, or nothing. A
    case's target is the share of the readers that each class has; ingest.json says how far they agree."""

    order: tuple[str, ...] = ()
    """The classes of an ordinal target, the lowest first."""

    separator: str = "|"
    """Between the labels of `column`."""

    none: str | None = None
    """What `column` says where none of the labels holds, such as No Finding. A blank cell is an answer that nobody
    knows."""

    answers: dict[str, Literal["yes", "no", "missing"]] = field(default_factory=dict)
    """Further ways of saying yes, no or nothing in `columns`: {"-1": missing, uncertain: missing}."""

    unit: str = ""
    """Of the number of a regression, such as mm; the model's answers have it."""

    range: tuple[float, float] | None = None
    """The least and the largest number of a regression: one beyond them is refused."""

    log: bool = False
    """Whether the model learns the number's logarithm, for numbers above 0 that differ by factors."""

    weight: str | None = None
    """The column of labels.csv that says how much a case counts, a number of 0 or more: in the loss, the statistics and
    the scores."""

    @property
    def is_label(self) -> bool:
        """Whether labels.csv's column label, or the class folders, say what a case is."""
        return self.kind in ("classes", "ordinal") and not (self.columns or self.readers)

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Those of labels.csv that it reads beside label."""
        return (*([self.column] if self.column else ()), *self.columns, *self.readers, *filter(None, [self.weight]))

    def __post_init__(self) -> None:
        for key in ("columns", "readers"):
            object.__setattr__(self, key, tuple(name.strip().lower() for name in getattr(self, key)))
        for key in ("column", "weight"):
            if (name := getattr(self, key)) is not None:
                object.__setattr__(self, key, name.strip().lower())  # as labels.csv's header is read
        object.__setattr__(self, "unit", self.unit.strip())
        if self.column == "":
            raise ValueError("column is empty: name one of labels.csv")
        used = {
            "classes": ("columns", "readers"),
            "ordinal": ("columns", "readers", "order"),
            "multilabel": ("column", "columns", "separator", "none", "answers"),
            "regression": ("column", "unit", "range", "log"),
        }[self.kind]
        others = ("column", "columns", "readers", "order", "separator", "none", "answers", "unit", "range", "log")
        for key in others:
            if key not in used and getattr(self, key) != _left_out(TargetParams, key):
                raise ValueError(f"{key} is given, which a target of kind {self.kind} does not have")
        if self.kind == "regression" and self.column is None:
            raise ValueError("column is not given: name the one of labels.csv that holds the number")
        if self.kind == "multilabel" and (self.column is None) == (not self.columns):
            raise ValueError("a target of kind multilabel has either column, which lists the labels, or columns")
        if self.columns and self.readers:
            raise ValueError("columns and readers are given: a case's classes come from one of them")
        if self.kind == "ordinal" and not self.columns and len(set(self.order)) < max(2, len(self.order)):
            raise ValueError("order is not given, or has a class twice: name the classes, the lowest first")
        if self.kind == "ordinal" and self.columns and self.order:
            raise ValueError("columns and order are given: columns, the lowest class first, are the order")
        if len(self.columns) == 1 and self.kind != "multilabel":
            raise ValueError("columns has one class: name one column for each")
        if len(set(self.all_columns)) < len(self.all_columns) or not all(self.all_columns):
            raise ValueError(f"a column is named twice, or has no name: {', '.join(self.all_columns)}")
        if not self.separator:
            raise ValueError("separator is empty: expected what stands between two labels")
        if self.none is not None and (self.none.strip().lower() in NOBODY_KNOWS or self.separator in self.none.strip()):
            raise ValueError(
                f"none is {self.none!r}: expected one label, and not what stands in a cell of which nobody knows"
            )
        ways = [way.strip().lower() for way in self.answers]
        if len(set(ways)) < len(ways):
            raise ValueError(f"answers has one way of saying it twice: {', '.join(map(repr, self.answers))}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range is {list(self.range)}: expected the least number before the largest")
        if self.log and self.range is not None and self.range[0] <= 0:
            raise ValueError("range begins at 0 or below, where no number has a logarithm")
        if not self.unit.isprintable() or any(sign in self.unit for sign in "[]"):
            raise ValueError(f"unit is {self.unit!r}: expected one line without square brackets")


def _left_out(section: type, key: str) -> Any:
    return next(
        item.default if item.default_factory is MISSING else item.default_factory()
        for item in fields(section)
        if item.name == key
    )


@section
class IngestParams:
    """`datasets.<name>.ingest`: what of data/raw/<name> becomes a case, and how."""

    kind: Literal["auto", "images", "volumes"] = "auto"
    """auto: whichever most cases are. images: every DICOM file is a picture of its own, even a CT slice."""

    colour: Literal["auto", "grey_mean", "grey_luminance", "rgb"] = "auto"
    """auto: rgb if any picture is in colour; grey_luminance: 0.2126 R + 0.7152 G + 0.0722 B; rgb: grey three times.
    Volumes of one or three channels follow it, too, but auto leaves theirs as they are."""

    transparency: Literal["reject", "black", "white"] = "reject"
    """A partly transparent picture is rejected, or laid on black or white; an opaque alpha channel is dropped."""

    frames: Literal["reject", "first", "middle", "split", "stack", "channels"] | Annotated[int, Field(ge=1)] = "reject"
    """Animated or multi-page pictures, ultrasound and angiography films: rejected, their first or middle frame, or one
    case per frame (in one group); a number takes every so many frames, from the first on. stack: the pages of a file,
    as a TIFF, are the slices of one volume; channels: those of one picture, as bands of a multispectral camera. Pages
    that ImageJ or OME-TIFF call channels are one frame anyway; points in time are frames, or the phases of a stack
    (`split_4d`)."""

    spacing_mm: Annotated[tuple[Positive, Positive, Positive] | None, unit("mm")] = None
    """Along D, H, W: of arrays, and of stacks those of the three that the file does not say. [1, 1, 1] takes pixels for
    millimetres."""

    axes: Literal["auto", "HWC", "CHW", "WHC", "CWH", "DHW", "DWH", "HWD", "WHD", "CDHW", "DHWC"] = "auto"
    """What the axes of an array are (NumPy, HDF5, Zarr), which the file does not say: C channels, D slices, H rows, W
    columns, the first axis first. auto: an array of three axes is rejected, but for a picture in colour as (H, W, 3) in
    uint8, or with a first or last axis of 1. An array of two axes is H, W."""

    intensity: Literal["stored", "bits", "voi", "hu"] = "stored"
    """Of DICOM pictures, as X-rays. stored: values by slope and intercept, Hounsfield units in a CT. bits: stretched so
    that the range of BitsStored becomes 16 bits. voi: as a viewer shows them, by VOI LUT or window, in 16 bits. hu: of
    DICOM files and pictures, what has no Hounsfield units is rejected; volumes in files that say no unit (NIfTI, NRRD,
    MetaImage, stacks, arrays) are taken to be in Hounsfield units. Pictures whose high values are dark (MONOCHROME1,
    PresentationLUTShape INVERSE) are always turned."""

    nan: float | None = None
    """What stands for nan in floating point files (TIFF, NIfTI, NRRD, MetaImage, arrays), as of a background that was
    not measured. Left out, a case with nan is rejected, as one with an infinite number is anyway."""

    min_side: Annotated[Count, unit("pixels")] = 2
    """A picture that is lower or narrower is rejected."""

    max_pixels: Annotated[Count, unit("pixels")] = 178_956_970
    """A picture or slice whose header claims more is rejected before it is decoded."""

    max_voxels: Annotated[Count, unit("pixels")] = 2**30
    """Likewise a volume, or the frames of one file together. The default, 1024 x 1024 x 1024, is twice a CT of 2,000
    slices."""

    select: SelectParams = SelectParams()

    split_4d: bool | Literal["all", "first", "mean"] | Annotated[int, Field(ge=0)] = False
    """A series with several slices at one position (time points, echoes, b-values): false rejects it; all (or true)
    makes a volume of each phase, a number or first the one of that number, from 0 on, and mean their mean. Phases are
    told apart by one element or two of those that say so, or by InstanceNumber where that is no guess."""

    gap_tolerance: Annotated[float, Field(gt=0, le=0.1), unit("fraction")] = 0.01
    """How far a gap between slices may be from the mean gap, as a fraction of it."""

    max_tilt: Annotated[float, Field(ge=0, le=1), unit("degrees")] = 0.1
    """Angle allowed between the slices' normal and the line along which they are stacked."""

    uneven: Literal["reject", "resample"] = "reject"
    """Slices whose gaps differ by more than gap_tolerance: rejected, or resampled onto an even grid, in steps of the
    smallest gap and linearly between the slices' true positions. A volume that lacks slices is rejected anyway."""

    tilt: Literal["reject", "resample"] = "reject"
    """Slices stacked at an angle (a tilted gantry): rejected, or each moved within its plane, linearly between pixels,
    until they are stacked along their normal; the picture grows by what they are moved. A GantryDetectorTilt that the
    positions do not show is then taken for a mistake."""

    orientation_tolerance: Annotated[float, Field(gt=0, le=1), unit("degrees")] = 0.05
    """How far the directions of two slices may differ: at 0.05, 0.2 mm at 250 mm from the centre."""

    spacing_tolerance: Annotated[float, Field(gt=0, le=0.05), unit("fraction")] = 0.001
    """How far the in-plane spacings of two slices may differ: at 0.001, half a pixel over 512."""

    instance_uids: Literal["trust", "ignore"] = "trust"
    """ignore: of deidentified files whose SOPInstanceUID was blanked or is one for all: each is an instance of its own,
    unless pixels and place are the same."""

    issuer: bool = False
    """Whether the same PatientID of different IssuerOfPatientID is that of different patients. Left out, it is one
    patient, who stays in one split, as an issuer is often missing in some of a patient's files."""

    burned_in: Literal["reject", "keep"] = "reject"
    """DICOM pictures that may show text, a name perhaps: those whose BurnedInAnnotation is not NO, secondary captures,
    screenshots. Kept ones are counted. Of a PNG or JPEG nothing is known."""

    include: tuple[str, ...] = ()
    """Patterns as in .gitignore, on paths below data/raw/<name>: only files that fit one may become cases. `x/` is all
    below a folder x, `x/*` the files in it alone."""

    exclude: tuple[str, ...] = ()
    """Patterns of files that are left out, such as '**/*_mask.png'; they are counted as ignored."""

    split_folders: Literal["split", "classes"] = "split"
    """Folders called train, val and test, above or below the class folders: they are the split, or classes."""

    split_files: dict[Literal["train", "validation", "test"], str] = field(default_factory=dict)
    """Lists that give the split, as of a challenge: {train: train.txt, test: test.txt}, in data/raw/<name>. A line is a
    path, the name or stem of a file or folder, a group, a PatientID or SeriesInstanceUID."""

    same_group: Literal["refuse", "train"] = "refuse"
    """A group (a patient, equal pixels) on two sides of a given split: an error, or all of it goes into training."""

    aliases: dict[str, str] = field(default_factory=dict)
    """Other spellings of classes: {cracks: crack}."""

    columns: tuple[str, ...] = ()
    """Columns of labels.csv that ingest does not know, such as [sex, scanner]: cases.csv has them as labels.sex and
    labels.scanner, text as it was written. It may name somebody, so none is kept that is not named here."""

    target: TargetParams = TargetParams()

    group: str | None = None
    """Regular expression with one group, searched in a file's path below data/raw/<name>: it finds the patient."""

    max_rejected: Annotated[float, Field(ge=0, le=1), unit("fraction")] = 0.05
    """The stage fails when a larger fraction of the cases is rejected."""

    identifiers: Literal["keyed", "open"] = "keyed"
    """keyed: only who has the key can compute the names of cases and groups; open: a public key, for nobody's data."""

    pictures: bool | None = None
    """Whether figures in metrics/, which git takes along, may show cases. Left out, they may where identifiers are
    open; else such figures are written beside cases.csv, where neither git nor dvc takes them."""

    def reading(self) -> dict[str, Any]:
        """The keys, with values other than their defaults, that decide what numbers a case of given files has: who
        asks the model later has to read in the same way."""
        return {name: value for name in READING if (value := getattr(self, name)) != getattr(IngestParams, name)}

    @property
    def may_show(self) -> bool:
        """Whether a case's picture may leave the machine."""
        return self.identifiers == "open" if self.pictures is None else self.pictures

    def __post_init__(self) -> None:
        columns = tuple(name.strip().lower() for name in self.columns)  # as labels.csv's header is read
        if len(set(columns)) < len(columns) or not all(name and name.isprintable() for name in columns):
            raise ValueError(f"columns is {list(self.columns)}: expected names, each once")
        object.__setattr__(self, "columns", columns)
        for split, name in self.split_files.items():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or not path.name:
                raise ValueError(f"split_files.{split} is {name!r}: expected a path below data/raw/<name>, without ..")
            self.split_files[split] = str(path)  # without ./
        if len(set(self.split_files.values())) < len(self.split_files):
            raise ValueError("split_files names one file twice")
        if self.group is not None:
            try:
                groups = re.compile(self.group).groups
            except re.error as error:
                raise ValueError(f"group {self.group!r} is no regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"group {self.group!r} has {groups} groups, expected one: as in '^[^/]+/(p[0-9]+)_'")
