"""split.csv -> folds.csv: in which fold each case outside of the test split is held out.

    python -m stages.folds mine

A study that has no folds, but seeds alone, holds out the validation split, as its fold 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import command, splits
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.params.split import SplitParams
from stages.lib.params.study import StudyParams
from stages.lib.split import folding, sites, strata
from stages.lib.splits import SPLITS
from stages.lib.studies.folds import NEVER, Folds


def main(cases_csv: Path, split_csv: Path, folds_csv: Path, params: SplitParams, study: StudyParams) -> None:
    table = splits.read(split_csv)
    is_free = table.split_of != SPLITS.index("test")
    free = table.select(is_free)
    cases = strata.stratified(free, 1 / study.folds if study.folds else 0.0)
    if study.folds is None:
        fold_of = np.where(cases.split_of == SPLITS.index("validation"), 0, NEVER).astype(np.int32)
        if (fold_of == NEVER).all():
            raise UserError(
                f"{split_csv} has no validation case, on which trainings of several seeds are compared: raise "
                "split.validation, or give study.folds"
            )
    elif (of := _sites(cases_csv, params, is_free)) is not None:
        fold_of = folding.by_site(cases, of, study.folds)
    else:
        fold_of = folding.deal(cases, study.folds, params.seed)
    folding.check_trainings(cases, fold_of, study.folds or 0)
    outs.write_csv(folds_csv, Folds(cases.case, fold_of).blocks())
    counted = strata.tally(free, fold_of, pd.Index(range(study.folds or 1), name="fold"))
    say(counted.to_string())
    sizes = np.bincount(fold_of[fold_of >= 0], minlength=len(counted.columns))
    for warning in [*folding.warnings(counted, sizes), *folding.untaught(cases, fold_of, study.folds or 0)]:
        say(warning)


def _sites(cases_csv: Path, params: SplitParams, is_free: np.ndarray) -> sites.Sites | None:
    """Those of `split.by`; None where folds are of groups. One site can't be left out of itself: where all others are
    the test split, the question is how well a model of this one does there, and its folds are of groups.
    """
    if params.by is None:
        return None
    of = sites.read(cases_csv, params.by, params.test_sites).select(is_free)
    if len(present := of.positions(np.ones(len(of.site_of), bool))) != 1:
        return of
    say(f"folds are of groups: outside of the test split all cases are of {of.column} {of.listed(present)}")
    return None


if __name__ == "__main__":
    command.run(main)
