"""The exception for people: a mistake that the user can mend."""


class UserError(Exception):
    """A user's mistake: the message names the file or key, what was expected, and the way out.

    `core.terminal.program` prints it without a traceback and exits 1; any other exception is a bug of this project
    and keeps its traceback.
    """
