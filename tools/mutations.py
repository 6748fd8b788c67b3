"""What the fuzzers share: spoils bytes, tries many files in worker processes, and watches what happens.

A file goes wrong when its outcome is in capital letters: CRASHED where it ended its process, TOO_SLOW, TOO_LARGE, or
what the attempt says. Linux only: the peak memory of a process is read from /proc.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.progress import progress
from stages.lib.workers import Workers, quietly, singles

MAX_SECONDS = 10  # of processor time, which a busy machine does not stretch
MAX_WAITING_SECONDS = 300  # for something that never comes
MAX_MEBIBYTES = 2048
JOB_FILES = 25
Attempt = Callable[[int, int], str]
"""Makes and reads the file of a seed and a number, and says what came of it."""


class Result(NamedTuple):
    outcome: str  # such as "read", or the reason of the rejection
    seconds: float  # of processor time
    mebibytes: float  # peak memory of the process, above what it had before the file

    @property
    def wrong(self) -> bool:
        return self.outcome.partition(" ")[0].isupper()


def fuzz(
    attempt: Attempt, files: int, seed: int, crew: Workers, seconds: float = MAX_SECONDS
) -> tuple[list[Result], list[int]]:
    """Each file's result, and the numbers of those that went wrong.

    Args:
        seconds: Of processor time that a file may take.
    """
    chunks = [list(range(start, min(start + JOB_FILES, files))) for start in range(0, files, JOB_FILES)]
    crashed = Result("CRASHED", 0.0, 0.0)
    done = crew.run(
        partial(_try_all, attempt, seed, seconds), chunks, singles, lambda numbers: [crashed] * len(numbers)
    )
    results, wrong = [], []
    for number, result in progress(
        ((n, r) for chunk, found in done for n, r in zip(chunk, found, strict=True)), "fuzz", "file", files
    ):
        results.append(result)
        if result.wrong:
            wrong.append(number)
    return results, sorted(wrong)


def report(results: list[Result], wrong: list[int], seed: int) -> None:
    """Prints what came of the files; exits 1 if any went wrong."""
    for outcome, number in Counter(result.outcome for result in results).most_common():
        print(f"{number:7d}  {outcome}")
    slowest, most = max(r.seconds for r in results), max(r.mebibytes for r in results)
    print(f"slowest {slowest:.2f} s of processor time, most memory {most:.0f} MiB")
    if wrong:
        sys.exit(f"{len(wrong)} of {len(results)} files went wrong; numbers (seed {seed}): {wrong[:20]}")


def _try_all(attempt: Attempt, seed: int, seconds: float, numbers: list[int]) -> list[Result]:
    return quietly(lambda: [measured(partial(attempt, seed, number), seconds) for number in numbers])


def measured(attempt: Callable[[], str], most_seconds: float) -> Result:
    """The outcome, and what it took; one that takes too long ends the process, and so counts as crashed."""
    before = memory("VmRSS", reset=True)
    began = time.process_time()
    limits = {signal.ITIMER_PROF: 2 * most_seconds, signal.ITIMER_REAL: MAX_WAITING_SECONDS}
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for timer, seconds in limits.items():
        signal.setitimer(timer, seconds)
    try:
        outcome = attempt()
    finally:
        for timer in limits:
            signal.setitimer(timer, 0)
    seconds, mebibytes = time.process_time() - began, memory("VmHWM") - before
    if seconds > most_seconds or mebibytes > MAX_MEBIBYTES:
        outcome = f"{'TOO_SLOW' if seconds > most_seconds else 'TOO_LARGE'} {outcome}"
    return Result(outcome, seconds, mebibytes)


def memory(which: str, reset: bool = False) -> float:
    """Memory of the process in MiB: now (VmRSS), or the peak since the last reset (VmHWM); on Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips, overwrites, cuts or inserts bytes one to eight times, half of these near the header."""
    spoilt = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        size = len(spoilt)
        at = int(rng.integers(0, max(1, min(size, 600) if rng.random() < 0.5 else size)))
        length = int(rng.integers(1, 9))
        mutation = rng.integers(0, 6)
        if mutation == 0 and size > at:
            spoilt[at] ^= 1 << int(rng.integers(0, 8))
        elif mutation == 1:
            spoilt[at : at + length] = rng.bytes(length)
        elif mutation == 2:
            spoilt[at : at + length] = b"\xff" * length
        elif mutation == 3:
            del spoilt[at : at + length * 16]
        elif mutation == 4:
            spoilt[at:at] = rng.bytes(length)
        elif rng.random() < 0.3:
            del spoilt[at:]
    return bytes(spoilt)


class Watch:
    """What code this process runs, by Python's audit events: `strange` is what it did not run while it learnt."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: set[str] = set()
        sys.addaudithook(self._hear)  # stays as long as the process

    def learn(self, harmless: Callable[[], Any]) -> None:
        self._seen.clear()
        harmless()
        self._known |= self._seen

    def strange(self, run: Callable[[], Any]) -> list[str]:
        self._seen.clear()
        run()
        return sorted(self._seen - self._known)

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if event in ("import", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"):
            self._seen.add(f"{event} {details[0]!s:.80}")
        elif event in ("compile", "exec", "pickle.find_class", "ctypes.dlopen"):
            caller = sys._getframe(1).f_code  # text differs from file to file, but not who has it run
            self._seen.add(f"{event} by {caller.co_filename}:{caller.co_name}")
