"""The memory of a training does not grow with the data set, apart from the mapped pages of dataset.h5."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.lib import tensors
from tests import ROOT

RUN = """
import re, sys, threading, time
from pathlib import Path
from tests.train.test_train import train_on

def anonymous_mib():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def watch():
    while True:
        peaks.append(anonymous_mib())
        time.sleep(0.005)

peaks = []
threading.Thread(target=watch, daemon=True).start()
network = {"name": "fully_connected", "arguments": {"widths": []}}
given = {"network": network, "epochs": 1, "batch_size": int(sys.argv[1]), "threads": 1}
for dataset_h5 in map(Path, sys.argv[2:]):
    peaks.clear()
    train_on(dataset_h5, dataset_h5.parent / "out", given)
    print("peak", max(peaks))
"""
LARGE = (1, 16, 128, 128)  # int16: half a MiB
TINY = (1, 1, 2, 2)


def write_sparse(path, samples, shape):
    """A dataset.h5 of zeros, sparse, so that it takes hardly any space on the disk."""
    geometry = {
        "colour": "keep",
        "resize": None,
        "spacing_mm": None,
        "shape": list(shape[1:]),
        "fill": 0,
        "dtype": "int16",
    }
    about = tensors.Description(
        ["a", "b"], "NCDHW", list(shape), "int16", "HU", None, geometry,
        {"minimum": [-1.0], "maximum": [1.0], "mean": [0.0], "deviation": [1.0]},
    )  # fmt: skip
    with tensors.writing(path, shape, "int16") as writer:
        writer.describe(about)
    places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "r+", libver="v110") as file:
        for name, count in (("train", samples), ("validation", 8), ("test", 8)):
            group = file.create_group(name)
            space = h5py.h5s.create_simple((count, *shape))
            h5py.h5d.create(group.id, b"x", h5py.h5t.STD_I16LE, space, places)
            group["y"] = np.arange(count) % 2
            group["case"] = group["group"] = np.array([f"{name[:2]}{i:014d}" for i in range(count)], "S16")


def peaks_mib(folder, numbers_of_samples, shape=LARGE, batch_size=8):
    """The peak memory in MiB of one training per number of samples, the smallest first.

    All run in one process: what the first leaves behind counts for the second, which only makes the test stricter.
    """
    files = [folder / str(samples) / "dataset.h5" for samples in numbers_of_samples]
    for file, samples in zip(files, numbers_of_samples, strict=True):
        file.parent.mkdir()
        write_sparse(file, samples, shape)
    script = folder / "run.py"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, str(batch_size), *files]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(line.removeprefix("peak ")) for line in printed.splitlines() if line.startswith("peak ")]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports anonymous memory apart"),
]


def test_a_data_set_of_twelve_times_the_size_trains_in_the_same_memory(tmp_path):
    samples = int(os.environ.get("LARGE_DATASET_GIB", "0")) * 2048 or 960  # 480 MiB; run by hand with 8 GiB
    small, large = peaks_mib(tmp_path, [80, samples])  # 80: 40 MiB
    print(f"peak anonymous memory: {small:.0f} MiB for 40 MiB of data, {large:.0f} MiB for {samples / 2:.0f} MiB")
    assert large < small + 40


def test_what_is_kept_of_a_case_is_a_few_bytes(tmp_path):
    few, many = peaks_mib(tmp_path, [40_000, 640_000], TINY, 4096)
    print(f"peak anonymous memory: {few:.0f} MiB for 40,000 cases, {many:.0f} MiB for 640,000")
    assert many < few + 30  # the order takes 8 bytes per case; identifiers as Python strings would take 80 MiB
