"""The block of a data set in params.yaml, as text: what people have written there stays, comments too."""

import json
from pathlib import Path

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
        lines += [f"    # {key}: '{value}'  # {why}" for key, (value, why) in found.offers.items()]
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
    keys = list(tree)
    lines = before.splitlines(keepends=True)
    at = keys.index("datasets") + 1
    end = tree.lc.key(keys[at])[0] if at < len(keys) else len(lines)
    while end and lines[end - 1].lstrip().startswith("#") and not lines[end - 1].startswith(" "):
        end -= 1  # a comment above the next key is that key's
    while end and not lines[end - 1].strip():
        end -= 1
    head = "".join(lines[:end])
    after = head + "\n" * (1 + (not head.endswith("\n"))) + block + "".join(lines[end:])
    kept = YAML(typ="safe", pure=True)
    old, new = kept.load(before), kept.load(after)
    added = set(new["datasets"]) - set(old["datasets"])
    if {**new, "datasets": {k: v for k, v in new["datasets"].items() if k not in added}} != old or len(added) != 1:
        raise UserError(
            f"{params_yaml} is laid out in a way that tools.init can't add to: copy the block by hand:\n{block}"
        )
    outs.write_bytes(params_yaml, after.encode())
    params.load(params_yaml)
