"""A split that the raw data bring: kept as it is; what it leaves open is dealt."""

import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.split import dealing


def complete(cases: pd.DataFrame, fractions: dict[str, float], seed: int) -> pd.Series:
    """The given split of each case, and a dealt one where none is given. Prints what was dealt.

    Cases without a split are dealt by the fractions. If all have one, and none is in validation (or test), that split
    is dealt out of the training cases, unless its fraction is 0.

    Args:
        cases: Columns case, group, label, split ("" where it is to be dealt); a group has one split, or none.
        fractions: Of the cases to deal, by split.

    Returns:
        The split of each case, indexed as `cases`.

    Raises:
        UserError: The cases to deal are too few, or a class has none to train on.
    """
    split = cases["split"].copy()
    if open_ones := int((split == "").sum()):
        split[split == ""] = dealing.assign(cases[split == ""], fractions, seed)
        say(f"{open_ones} cases without a given split are dealt")
    elif missing := [name for name in ("validation", "test") if fractions[name] > 0 and name not in set(split)]:
        shares = {name: fractions[name] if name in missing else 0.0 for name in ("validation", "test")}
        train = split == "train"
        split[train] = dealing.assign(cases[train], {"train": 1 - sum(shares.values()), **shares}, seed)
        for name in missing:
            say(f"the given split has no {name} cases: {(split == name).sum()} of its training cases are dealt to it")
    if lost := sorted(set(cases["label"]) - set(cases["label"][split == "train"])):
        raise UserError(
            f"class '{lost[0]}' has no case in the training split that the raw data give: move some there, or leave "
            "the class out (ingest.exclude)"
        )
    return split
