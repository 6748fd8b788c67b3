"""Pins what of the machine would change a result's bits: the number of threads, and the CPU's instruction set."""

import os
import platform

from stages.lib.errors import UserError

# Without these, one small training gives other sums under AVX-512, AVX2 and each vendor's own kernels.
PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}


def pin(threads: int, portable: bool) -> None:
    """Sets torch's threads and, if `portable`, the instruction set that every x86-64 machine with AVX2 has.

    torch, oneDNN and MKL read the environment at their first kernel, not when they are imported, so this must come
    before the first tensor is computed. It costs some speed on machines that could do better (AVX-512).

    Args:
        threads: Threads in an operation; 0 is as many as there are cores (then the bits are those of that number).
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
