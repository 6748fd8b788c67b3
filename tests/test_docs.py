"""The pages: links, paths and parameters exist, and the first example of each page runs as it is typed."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from ruamel.yaml import YAML

from stages.lib import params
from tests import ROOT

PAGES = ("deploying", "data", "trust", "training", "extending")  # the other two: tests/test_experimenting.py
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
QUOTED = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:stages|tools|tests|examples|recipes|docs|requirements)/[\w/.]+")
BLOCK = r"^```{}\n(.*?)^```$"


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


DOCUMENTS = {str(path.relative_to(ROOT)): path for path in tracked("*.md")}


def first_block(text: str, language: str) -> str:
    found = re.search(BLOCK.format(language), text, re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language}"
    return found[1]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The headings of a page, as GitHub and GitLab name them in links."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_a_heading(name):
    broken = []
    for target, anchor in LINK.findall(without_blocks(DOCUMENTS[name].read_text())):
        path = DOCUMENTS[name].parent / target if target else DOCUMENTS[name]
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_of_the_project_that_a_page_names_exists(name):
    quoted = QUOTED.findall(without_blocks(DOCUMENTS[name].read_text()))
    paths = [text for text in quoted if OURS.fullmatch(text)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


# Without the page that is made from the sections, and the one that also names what was renamed.
@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - {"docs/params.md", "CHANGELOG.md"}))
def test_every_parameter_that_a_page_names_exists(name):
    quoted = QUOTED.findall(without_blocks(DOCUMENTS[name].read_text()))
    named = [re.match(r"[a-z_]+(\.[a-z_0-9]+)+(?=$|[ :])", text) for text in quoted]
    keys = [
        found[0] for found in named if found and not re.search(r"\.(json|csv|md|yaml|pt2?|h5|py|txt|onnx)$", found[0])
    ]
    sections = params.SECTIONS | params.TOP_LEVEL
    unknown = [key for key in keys if key.split(".")[0] in sections and not has_key(sections, key.split("."))]
    assert unknown == []


def has_key(fields: dict[str, Any], keys: list[str]) -> bool:
    """Whether the keys lead through the sections' (nested) dataclasses; a dict takes any."""
    if keys[0] not in fields:
        return False
    hint = fields[keys[0]]
    section = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
    if len(keys) == 1 or section is None:
        return len(keys) == 1 or "dict" in str(hint)
    return has_key(get_type_hints(section), keys[1:])


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 250


def test_every_page_of_docs_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in tracked("docs/*.md") if f"(docs/{path.name})" not in readme] == []


def copy_project(folder: Path) -> None:
    """The project as it lies here, with the demo digits alone and short trainings, in a git repository of its own."""
    for source in tracked("*"):
        name = source.relative_to(ROOT)
        if name.parts[0] not in ("metrics", "dvc.lock", "tests"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    dvc_yaml = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(dvc_yaml.replace("foreach: [digits, phantoms]", "foreach: [digits]"))
    shipped = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    digits = shipped["datasets"]["digits"]
    digits["train"]["epochs"] = 2
    digits["validate"]["resamples"] = 20
    shipped["datasets"] = {"digits": digits}
    with open(folder / "params.yaml", "w") as file:
        YAML().dump(shipped, file)
    run(folder, "git init -q -b main && git add -A && git commit -q -m Start")


def run(folder: Path, script: str) -> str:
    """Runs commands in one shell, which stops at the first that fails, as in a shell with the environment active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | person | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": ""}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_first_example_of_every_page_runs_as_it_is_written(tmp_path):
    """One test, so that the project is made once, however many processes pytest has."""
    copy_project(tmp_path)
    run(tmp_path, "dvc repro -q && git add -A && git commit -q -m Train")  # as after `make repro`
    printed = {}
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        assert text.index("```sh") == text.index("```"), f"{page}: a page starts with its first example"
        printed[page] = run(tmp_path, first_block(text, "sh"))
        if page == "deploying":
            assert run(tmp_path, f"python - <<'END'\n{first_block(text, 'python')}END").strip() in list("0123456789")
        run(tmp_path, "git checkout -q . && git clean -fdq")
    assert "1 rejected" in printed["data"] and "images/0001.png,rejected,not_an_image" in printed["data"]
    assert re.search(r'-.*"parameters"', printed["training"]) and "my_networks" in printed["extending"]
    assert re.search(r"0009.png +\d [\d.]+ %", printed["deploying"])
