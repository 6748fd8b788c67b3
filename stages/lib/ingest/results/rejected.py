"""What became of the files that are in no case: rejected.csv, and how many may be rejected before the stage fails."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.ingest.csv_lines import csv_line, write_lines
from stages.lib.ingest.readers.contract import Refusal

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
    lost = _lost_cases(refused)
    if cases and len(lost) <= limit * (cases + len(lost)):
        return
    reasons = Counter(refusal.reason for refusal in refused if not refusal.ignored)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "no file is a picture"
    what = f"{len(lost)} of {cases + len(lost)} cases were rejected ({summary})"
    wayout = (
        f'{rejected_csv} names them; mend them, leave out what are no cases (ingest.exclude: ["*.xml"]), or raise '
        f"ingest.max_rejected ({limit:g})"
    )
    raise UserError(f"{what}: {wayout}" if cases else f"no case could be read: {what}: {rejected_csv} names the files")


def _lost_cases(refused: list[Refusal]) -> list[Refusal]:
    """What was rejected, a series once: its unreadable files, which were rejected before it, are not counted again."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    series = {refusal.series for refusal in rejected if refusal.reason == "unreadable_slice"}
    return [r for r in rejected if r.reason == "unreadable_slice" or not r.series or r.series not in series]
