"""What became of the files that are in no case: rejected.csv, and how many may be rejected before the stage fails."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.ingest.csv_lines import csv_line, write_lines
from stages.lib.ingest.readers.contract import Refusal

WAYS = {
    "transparent": "ingest.transparency",
    "not_finite": "ingest.nan",
    "several_frames": "ingest.frames",
    "unknown_axes": "ingest.axes",
    "voi_missing": "ingest.intensity",
    "no_hounsfield_units": "ingest.intensity",
    "too_small": "ingest.min_side",
    "too_large": "ingest.max_pixels or max_voxels",
    "uneven_gaps": "ingest.uneven",
    "tilted": "ingest.tilt",
    "mixed_orientations": "ingest.orientation_tolerance",
    "mixed_spacing": "ingest.spacing_tolerance",
    "instance_twice": "ingest.instance_uids",
    "several_at_a_place": "ingest.split_4d",
    "single_slice": "ingest.kind or frames",
    "picture_among_volumes": "ingest.kind",
    "volume_among_pictures": "ingest.kind",
    "unsupported_colours": "ingest.colour",
    "burned_in_annotation": "ingest.burned_in",
    "secondary_capture": "ingest.burned_in",
}
"""Which key of params.yaml decides on a reason: docs/data.md says how."""

COLUMNS = ("path", "outcome", "reason", "detail")


def write_rejected(rejected_csv: Path, refused: Sequence[Refusal], litter: Sequence[str]) -> None:
    """Lists every file that is in no case, with the reason.

    It names files, and so stays on this machine, where only its owner can read it.
    """
    rows = [(path, refusal.outcome, refusal.reason, refusal.detail) for refusal in refused for path in refusal.paths]
    rows += [(path, "ignored", "litter", "hidden, or left by a system") for path in litter]
    write_lines(rejected_csv, (csv_line(row) + "\n" for row in (COLUMNS, *sorted(rows))), mode=0o600)


def check_rejected(cases: int, refused: list[Refusal], limit: float, rejected_csv: str) -> None:
    """Args:
        cases: How many could be read; limit: `ingest.max_rejected`.

    Raises:
        UserError: More than that fraction of the cases was rejected, or nothing is left.
    """
    lost = lost_cases(refused)
    if cases and not too_many(cases, lost, limit):
        return
    reasons = Counter(refusal.reason for refusal in lost)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "no file is a picture"
    what = f"{len(lost)} of {cases + len(lost)} cases were rejected ({summary})"
    wayout = way_out(lost)
    if cases:
        raise UserError(f"{what}: {rejected_csv} names them; {wayout}, or raise ingest.max_rejected ({limit:g})")
    raise UserError(f"no case could be read: {what}: {rejected_csv} names the files; {wayout}")


def too_many(cases: int, lost: Sequence[Refusal], limit: float) -> bool:
    """Whether more than this fraction of the cases was rejected."""
    return len(lost) > limit * (cases + len(lost))


def way_out(lost: Sequence[Refusal]) -> str:
    """What can be done about rejected cases, with each key of `ingest` that decides on one of the reasons."""
    keys = dict.fromkeys(WAYS[refusal.reason] for refusal in lost if refusal.reason in WAYS)
    return f"mend them{''.join(f', set {key}' for key in keys)}, leave out what are no cases (ingest.exclude)"


def lost_cases(refused: Sequence[Refusal]) -> list[Refusal]:
    """What was rejected, a series once: its unreadable files, which were rejected before it, are not counted again."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    series = {refusal.series for refusal in rejected if refusal.reason == "unreadable_slice"}
    return [r for r in rejected if r.reason == "unreadable_slice" or not r.series or r.series not in series]
