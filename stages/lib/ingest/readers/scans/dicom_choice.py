"""Which DICOM files are meant as cases: `ingest.select`, and pictures about the scans set aside before any count.

An archive holds localizers, dose pages and screenshots beside its scans, often more of them than scans.
"""

from collections.abc import Mapping, Sequence

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.contract import Inspected, IsNamed, Options, Refusal
from stages.lib.ingest.readers.scans import dicom_terms
from stages.lib.ingest.readers.scans.dicom_burned_in import CAPTURED, CAPTURES, DETAILS
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance
from stages.lib.ingest.readers.scans.dicom_tags import sop_class_name
from stages.lib.params.ingest import SelectParams

MOST_LISTED = 8  # values that a message gives


def choose(files: list[Inspected], is_named: IsNamed, options: Options) -> tuple[list[Inspected], list[Refusal]]:
    """The files that are meant, and the others, set aside.

    Localizers, and captures without a place in space, are set aside where there are other pictures: of any kind, or,
    where `ingest.burned_in: keep` asks for captures, slices of scans.

    Args:
        is_named: Whether labels.csv names a file, or its series, by itself: by path, and by the series' identifier.

    Raises:
        UserError: A key of `ingest.select` fits no file.
    """
    select = options.params.select
    taken = _selected(files, select)
    chosen = [file for file, is_taken in zip(files, taken, strict=True) if is_taken]
    lost = [file for file, is_taken in zip(files, taken, strict=True) if not is_taken]
    refused = [_aside(file, "unselected", "not one of ingest.select") for file in lost]
    given = select.given()
    reasons = {id(file): reason for file in chosen if (reason := _reason(file, given))}
    others = [file for file in chosen if id(file) not in reasons]
    if options.params.burned_in == "keep":
        slices = options.params.kind != "images" and any(Header(*f.common).is_volumetric for f in others)
        reasons = {key: reason for key, reason in reasons.items() if slices or reason == "localizer"}
    if not others or not reasons:
        return chosen, refused
    mixed = {Header(*file.common).series for file in others}
    kept = []
    for file in chosen:
        series = Header(*file.common).series
        reason = reasons.get(id(file), "")
        if not reason or is_named(file.path, "") or (series not in mixed and is_named("", series)):
            kept.append(file)
        else:
            what = "a picture that a scan was planned on" if reason == "localizer" else DETAILS[reason]
            refused.append(_aside(file, reason, what))
    return kept, refused


def _selected(files: list[Inspected], select: SelectParams) -> list[bool]:
    """Which files `ingest.select` takes. A file that lacks an element goes with its series, which would be short
    without it.

    Raises:
        UserError: A key fits no file.
    """
    taken = [True] * len(files)
    if not select or not files:
        return taken
    headers = [Header(*file.common) for file in files]
    for key, wanted in select.given().items():
        if key == "series_description":
            there, fitting = [], [header.described for header in headers]
        else:
            there = sorted({_texts(header, key)[0] or "nothing" for header in headers})
            fitting = [any(dicom_terms.fits(text, wanted) for text in _texts(header, key)) for header in headers]
        if not any(fitting):
            known = f"; there is {', '.join(there[:MOST_LISTED])}" if there else ""
            raise UserError(f"ingest.select.{key}: {', '.join(wanted)} fits none of {len(files)} DICOM files{known}")
        there_is = [bool(_texts(header, key)[0]) for header in headers] if key != "series_description" else fitting
        taken = _both(taken, _with_series(headers, fitting, there_is))
    if select.slice_thickness is not None:
        low, high = select.slice_thickness
        given = [float(header.slice_thickness) if header.slice_thickness else None for header in headers]
        if not any(mm is not None and low <= mm <= high for mm in given):
            there = sorted({f"{mm:g}" for mm in given if mm is not None}, key=float)
            known = f"; there is {', '.join(there[:MOST_LISTED])}" if there else "; none has one"
            raise UserError(f"ingest.select.slice_thickness: none of {len(files)} DICOM files is in it{known}")
        fitting = [mm is not None and low <= mm <= high for mm in given]
        taken = _both(taken, _with_series(headers, fitting, [mm is not None for mm in given]))
    if not any(taken):
        raise UserError("ingest.select: each key fits some DICOM files, but none fits all of them together")
    return taken


def _both(one: list[bool], other: list[bool]) -> list[bool]:
    return [a and b for a, b in zip(one, other, strict=True)]


def _with_series(headers: list[Header], fitting: list[bool], there_is: list[bool]) -> list[bool]:
    """What fits, and what has no value in a series of which something fits."""
    series = {header.series for header, fits in zip(headers, fitting, strict=True) if fits}
    return [
        fits or (not known and header.series in series)
        for header, fits, known in zip(headers, fitting, there_is, strict=True)
    ]


def _texts(header: Header, key: str) -> tuple[str, ...]:
    """What a pattern may fit."""
    if key == "sop_class":
        return sop_class_name(header.sop_class), header.sop_class
    return (str(getattr(header, key)),)


def _reason(file: Inspected, given: Mapping[str, Sequence[str]]) -> str:
    """Why a file is a picture about scans, "" where it is none, or asked for as such by the keys of `select`."""
    header = Header(*file.common)
    if header.localizer:
        asked_for = any("LOCALIZER" in pattern.upper() for pattern in given.get("image_type", ()))
        return "" if asked_for else "localizer"
    if header.burned_in != "secondary_capture" or any(s.position for s in Instance.from_plain(file.own).slices):
        return ""
    by_class = header.sop_class in CAPTURES and "sop_class" in given
    by_modality = header.modality in CAPTURED and "modality" in given
    return "" if by_class or by_modality else "secondary_capture"


def _aside(file: Inspected, reason: str, detail: str) -> Refusal:
    return Refusal((file.path,), reason, detail, ignored=True, series=Header(*file.common).series)
