"""The model card: Markdown with YAML front matter, as model hubs read it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.lib.core.markdown import escape
from stages.lib.params.export import CardParams


def text(
    facts: Mapping[str, Any],
    measured: Mapping[str, Any],
    by_class: pd.DataFrame,
    difference: float,
    variants: pd.DataFrame,
    about: CardParams,
    parts: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The card's text.

    Args:
        facts: The files' metadata, as `stages.lib.export.metadata.collect` gives it.
        measured: validate.json.
        by_class: As `stages.lib.export.validation.read_by_class` gives it.
        difference: The most by which a file's probability differs from the network's on the test split.
        variants: As `stages.lib.export.variants.compare` gives them.
        about: What people say of it.
        parts: Of a model that a study has chosen: its trainings by name, each with its `complexity`.
    """
    classes = [escape(name) for name in facts["classes"]]
    kind = "volumes" if len(facts["input"]["shape"]) == 4 else "images"
    sections = [
        _front_matter(facts, measured, about),
        f"# {escape(facts['dataset'])}: a classifier of {kind}\n",
        f"Gives each of {len(classes)} classes a probability: {', '.join(classes)}.\n",
        "## About\n\n" + _table(("", ""), _about(about)),
        "## Input\n\n" + _table(("", ""), _contract(facts)),
        "## Data\n\nA group (a patient, or copies of one picture) is in one split only.\n",
        _table(("split", *classes, "all"), _counts(facts)),
        *_parts(parts),
        "## Results\n\n" + _table(("score", _held(parts), "test", "95 % interval of test"), _results(measured)),
        "The intervals are bootstrap percentiles over groups, not over cases.\n",
        *_by_class(by_class),
        *_calibration(measured),
        *_operating_point(measured),
        *_variants(variants),
        "## Limits\n\n" + _limits(facts, measured),
        "## How to run it\n\n" + _how_to_run(facts, difference),
        "## Made from\n\n" + _table(("", ""), [(k, facts[k]) for k in facts if k.endswith("_sha256")]),
    ]
    return "\n".join(sections)


def _front_matter(facts: Mapping[str, Any], measured: Mapping[str, Any], about: CardParams) -> str:
    data = {"name": facts["dataset"], "type": facts["dataset"], "split": "test"}
    metrics = [{"type": k, "value": v} for k, v in measured["test"].items() if v is not None]
    result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": metrics}
    front_matter = {
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "onnx", facts["network"]],
        **({"license": about.licence} if about.licence else {}),
        "model-index": [{"name": facts["dataset"], "results": [result]}],
    }
    stream = io.StringIO()
    yaml = YAML()
    yaml.dump(front_matter, stream)
    return f"---\n{stream.getvalue()}---\n"


def _about(about: CardParams) -> list[tuple[str, str]]:
    given = {field.name: getattr(about, field.name) for field in fields(about)}
    return [
        (name.replace("_", " "), escape(value) if value else f"to be filled in: `export.card.{name}`")
        for name, value in given.items()
    ]


def _by_class(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    head = ("class", *(name.replace("_", " ") for name in table.columns))
    values = table.to_numpy().tolist()
    rows = [(escape(label), *map(_rounded, of)) for label, of in zip(table.index, values, strict=True)]
    return ["Each class on the test split:\n\n" + _table(head, rows)]


def _rounded(value: str) -> str:
    return "" if not value else _number(float(value))


def _contract(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    contract = facts["input"]
    axes, shape = contract["axes"], contract["shape"]
    sizes = ["any", " or ".join(map(str, contract["channels"])), *["any"] * (len(shape) - 1)]
    trained = ", ".join(f"{axis} {n}" for axis, n in zip(axes[2:], shape[1:], strict=True))
    fitted = f"brought to {trained} inside: resampled, cropped or padded at the centre"
    rows = [
        ("axes of `input`", ", ".join(f"{axis} = {size}" for axis, size in zip(axes, sizes, strict=True))),
        ("size", fitted if contract["size"] == "fitted" else f"the network runs on what it gets; trained on {trained}"),
        ("dtype", contract["dtype"]),
        ("units", escape(contract["units"]) or _without_units(contract)),
    ]
    if contract.get("transparency", "reject") != "reject":
        rows.append(("partly transparent pictures", f"laid on {contract['transparency']}, as in training"))
    for name, value in contract.get("reading", {}).items():
        rows.append((f"`ingest.{name}` in training", f"{escape(str(value))}: read what is given in the same way"))
    if contract["spacing_mm"]:
        steps = ", ".join(f"{a} {mm:g}" for a, mm in zip(axes[2:], contract["spacing_mm"], strict=True))
        rows.append(("`spacing_mm`", f"({len(axes) - 2},) float64: of all N, along {', '.join(axes[2:])}, in mm"))
        rows.append(("spacing inside (mm)", f"{steps}: what is given is resampled to it"))
    rows.append(("output", f"probabilities, (N, {len(facts['classes'])}), each row sums to 1"))
    return rows


def _without_units(contract: Mapping[str, Any]) -> str:
    scaled = contract.get("reading", {}).get("intensity", "stored") in ("bits", "voi")
    return "none: 0 to 65535, scaled by `ingest.intensity`" if scaled else "none: the pixels' own numbers"


def _counts(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(name, *map(str, counts), str(sum(counts))) for name, counts in facts["cases"].items()]


def _results(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, value in measured["test"].items():
        low, high = measured["test_interval"].get(name, (None, None))
        interval = "" if low is None else f"{_number(low)} to {_number(high)}"
        rows.append((name.replace("_", " "), _number(measured["validation"].get(name)), _number(value), interval))
    return rows


def _held(parts: Mapping[str, Any] | None) -> str:
    """What the cases are called that validation.json has beside those of test."""
    return "validation" if parts is None else "held out" if len(parts) > 1 else "its own fold"


def _parts(parts: Mapping[str, Mapping[str, int]] | None) -> list[str]:
    """What the trainings of a study are, and what they cost together."""
    if parts is None:
        return []
    if len(parts) == 1:
        name, size = next(iter(parts.items()))
        lead = f"The training {name} of a study, the best on the cases that each of them left out, which flatters it."
    else:
        lead = (
            f"The mean of the probabilities of {len(parts)} trainings, side by side in one file behind one "
            f"preprocessing: {', '.join(parts)}. Each left out a part of the cases of training and validation, its "
            "fold; the scores of held-out cases are of the trainings that left them out."
        )
    rows = [
        (what, f"{next(iter(parts.values()))[key]:,}", f"{sum(size[key] for size in parts.values()):,}")
        for what, key in (("parameters", "parameters"), ("multiply-adds of a sample", "multiply_adds"))
    ]
    return ["## Study\n\n" + lead + "\n\n" + _table(("", "one training", "this file"), rows)]


def _calibration(measured: Mapping[str, Any]) -> list[str]:
    if "uncalibrated" not in measured:
        return []
    before, after = (on_test["calibration_error"] for on_test in (measured["uncalibrated"]["test"], measured["test"]))
    return [
        f"The logits are divided by {_number(measured['deployed']['temperature'])}, fitted on the validation split: "
        f"the expected calibration error on the test split is {_number(after)}, {_number(before)} without.\n"
    ]


def _operating_point(measured: Mapping[str, Any]) -> list[str]:
    if "operating_point" not in measured:
        return []
    point = measured["operating_point"]
    rows = [(k.replace("_", " "), _number(v)) for k, v in point["test"].items()]
    sentence = f"'{escape(point['positive'])}' is reported from a probability of {_number(point['threshold'])}"
    return [f"## Operating point\n\n{sentence}, on the test split with:\n\n" + _table(("", ""), rows)]


def _variants(table: pd.DataFrame) -> list[str]:
    if len(table) < 2:
        return []
    rows = [
        (str(row["file"]), str(row["bytes"]), _number(row["accuracy"]), f"{row['difference_below']:g}")
        for row in table.to_dict("records")
    ]
    head = ("file", "bytes", "accuracy on test", "probabilities differ by less than")
    return ["## Smaller variants\n\n" + _table(head, rows)]


def _limits(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    lines = [
        "- One of its classes is always the most probable, whatever it is shown: of something unlike the training data "
        "it may be sure, and wrong.",
        f"- Measured on {sum(facts['cases']['test'])} test cases of the same sources as the training data; on those of "
        "another scanner, site or time it may do worse.",
    ]
    corrupted = {k: v for k, v in measured.get("unlike", {}).items() if k != "none"}
    if corrupted:
        flagged = ", ".join(f"{name} {found['flagged']:.0%}" for name, found in corrupted.items())
        false = f"{measured['unlike']['none']['flagged']:.0%}"
        lines.append(f"- Its score for unlike data flags {false} of the test cases, and of spoilt ones: {flagged}.")
    return "\n".join(lines) + "\n"


def _how_to_run(facts: Mapping[str, Any], difference: float) -> str:
    contract = facts["input"]
    dtype, shape = contract["dtype"], ", ".join(map(str, contract["shape"]))
    spaced = len(contract["inputs"]) > 1
    inputs = [f'x = numpy.zeros((1, {shape}), "{dtype}")  # what you read, of its own size']
    if spaced:
        inputs.append(f'spacing_mm = numpy.array({contract["spacing_mm"]}, "float64")  # its own spacing')
    values = ("x", "spacing_mm") if spaced else ("x",)
    feed = "{" + ", ".join(f'"{name}": {value}' for name, value in zip(contract["inputs"], values, strict=True)) + "}"
    arguments = "torch.from_numpy(x)" + (", torch.from_numpy(spacing_mm)" if spaced else "")
    return f"""Colour, size, scaling and softmax are inside. On the test split, no probability of a file is more than
{difference:g} off the network's.

```python
import numpy
import onnxruntime
import torch

{chr(10).join(inputs)}

# ONNX Runtime
probabilities = onnxruntime.InferenceSession("model.onnx").run(None, {feed})[0]

# PyTorch, without the code that trained it; .torchscript runs from C++ and on phones, too
probabilities = torch.export.load("model.pt2").module()({arguments})
probabilities = torch.jit.load("model.torchscript")({arguments})
```

With the project's code beside it:

- `python -m tools.predict model.onnx FILE...` takes picture files and DICOM folders;
- `examples/cpp` runs model.torchscript from C++ on raw numbers;
- `examples/web` runs model.onnx in a browser.
"""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
