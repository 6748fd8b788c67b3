"""Checks a TorchScript file before libtorch compiles it: its code is Python's grammar, and may call operators alone.

libtorch makes no Python objects, but its code can write files, and methods such as `__setstate__` run while it is
loaded. What this project exports is one class with one method, all of whose calls are of operators.
"""

import ast
from pathlib import Path

from stages.lib.core.errors import UserError
from stages.lib.model import archive
from stages.lib.model.operators import harmless

KNOWN = (
    r"data\.pkl|constants\.pkl|version|byteorder|\.data/version|(data|constants)/[0-9]+|code/__torch__[\w/]*\.py"
    r"|extra/(metadata\.json|classes\.txt|input\.txt|target\.txt)"
)
CODE_BYTES = 64 * 2**20  # Python's parser takes a hundred times as much memory
WRITERS = {"from_file", "save"}  # these are of no use to a model, whoever made it
BUILTINS = {"annotate", "bool", "float", "int", "range", "unchecked_cast", "uninitialized"}
PRIMITIVES = {"NumToTensor", "RaiseException", "data", "device", "dtype", "max", "min", "unchecked_cast"}
GRAMMAR = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AnnAssign),
    *(ast.AugAssign, ast.Expr, ast.If, ast.IfExp, ast.For, ast.While, ast.Pass, ast.Raise, ast.Assert),
    *(ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Call, ast.keyword),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare),
    *(ast.expr_context, ast.unaryop, ast.operator, ast.boolop, ast.cmpop),
)
LISTS = r"torch\.jit\._pickle build_(int|double|bool|tensor)list"
PICKLED = rf"{archive.TENSORS}|{LISTS}|__torch__(?!\.torch\.classes)(\.\w+)* \w+"


def read(path: Path, content: bytes, any_operator: bool = False) -> dict[str, bytes]:
    """The members of a TorchScript file, checked; the code is written anew from what was checked.

    Args:
        any_operator: Somebody vouches for the file: it may call operators that are not known to be harmless.

    Raises:
        UserError: It is no TorchScript file, or it could do more than compute.
    """
    kind = f"{path} is no TorchScript file of this project"
    members = archive.read(content, KNOWN, kind)
    try:
        for name, member in members.items():
            if name.endswith(".py"):
                members[name] = _checked(member, any_operator).encode()
            elif name.endswith(".pkl"):
                archive.check_pickle(members, name, PICKLED)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{kind}: {error}") from None
    return members


def _checked(code: bytes, any_operator: bool) -> str:
    """The code as Python's parser understood it, so that libtorch's cannot understand it differently."""
    if len(code) > CODE_BYTES:
        raise ValueError("its code is too long")
    try:
        tree = ast.parse(code.decode())
    except SyntaxError as error:
        raise ValueError(f"its code can't be parsed: {error.msg}") from None
    for node in ast.walk(tree):
        if not isinstance(node, GRAMMAR):
            raise ValueError(f"its code has a {type(node).__name__}")
        if isinstance(node, ast.FunctionDef) and node.name != "forward":
            raise ValueError(f"its code has a method {node.name}")
        if isinstance(node, ast.Call) and not _is_cpu(node) and not _may_call(ast.unparse(node.func), any_operator):
            raise ValueError(
                f"its code calls {ast.unparse(node.func)[:80]}, which is not known to be harmless. If you made the "
                "file yourself, or trust who did, give --trust"
            )
    return ast.unparse(tree) + "\n"


def _is_cpu(call: ast.Call) -> bool:
    """Whether a call names the device that everything is on; of others, operators may take no memory for some."""
    return ast.unparse(call) == "torch.device('cpu')"


def _may_call(name: str, any_operator: bool) -> bool:
    space, _, operator = name.rpartition(".")
    if space in ("torch", "ops.aten"):
        return harmless(operator) or (any_operator and not operator.startswith("__") and operator not in WRITERS)
    return operator in {"": BUILTINS, "ops.prim": PRIMITIVES}.get(space, ())
