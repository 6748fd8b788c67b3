"""Gathers the trainings of a study: what they say of cases that they were not trained on, their spread, and their mean.

    python -m stages.study mine

predictions.csv has every case outside of the test split once, by the trainings that held it out (`fold0` as its split),
and the test split by the mean of all trainings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib import command, tensors
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.model import checkpoint
from stages.lib.params.study import StudyParams
from stages.lib.params.validate import ValidateParams
from stages.lib.studies import pool
from stages.lib.studies.folds import NEVER
from stages.lib.tensors import Split
from stages.lib.validate import evaluation, predictions
from stages.lib.validate import members as gathered
from stages.lib.validate.answers import ask
from stages.lib.validate.kinds.kind import Kind

OUT_OF_FOLD = "out_of_fold"


def main(
    dataset_h5: Path,
    folds_csv: Path,
    members: Path,
    study_json: Path,
    scores_csv: Path,
    predictions_csv: Path,
    members_csv: Path,
    params: ValidateParams,
    study: StudyParams,
    network: Mapping[str, Any] = checkpoint.NO_NETWORK,
) -> None:
    """Args: members: The folder that has a folder for each training, by its name."""
    check_folders(members, study)
    cases = pool.read(dataset_h5, folds_csv)
    fold_of = cases.folds.fold_of[cases.folds.fold_of != NEVER]
    there, wanted = (", ".join(map(str, sorted(of))) or "none"
                     for of in (set(fold_of.tolist()), {member.fold for member in study.members()}))  # fmt: skip
    if there != wanted:
        raise DamagedOut(f"its folds are {there}, and those of the study {wanted}", folds_csv)
    held, test = cases.chosen(cases.folds.fold_of != NEVER), tensors.read_split(dataset_h5, "test")
    about = tensors.read_description(dataset_h5)
    evaluation.check_flips(params, held)
    flips = "".join(params.flips)
    asked = []
    for member in study.members():
        classifier, *_ = checkpoint.load_for(dataset_h5, members / member.name / "model.pt", network)
        own = cases.held(member.fold)
        answers = [ask(classifier, of, flips, params.batch_size, f"{member.name}, {what}", about.asked)
                   for of, what in ((own, "its fold"), (test, "test"))]  # fmt: skip
        asked.append(gathered.Asked(member, own, *answers))

    kind_of, kind = gathered.fitted(asked, params)
    of_folds = kind.by_case([kind_of[fold] for fold in fold_of])
    judged = ((OUT_OF_FOLD, of_folds, held, gathered.out_of_fold(asked, kind_of)),
              ("test", kind, test, gathered.ensemble(asked, kind)))  # fmt: skip
    table = pd.concat(
        [evaluation.score_table(by, {name: split}, {name: said}, params) for name, by, split, said in judged],
        ignore_index=True,
    )
    each = gathered.table(asked, kind_of, kind, test)
    outs.write_csv(members_csv, each)
    rows = [evaluation.prediction_table(name, by, split, said) for name, by, split, said in judged]
    rows[0].isetitem(predictions.COLUMNS.index("split"), [f"fold{fold}" for fold in fold_of])
    outs.write_csv(predictions_csv, pd.concat(rows, ignore_index=True))

    about_best, of_best = judge_alone(gathered.best(asked, kind_of), test, params)
    outs.write_csv(scores_csv, pd.concat([table, of_best], ignore_index=True))
    by_fold = gathered.over_folds(kind_of, held, fold_of, judged[0][-1]) if study.folds else []
    by_seed = gathered.over_seeds(of_folds, asked, kind_of, held)
    report: dict[str, Any] = {
        "trainings": len(asked),
        "folds": study.folds,
        "cases": {OUT_OF_FOLD: len(held.y), "test": len(test.y)},
        **evaluation.of_split(table, OUT_OF_FOLD),
        "over_folds": gathered.spread(by_fold) if by_fold else {},
        "over_seeds": gathered.spread(by_seed) if by_seed else {},
        **evaluation.of_split(table, "test"),
        "test_over_trainings": gathered.spread(_on_test(each)),
        "deployed": kind.settings.plain(),
        "best": about_best,
        **evaluation.asked_of(about.target, about.classes, test.weight is not None),
    }
    outs.write_json(study_json, report)
    say(sentence(kind, report))


def judge_alone(best: gathered.Asked, test: Split, params: ValidateParams) -> tuple[dict[str, Any], pd.DataFrame]:
    """What the training that is best would be deployed with, and its scores: those of its fold as its validation split,
    as it alone would have no other; and the rows of scores.csv, of which the test split's are called `best`.
    """
    kind = gathered.fitted_on([best], params)
    splits = {"validation": best.held, "best": test}
    found = {"validation": best.answers.deployed(kind.settings), "best": best.test.deployed(kind.settings)}
    table = evaluation.score_table(kind, splits, found, params)
    on_test = evaluation.of_split(table, "best")
    about = {
        "member": best.member.name,
        "validation": evaluation.of_split(table, "validation")["validation"],
        "test": on_test["best"],
        "test_interval": on_test["best_interval"],
        "deployed": kind.settings.plain(),
    }
    return about, table[table["split"] == "best"]


def check_folders(members: Path, study: StudyParams) -> None:
    """Raises:
    UserError: A folder is of no training of the study; dvc takes all of them for what this stage reads.
    """
    names = {member.name for member in study.members()}
    for folder in sorted(members.iterdir()) if members.is_dir() else ():
        if folder.name not in names:
            remedy = "`python -m tools.studies` removes it" if folder.is_dir() else "remove it"
            raise UserError(f"{folder} is of no training that the study asks for: {remedy}")


def _on_test(each: pd.DataFrame) -> list[dict[str, float]]:
    columns = [name for name in each if str(name).startswith("test_")]
    renamed = each[columns].rename(columns=lambda name: str(name).removeprefix("test_"))
    return [{str(name): float(np.float64(value)) for name, value in row.items()} for row in renamed.to_dict("records")]


def sentence(kind: Kind, report: Mapping[str, Any]) -> str:
    """The main score of all cases that were held out, with its spread, and of the ensemble on the test split."""
    cases = report["cases"]
    text = f"{kind.told(report[OUT_OF_FOLD][kind.main])} of {cases[OUT_OF_FOLD]} cases that were held out"
    for key, what in (("over_folds", "folds"), ("over_seeds", "seeds")):
        text += _range(kind, report[key], f"over the {what}")
    if not cases["test"]:
        return text
    of_all = kind.figure(report["test"][kind.main])
    single = _range(kind, report["test_over_trainings"], "of one training")
    return f"{text}; on {cases['test']} test cases {of_all} of the ensemble of {report['trainings']}{single}"


def _range(kind: Kind, spread: Mapping[str, Any], what: str) -> str:
    of = spread.get(kind.main)
    return f", {kind.figure(of['lowest'])} to {kind.figure(of['highest'])} {what}" if of else ""


if __name__ == "__main__":
    command.run(main, pin)
