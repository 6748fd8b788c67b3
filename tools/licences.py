"""Refuses a package whose licence is not known to be permissive, unless EXCEPTIONS names it.

    python -m tools.licences          # as `make lint` does; reads what is installed, and needs no network

A package says its own licence in its metadata. What a wheel has of others inside (codecs, a Fortran library), this
does not see.
"""

import re
from collections.abc import Iterable
from email.message import Message

from license_expression import Licensing

from stages.lib.core import sources, terminal
from stages.lib.core.errors import UserError
from tools import packages

LICENSING = Licensing()
PINNED = sources.ROOT / "requirements-dev.txt"

PERMISSIVE = re.compile(
    r"(0BSD|Apache|BSD|BSL-1\.0|3-Clause BSD|CC0|ISC|MIT|New BSD|PSF|Python Software Foundation|Unlicense|Zlib"
    r"|ZPL|Zope)(?![a-z])",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"GPL|GNU|EPL|Eclipse|MPL|Mozilla|CDDL|EUPL|CeCILL|OSL-|SSPL|CPAL|-SA-|-NC-", re.IGNORECASE)

EXCEPTIONS = {
    # DVC and dvc-ssh import them, in a process beside the stages; nothing that is exported has any of them in it.
    "asyncssh": "EPL-2.0 OR GPL-2.0-or-later",
    "grandalf": "GNU General Public License v2 (GPLv2)",
    "pygit2": "GPLv2 with linking exception",
    "shtab": "MPL-2.0",
    # The MPL asks for the source of its own files where they are changed and passed on; here they are neither.
    "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
    "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)",
    "pathspec": "Mozilla Public License 2.0 (MPL 2.0)",
    "tqdm": "MPL-2.0 AND MIT",
    # torch loads CUDA under NVIDIA's terms, which let one use it and forbid to change it; the package says nothing.
    "cuda-toolkit": "",
}
"""Licences that are not permissive, as declared when somebody read them: another one is refused again."""

NVIDIA = re.compile(r"LicenseRef-NVIDIA-Proprietary|NVIDIA Proprietary Software")


def refused(found: Iterable[tuple[str, Message]]) -> list[str]:
    """The packages that may not be used, each as "name: licence", from names and metadata."""
    licences = {name: packages.licence(of) for name, of in found if not permissive(of)}
    return [f"{name}: {text or 'no licence'}" for name, text in licences.items() if not _is_known(name, text)]


def permissive(of: Message) -> bool:
    """Whether the package can be used under permissive terms alone."""
    if expression := of.get("License-Expression"):
        return _can_be_met(LICENSING.parse(expression))
    return _is_permissive(packages.licence(of))


def _can_be_met(expression) -> bool:
    if isinstance(expression, LICENSING.OR):
        return any(map(_can_be_met, expression.args))
    if isinstance(expression, LICENSING.AND):
        return all(map(_can_be_met, expression.args))
    return _is_permissive(str(expression))


def _is_permissive(text: str) -> bool:
    return all(PERMISSIVE.match(term) for term in text.split(" AND ")) and not COPYLEFT.search(text)


def _is_known(name: str, text: str) -> bool:
    return EXCEPTIONS.get(name) == text or name.startswith("nvidia-") and bool(NVIDIA.fullmatch(text))


@terminal.program()
def main() -> None:
    here = [pin for pin in packages.pins(PINNED) if pin.is_for_this_machine()]
    if found := refused((pin.name, packages.installed(pin)) for pin in here):
        raise UserError(
            "not known to be permissive:\n  "
            + "\n  ".join(found)
            + "\nUse another package, or say in EXCEPTIONS of tools/licences.py why this one may stay"
        )
    print(f"{len(here)} packages: permissive, or named in EXCEPTIONS of tools/licences.py")


if __name__ == "__main__":
    main()
