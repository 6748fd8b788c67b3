"""The block of a data set in params.yaml, as text: what people have written there stays, comments too."""

import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from tools.init.look import Found

INDENT = "  "


def text(name: str, found: Found) -> str:
    """The block, with a comment where something was chosen, and where something could be."""
    size = "x".join(f"{round(number)}" for number in found.size)
    about = f"{found.cases} {'pictures' if found.kind == 'images' else 'series looked at'}" + (
        f", half of them no larger than {size}" if size else ""
    )
    lines = [f"{name}:  # {about}"]
    if found.ingest or found.offers:
        lines.append("  ingest:")
        lines += [
            f"    {key}: {json.dumps(value, ensure_ascii=False)}  # {found.why[key]}"
            for key, value in found.ingest.items()
        ]
        said = {key: f"'{of}'" if isinstance(of, str) else json.dumps(of) for key, (of, _) in found.offers.items()}
        lines += [f"    # {key}: {said[key]}  # {why}" for key, (_, why) in found.offers.items()]
        if not found.ingest:
            lines[1] = "  ingest: {}"
    else:
        lines.append("  ingest: {}")
    lines += [
        "  split: {}  # validation and test: 15 % each, by group",
        "  statistics: {}",
        "  dataset: {}  # one size for all; shape: [...] is another",
        "  train: {}  # the network and how it is trained: docs/params.md",
        "  validate: {}",
        "  export: {}",
    ]
    return "".join(f"{INDENT}{line}\n" for line in lines)


def insert(params_yaml: Path, block: str) -> None:
    """Writes a block at the end of `datasets`.

    Raises:
        UserError: params.yaml is not laid out so that a block can be added; it stays as it was.
    """
    before = params_yaml.read_text(encoding="utf-8")
    tree = YAML().load(before)
    start, end = _place(tree, ["datasets"], before)
    lines = before.splitlines(keepends=True)
    if not tree["datasets"]:
        lines[start] = re.sub(r" *\{\}", "", lines[start], count=1)
    head = "".join(lines[:end])
    first = "" if not tree["datasets"] else "\n"
    after = head + "\n" * (not head.endswith("\n")) + first + block + "".join(lines[end:])
    (name,) = YAML(typ="safe", pure=True).load(block)
    if _datasets(after).keys() - {name} != _datasets(before).keys() or not _differ_there_alone(before, after, {name}):
        raise UserError(
            f"{params_yaml} is laid out in a way that tools.init can't add to: copy the block by hand:\n{block}"
        )
    outs.write_bytes(params_yaml, after.encode())
    params.load(params_yaml)


def without(text: str, names: list[str]) -> str:
    """The text of a params.yaml without the blocks of some data sets.

    Raises:
        UserError: It is not laid out so that they can be told from the rest.
    """
    after = text
    for name in names:
        tree = YAML().load(after)
        start, end = _place(tree, ["datasets", name], after)
        lines = after.splitlines(keepends=True)
        if len(tree["datasets"]) == 1:
            first, _ = _place(tree, ["datasets"], after)
            lines[first] = lines[first].replace("datasets:", "datasets: {}", 1)
        while start and not lines[start - 1].strip() and end < len(lines) and not lines[end].strip():
            start -= 1  # one empty line between what is left
        after = "".join(lines[:start] + lines[end:])
    if _datasets(after).keys() | set(names) != _datasets(text).keys() or not _differ_there_alone(
        text, after, set(names)
    ):
        raise UserError(f"params.yaml is laid out in a way that hides where {', '.join(names)} ends: delete it by hand")
    return after


def _place(tree: Any, path: list[str], text: str) -> tuple[int, int]:
    """The lines of a key and what is under it, without the comments and empty lines that belong to what follows."""
    lines = text.splitlines()
    *above, name = path
    for key in above:
        tree = tree[key]
    start = tree.lc.key(name)[0]
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return start, end


def _datasets(text: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(text)["datasets"]


def _differ_there_alone(one: str, other: str, names: set[str]) -> bool:
    """Whether two texts of params.yaml mean the same but for the blocks of these data sets."""
    kept = []
    for text in (one, other):
        tree = YAML(typ="safe", pure=True).load(text)
        tree["datasets"] = {name: block for name, block in tree["datasets"].items() if name not in names}
        kept.append(tree)
    return kept[0] == kept[1]
