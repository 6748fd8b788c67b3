"""The contract of readers: its example works, and its list of reasons is complete."""

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stages.lib.ingest import readers, store
from stages.lib.ingest.readers import contract
from stages.lib.ingest.readers.scans import dicom_burned_in, dicom_geometry, dicom_series
from tests import ROOT
from tests.raw_data import ingest

SOURCES = [
    path for path in sorted((ROOT / "stages" / "lib" / "ingest").rglob("*.py")) if path != Path(contract.__file__)
]
REASON_ARGUMENT = {"Rejected": 0, "_refused": 0, "Refusal": 1}  # its position, by the function that is called


@pytest.fixture
def example(monkeypatch) -> Iterator[ModuleType]:
    """A module of the contract's example, as the only reader."""
    _, _, code = contract.__doc__.partition("behind the four letters RAW4:\n")
    module = ModuleType("stages.lib.ingest.readers.example")
    exec(textwrap.dedent(code), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(readers, "READERS", {"example": lambda content: content[:4] == b"RAW4"})
    yield module
    readers.reader.cache_clear()


def test_the_example_of_the_contract_ingests_files(example, tmp_path):
    pixels = {label: np.random.default_rng(i).integers(0, 256, (1, 4, 4), np.uint8) for i, label in enumerate("ab")}
    for label, picture in pixels.items():
        (tmp_path / "raw" / label).mkdir(parents=True)
        (tmp_path / "raw" / label / "picture").write_bytes(b"RAW4" + picture.tobytes())
    (tmp_path / "raw" / "a" / "cut").write_bytes(b"RAW4" + bytes(15))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.axes == "CHW"
    assert len(done.pixels) == 2
    for label, picture in zip(done.table["label"], done.pixels, strict=True):
        assert np.array_equal(picture, pixels[label])
    assert done.counts["rejected"] == {"truncated": 1}


def words(expression: ast.expr) -> Iterator[str]:
    """The strings that an expression may give, as far as it names them."""
    if isinstance(expression, ast.Constant):
        yield str(expression.value)
    elif isinstance(expression, ast.IfExp):
        yield from words(expression.body)
        yield from words(expression.orelse)


def reasons_in(tree: ast.AST) -> Iterator[str]:
    """What is given as a reason: to an exception or refusal, to a variable `reason`, or by `reason_of`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REASON_ARGUMENT:
            yield from (word for argument in node.args[REASON_ARGUMENT[node.func.id] :][:1] for word in words(argument))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
            yield from words(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "reason_of":
            pairs = (n.value for n in ast.walk(node) if isinstance(n, ast.Return) and isinstance(n.value, ast.Tuple))
            yield from (word for pair in pairs for word in words(pair.elts[0]))


def test_every_reason_that_the_code_gives_is_listed_with_its_meaning():
    given = {reason for path in SOURCES for reason in reasons_in(ast.parse(path.read_text()))}
    given |= set(dicom_series.MUST_AGREE.values()) | {reason for _, reason in dicom_geometry.MUST_HAVE.values()}
    given |= set(dicom_burned_in.DETAILS)
    not_lost = contract.IGNORED_REASONS.keys() | contract.SET_ASIDE_REASONS.keys()
    assert given - (not_lost - contract.REASONS.keys()) == set(contract.REASONS)
    assert {*dicom_series.DAMAGED, *store.PASSING_REASONS} <= set(contract.REASONS)


def test_every_reason_for_which_files_are_ignored_is_given_somewhere():
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    constants = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(contract.IGNORED_REASONS) <= constants
