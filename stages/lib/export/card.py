"""The model card: Markdown with YAML front matter, as model hubs read it."""

import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.lib.core.markdown import escape
from stages.lib.export.card_words import number, table, words
from stages.lib.export.formats.runner import output_names
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
        difference: How far a file's answer is off the network's on the test split, at most, as of `parity.off`.
        variants: As `stages.lib.export.variants.compare` gives them.
        about: What people say of it.
        parts: Of a model that a study has chosen: its trainings by name, each with its `complexity`.
    """
    kind = "volumes" if len(facts["input"]["shape"]) == 4 else "images"
    of = words(facts)
    sections = [
        _front_matter(facts, measured, about),
        f"# {escape(facts['dataset'])}: {of.title(kind)}\n",
        of.asked() + "\n",
        "## About\n\n" + table(("", ""), _about(about)),
        "## Input\n\n" + table(("", ""), _contract(facts)),
        "## Data\n\nA group (a patient, or copies of one picture) is in one split only.\n",
        table(*of.cases()),
        *_parts(parts, of.answers),
        "## Results\n\n" + table(("score", _held(parts), "test", "95 % interval of test"), _results(measured)),
        "The intervals are bootstrap percentiles over groups, not over cases.\n",
        *_by_class(by_class, of.a_class),
        *of.fitted(measured, _fitted_on(parts)),
        *_operating_point(measured),
        *_variants(variants, of.an_answer_is_off),
        "## Limits\n\n" + _limits(facts, measured),
        "## How to run it\n\n" + _how_to_run(facts, difference),
        "## Made from\n\n" + table(("", ""), [(k, facts[k]) for k in facts if k.endswith("_sha256")]),
    ]
    return "\n".join(sections)


def _front_matter(facts: Mapping[str, Any], measured: Mapping[str, Any], about: CardParams) -> str:
    data = {"name": facts["dataset"], "type": facts["dataset"], "split": "test"}
    metrics = [{"type": k, "value": v} for k, v in measured["test"].items() if v is not None]
    result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": metrics}
    front_matter = {
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", *([] if "onnx" in left_out(facts) else ["onnx"]), facts["network"], *words(facts).tags],
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


def _by_class(scores: pd.DataFrame, a_class: str) -> list[str]:
    if scores.empty:
        return []
    head = (a_class, *(name.replace("_", " ") for name in scores.columns))
    values = scores.to_numpy().tolist()
    rows = [(escape(label), *map(_rounded, of)) for label, of in zip(scores.index, values, strict=True)]
    return [f"Each {a_class} on the test split:\n\n" + table(head, rows)]


def _rounded(value: str) -> str:
    return "" if not value else number(float(value))


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
    rows.append(("output", words(facts).output()))
    return rows


def _without_units(contract: Mapping[str, Any]) -> str:
    scaled = contract.get("reading", {}).get("intensity", "stored") in ("bits", "voi")
    return "none: 0 to 65535, scaled by `ingest.intensity`" if scaled else "none: the pixels' own numbers"


def _results(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, value in measured["test"].items():
        low, high = measured["test_interval"].get(name, (None, None))
        interval = "" if low is None else f"{number(low)} to {number(high)}"
        rows.append((name.replace("_", " "), number(measured["validation"].get(name)), number(value), interval))
    return rows


def _held(parts: Mapping[str, Any] | None) -> str:
    """What the cases are called that validation.json has beside those of test."""
    return "validation" if parts is None else "held out" if len(parts) > 1 else "its own fold"


def _fitted_on(parts: Mapping[str, Any] | None) -> str:
    """The cases that settings were fitted on."""
    if parts is None:
        return "validation split"
    return "cases that were held out" if len(parts) > 1 else "cases of its own fold"


def _parts(parts: Mapping[str, Mapping[str, int]] | None, answers: str) -> list[str]:
    """What the trainings of a study are, and what they cost together.

    Args:
        answers: What each of them gives, for people.
    """
    if parts is None:
        return []
    if len(parts) == 1:
        name, size = next(iter(parts.items()))
        lead = f"The training {name} of a study, the best on the cases that each of them left out, which flatters it."
    else:
        lead = (
            f"The mean of the {answers} of {len(parts)} trainings, side by side in one file behind one "
            f"preprocessing: {', '.join(parts)}. Each left out a part of the cases of training and validation, its "
            "fold; the scores of held-out cases are of the trainings that left them out."
        )
    rows = [
        (what, f"{next(iter(parts.values()))[key]:,}", f"{sum(size[key] for size in parts.values()):,}")
        for what, key in (("parameters", "parameters"), ("multiply-adds of a sample", "multiply_adds"))
    ]
    return ["## Study\n\n" + lead + "\n\n" + table(("", "one training", "this file"), rows)]


def _operating_point(measured: Mapping[str, Any]) -> list[str]:
    if "operating_point" not in measured:
        return []
    point = measured["operating_point"]
    rows = [(k.replace("_", " "), number(v)) for k, v in point["test"].items()]
    sentence = f"'{escape(point['positive'])}' is reported from a probability of {number(point['threshold'])}"
    return [f"## Operating point\n\n{sentence}, on the test split with:\n\n" + table(("", ""), rows)]


def _variants(files: pd.DataFrame, is_off: str) -> list[str]:
    if len(files) < 2:
        return []
    score = files.columns[2]
    rows = [
        (str(row["file"]), str(row["bytes"]), number(row[score]), f"{row['difference_below']:g}")
        for row in files.to_dict("records")
    ]
    head = ("file", "bytes", f"{score.replace('_', ' ')} on test", is_off)
    return ["## Smaller variants\n\n" + table(head, rows)]


def _limits(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    of = words(facts)
    lines = [
        f"- {of.limit()}",
        f"- Measured on {of.test_cases()} test cases of the same sources as the training data; on those of "
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
    of, answer = words(facts), output_names(facts)[0]
    said = f"On the test split, no {of.an_answer} of a file is more than\n{of.off(difference)} off the network's."
    missing = left_out(facts)
    in_torch = {
        "pt2": f'{answer} = torch.export.load("model.pt2").module()({arguments})',
        "torchscript": f'{answer} = torch.jit.load("model.torchscript")({arguments})',
    }
    imports, parts = ["import numpy"], []
    if "onnx" not in missing:
        imports.append("import onnxruntime")
        run = f'{answer} = onnxruntime.InferenceSession("model.onnx").run(None, {feed})[0]'
        parts.append(f"# ONNX Runtime\n{run}")
    if lines := [line for name, line in in_torch.items() if name not in missing]:
        imports.append("import torch")
        phones = "" if "torchscript" in missing else "; .torchscript runs from C++ and on phones, too"
        parts.append("\n".join([f"# PyTorch, without the code that trained it{phones}", *lines]))
    code = "\n\n".join(["\n".join(imports), "\n".join(inputs), *parts])
    beside = [f"- `python -m tools.predict {_first(missing)} FILE...` takes picture files and DICOM folders"]
    if "torchscript" not in missing:
        beside.append("- `examples/cpp` runs model.torchscript from C++ on raw numbers")
    if "onnx" not in missing:
        beside.append("- `examples/web` runs model.onnx in a browser")
    reasons = "".join(f"\nThere is no model.{name}: {escape(reason)}.\n" for name, reason in missing.items())
    return f"""Colour, size, scaling and {of.last_layer} are inside. {said}

```python
{code}
```

With the project's code beside it:

{(";" + chr(10)).join(beside)}.
{reasons}"""


def left_out(facts: Mapping[str, Any]) -> dict[str, str]:
    """The formats that the model does not have, each with the reason."""
    return facts.get("left_out", {})


def _first(missing: Mapping[str, str]) -> str:
    return next(f"model.{name}" for name in ("onnx", "torchscript", "pt2") if name not in missing)
