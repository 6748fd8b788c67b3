"""Reads raw data, outs and the cache, and names what is not as dvc.lock and the cache say; exit 1 if anything differs.

python -m tools.verify           # everything, the cache's objects of earlier commits included
python -m tools.verify digits    # what dvc.lock says of this dataset

Run it while nothing else works on the project.
"""

import argparse
import sys
import time

from stages.lib.core import terminal
from stages.lib.workers import count
from tools.verify.findings import Finding, findings
from tools.verify.hashes import Hashes
from tools.verify.recorded import open_repository, recorded

LINES = 10  # files that are named of one finding, at most


@terminal.program()
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", help="blocks of params.yaml's `datasets`; left out: all")
    datasets = parser.parse_args().datasets
    began = time.perf_counter()
    with open_repository() as repo:
        records, notes = recorded(repo, datasets)
        hashes = Hashes(count(0))
        found = list(findings(repo, records, hashes, whole_cache=not datasets))
    for finding in found:
        _say(finding)
    for note in notes:
        print(note)
    seconds, megabytes = time.perf_counter() - began, hashes.bytes / 1e6
    number = sum(len(finding.faults) for finding in found)
    read = f"{hashes.files} files, {megabytes:.0f} MB in {seconds:.1f} s ({megabytes / seconds:.0f} MB/s)"
    print(f"{read}: " + (f"{number} differ" if found else "all as recorded"))
    return 1 if found else 0


def _say(finding: Finding) -> None:
    for path, why in list(finding.faults.items())[:LINES]:
        print(f"{path}: {why}")
    if len(finding.faults) > LINES:
        print(f"... and {len(finding.faults) - LINES} more")
    print(f"    to mend it: {finding.remedy}")


if __name__ == "__main__":
    sys.exit(main())
