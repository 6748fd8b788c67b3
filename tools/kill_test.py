"""Kills stages and dvc with `kill -9` at random moments, and compares what they end with with undisturbed outs.

    python -m tools.kill_test --kills 10
    python -m tools.kill_test --kills 3 --of train "train, one of two"

It works on a copy of the project with 60 small pictures in a temporary folder, and prints a table. Exits 1 where bytes
differ, or a process that was not killed failed with a traceback. Linux only: it finds a process's children in /proc.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from stages.lib import command
from stages.lib.core import terminal
from tools.tiny_project import STAGES, TARGETS, TINY, copy_project, environment, run

TRAIN = TINY["train"] | {"epochs": 60, "accumulate": 2, "threads": 1}
TWO = TRAIN | {"processes": 2}
DVC = ("dvc alone", "dvc and its stage", "dvc at dvc.lock")
WORKERS = {"train, one of two": 1, "train, both of two": 2}


class Row(NamedTuple):
    """What became of the kills of one kind."""

    of: str
    kills: int
    same: bool  # the bytes of all outs
    tracebacks: int  # with which processes failed that were not killed
    seconds: float


class Project:
    """A copy of the project, in which processes are killed."""

    def __init__(self, folder: Path, train: dict[str, object], seed: int) -> None:
        self.folder, self.rng, self.tracebacks = folder, random.Random(seed), 0
        copy_project(folder, TINY | {"train": train})

    def outs(self, stage: str) -> list[Path]:
        _, outs = command.stage_paths(stage, "tiny", self.folder / "dvc.yaml")
        return [self.folder / path for path in outs.values()]

    def digests(self, *stages: str) -> dict[str, str]:
        """Of every file of the stages' outs; a partial one or a lock that lies about is among them."""
        files = {file for stage in stages for out in self.outs(stage) for file in (out.parent.rglob("*"))}
        kept = [file for file in files if file.is_file() and not {".ingest", ".resume"} & set(file.parts)]
        return {str(file.relative_to(self.folder)): hashlib.md5(file.read_bytes()).hexdigest() for file in sorted(kept)}

    def remove_outs(self, stage: str) -> None:
        """As dvc does before it runs a stage."""
        for out in self.outs(stage):
            subprocess.run(["rm", "-rf", out], check=True)

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        return subprocess.Popen(
            words, cwd=self.folder, env=environment(), stdout=self.log, stderr=self.log, start_new_session=True
        )

    def start_stage(self, stage: str) -> "subprocess.Popen[bytes]":
        self.remove_outs(stage)
        return self.start(sys.executable, "-m", f"stages.{stage}", "tiny")

    def wait(self, process: "subprocess.Popen[bytes]") -> int:
        """Waits for the end of a process; counts the traceback with which it failed, if it was not killed."""
        status = process.wait()
        self.log.seek(0)
        said = self.log.read()
        if status not in (0, -signal.SIGKILL) and "Traceback" in said:
            self.tracebacks += 1
            print(said[-2000:], file=sys.stderr)
        return status

    def seconds_of(self, stage: str) -> float:
        """Runs a stage undisturbed; how long it worked, imports left out."""
        process = self.start_stage(stage)
        self.await_work(stage, process)
        began = time.monotonic()
        if self.wait(process):
            raise SystemExit(f"the stage {stage} failed undisturbed")
        return time.monotonic() - began

    def await_work(self, stage: str, process: "subprocess.Popen[bytes]") -> None:
        """Waits until a stage has its lock, which a killed one may have left behind."""
        first = self.outs(stage)[0]
        lock = first.with_name(f".{first.name}.lock")
        while process.poll() is None:
            with suppress(FileNotFoundError):
                if lock.read_text(encoding="utf-8").startswith(f"process {process.pid} "):
                    return
            time.sleep(0.002)


def kill_stage(project: Project, stage: str, seconds: float, workers: int) -> tuple[int, int]:
    """Starts a stage and kills it at a moment of its work; how many processes were killed, and its exit status.

    Args:
        workers: How many of its two workers are killed instead of the stage; 0 for all of it.
    """
    process = project.start_stage(stage)
    project.await_work(stage, process)
    if workers:
        chosen = await_workers(process, project.rng, workers)
    else:
        time.sleep(project.rng.uniform(0, seconds))
        chosen = [process.pid, *children(process.pid)]
    killed = kill(chosen) if process.poll() is None else 0
    return killed, project.wait(process)


def await_workers(process: "subprocess.Popen[bytes]", rng: random.Random, number: int) -> list[int]:
    """Some of the two processes that train, at a moment of their work."""
    while process.poll() is None:
        workers = [child for child in children(process.pid) if "spawn_main" in _words(child)]
        if len(workers) == 2:
            time.sleep(rng.uniform(0, 6))  # the first seconds go into imports
            return rng.sample(workers, number)
        time.sleep(0.02)
    return []


def children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _words(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def kill(pids: list[int]) -> int:
    """Kills processes; how many of them were there."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def stage_row(project: Project, stage: str, kills: int, of: str) -> Row:
    """Kills a stage again and again, each time where the last kill has left it, until it may finish."""
    began, project.tracebacks = time.monotonic(), 0
    seconds = project.seconds_of(stage)
    whole = project.digests(stage)
    done, same = 0, True
    while done < kills:
        killed, status = kill_stage(project, stage, seconds, WORKERS.get(of, 0))
        done += killed > 0
        if status == 0:
            same &= project.digests(stage) == whole
    same &= project.wait(project.start_stage(stage)) == 0 and project.digests(stage) == whole
    return Row(of, done, same, project.tracebacks, time.monotonic() - began)


def dvc_row(project: Project, kills: int, of: str) -> Row:
    """Kills `dvc repro` and what it runs, or dvc alone, and lets the next one finish."""
    began, project.tracebacks = time.monotonic(), 0
    started = time.monotonic()
    run(project.folder, "dvc", "repro", *TARGETS)
    seconds = time.monotonic() - started
    whole, lock = project.digests(*STAGES), (project.folder / "dvc.lock").read_text()
    done, same = 0, True
    while done < kills:
        for folder in ("data/tiny", "models/tiny", "metrics/tiny", ".dvc/cache", "dvc.lock"):
            subprocess.run(["rm", "-rf", project.folder / folder], check=True)
        process = project.start("dvc", "repro", *TARGETS)
        orphans = _kill_dvc(project, process, of, seconds)
        done += project.wait(process) == -signal.SIGKILL
        finish(project, orphans)
        same &= project.digests(*STAGES) == whole and (project.folder / "dvc.lock").read_text() == lock
    return Row(of, done, same, project.tracebacks, time.monotonic() - began)


def _kill_dvc(project: Project, process: "subprocess.Popen[bytes]", of: str, seconds: float) -> list[int]:
    """Kills dvc at its moment; what it leaves running."""
    if of == DVC[2]:
        for _ in range(project.rng.randint(1, len(STAGES))):
            await_writing(project.folder / "dvc.lock", process)
    else:
        time.sleep(project.rng.uniform(0.1, 1) * seconds)
    below = children(process.pid)
    if of == DVC[0]:
        kill([process.pid])
        return below
    kill([process.pid, *below])
    return []


def await_writing(lock: Path, process: "subprocess.Popen[bytes]") -> None:
    """Returns when dvc begins to write dvc.lock: it empties it first."""

    def state() -> tuple[int, int]:
        try:
            status = lock.stat()
        except FileNotFoundError:
            return (0, 0)
        return status.st_mtime_ns, status.st_size

    before = state()
    while process.poll() is None and state() == before:
        pass
    while process.poll() is None and state()[1] == 0 and state()[0] == before[0]:
        pass


def finish(project: Project, orphans: list[int]) -> None:
    """What a person would do: mend, then `dvc repro` until no stage of the killed dvc is under way any more."""
    run(project.folder, sys.executable, "-m", "tools.mend_lock")
    while project.wait(project.start("dvc", "repro", *TARGETS)) != 0:
        if not any(psutil.pid_exists(pid) for pid in orphans):
            if not orphans:
                raise SystemExit("dvc repro fails after a kill, though nothing of it is left running")
            orphans = []  # the last of them may have ended while dvc ran: once more
        time.sleep(0.5)


def rows(kills: int, of: list[str], seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="kill-test-") as name:
        folder = Path(name)
        project = Project(folder / "one", TRAIN, seed)
        last = max((STAGES.index(stage) for stage in of if stage in STAGES), default=-1)
        for stage in STAGES[: last + 1]:
            if stage in of:
                yield stage_row(project, stage, kills, stage)
            else:
                project.seconds_of(stage)
        if set(WORKERS) & set(of):
            two = Project(folder / "two", TWO, seed)
            for stage in STAGES[: STAGES.index("train")]:
                two.seconds_of(stage)
            for kind in (kind for kind in WORKERS if kind in of):
                yield stage_row(two, "train", kills, kind)
        if set(DVC) & set(of):
            quick = Project(folder / "dvc", TINY["train"], seed)
            for kind in (kind for kind in DVC if kind in of):
                yield dvc_row(quick, kills, kind)


@terminal.program()
def main() -> None:
    everything = [*STAGES, *WORKERS, *DVC]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--of", nargs="+", choices=everything, default=everything, help="what is killed; all of it")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| killed | kills | same bytes | tracebacks | seconds |\n|---|---|---|---|---|")
    good = True
    for row in rows(given.kills, given.of, given.seed):
        same = "yes" if row.same else "NO"
        print(f"| {row.of} | {row.kills} | {same} | {row.tracebacks} | {row.seconds:.0f} |", flush=True)
        good &= row.same and not row.tracebacks
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
