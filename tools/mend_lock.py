"""Mends what a killed dvc can leave half-written: dvc.lock, without which no dvc command works, and its own lock.

    python -m tools.mend_lock          # as `make repro` does first; says nothing where there is nothing to mend

dvc.lock keeps the stages that are whole in it; the others are as git's HEAD has them. Every such entry was true once,
and dvc compares it with the files before it believes it: a stage that ran since is fetched from dvc's run cache, or
runs again. The broken file stays beside it as dvc.lock.broken.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError

LOCK, BROKEN, RWLOCK = Path("dvc.lock"), Path("dvc.lock.broken"), Path(".dvc/tmp/rwlock")
ENTRY = re.compile(r"^  (\S.*):\n", re.MULTILINE)  # where a stage begins in dvc.lock
CONFLICT = re.compile(r"^<<<<<<< ", re.MULTILINE)
HEADER = "schema: '2.0'\nstages:\n"


@terminal.program()
def main() -> None:
    for line in (mend_rwlock(), mend()):
        if line:
            print(line, file=sys.stderr)


def mend() -> str:
    """Mends dvc.lock of this folder, if it must be; a sentence on what was done.

    Raises:
        UserError: It holds git's marks of a conflict, which a person must resolve.
    """
    if not LOCK.exists():
        return ""
    text = LOCK.read_text(encoding="utf-8", errors="replace")
    if CONFLICT.search(text):
        raise UserError(
            f"{LOCK} has conflicts of a git merge: take one side (git checkout --ours {LOCK}), then dvc repro"
        )
    head = committed()
    if text and text == head:
        return ""
    own, known, wanted = entries(text), entries(head), wanted_stages()
    lacks = [name for name in known if name not in own and _is_wanted(name, wanted)]
    last = next(reversed(own), "")
    is_cut_off = known.get(last, "").startswith(own.get(last, "")) and own.get(last) != known.get(last)
    if is_readable(text) and not lacks and not is_cut_off:
        return ""
    own.pop(last, None)  # nothing tells whether it is whole
    lost = {name: known[name] for name in known if name not in own and _is_wanted(name, wanted)}
    order = [name for name in known if name in own or name in lost]
    order += [name for name in own if name not in known]
    outs.write_bytes(BROKEN, LOCK.read_bytes())
    if order:
        outs.write_bytes(LOCK, (HEADER + "".join((own | lost)[name] for name in order)).encode())
    else:  # dvc takes a lock without a stage for a damaged one
        LOCK.unlink()
    return (
        f"{LOCK} was incomplete, as after a kill while dvc wrote it: {len(own)} stages are as it had them, {len(lost)} "
        f"as of git's HEAD; what ran since comes from dvc's run cache, or runs again ({BROKEN} is what it was)"
    )


def entries(text: str) -> dict[str, str]:
    """The lines of each stage in the text of a dvc.lock, by the stage's name."""
    starts = [*ENTRY.finditer(text)]
    ends = [*(start.start() for start in starts), len(text)][1:]
    return {start[1]: text[start.start() : end] for start, end in zip(starts, ends, strict=True)}


def is_readable(text: str) -> bool:
    """Whether dvc can read it as a dvc.lock."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # here, as it takes a third of a second
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except (YAMLError, Invalid):
        return False
    return text.endswith("\n")


def committed() -> str:
    """The text of dvc.lock in git's HEAD; "" where there is none."""
    done = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def wanted_stages() -> dict[str, list[str]]:
    """The stages of dvc.yaml that are made for datasets, and those datasets; of a study's stages, the entries of
    studies.yaml.
    """
    yaml = YAML(typ="safe", pure=True)
    pipeline = yaml.load(Path("dvc.yaml"))
    known = yaml.load(Path("params.yaml"))
    for path in pipeline.get("vars") or []:
        known |= yaml.load(Path(path))
    return {
        name: each["foreach"] if isinstance(each["foreach"], list) else list(known[each["foreach"].strip("${}")])
        for name, each in pipeline["stages"].items()
        if "foreach" in each
    }


def _is_wanted(name: str, wanted: dict[str, list[str]]) -> bool:
    stage, _, dataset = name.partition("@")
    return dataset in wanted.get(stage, [])


def mend_rwlock() -> str:
    """Removes dvc's list of who reads and writes what, where dvc was killed while it wrote it; a sentence about it."""
    for wait in (0.5, 0):  # another dvc may be writing it just now
        try:
            json.loads(RWLOCK.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return ""
        except ValueError:
            time.sleep(wait)
        else:
            return ""
    RWLOCK.unlink(missing_ok=True)
    return f"{RWLOCK} was half-written, as after a kill of dvc: removed"


if __name__ == "__main__":
    main()
