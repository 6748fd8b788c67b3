"""Tests: a folder for each of stages/lib, one for tools, and at the top what concerns the whole project."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Inputs are too small for a second thread to help, and threads of several tests at once wait for each other's cores.
# Set before torch and NumPy are imported, and inherited by the processes that tests start. A stage's own
# `threads` parameter still counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HANG_SECONDS = 1800
"""When a browser or a queue of workers is taken to hang: they wait for ever where others would fail. No machine is so
slow, as each is a matter of seconds."""
