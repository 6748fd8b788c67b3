import json

import pytest
from packaging.requirements import Requirement

from tools import packages, sbom


@pytest.fixture(scope="module")
def bill(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sbom, "MADE", tmp_path_factory.mktemp("sbom") / "sbom.cdx.json")
        sbom.main()
        return json.loads(sbom.MADE.read_text())


def test_every_pinned_package_is_in_it_with_version_licence_and_hashes(bill):
    pins = {pin.name: pin for pin in packages.pins(sbom.PINNED) if pin.is_for_this_machine()}
    parts = {part["name"]: part for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and parts.keys() == pins.keys() and {"torch", "dvc"} <= parts.keys()
    for name, part in parts.items():
        assert part["purl"] == f"pkg:pypi/{name}@{pins[name].version}"
        (files,) = part["externalReferences"]
        assert {of["content"] for of in files["hashes"]} == set(pins[name].hashes)
        assert name == "cuda-toolkit" or part["licenses"], name
    assert parts["dvc"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert parts["packaging"]["licenses"] == [{"expression": "Apache-2.0 OR BSD-2-Clause"}]


def test_what_only_the_tests_need_is_not_in_it(bill):
    assert not {"pytest", "ruff", "zizmor"} & {part["name"] for part in bill["components"]}


def test_each_package_is_there_because_something_needs_it(bill):
    needs = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in bill["dependencies"]}
    assert set().union(*needs.values()) == {part["bom-ref"] for part in bill["components"]}
    root = needs[bill["metadata"]["component"]["bom-ref"]]
    assert any(ref.startswith("torch==") for ref in root) and not any(ref.startswith("sympy==") for ref in root)
    assert any(ref.startswith("sympy==") for of, found in needs.items() for ref in found if of.startswith("torch=="))


def test_extras_are_followed_and_only_those_that_are_asked_for(monkeypatch):
    said = {"a": ["b[x]", "z; sys_platform == 'nowhere'"], "b": ["c", "d; extra == 'x'", "e; extra == 'y'"], "c": ["A"]}
    monkeypatch.setattr(sbom.metadata, "requires", said.get)
    assert sbom.edges([Requirement("a>=1")]) == {"": {"a"}, "a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}
