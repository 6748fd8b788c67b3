"""What every stage's `__main__` does: `run(main)` finds the paths in dvc.yaml and the params in params.yaml.

    python -m stages.train digits

A stage's `main` names its data as parameters, spelt like the file: `models/digits/model.pt` is `model_pt`,
`data/raw/digits` is `raw`. So dvc.yaml stays the only file that spells data paths, and tests call `main` with paths
of their own. Every out must be a parameter. A dep need not be: one that `main` does not name (code, pinned versions, a
lock file, a recipe) only tells dvc when to run the stage again.
"""

import argparse
import inspect
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from stages.lib import params
from stages.lib.core import durations, locks, signals, terminal, yaml_files
from stages.lib.core.errors import WAYS_OUT, DamagedOut, UserError, explain
from stages.lib.core.nearest import hint
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown

PARAMS_YAML = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
OUTS = ("outs", "metrics", "plots")
OF_DATASETS = "${datasets}"  # a stage's `foreach`
LISTS = {  # of studies.yaml, and the keys that each entry has
    "studies": {"dataset"},
    "members": {"dataset", "name", "fold"},
    "exports": {"dataset", "model"},
    "externals": {"dataset", "other", "model", "classes", "lacks", "trained_on"},
}
Lists = dict[str, dict[str, dict[str, Any]]]  # of studies.yaml: by list and name, the `item` of dvc.yaml


def run(main: Callable[..., None], pin: Callable[[int, bool], None] | None = None) -> None:
    """Runs a stage's `main` for the dataset that the command line names, one process at a time.

    A user's mistake, and what the operating system refuses, exit 1 with one message; a signal that ends the stage, with
    128 and its number. `main` receives the stage's paths by name, `params` (the stage's section), and, where it asks
    for them, `machine` (the section of that name), `ingest` and `study` (the dataset's), `network` (that of its section
    train), `dataset` (the name, for messages), and `item` (of a stage of a study: its entry in studies.yaml), with
    `other_ingest` (that section of the other dataset that the entry names).

    Args:
        pin: Called first with the section's `threads` and `portable`, by stages that compute: `core.machine.pin`.
    """
    stage = Path(inspect.getfile(main)).stem
    description = (inspect.getmodule(main).__doc__ or "").partition("\n")[0]
    if not PARAMS_YAML.exists():
        os.chdir(Path(__file__).parents[2])  # a stage may be started from any folder: its paths are below the project's
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    parser.add_argument("name", metavar="dataset", help=f"a block of params.yaml's `datasets`{_or_entry(stage)}")
    terminal.escape_output()
    name = parser.parse_args().name

    def work() -> None:
        item = entry_of(stage, name)
        dataset = item["dataset"]
        given = params.load(PARAMS_YAML, dataset)
        section = given.section(dataset, params.STUDY_STAGES.get(stage, stage))
        paths = arguments(main, stage, name, sections(given, stage, dataset) | _of_entry(given, item))
        with alone(stage, name):
            if is_first() and (expected := expectation(stage, name)):
                say(f"{stage} of {name}: {expected}")
            if pin is not None:
                pin(section.threads, section.portable)
            with ways_back():
                main(**paths)

    began = time.monotonic()
    status, message = outcome(work, f"{stage} of {name}")
    if not status and is_first() and stage in params.SECTIONS:
        durations.note(seconds_file(name), stage, time.monotonic() - began)
    # Only now, when the exception is gone, are progress bars closed that it went through.
    if message:
        print(message, file=sys.stderr)
    if status:
        sys.exit(status)


def _or_entry(stage: str) -> str:
    return ", or an entry of studies.yaml" if stage in params.STUDY_STAGES else ""


def is_first() -> bool:
    """Of the processes of a torchrun, and where there is only one."""
    return os.environ.get("RANK", "0") == "0"


def seconds_file(dataset: str) -> Path:
    """Where the times of a dataset's last runs are kept, for the summary and for what a stage says at its start."""
    return stage_paths("ingest", dataset)[1]["cases_csv"].with_name(durations.FILE)


def expectation(stage: str, dataset: str) -> str:
    """How long a stage and those behind it take: by their last runs, or reckoned from another dataset's; empty for the
    stages of a study, whose times are not kept.
    """
    order = list(params.SECTIONS)
    if stage not in order:
        return ""
    deps, outs = stage_paths("ingest", dataset)
    place = outs["cases_csv"].with_name(durations.FILE)
    own = durations.read(place)
    known = own.keys() >= set(order[order.index(stage) :])
    other = durations.Expected({}) if known else durations.reckoned(place, deps["raw"])
    return durations.sentence(stage, order, own, other)


@contextmanager
def alone(stage: str, name: str) -> Iterator[None]:
    """Holds the lock of a stage, beside the first of its outs: others may be run meanwhile.

    Args:
        name: Of the dataset, or of the entry in studies.yaml.

    Raises:
        UserError: Another process runs the stage for this dataset, perhaps one whose dvc was killed.
    """
    _, outs = stage_paths(stage, name)
    if not is_first() or not outs:  # torchrun starts a stage several times: the first holds it
        yield
        return
    first = next(iter(outs.values()))
    with locks.holding(first.with_name(f".{first.name}.lock"), f"{stage} of {name}"):
        yield


def outcome(work: Callable[[], None], what: str) -> tuple[int, str]:
    """Does the work; an exit status, and the message that explains it."""
    try:
        with signals.handled():
            work()
    except UserError as error:
        return 1, f"error: {error}"
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        return 1, f"error: {explain(error)}; then run {what} again"
    except KeyboardInterrupt:
        return 128 + signal.SIGINT, _stopped(what, signal.SIGINT)
    except SystemExit as error:
        if not isinstance(error.code, int) or error.code - 128 not in signals.ENDING:
            raise
        return error.code, _stopped(what, error.code - 128)
    return 0, ""


def _stopped(what: str, number: int) -> str:
    return f"{what} was stopped by {signal.Signals(number).name} before it was done: run it again"


@contextmanager
def ways_back() -> Iterator[None]:
    """Adds to an error about an earlier stage's out the commands that bring it back."""
    try:
        yield
    except DamagedOut as error:
        raise UserError(in_full(error)) from error


def in_full(error: UserError, dvc_yaml: Path = DVC_YAML) -> str:
    """The message; where outs of earlier stages are at fault, with the commands that bring them back."""
    if not isinstance(error, DamagedOut) or not dvc_yaml.exists():
        return str(error)
    stages = yaml_files.load(dvc_yaml)["stages"]
    makers = [maker for path in error.paths if (maker := _maker(path, stages, dvc_yaml))]
    if not makers:
        return str(error)
    makers.sort(key=lambda maker: list(stages).index(maker.stage.partition("@")[0]))
    by_dvc, by_git = ([maker.out for maker in makers if maker.in_cache == kept] for kept in (True, False))
    back = [
        f"`{way} {' '.join(of)}`" for way, of in (("dvc checkout --force", by_dvc), ("git checkout --", by_git)) if of
    ]
    anew = f"`dvc repro --force --single-item {' '.join(maker.stage for maker in makers)}`"
    return f"{error}; {' and '.join(back)} brings back what was committed; {anew} makes it anew"


class Maker(NamedTuple):
    """What makes an out."""

    stage: str  # such as split@digits
    out: str  # as in dvc.yaml; an out's path may be of a file inside it
    in_cache: bool  # whether dvc keeps it, else git does


def _maker(path: Path, stages: dict[str, Any], dvc_yaml: Path) -> Maker | None:
    for stage, entry in stages.items():
        for item in (item for key in OUTS for item in entry.get("do", {}).get(key, [])):
            spelt, options = next(iter(item.items())) if isinstance(item, dict) else (item, {})
            for name, pattern in _patterns(spelt, entry["foreach"], dvc_yaml):
                if found := re.match(f"({pattern})(/|$)", path.as_posix()):
                    return Maker(f"{stage}@{name or found[2]}", found[1], options.get("cache", True))
    return None


def _patterns(spelt: str, foreach: Any, dvc_yaml: Path) -> Iterator[tuple[str, str]]:
    """The paths that an out of dvc.yaml stands for, as regular expressions, by the name of their stage; by an empty one
    where any dataset's is meant, whose name is the first group then.
    """
    if isinstance(foreach, list) or foreach == OF_DATASETS:
        yield "", re.sub(r"\\\$\\{(key|item)\\}", "([^/]+)", re.escape(spelt))
        return
    for name, item in _entries(foreach, dvc_yaml).items():
        yield name, re.escape(_filled(spelt, name, item))


def sections(given: params.Params, stage: str, dataset: str) -> dict[str, Any]:
    """What a stage's `main` may ask for beside paths, by name."""
    return {
        "params": given.section(dataset, params.STUDY_STAGES.get(stage, stage)),
        "machine": given.machine,
        "ingest": given.section(dataset, "ingest"),
        "study": given.section(dataset, "study"),
        "network": asdict(given.section(dataset, "train").network),
        "dataset": dataset,
    }


def _of_entry(given: params.Params, item: dict[str, Any]) -> dict[str, Any]:
    """What a stage of a study may ask for besides: its entry in studies.yaml, and how the other dataset was read."""
    other = {"other_ingest": given.section(item["other"], "ingest")} if "other" in item else {}
    return {"item": item} | other


def arguments(main: Callable[..., None], stage: str, name: str, others: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a stage's `main`: its paths, and those of `others` that it has a parameter for.

    Raises:
        TypeError: dvc.yaml and `main` disagree about the stage's paths.
    """
    deps, outs = stage_paths(stage, name)
    wanted = set(inspect.signature(main).parameters)
    if lost := wanted - others.keys() - deps.keys() - outs.keys():
        raise TypeError(f"stages/{stage}.py's main takes {sorted(lost)}, which dvc.yaml does not name, or twice")
    if unwritten := outs.keys() - wanted:
        raise TypeError(f"dvc.yaml's stage {stage} has the outs {sorted(unwritten)}, which its main does not take")
    return {name: value for name, value in (deps | outs | others).items() if name in wanted}


def stage_paths(stage: str, name: str, dvc_yaml: Path = DVC_YAML) -> tuple[dict[str, Path], dict[str, Path]]:
    """The deps and the outs of a stage of dvc.yaml, by name (see the module's docstring).

    Args:
        name: Of the dataset, or of the entry in studies.yaml.

    Raises:
        UserError: dvc.yaml is missing, the stage is not for this dataset, or no dataset can be called so.
    """
    item = entry_of(stage, name, dvc_yaml)
    entry = yaml_files.load(dvc_yaml)["stages"][stage]
    outs = [item for key in OUTS for item in entry["do"].get(key, [])]
    return _named(entry["do"].get("deps", []), name, item), _named(outs, name, item)


def entry_of(stage: str, name: str, dvc_yaml: Path = DVC_YAML) -> dict[str, Any]:
    """What dvc.yaml calls `item` in a stage of this name; at least the `dataset`.

    Raises:
        UserError: As of `stage_paths`.
    """
    params.check_names([name] if stage not in params.STUDY_STAGES else [], "the dataset")
    if not dvc_yaml.exists():
        raise UserError(f"{dvc_yaml} not found: run from the repository's root")
    foreach = yaml_files.load(dvc_yaml)["stages"][stage]["foreach"]
    if foreach == OF_DATASETS:
        return {"dataset": name}
    if isinstance(foreach, list):
        if name not in (listed := [str(name) for name in foreach]):
            raise UserError(f"dvc.yaml: the stage '{stage}' is for {', '.join(listed) or 'none'}, not for '{name}'")
        return {"dataset": name}
    entries = _entries(foreach, dvc_yaml)
    if name not in entries:
        near = hint(name, entries) or "it has none"
        raise UserError(f"there is no {stage} '{shown(name)}' in {studies_yaml(dvc_yaml)}: {near}")
    return entries[name]


def _entries(foreach: str, dvc_yaml: Path) -> dict[str, dict[str, Any]]:
    """The list of studies.yaml that a stage of dvc.yaml is made for, such as "${members}"."""
    path = studies_yaml(dvc_yaml)
    return read_lists(path)[foreach.strip("${}")] if path else {}


def studies_yaml(dvc_yaml: Path = DVC_YAML) -> Path | None:
    """Where the lists of a study's stages are; None where dvc.yaml makes no such stages."""
    found = yaml_files.load(dvc_yaml).get("vars") or []
    return dvc_yaml.parent / found[0] if found else None


def read_lists(path: Path) -> Lists:
    """studies.yaml.

    Raises:
        UserError: It is missing, or holds something else.
    """
    found = yaml_files.load(path) if path.exists() else None
    if not isinstance(found, dict) or not all(_is_list(found.get(name), keys) for name, keys in LISTS.items()):
        raise UserError(f"{path} is missing, or is not as `python -m tools.studies` writes it: run that")
    return found


def _is_list(found: Any, keys: set[str]) -> bool:
    return isinstance(found, dict) and all(isinstance(of, dict) and keys <= of.keys() for of in found.values())


def member_folders(dataset: str, dvc_yaml: Path = DVC_YAML) -> list[Path]:
    """The folders that hold one folder for each training of a study."""
    entry = yaml_files.load(dvc_yaml)["stages"]["member"]["do"]
    outs = _named([out for key in OUTS for out in entry.get(key, [])], "", {"dataset": dataset, "name": "name"})
    return sorted({path.parents[1] for path in outs.values()})


def _named(items: list[Any], name: str, item: dict[str, Any]) -> dict[str, Path]:
    """Paths by the names that they have as parameters; an item of dvc.yaml is a path, or a path with options.

    A name that two paths have is left out: a `main` that takes it cannot be called.

    Args:
        item: As of `entry_of`.
    """
    named: dict[str, list[Path]] = {}
    for listed in items:
        spelt = next(iter(listed)) if isinstance(listed, dict) else listed
        path = Path(_filled(spelt, name, item))
        is_raw = path.parent.name == "raw"
        named.setdefault("raw" if is_raw else path.name.replace(".", "_").replace("-", "_"), []).append(path)
    return {name: paths[0] for name, paths in named.items() if len(paths) == 1}


def _filled(spelt: str, name: str, item: dict[str, Any]) -> str:
    """A path of dvc.yaml, with what stands for `${key}`, `${item}` and `${item.<key>}`."""
    filled = spelt.replace("${key}", name).replace("${item}", name)
    return re.sub(r"\$\{item\.(\w+)\}", lambda found: str(item[found[1]]), filled)
