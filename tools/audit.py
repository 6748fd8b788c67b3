"""Asks the package index which of the pinned packages have known vulnerabilities.

    python -m tools.audit          # as `make audit` does

Exits with 3 when a vulnerability is known, 1 when the index could not be asked about each package, else 0.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.lib.core import sources, terminal
from stages.lib.core.errors import UserError

PINNED = sources.ROOT / "requirements-dev.txt"
# The pins are complete: pip need not resolve them, and nothing is downloaded.
COMMAND = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off"]


def verdict(answers: list[dict[str, Any]]) -> str:
    """One line for each known vulnerability.

    Args:
        answers: Of pip-audit, about one package each.

    Raises:
        UserError: Nothing is known of a package; pip-audit alone calls that "No known vulnerabilities found".
    """
    found = [(answer, flaw) for answer in answers for flaw in answer.get("vulns", ())]
    lines = [f"{of['name']} {of['version']}: {flaw['id']}, {_mended(flaw['fix_versions'])}" for of, flaw in found]
    unknown = [answer["name"] for answer in answers if "skip_reason" in answer]
    if unknown or not answers:
        few = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise UserError(
            "\n".join([*lines, f"the index told nothing of {len(unknown)} of {len(answers)} packages: {few}"])
        )
    return "\n".join(lines)


def _mended(versions: list[str]) -> str:
    return f"mended in {', '.join(versions)}: make upgrade" if versions else "not mended yet"


def ask(requirements: Path) -> list[dict[str, Any]]:
    """pip-audit's answers, one for each package.

    Raises:
        UserError: The index can't be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        answered = Path(folder) / "answers.json"
        command = [*COMMAND, "--requirement", str(requirements), "--format=json", f"--output={answered}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not answered.exists():
            last = done.stderr.strip().rpartition("\n")[2]
            raise UserError(f"nothing was audited: the index could not be asked\n{last}")
        return json.loads(answered.read_text())["dependencies"]


@terminal.program()
def main() -> None:
    answers = ask(PINNED)
    found = verdict(answers)
    print(found or f"no vulnerability is known of {len(answers)} packages")
    sys.exit(3 if found else 0)


if __name__ == "__main__":
    main()
