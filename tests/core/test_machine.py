import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from torch import nn
from stages.lib.core import machine

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    machine.keep_freed_memory()
x = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
layers = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(16 * 256, 2)
network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
for step in range(30):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(x).sum().backward()
    network.zero_grad()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_and_not_cleared_by_the_system_each_time():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Page faults in 20 steps: 10,000 and more where memory is given back. By chance of addresses the heap may still
    # grow by a block, hence three attempts.
    limit = 4_000
    kept = next((count for _ in range(3) if (count := faults("kept")) < limit), limit)
    assert kept < limit
    assert kept < faults("given back")
