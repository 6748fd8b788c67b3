"""Says early where the cases are too few for a result to mean anything, and where groups are too large to be dealt."""

from collections.abc import Mapping

import numpy as np

from stages.lib.split import strata
from stages.lib.splits import SPLITS, Table

FEWEST_TEST_CASES = 10  # of a class: with fewer, one case more or less moves its score by over 0.1
LARGEST_SHARE = 0.95
MOST_OFF = 0.05  # how far a class's share of a split may be from what was asked for
NAMED = 5  # how many classes a message gives


def warnings(cases: Table, test_is_dealt: bool = True) -> list[str]:
    """A sentence for the classes that have too few cases in validation or test, or none, and for a class that is
    nearly everything.

    Args:
        test_is_dealt: Whether `split.test` decides how many test cases there are.
    """
    found = []
    numbers = cases.numbers()
    is_multilabel = cases.target is not None and cases.target.kind == "multilabel"  # each label is counted apart
    for split in ("test", "validation"):
        counts = numbers[:, SPLITS.index(split)]
        few = [i for i, count in enumerate(counts) if count < FEWEST_TEST_CASES and not is_multilabel]
        if counts.any() and few:
            named = ", ".join(f"{cases.classes[i]} {counts[i]}" for i in few)
            more = f", or raise split.{split}" if split != "test" or test_is_dealt else ""
            found.append(
                f"warning: fewer than {FEWEST_TEST_CASES} {split} cases: {named}: their scores can say little; "
                f"add cases{more}"
            )
    if too_few := strata.few(cases, FEWEST_TEST_CASES):
        found.append(
            f"warning: fewer than {FEWEST_TEST_CASES} cases: {', '.join(too_few[:NAMED])}: their scores can say "
            "little; add cases"
        )
    if cases.target is not None and not cases.target.of_one_class:
        return found
    shares = numbers.sum(axis=1) / max(1, len(cases))
    if len(shares) and shares.max() > LARGEST_SHARE:
        found.append(
            f"warning: {shares.max():.1%} of the cases are '{cases.classes[int(shares.argmax())]}': whoever always "
            "says so is right as often; look at balanced scores (AUROC, balanced accuracy), not at accuracy"
        )
    return found


def unmet(cases: Table, fractions: Mapping[str, float]) -> list[str]:
    """A sentence on the classes, or labels, whose groups are too large, or too few, for the shares that were asked for.

    Args:
        cases: Those that were dealt, with the splits that they were dealt to.
        fractions: Of the cases, by split.
    """
    if cases.is_ungrouped():
        return []
    names, rows, kind = strata.named(cases)
    numbers = np.bincount(kind * len(SPLITS) + cases.split_of[rows], minlength=len(names) * len(SPLITS))
    numbers = numbers.reshape(-1, len(SPLITS))
    totals = numbers.sum(axis=1)
    groups = np.unique(cases.group, return_inverse=True)[1][rows]
    pairs, sizes = np.unique(groups * len(names) + kind, return_counts=True)
    largest = np.zeros(len(names), np.int64)
    np.maximum.at(largest, pairs % len(names), sizes)
    wanted = np.array([fractions[name] for name in SPLITS])
    off = np.abs(numbers / totals.clip(1)[:, None] - wanted)[:, 1:].max(axis=1)
    wrong = [int(label) for label in np.argsort(-off, kind="stable") if off[label] > MOST_OFF and largest[label] > 1]
    if not wrong:
        return []
    listed = "; ".join(
        f"{names[i]}: {' and '.join(f'{numbers[i, k]} {SPLITS[k]}' for k in (1, 2) if wanted[k])}"
        f" of {totals[i]}, the largest group has {largest[i]}"
        for i in wrong[:NAMED]
    )
    more = f" and {len(wrong) - NAMED} more classes" if len(wrong) > NAMED else ""
    asked = " and ".join(f"{fractions[name]:.0%} {name}" for name in SPLITS[1:] if fractions[name])
    return [
        f"warning: {asked} were asked for, and groups stay whole: {listed}{more}; add groups, or, if they are not the "
        "true ones, say which files belong together (labels.csv's column group, ingest.group)"
    ]
