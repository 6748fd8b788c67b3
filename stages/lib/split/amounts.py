"""Says early where the cases are too few for a result to mean anything."""

import pandas as pd

FEWEST_TEST_CASES = 10  # of a class: with fewer, one case more or less moves its score by over 0.1
LARGEST_SHARE = 0.95


def warnings(cases: pd.DataFrame) -> list[str]:
    """Args:
    cases: Columns label and split.

    Returns:
        A sentence for the classes that have too few cases in validation or test, or none, and for a class that is
        nearly everything.
    """
    found = []
    classes = sorted(set(cases["label"]))
    for split in ("test", "validation"):
        counts = cases.loc[cases["split"] == split, "label"].value_counts().reindex(classes, fill_value=0)
        few = counts[counts < FEWEST_TEST_CASES]
        if counts.sum() and len(few):
            named = ", ".join(f"{label} {count}" for label, count in few.items())
            found.append(
                f"warning: fewer than {FEWEST_TEST_CASES} {split} cases: {named}: their scores can say little; "
                f"add cases, or raise split.{split}"
            )
    shares = cases["label"].value_counts(normalize=True)
    if len(shares) and shares.iloc[0] > LARGEST_SHARE:
        found.append(
            f"warning: {shares.iloc[0]:.1%} of the cases are '{shares.index[0]}': whoever always says so is right as "
            "often; look at balanced scores (AUROC, balanced accuracy), not at accuracy"
        )
    return found
