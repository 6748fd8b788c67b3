"""Errors for people: a mistake that the user can mend, and what the operating system refused."""

import errno
import os
from pathlib import Path


class UserError(Exception):
    """A user's mistake: the message names the file or key, what was expected, and the way out.

    `core.terminal.program` prints it without a traceback and exits 1; any other exception is a bug of this project
    and keeps its traceback.
    """


class DamagedOut(UserError):
    """An out of an earlier stage is missing, or is not as that stage writes it.

    `stages.lib.command.in_full` adds the commands that bring it back.
    """

    def __init__(self, fault: str, *paths: Path) -> None:
        """`paths` are the outs that may be at fault: two or more where each is sound, but not beside the others."""
        super().__init__(fault, *paths)  # as they are, so that the error can be sent to another process
        self.fault, self.paths = fault, paths

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.paths))}: {self.fault}"


_RIGHTS = "give yourself the right to it, or take another place"
_PATH = "look at the path"
WAYS_OUT = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise `ulimit -f`, or take a file system that holds files of this size",
    errno.EROFS: "mount it for writing, or take another place",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: "look at the disk, which may be failing",
    errno.ESTALE: "look at the network drive",
    errno.ENODEV: "look at the drive",
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "end programs that hold many files open",
    errno.EAGAIN: "raise `ulimit -u`, or end other programs",
    errno.ENOMEM: "end other programs, or take a machine with more memory",
    errno.ENOENT: "run the stages before this one (dvc repro)",
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
    errno.ELOOP: "mend its symbolic links, which go round in a circle",
    errno.ENAMETOOLONG: "take shorter names",
    errno.ETXTBSY: "end the program that uses it",
}
"""What to do about the operating system's errors that are no bug of this project, by their number."""


def explain(error: OSError) -> str:
    """One line about an error of the operating system: path, what is wrong, its number, the way out.

    Args:
        error: Of a number in `WAYS_OUT`.
    """
    number = error.errno or 0
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    path = f"{' -> '.join(names)}: " if names else ""
    return f"{path}{os.strerror(number)} (errno {number}, {errno.errorcode[number]}): {WAYS_OUT[number]}"
