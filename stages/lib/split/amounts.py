"""Says early where the cases are too few for a result to mean anything."""

from stages.lib.splits import SPLITS, Table

FEWEST_TEST_CASES = 10  # of a class: with fewer, one case more or less moves its score by over 0.1
LARGEST_SHARE = 0.95


def warnings(cases: Table) -> list[str]:
    """A sentence for the classes that have too few cases in validation or test, or none, and for a class that is
    nearly everything.
    """
    found = []
    numbers = cases.numbers()
    for split in ("test", "validation"):
        counts = numbers[:, SPLITS.index(split)]
        few = [i for i, count in enumerate(counts) if count < FEWEST_TEST_CASES]
        if counts.any() and few:
            named = ", ".join(f"{cases.classes[i]} {counts[i]}" for i in few)
            found.append(
                f"warning: fewer than {FEWEST_TEST_CASES} {split} cases: {named}: their scores can say little; "
                f"add cases, or raise split.{split}"
            )
    shares = numbers.sum(axis=1) / max(1, len(cases))
    if len(shares) and shares.max() > LARGEST_SHARE:
        found.append(
            f"warning: {shares.max():.1%} of the cases are '{cases.classes[int(shares.argmax())]}': whoever always "
            "says so is right as often; look at balanced scores (AUROC, balanced accuracy), not at accuracy"
        )
    return found
