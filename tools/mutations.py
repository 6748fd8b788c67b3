"""What the fuzzers share: spoilt bytes, the time and memory that one takes, and many of them in worker processes."""

import argparse
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
from stages.lib.workers import Workers, count, quietly, singles

MAX_SECONDS = 10  # of processor time, which a busy machine does not stretch
MAX_MEBIBYTES = 2048
MAX_WAIT_SECONDS = 600  # of the clock: nothing is computed, so it waits for ever
JOB_FILES = 25


class Result(NamedTuple):
    outcome: str  # what became of the file; if that is wrong, it begins with a word in capitals
    seconds: float  # of processor time
    mebibytes: float  # peak memory of the process, above what it had before the file

    @property
    def wrong(self) -> bool:
        return self.outcome.partition(" ")[0].isupper()


CRASHED = Result("CRASHED", 0.0, 0.0)
Try = Callable[[int, int], Result]  # of a module's top level: makes and tries the file of a seed and a number


def command(doc: str, try_file: Try, files: int) -> None:
    """The command line of a fuzzer."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--files", type=int, default=files)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    with Workers(count(given.workers)) as crew:
        results = fuzz(try_file, given.files, given.seed, crew)
    report(results, given.seed)


def report(results: dict[int, Result], seed: int) -> None:
    """Prints what became of the files, and exits 1 if something went wrong."""
    for outcome, number in Counter(result.outcome for result in results.values()).most_common():
        print(f"{number:7d}  {outcome}")
    slowest, most = max(r.seconds for r in results.values()), max(r.mebibytes for r in results.values())
    print(f"slowest {slowest:.2f} s of processor time, most memory {most:.0f} MiB")
    if wrong := sorted(number for number, result in results.items() if result.wrong):
        sys.exit(f"{len(wrong)} of {len(results)} files went wrong; numbers (seed {seed}): {wrong[:20]}")


def fuzz(try_file: Try, files: int, seed: int, crew: Workers) -> dict[int, Result]:
    """Each file's result by its number."""
    chunks = [list(range(start, min(start + JOB_FILES, files))) for start in range(0, files, JOB_FILES)]
    done = crew.run(partial(_try_all, try_file, seed), chunks, singles, lambda numbers: [CRASHED] * len(numbers))
    flat = ((n, r) for chunk, found in done for n, r in zip(chunk, found, strict=True))
    return dict(progress(flat, "fuzz", "file", files))


def _try_all(try_file: Try, seed: int, numbers: list[int]) -> list[Result]:
    return quietly(lambda: [try_file(seed, number) for number in numbers])


def measured(function: Callable[[], str], most_seconds: float = MAX_SECONDS) -> Result:
    """What a function says, its time and its memory; one that takes far too long ends the process."""
    before = memory("VmRSS", reset=True)
    began = time.process_time()
    limits = {signal.ITIMER_PROF: most_seconds + MAX_SECONDS, signal.ITIMER_REAL: MAX_WAIT_SECONDS}
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the default ends the process: the file counts as crashed
    for timer, seconds in limits.items():
        signal.setitimer(timer, seconds)
    try:
        outcome = function()
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


def spoilt(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips, overwrites, cuts or inserts bytes one to eight times, half of these near the header."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        size = len(result)
        at = int(rng.integers(0, max(1, min(size, 600) if rng.random() < 0.5 else size)))
        length = int(rng.integers(1, 9))
        mutation = rng.integers(0, 6)
        if mutation == 0 and size > at:
            result[at] ^= 1 << int(rng.integers(0, 8))
        elif mutation == 1:
            result[at : at + length] = rng.bytes(length)
        elif mutation == 2:
            result[at : at + length] = b"\xff" * length
        elif mutation == 3:
            del result[at : at + length * 16]
        elif mutation == 4:
            result[at:at] = rng.bytes(length)
        elif rng.random() < 0.3:
            del result[at:]
    return bytes(result)


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
