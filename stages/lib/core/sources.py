"""What code depends on: the project's own files that a module imports, and the packages.

So no list of modules is kept by hand: the deps of dvc.yaml are checked against this, requirements/<stage>.txt is made
from it, and what is cached between runs (the ingest store, a half-done training) is named by `digest`.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
OURS = ("stages", "tools")

# It imports every stage's section to refuse a mistake in any of them before work starts, but hands a stage its own
# alone, which the stage imports itself: no other section can change an out, so a new option of export retrains nothing.
NOT_FOLLOWED = ROOT / "stages" / "lib" / "params" / "__init__.py"

DISTRIBUTIONS = {
    "PIL": "pillow",
    "indexed_gzip": "indexed-gzip",
    "nrrd": "pynrrd",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
}
"""Under which name a package is installed, where that is not the name by which it is imported."""

LOADED_BY = {
    "imageio": ("pillow",),
    "matplotlib": ("kiwisolver", "pyparsing"),  # they lay out figures and read their texts
    "onnx": ("ml-dtypes", "onnx-ir", "onnxscript", "protobuf", "sympy"),  # torch.onnx and torch.export write with them
    "pydicom": ("pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm"),  # decoders of pixels
}
"""What is loaded without an import of ours, wherever the other package is imported."""

CHANGE_NO_BYTE = frozenset(("filelock", "pydantic", "ruamel.yaml", "tqdm"))
"""They lock, check params.yaml and show progress: another version of them gives the same outs."""


class Imports(NamedTuple):
    """What one file imports, at its top or inside its functions, but not for type checkers alone."""

    files: frozenset[Path]  # the project's own
    packages: frozenset[str]  # top-level names of others, the standard library left out


def closure(*modules: Path) -> list[Path]:
    """The files and all of the project that they import, directly or not, sorted; files without code are left out."""
    seen: set[Path] = set()
    waiting = set(modules)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imports(file).files - seen
    return sorted(file for file in seen if _tree(file).body)


def distributions(files: Iterable[Path]) -> list[str]:
    """The installed packages on whose versions the bytes depend that these files compute, sorted."""
    imported = {name for file in files for name in imports(file).packages}
    names = {DISTRIBUTIONS.get(name, name) for name in imported}
    names.update(name for package in imported for name in LOADED_BY.get(package, ()))
    return sorted(names - CHANGE_NO_BYTE)


@cache
def digest(*modules: Path) -> bytes:
    """A hash of the code of the modules and of all that they import, and of the versions of the packages among it.

    Comments, docstrings and layout do not matter. It is taken once: a process goes on with the code that it has loaded.
    """
    found = hashlib.sha256(sys.version.encode())
    files = closure(*modules)
    for file in files:
        found.update(file.relative_to(ROOT).as_posix().encode())
        found.update(ast.dump(_tree(file)).encode())
    for name in distributions(files):
        found.update(f"{name} {_version(name)}\n".encode())
    _tree.cache_clear()  # processes that are forked from this one would carry them along
    return found.digest()


class _WithoutTexts(ast.NodeTransformer):
    """Leaves out docstrings."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


@cache
def imports(file: Path) -> Imports:
    """What a file imports.

    A package that imports its modules by name, as in `import_module(f"stages.lib.ingest.readers.{name}")`, is taken to
    import all of them.

    Raises:
        ValueError: An import whose target can't be told from the text: relative, or by name in any other way.
    """
    files: set[Path] = set()
    others: set[str] = set()
    for name in _imported_names(_tree(file), file):
        parts = name.split(".")
        if parts[0] not in OURS:
            others.add(parts[0])
        elif name.endswith("."):
            files |= set(ROOT.joinpath(*parts[:-1]).rglob("*.py"))
        else:
            files |= _files_of(parts)
    if file == NOT_FOLLOWED:
        files = {path for path in files if path.parent.name == "core"}
    return Imports(frozenset(files), frozenset(others - sys.stdlib_module_names))


def _imported_names(tree: ast.AST, file: Path) -> Iterator[str]:
    """Dotted names; one that ends with a dot stands for every module of that package."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from _imported_names(ast.Module([other], []), file)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{file}: import absolutely, not from {'.' * node.level}{node.module or ''}")
            if any(alias.asname and "import" in alias.name for alias in node.names):
                raise ValueError(f"{file}: {ast.unparse(node)} hides what is imported: keep the name import_module")
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func).endswith(("import_module", "__import__")):
            yield _imported_by_name(node, file)
        yield from _imported_names(node, file)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name; "" of any other expression. To unparse all of them would take long."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _imported_by_name(call: ast.Call, file: Path) -> str:
    """The module, or with a dot at its end the package of which it is one."""
    name = call.args[0] if len(call.args) == 1 and not call.keywords else None
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return name.value
    if isinstance(name, ast.JoinedStr) and len(name.values) == 2 and isinstance(name.values[0], ast.Constant):
        package = str(name.values[0].value)
        if package.endswith(".") and len(package) > 1:
            return package
    raise ValueError(f'{file}: {ast.unparse(call)}: expected a module\'s name, or f"<package>.{{name}}"')


def _files_of(parts: list[str]) -> set[Path]:
    """The files that importing a.b.c runs: a/__init__.py and a/b/__init__.py, too."""
    at = [ROOT.joinpath(*parts[:end]) for end in range(1, len(parts) + 1)]
    return {file for place in at for file in (place / "__init__.py", place.with_suffix(".py")) if file.exists()}


@cache
def _tree(file: Path) -> ast.Module:
    """A file's code, without docstrings."""
    tree: ast.Module = _WithoutTexts().visit(ast.parse(file.read_text(encoding="utf-8")))
    return tree
