"""Makes an object of a torch class that params.yaml names, and turns a refused argument into a clear message."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint

REFUSALS = (TypeError, ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError)


def make(key: str, cls: Any, given: Mapping[str, Any], supplied: Mapping[str, Any], owner: str = "train") -> Any:
    """An object of the class, from the arguments in params.yaml and those that this project supplies.

    Args:
        key: Where in params.yaml the arguments are.
        owner: The section that the supplied arguments come from.

    Raises:
        UserError: An argument is unknown, missing or supplied already, or the class refuses its value.
    """
    known = [name for name in inspect.signature(cls).parameters if name not in ("optimizer", "params")]
    for name in given:
        if name not in known:
            raise UserError(f"{key}.{name} is unknown to {cls.__name__}: {hint(name, known)}")
        if name in supplied:
            raise UserError(f"{key}.{name}: this one is filled in; use {owner}.{name} instead")
    with refusals(key, cls):
        return cls(**supplied, **{name: _plain(value) for name, value in given.items()})


@contextmanager
def refusals(key: str, cls: Any) -> Iterator[None]:
    """Turns what the class raises for a wrong argument into a message that names the key and the class.

    Raises:
        UserError: The class raised one of `REFUSALS`.
    """
    try:
        yield
    except REFUSALS as error:
        raise UserError(f"{key}: {cls.__name__} refused it: {str(error).partition(chr(10))[0]}") from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # Adam's betas, and the like
