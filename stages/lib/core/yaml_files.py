"""Reads YAML that may be anything: a file that refers to itself, or a few lines that stand for a million values."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

from stages.lib.core.errors import UserError
from stages.lib.core.opening import read_text

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # in one file, what an alias refers to counted each time


def load(path: Path) -> Any:
    """A file of YAML 1.2, as dvc reads it: 1e-3 is a number.

    Raises:
        UserError: It can't be read, is no YAML, or stands for more values than any file of this project has.
    """
    text = read_text(path, MAX_BYTES)
    try:
        return copy.deepcopy(_parsed(text))
    except (YAMLError, ValueError) as error:  # the latter for a date or number that can't be
        raise UserError(f"{path} is no valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{path} is no valid YAML: it is nested too deep") from None


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """Kept, as a stage looks into dvc.yaml several times, which takes 0.05 s to parse."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Bounded
    return yaml.load(text)


class _Bounded(SafeConstructor):
    """Makes values of a file's nodes, once it is clear that they are not too many."""

    def construct_document(self, node: Node) -> Any:
        values = _count(node, {})
        if values > MAX_VALUES:
            raise ValueError(f"its aliases make {values} values of it, expected {MAX_VALUES} at most")
        return super().construct_document(node)


def _count(node: Node, counted: dict[int, int]) -> int:
    """How many values a node stands for; it looks at each node once.

    Args:
        counted: The numbers of those seen before, by `id`; 0 of one that holds this node.

    Raises:
        ValueError: A node holds itself.
    """
    if isinstance(node, ScalarNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = 0
        below = [one for part in node.value for one in (part if isinstance(part, tuple) else (part,))]
        counted[id(node)] = 1 + sum(_count(one, counted) for one in below)
    if not counted[id(node)]:
        raise ValueError(f"an alias refers to what it lies in, at line {node.start_mark.line + 1}")
    return counted[id(node)]
