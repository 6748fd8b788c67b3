"""The table of docs/performance.md on what is kept by hand, and why a library does not take its place."""

from typing import NamedTuple

from stages.lib.core.markdown import escape

TITLE = "Kept by hand, or not"
INTRODUCTION = "Modules whose work a well-kept library does as well, or might do: what it would cost, and the decision."


class Kept(NamedTuple):
    """A module, and what might replace it."""

    module: str  # below stages/lib
    library: str
    cost: str
    decision: str


KEPT = [
    Kept(
        "ingest/journal.py",
        "SQLite",
        'with a row for each file about 1.9 times the time ("What ingest remembers"), and rows have no checksum, so '
        "that a flipped bit would be believed",
        "kept: 40 lines",
    ),
    Kept(
        "workers.py",
        "joblib, loky",
        "neither bounds a job's processor time, nor does the jobs that were lost with a crashed worker again, each "
        "alone, which finds the file at fault",
        "concurrent.futures is used; what it lacks is kept on top of it",
    ),
    Kept(
        "validate/scores.py, bootstrap.py",
        "scikit-learn, scipy.stats.bootstrap, torchmetrics",
        "they score one weighting at a time, where a thousand resamples are scored at once; scipy resamples cases, "
        "not groups",
        "kept; the tests compare every score with scikit-learn's",
    ),
    Kept(
        "validate/calibration.py",
        "scikit-learn's CalibratedClassifierCV",
        "another answer: it fits whatever the split holds; ours only what nearly all resamples of the groups agree on",
        "kept; scipy.optimize finds the minimum",
    ),
    Kept(
        "core/sections.py",
        "pydantic; Hydra, OmegaConf",
        "Hydra and OmegaConf have types, but neither ranges nor a JSON schema, and compose files, which dvc's params "
        "do not follow",
        "pydantic is used; ours are the messages, which name the key as it was typed",
    ),
    Kept("core/progress.py", "tqdm", "nothing", "tqdm is used; ours are the lines of a log without a terminal"),
    Kept("core/locks.py", "filelock", "nothing", "filelock is used; ours is the message that says who holds the lock"),
    Kept(
        "core/nearest.py",
        "RapidFuzz",
        "a compiled package for one suggestion in a message that ends a run",
        "difflib of the standard library is used",
    ),
    Kept(
        "train/augment.py",
        "torchvision v2, Kornia",
        "torchvision v2 draws once for a whole batch, and has no rotation of volumes; both draw from torch's one "
        "stream, so that another order or number of processes gives other bits, where ours belong to a case and an "
        "epoch",
        "kept",
    ),
    Kept(
        "train/muon.py",
        "torch.optim.Muon",
        "it takes matrices alone: neither kernels of convolutions nor what another optimizer moves",
        "torch.optim.Muon is used; ours is the pairing of two optimizers under one schedule",
    ),
    Kept(
        "dataset/fitting.py",
        "scipy.sparse; torchvision's resize, scipy.ndimage, SimpleITK",
        "resizing by a library rounds as its own arithmetic has it, which is not what the exported file computes",
        "scipy.sparse and NumPy take the sums; the weights are ours, since the exported file has the same",
    ),
    Kept(
        "ingest/readers/pictures/",
        "Pillow alone",
        "Pillow cuts 16-bit colours to 8, and reads a damaged chunk or a picture that ends too early without an error",
        "simplejpeg, imagecodecs and tifffile decode, and Pillow the rest; ours are the checks before and after",
    ),
    Kept(
        "ingest/readers/dicom*.py",
        "highdicom, dcm2niix, SimpleITK",
        "each refuses or mends by rules of its own, where rejected.csv has to give a reason for each file; dcm2niix "
        "writes files of its own",
        "pydicom parses and its plugins decode; geometry and refusals are ours",
    ),
    Kept(
        "validate/gradcam.py",
        "Captum",
        "one more package, and the layer would still have to be found, for 55 lines",
        "kept",
    ),
    Kept(
        "train/interruption.py",
        "Lightning's checkpoints",
        "the training loop would be Lightning's, and whether data, params, code and machine are those of the "
        "checkpoint would still be ours to find out",
        "kept",
    ),
    Kept("dvc.yaml", "DVC", "nothing", "DVC is used: which stage is stale, and the cache, are its own"),
]


def section() -> str:
    """The table, as Markdown."""
    head = ["| module of ours | library | what it would cost | decision |", "|---|---|---|---|"]
    lines = head + ["| " + " | ".join(escape(text) for text in of) + " |" for of in KEPT]
    return "\n\n".join([f"## {TITLE}", INTRODUCTION, "\n".join(lines)]) + "\n"
