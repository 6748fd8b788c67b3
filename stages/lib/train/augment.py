"""Augmentation of whole batches on their device; each sample's random numbers come from its key (`random_by_case`)."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.params.train import AugmentParams
from stages.lib.train import random_by_case

SHIFT, FLIP, ROTATION, BRIGHTNESS, NOISE, CUTOUT, MIXUP = range(7)  # streams of random numbers
PADDING_MODES = {"reflect": "border", "edge": "border", "zero": "zeros"}  # grid_sample's; what is reflected lies inside


@torch.no_grad()
def augment(x: Tensor, keys: Tensor, params: AugmentParams) -> Tensor:
    """Changes each sample by random numbers of its own.

    Args:
        x: Normalised samples (n, C, [D,] H, W).
        keys: (n,) of `random_by_case.epoch_keys`.
    """
    if params.rotate or params.scale:
        x = rotate_and_scale(x, keys, params)
    elif any(params.shift or ()) or params.flip:
        x = shift_and_flip(x, keys, params)
    if params.brightness or params.contrast:
        x = change_contrast_and_brightness(x, keys, params)
    if params.noise:
        x = x + params.noise * random_by_case.normals(keys, NOISE, x[0].numel()).view_as(x)
    if params.cutout:
        x = cut_out(x, keys, params.cutout)
    return x


def mixing(keys: Tensor, params: AugmentParams, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """What mixup blends: the position (n,) of each sample's partner, and the fraction (n,) of the sample itself.

    Args:
        samples: Number of samples to choose partners from.
    """
    from scipy.stats import beta  # not at the top: it takes 0.8 s, and most trainings blend nothing

    chance = random_by_case.uniforms(keys, MIXUP, 2).double().numpy()
    fraction = beta.ppf(chance[:, 1], params.mixup, params.mixup)
    return (chance[:, 0] * samples).astype(np.int64), np.maximum(fraction, 1 - fraction).astype(np.float32)


def _shifts(keys: Tensor, params: AugmentParams, dims: int) -> Tensor:
    """Shifts (n, dims) in whole pixels, towards higher indices where positive; at most `shift` either way."""
    shift = params.shift or (0,)
    largest = torch.tensor(shift * (dims if len(shift) == 1 else 1), device=keys.device)  # (dims,)
    return (random_by_case.uniforms(keys, SHIFT, dims) * (2 * largest + 1)).floor().long() - largest


def _flips(keys: Tensor, params: AugmentParams, dims: int) -> Tensor:
    """Which axes of which samples are mirrored, bool (n, dims)."""
    allowed = torch.tensor([axis in params.flip for axis in "DHW"[-dims:]], device=keys.device)
    return (random_by_case.uniforms(keys, FLIP, dims) < 0.5) & allowed


def shift_and_flip(x: Tensor, keys: Tensor, params: AugmentParams) -> Tensor:
    """Shifts by whole pixels, and flips: values move and are never interpolated."""
    dims = x.ndim - 2
    flips = _flips(keys, params, dims)
    if not any(params.shift or ()):
        return _flipped(x, flips, params.flip)
    shifts = _shifts(keys, params, dims)
    for i in range(dims):
        axis, length = i + 2, x.shape[i + 2]
        place = torch.arange(length, device=x.device)
        place = torch.where(flips[:, i : i + 1], length - 1 - place, place) - shifts[:, i : i + 1]  # (n, length)
        shape = [len(x), 1, *(length if a == axis else 1 for a in range(2, x.ndim))]
        inside = _reflected(place, length) if params.fill == "reflect" else place.clamp(0, length - 1)
        x = x.gather(axis, inside.view(shape).expand(x.shape))
        if params.fill == "zero":
            x = x * (inside == place).view(shape)
    return x


def _flipped(x: Tensor, flips: Tensor, axes: str) -> Tensor:
    """Samples mirrored along some axes, without an index for each pixel."""
    for i, axis in enumerate("DHW"[-flips.shape[1] :]):
        if axis in axes:
            x = torch.where(flips[:, i].view(-1, *[1] * (x.ndim - 1)), x.flip(i + 2), x)
    return x


def _reflected(place: Tensor, length: int | Tensor) -> Tensor:
    """Positions beyond an edge, mirrored back inside; the edge itself is not repeated.

    Args:
        length: Of the axis, or (dims,) of the axes of `place`, (..., dims).
    """
    period = 2 * (torch.as_tensor(length, device=place.device) - 1)
    place = place.remainder(period.clamp(min=1))
    return torch.minimum(place, period - place).clamp(min=0)  # of a single pixel: 0


def rotate_and_scale(x: Tensor, keys: Tensor, params: AugmentParams) -> Tensor:
    """Rotation, scale, shifts and flips in one linear interpolation."""
    dims = x.ndim - 2
    size = torch.tensor(x.shape[2:], device=x.device)
    chance = 2 * random_by_case.uniforms(keys, ROTATION, 2) - 1  # (n, 2) in [-1, 1)
    angle = chance[:, 0] * math.radians(params.rotate)
    zoom = torch.exp(-chance[:, 1] * math.log1p(params.scale))
    # Maps output to input positions, in pixels from the centre, axes in the order (D,) H, W.
    linear = torch.diag_embed(zoom[:, None].expand(-1, dims)).clone()  # (n, dims, dims)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    linear[:, -2, -2], linear[:, -2, -1] = cosine, -sine
    linear[:, -1, -2], linear[:, -1, -1] = sine, cosine
    offset = -(linear @ _shifts(keys, params, dims).float()[:, :, None])  # (n, dims, 1)
    linear = linear * torch.where(_flips(keys, params, dims), -1.0, 1.0)[:, None, :]
    half = size.float() / 2
    theta = torch.cat([linear * half / half[:, None], offset / half[:, None]], 2)  # in grid_sample's units
    order = list(range(dims - 1, -1, -1))  # grid_sample's order of axes: W, H, D
    theta = torch.cat([theta[:, order][:, :, order], theta[:, order][:, :, dims:]], 2)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    if params.fill == "reflect":  # grid_sample's own reflection repeats the edge, which shifts don't
        sides = size.flip(0)
        place = _reflected(((grid + 1) * sides - 1) / 2, sides)
        grid = (2 * place + 1) / sides - 1
    return functional.grid_sample(x, grid, "bilinear", PADDING_MODES[params.fill], align_corners=False)


def change_contrast_and_brightness(x: Tensor, keys: Tensor, params: AugmentParams) -> Tensor:
    """Scales each sample's differences from its mean, then adds a number to all of it."""
    chance = (2 * random_by_case.uniforms(keys, BRIGHTNESS, 2) - 1).T.reshape(2, len(x), *[1] * (x.ndim - 1))
    mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    return mean + (x - mean) * (1 + params.contrast * chance[0]) + params.brightness * chance[1]


def cut_out(x: Tensor, keys: Tensor, side: int) -> Tensor:
    """Sets a square or cube to zero; its centre may be anywhere, so that part of it may lie outside."""
    dims = x.ndim - 2
    chance = random_by_case.uniforms(keys, CUTOUT, dims)
    inside = torch.ones(len(x), *[1] * (x.ndim - 1), dtype=torch.bool, device=x.device)
    for i in range(dims):
        length = x.shape[i + 2]
        start = (chance[:, i : i + 1] * length).floor() - side // 2  # (n, 1)
        place = torch.arange(length, device=x.device)
        hit = (place >= start) & (place < start + side)  # (n, length)
        inside = inside & hit.view(len(x), 1, *(length if a == i else 1 for a in range(dims)))
    return x.masked_fill(inside, 0)
