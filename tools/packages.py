"""The packages that requirements.txt pins for this machine, with what their metadata says of them."""

import re
from dataclasses import dataclass
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.lib.core.errors import UserError

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One line of requirements.txt: a version of a package, and the SHA-256 of each file that may be installed."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    def is_for_this_machine(self) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate()


def pins(requirements: Path) -> list[Pin]:
    """Every pin of a file that `make requirements` wrote, in its order, those for other systems too."""
    lines = requirements.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [Pin(Requirement(line.partition(" --hash=")[0]), tuple(HASH.findall(line))) for line in lines]


def installed(pin: Pin) -> Message:
    """The metadata of the package that is installed.

    Raises:
        UserError: It is not installed, or in another version.
    """
    try:
        found = metadata.distribution(pin.name)
    except metadata.PackageNotFoundError:
        raise UserError(f"{pin.name} {pin.version} is not installed: make setup") from None
    if found.version != pin.version:
        raise UserError(f"{pin.name} {pin.version} is pinned, but {found.version} is installed: make setup")
    return cast(Message, found.metadata)


def licence(of: Message) -> str:
    """What a package's metadata says of its licence: an SPDX expression, or classifiers, or its own words."""
    if expression := of.get("License-Expression"):
        return expression
    prefixes = re.compile("^License :: (OSI Approved($| :: ))?")
    classifiers = [prefixes.sub("", text) for text in of.get_all("Classifier", []) if prefixes.match(text)]
    return " AND ".join(filter(None, classifiers)) or (of.get("License") or "").strip().partition("\n")[0]
