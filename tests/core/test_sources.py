"""Which files a module imports, on a small made-up project."""

from pathlib import Path

import pytest

from stages.lib.core import sources

FILES = {
    "stages/__init__.py": "",
    "stages/lib/__init__.py": "",
    "stages/lib/a.py": "import numpy\nfrom stages.lib import b\n",
    "stages/lib/b.py": "def late():\n    import tifffile\n    from stages.lib.c import one\n",
    "stages/lib/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n"
    "    import stages.lib.d\none = 1\n",
    "stages/lib/d.py": "two = 2\n",
    "stages/lib/readers/__init__.py": "import importlib\n"
    'def reader(name):\n    return importlib.import_module(f"stages.lib.readers.{name}")\n',
    "stages/lib/readers/png.py": "import zlib, PIL\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    forget()
    yield tmp_path / "stages" / "lib"
    forget()


def forget() -> None:
    sources.digest.cache_clear()
    sources.imports.cache_clear()
    sources._tree.cache_clear()


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_imports_are_followed_into_functions_but_not_for_type_checkers(project):
    assert names(sources.closure(project / "a.py")) == ["a.py", "b.py", "c.py"]
    assert sources.distributions(sources.closure(project / "a.py")) == ["numpy", "tifffile"]


def test_a_package_that_imports_modules_by_name_imports_all_of_them(project):
    found = sources.closure(project / "readers" / "__init__.py")
    assert names(found) == ["__init__.py", "png.py"]
    assert sources.distributions(found) == ["pillow"]


def test_code_changes_the_digest_and_a_comment_or_an_unrelated_module_does_not(project):
    def digest() -> bytes:
        forget()
        return sources.digest(project / "a.py")

    before = digest()
    (project / "c.py").write_text(FILES["stages/lib/c.py"] + "\n\n# a comment\n")
    (project / "d.py").write_text("two = 3\n")
    assert digest() == before
    (project / "c.py").write_text(FILES["stages/lib/c.py"].replace("one = 1", "one = 2"))
    assert digest() != before


def test_the_other_branch_of_what_is_for_type_checkers_is_followed(project):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\nelse:\n    import stages.lib.d\n"
    (project / "a.py").write_text(text)
    assert names(sources.closure(project / "a.py")) == ["a.py", "d.py"]
    (project / "a.py").write_text("from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import stages.lib.d\n")
    forget()
    assert names(sources.closure(project / "a.py")) == ["a.py", "d.py"]


def test_a_module_that_is_imported_by_its_whole_name_is_followed(project):
    (project / "a.py").write_text("import importlib\nimportlib.import_module('stages.lib.d')\n")
    assert names(sources.closure(project / "a.py")) == ["a.py", "d.py"]


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nimportlib.import_module('stages.lib.' + name)",
        "import importlib\nimportlib.import_module(f'{package}.a')",
        "import importlib\nimportlib.import_module(f'stages.lib.{name}.a')",
        "import importlib\nimportlib.import_module(f'.{name}', 'stages.lib')",
        "import importlib\nimportlib.import_module(name='stages.lib.d')",
        "from importlib import import_module as load\nload('stages.lib.d')",
        "__import__('stages.lib.' + name)",
    ],
)
def test_an_import_whose_target_can_not_be_told_is_refused(project, text):
    (project / "a.py").write_text(text)
    with pytest.raises(ValueError, match="a.py: "):
        sources.closure(project / "a.py")


def test_a_docstring_leaves_the_digest_and_another_version_of_a_package_changes_it(project, monkeypatch):
    before = sources.digest(project / "a.py")
    (project / "c.py").write_text('"""What it is."""\n' + FILES["stages/lib/c.py"])
    forget()
    assert sources.digest(project / "a.py") == before
    monkeypatch.setattr(sources, "_version", lambda name: "99")
    forget()
    assert sources.digest(project / "a.py") != before


def test_a_relative_import_is_refused(project):
    (project / "a.py").write_text("from . import b\n")
    with pytest.raises(ValueError, match="a.py: import absolutely"):
        sources.closure(project / "a.py")
