"""params.yaml: `datasets.<name>.<stage>`, `machine` and `report`, all checked before any work starts."""

import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.lib.core import yaml_files
from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint
from stages.lib.core.progress import say
from stages.lib.core.sections import check as check
from stages.lib.core.sections import checked, unknown
from stages.lib.core.terminal import shown
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.export import ExportParams
from stages.lib.params.ingest import IngestParams
from stages.lib.params.machine import MachineParams
from stages.lib.params.report import ReportParams
from stages.lib.params.sample import SampleParams
from stages.lib.params.split import SplitParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.params.study import StudyParams
from stages.lib.params.train import TrainParams
from stages.lib.params.validate import ValidateParams

SECTIONS: dict[str, Any] = {  # in the order in which the stages run
    "sample": SampleParams,  # demo datasets only
    "ingest": IngestParams,
    "split": SplitParams,
    "statistics": StatisticsParams,
    "dataset": DatasetParams,
    "train": TrainParams,
    "validate": ValidateParams,
    "export": ExportParams,
}

BLOCK: dict[str, Any] = SECTIONS | {"study": StudyParams}
"""All sections of a dataset's block."""

MAY_BE_LEFT_OUT = ("sample", "study")

STUDY_STAGES = {
    "folds": "split",
    "member": "train",
    "study": "validate",
    "export_study": "export",
    "external": "validate",
}
"""The stages that only the section `study` asks for, and whose section each has as its `params`."""

TOP_LEVEL: dict[str, Any] = {"machine": MachineParams, "report": ReportParams}

MOVED = {
    "ingest.workers": "machine.workers",
    "dataset.threads": "machine.workers",
    "train.checkpoint_minutes": "machine.checkpoint_minutes",
}
"""Keys that changed no byte of an out, and so left the sections that dvc looks at."""

ELSEWHERE = {
    "split.folds": "study.folds",
    "train.seeds": "study.seeds",
    "validate.external": "study.external",
    "export.model": "study.export",
}
"""Keys that one may look for in the section of a stage, which they would make stale for nothing."""

OPERATING = (("ingest", "target"), ("validate", "operating_point"))

DATASET_NAME = r"^(?!raw$)[a-z0-9][a-z0-9_-]{0,63}$"
"""Folders, stages and arguments of shell commands are called like a dataset; data/raw holds the raw files of all.

One case only: macOS and Windows take `Mine` and `mine` for one folder.
"""
NAME_RULE = (
    "a dataset's name is of lower-case letters, digits, _ and -, begins with a letter or a digit, has at most 64 "
    "characters, and is not raw"
)


@dataclass(frozen=True)
class Params:
    """A whole params.yaml, checked: `datasets[name][stage]` is that stage's section."""

    path: Path
    datasets: dict[str, dict[str, Any]]
    machine: MachineParams
    report: ReportParams

    def section(self, dataset: str, stage: str) -> Any:
        """One stage's section.

        Raises:
            UserError: There is no such dataset, or it has no such section.
        """
        if dataset not in self.datasets:
            near = hint(dataset, self.datasets, cutoff=0.5)
            raise UserError(f"{self.path}: there is no datasets.{dataset}{': ' if near else ''}{near}")
        if stage not in self.datasets[dataset] and stage == "study":
            return StudyParams()
        if stage not in self.datasets[dataset]:
            raise UserError(f"{self.path}: datasets.{dataset} has no section '{stage}': add `{stage}: {{}}`")
        return self.datasets[dataset][stage]


def load(path: Path, only: str = "") -> Params:
    """Reads and checks every section of every dataset.

    Args:
        only: The dataset that is wanted: what is wrong with the block of another one is a warning, and that one is
            left out. Empty: all are.

    Raises:
        UserError: The file is missing or no YAML, or keys are unknown, of a wrong type or out of range; the message
            lists all of them, each as the user typed it.
    """
    tree = _read(path)
    known = ("datasets", *TOP_LEVEL)
    wrong = [unknown(str(key), str(key), known) for key in tree if key not in known]
    top = {}
    for key, section in TOP_LEVEL.items():
        top[key], found = checked(section, tree.get(key), key)
        wrong += found
    datasets: dict[str, dict[str, Any]] = {}
    for name, block in tree["datasets"].items():
        if trouble := name_trouble(name):
            wrong.append(f"datasets.{_spelt(name)}: {trouble}")
            continue
        sections, found = _check_block(f"datasets.{name}", block)
        if found and only in tree["datasets"] and name != only:
            say("\n".join(f"warning: {path}: {line}" for line in found), sys.stderr)
        else:
            datasets[name] = sections
            wrong += found
    if wrong:
        raise UserError("\n".join(f"{path}: {line}" for line in wrong))
    return Params(path, datasets, **top)


def name_trouble(name: object) -> str:
    """Why no dataset can be called so, with a name that it can have; empty if it can."""
    if isinstance(name, str) and re.fullmatch(DATASET_NAME, name):
        return ""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    other = re.sub("[^a-z0-9_-]+", "-", plain)[:64].strip("-_")
    can_be = other if re.fullmatch(DATASET_NAME, other) else ""
    if not isinstance(name, str):  # dvc makes no stage of such a key, without a word
        return "YAML takes this name for no text: put it into quotes" + (f', "{can_be}"' if can_be else "")
    return NAME_RULE + (f": call it {can_be}, and its folder in data/raw likewise" if can_be else "")


def check_names(names: Iterable[object], where: str) -> None:
    """Checks names of datasets that come from elsewhere than `load`.

    Raises:
        UserError: No dataset can be called so.
    """
    if wrong := [f"{where}: {_spelt(name)}: {trouble}" for name in names if (trouble := name_trouble(name))]:
        raise UserError("\n".join(wrong))


def _spelt(name: object) -> str:
    """A name as YAML has it, on one line: 2024, true, null."""
    return shown(name if isinstance(name, str) else json.dumps(name, default=str).strip('"'))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path} not found: run from the repository's root")
    tree = yaml_files.load(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("datasets"), dict):
        raise UserError(f"{path}: expected `datasets:` with one block per dataset, or `datasets: {{}}` for none yet")
    return tree


def _check_block(key: str, block: Any) -> tuple[dict[str, Any], list[str]]:
    """A dataset's sections by stage, and what is wrong with them."""
    if not isinstance(block, dict):
        return {}, [f"{key}: expected sections ({', '.join(BLOCK)}), found {block!r}"]
    sections, wrong = {}, []
    for stage, given in block.items():
        if stage not in BLOCK:
            wrong.append(unknown(f"{key}.{stage}", stage, BLOCK))
            continue
        sections[stage], found = checked(BLOCK[stage], given, f"{key}.{stage}")
        wrong += [_moved(line, key) for line in found]
    target, point = (getattr(sections.get(stage), name, None) for stage, name in OPERATING)
    if target and point and target.kind == "regression":
        wrong.append(
            f"{key}.validate.operating_point finds a class or a label, and {target.column}, which {key}.ingest.target "
            "asks for, is a number: leave it out, or make classes of it (a column of labels.csv that says which "
            "numbers are meant, as ingest.target)"
        )
    for stage in BLOCK.keys() - {*MAY_BE_LEFT_OUT} - block.keys():
        wrong.append(f"{key}.{stage} is missing: add `{stage}: {{}}` for the defaults")
    return sections, sorted(wrong)


def _moved(message: str, key: str) -> str:
    """A message about an unknown key says where the key is, if it was one once, or stands elsewhere."""
    spelt = message.partition(" is unknown")[0]
    word = spelt.removeprefix(f"{key}.")
    if word in ELSEWHERE:
        return f"{spelt} is unknown: it is {key}.{ELSEWHERE[word]}"
    return f"{spelt} is now {MOVED[word]}, at the top level of the file" if word in MOVED else message


def check_report(given: Any, where: str) -> ReportParams:
    """The `report` block of a params.yaml that lies in another revision.

    Raises:
        UserError: It is not as `ReportParams` has it.
    """
    section, wrong = checked(ReportParams, given, "report")
    if wrong:
        raise UserError("\n".join(f"{where}: {line}" for line in wrong))
    return section
