"""Sections of params.yaml: strict frozen dataclasses, the ranges that they share, and messages that name the key.

A section declares each key once, with type, default, range, unit and meaning; from that follow the checks, the JSON
schema that editors use, and docs/params.md:

    @section
    class SplitParams:
        test: Fraction = 0.15
        "Fraction of the cases."
"""

import dataclasses
import json
import re
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from stages.lib.core.nearest import closest, hint

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

Section = TypeVar("Section")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def section(declared: type[Section]) -> type[Section]:
    """Makes a section of a class: frozen, unknown keys refused, no value coerced (a JSON list is taken for a tuple)."""
    return dataclass(frozen=True, config=STRICT)(declared)  # type: ignore[return-value]


def unit(name: str) -> Any:
    """What a number is measured in, for the documentation: `Annotated[Count, unit("pixels")]`."""
    return Field(json_schema_extra={"unit": name})


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1), unit("fraction")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]  # what torch takes
Threads = Annotated[int, Field(ge=0)]


def check(section: Any, given: Any) -> Any:
    """A section made from plain values, strictly: "1" and true are no integers; 1 is a float, too.

    A section in which some keys decide what others are by default has a static method `completed` that fills them in.

    Raises:
        ValidationError: A key is unknown, or a value of a wrong type or out of range.
    """
    given = section.completed(given) if hasattr(section, "completed") else given
    # JSON mode is the strict mode that takes a list for a tuple.
    return TypeAdapter(section).validate_json(json.dumps(given if given is not None else {}, default=str), strict=True)


def checked(section: Any, given: Any, key: str) -> tuple[Any, list[str]]:
    """The section, or None and what is wrong: one message per key, spelt from `key` on as the user typed it."""
    try:
        return check(section, given), []
    except ValidationError as error:
        # A list that is two numbers short is told once.
        return None, list(dict.fromkeys(_message(dict(one), section, key) for one in error.errors()))


def _message(error: dict[str, Any], section: Any, key: str) -> str:
    """One of pydantic's errors in the words of params.yaml."""
    location = error["loc"]
    spelt = ".".join([key, *(str(part) for part in location)])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown(spelt, str(location[-1]), _keys_at(section, location[:-1]))
    if error["type"] == "value_error":  # raised by a __post_init__, whose text says all
        return f"{spelt}: {error['ctx']['error']}"
    whole = location[:-1] if error["type"] == "missing" else location
    if error["type"] in ("tuple_type", "missing", "too_long") and (of := _list_at(section, whole)):
        spelt, given = ".".join([key, *(str(part) for part in whole)]), error["input"]
        if of[-1] is not Ellipsis:
            example = ", ".join(str(i + 1) for i in range(len(of)))
            return f"{spelt} is {given!r}: expected a list of {len(of)} numbers, as [{example}]"
        if isinstance(given, (str, int, float)):
            return f"{spelt} is {given!r}: expected a list, as [{given}]"
    expected = error["msg"].removeprefix("Input should be ")
    if error["type"] == "literal_error":
        close = closest(error["input"], re.findall("'([^']*)'", expected))
        expected = f"{close}, or another of {expected}" if close else expected
    return f"{spelt} is {error['input']!r}: expected {expected}"


def unknown(spelt: str, word: str, known: Any) -> str:
    """The message about a key that does not exist, with the nearest one that does."""
    near = hint(word, known, cutoff=0.5)
    return f"{spelt} is unknown{': ' if near else ''}{near}"


def _list_at(section: Any, location: tuple[int | str, ...]) -> tuple[Any, ...]:
    """What a list at a location is of: a type for each value, or one and `...`; () where none is expected."""
    section = _section_at(section, location[:-1]) if location else None
    hint_of_part = get_type_hints(section).get(str(location[-1])) if section is not None else None
    return next((get_args(c) for c in (hint_of_part, *get_args(hint_of_part)) if get_origin(c) is tuple), ())


def _keys_at(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the (nested) section at a location."""
    section = _section_at(section, location)
    return [] if section is None else [field.name for field in dataclasses.fields(section)]


def _section_at(section: Any, location: tuple[int | str, ...]) -> Any:
    """The (nested) section at a location; None where there is none."""
    for part in location:
        hint_of_part = get_type_hints(section).get(str(part))
        section = next((c for c in (hint_of_part, *get_args(hint_of_part)) if dataclasses.is_dataclass(c)), None)
        if section is None:
            return None
    return section
