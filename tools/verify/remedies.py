"""How to mend what differs, as commands.

They remove a damaged file first: `dvc checkout --force` and `git checkout` leave one alone whose size and time are as
they were, and `dvc repro --force` replaces a good out by a damaged object of the cache.
"""

import shlex

from tools.verify.recorded import Recorded

Faults = dict[str, str]  # what is wrong, by path from the root of the repository
MISSING = "missing"
FEW = 5  # files that a command names one by one


def of_cache(record: Recorded, faults: Faults, is_sound: bool) -> str:
    """Args: is_sound: Whether all files of the same stage are as recorded."""
    if is_sound:
        commit = f"`dvc commit {shlex.quote(record.by)}`, as {record.path} itself is sound and is copied there again"
        return _then(_removal(faults), commit)
    return _then(_removal(faults), f"what is said of {record.path} below")


def of_others(faults: Faults) -> str:
    """For objects of other commits."""
    return _then(_removal(faults), "`dvc fetch --all-commits`, if a remote has them")


def of_files(record: Recorded, faults: Faults, is_cached: bool) -> str:
    """Args: is_cached: Whether the cache holds all that was recorded, sound."""
    by, path = shlex.quote(record.by), shlex.quote(record.path)
    if not record.is_made:
        again, meant = f"restore {path} from where it came from", "; if the change is meant: `touch` the changed files"
        meant += f", `dvc add {path}`, `dvc repro`" if record.cache is not None else ", `dvc repro`"
    else:
        again, meant = f"`dvc repro --force {by}`", ""
    if record.cache is None:
        kept = _then(f"`rm -rf {path}`", f"`git checkout -- {path}`, or {again}")
        return kept if record.is_made else again + meant
    if is_cached:
        return _then(_removal(faults, path), f"`dvc checkout {path}`") + meant
    return _then(f"`rm -rf {path}`", f"`dvc pull {by}` if a remote has it, else {again}") + meant


def _removal(faults: Faults, whole: str = "") -> str:
    """Args: whole: What may be removed instead of many files."""
    paths = [shlex.quote(path) for path, why in faults.items() if why != MISSING]
    if len(paths) > FEW:
        return f"`rm -rf {whole}`" if whole else "remove these files"
    return f"`rm -rf {' '.join(paths)}`" if paths else ""


def _then(*steps: str) -> str:
    return ", then ".join(filter(None, steps))
