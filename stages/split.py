"""cases.csv -> split.csv: every case in train, validation or test, grouped, stratified and seeded.

python -m stages.split digits
"""

from pathlib import Path

import pandas as pd

from stages.lib import command, splits
from stages.lib.core import outs
from stages.lib.params.split import SplitParams
from stages.lib.split import dealing


def main(cases_csv: Path, split_csv: Path, params: SplitParams) -> None:
    cases = pd.read_csv(cases_csv, dtype=str, keep_default_na=False, usecols=["case", "group", "label"])
    train = 1 - params.validation - params.test
    fractions = {"train": train, "validation": params.validation, "test": params.test}
    cases["split"] = dealing.assign(cases, fractions, params.seed)
    splits.assert_no_leakage(cases)
    outs.write_csv(split_csv, cases[list(splits.COLUMNS)])
    print(pd.crosstab(cases["label"], cases["split"])[[s for s in fractions if fractions[s]]].to_string())


if __name__ == "__main__":
    command.run(main)
