"""Checks the metadata that a file says of itself before anything is computed, allocated or printed from it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.lib.core.errors import UserError
from stages.lib.params.ingest import READING
from stages.lib.targets import Kind, Target

Size = Annotated[int, Field(ge=1, le=65_536)]
Millimetres = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Dtype = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64"]
Sizes = Annotated[list[Size], Field(min_length=3, max_length=4)]
Spacing = Annotated[list[Millimetres], Field(min_length=2, max_length=3)]
Name = Annotated[str, Field(max_length=1020)]  # "diameter high" is one, too
Names = Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=100_000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NUMBERS = 2**31  # of a sample, at most


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class Input(_Strict):
    """As `stages.lib.export.metadata.contract` writes it."""

    inputs: list[Literal["input", "spacing_mm"]] = Field(min_length=1, max_length=2)
    axes: Literal["NCHW", "NCDHW"]
    channels: list[Size] = Field(min_length=1, max_length=2)
    size: Literal["fitted", "any"]
    shape: Sizes
    dtype: Dtype
    units: str = Field(max_length=32)
    spacing_mm: Spacing | None
    transparency: Literal["reject", "black", "white"] = "reject"
    colour: Literal["auto", "grey_mean", "grey_luminance", "rgb"] = "auto"

    reading: dict[str, str | bool | int | float | Spacing] = {}

    @field_validator("reading")
    @classmethod
    def _is_known(cls, given: dict[str, Any]) -> dict[str, Any]:
        if strange := given.keys() - set(READING):
            raise ValueError(f"{min(strange)} does not say how a file is read")
        return given

    @model_validator(mode="after")
    def _agrees(self) -> "Input":
        numbers = 1
        for size in self.shape:
            numbers *= size
        if numbers > NUMBERS:
            raise ValueError(f"a sample of {numbers} numbers is too large")
        if len(self.shape) != len(self.axes) - 1 or len(self.spacing_mm or self.shape[1:]) != len(self.shape) - 1:
            raise ValueError("its axes, shape and spacing_mm are of different dimensions")
        if "spacing_mm" in self.inputs and self.spacing_mm is None:
            raise ValueError("it takes a spacing_mm, but has none")
        return self


class GeometryArguments(_Strict):
    """Of `stages.lib.geometry.Geometry`."""

    colour: Literal["keep", "rgb", "grey_mean", "grey_luminance"]
    resize: Size | None
    spacing_mm: Spacing | None
    shape: list[Size] = Field(min_length=2, max_length=3)
    fill: float = Field(allow_inf_nan=False)
    dtype: Dtype
    fit: Literal["crop", "pad", "stretch"] = "crop"


class Asked(_Strict):
    """As of `stages.lib.tensors`."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    names: Names
    unit: Annotated[str, Field(max_length=100)]
    mean: Finite
    deviation: Annotated[Finite, Field(gt=0)]

    @model_validator(mode="after")
    def _is_one(self) -> "Asked":
        self.target.check()
        return self

    @property
    def target(self) -> Target:
        return Target(self.kind, tuple(self.names), self.unit)


class Settings(_Strict):
    """What is used of `stages.lib.model.deployed.Settings`."""

    thresholds: list[Annotated[float, Field(ge=0, le=1)]] = []
    half_width: Annotated[Finite, Field(ge=0)] = 0.0


class About(_Strict):
    """What is used of a file's metadata; the rest is for people."""

    classes: Names
    input: Input
    geometry: GeometryArguments
    target: Asked | None = None
    outputs: list[Name] | None = None
    deployed: Settings = Settings()

    @model_validator(mode="after")
    def _answers(self) -> "About":
        labels = 0
        if self.target is None:
            if self.outputs is not None:
                raise ValueError("it has outputs, but no target")
        elif self.target.names != self.classes or self.outputs != self.target.target.outputs:
            raise ValueError("its classes and outputs are not those of its target")
        elif self.target.kind == "multilabel":
            labels = len(self.classes)
        if len(self.deployed.thresholds) not in (0, labels):
            raise ValueError("it has not a threshold for each label")
        return self


def checked(metadata: Any, path: Path) -> dict[str, Any]:
    """The metadata, which is as the export stage writes it.

    Raises:
        UserError: It is not; the message names the first place.
    """
    try:
        About.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise UserError(
            f"{path}: the metadata in the file are not as this project writes them ({place}: {first['msg']}): export "
            "the model again"
        ) from None
    return metadata
