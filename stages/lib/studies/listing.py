"""studies.yaml: what dvc.yaml makes stages of for the sections `study` of params.yaml, as dvc can't count to N there.

    members:
      mine-fold0: {dataset: mine, name: fold0, fold: 0}

It follows from params.yaml alone. `python -m tools.studies` writes it, git keeps it, and stages.check compares it.
"""

from pathlib import Path
from typing import Any

from stages.lib import command, params
from stages.lib.command import LISTS, Lists
from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint


def listed(given: params.Params) -> Lists:
    """The lists that follow from params.yaml: by name of a stage's entry, what dvc.yaml needs of it.

    Raises:
        UserError: A study names a dataset that is none, or two entries would have one name.
    """
    lists: Lists = {name: {} for name in LISTS}
    for dataset, block in given.datasets.items():
        study = block.get("study", params.StudyParams())
        members = study.members()
        if members:
            folds = {"folds": study.folds} if study.folds else {}
            seeds = {"seeds": list(study.seeds)} if study.seeds else {}
            _add(lists["studies"], dataset, {"dataset": dataset} | folds | seeds)
        for member in members:
            seed = {} if member.seed is None else {"seed": member.seed}
            entry = {"dataset": dataset, "name": member.name, "fold": member.fold, **seed}
            _add(lists["members"], f"{dataset}-{member.name}", entry)
        if study.export:
            _add(lists["exports"], dataset, {"dataset": dataset, "model": study.export})
        for other, external in study.external.items():
            if other not in given.datasets or other == dataset:
                others = [name for name in given.datasets if name != dataset]
                raise UserError(
                    f"{given.path}: datasets.{dataset}.study.external names '{other}', and there is no other dataset "
                    f"that is called so: {hint(other, others) or 'none is there'}"
                )
            model = f"{dataset}/study" if study.export else dataset
            entry = {"dataset": dataset, "other": other, "model": model}
            entry |= {"classes": dict(external.classes), "lacks": list(external.lacks)}
            entry |= {"trained_on": external.trained_on}
            _add(lists["externals"], f"{dataset}-{other}", entry)
    return lists


def _add(entries: dict[str, dict[str, Any]], name: str, entry: dict[str, Any]) -> None:
    if name in entries:
        pair = f"{entries[name]['dataset']} and {entry['dataset']}"
        raise UserError(f"the studies of {pair} would both have a stage {name}: give one dataset another name")
    entries[name] = entry


def check(given: params.Params, dvc_yaml: Path) -> None:
    """Raises:
    UserError: The lists are not those of params.yaml.
    """
    wanted, path = listed(given), command.studies_yaml(dvc_yaml)
    if path is None or command.read_lists(path) == wanted:
        return
    raise UserError(f"{path} is not what the sections `study` of {given.path} ask for: run `python -m tools.studies`")
