"""Merges a later version of the repository that this project was cloned from, and says what will run again.

    git fetch upstream
    python -m tools.merge_upstream upstream/main

Yours stay as they are: params.yaml, studies.yaml, dvc.lock and metrics/. In all other files, git merges as always;
where both sides changed the same lines, it leaves that to you. Before anything runs, the stages are named that the new
code concerns.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from stages.lib import params
from stages.lib.command import PARAMS_YAML
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from tools import repro
from tools.init.own import check_clean, git

OURS = ("params.yaml", "studies.yaml", "dvc.lock", "metrics")
SETUP = ("requirements.txt", "requirements-dev.txt", "pyproject.toml")


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.merge_upstream", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("revision", help="what to merge: upstream/main, or a tag of it")
    sys.exit(merge(parser.parse_args(argv).revision))


def merge(revision: str) -> int:
    """Merges and commits, unless git needs help; the exit status.

    Raises:
        UserError: There are changes that are not committed, or no such revision; nothing was changed.
    """
    check_clean()
    if revision.startswith("-") or not _succeeds("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
        raise UserError(f"'{revision}' is not known here: git fetch, then name a branch or tag, as upstream/main")
    if _succeeds("merge-base", "--is-ancestor", revision, "HEAD"):
        say(f"{revision} is merged already.")
        return 0
    if not _succeeds("merge-base", revision, "HEAD"):
        raise UserError(f"{revision} and this project have no commit in common: is it the repository of the clone?")
    before = git("rev-parse", "HEAD").strip()
    done = subprocess.run(
        ["git", "merge", "--no-commit", "--no-ff", revision], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode and not _succeeds("rev-parse", "--verify", "--quiet", "MERGE_HEAD"):
        raise UserError(f"git merge failed: {(done.stderr or done.stdout).strip()}")
    _take_ours()
    if conflicts := git("diff", "--name-only", "--diff-filter=U").splitlines():
        say(
            f"Both sides changed the same lines of {', '.join(conflicts)}: mend them, git add them, git commit, and "
            f"`dvc status` tells what will run. {', '.join(OURS)} are as they were. To undo all: git merge --abort"
        )
        return 1
    changed = set(git("diff", "--cached", "--name-only").splitlines())
    git(
        "commit",
        "--quiet",
        "-m",
        f"Merge {revision}\n\nparams.yaml, studies.yaml, dvc.lock and metrics/ stay this project's.",
    )
    say(f"{revision} is merged; git reset --hard {before[:10]} undoes it.")
    if needed := changed & set(SETUP):
        say(f"{', '.join(sorted(needed))} changed: run `make setup` first.")
    try:
        params.load(PARAMS_YAML)
    except UserError as error:
        say(f"params.yaml needs a hand, as keys have changed (CHANGELOG.md):\n{error}")
        return 1
    for line in repro.planned():
        say(line)
    return 0


def _take_ours() -> None:
    """In the index and on disk, `OURS` are as in HEAD: nothing of them is a conflict or new."""
    git("reset", "--quiet", "HEAD", "--", *OURS)
    if kept := [path for path in OURS if _succeeds("cat-file", "-e", f"HEAD:{path}")]:
        git("checkout", "--quiet", "HEAD", "--", *kept)
    git("clean", "-fdq", "--", *OURS)


def _succeeds(*arguments: str) -> bool:
    return subprocess.run(["git", *arguments], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
