"""dataset.h5: training-ready tensors of one shape and a compact dtype, to be memory-mapped.

Layout, with <split> one of train, validation, test:

    /<split>/x      (N, C, H, W) or (N, C, D, H, W), contiguous, the dataset's own integers (or float32)
    /<split>/y      (N,) int64: index into the classes
    /<split>/case   (N,) S16: the cases' identifiers, ascending
    /<split>/group  (N,) S16
    /<split>/target (N, K) float32: what is asked of each case, where that is more than one class; nan: not known
    /<split>/weight (N,) float32: how much each case counts, where they do not count alike
    /description    JSON, see `Description`, as a string of a fixed length
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import FiniteFloat

from stages.lib.core import hdf5, new_hdf5
from stages.lib.core.errors import UserError
from stages.lib.core.reading import parsed, reading
from stages.lib.splits import SPLITS, shared
from stages.lib.targets import Kind, Target

MOMENTS = ("minimum", "maximum", "mean", "deviation")


@dataclass(frozen=True)
class GeometryArguments:
    """The arguments of stages.lib.geometry.Geometry."""

    colour: Literal["keep", "grey_mean", "grey_luminance", "rgb"]
    resize: int | None
    spacing_mm: list[float] | None
    shape: list[int]
    fill: FiniteFloat
    dtype: str
    fit: Literal["crop", "pad", "stretch"] = "crop"


@dataclass(frozen=True)
class Asked:
    """What a model is to answer: a `targets.Target`, and what is known of a number's values in the training split."""

    kind: Kind
    names: list[str]  # K
    unit: str = ""
    mean: FiniteFloat = 0.0  # of a number, or of its logarithm where that is what the model learns
    deviation: FiniteFloat = 1.0  # likewise; above 0

    @property
    def target(self) -> Target:
        return Target(self.kind, tuple(self.names), self.unit)

    def check(self) -> None:
        """Raises:
        ValueError: It is none that there can be.
        """
        self.target.check()
        if not self.deviation > 0:
            raise ValueError(f"description: the target's deviation is {self.deviation:g}")


@dataclass(frozen=True)
class Description:
    """The meaning of the tensors; it is copied into the checkpoint and into the exported files' metadata."""

    classes: list[str]
    axes: str  # "NCHW" or "NCDHW"
    shape: list[int]  # of one sample, without N
    dtype: str
    units: str  # "HU", or "" where the numbers have no unit
    spacing_mm: list[float] | None  # along D, H, W (or H, W)
    geometry: dict[str, Any]  # arguments of stages.lib.geometry.Geometry: how a case became this shape
    moments: dict[str, list[float]]  # minimum, maximum, mean, deviation: of each channel of the training split's x
    target: dict[str, Any] | None = None  # an `Asked`; None: one class of several

    @property
    def asked(self) -> "Asked":
        """What the model is to answer."""
        return Asked("classes", list(self.classes)) if self.target is None else Asked(**self.target)

    def plain(self) -> dict[str, Any]:
        """As a dictionary, without what is not said."""
        return {name: value for name, value in asdict(self).items() if name != "target" or value is not None}

    def check(self) -> None:
        """Checks that the parts agree.

        Raises:
            ValueError: They do not.
        """
        geometry = parsed(json.dumps(self.geometry).encode(), GeometryArguments)
        sizes, spacing = self.shape[1:], self.spacing_mm
        if self.axes != {3: "NCHW", 4: "NCDHW"}.get(len(self.shape)) or min(self.shape) < 1:
            raise ValueError(f"description: {self.shape} is no shape of the axes {self.axes}")
        if self.dtype not in hdf5.PIXELS:
            raise ValueError(f"description: the dtype {self.dtype} is none of {', '.join(hdf5.PIXELS)}")
        if not self.classes or "" in self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError("description: a class has no name, or two have the same")
        if self.target is not None:
            asked = parsed(json.dumps(self.target).encode(), Asked)
            asked.check()
            if asked.names != self.classes:
                raise ValueError("description: the classes are not those of the target")
        if spacing is not None and not (len(spacing) == len(sizes) and all(0 < mm < math.inf for mm in spacing)):
            raise ValueError(f"description: {spacing} is no spacing along {self.axes[2:]}")
        if (geometry.shape, geometry.spacing_mm, geometry.dtype) != (sizes, spacing, self.dtype):
            raise ValueError("description: the geometry gives other tensors")
        numbers = [self.moments.get(name, []) for name in MOMENTS]
        if set(self.moments) != set(MOMENTS) or any(len(n) != self.shape[0] for n in numbers):
            raise ValueError(f"description: the moments are not {', '.join(MOMENTS)} of each channel")
        if not np.isfinite(numbers).all() or np.greater(numbers[0], numbers[1]).any() or min(numbers[3]) < 0:
            raise ValueError("description: the moments are impossible")


@dataclass(frozen=True)
class Split:
    """One split's tensors, memory-mapped and read-only: the system reads what is used, and may drop it again."""

    x: np.ndarray  # (N, C, H, W) or (N, C, D, H, W)
    y: np.ndarray  # (N,) int64
    case: np.ndarray  # (N,) S16
    group: np.ndarray  # (N,) S16
    target: np.ndarray | None = None  # (N, K) float32; None: the class alone
    weight: np.ndarray | None = None  # (N,) float32; None: all count alike

    @property
    def cases(self) -> list[str]:
        return self.case.astype(str).tolist()

    @property
    def groups(self) -> list[str]:
        return self.group.astype(str).tolist()


def read_description(dataset_h5: Path) -> Description:
    """What the tensors mean.

    Raises:
        DamagedOut: As of `read_split`.
    """
    return _read(dataset_h5)[0]


def read_split(dataset_h5: Path, name: str) -> Split:
    """One split of dataset.h5, memory-mapped.

    Raises:
        DamagedOut: The file is missing, or is none that dataset could have written.
    """
    places = _read(dataset_h5)[1][name]
    with reading(dataset_h5):
        return _mapped(dataset_h5, places)


def _mapped(dataset_h5: Path, places: Mapping[str, hdf5.Place]) -> Split:
    return Split(**{name: place.mapped(dataset_h5) for name, place in places.items()})


def _read(dataset_h5: Path) -> tuple[Description, dict[str, dict[str, hdf5.Place]]]:
    """The description, and where in the file each split's arrays lie, by their names in `Split`."""
    with reading(dataset_h5):
        found = os.stat(dataset_h5)
    return _read_once(dataset_h5, (found.st_size, found.st_mtime_ns, found.st_ino))


@lru_cache(maxsize=8)
def _read_once(path: Path, state: tuple[int, ...]) -> tuple[Description, dict[str, dict[str, hdf5.Place]]]:
    """As `_read`: a stage asks for each split apart, and the check takes all of them."""
    with hdf5.opened(path) as file:
        about = described(hdf5.text(file, "description"))
        places = {name: _places(hdf5.group(file, name), about) for name in SPLITS}
        splits = {name: _mapped(path, of) for name, of in places.items()}
        for name, split in splits.items():
            _check_split(name, split, about)
        for one, other in combinations(splits.values(), 2):
            for twice in (*shared(one.case, other.case)[:1], *shared(one.group, other.group)[:1]):
                raise ValueError(f"{twice.decode()} is in two splits, as a case or a group")
    return about, places


def described(content: bytes) -> Description:
    """A description from its JSON.

    Raises:
        ValueError: It is none that dataset could have written.
    """
    parsed(content, Description).check()
    return Description(**json.loads(content))  # as it was written: an integer stays one


def _places(group: h5py.Group, about: Description) -> dict[str, hdf5.Place]:
    x = hdf5.place(group, "x", about.dtype, (None, *about.shape))
    columns: dict[str, tuple[str, tuple[int, ...]]] = {"y": ("int64", ()), "case": ("S16", ()), "group": ("S16", ())}
    columns |= {"target": ("float32", (len(about.classes),))} if about.target is not None else {}
    columns |= {"weight": ("float32", ())} if "weight" in group else {}
    return {"x": x} | {
        name: hdf5.place(group, name, dtype, (*x.shape[:1], *further)) for name, (dtype, further) in columns.items()
    }


def _check_split(name: str, split: Split, about: Description) -> None:
    """Raises a ValueError unless cases are in order, and labels among the classes, all of them in training."""
    if not (split.case[1:] > split.case[:-1]).all():
        raise ValueError(f"the cases of {name} are not in order, or one is there twice")
    if (split.case == b"").any() or (split.group == b"").any():
        raise ValueError(f"a case of {name} has no name or no group")
    if any((names.view(np.uint8) > 127).any() for names in (split.case, split.group)):
        raise ValueError(f"a case or group of {name} has a name that is no ASCII text")
    if len(split.y) and not 0 <= split.y.min() <= split.y.max() < len(about.classes):
        raise ValueError(f"a case of {name} has a class that is not described")
    if split.target is not None and about.asked.target.wrong(np.asarray(split.target, np.float64)).any():
        raise ValueError(f"a case of {name} is no answer to the target that is described")
    if split.weight is not None and not (np.isfinite(split.weight) & (split.weight >= 0)).all():
        raise ValueError(f"a case of {name} has a weight that is no number of 0 or more")


def check_made_for(dataset_h5: Path, description: Mapping[str, object]) -> None:
    """Refuses a model that was trained on other tensors: its classes or its shape may differ, and nobody would notice.

    Args:
        description: The one that the model carries.

    Raises:
        UserError: It is not that of the tensors.
    """
    current = read_description(dataset_h5).plain()
    differing = sorted(
        name for name in current.keys() | description.keys() if current.get(name) != description.get(name)
    )
    if differing:
        raise UserError(
            f"{dataset_h5} is not what the model was trained on ({', '.join(differing)}): run the train stage again"
        )


class Writer:
    """Writes dataset.h5; several processes may write the samples at once."""

    def __init__(self, file: h5py.File, shape: tuple[int, ...], dtype: str) -> None:
        """Args: shape: (C, H, W) or (C, D, H, W) of a sample; dtype: Of the samples."""
        self._file, self._shape, self._dtype = file, shape, dtype

    def reserve(
        self,
        name: str,
        labels: np.ndarray,
        cases: np.ndarray | list[str],
        groups: np.ndarray | list[str],
        target: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> int:
        """Writes all of a split but its samples, for which there is room then.

        Args:
            name, labels, cases, groups, target, weight: As of `Split`.

        Returns:
            The byte of the file at which they start, end to end in C order; 0 where there are none.
        """
        group = self._file.create_group(name)
        x = group.create_dataset("x", (len(labels), *self._shape), self._dtype)
        for label, axis in zip("NCDHW" if len(self._shape) == 4 else "NCHW", x.dims, strict=True):
            axis.label = label
        if len(labels):
            x[(0,) * x.ndim] = 0  # now HDF5 takes the room for all
        group["y"] = labels.astype(np.int64)
        group["case"] = np.array(cases, "S16")
        group["group"] = np.array(groups, "S16")
        for column, values in (("target", target), ("weight", weight)):
            if values is not None:
                group[column] = values.astype(np.float32)
        self._file.flush()
        return x.id.get_offset() or 0

    def write_split(
        self,
        name: str,
        samples: Iterable[np.ndarray],
        labels: np.ndarray,
        cases: list[str],
        groups: list[str],
        target: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        """A whole split, of samples that fit into memory."""
        self.reserve(name, labels, cases, groups, target, weight)
        x = self._file[name]["x"]
        for i, sample in enumerate(samples):
            x[i] = sample

    def describe(self, description: Description) -> None:
        """Comes last: what describes the samples may be known when all are written."""
        self._file["description"] = np.bytes_(json.dumps(description.plain()))  # as `hdf5.text` wants it


@contextmanager
def writing(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[Writer]:
    """Yields what writes a new dataset.h5; arguments as `Writer`'s.

    Raises:
        OSError: The system refused it, as where the disk is full.
    """
    with new_hdf5.creating(path) as file:
        yield Writer(file, shape, dtype)
