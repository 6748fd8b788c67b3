"""The split that raw data bring: a group of it stays on one side."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.ingest.case_table import CaseTable

NAMED = 5  # how many examples a message gives


def settle(cases: CaseTable, splits: Sequence[str], groups: np.ndarray, same_group: str) -> list[str]:
    """The split of each case, "" where it is to be dealt; cases without one follow their group. Prints the numbers.

    Args:
        splits: (N,) of each case, as folders or labels.csv give it.
        groups: (N,) of each case.
        same_group: `ingest.same_group`.

    Raises:
        UserError: A group is on two sides, and `same_group` is refuse; the message lists the files.
    """
    if not any(splits):
        return []
    sides: dict[int, set[str]] = defaultdict(set)
    for group, split in zip(groups.tolist(), splits, strict=True):
        if split:
            sides[group].add(split)
    both = {group for group, found in sides.items() if len(found) > 1}
    if both and same_group == "refuse":
        raise UserError(_listed(cases, splits, groups, both))
    of_group = {group: "train" if group in both else next(iter(found)) for group, found in sides.items()}
    settled = [of_group.get(group, "") for group in groups.tolist()]
    _print_numbers(splits, settled, len(both))
    return settled


def _listed(cases: CaseTable, splits: Sequence[str], groups: np.ndarray, both: set[int]) -> str:
    files: dict[int, dict[str, str]] = {group: {} for group in both}
    for i, (group, split) in enumerate(zip(groups.tolist(), splits, strict=True)):
        if group in both and split:
            files[group].setdefault(split, cases.path(i))
    pairs = sorted(" and ".join(f"{path} ({split})" for split, path in found.items()) for found in files.values())
    more = f"\n  ... and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return (
        f"{len(pairs)} group(s) (a patient, or cases with equal pixels) are on two sides of the given split: mend the "
        "split, or let ingest.same_group: train put them into training\n  " + "\n  ".join(pairs[:NAMED]) + more
    )


def _print_numbers(given: Sequence[str], settled: Sequence[str], both: int) -> None:
    numbers = Counter(settled)
    listed = ", ".join(f"{numbers[split]} {split}" for split in ("train", "validation", "test") if numbers[split])
    rest = f", {numbers['']} to be dealt" if numbers[""] else ""
    moved = sum(bool(one) and one != other for one, other in zip(given, settled, strict=True))
    said = f"; {moved} case(s) of {both} group(s) on two sides went into training" if both else ""
    say(f"split as the raw data have it: {listed}{rest}{said}")
