"""The model card: Markdown with front matter, as model hubs read it."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML


def text(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """A card.

    Args:
        facts: As `stages.lib.metadata.collect` gives them.
        measured: validate.json.
    """
    sections = [
        _front_matter(facts, measured),
        f"# {facts['dataset']}: a classifier of {_kind(facts)}\n",
        f"Gives each of {len(facts['classes'])} classes a probability: {_listed(facts['classes'])}.\n",
        "## Input\n\n" + _table(("", ""), _contract(facts["input"])),
        "## Results\n\n" + _table(("score", *measured), _results(measured)),
        "## How to run it\n\n" + RUN,
    ]
    return "\n".join(sections)


RUN = """The input is the dataset's own integers; scaling and softmax are inside.

```python
import onnxruntime
probabilities, *_ = onnxruntime.InferenceSession("model.onnx").run(None, {"input": x})

import torch
probabilities = torch.jit.load("model.torchscript")(torch.from_numpy(x))
probabilities = torch.export.load("model.pt2").module()(torch.from_numpy(x))
```
"""


def _front_matter(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    results = [
        {"type": name, "value": value} for name, value in measured["test"].items() if isinstance(value, int | float)
    ]
    about = {
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "onnx", facts["network"]],
        "model-index": [
            {
                "name": facts["dataset"],
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": facts["dataset"], "type": facts["dataset"], "split": "test"},
                        "metrics": results,
                    }
                ],
            }
        ],
    }
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(about, stream)
    return f"---\n{stream.getvalue()}---\n"


def _kind(facts: Mapping[str, Any]) -> str:
    return "volumes" if len(facts["input"]["shape"]) == 4 else "images"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _contract(contract: Mapping[str, Any]) -> list[tuple[str, str]]:
    sizes = ["any", *map(str, contract["shape"])]
    rows = [
        ("axes", ", ".join(f"{axis} = {size}" for axis, size in zip(contract["axes"], sizes, strict=True))),
        ("dtype", contract["dtype"]),
        ("units", contract["units"] or "none: the pixels' own numbers"),
    ]
    if contract["spacing_mm"]:
        axes = contract["axes"][2:]
        spacing = (f"{axis} {mm:g}" for axis, mm in zip(axes, contract["spacing_mm"], strict=True))
        rows.append(("spacing (mm)", ", ".join(spacing)))
    return rows


def _results(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (name.replace("_", " "), *(_number(scores.get(name)) for scores in measured.values()))
        for name in next(iter(measured.values()))
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
