from stages.lib.params.base import Count, Threads, section


@section
class ValidateParams:
    """`datasets.<name>.validate`."""

    batch_size: Count = 64
    """Samples a batch: memory and speed, not the result."""

    worst: Count = 20
    """How many of the most wrong test cases are shown in worst.png."""

    threads: Threads = 2
    """Threads in an operation; 0 is as many as there are cores. Another number gives other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of any x86-64 machine that has it."""
