"""stages/lib/README.md, the map, names what is there, and nothing else."""

import re

from tests import ROOT

LIB = ROOT / "stages" / "lib"
INTERCHANGEABLE = ("readers", "networks", "formats")
"""Folders with one format or architecture per file: the map names the folder."""


def tables() -> list[str]:
    """The first cells of the tables of modules."""
    text = (LIB / "README.md").read_text().partition("## Modules")[2].partition("## Words")[0]
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]


def test_every_module_and_folder_has_a_line_in_the_map():
    named = set(re.findall(r"`([a-z_0-9]+)/?`", " ".join(tables()))) | set(
        re.findall(r"`([a-z_0-9]+)`", (LIB / "README.md").read_text())
    )
    files = [path for path in LIB.rglob("*.py") if path.stem != "__init__" and path.parent.name not in INTERCHANGEABLE]
    missing = sorted(str(path.relative_to(LIB)) for path in files if path.stem not in named)
    assert missing == []
    assert set(INTERCHANGEABLE) <= named


def test_the_map_names_no_module_that_is_gone():
    there = {path.stem for path in LIB.rglob("*.py")} | {path.name for path in LIB.rglob("*") if path.is_dir()}
    gone = {name for cell in tables() for name in re.findall(r"`([a-z_0-9]+)/?`", cell)} - there - {"__init__"}
    assert gone == set()


def test_no_folder_holds_more_modules_than_one_can_look_over():
    for folder in [LIB, *(path for path in LIB.rglob("*") if path.is_dir())]:
        if folder.name not in (*INTERCHANGEABLE, "__pycache__"):
            modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
            assert len(modules) <= 20, folder
