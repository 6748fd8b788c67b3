"""Settings of the machine on which a result's bits depend (threads, instruction set) or its speed (memory)."""

import ctypes
import os
import platform
import sys

from stages.lib.core.errors import UserError

# Without these, one small training gives different sums under AVX-512, under AVX2 and with each vendor's kernels.
PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Lets this process reuse freed memory instead of giving it back to the system, where the C library is glibc.

    A training step frees some MiB and asks for as many in the next one. Depending on sizes and order, glibc gives them
    back each time, and clearing the fresh pages then takes the system as long as the step itself.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def pin(threads: int, portable: bool) -> None:
    """Sets torch's threads and, if `portable`, the instruction set that every x86-64 machine with AVX2 has.

    torch, oneDNN and MKL read the environment at their first kernel, not when they are imported, so this must come
    before the first tensor is computed. It costs some speed on machines that could do better (AVX-512).

    Args:
        threads: Threads per operation; 0 is one per core (the bits then depend on the number of cores).
        portable: Pin the instruction set.

    Raises:
        UserError: The machine lacks AVX2, or a kernel ran before.
    """
    if portable:
        os.environ.update(PORTABLE)
    import torch  # not at the top: the stages without torch import this module too, and torch takes 3 s

    torch.set_num_threads(threads or os.cpu_count() or 1)
    capability = torch.backends.cpu.get_cpu_capability()
    if portable and capability != "AVX2":
        raise UserError(
            f"portable: this machine ({platform.machine()}) computes with {capability}, where AVX2 was asked for: "
            "set portable: false in params.yaml (the bytes are then those of this kind of machine)"
        )
