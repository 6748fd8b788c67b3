"""`dvc repro`, with the stages of so many datasets side by side: DVC by itself runs one stage at a time.

    python -m tools.repro --jobs 2          # as `make repro JOBS=2` does
    python -m tools.repro --dry             # which stages would run, and why

First studies.yaml is brought up to date (tools.studies). Each dataset has a dvc of its own, and then each training of a
study. Between themselves these keep order by DVC's own locks, which a dvc holds while it reads and writes dvc.lock, and
lets go of while a stage runs. Then a plain `dvc repro` runs what is left. The bytes of all outs and of dvc.lock are
those of `dvc repro` alone.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from tools import studies
from tools.mend_lock import HEADER, LOCK, committed, entries, wanted_stages

MOST_REASONS = 4  # told of a stage
AFTER = ("member", "study", "export_study", "external")  # they read what was made of several, or are told apart


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.repro", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="datasets, and trainings of a study, at once")
    parser.add_argument("--dry", action="store_true", help="run nothing, and say what would run, and why")
    arguments = parser.parse_args(argv)
    if arguments.dry:
        say("\n".join(planned()))
        return
    for line in studies.update():
        say(line)
    jobs = arguments.jobs
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}, expected 1 or more")
    if jobs > 1:
        side_by_side(wanted_stages(), jobs)
    sys.exit(subprocess.run(["dvc", "repro"]).returncode)


def side_by_side(stages: dict[str, list[str]], jobs: int) -> None:
    """Runs the stages of so many datasets at once, then so many trainings of studies; one that fails stops no other.

    Args:
        stages: The datasets of each stage, in the order of dvc.yaml; of a study's, entries of studies.yaml.

    Raises:
        UserError: One has failed.
    """
    of_datasets: dict[str, list[str]] = {}
    for stage, names in stages.items():
        for name in names if stage not in AFTER else ():
            of_datasets.setdefault(name, []).append(f"{stage}@{name}")
    # With --single-item dvc leaves alone what comes before: it would want to write that, which others read just now.
    of_members = {name: ["--single-item", f"member@{name}"] for name in stages.get("member", [])}
    for targets in (of_datasets, of_members):
        with ThreadPoolExecutor(jobs) as pool:
            statuses = dict(zip(targets, pool.map(run, targets, targets.values()), strict=True))
        if failed := [name for name, status in statuses.items() if status]:
            break
    restore_order([f"{stage}@{name}" for stage, names in stages.items() for name in names])
    if failed:
        raise UserError(f"dvc failed for {', '.join(failed)}: what it said is above")


def run(name: str, targets: list[str]) -> int:
    """A dvc for one dataset or training, whose lines are told with its name; its exit status."""
    # Threads that wait actively, as OpenMP's do, would keep the other datasets' from their work.
    environment = os.environ | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    command = ["dvc", "--wait-for-lock", "repro", *targets]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                print(f"{name} | {line.rstrip()}", flush=True)
    return process.returncode


def restore_order(order: Sequence[str]) -> None:
    """Brings the new entries of dvc.lock, which stand in the order in which they were done, to that of `dvc repro`.

    That is stage by stage, and of each stage the datasets in the order of params.yaml. Entries that git knows stay
    where they are.
    """
    if not LOCK.exists():
        return
    found, known = entries(LOCK.read_text(encoding="utf-8")), entries(committed())
    new = [name for name in order if name in found and name not in known]
    text = HEADER + "".join(found[name] for name in (*(name for name in found if name not in new), *new))
    if text.encode() != LOCK.read_bytes():
        outs.write_bytes(LOCK, text.encode())


def planned() -> list[str]:
    """What `dvc repro` would run, and why, in lines; of data sets that have never been run, too.

    `dvc repro --dry` ends with an error where a stage's input is not there yet; `dvc status` does not.

    Raises:
        UserError: dvc fails.
    """
    known = entries(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    return explained(_status(), known)


def _status() -> dict[str, Any]:
    """What `dvc status --json` gives: by stage, its reasons.

    Raises:
        UserError: dvc fails.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise UserError(f"dvc status failed: {(done.stderr or done.stdout).strip()}") from None


def explained(status: dict[str, Any], known: Container[str]) -> list[str]:
    """A line for each stage that will run again, with why, and what that may lead to.

    Args:
        status: As `dvc status --json` gives it.
        known: The stages that have run once.
    """
    lines = []
    for stage, reasons in status.items():
        if stage == "check":
            continue  # it runs whenever params.yaml changed, and makes nothing
        why = [] if stage in known else ["it never ran"]
        for reason in reasons if stage in known else []:
            for kind, items in reason.items() if isinstance(reason, dict) else [(str(reason), None)]:
                why += [f"{name} ({state})" for name, state in _flat(items)] if isinstance(items, dict) else [kind]
        more = f" and {len(why) - MOST_REASONS} more" if len(why) > MOST_REASONS else ""
        lines.append(f"  {stage}: {', '.join(why[:MOST_REASONS])}{more}")
    if not lines:
        return ["No stage has to run: the outs are those of the code, params and data that are here."]
    return [
        "`dvc repro` will run these, as what they read has changed, or as they never ran:",
        *lines,
        "Those behind them run too where an out turns out to have other bytes, and else not.",
    ]


def _flat(items: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and states of changed deps or params; those of params lie one level deeper."""
    found = []
    for name, state in items.items():
        found += _flat(state) if isinstance(state, dict) else [(name, str(state))]
    return found


if __name__ == "__main__":
    main()
