"""dvc.yaml tells the truth: about code, packages, params, and the arguments of every stage."""

import ast
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages.lib import command, params
from stages.lib.core import sources
from tests import ROOT
from tests.core.test_sources import forget
from tests.demos import ARE_HERE
from tools import requirements

PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
STAGES = {name: stage for name, stage in PIPELINE.items() if name != "check"}
LIB = ROOT / "stages" / "lib"
DATA_ROOTS = ("data", "models", "metrics", "frozen")
SHARED = {"drawing", "core", "params", "model", "studies"}
"""The folders that every folder of stages/lib may import."""


def closure(stage: str) -> set[Path]:
    """The stage's script and all of the project that it imports and that a byte may depend on.

    stages/__init__.py says what Ctrl-C does while libraries are being imported, and nothing else.
    """
    return set(sources.closure(ROOT / "stages" / f"{stage}.py")) - {ROOT / "stages" / "__init__.py"}


def code_deps(stage: str) -> set[Path]:
    """The Python files that a stage's deps name, alone or by their folder."""
    found: set[Path] = set()
    for dep in STAGES[stage]["do"]["deps"]:
        path = ROOT / dep
        if dep.split("/")[0] == "stages":
            found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return {file for file in found if file.read_text().strip()}


def test_every_stage_is_a_script_and_every_script_a_stage_and_a_section():
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "stages"}
    assert scripts == set(PIPELINE)
    assert set(STAGES) == {*params.SECTIONS, *params.STUDY_STAGES}


def test_params_are_checked_before_all_else_whenever_a_dataset_changes():
    assert next(iter(PIPELINE)) == "check"
    assert PIPELINE["check"] == {"cmd": "python -m stages.check", "params": ["datasets"]}


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_cover_every_import(stage):
    """Deps tell the truth: a module that a stage imports is a dep, and no dep is idle."""
    needed = closure(stage)
    named = code_deps(stage)
    assert {str(p.relative_to(ROOT)) for p in needed - named} == set(), "add these to the stage's deps"
    deps = [ROOT / dep for dep in STAGES[stage]["do"]["deps"] if dep.startswith("stages")]
    idle = [dep for dep in deps if not any(file == dep or dep in file.parents for file in needed)]
    assert [str(p.relative_to(ROOT)) for p in idle] == [], "nothing of these is imported any more"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_pinned_versions_of_the_packages_that_it_imports(stage):
    pinned = f"requirements/{stage}.txt"
    assert pinned in STAGES[stage]["do"]["deps"]
    assert (ROOT / pinned).read_text() == requirements.lines(stage, (ROOT / "requirements.txt").read_text()), (
        "python -m tools.requirements writes it anew"
    )


def test_a_package_is_followed_to_the_name_that_it_is_installed_by():
    from importlib import metadata

    installed = metadata.packages_distributions()
    files = [file for stage in STAGES for file in closure(stage)]
    imported = {name for file in files for name in sources.imports(file).packages}
    for name in imported:
        assert sources.DISTRIBUTIONS.get(name, name).replace("-", "_") in [
            n.lower().replace("-", "_") for n in installed[name]
        ]
    for name in (*sum(sources.LOADED_BY.values(), ()), *sources.CHANGE_NO_BYTE):
        assert metadata.version(name)


def test_few_dependency_lines_on_code_are_needed():
    for stages, most in ((params.SECTIONS, 90), (params.STUDY_STAGES, 80)):
        lines = [dep for stage in stages for dep in STAGES[stage]["do"]["deps"] if dep.startswith("stages")]
        assert len(lines) < most


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_own_section_and_runs_its_own_script(stage):
    key = "item" if isinstance(STAGES[stage]["foreach"], list) else "key"
    assert STAGES[stage]["do"]["cmd"] == f"python -m stages.{stage} '${{{key}}}'"
    if stage in params.STUDY_STAGES:
        name = STAGES[stage]["foreach"].strip("${}")
        own, *further = STAGES[stage]["do"]["params"]
        assert own in [f"datasets.${{{of}}}.{params.STUDY_STAGES[stage]}" for of in ("key", "item.dataset")]
        assert name in command.LISTS and further[0] == {"studies.yaml": [f"{name}.${{key}}"]}
        return
    further = ["ingest"] if stage in ("validate", "export") else []  # what figures may show; how pictures were read
    assert STAGES[stage]["do"]["params"] == [f"datasets.${{{key}}}.{section}" for section in (stage, *further)]


@pytest.mark.parametrize(
    "name", ["a b", "$(touch ran)", "`touch ran`", "a;touch ran", "a\ntouch ran", '"', "*", "\\", "-h #"]
)
def test_a_shell_takes_any_name_without_a_single_quote_for_one_argument(tmp_path, name):
    for stage, entry in STAGES.items():
        told = entry["do"]["cmd"].replace("${key}", name).replace("${item}", name)
        script = f"python() {{ printf '%s|' \"$@\"; }}\n{told}"
        done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == f"-m|stages.{stage}|{name}|"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", STAGES)
def test_main_takes_the_paths_of_dvc_yaml_and_its_own_params(stage, tmp_path):
    if stage == "sample" and not ARE_HERE:
        pytest.skip("the demo data sets have been taken out of this project")
    main = importlib.import_module(f"stages.{stage}").main
    signature = inspect.signature(main).parameters
    deps, outs = command.stage_paths(stage, "digits", with_studies(tmp_path))
    data = {name for name, path in deps.items() if path.parts[0] in DATA_ROOTS}
    given = {"params", "machine", "ingest", "network", "dataset", "study", "item", "other_ingest"}
    assert set(signature) - given == data | set(outs)
    assert signature["params"].annotation is params.BLOCK[params.STUDY_STAGES.get(stage, stage)]


def with_studies(folder: Path) -> Path:
    """A copy of dvc.yaml beside a studies.yaml that has an entry called digits in each list."""
    entry = {"dataset": "digits", "name": "fold0", "fold": 0, "other": "phantoms", "model": "digits/study"}
    entry |= {"classes": {}, "lacks": [], "trained_on": "refuse"}
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "studies.yaml").write_text(json.dumps({name: {"digits": entry} for name in command.LISTS}))
    return folder / "dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_outs_lie_in_the_datasets_own_folder_and_what_git_keeps_is_in_metrics(stage):
    for key in command.OUTS:
        for item in STAGES[stage]["do"].get(key, []):
            path = next(iter(item)) if isinstance(item, dict) else item
            options = item[path] if isinstance(item, dict) else {}
            path = path.replace("${item.dataset}", "${key}")
            assert path.startswith(("data/${key}/", "models/${key}/", "metrics/${key}/", "data/raw/${item}"))
            assert (options.get("cache") is False) == path.startswith("metrics/")


def test_lib_never_names_a_data_path_nor_imports_a_stage():
    for path in LIB.rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {
            id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not node.value.startswith(tuple(f"{root}/" for root in DATA_ROOTS)), f"{path}: {node.value}"
        stages = {f for f in sources.imports(path).files if f.parent == ROOT / "stages" and f.name != "__init__.py"}
        assert not stages, f"{path} imports {stages}"


def foreign_imports(file: Path) -> set[str]:
    """What a module of stages/lib imports of folders that it must not: another stage's, or any at all in core."""
    owner = _folder(file)
    allowed = {"core"} if owner == "core" else SHARED | {owner, ""}
    ours = {f for f in sources.imports(file).files if LIB in f.parents and f.read_text().strip()}
    return {str(f.relative_to(LIB)) for f in ours if _folder(f) not in allowed}


def _folder(file: Path) -> str:
    """The folder of stages/lib that a file lies in; "" at its root."""
    return file.relative_to(LIB).parts[0] if len(file.relative_to(LIB).parts) > 1 else ""


@pytest.mark.parametrize("file", sorted(LIB.rglob("*.py")), ids=lambda file: str(file.relative_to(LIB)))
def test_a_folder_imports_only_its_own_modules_and_what_stages_share(file):
    assert foreign_imports(file) == set()


def test_an_import_from_another_stages_folder_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "LIB", tmp_path / "stages" / "lib")
    file = tmp_path / "stages" / "lib" / "ingest" / "labels" / "table.py"
    assert foreign_imports(file) == set()
    forget()
    file.write_text(file.read_text() + "\n\ndef late():\n    from stages.lib.train import loop\n")
    assert foreign_imports(file) == {"train/loop.py"}


def test_the_root_of_lib_shows_the_stages_and_few_shared_modules():
    entries = [entry for entry in LIB.iterdir() if entry.name != "__pycache__"]
    assert {e.name for e in entries if e.is_dir()} <= SHARED | set(STAGES), "a folder is a stage's, or shared"
    assert len([e for e in entries if e.suffix == ".py" and e.stem != "__init__"]) <= 9


def test_networks_import_torch_alone():
    for path in (LIB / "model" / "networks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                name = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
                own = name.startswith("stages.lib.model.networks") or name == "stages.lib.core.nearest"
                top = name.split(".")[0]
                assert own or top == "torch" or top in sys.stdlib_module_names or inside_function(path, node), (
                    f"{path}: {name}"
                )


def inside_function(path: Path, node: ast.stmt) -> bool:
    """Torchvision may be asked for when a network of its zoo is, not before."""
    return node not in ast.parse(path.read_text()).body and node.col_offset > 0


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The project's code, with a dvc.lock that agrees with it and with outs that stand for the real ones."""
    if not ARE_HERE:
        pytest.skip("the demo data sets have been taken out of this project")
    root = tmp_path_factory.mktemp("project")
    for name in ("stages", "requirements", "frozen"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", "studies.yaml", "requirements.txt", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    for stage in params.SECTIONS:
        for dataset in ("digits", "phantoms"):
            for path in command.stage_paths(stage, dataset, root / "dvc.yaml")[1].values():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(str(path))
    subprocess.run([sys.executable, "-m", "dvc", "commit", "-q", "-f"], cwd=root, check=True)
    return root


def appended(text: str) -> Callable[[str], str]:
    return lambda former: former + text


COMMENT = appended("# a comment\n")
EVERY = set(params.SECTIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "edit", "stale"),
    [
        ("stages/lib/sample/digits.py", COMMENT, {"sample"}),
        ("stages/lib/ingest/readers/dicom.py", COMMENT, {"ingest"}),
        ("stages/lib/train/losses.py", COMMENT, {"train"}),
        ("stages/lib/validate/figures.py", COMMENT, {"validate"}),
        ("stages/lib/export/card.py", COMMENT, {"export"}),
        ("stages/lib/model/classifier.py", COMMENT, {"train", "validate", "export"}),
        ("stages/lib/geometry.py", COMMENT, {"export"}),
        ("stages/lib/params/train.py", COMMENT, {"train"}),
        ("stages/validate.py", COMMENT, {"validate"}),
        ("stages/lib/core/outs.py", COMMENT, EVERY),  # deliberately coarse: stages/lib/README.md
        (
            "params.yaml",
            lambda text: text.replace("workers: 0", "workers: 3").replace("_minutes: 10", "_minutes: 1"),
            set(),
        ),
        ("params.yaml", lambda text: text.replace("epochs: 16", "epochs: 17"), {"train", "check"}),
    ],
)
def test_a_change_makes_stale_what_it_can_concern_and_nothing_else(project, name, edit, stale):
    assert stale_after(project, name, edit) == stale


@pytest.mark.slow
def test_dvc_fails_before_any_work_at_a_dataset_that_it_would_leave_out_in_silence(project, tmp_path):
    root = tmp_path / "project"
    shutil.copytree(project, root)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("  phantoms:", "  2024:", 1))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert 'datasets.2024: YAML takes this name for no text: put it into quotes, "2024"' in done.stderr
    assert done.stdout.count("Running stage") == 1
    assert (root / "dvc.lock").read_text() == (project / "dvc.lock").read_text()


@pytest.mark.slow
def test_a_new_matplotlib_draws_the_figures_anew_and_no_more(project, monkeypatch):
    def raised(text: str) -> str:
        return "\n".join("matplotlib==99.0" if line.startswith("matplotlib==") else line for line in text.splitlines())

    pinned = raised((ROOT / "requirements.txt").read_text())
    changed = [s for s in STAGES if (ROOT / f"requirements/{s}.txt").read_text() != requirements.lines(s, pinned)]
    assert set(changed) == {"validate", "study", "external"}  # the stages that draw
    assert stale_after(project, "requirements/validate.txt", raised) == {"validate"}


def stale_after(project: Path, name: str, edit: Callable[[str], str]) -> set[str]:
    """The stages that `dvc status` calls changed after an edit of a file, which is undone."""
    file = project / name
    former = file.read_text()
    assert Repo(project).status() == {}
    try:
        file.write_text(edit(former))
        return {stage.rpartition(":")[2].partition("@")[0] for stage in Repo(project).status()}
    finally:
        file.write_text(former)
