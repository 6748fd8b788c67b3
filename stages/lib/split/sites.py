"""Whole sites for the test: `split.by` names a column of hospitals, scanners or years; none of them is on two sides."""

import unicodedata
from collections import defaultdict
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from stages.lib import splits
from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.split import dealing
from stages.lib.splits import NAME, SPLITS, Table

TEST = SPLITS.index("test")
NAMED = 5  # how many sites a message gives


@dataclass(frozen=True)
class Sites:
    """The site of each of N cases."""

    column: str  # of labels.csv
    names: list[str]  # sorted; each occurs
    site_of: np.ndarray  # (N,) index into the names
    wanted: tuple[str, ...] = ()  # those that the test split is to be; empty: they are dealt

    def positions(self, which: np.ndarray) -> set[int]:
        """The sites of some of the cases, (N,) bool."""
        return set(np.unique(self.site_of[which]).tolist())

    def select(self, which: np.ndarray) -> "Sites":
        """The sites of some of the cases, (N,) bool."""
        return replace(self, site_of=self.site_of[which])

    def listed(self, positions: set[int]) -> str:
        """Some of these sites by name, and how many there are beside."""
        more = f" and {len(positions) - NAMED} more" if len(positions) > NAMED else ""
        return ", ".join(f"'{shown(self.names[i])}'" for i in sorted(positions)[:NAMED]) + more


def read(cases_csv: Path, column: str, wanted: tuple[str, ...]) -> Sites:
    """The sites of the cases.

    Raises:
        DamagedOut: cases.csv is missing, or is none that ingest could have written.
        UserError: cases.csv lacks the column, cases have no site, or there is none of a wanted name.
    """
    cells = splits.read_kept(cases_csv, column)
    if cells is None:
        raise UserError(
            f"split.by is {shown(column)}, and {cases_csv} has no column {splits.KEPT}{shown(column)}: "
            f"ingest.columns: [{shown(column)}] keeps that of labels.csv"
        )
    if blank := int((cells == "").sum()):
        raise UserError(
            f"split.by: {blank} of {len(cells)} cases have no {column} in labels.csv: fill it in, or leave them out "
            "(ingest.exclude)"
        )
    found, site_of = np.unique(cells, return_inverse=True)
    names = found.tolist()
    for name in wanted:
        if name not in names:
            raise UserError(f"split.test_sites names '{shown(name)}': {shown(hint(name, names))}")
    for warning in _look_alike(names):
        say(warning)
    return Sites(column, names, site_of, wanted)


def _look_alike(names: list[str]) -> list[str]:
    """A sentence on sites that differ in nothing but capitals, blanks and marks: one that is spelt in two ways would be
    left out in part.
    """
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in names:
        plain = "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())
        spelt[plain or name].append(name)
    several = [" and ".join(f"'{shown(name)}'" for name in alike) for alike in spelt.values() if len(alike) > 1]
    if not several:
        return []
    more = f", and {len(several) - NAMED} more" if len(several) > NAMED else ""
    return [
        f"warning: split.by: {', '.join(several[:NAMED])}{more} are different values, and may mean one: if they do, "
        "spell them alike in labels.csv"
    ]


def left_out(cases: Table, sites: Sites, is_free: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The cases of the sites that the test split is: those that are wanted, or those of the cases that are in it
    already, or else dealt ones. Says which.

    Args:
        cases: With the splits that they have so far.
        is_free: (N,) bool: those that may be put into test. The others stay where they are.
        fraction: Of the cases, for sites that are dealt; 0: none.

    Returns:
        (N,) bool.

    Raises:
        UserError: A group is of two sites, or a site is on two sides.
    """
    check_groups(cases, sites)
    is_test = ~is_free & (cases.split_of == TEST)
    tested, others = sites.positions(is_test), sites.positions(~is_free & ~is_test)
    chosen = {sites.names.index(name) for name in sites.wanted}
    if chosen and tested - chosen:
        raise UserError(
            f"split.test_sites does not name {sites.listed(tested - chosen)}, of which cases are in the test split "
            "already (as given, or frozen): name them, too, or take those cases out of it"
        )
    chosen |= tested
    if both := chosen & others:
        raise UserError(
            f"split.by: {sites.column} leaves whole ones out, and the given split has {sites.listed(both)} in test and "
            "elsewhere: mend the given split, or leave out split.by"
        )
    if not chosen and fraction:
        chosen = _dealt(cases, sites, others, fraction, seed)
    found = np.isin(sites.site_of, sorted(chosen))
    if found.all():
        raise UserError(f"split.by: the test split would be every {sites.column}, and nothing is left to train on")
    if chosen:
        say(
            f"the test split is whole: {sites.column} {sites.listed(chosen)}, {found.sum()} of {len(cases)} cases "
            f"({found.mean():.1%})"
        )
    return found


def _dealt(cases: Table, sites: Sites, others: set[int], fraction: float, seed: int) -> set[int]:
    """By a hash of seed and name, as groups are; those that have cases elsewhere are none of them."""
    free = sorted(set(range(len(sites.names))) - others)
    if len(free) < (1 if others else 2):
        raise UserError(
            f"split.by: {sites.column} has {len(sites.names)} value(s), {len(free)} of them free to be left out: the "
            "test split needs a whole one, and training another"
        )
    if len(free) == 1:
        return set(free)
    hashed = np.array([sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16] for name in sites.names], NAME)
    rows = np.isin(sites.site_of, free)
    by_site = replace(cases, group=hashed[sites.site_of]).select(rows)
    return set(np.unique(sites.site_of[rows][dealing.choose(by_site, fraction, seed)]).tolist())


def check_groups(cases: Table, sites: Sites) -> None:
    """Raises:
    UserError: A group has cases of two sites, so that one of them can't be left out.
    """
    if cases.is_ungrouped():
        return
    groups, group_of = np.unique(cases.group, return_inverse=True)
    pairs = np.unique(group_of * len(sites.names) + sites.site_of)
    of_group, of_site = np.divmod(pairs, len(sites.names))
    several = np.flatnonzero(np.bincount(of_group) > 1)
    if len(several):
        one = set(of_site[of_group == several[0]].tolist())
        example = cases.case[group_of == several[0]][0].decode()
        raise UserError(
            f"split.by: {len(several)} group(s) (a patient, or cases with equal pixels) are of two or more: case "
            f"{example} (`python -m tools.which {example}`) is in one of {sites.column} {sites.listed(one)}: give all "
            "cases of a group one of them, or leave some out"
        )
