"""Suggestions for a misspelt name: "did you mean width?"."""

import difflib
from collections.abc import Iterable


def closest(word: object, known: Iterable[object], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a word; None where none is like it.

    Args:
        cutoff: How alike they must be, 0 to 1, as in `difflib.get_close_matches`.
    """
    return next(iter(difflib.get_close_matches(str(word), [str(name) for name in known], 1, cutoff)), None)


def hint(word: object, known: Iterable[object], cutoff: float = 0.6) -> str:
    """What a message adds about an unknown name: "did you mean width?", else "known are width, depth"."""
    names = [str(name) for name in known]
    if close := closest(word, names, cutoff):
        return f"did you mean {close}?"
    return f"known are {', '.join(names)}" if names else ""
