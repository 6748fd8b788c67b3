"""What is installed is what was pinned, byte for byte."""

import re
import subprocess

import pytest
from packaging.requirements import Requirement

from tests import ROOT
from tools import packages

FILES = ("requirements-uv.txt", "requirements.txt", "requirements-dev.txt")


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_one_version_with_the_hash_of_each_of_its_files(name):
    text = (ROOT / name).read_text()
    pins = packages.pins(ROOT / name)
    assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 0
    assert sum(len(pin.hashes) for pin in pins) == text.count("--hash=")
    for pin in pins:
        assert re.fullmatch(r"==[\w.]+", str(pin.requirement.specifier)) and pin.hashes, pin.name


def test_the_tests_run_on_the_versions_that_the_pipeline_runs_on():
    run, dev = ({str(pin.requirement) for pin in packages.pins(ROOT / name)} for name in FILES[1:])
    assert run < dev


def test_a_new_hash_makes_no_stage_stale():
    for file in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"--hash|\\$", file.read_text(), re.MULTILINE), file.name


def test_setting_up_installs_nothing_whose_hash_is_not_pinned():
    recipe = subprocess.run(["make", "--dry-run", "--always-make", "setup"], cwd=ROOT, capture_output=True, text=True)
    installing = [line for line in recipe.stdout.splitlines() if "pip install" in line]
    assert len(installing) == 3
    assert all("--require-hashes" in line for line in installing)
    # uv builds a package that has no wheel with build tools of its own choice, unless they are pinned, too.
    assert all("-b requirements.txt" in line for line in installing[1:])
    assert any(pin.name == "setuptools" for pin in packages.pins(ROOT / "requirements.txt"))


def test_pins_for_other_systems_are_told(tmp_path):
    (tmp_path / "pins.txt").write_text(
        "here==1.0 \\\n    --hash=sha256:" + "a" * 64 + "\n"
        "there==2.0 ; sys_platform == 'nowhere' \\\n    --hash=sha256:"
        + "b" * 64
        + " \\\n    --hash=sha256:"
        + "c" * 64
    )
    here, there = packages.pins(tmp_path / "pins.txt")
    assert (here.name, here.version, here.hashes, here.is_for_this_machine()) == ("here", "1.0", ("a" * 64,), True)
    assert (there.version, there.hashes, there.is_for_this_machine()) == ("2.0", ("b" * 64, "c" * 64), False)


def test_another_version_than_the_pinned_one_is_said():
    for name, message in [
        ("pytest", r"pytest 0.1 is pinned, but [\d.]+ is installed"),
        ("no-such", "is not installed"),
    ]:
        with pytest.raises(packages.UserError, match=message + ".*: make setup|" + message + ": make setup"):
            packages.installed(packages.Pin(Requirement(f"{name}==0.1"), ()))
