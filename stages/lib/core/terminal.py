"""What a program prints does nothing to a terminal, whatever stands in names of classes and files and in metadata.

A file's name may hold an escape sequence that clears the screen or renames the window, a carriage return that hides
what stood before it, a mark that turns the direction of writing round, or bytes that are no text at all.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from stages.lib.core.errors import UserError

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories: control, format, surrogate; ends of lines, paragraphs
JOINERS = "\u200c\u200d"  # of Persian and Indic words, and of emoji
UNREAD = 128 + 13  # the exit status of a program whose output nobody reads any more
SHORT = 200  # characters of a list, in a message
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def shown(text: object) -> str:
    """A name on one line, with what cannot be seen spelt as JSON spells it: `\\u001b`, `\\n`."""
    return _SUSPECT.sub(lambda found: _visible(found[0]), str(text))


def shortened(text: str) -> str:
    """The beginning of a list that may be long."""
    return text if len(text) <= SHORT else f"{text[:SHORT]}..."


@contextmanager
def program() -> Iterator[None]:
    """Around a program's main: escapes what it prints; a user's mistake exits 1 with one message, Ctrl-C with 130, and
    output that nobody reads any more, as of `| head`, with 141, all as a shell tells it."""
    escape_output()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # what is left in the buffer would raise again at the end
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.exit(UNREAD)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def escape_output() -> None:
    """From here on, stdout and stderr escape all but ends of lines and tabs: tracebacks and warnings, too."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Escaping):
            setattr(sys, name, _Escaping(stream))


def raw(stream: TextIO) -> TextIO:
    """The stream behind an escaping one, for a progress bar, which moves the cursor."""
    return stream.behind if isinstance(stream, _Escaping) else stream


class _Escaping:
    """A stream that escapes what is written; in all else it is the one behind it."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def write(self, text: str) -> int:
        escaped = _SUSPECT.sub(lambda found: found[0] if found[0] in "\n\t" else _visible(found[0]), text)
        encoding = getattr(self.behind, "encoding", None) or "utf-8"
        self.behind.write(escaped.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def _visible(char: str) -> str:
    hidden = unicodedata.category(char) in UNSEEN and char not in JOINERS
    return json.dumps(char)[1:-1] if hidden else char
