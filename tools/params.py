"""params.schema.json, by which editors complete and check params.yaml; and docs/params.md, one table per section.

    python -m tools.params          # as `make docs` does, after a change of stages/lib/params

Both are made from the sections in stages/lib/params, which hold every key once with type, default, range and meaning.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from stages.lib import params
from stages.lib.core import terminal
from stages.lib.core.sources import ROOT

SCHEMA = ROOT / "params.schema.json"
PAGE = ROOT / "docs" / "params.md"
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
HEAD = """# Every key of params.yaml

Made from `stages/lib/params` by `make docs`. `datasets.<name>` has one block per dataset and in it one section per
stage, and `study`; all but `sample` and `study` must be there, and may be empty: every key has a default, unless the
table says otherwise. Unknown keys and wrong types are refused before any work starts. With `params.schema.json` (the
first line of `params.yaml` names it) editors complete and check the keys while they are typed.
"""


@terminal.program()
def main() -> None:
    SCHEMA.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def schema() -> dict[str, Any]:
    """The JSON schema of a whole params.yaml."""
    sections = params.BLOCK | params.TOP_LEVEL
    adapters = [(name, "validation", TypeAdapter(section)) for name, section in sections.items()]
    found, definitions = TypeAdapter.json_schemas(adapters)  # type: ignore[arg-type]
    of_name = {name: _or_empty(found[name, "validation"], definitions["$defs"]) for name, _ in found}
    block = {
        "type": "object",
        "properties": {name: of_name[name] for name in params.BLOCK},
        "required": [name for name in params.BLOCK if name not in params.MAY_BE_LEFT_OUT],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml",
        "type": "object",
        "properties": {
            "datasets": {
                "type": "object",
                "propertyNames": {"pattern": params.DATASET_NAME},
                "additionalProperties": block,
            },
            **{name: of_name[name] for name in params.TOP_LEVEL},
        },
        "required": ["datasets"],
        "additionalProperties": False,
        "$defs": definitions["$defs"],
    }


def _or_empty(reference: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A section, which may be left empty unless one of its keys must be given."""
    section = definitions[reference["$ref"].rpartition("/")[2]]
    return reference if section.get("required") else {"anyOf": [reference, {"type": "null"}]}


def page() -> str:
    """docs/params.md."""
    whole = schema()
    parts = [HEAD]
    for name, section in (params.BLOCK | params.TOP_LEVEL).items():
        key = f"datasets.<name>.{name}" if name in params.BLOCK else name
        parts += _tables(key, whole["$defs"][section.__name__], whole["$defs"])
    return "\n".join(parts)


def _tables(key: str, section: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """A section's table, then those of the sections in it."""
    inner = []
    about = section.get("description", "").partition(": ")[2].strip()
    yield f"## `{key}`\n"
    if about:
        yield f"{about[0].upper()}{about[1:].rstrip('.')}.\n"
    yield "| key | type | default | unit | range | what it does |\n|---|---|---|---|---|---|"
    for name, value in section["properties"].items():
        if nested := _section_in(value, definitions):
            inner.append((f"{key}.{name}" + (".<other>" if "additionalProperties" in value else ""), nested))
        cells = [f"`{name}`", _type(value, definitions), _default(value, name in section.get("required", ()))]
        cells += [_find(value, "unit") or "", _range(value), value.get("description") or _title(nested)]
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"
    yield ""
    for nested_key, nested in inner:
        yield from _tables(nested_key, nested, definitions)


def _section_in(value: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The section that a key holds, if it holds one."""
    for one in (value, *value.get("anyOf", ()), value.get("additionalProperties", {})):
        if isinstance(one, dict) and "$ref" in one:
            return definitions[one["$ref"].rpartition("/")[2]]
    return None


def _title(nested: dict[str, Any] | None) -> str:
    return nested["description"].partition(": ")[2] if nested else ""


def _type(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "anyOf" in value:
        return " or ".join(_type(one, definitions) for one in value["anyOf"])
    if "$ref" in value:
        return "section, below"
    if "enum" in value or "const" in value:
        return ", ".join(f"`{word}`" for word in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        items = value.get("items") or (value.get("prefixItems") or [{}])[0]
        number = f"{len(value['prefixItems'])} × " if "prefixItems" in value else ""
        return f"list of {number}{_type(items, definitions)}"
    return {"object": "mapping", "string": "text"}.get(value.get("type", ""), value.get("type", "any"))


def _default(value: dict[str, Any], required: bool) -> str:
    if required:
        return "must be given"
    if "default" not in value:  # an empty mapping, or a section with its own defaults
        return "`{}`"
    return f"`{json.dumps(value['default'], ensure_ascii=False)}`"


def _range(value: dict[str, Any]) -> str:
    limits = [text.format(f"{found:g}") for key, text in LIMITS.items() if (found := _find(value, key)) is not None]
    if pattern := _find(value, "pattern"):
        limits.append(f"matches `{pattern}`")
    return ", ".join(limits)


def _find(value: Any, key: str) -> Any:
    """A property of the value, or of what it may hold."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        inner = [value.get("items"), *value.get("anyOf", ()), *value.get("prefixItems", ())]
        return next((found for one in inner if (found := _find(one, key)) is not None), None)
    return None


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
