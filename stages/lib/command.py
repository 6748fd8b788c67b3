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
from stages.lib.core.progress import say

PARAMS_YAML = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
OUTS = ("outs", "metrics", "plots")


def run(main: Callable[..., None], pin: Callable[[int, bool], None] | None = None) -> None:
    """Runs a stage's `main` for the dataset that the command line names, one process at a time.

    A user's mistake, and what the operating system refuses, exit 1 with one message; a signal that ends the stage, with
    128 and its number. `main` receives the stage's paths by name, `params` (the stage's section), and, where it asks
    for them, `machine` (the section of that name), `ingest` (the dataset's), `network` (that of its section train), and
    `dataset` (the name, for messages).

    Args:
        pin: Called first with the section's `threads` and `portable`, by stages that compute: `core.machine.pin`.
    """
    stage = Path(inspect.getfile(main)).stem
    description = (inspect.getmodule(main).__doc__ or "").partition("\n")[0]
    if not PARAMS_YAML.exists():
        os.chdir(Path(__file__).parents[2])  # a stage may be started from any folder: its paths are below the project's
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    parser.add_argument("dataset", help="a block of params.yaml's `datasets`")
    terminal.escape_output()
    dataset = parser.parse_args().dataset

    def work() -> None:
        given = params.load(PARAMS_YAML, dataset)
        section = given.section(dataset, stage)
        paths = arguments(main, stage, dataset, sections(given, stage, dataset))
        with alone(stage, dataset):
            if is_first() and (expected := expectation(stage, dataset)):
                say(f"{stage} of {dataset}: {expected}")
            if pin is not None:
                pin(section.threads, section.portable)
            with ways_back():
                main(**paths)

    began = time.monotonic()
    status, message = outcome(work, f"{stage} of {dataset}")
    if not status and is_first():
        durations.note(seconds_file(dataset), stage, time.monotonic() - began)
    # Only now, when the exception is gone, are progress bars closed that it went through.
    if message:
        print(message, file=sys.stderr)
    if status:
        sys.exit(status)


def is_first() -> bool:
    """Of the processes of a torchrun, and where there is only one."""
    return os.environ.get("RANK", "0") == "0"


def seconds_file(dataset: str) -> Path:
    """Where the times of a dataset's last runs are kept, for the summary and for what a stage says at its start."""
    return stage_paths("ingest", dataset)[1]["cases_csv"].with_name(durations.FILE)


def expectation(stage: str, dataset: str) -> str:
    """How long a stage and those behind it take: by their last runs, or reckoned from another dataset's."""
    order = list(params.SECTIONS)
    deps, outs = stage_paths("ingest", dataset)
    place = outs["cases_csv"].with_name(durations.FILE)
    own = durations.read(place)
    known = own.keys() >= set(order[order.index(stage) :])
    other = durations.Expected({}) if known else durations.reckoned(place, deps["raw"])
    return durations.sentence(stage, order, own, other)


@contextmanager
def alone(stage: str, dataset: str) -> Iterator[None]:
    """Holds the lock of a stage, beside the first of its outs: others may be run meanwhile.

    Raises:
        UserError: Another process runs the stage for this dataset, perhaps one whose dvc was killed.
    """
    _, outs = stage_paths(stage, dataset)
    if not is_first() or not outs:  # torchrun starts a stage several times: the first holds it
        yield
        return
    first = next(iter(outs.values()))
    with locks.holding(first.with_name(f".{first.name}.lock"), f"{stage} of {dataset}"):
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
    makers = [maker for path in error.paths if (maker := _maker(path, stages))]
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


def _maker(path: Path, stages: dict[str, Any]) -> Maker | None:
    for stage, entry in stages.items():
        for item in (item for key in OUTS for item in entry.get("do", {}).get(key, [])):
            spelt, options = next(iter(item.items())) if isinstance(item, dict) else (item, {})
            pattern = re.sub(r"\\\$\\{(key|item)\\}", "([^/]+)", re.escape(spelt))
            if found := re.match(f"({pattern})(/|$)", path.as_posix()):
                return Maker(f"{stage}@{found[2]}", found[1], options.get("cache", True))
    return None


def sections(given: params.Params, stage: str, dataset: str) -> dict[str, Any]:
    """What a stage's `main` may ask for beside paths, by name."""
    return {
        "params": given.section(dataset, stage),
        "machine": given.machine,
        "ingest": given.section(dataset, "ingest"),
        "network": asdict(given.section(dataset, "train").network),
        "dataset": dataset,
    }


def arguments(main: Callable[..., None], stage: str, dataset: str, others: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a stage's `main`: its paths, and those of `others` that it has a parameter for.

    Raises:
        TypeError: dvc.yaml and `main` disagree about the stage's paths.
    """
    deps, outs = stage_paths(stage, dataset)
    wanted = set(inspect.signature(main).parameters)
    if lost := wanted - others.keys() - deps.keys() - outs.keys():
        raise TypeError(f"stages/{stage}.py's main takes {sorted(lost)}, which dvc.yaml does not name, or twice")
    if unwritten := outs.keys() - wanted:
        raise TypeError(f"dvc.yaml's stage {stage} has the outs {sorted(unwritten)}, which its main does not take")
    return {name: value for name, value in (deps | outs | others).items() if name in wanted}


def stage_paths(stage: str, dataset: str, dvc_yaml: Path = DVC_YAML) -> tuple[dict[str, Path], dict[str, Path]]:
    """The deps and the outs of a stage of dvc.yaml, by name (see the module's docstring).

    Raises:
        UserError: dvc.yaml is missing, the stage is not for this dataset, or no dataset can be called so.
    """
    params.check_names([dataset], "the dataset")
    if not dvc_yaml.exists():
        raise UserError(f"{dvc_yaml} not found: run from the repository's root")
    entry = yaml_files.load(dvc_yaml)["stages"][stage]
    if isinstance(entry["foreach"], list) and dataset not in (listed := [str(name) for name in entry["foreach"]]):
        raise UserError(f"dvc.yaml: the stage '{stage}' is for {', '.join(listed) or 'none'}, not for '{dataset}'")
    outs = [item for key in OUTS for item in entry["do"].get(key, [])]
    return _named(entry["do"].get("deps", []), dataset), _named(outs, dataset)


def _named(items: list[Any], dataset: str) -> dict[str, Path]:
    """Paths by the names that they have as parameters; an item of dvc.yaml is a path, or a path with options.

    A name that two paths have is left out: a `main` that takes it cannot be called.
    """
    named: dict[str, list[Path]] = {}
    for item in items:
        spelt = next(iter(item)) if isinstance(item, dict) else item
        path = Path(spelt.replace("${key}", dataset).replace("${item}", dataset))
        is_raw = path.parent.name == "raw"
        named.setdefault("raw" if is_raw else path.name.replace(".", "_").replace("-", "_"), []).append(path)
    return {name: paths[0] for name, paths in named.items() if len(paths) == 1}
