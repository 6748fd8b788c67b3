"""A revision of the repository, read without checking it out."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core.errors import UserError

COMMIT_DIGITS = 10  # fixed, since git's own choice grows with the clone


@dataclass(frozen=True)
class Revision:
    """A commit, or the working tree where `commit` is None: what git tracks there, and nothing else."""

    name: str
    commit: str | None
    root: Path

    def __str__(self) -> str:
        """For messages: `main (1a2b3c4d5e)`."""
        short = (self.commit or "")[:COMMIT_DIGITS]
        return self.name if not short or self.commit and self.commit.startswith(self.name) else f"{self.name} ({short})"

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None where the revision has no such file."""
        if self.commit is None:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        shown = _git(self.root, "cat-file", "blob", f"{self.commit}:{path}")
        return shown.stdout if shown.returncode == 0 else None

    def paths(self) -> list[str]:
        """All files, sorted; of the working tree also those that are new and not ignored."""
        if self.commit is None:
            listed = _git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        else:
            listed = _git(self.root, "ls-tree", "-r", "-z", "--name-only", self.commit)
        names = {name for name in listed.stdout.decode().split("\0") if name}
        return sorted(name for name in names if self.commit or (self.root / name).is_file())

    def export(self, folder: Path) -> None:
        """Writes all files of the revision under a folder."""
        if self.commit is None:
            for name in self.paths():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((self.root / name).read_bytes())
            return
        # By git, which writes through no link; unpacking an archive safely takes Python 3.11.4.
        with tempfile.TemporaryDirectory() as place:
            index = f"{place}/index"
            _git(self.root, "read-tree", self.commit, index=index)
            _git(self.root, "checkout-index", "--all", f"--prefix={folder.absolute()}/", index=index)


def find_root(start: Path) -> Path:
    """The top folder of the git repository that holds a folder.

    Raises:
        UserError: There is none.
    """
    found = _git(start, "rev-parse", "--show-toplevel")
    if found.returncode:
        raise UserError("this is no git repository: run the report where the project was cloned")
    return Path(found.stdout.decode().strip())


def resolve_pair(root: Path, base: str, head: str | None) -> tuple[Revision, Revision]:
    """The two revisions to compare; `main...` or `main...topic` takes the commit where topic left main.

    Args:
        base: A branch, tag, commit or DVC experiment.
        head: The same; None for the working tree.

    Raises:
        UserError: A revision is not known here, with what to fetch.
    """
    if "..." in base and head is None:
        base, _, head = base.partition("...")
        return _from_merge_base(root, base, head or None)
    return resolve(root, base), resolve(root, head)


def resolve(root: Path, name: str | None) -> Revision:
    """Finds a branch, tag, commit or DVC experiment; None is the working tree."""
    if name is None:
        return Revision("working tree", None, root)
    commit = _commit(root, name) or _experiment(root, name)
    if commit is None:
        raise UserError(_unknown(root, name))
    return Revision(name, commit, root)


def commits_ahead(base: Revision, head: Revision) -> int:
    """How many commits the base has that the head lacks; 0 also if a shallow clone does not have the history."""
    counted = _git(base.root, "rev-list", "--count", f"{head.commit or 'HEAD'}..{base.commit}")
    same_line = _git(base.root, "merge-base", head.commit or "HEAD", base.commit or "HEAD")
    return int(counted.stdout) if counted.returncode == 0 and same_line.returncode == 0 else 0


def _from_merge_base(root: Path, base: str, head: str | None) -> tuple[Revision, Revision]:
    before, after = resolve(root, base), resolve(root, head)
    parted = _git(root, "merge-base", before.commit or "HEAD", after.commit or "HEAD")
    if parted.returncode:
        raise UserError(
            f"the commit where {after.name} left {base} is not in this clone"
            + (": git fetch --unshallow" if _shallow(root) else f": they share no history; compare with {base} itself")
        )
    return Revision(f"where {after.name} left {base}", parted.stdout.decode().strip(), root), after


def _unknown(root: Path, name: str) -> str:
    branch, ancestors = re.fullmatch(r"(.*?)((?:\^\d*|~\d*)*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if _shallow(root):
        fetch = f"git fetch --depth=1 origin {name}:refs/remotes/origin/{name}, then compare with origin/{name}"
        if ancestors and _commit(root, branch):
            fetch = "git fetch --deepen=1 (on GitHub Actions: actions/checkout with fetch-depth: 2)"
        return f"{name} is not in this clone, which is shallow: {fetch}"
    if _commit(root, f"origin/{name}"):
        return f"{name} is no branch of this clone: compare with origin/{name}"
    if ancestors and _commit(root, branch):
        return f"{name}: the history of {branch} does not go back that far; compare with a commit that exists"
    return f"{name} is no branch, tag, commit or experiment here: git fetch, or see git branch --all and dvc exp list"


def _commit(root: Path, name: str) -> str | None:
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
    return found.stdout.decode().strip() if found.returncode == 0 and found.stdout else None


def _experiment(root: Path, name: str) -> str | None:
    """The commit of a DVC experiment: its name is the last part of refs/exps/<2 digits>/<38 digits>/<name>."""
    found = _git(root, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}")
    commits = found.stdout.decode().split()
    if len(commits) > 1:
        raise UserError(f"{name} names {len(commits)} experiments, of different commits: give the commit of one")
    return commits[0] if commits else None


def _shallow(root: Path) -> bool:
    return _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def _git(root: Path, *arguments: str, index: str = "") -> subprocess.CompletedProcess[bytes]:
    """Args: index: A file to use in place of the repository's index."""
    env = os.environ | ({"GIT_INDEX_FILE": index} if index else {})
    return subprocess.run(["git", *arguments], cwd=root, env=env, capture_output=True, check=False)
