"""metrics/<ds>/ingest.png: what came in, to be looked at before anything is trained on it.

Numbers are there of every data set; pictures of cases only where params say that they may leave the machine, as the
file goes into git.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.lib import drawing
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.drawing import charts, sheets
from stages.lib.drawing.charts import BLUE, GREY, SKY, VERMILION, Bars, Chart, Histogram, Pictures, Ranges

CLASSES = 12  # the most frequent ones have a bar
REASONS = 12  # likewise
PICTURES = 10  # of one row
SAMPLED = 100  # cases whose intensities are counted
PIXELS = 4096  # of each
BINS = 80
WINDOW_HU = (-1000, 1000)  # soft tissue is grey, bone white
Row = tuple[str, float, charts.Colour]
OUTCOMES = (  # in ingest.json, what a bar says, and its colour
    ("rejected", "rejected cases", VERMILION),
    ("set_aside", "set aside", SKY),
    ("ignored", "ignored", GREY),
)


def draw(
    png: Path, local: Path, cases_folder: Path, labels: Sequence[str], counts: Mapping[str, Any], may_show: bool
) -> None:
    """Draws the figure.

    Args:
        png: Its place, in metrics/.
        local: A folder for the figure with pictures, where `png` may show none.
        cases_folder: cases/, complete.
        labels: (N,) the class of each case, in its order.
        counts: What ingest.json holds.
        may_show: Whether `png` may show a case of each class.
    """
    png.unlink(missing_ok=True)  # an earlier run's may show what this one's may not
    with Cases(cases_folder) as cases:
        rows: list[list[Chart]] = [
            [Bars("Cases of each class", _classes(counts["classes"])), Bars("Files", _files(counts))],
            [_intensities(cases), _sizes(cases)],
        ]
        shown: list[list[Chart]] = [*rows, [_pictures(cases, labels)]]
    title = f"{counts['cases']:,} cases of {counts['groups']:,} groups"
    outs.write_bytes(drawing.place(png.parent, local, may_show) / png.name, charts.page(title, shown))
    if not may_show:
        outs.write_bytes(png, charts.page(title, rows))


def _classes(classes: Mapping[str, int]) -> list[Row]:
    found = Counter(classes).most_common()
    rows: list[Row] = [(name, number, BLUE) for name, number in found[:CLASSES]]
    if rest := found[CLASSES:]:
        rows.append((f"{len(rest)} more", sum(number for _, number in rest), GREY))
    return rows


def _files(counts: Mapping[str, Any]) -> list[Row]:
    """A bar a reason; of rejected cases, which may be of many files, the number of cases."""
    rows: list[Row] = [("in cases", counts["files"]["in_cases"], BLUE)]
    for outcome, named, colour in OUTCOMES:
        found = Counter(counts[outcome]).most_common(REASONS)
        rows += [(f"{named}: {reason.replace('_', ' ')}", number, colour) for reason, number in found]
    return rows


def _intensities(cases: Cases) -> Histogram:
    """Of a sample: a part of each of some cases, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(SAMPLED, len(cases))).round().astype(int)).tolist()
    most = int(cases.shapes[chosen, 0].max())
    channels = min(most, len(charts.COLOURS))
    values: list[list[np.ndarray]] = [[] for _ in range(channels)]
    for i in chosen:
        for channel, pixels in zip(values, _plane(cases, i), strict=False):
            flat = pixels.reshape(-1)
            channel.append(flat[:: -(-len(flat) // PIXELS)])
    # In float64, as others have no number between the edges of narrow bins.
    lines = [np.concatenate(channel).astype(np.float64) for channel in values]
    low, high = min(line.min() for line in lines), max(line.max() for line in lines)
    edges = (low, high if high > low else low + max(1, abs(low) / 2**16))
    counts = [np.histogram(line, BINS, edges)[0].tolist() for line in lines]
    units = f" {cases.units}" if cases.units else ""
    what = "middle slices" if cases.dims == 3 else "pictures"
    some = f", the first {channels} of {most} channels" if channels < most else ""
    title = f"Intensities of {len(chosen)} {what}{some}, logarithmic"
    return Histogram(title, counts, f"{low:g}{units}", f"{high:g}{units}")


def _plane(cases: Cases, i: int) -> np.ndarray:
    """(C, H, W): a picture, or the middle slice of a volume."""
    pixels = cases[i]
    return pixels if cases.dims == 2 else pixels[:, pixels.shape[1] // 2]


def _sizes(cases: Cases) -> Ranges:
    rows = []
    columns = [(name, cases.shapes[:, k]) for k, name in enumerate(cases.axes) if name != "C"]
    columns += [(f"{name} mm", cases.spacings_mm[:, k]) for k, name in enumerate(cases.axes[1:])]
    channels = np.unique(cases.shapes[:, 0]).tolist()
    for name, column in columns:
        known = column[np.isfinite(column)]
        if len(known):
            least, middle, largest = (float(f"{value:.4g}") for value in (known.min(), np.median(known), known.max()))
            rows.append((name, least, middle, largest))
    of = f"{' or '.join(map(str, channels))} channel{'' if channels == [1] else 's'}"
    return Ranges(f"Shape and spacing, of {of}: least, median, largest", rows)


def _pictures(cases: Cases, labels: Sequence[str]) -> Pictures:
    """The first case of each class: a random choice, as identifiers are hashes."""
    first: dict[str, int] = {}
    for i, label in enumerate(labels):
        first.setdefault(label, i)
    frequent = [name for name, _ in Counter(labels).most_common(PICTURES)]
    shown = [(_small(cases, first[name]), name) for name in sorted(frequent)]
    title = "A case of each class" if len(first) <= PICTURES else f"A case of {PICTURES} of {len(first)} classes"
    return Pictures(title, shown)


def _small(cases: Cases, i: int) -> Image.Image:
    """A case as a small picture, from black to white between its 1st and 99th percentile, or in the window of what is
    measured in Hounsfield units; of a volume the middle slice, as wide and high as it is in millimetres."""
    pixels = _plane(cases, i)
    steps = cases.spacings_mm[i][-2:] if np.isfinite(cases.spacings_mm[i]).all() else (1, 1)
    high, wide = (size * step for size, step in zip(pixels.shape[1:], steps, strict=True))
    shape = [max(1, round(Pictures.side * size / max(high, wide))) for size in (wide, high)]
    shown = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    low, top = WINDOW_HU if cases.units == "HU" else np.percentile(shown, (1, 99))
    picture = sheets.as_picture(sheets.displayable(shown, [low], [top]))
    enlarged = picture.width < shape[0]
    return picture.resize(shape, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)
