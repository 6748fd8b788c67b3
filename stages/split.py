"""cases.csv -> split.csv: every case in train, validation or test, grouped, stratified and seeded.

python -m stages.split digits
"""

from pathlib import Path

from stages.lib import command, splits
from stages.lib.core import outs
from stages.lib.core.progress import say
from stages.lib.params.split import SplitParams
from stages.lib.split import amounts, freezing, given, sites, strata


def main(cases_csv: Path, split_csv: Path, params: SplitParams, frozen: Path = Path("frozen")) -> None:
    cases = deal(cases_csv, params, frozen)
    outs.write_csv(split_csv, cases.blocks())
    table = strata.tally(cases)
    say(table.loc[:, table.any()].to_string())
    for warning in amounts.warnings(cases, not (params.freeze or params.test_sites)):
        say(warning)


def deal(cases_csv: Path, params: SplitParams, frozen: Path) -> splits.Table:
    """The cases with their splits.

    Args:
        frozen: The folder of the lists that `split.freeze` names.
    """
    cases = splits.read_cases(cases_csv)
    train = 1 - params.validation - params.test
    fractions = {"train": train, "validation": params.validation, "test": params.test}
    of = sites.read(cases_csv, params.by, params.test_sites) if params.by else None
    held = freezing.held(cases, freezing.read(frozen / params.freeze)) if params.freeze else None
    cases = cases.with_splits(given.complete(cases, fractions, params.seed, of, held))
    splits.assert_no_leakage(cases)
    return cases


if __name__ == "__main__":
    command.run(main)
