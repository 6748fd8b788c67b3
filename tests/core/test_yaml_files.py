"""YAML that refers to itself, or stands for more than it holds."""

import pytest

from stages.lib.core import yaml_files
from stages.lib.core.errors import UserError


def doubled(first: str, line: str) -> str:
    """Forty lines, each of which stands for twice as much as the one before."""
    return f"a0: &a0 {first}\n" + "".join(line.format(i, i + 1) for i in range(40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datasets: &a {digits: *a}", "refers to what it lies in, at line 1"),
        ("a: &a\n  <<: *a\n", "refers to what it lies in"),
        ("a: &a [1, [2, *a]]", "refers to what it lies in"),
        (doubled("[1, 1]", "a{1}: &a{1} [*a{0}, *a{0}]\n"), "values of it, expected 100000 at most"),
        (doubled("{x: 1}", "a{1}: &a{1} {{<<: [*a{0}, *a{0}]}}\n"), "values of it, expected 100000 at most"),
        ("- " * 1000, "nested too deep"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 2026-99-99", "month"),
        ("a: !!python/object/apply:os.system [ls]", "constructor"),
        ("a: \x00", "not allowed"),
    ],
)
def test_a_hostile_file_is_one_message(tmp_path, text, said):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=f"params.yaml is no valid YAML.*{said}"):
        yaml_files.load(tmp_path / "params.yaml")


def test_an_alias_that_stands_for_a_little_is_read(tmp_path):
    (tmp_path / "params.yaml").write_text("a: &a {x: 1e-3, y: [1, 2]}\nb: {<<: *a, z: *a}\n")
    assert yaml_files.load(tmp_path / "params.yaml")["b"] == {"x": 0.001, "y": [1, 2], "z": {"x": 0.001, "y": [1, 2]}}


def test_a_folder_and_another_encoding_are_named(tmp_path):
    with pytest.raises(UserError, match="a folder, expected a file"):
        yaml_files.load(tmp_path)
    (tmp_path / "params.yaml").write_bytes("a: \N{LATIN SMALL LETTER E WITH ACUTE}".encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8"):
        yaml_files.load(tmp_path / "params.yaml")
