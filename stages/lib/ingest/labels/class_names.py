"""Class names as a person reads them: one spelling each, and a word about two that look like one class."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint


def spelling(name: str) -> str:
    """The one spelling of a name: composed (NFC), no blanks at its ends, one blank where there are several."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def check_aliases(aliases: Mapping[str, str], names: Iterable[str]) -> None:
    """Args:
        aliases: `ingest.aliases`.
        names: The labels as the raw data spell them.

    Raises:
        UserError: An alias that no label has, or one that leads to another alias.
    """
    known = {spelling(name) for name in names}
    for alias, name in aliases.items():
        if spelling(alias) not in known:
            raise UserError(f"ingest.aliases: no label is '{alias}': {hint(alias, sorted(known))}")
        if name in aliases:
            raise UserError(f"ingest.aliases: '{alias}' leads to '{name}', itself an alias: name the class itself")


def notes(names: Iterable[str], aliases: Mapping[str, str]) -> list[str]:
    """What a person should know about the labels.

    Args:
        names: As the raw data spell them.

    Returns:
        A sentence for every class that is spelt in several ways, and for all classes that differ in nothing but
        capitals, marks between words, or a plural s.
    """
    spelt: dict[str, set[str]] = defaultdict(set)
    for name in set(names):
        spelt[spelling(name)].add(name)
    found = [
        f"the class '{name}' is spelt in {len(ways)} ways (blanks, or composed and decomposed letters): taken as one"
        for name, ways in sorted(spelt.items())
        if len(ways) > 1
    ]
    alike: dict[str, set[str]] = defaultdict(set)
    for name in {aliases.get(name, name) for name in spelt}:
        alike[_skeleton(name)].add(name)
    for similar in sorted(sorted(group) for group in alike.values() if len(group) > 1):
        listed = ", ".join(f"'{name}'" for name in similar)
        found.append(f"{listed} are {len(similar)} classes: if they are one, name it in ingest.aliases")
    return found


def _skeleton(name: str) -> str:
    """What names that a person may take for one have in common."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())
    # "es" and "s" are dropped from words, not from identifiers such as "s" or "class1s".
    return letters.removesuffix("s").removesuffix("e") if len(letters) > 3 and letters.isalpha() else letters
