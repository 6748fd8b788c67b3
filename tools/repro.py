"""`dvc repro`, with the stages of so many datasets side by side: DVC by itself runs one stage at a time.

    python -m tools.repro --jobs 2          # as `make repro JOBS=2` does

Each dataset has a dvc of its own. Between themselves these keep order by DVC's own locks, which a dvc holds while it
reads and writes dvc.lock, and lets go of while a stage runs. Then a plain `dvc repro` runs what is no dataset's. The
bytes of all outs and of dvc.lock are those of `dvc repro` alone.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from tools.mend_lock import HEADER, LOCK, committed, entries, wanted_stages


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.repro", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="datasets at once")
    jobs = parser.parse_args(argv).jobs
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}, expected 1 or more")
    if jobs > 1:
        side_by_side(wanted_stages(), jobs)
    sys.exit(subprocess.run(["dvc", "repro"]).returncode)


def side_by_side(stages: dict[str, list[str]], jobs: int) -> None:
    """Runs the stages of so many datasets at once; a dataset that fails stops no other.

    Args:
        stages: The datasets of each stage, in the order of dvc.yaml.

    Raises:
        UserError: One has failed.
    """
    names: dict[str, list[str]] = {}
    for stage, datasets in stages.items():
        for dataset in datasets:
            names.setdefault(dataset, []).append(f"{stage}@{dataset}")
    with ThreadPoolExecutor(jobs) as pool:
        statuses = dict(zip(names, pool.map(run, names, names.values()), strict=True))
    restore_order([f"{stage}@{dataset}" for stage, datasets in stages.items() for dataset in datasets])
    if failed := [dataset for dataset, status in statuses.items() if status]:
        raise UserError(f"dvc failed for {', '.join(failed)}: what it said is above")


def run(dataset: str, stages: list[str]) -> int:
    """A dvc for one dataset, whose lines are told with its name; its exit status."""
    # Threads that wait actively, as OpenMP's do, would keep the other datasets' from their work.
    environment = os.environ | {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    command = ["dvc", "--wait-for-lock", "repro", *stages]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                print(f"{dataset} | {line.rstrip()}", flush=True)
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


if __name__ == "__main__":
    main()
