"""What the sections share: the strict dataclass and the ranges that several of them use."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

section = dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
"""Decorates a section: frozen, unknown keys refused, no value coerced (a JSON list is taken for a tuple)."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Threads = Annotated[int, Field(ge=0)]
