"""The exceptions for people: mistakes that the user can mend."""

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
