"""Classes of a library chosen in params.yaml: their arguments are checked before they are made."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint

REFUSALS = (TypeError, ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError)


def make(key: str, kind: Any, given: Mapping[str, Any], supplied: Mapping[str, Any], owner: str = "train") -> Any:
    """An instance of `kind` from the arguments given in params.yaml and those this project supplies.

    Args:
        owner: The section that the supplied ones come from.

    Raises:
        UserError: An argument is unknown, missing, supplied already, or refused by the class.
    """
    known = [name for name in inspect.signature(kind).parameters if name not in ("optimizer", "params")]
    for name in given:
        if name not in known:
            raise UserError(f"{key}.{name} is unknown to {kind.__name__}: {hint(name, known)}")
        if name in supplied:
            raise UserError(f"{key}.{name}: this one is filled in; use {owner}.{name} instead")
    with refusals(key, kind):
        return kind(**supplied, **{name: _plain(value) for name, value in given.items()})


@contextmanager
def refusals(key: str, kind: Any) -> Iterator[None]:
    """Turns what `kind` raises when it gets a wrong argument into a word to the user.

    Raises:
        UserError: It did.
    """
    try:
        yield
    except REFUSALS as error:
        raise UserError(f"{key}: {kind.__name__} refused it: {str(error).partition(chr(10))[0]}") from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # Adam's betas, and the like
