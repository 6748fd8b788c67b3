"""What git tracks of one revision's results: params.yaml, dvc.lock, metrics/<dataset>/."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.core.errors import UserError
from stages.lib.core.formulas import bare
from stages.lib.core.tables import parse_text
from tools.report.revisions import Revision

METRICS = ("ingest", "statistics", "train", "validate", "export")
KEYS = ("case", "group", "split", "label", "predicted")  # of predictions.csv, before one probability per class
STUDY = re.compile(r"study/study\.json|external/([^/]+)/external\.json")
PROBABILITY_OF = "probability of "  # prefix of a class in the tables here: a class may be called "case"


@dataclass(frozen=True)
class Results:
    """One dataset's results at one revision."""

    metrics: dict[str, dict[str, Any]]  # by file: ingest, ..., export; of a study `study`, and `external` by dataset
    predictions: pd.DataFrame
    lock: dict[str, dict[str, Any]]  # by stage: its entry in dvc.lock
    pictures: dict[str, bytes]  # figures by path

    def split(self, name: str) -> pd.DataFrame:
        """The predictions of one split, in the order of the cases."""
        rows = self.predictions[self.predictions["split"] == name]
        return rows.sort_values("case").reset_index(drop=True)


@dataclass(frozen=True)
class Snapshot:
    """A revision's params and the results of every dataset that has been run."""

    revision: Revision
    params: dict[str, Any]
    results: dict[str, Results]

    @property
    def datasets(self) -> list[str]:
        """The datasets of params.yaml, run or not."""
        return _names(self.params)


def load(revision: Revision) -> Snapshot:
    """Reads a revision.

    Raises:
        UserError: A file cannot be read, or a dataset that dvc.lock knows of lacks its metrics.
    """
    params = _yaml(revision, "params.yaml")
    stages = _yaml(revision, "dvc.lock").get("stages") or {}
    paths = revision.paths()
    results = {}
    for dataset in _names(params):
        lock = {stage.split("@")[0]: entry for stage, entry in stages.items() if stage.endswith(f"@{dataset}")}
        folder = f"metrics/{dataset}/"
        # One that others' models are asked about has been ingested, and that is all.
        measured = any(path.startswith(folder) and not path.startswith(f"{folder}ingest.") for path in paths)
        if "validate" in lock or measured:
            pictures = [path for path in paths if path.startswith(folder) and path.endswith(".png")]
            results[dataset] = _results(revision, dataset, lock, pictures)
            results[dataset].metrics.update(_of_study(revision, folder, paths))
    return Snapshot(revision, params, results)


def _of_study(revision: Revision, folder: str, paths: Iterable[str]) -> dict[str, Any]:
    """The metrics of a study and of external datasets, by name; nothing of what was not asked for.

    Args:
        folder: Of the dataset's metrics, with a slash at its end.
    """
    found: dict[str, Any] = {}
    for path in sorted(paths):
        match = STUDY.fullmatch(path.removeprefix(folder)) if path.startswith(folder) else None
        if match:
            tree = _json(revision, path, revision.read(path) or b"")
            if match[1]:
                found.setdefault("external", {})[match[1]] = tree
            else:
                found["study"] = tree
    return found


def _names(params: dict[str, Any]) -> list[str]:
    """The datasets of a params.yaml; former revisions may have such as YAML takes for numbers."""
    return sorted(map(str, params.get("datasets") or ()))


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted key; a list is a leaf, unless it holds mappings."""
    if isinstance(tree, list) and tree and all(isinstance(item, Mapping) for item in tree):
        tree = {str(i): item for i, item in enumerate(tree)}
    if not isinstance(tree, Mapping):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))


def _results(revision: Revision, dataset: str, lock: dict[str, Any], pictures: list[str]) -> Results:
    files = {name: revision.read(f"metrics/{dataset}/{name}.json") for name in METRICS}
    files["predictions"] = revision.read(f"metrics/{dataset}/predictions.csv")
    missing = [
        f"metrics/{dataset}/{n}.{'csv' if n == 'predictions' else 'json'}" for n, f in files.items() if f is None
    ]
    if missing:
        raise UserError(
            f"{revision} has no {', '.join(missing)}, so there is nothing to judge {dataset} by: dvc repro "
            f"validate@{dataset} export@{dataset}, then commit dvc.lock and metrics/"
        )
    metrics = {n: _json(revision, f"metrics/{dataset}/{n}.json", files[n] or b"") for n in METRICS}
    predictions = _predictions(revision, f"metrics/{dataset}/predictions.csv", files["predictions"] or b"")
    return Results(metrics, predictions, lock, {path: revision.read(path) or b"" for path in pictures})


def _predictions(revision: Revision, path: str, content: bytes) -> pd.DataFrame:
    try:
        # By position: a class may be called "case", too. A label may look like a number or like a missing value.
        table = parse_text(content)
        if tuple(table.columns[: len(KEYS)]) != KEYS or table.shape[1] == len(KEYS):
            raise ValueError(f"its columns are not {', '.join(KEYS)} and a probability a class")
        names = next(csv.reader(StringIO(content.decode())))  # as written: pandas renames a repeated column
        probabilities = table.iloc[:, len(KEYS) :].replace("", "nan").astype(float)  # what is not known of a label
        probabilities.columns = pd.Index([PROBABILITY_OF + name for name in map(bare, names[len(KEYS) :])])
        if table[["case", "split"]].duplicated().any():
            raise ValueError("it has a case twice")
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} of {revision} is not as the validate stage writes it: {error}") from None
    return pd.concat([table.iloc[:, : len(KEYS)], probabilities], axis="columns")


def _json(revision: Revision, path: str, content: bytes) -> dict[str, Any]:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{path} of {revision} is no valid JSON ({error}){_conflict(path, content)}") from None


def _yaml(revision: Revision, path: str) -> dict[str, Any]:
    content = revision.read(path)
    if content is None and path == "dvc.lock":
        return {}  # nothing has been run yet
    if content is None:
        raise UserError(f"{revision} has no {path}: it is no revision of this pipeline")
    try:
        tree = YAML(typ="safe", pure=True).load(content)
    except YAMLError as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path} of {revision} is no valid YAML ({what}){_conflict(path, content)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} of {revision} holds no mapping{_conflict(path, content)}")
    return tree


def _conflict(path: str, content: bytes) -> str:
    if not any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in content.splitlines()):
        return ""
    if path == "params.yaml":
        return ": it has the marks of a merge conflict; choose by hand, then dvc repro"
    return ": it has the marks of a merge conflict; git checkout --ours -- dvc.lock metrics, then dvc repro"
