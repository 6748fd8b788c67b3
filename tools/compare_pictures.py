"""Reads every picture of some folders as ingest would, and compares the pixels with those that Pillow reads.

    python -m tools.compare_pictures ~/pictures scans --output markdown

It prints how many are equal, and how many are refused for which reason. Named, and the exit status is 1, are pictures
that differ, and those that Pillow reads but that are refused as damaged or as no pictures. Compared is what ingest
gives with `frames: first` and `transparency: black`; 16 bits are compared as far as Pillow keeps them: in colour 8.
"""

import argparse
import io
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from stages.lib.core import terminal
from stages.lib.core.opening import read
from stages.lib.core.terminal import shown
from stages.lib.ingest import readers
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import decode, reason_of
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.ingest.readers.pictures import tiff
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import quietly

PARAMS = {"kind": "images", "frames": "first", "transparency": "black", "min_side": 1, "burned_in": "keep"}
EQUAL, DIFFERENT, ALONE = "equal", "different", "read, by nothing to compare with"
UNTRUE = ("corrupt", "truncated", "not_an_image", "unreadable")  # where Pillow reads the file
MAX_BYTES = 1 << 28
MOST_CHANNELS = 4  # of Pillow; of more, it takes some for others
STEPS = 2.01 / 255  # as a fraction of white: Pillow cuts to 8 bits, divides by alpha, and rounds


class Verdict(NamedTuple):
    """What ingest makes of a file, and whether that can be right."""

    outcome: str  # EQUAL, DIFFERENT, ALONE or the reason of a refusal
    detail: str = ""
    wrong: bool = False


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_pictures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", choices=("text", "markdown"), default="text")
    arguments = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    failures = 0
    for path in files(arguments.folders):
        verdict = quietly(lambda path=path: compare(read(str(path), MAX_BYTES)[0]))  # type: ignore[misc]
        counts[verdict.outcome] += 1
        if verdict.wrong:
            failures += 1
            print(f"{shown(str(path))}: {verdict.outcome}: {shown(verdict.detail)}", file=sys.stderr)
    print(_table(counts, arguments.output))
    sys.exit(1 if failures else 0)


def _table(counts: "Counter[str]", output: str) -> str:
    first = [name for name in (EQUAL, DIFFERENT, ALONE) if counts[name]]
    rows = [(name, counts[name]) for name in [*first, *sorted(set(counts) - set(first))]]
    rows.append(("all", sum(counts.values())))
    if output == "text":
        return "\n".join(f"{number:6d}  {name}" for name, number in rows)
    return "\n".join(["| outcome | files |", "|---|---|", *(f"| {name} | {number} |" for name, number in rows)])


def files(folders: Sequence[Path]) -> Iterator[Path]:
    """All regular files, in a fixed order."""
    for folder in folders:
        for place, names, found in os.walk(folder):
            names[:] = sorted(name for name in names if not name.startswith("."))
            yield from (path for name in sorted(found) if (path := Path(place, name)).is_file())


def compare(content: bytes) -> Verdict:
    """Reads a file in both ways."""
    try:
        pixels = by_ingest(content)
    except Exception as error:  # as ingest takes it
        reason, detail = reason_of(error)
        return Verdict(reason, detail, reason in UNTRUE and by_pillow(content, mixed=True) is not None)
    # Pillow takes a fourth channel of JPEG 2000 and TIFF for alpha, also where the file says nothing.
    expected = by_pillow(content, mixed=pixels.shape[2] in (1, 3))
    if expected is None or pixels.shape[2] > MOST_CHANNELS or _is_of_several_pages(content):
        return Verdict(ALONE)
    if pixels.shape[:2] != expected.shape[:2]:
        return Verdict(DIFFERENT, f"{pixels.shape} pixels, expected {expected.shape}", wrong=True)
    if pixels.dtype not in (np.uint8, np.uint16):  # of a TIFF: numbers without black and white
        if pixels.shape[2] > 1 or expected.dtype.kind == "u":
            return Verdict(ALONE)
        same = np.array_equal(pixels[..., 0], expected)
        return Verdict(EQUAL) if same else Verdict(DIFFERENT, "other numbers", wrong=True)
    farthest = distance(pixels, expected)
    if farthest > STEPS:
        return Verdict(DIFFERENT, f"up to {farthest:.4f} of white", wrong=True)
    return Verdict(EQUAL)


def _is_of_several_pages(content: bytes) -> bool:
    """Whether the channels of a picture are pages, of which Pillow gives one."""
    return content.startswith(tiff.MAGIC_NUMBERS) and any(one.channels > 1 for one in tiff.File(content).series)


def by_ingest(content: bytes) -> np.ndarray:
    """(H, W, C), as ingest reads a file that is the only one.

    Raises:
        Rejected: It is not read.
    """
    options = Options(check(IngestParams, PARAMS), OPEN)
    name = readers.recognise(content)
    if name != "image":
        raise Rejected(name, "no picture")
    reader = readers.reader(name)
    common, own = reader.inspect(content, options)
    (case,) = reader.assemble([Inspected("file", b"", common, own)], [], options).cases
    (pixels,) = decode(Template(name, case), 0, 1, lambda file: content, options)
    return pixels.transpose(1, 2, 0)


def by_pillow(content: bytes, mixed: bool) -> np.ndarray | None:
    """(H, W) or (H, W, 3), turned; None where Pillow does not read it.

    Args:
        mixed: Laid on black; otherwise the colours as they are.
    """
    Image.init()
    try:
        with (
            warnings.catch_warnings(),
            Image.open(io.BytesIO(content), formats=[name for name in Image.ID if name != "EPS"]) as image,
        ):
            warnings.simplefilter("ignore")
            image.load()
            turned = ImageOps.exif_transpose(image)
            if mixed and (image.mode in ("1", "L") or image.mode.startswith("I;16")) and image.format == "PNG":
                grey = np.array(turned.convert("L") if image.mode == "1" else turned)
                return np.where(grey == _transparent_grey(image, content), 0, grey)
            if mixed and (turned.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in turned.info):
                pixels = np.asarray(turned.convert("RGBA")).astype(np.float64)
                return np.rint(pixels[..., :3] * pixels[..., 3:] / 255).astype(np.uint8)
            if turned.mode in ("1", "L"):
                return np.asarray(turned.convert("L"))
            if turned.mode in ("I", "F") or turned.mode.startswith("I;16"):
                return np.asarray(turned)
            return np.asarray(turned.convert("RGB"))
    except Exception:  # each plugin has errors of its own
        return None


def _transparent_grey(image: Image.Image, content: bytes) -> int:
    """The grey of a PNG that stands for nothing, among its pixels as Pillow stretches them; -1 if there is none."""
    found, bits = image.info.get("transparency", -1), content[24]
    return found * 255 // ((1 << bits) - 1) if bits in (2, 4) and found >= 0 else found  # of 1 bit, it is stretched


def distance(pixels: np.ndarray, expected: np.ndarray) -> float:
    """How far the farthest pixel is from the expected one, as a fraction of white.

    What white is, of 8 to 16 bits, nothing but the file says: the depth that agrees best counts.
    """
    theirs = expected[..., None] if expected.ndim == 2 else expected
    ours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    depths = [8] if pixels.dtype == np.uint8 else range(9, 17)
    whites = [255] if theirs.dtype == np.uint8 else [(1 << bits) - 1 for bits in range(8, 17)]
    return min(float(np.abs(ours / ((1 << bits) - 1) - theirs / white).max()) for bits in depths for white in whites)


if __name__ == "__main__":
    main()
