"""Random numbers that belong to a case: hashed from (seed, epoch, case) instead of drawn one after the other.

So neither the order of a batch, nor the number of processes, nor an interruption changes how a sample is augmented. The
hash is splitmix64 (Steele, Lea, Flood 2014), computed for a whole batch at once in int64: same bits on every device.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

GOLDEN_GAMMA = -7046029254386353131  # 2^64 divided by the golden ratio, as int64
MIX_ROUNDS = ((30, -4658895280553007687), (27, -7723592293110705685))  # bits to shift by, factor


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a shift without sign: int64's own would copy it


def mix(x: Tensor) -> Tensor:
    """A hash of each int64, int64."""
    for bits, factor in MIX_ROUNDS:
        x = (x ^ _shifted(x, bits)) * factor
    return x ^ _shifted(x, 31)


def case_keys(cases: Iterable[bytes]) -> Tensor:
    """One number per case (N,), hashed from its identifier."""
    digests = b"".join(hashlib.sha256(case).digest()[:8] for case in cases)
    return torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64))


def epoch_keys(cases: Tensor, seed: int, epoch: int) -> Tensor:
    """The cases' keys (N,) in one epoch of one seed."""
    once = mix(cases + mix(torch.tensor(seed % 2**63) + GOLDEN_GAMMA))
    return mix(once + torch.tensor(epoch) * GOLDEN_GAMMA)  # a tensor's product wraps around, Python's does not


def bits(keys: Tensor, stream: int, draws: int) -> Tensor:
    """Hashes (n, draws), int64, of each key; uses that must not depend on each other take different streams."""
    counters = torch.arange(1, draws + 1, device=keys.device) * GOLDEN_GAMMA
    return mix(mix(keys + stream)[:, None] + counters)


def uniforms(keys: Tensor, stream: int, draws: int) -> Tensor:
    """(n, draws) float32 in [0, 1)."""
    return _shifted(bits(keys, stream, draws), 40).float() * 2.0**-24


def normals(keys: Tensor, stream: int, draws: int) -> Tensor:
    """(n, draws) float32 of mean 0 and deviation 1, by the Box-Muller transform."""
    pairs = bits(keys, stream, (draws + 1) // 2)
    radius = torch.sqrt(-2 * torch.log((_shifted(pairs, 40).float() + 1) * 2.0**-24))
    angle = (pairs & ((1 << 24) - 1)).float() * (2.0**-24 * 2 * torch.pi)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :draws]
