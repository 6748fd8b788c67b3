"""scikit-learn's 1,797 scans of handwritten digits (UCI, 8x8, 17 greys) as PNG files with a labels.csv."""

import csv
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from sklearn.datasets import load_digits


def write(folder: Path) -> None:
    """Writes labels.csv (path, label) and images/<number>.png, 8x8 uint8, under `folder`."""
    digits = load_digits()
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = f"images/{i:04d}.png"
        imageio.imwrite(folder / path, (image * 255 / 16).round().astype(np.uint8))  # 0..16 to 0..255
        rows.append((path, label))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *rows])
