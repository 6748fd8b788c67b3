"""Checks a .pt2 file before torch loads it, whose loader makes code of what the file holds.

Expressions of sizes and guards are evaluated, targets of nodes are looked up as attributes of torch and called, names
become variables in generated code, tree specifications can import modules, and a fallback unpickles anything. Here
every string is one of a few plain forms, and what running does not need is left out: the nodes' metadata, the guards
(conditions on the input's size, which the operators check again) and the example inputs.
"""

import ast
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.model import archive
from stages.lib.model.operators import UNCHECKED, harmless

PROGRAM, EXAMPLES = "/".join(("models", "model.json")), "/".join(("data", "sample_inputs", "model.pt"))
WEIGHTS, CONSTANTS = ("/".join(("data", folder)) for folder in ("weights", "constants"))
TABLES = (f"{WEIGHTS}/model_weights_config.json", f"{CONSTANTS}/model_constants_config.json")
KNOWN = "|".join(
    (
        *(re.escape(name) for name in (PROGRAM, EXAMPLES, *TABLES)),
        *(rf"{WEIGHTS}/weight_[0-9]+", rf"{CONSTANTS}/tensor_[0-9]+"),
        r"archive_format|archive_version|byteorder|\.data/version|extra/metadata\.json",
    )
)
NAME = re.compile(r"(?!__)\w+(\.(?!__)\w+)*|", re.ASCII)  # of a node, a weight, a module, a type
PATH = re.compile(r"(?!__)\w[\w-]*(\.(?!__)\w[\w-]*)*|", re.ASCII)  # of a weight or module: RegNet's have hyphens
PATHS = ("parameter_name", "buffer_name", "tensor_constant_name", "fqn")  # attributes' names, never variables
TEXT = re.compile(r"[\w .,>+-]{0,200}", re.ASCII)  # an operator's argument ("constant", "ij,jk->ik"), a version
SYMBOL = re.compile(r"[a-z]{1,4}[0-9]{1,4}", re.ASCII)  # torch counts up to the numbers of some
TARGET = re.compile(
    r"torch\.ops\.aten\.(?P<aten>\w+)\.\w+|torch\.ops\.higher_order\.(cond|wrap_with_autocast|wrap_with_set_grad_enabled)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(float|int|ite|max|min|not)",
    re.ASCII,
)
FUNCTIONS = {
    *("Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv"),
    *("CeilDiv", "CleanDiv", "IntTrueDiv", "FloatTrueDiv", "ModularIndexing", "CeilToInt", "FloorToInt", "TruncToInt"),
    *("RoundToInt", "ToFloat", "Where", "Identity", "Equality", "Unequality", "GreaterThan", "LessThan"),
    *("StrictGreaterThan", "StrictLessThan", "And", "Or", "Not"),
}
TREES = ("in_spec", "out_spec")
TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
DEPTH = 100


def read(path: Path, content: bytes, any_operator: bool = False) -> dict[str, bytes]:
    """The members of a .pt2 file, checked.

    Args:
        any_operator: Somebody vouches for the file: it may call operators that are not known to be harmless.

    Raises:
        UserError: It is no .pt2 file, or holds what this project's exports do not.
    """
    kind = f"{path} is no .pt2 file of this project"
    members = archive.read(content, KNOWN, kind)
    try:
        if missing := [name for name in (PROGRAM, *TABLES) if name not in members]:
            raise ValueError(f"it holds no {', '.join(missing)}")
        for name in TABLES:
            table = archive.parse_json(members[name], name)
            _check_table(table, members, name.rpartition("/")[0])
            members[name] = json.dumps(table).encode()
        program = archive.parse_json(members[PROGRAM], PROGRAM)
        members[PROGRAM] = json.dumps(_Check(any_operator).program(program)).encode()
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(f"{kind}: {str(error)[:300]}") from None
    return members | {EXAMPLES: b""}


def _check_table(table: Mapping[str, Any], members: Mapping[str, bytes], folder: str) -> None:
    """Each tensor is a member of the archive, no pickle, and not larger than that."""
    for name, entry in table["config"].items():
        _match(PATH, name)
        if entry["use_pickle"]:
            raise ValueError(f"it holds a pickled tensor ({name}), which could run code")
        member = members.get(f"{folder}/{entry['path_name']}")
        sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
        if member is None or not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError(f"its tensor {name} is not there")
        if math.prod(sizes) > len(member):
            raise ValueError(f"its tensor {name} is larger than its bytes")


class _Check:
    def __init__(self, any_operator: bool) -> None:
        self._any_operator = any_operator

    def program(self, program: dict[str, Any]) -> dict[str, Any]:
        """What of a program is loaded."""
        for name in program["range_constraints"]:
            _match(SYMBOL, name)
        graph = program["graph_module"]
        module = {key: self._plain(graph[key], key, 0) for key in ("graph", "signature", "module_call_graph")}
        kept = ("opset_version", "range_constraints", "schema_version", "verifiers", "torch_version")
        rest = {key: self._plain(program[key], key, 0) for key in kept if key in program}
        return {**rest, "graph_module": {**module, "metadata": {}, "treespec_namedtuple_fields": {}}, "guards_code": []}

    def _plain(self, value: Any, key: str, depth: int) -> Any:
        """A value whose strings all have a form that can do no harm where torch uses them; without metadata."""
        if depth > DEPTH:
            raise ValueError("it is nested too deep")
        if isinstance(value, dict):
            node = "target" in value and "inputs" in value
            return {
                _match(NAME, name): {} if node and name == "metadata" else self._plain(one, name, depth + 1)
                for name, one in value.items()
            }
        if isinstance(value, list):
            return [self._plain(one, key, depth + 1) for one in value]
        return self._string(value, key) if isinstance(value, str) else value

    def _string(self, text: str, key: str) -> str:
        if key in ("target", "as_operator"):
            self._check_target(text)
        elif key == "expr_str":
            _check_expression(text)
        elif key in TREES:
            _check_tree(archive.parse_json(text, key)[1])
        else:
            _match(
                PATH if key in PATHS else TEXT if key in ("as_string", "as_strings", "torch_version") else NAME, text
            )
        return text

    def _check_target(self, target: str) -> None:
        found = TARGET.fullmatch(target)
        operator = found and found["aten"]
        if not found or (operator and not self._any_operator and not (harmless(operator) or operator in UNCHECKED)):
            raise ValueError(f"it calls {target[:80]!r}, which is not known to be harmless")


def _match(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not what torch writes there")
    return text


def _check_expression(text: str) -> None:
    """An expression of sizes, as sympy writes it: Add(Integer(32), Symbol('s0', positive=True, integer=True))."""
    if len(text) > 10_000:
        raise ValueError("an expression is too long")
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Call):
            _check_call(node)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                _match(SYMBOL, node.value)
            elif not isinstance(node.value, (int, float)) or abs(node.value) > 2**63:
                raise ValueError(f"{text[:80]!r} is no expression of sizes")
        elif not isinstance(node, (ast.Expression, ast.Name, ast.Load, ast.keyword, ast.UnaryOp, ast.USub)):
            raise ValueError(f"{text[:80]!r} is no expression of sizes")
        elif isinstance(node, ast.Name) and not (node.id in FUNCTIONS or node.id in ("true", "false")):
            raise ValueError(f"{text[:80]!r} has an unknown name")


def _check_call(call: ast.Call) -> None:
    if not isinstance(call.func, ast.Name):
        raise ValueError("an expression calls what is no function of sizes")
    if call.func.id == "Pow":  # of a number, it might have more digits than the memory
        base, exponent = (ast.unparse(argument) for argument in call.args)
        if not base.startswith("Symbol(") or exponent not in [f"Integer({n})" for n in range(-4, 5)]:
            raise ValueError("an expression has a power of something else than a size")


def _check_tree(spec: Mapping[str, Any]) -> None:
    """A tree of plain containers: others' contexts may name a module to import."""
    context = spec["context"]
    if spec["type"] not in TYPES or context not in (None, "null", "[]"):
        raise ValueError("its inputs and outputs are no plain tuples")
    for child in spec["children_spec"]:
        _check_tree(child)
