"""Tests: one folder for each folder of stages/lib, one for tools; at the top, what concerns the whole project."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The inputs are too small to gain from a second thread, and tests that run at the same time would compete for cores.
# This is set before torch and NumPy are imported, and the processes that tests start inherit it. It is only the
# default: a stage's `threads` parameter overrides it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Stages that take more threads wait for them without spinning: two such processes on two cores take ten times as long
# when each spins on the core that the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HANG_SECONDS = 1800
"""The limit for programs that wait for ever when something is wrong (a browser, dvc's queue). What they do takes
seconds, so that no machine is slow enough to reach it; other programs have no limit."""
