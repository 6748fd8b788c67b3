"""Where the model computes, and in what precision."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from stages.lib.core.errors import UserError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose(name: str, local_rank: int = 0) -> torch.device:
    """The device for `train.device`; "auto" is CUDA where there is a CUDA device, else the CPU.

    Args:
        local_rank: This process's number on this machine; "auto" and "cuda" give each process another CUDA device.

    Raises:
        UserError: This machine has no such device.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local_rank % torch.cuda.device_count()}"
    device = torch.device("cpu" if name == "auto" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"train.device is {name}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("train.device is mps: this machine has none")
    return device


def set_deterministic(wanted: bool, compiled: bool) -> None:
    """Lets torch use only operators that give the same bits each time; others then raise an error.

    Args:
        compiled: Whether torch.compile is used, which has to know of it as well.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it
    if compiled:
        torch.use_deterministic_algorithms(wanted)
    else:  # the same setting, without importing the compiler, which takes over a second
        torch.set_deterministic_debug_mode("error" if wanted else "default")
    torch._C._set_deterministic_fill_uninitialized_memory(False)  # costs time, and nothing here reads such memory
    torch.backends.cudnn.benchmark = not wanted
    torch.backends.cudnn.allow_tf32 = False  # else `train.precision: float32` would be 10 bits of mantissa on CUDA


def layout(channels_last: bool, axes: int) -> torch.memory_format:
    """The memory format of samples and weights.

    Args:
        axes: Of a batch, 4 for images and 5 for volumes.
    """
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if axes == 4 else torch.channels_last_3d


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which the network computes."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])
