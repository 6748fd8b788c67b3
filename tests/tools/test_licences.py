from email.message import Message

import pytest

from tools import licences, packages


def package(expression=None, classifiers=(), words=None):
    metadata = Message()
    for text in classifiers:
        metadata["Classifier"] = f"License :: {text}"
    for key, value in (("License-Expression", expression), ("License", words)):
        if value:
            metadata[key] = value
    return metadata


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-only",
        "AGPL-3.0-or-later",
        "LGPL-2.1-or-later",
        "MPL-2.0",
        "EUPL-1.2",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "MIT AND GPL-2.0-only",
        "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "EPL-2.0 OR GPL-2.0-or-later",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "LicenseRef-Proprietary",
    ],
)
def test_a_new_package_under_copyleft_or_its_own_terms_is_refused(expression):
    assert licences.refused([("invented", package(expression))]) == [f"invented: {expression}"]


@pytest.mark.parametrize(
    "metadata",
    [
        package(classifiers=["OSI Approved :: GNU General Public License v3 (GPLv3)"]),
        package(classifiers=["OSI Approved :: MIT License", "OSI Approved :: GNU Affero General Public License v3"]),
        package(classifiers=["Other/Proprietary License"]),
        package(classifiers=["OSI Approved"], words="EPL-2.0 OR GPL-2.0-or-later"),
        package(words="GPLv2 with linking exception"),
        package(words="Apache-2.0/GPL-2.0"),
        package(words="Mitigated terms"),
        package(words="ask us"),
        package(),
    ],
)
def test_so_is_one_that_says_it_in_other_words_or_says_nothing(metadata):
    (line,) = licences.refused([("invented", metadata)])
    assert line == f"invented: {packages.licence(metadata) or 'no licence'}"


@pytest.mark.parametrize(
    "metadata",
    [
        package("MIT"),
        package("Apache-2.0 OR GPL-2.0-or-later"),
        package("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0"),
        package("(MIT OR MPL-2.0) AND Apache-2.0 WITH LLVM-exception"),
        package(classifiers=["OSI Approved :: BSD License", "OSI Approved :: Apache Software License"], words="Dual"),
        package(classifiers=["OSI Approved"], words="Apache 2.0"),
        package(words="3-Clause BSD License"),
    ],
)
def test_permissive_terms_pass_also_where_copyleft_is_the_other_choice(metadata):
    assert licences.refused([("invented", metadata)]) == []


def test_an_exception_is_for_one_package_and_one_licence():
    assert licences.refused([("pygit2", package(words="GPLv2 with linking exception"))]) == []
    assert licences.refused([("pygit2", package("AGPL-3.0-only"))]) == ["pygit2: AGPL-3.0-only"]
    assert licences.refused([("other", package(words="GPLv2 with linking exception"))])
    assert licences.refused([("nvidia-new", package("LicenseRef-NVIDIA-Proprietary"))]) == []
    assert licences.refused([("other", package("LicenseRef-NVIDIA-Proprietary"))])


def test_what_is_installed_passes_and_each_exception_is_needed(monkeypatch, capsys):
    licences.main()
    assert "packages: permissive, or named" in capsys.readouterr().out
    here = [pin for pin in packages.pins(licences.PINNED) if pin.is_for_this_machine()]
    needed = {pin.name for pin in here if not licences.permissive(packages.installed(pin))}
    assert {name for name in needed if not name.startswith("nvidia-")} == set(licences.EXCEPTIONS)
    monkeypatch.delitem(licences.EXCEPTIONS, "grandalf")
    with pytest.raises(SystemExit, match=r"grandalf: GNU General .*\nUse another package, or say in EXCEPTIONS"):
        licences.main()
