"""The arguments of the model's first layer, `Normalise`, from params and the dataset's measured moments."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.params.train import NormaliseParams
from stages.lib.tensors import MOMENTS, Description

BLOCK_ELEMENTS = 1 << 22  # 32 MiB of float64, so that memory does not grow with the split


def arguments(params: NormaliseParams, about: Description, x: np.ndarray) -> dict[str, Any]:
    """The arguments of `Normalise`, one number per channel.

    Args:
        x: The training split's tensors (N, C, ...); read only to measure the moments of values clamped to a window.

    Raises:
        UserError: A given mean or deviation has another number of channels than the data.
    """
    channels = about.shape[0]
    low, high = _range(params, about)  # (C,) each
    width = np.maximum(high - low, np.finfo(np.float32).tiny)  # a channel of one value becomes 0, not nan
    if params.to == "unit":
        shift, scale = low, 1 / width
    elif params.to == "symmetric":
        shift, scale = (low + high) / 2, 2 / width
    elif params.mean is not None and params.deviation is not None:
        mean, deviation = (_per_channel(name, getattr(params, name), channels) for name in ("mean", "deviation"))
        shift, scale = low + mean * width, 1 / (deviation * width)
    else:
        mean, deviation = _clamped_moments(x, low, high) if params.window else _measured_moments(about)
        shift, scale = mean, 1 / np.where(deviation > 0, deviation, 1)
    numbers = {"low": low, "high": high, "shift": shift, "scale": scale}
    return {name: [float(v) for v in values] for name, values in numbers.items()} | {"dims": len(about.shape) - 1}


def with_moments(about: Description, x: np.ndarray) -> Description:
    """The description with the moments of other samples (N, C, ...)."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    blocks = list(_blocks(x))
    low = np.min([x[rows].min(axes) for rows in blocks], axis=0).astype(np.float64)
    high = np.max([x[rows].max(axes) for rows in blocks], axis=0).astype(np.float64)
    found = dict(zip(MOMENTS, (low, high, *_clamped_moments(x, low, high)), strict=True))
    return replace(about, moments={name: values.tolist() for name, values in found.items()})


def _range(params: NormaliseParams, about: Description) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value per channel, to which values are clamped."""
    channels = about.shape[0]
    if params.window:
        low, high = params.window
        return np.full(channels, float(low)), np.full(channels, float(high))
    if about.dtype == "uint8":
        return np.zeros(channels), np.full(channels, 255.0)
    return np.array(about.moments["minimum"], float), np.array(about.moments["maximum"], float)


def _blocks(x: np.ndarray) -> Iterator[slice]:
    """Samples that are in memory at once."""
    samples = max(1, BLOCK_ELEMENTS * len(x) // max(1, x.size))
    return (slice(start, start + samples) for start in range(0, len(x), samples))


def _per_channel(name: str, given: tuple[float, ...], channels: int) -> np.ndarray:
    if len(given) not in (1, channels):
        raise UserError(f"train.normalise.{name} has {len(given)} numbers: the data has {channels} channel(s)")
    return np.broadcast_to(np.array(given), (channels,))


def _measured_moments(about: Description) -> tuple[np.ndarray, np.ndarray]:
    return np.array(about.moments["mean"], float), np.array(about.moments["deviation"], float)


def _clamped_moments(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per channel of the clamped values, in one pass of bounded memory."""
    channels = x.shape[1]
    column = (1, channels, *[1] * (x.ndim - 2))
    low, high = low.reshape(column), high.reshape(column)
    sums, squares = np.zeros(channels), np.zeros(channels)
    other_axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    for rows in _blocks(x):
        block = np.clip(x[rows], low, high).astype(np.float64) - low  # numbers near 0, whose squares lose fewer digits
        sums += block.sum(other_axes)
        squares += np.square(block).sum(other_axes)
    count = x.size / channels
    mean = sums / count
    return mean + low.ravel(), np.sqrt(np.maximum(squares / count - mean**2, 0))
