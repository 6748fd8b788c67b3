"""sbom.cdx.json: what the pipeline is made of, as a bill of materials in CycloneDX 1.6.

    python -m tools.sbom          # as `make sbom` does; reads what is installed, and needs no network

Each package that requirements.txt pins for this machine, with its version, licence, files' SHA-256 and what it needs
itself; not Python, and not what only the tests need. The same pins give the same file but for its date.
"""

import tomllib
from collections.abc import Iterator
from importlib import metadata
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.lib.core import sources, terminal
from tools import packages

PINNED = sources.ROOT / "requirements.txt"
MADE = sources.ROOT / "sbom.cdx.json"


def bill(pins: list[packages.Pin]) -> Bom:
    """The bill of materials of the packages, all of which are installed."""
    project = tomllib.loads((sources.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = _component(project["name"], project["version"], project["license"], ComponentType.APPLICATION)
    parts = {pin.name: _part(pin) for pin in pins}
    bom = Bom(components=parts.values(), serial_number=uuid5(NAMESPACE_URL, PINNED.read_text(encoding="utf-8")))
    bom.metadata.component = root
    needed = edges([Requirement(line) for line in project["dependencies"]])
    for name, needs in needed.items():
        bom.register_dependency(parts.get(name, root), [parts[need] for need in sorted(needs) if need in parts])
    return bom


def edges(requirements: list[Requirement]) -> dict[str, set[str]]:
    """Which package needs which, here and with the extras that are asked for; the project's own name is ""."""
    found: dict[str, set[str]] = {"": set()}
    seen: set[tuple[str, str]] = set()
    waiting = [("", requirement) for requirement in requirements]
    while waiting:
        parent, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[parent].add(name)
        found.setdefault(name, set())
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            waiting += [(name, need) for need in _needs(name, extra)]
    return found


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def _part(pin: packages.Pin) -> Component:
    made = _component(pin.name, pin.version, packages.licence(packages.installed(pin)), ComponentType.LIBRARY)
    made.purl = PackageURL("pypi", name=pin.name, version=pin.version)
    files = [HashType(alg=HashAlgorithm.SHA_256, content=content) for content in pin.hashes]
    url = XsUri(f"https://pypi.org/project/{pin.name}/{pin.version}/")
    made.external_references.add(ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=url, hashes=files))
    return made


def _component(name: str, version: str, licence: str, kind: ComponentType) -> Component:
    licences = [LicenseFactory().make_from_string(licence)] if licence else ()
    return Component(name=name, version=version, type=kind, licenses=licences, bom_ref=f"{name}=={version}")


@terminal.program()
def main() -> None:
    bom = bill([pin for pin in packages.pins(PINNED) if pin.is_for_this_machine()])
    MADE.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")
    print(f"{MADE.name}: {len(bom.components)} packages")


if __name__ == "__main__":
    main()
