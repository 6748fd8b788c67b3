import platform
import subprocess
import sys

import pytest

# Tensors of 64 MiB: glibc maps what is over 32 MiB anew each time, whatever was freed before, unless it is told not to.
# Smaller ones, as a training step frees them, are given back or kept by chance of their addresses.
FAULTS = """
import resource, sys
import torch
from stages.lib.core import machine

if sys.argv[1] == "kept":
    machine.keep_freed_memory()
for step in range(20):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_and_not_cleared_by_the_system_each_time():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Page faults in ten steps: 163,840 where memory is given back (320 where the system's pages have 2 MiB).
    assert faults("kept") < faults("given back") / 10
