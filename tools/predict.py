"""Percentages for pictures and DICOM series, by an exported model of any format.

    python -m tools.predict models/digits/model.onnx data/raw/digits/images/0001.png
    python -m tools.predict models/phantoms/model.pt2 "data/raw/phantoms/P00*/S0" --top 3 --output csv

A file is checked before it is loaded. A .pt2 of others is refused: torch may run code when it loads one. The project's
own are known by their sha256 in metrics/<dataset>/export.json; --trust loads any.

The model's file resamples what was read to its own size and spacing. A case that can't be read for certain, or that
the model does not take, is named with the reason, and the exit code is 1.

`--raw` writes the cases for examples/cpp and examples/web, one after the other: a line of text, then the numbers of
(C, H, W) or (C, D, H, W), in C order and the machine's byte order. The line has the dtype, the sizes, and, where the
model takes it, the spacing in mm along D, H, W:

    int16 1 99 512 512 3.0 0.564453 0.564453
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.formulas import guarded
from stages.lib.core.terminal import shown
from stages.lib.export.formats import Model, Runner, open_model
from tools.raw_cases import RawCase, read_cases

BATCH = 32


class Answer(NamedTuple):
    """A model's output for a case, or why there is none."""

    name: str
    probabilities: np.ndarray | None  # (K,)
    unlike: bool | None  # None: the model has no such output
    trouble: str = ""


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="an exported file, such as model.onnx")
    parser.add_argument("files", nargs="+", help="pictures, DICOM files, folders of them, or globs")
    parser.add_argument("--top", type=int, default=3, help="how many classes per case (3)")
    parser.add_argument("--output", choices=FORMS, default="table", help="how to print (table)")
    parser.add_argument("--raw", type=Path, help="also write what the model is given")
    parser.add_argument("--trust", action="store_true", help="run a file of others although it might run code")
    parser.add_argument("--explain", type=Path, help="also write a PNG of where the network looked (needs model.pt)")
    arguments = parser.parse_args(argv)
    run, metadata = open_model(arguments.model, arguments.trust)
    cases = list(taken(arguments.files, metadata))
    answers = list(answer(run, cases))
    if arguments.raw:
        outs.write_bytes(arguments.raw, b"".join(as_raw(case, metadata) for case in cases if not case.trouble))
    if arguments.explain:
        from tools import explanation  # with torch and matplotlib, which take seconds

        told = [(case, one.probabilities) for case, one in zip(cases, answers, strict=True)]
        explanation.write(arguments.explain, arguments.model, told, metadata["classes"], arguments.trust)
    sys.stdout.write(FORMS[arguments.output](answers, metadata["classes"], arguments.top))
    troubles = [one for one in answers if one.trouble]
    for one in troubles:
        print(f"error: {shown(one.name)}: {shown(one.trouble)}", file=sys.stderr)
    sys.exit(1 if troubles else 0)


def taken(files: Sequence[str], metadata: dict[str, Any]) -> Iterator[RawCase]:
    """The cases of the files, of their own size; one that the model does not take has the reason instead of pixels."""
    contract = metadata["input"]
    wanted: Literal["images", "volumes"] = "images" if len(contract["shape"]) == 3 else "volumes"
    for case in read_cases(files, wanted, min(contract["channels"]), _as_in_training(contract)):
        if case.pixels is None:
            yield case
        elif trouble := _trouble(case, case.pixels, contract):
            yield case._replace(pixels=None, trouble=trouble)
        else:
            yield case._replace(pixels=case.pixels.astype(contract["dtype"]))


def _as_in_training(contract: dict[str, Any]) -> dict[str, str]:
    """The params of ingest that say how pictures are read."""
    return {name: contract[name] for name in ("transparency", "colour") if name in contract}


def _trouble(case: RawCase, pixels: np.ndarray, contract: dict[str, Any]) -> str:
    """Why the model does not take a case; empty if it does."""
    if case.units != contract["units"]:
        units = [units or "numbers without a unit" for units in (case.units, contract["units"])]
        return f"it holds {units[0]}, the model takes {units[1]}"
    if pixels.ndim != len(contract["shape"]):
        return "it is a picture, the model takes volumes"
    if len(pixels) not in contract["channels"]:
        return f"it has {len(pixels)} channels, the model takes {' or '.join(map(str, contract['channels']))}"
    if not np.can_cast(pixels.dtype, contract["dtype"]):
        return f"it holds {pixels.dtype} numbers, the model takes {contract['dtype']}"
    if "spacing_mm" in contract["inputs"] and not np.all(np.array(case.spacing_mm or 0.0) > 0):  # nan, too
        return "its spacing is unknown, which the model needs"
    return ""


def as_raw(case: RawCase, metadata: dict[str, Any]) -> bytes:
    """A case for the programs in examples/, as the top of this file describes it."""
    assert case.pixels is not None
    spacing = case.spacing_mm or () if "spacing_mm" in metadata["input"]["inputs"] else ()
    line = " ".join(map(str, (case.pixels.dtype, *case.pixels.shape, *map(float, spacing))))
    return line.encode() + b"\n" + case.pixels.tobytes()


def answer(run: Runner, cases: Sequence[RawCase]) -> Iterator[Answer]:
    """The model's answer for each case, in order; neighbours of one size share a batch."""
    for (shape, spacing), group in groupby(cases, _size):
        same_size = list(group)
        if not shape:
            yield from (Answer(case.name, None, None, case.trouble) for case in same_size)
            continue
        for start in range(0, len(same_size), BATCH):
            batch = same_size[start : start + BATCH]
            pixels = np.stack([case.pixels for case in batch if case.pixels is not None])
            probabilities, *unlike = outputs(run, pixels, spacing, batch[0].name)
            for i, case in enumerate(batch):
                yield Answer(case.name, probabilities[i], bool(unlike[0][i] > 0) if unlike else None)


def outputs(run: Runner, x: np.ndarray, spacing: Any, name: str) -> tuple[np.ndarray, ...]:
    """The model's outputs for a batch.

    Raises:
        UserError: It can't run on these, or its outputs are no probabilities of its classes.
    """
    try:
        found = run(x, spacing)
    except Exception as error:  # every runtime has a class of its own
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"the model can't run on {name}, {' x '.join(map(str, x.shape[1:]))}: {reason}") from None
    classes = run.metadata["classes"] if isinstance(run, Model) else ()
    wanted = [(len(x), len(classes) or found[0].shape[-1]), (len(x),)]
    if [np.shape(output) for output in found] != wanted[: len(found)] or found[0].dtype.kind != "f":
        raise UserError("the model's outputs are no probabilities of the classes in its metadata")
    return found


def _size(case: RawCase) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """What the cases of a batch have in common: shape and spacing; the shape is () without pixels."""
    return (() if case.pixels is None else case.pixels.shape), case.spacing_mm


def _best(one: Answer, top: int) -> list[int]:
    return [] if one.probabilities is None else (-one.probabilities).argsort(kind="stable")[:top].tolist()


def as_table(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    names = [shown(name) for name in classes]
    width = max((len(shown(one.name)) for one in answers if not one.trouble), default=0)
    lines = []
    for one in answers:
        if one.probabilities is not None:
            percentages = "   ".join(f"{names[k]} {100 * one.probabilities[k]:.2f} %" for k in _best(one, top))
            warning = "   (unlike the training data: do not trust this)" if one.unlike else ""
            lines.append(f"{shown(one.name):{width}}   {percentages}{warning}\n")
    return "".join(lines)


def as_json(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    def row(one: Answer) -> dict[str, Any]:
        if one.probabilities is None:
            return {"file": one.name, "error": one.trouble}
        probabilities = {classes[k]: float(one.probabilities[k]) for k in _best(one, top)}
        return {"file": one.name, "probabilities": probabilities} | (
            {} if one.unlike is None else {"unlike": one.unlike}
        )

    return json.dumps([row(one) for one in answers], indent=2, ensure_ascii=False) + "\n"


def as_csv(answers: Sequence[Answer], classes: Sequence[str], top: int) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "rank", "class", "probability"])
    for one in answers:
        if one.probabilities is not None:
            for rank, k in enumerate(_best(one, top)):
                table.writerow([guarded(one.name), rank + 1, guarded(classes[k]), f"{one.probabilities[k]:.6g}"])
    return text.getvalue()


FORMS = {"table": as_table, "json": as_json, "csv": as_csv}

if __name__ == "__main__":
    main()
