"""The JSON schema and docs/params.md, which are generated from the sections of params."""

import json

import jsonschema
import pytest
from ruamel.yaml import YAML

from stages.lib import params
from tests import ROOT
from tools import params as made

ANEW = "`make docs` makes it anew"


def test_the_schema_and_the_page_are_those_of_the_sections():
    assert json.loads(made.SCHEMA.read_text()) == made.schema(), ANEW
    assert made.PAGE.read_text() == made.page(), ANEW


@pytest.mark.parametrize("name", ["params.yaml", "recipes/birds.yaml", "recipes/cifar10.yaml"])
def test_the_schema_accepts_what_the_project_ships(name):
    jsonschema.validate(YAML(typ="safe", pure=True).load(ROOT / name), made.schema())


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("split", {"tset": 0.1}),
        ("split", {"test": 1.5}),
        ("split", {"test": "much"}),
        ("train", {"optimizer": {"name": "Adamm"}}),
        ("train", {"device": "gpu"}),
        ("dataset", {"shape": [0, 8]}),
        ("trian", {}),
        ("sample", None),
    ],
)
def test_the_schema_refuses_what_the_pipeline_refuses(section, given):
    block = {name: {} for name in params.SECTIONS if name != "sample"} | {section: given}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"datasets": {"pets": block}}, made.schema())


def test_every_key_says_what_it_does():
    for name, section in made.schema()["$defs"].items():
        assert section["description"], name
        for key, value in section["properties"].items():
            assert value.get("description") or made._section_in(value, made.schema()["$defs"]), f"{name}.{key}"


def test_editors_find_the_schema():
    first = (ROOT / "params.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={made.SCHEMA.name}"


@pytest.mark.parametrize("name", ["raw", "sub/ds", "my data", "a.b", ""])
def test_the_schema_refuses_names_that_no_dataset_can_have(name):
    block = {stage: {} for stage in params.SECTIONS if stage != "sample"}
    jsonschema.validate({"datasets": {"mine-2_b": block}}, made.schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"datasets": {name: block}}, made.schema())
