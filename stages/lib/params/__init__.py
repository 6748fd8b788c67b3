"""params.yaml: `datasets.<name>.<stage>` and `report`, each a frozen dataclass, all checked before any work starts."""

import difflib
import json
import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.core.errors import UserError
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.export import ExportParams
from stages.lib.params.ingest import IngestParams
from stages.lib.params.report import ReportParams
from stages.lib.params.sample import SampleParams
from stages.lib.params.split import SplitParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.params.train import TrainParams
from stages.lib.params.validate import ValidateParams

SECTIONS: dict[str, Any] = {
    "sample": SampleParams,  # demo datasets only
    "ingest": IngestParams,
    "split": SplitParams,
    "statistics": StatisticsParams,
    "dataset": DatasetParams,
    "train": TrainParams,
    "validate": ValidateParams,
    "export": ExportParams,
}

KEYS = ("datasets", "report")


@dataclass(frozen=True)
class Params:
    """A whole params.yaml, checked: `datasets[name][stage]` is that stage's section."""

    path: Path
    datasets: dict[str, dict[str, Any]]
    report: ReportParams

    def section(self, dataset: str, stage: str) -> Any:
        """One stage's section.

        Raises:
            UserError: There is no such dataset, or it has no such section.
        """
        if dataset not in self.datasets:
            raise UserError(f"{self.path}: there is no datasets.{dataset}{_nearest(dataset, self.datasets)}")
        if stage not in self.datasets[dataset]:
            raise UserError(f"{self.path}: datasets.{dataset} has no section '{stage}': add `{stage}: {{}}`")
        return self.datasets[dataset][stage]


def load(path: Path) -> Params:
    """Reads and checks every section of every dataset.

    Raises:
        UserError: The file is missing or no YAML, or keys are unknown, of a wrong type or out of range; the message
            lists all of them, each as the user typed it.
    """
    if not path.exists():
        raise UserError(f"{path} not found: run from the repository's root")
    try:
        tree = YAML(typ="safe", pure=True).load(path)  # YAML 1.2, as dvc reads it: 1e-3 is a number
    except YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("datasets"), dict) or not tree["datasets"]:
        raise UserError(f"{path}: expected `datasets:` with one block a dataset")
    datasets: dict[str, dict[str, Any]] = {}
    report, wrong = _check_section("report", ReportParams, tree.get("report"))
    wrong += [f"{key} is unknown{_nearest(key, KEYS)}" for key in tree if key not in KEYS]
    for name, block in tree["datasets"].items():
        datasets[name], found = _check_block(f"datasets.{name}", block)
        wrong += found
    if wrong:
        raise UserError("\n".join(f"{path}: {line}" for line in wrong))
    return Params(path, datasets, report)


def _check_block(key: str, block: Any) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(block, dict):
        return {}, [f"{key}: expected sections ({', '.join(SECTIONS)}), found {block!r}"]
    sections, wrong = {}, []
    for stage, given in block.items():
        if stage not in SECTIONS:
            wrong.append(f"{key}.{stage} is unknown{_nearest(stage, SECTIONS)}")
            continue
        sections[stage], found = _check_section(f"{key}.{stage}", SECTIONS[stage], given)
        wrong += found
    for stage in SECTIONS.keys() - {"sample"} - block.keys():
        wrong.append(f"{key}.{stage} is missing: add `{stage}: {{}}` for the defaults")
    return sections, sorted(wrong)


def check_report(given: Any, where: str) -> ReportParams:
    """The `report` block of a params.yaml that lies in another revision.

    Raises:
        UserError: It is not as `ReportParams` has it.
    """
    section, wrong = _check_section("report", ReportParams, given)
    if wrong:
        raise UserError("\n".join(f"{where}: {line}" for line in wrong))
    return section


def _check_section(key: str, section: Any, given: Any) -> tuple[Any, list[str]]:
    try:
        return check(section, given), []
    except ValidationError as error:
        return None, _messages(error, section, key)


def check(section: Any, given: Any) -> Any:
    """A section's dataclass made from plain values, strictly: "1" and true are no integers, 1 is a float, too."""
    # JSON mode is the strict mode that takes a list for a tuple.
    return TypeAdapter(section).validate_json(json.dumps(given if given is not None else {}, default=str), strict=True)


def _messages(error: ValidationError, section: Any, key: str) -> list[str]:
    lines = []
    for one in error.errors():
        spelt = ".".join([key, *(str(part) for part in one["loc"])])
        if one["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            known = _fields_at(section, one["loc"][:-1])
            lines.append(f"{spelt} is unknown{_nearest(str(one['loc'][-1]), known)}")
        elif one["type"] == "value_error":  # raised by a __post_init__, whose text says all
            lines.append(f"{spelt}: {one['ctx']['error']}")
        else:
            expected = one["msg"].removeprefix("Input should be ")
            if one["type"] == "literal_error":
                close = difflib.get_close_matches(str(one["input"]), re.findall("'([^']*)'", expected), 1)
                expected = f"{close[0]}, or another of {expected}" if close else expected
            lines.append(f"{spelt} is {one['input']!r}: expected {expected}")
    return lines


def _fields_at(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """The names of the fields of the (nested) dataclass at a location of a section."""
    for part in location:
        hint = get_type_hints(section).get(str(part))
        section = next((c for c in (hint, *get_args(hint)) if is_dataclass(c)), None)
        if section is None:
            return []
    return [field.name for field in fields(section)]


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else f": known are {', '.join(map(str, known))}" if known else ""
