"""dvc.yaml tells the truth: about code, params, and the arguments of every stage."""

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib import command, params
from tests import ROOT

STAGES = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
# It imports every stage's section to refuse a mistake in any of them before work starts, but hands a stage its own
# alone, which the stage imports itself: no other section can change an out, so a new option of export retrains nothing.
SECTIONS_TABLE = ROOT / "stages" / "lib" / "params" / "__init__.py"
DATA_ROOTS = ("data", "models", "metrics")


def imported(path: Path) -> set[Path]:
    """The project's own files that a file imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import absolutely"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in ("stages", "tools"):
                # Importing a.b.c runs a/__init__.py and a/b/__init__.py, too.
                for end in range(1, len(parts) + 1):
                    at = ROOT.joinpath(*parts[:end])
                    found |= {file for file in (at / "__init__.py", at.with_suffix(".py")) if file.exists()}
    return found


def closure(path: Path) -> set[Path]:
    """The file and all of the project that it imports, directly or not; empty files change nothing and are left out."""
    seen: set[Path] = set()
    waiting = {path}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        if file != SECTIONS_TABLE:
            waiting |= imported(file) - seen
    return {file for file in seen if file.read_text().strip()}


def code_deps(stage: str) -> set[Path]:
    """The Python files that a stage's deps name, alone or by their folder."""
    found: set[Path] = set()
    for dep in STAGES[stage]["do"]["deps"]:
        path = ROOT / dep
        if dep.split("/")[0] == "stages":
            found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return {file for file in found if file.read_text().strip()}


def spelt(stage: str, *kinds: str) -> list[str]:
    items = [item for kind in kinds for item in STAGES[stage]["do"].get(kind, [])]
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def test_every_stage_is_a_script_and_every_script_a_stage_and_a_section():
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert scripts == set(STAGES) == set(params.SECTIONS)


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_cover_every_import(stage):
    """Deps tell the truth: a module that a stage imports is a dep, and no dep is idle."""
    needed = closure(ROOT / "stages" / f"{stage}.py")
    named = code_deps(stage)
    assert {str(p.relative_to(ROOT)) for p in needed - named} == set(), "add these to the stage's deps"
    folders = {ROOT / dep for dep in STAGES[stage]["do"]["deps"] if (ROOT / dep).is_dir()}
    idle = {p for p in named - needed if not any(folder in p.parents for folder in folders)}
    assert {str(p.relative_to(ROOT)) for p in idle} == set(), "these deps are imported no more"
    assert "requirements.txt" in STAGES[stage]["do"]["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_own_section_and_runs_its_own_script(stage):
    key = "item" if isinstance(STAGES[stage]["foreach"], list) else "key"
    assert STAGES[stage]["do"]["cmd"] == f"python -m stages.{stage} ${{{key}}}"
    assert STAGES[stage]["do"]["params"] == [f"datasets.${{{key}}}.{stage}"]


@pytest.mark.parametrize("stage", STAGES)
def test_main_takes_the_paths_of_dvc_yaml_and_its_own_params(stage):
    main = importlib.import_module(f"stages.{stage}").main
    signature = inspect.signature(main).parameters
    assert set(signature) - {"params", "dataset"} == set(command.stage_paths(stage, "digits", ROOT / "dvc.yaml"))
    assert signature["params"].annotation is params.SECTIONS[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_outs_lie_in_the_datasets_own_folder_and_what_git_keeps_is_in_metrics(stage):
    for kind in ("outs", "metrics", "plots"):
        for item in STAGES[stage]["do"].get(kind, []):
            path = next(iter(item)) if isinstance(item, dict) else item
            options = item[path] if isinstance(item, dict) else {}
            assert path.startswith(("data/${key}/", "models/${key}/", "metrics/${key}/", "data/raw/${item}"))
            assert (options.get("cache") is False) == path.startswith("metrics/")


def test_lib_never_names_a_data_path_nor_imports_a_stage():
    for path in (ROOT / "stages" / "lib").rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {
            id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not node.value.startswith(tuple(f"{root}/" for root in DATA_ROOTS)), f"{path}: {node.value}"
        stages = {file for file in imported(path) if file.parent == ROOT / "stages" and file.name != "__init__.py"}
        assert not stages, f"{path} imports {stages}"


def test_networks_import_torch_alone():
    for path in (ROOT / "stages" / "lib" / "networks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                own = (name or "").startswith("stages.lib.model.networks")
                top = (name or "").split(".")[0]
                assert own or top == "torch" or top in sys.stdlib_module_names or inside_function(path, node), (
                    f"{path}: {name}"
                )


def inside_function(path: Path, node: ast.stmt) -> bool:
    """Torchvision may be asked for when a network of its zoo is, not before."""
    return node not in ast.parse(path.read_text()).body and node.col_offset > 0
