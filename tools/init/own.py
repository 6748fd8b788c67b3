"""Makes a clone of this repository somebody's own: without the demo data sets, with `upstream` for later versions."""

import re
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from stages.lib import command
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.core.terminal import shortened
from tools import mend_lock
from tools.init import block

UPSTREAM = "upstream"


def own() -> None:
    """Takes the demos out of params.yaml, dvc.yaml, dvc.lock, metrics/, data/ and models/, and commits that.

    Raises:
        UserError: There are changes that are not committed, or nothing to take out; nothing was changed.
    """
    check_clean()
    demos = [str(name) for name in mend_lock.wanted_stages()["sample"]]
    if not demos:
        raise UserError("the demo data sets have been taken out already")
    git("var", "GIT_AUTHOR_IDENT")  # git's message says how to set a name, before anything is changed
    params_text = command.PARAMS_YAML.read_text(encoding="utf-8")
    known = YAML(typ="safe", pure=True).load(params_text)["datasets"]
    blocks = block.without(params_text, [name for name in demos if name in known])
    stages = _without_demos(command.DVC_YAML.read_text(encoding="utf-8"), demos)
    outs.write_bytes(command.PARAMS_YAML, blocks.encode())
    outs.write_bytes(command.DVC_YAML, stages.encode())
    _write_lock(demos)
    for name in demos:
        for folder in ("metrics", "data/raw", "data", "models"):
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
    git("add", "--all")
    git("commit", "--quiet", "-m", "Take the demo data sets out\n\nBy python -m tools.init --own.")
    say(f"{' and '.join(demos)} are taken out, and that is committed.")
    remotes = git("remote").split()
    if "origin" in remotes and UPSTREAM not in remotes:
        git("remote", "rename", "origin", UPSTREAM)
        say(f"The remote origin is called {UPSTREAM} now; yours: git remote add origin <address>.")
    say(
        f"Later versions: git fetch {UPSTREAM}, then python -m tools.merge_upstream {UPSTREAM}/main.\n"
        "README.md still tells of the demos: it is yours to rewrite.\n"
        "Next: python -m tools.init NAME FOLDER"
    )


def check_clean() -> None:
    """Raises:
    UserError: There are changes that are not committed, new files among them.
    """
    if changed := git("status", "--porcelain").splitlines():
        files = shortened(", ".join(line[3:] for line in changed))
        raise UserError(f"git does not have all that is here ({files}): commit or stash it first")


def git(*arguments: str) -> str:
    """What a git command prints.

    Raises:
        UserError: It failed.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise UserError(f"git {arguments[0]} failed: {said}")
    return done.stdout


def _without_demos(text: str, demos: list[str]) -> str:
    """dvc.yaml whose stage `sample` makes nothing, and which names no model of the demos.

    Raises:
        UserError: The result would differ in more.
    """
    after = re.sub(r"(?m)^(  sample:\n    foreach: )\[.*\]$", r"\1[]", text)
    for name in demos:
        after = re.sub(rf"(?m)^  {re.escape(name)}: \{{path: .*\}}\n", "", after)
    yaml = YAML(typ="safe", pure=True)
    wanted, found = yaml.load(text), yaml.load(after)
    if found.get("artifacts", {}) is None:
        after = re.sub(r"(?m)^artifacts:", "artifacts: {}", after)
        found = yaml.load(after)
    wanted["stages"]["sample"]["foreach"] = []
    wanted["artifacts"] = {k: v for k, v in wanted.get("artifacts", {}).items() if k not in demos}
    if {"artifacts": {}} | found != wanted:
        raise UserError("dvc.yaml's stage sample or its artifacts were edited: take the demos out of them by hand")
    return after


def _write_lock(demos: list[str]) -> None:
    if not mend_lock.LOCK.exists():
        return
    kept = [
        text
        for stage, text in mend_lock.entries(mend_lock.LOCK.read_text(encoding="utf-8")).items()
        if stage.partition("@")[2] not in demos
    ]
    if any(not text.startswith("  check:") for text in kept):
        outs.write_bytes(mend_lock.LOCK, (mend_lock.HEADER + "".join(kept)).encode())
    else:
        mend_lock.LOCK.unlink()
