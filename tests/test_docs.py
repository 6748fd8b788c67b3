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

from stages.lib import params
from tests import ROOT
from tests.demos import ARE_HERE, needs_demos

PAGES = ("docs/deploying.md", "docs/data.md", "docs/trust.md", "docs/training.md", "docs/extending.md",
         "README.md")  # fmt: skip
"""All but docs/experimenting.md and reviewing.md, which tests/test_experimenting.py runs."""

ELSEWHERE = {
    "make repro": "CI, and test_repro.py",
    "make test": "CI",
    "dvc repro --force": "test_pipeline.py",
    "cmake ": "export/test_cpp.py",
    "build/classify ": "likewise",
    "cd examples/web": "export/test_web.py",
    "npm ": "likewise",
    "pip install dicomweb-client": "ingest/test_dicomweb.py",
    "python examples/dicomweb/fetch.py ": "likewise",
    "dvc import-url ": "likewise",
}
"""Commands of the pages that another test runs."""

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
    return blocks(text, language)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(BLOCK.format(language), text, re.MULTILINE | re.DOTALL)


SERVE = """
serve() {
    told=$(mktemp)
    "$@" > "$told" &
    until grep http "$told"; do
        kill -0 $! || return 1
        sleep 0.1
    done
    kill $!
    wait $! || [ $? = 143 ]
}
"""


def commands(text: str) -> list[str]:
    """What a page gives to be typed, a block each: all of `sh`, and the lines of `console` behind a dollar sign."""
    found = []
    for language, block in re.findall(r"^```(sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found.append("\n".join(line for line in lines if not line.startswith(tuple(ELSEWHERE))))
    return [block for block in found if block]


def ended(block: str) -> str:
    """With each server ended once it has told its address, however long that takes."""
    serving = r"(?m)^(python -m tools.browse (?!.*--write).*?)( *#.*)?$"
    return SERVE + re.sub(serving, r"serve \1", block)


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
        if not ARE_HERE and target.startswith("metrics/"):
            continue  # README.md still shows the demos
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
    sections = params.BLOCK | params.TOP_LEVEL
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
    """The project as it lies here, with short trainings, in a git repository of its own."""
    for source in tracked("*"):
        name = source.relative_to(ROOT)
        if name.parts[0] not in ("metrics", "dvc.lock", "tests"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    params_yaml = (folder / "params.yaml").read_text()
    params_yaml = re.sub(r"epochs: \d+", "epochs: 2", params_yaml).replace("patients: 150", "patients: 50")
    (folder / "params.yaml").write_text(params_yaml.replace("validate: {", "validate: {resamples: 20, "))
    run(folder, "git init -q -b main && git add -A && git commit -q -m Start")


def run(folder: Path, script: str) -> str:
    """Runs commands in one shell, which stops at the first that fails, as in a shell with the environment active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | person | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": ""}
    environment["PYTHONDONTWRITEBYTECODE"] = ""  # the copy is compiled once, not by each of some fifty processes
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@needs_demos
@pytest.mark.slow
def test_every_command_of_every_page_runs_as_it_is_written(tmp_path):
    """One test, so that the project is made once, however many processes pytest has."""
    copy_project(tmp_path)
    run(tmp_path, "dvc repro -q && git add -A && git commit -q -m Train")  # as after `make repro`
    printed = {}
    for page in PAGES:
        text = (ROOT / page).read_text()
        if page != "README.md":
            assert text.index("```sh") == text.index("```"), f"{page}: a page starts with its first example"
        typed = sorted(commands(text), key=lambda block: "--own" in block)  # what needs the demos goes first
        printed[page] = "".join(run(tmp_path, f"git clean -fdq\n{ended(block)}") for block in typed)
        if page == "docs/deploying.md":
            assert run(tmp_path, f"python - <<'END'\n{first_block(text, 'python')}END").strip() in list("0123456789")
        run(tmp_path, "git checkout -q . && git clean -fdq && dvc checkout -q")
    assert "1 rejected" in printed["docs/data.md"]
    assert "images/0001.png,rejected,not_an_image" in printed["docs/data.md"]
    assert printed["docs/data.md"].count("http://127.0.0.1:") == 2
    assert re.search(r'-.*"parameters"', printed["docs/training.md"]) and "my_networks" in printed["docs/extending.md"]
    assert re.search(r"0009.png +\d [\d.]+ %", printed["docs/deploying.md"])
    assert "digits and phantoms are taken out" in printed["README.md"]
