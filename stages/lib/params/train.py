from stages.lib.params.base import Threads, section


@section
class TrainParams:
    """`datasets.<name>.train`."""

    threads: Threads = 2
    """Threads in an operation; 0 is as many as there are cores. Another number gives other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of any x86-64 machine that has it."""
