"""Percentages for pictures and DICOM series, by an exported model of any format.

    python -m tools.predict models/digits/model.onnx data/raw/digits/images/0001.png
    python -m tools.predict models/phantoms/model.pt2 "data/raw/phantoms/P00*/S0" --top 3 --output csv

Files are brought to the model's shape as the dataset stage does it, by what the model's file says of it. A case that
can't be read for certain is named with its reason, and the exit code is 1.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from stages.lib import checkpoint, gradcam, outs, pictures, showcase
from stages.lib.errors import UserError
from stages.lib.exported import Runner, open_model
from stages.lib.geometry import Geometry
from stages.lib.raw_cases import RawCase, read_cases

BATCH = 32


class Answer(NamedTuple):
    """What a model says of a case, or why it says nothing."""

    name: str
    probabilities: np.ndarray | None  # (K,)
    unlike: bool | None  # None: the model does not tell
    trouble: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="an exported file: model.onnx, model.torchscript or model.pt2")
    parser.add_argument("files", nargs="+", help="pictures, DICOM files, folders of them, or globs")
    parser.add_argument("--top", type=int, default=3, help="how many classes a case (3)")
    parser.add_argument("--output", choices=FORMS, default="table", help="how to print (table)")
    parser.add_argument("--raw", type=Path, help="also write what the model is given, without a header")
    parser.add_argument("--explain", type=Path, help="also write a PNG of where the network looked (needs model.pt)")
    arguments = parser.parse_args(argv)
    try:
        run, facts = open_model(arguments.model)
        cases = list(shaped(arguments.files, facts))
        answers = list(answer(run, cases))
        if arguments.raw:
            outs.write_bytes(
                arguments.raw, b"".join(case.pixels.tobytes() for case in cases if case.pixels is not None)
            )
        if arguments.explain:
            outs.write_figure(arguments.explain, explained(arguments.model, cases, answers, facts["classes"]))
    except UserError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(FORMS[arguments.output](answers, facts["classes"], arguments.top))
    troubles = [one for one in answers if one.trouble]
    for one in troubles:
        print(f"error: {one.name}: {one.trouble}", file=sys.stderr)
    sys.exit(1 if troubles else 0)


def shaped(files: Sequence[str], facts: dict[str, Any]) -> Iterator[RawCase]:
    """The cases of the files as the model takes them: its shape and dtype."""
    geometry = Geometry(**facts["geometry"])
    channels, *size = facts["input"]["shape"]
    for case in read_cases(files, "images" if len(size) == 2 else "volumes", channels):
        yield case if case.pixels is None else _fitted(case, case.pixels, geometry, facts["input"])


def _fitted(case: RawCase, pixels: np.ndarray, geometry: Geometry, contract: dict[str, Any]) -> RawCase:
    if case.units != contract["units"]:
        units = [units or "numbers without a unit" for units in (case.units, contract["units"])]
        return case._replace(pixels=None, trouble=f"it holds {units[0]}, the model takes {units[1]}")
    if pixels.ndim != len(contract["shape"]):
        return case._replace(pixels=None, trouble="it is a picture, the model takes volumes")
    try:
        x = geometry(torch.from_numpy(pixels[None]), case.spacing_mm)[0].numpy()
    except ValueError as error:
        return case._replace(pixels=None, trouble=str(error))
    if list(x.shape) != contract["shape"]:
        return case._replace(pixels=None, trouble=f"it has {len(x)} channels, the model takes {contract['shape'][0]}")
    return case._replace(pixels=np.ascontiguousarray(x))


def answer(run: Runner, cases: Sequence[RawCase]) -> Iterator[Answer]:
    """The model's answer for each case, in the order of the cases."""
    readable = [case for case in cases if case.pixels is not None]
    said: dict[int, tuple[np.ndarray, ...]] = {}
    for start in range(0, len(readable), BATCH):
        batch = readable[start : start + BATCH]
        results = run(np.stack([case.pixels for case in batch if case.pixels is not None]))
        said |= {id(case): tuple(result[i] for result in results) for i, case in enumerate(batch)}
    for case in cases:
        probabilities, *more = said.get(id(case), (None,))
        yield Answer(case.name, probabilities, bool(more[0] > 0) if more else None, case.trouble)


def explained(model: Path, cases: Sequence[RawCase], answers: Sequence[Answer], classes: Sequence[str]) -> Figure:
    """Each case with the heat of its most probable class over it."""
    classifier, recipe = checkpoint.load(model.with_name("model.pt"))
    show = showcase.Showcase(classifier, recipe.normalise["low"], recipe.normalise["high"], classes)
    images, captions = [], []
    for case, one in zip(cases, answers, strict=True):
        if case.pixels is not None and one.probabilities is not None:
            k = int(one.probabilities.argmax())
            images.append(show.explanation(case.pixels, gradcam.explain(classifier, case.pixels, k)))
            name, said = pictures.short(Path(case.name).name, 24), pictures.short(classes[k], 18)
            captions.append(f"{name}\n{said}: {one.probabilities[k]:.0%}")
    return pictures.sheet(images, captions, "What the network looked at")


def _best(one: Answer, top: int) -> list[int]:
    return [] if one.probabilities is None else (-one.probabilities).argsort(kind="stable")[:top].tolist()


def as_table(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    width = max((len(one.name) for one in answers if not one.trouble), default=0)
    lines = []
    for one in answers:
        if one.probabilities is not None:
            said = "   ".join(f"{classes[k]} {100 * one.probabilities[k]:.2f} %" for k in _best(one, top))
            warning = "   (unlike the training data: do not trust this)" if one.unlike else ""
            lines.append(f"{one.name:{width}}   {said}{warning}\n")
    return "".join(lines)


def as_json(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    def row(one: Answer) -> dict[str, Any]:
        if one.probabilities is None:
            return {"file": one.name, "error": one.trouble}
        chances = {classes[k]: float(one.probabilities[k]) for k in _best(one, top)}
        return {"file": one.name, "probabilities": chances} | ({} if one.unlike is None else {"unlike": one.unlike})

    return json.dumps([row(one) for one in answers], indent=2, ensure_ascii=False) + "\n"


def as_csv(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    rows = [
        (one.name, rank + 1, classes[k], one.probabilities[k])
        for one in answers
        if one.probabilities is not None
        for rank, k in enumerate(_best(one, top))
    ]
    table = pd.DataFrame(rows, columns=["file", "rank", "class", "probability"])
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


FORMS = {"table": as_table, "json": as_json, "csv": as_csv}

if __name__ == "__main__":
    main()
