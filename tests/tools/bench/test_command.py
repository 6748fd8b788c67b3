import importlib

import pytest

from stages.lib.core.errors import UserError
from tools.bench import __main__, groups, results
from tools.bench.groups import GROUPS, Group, Missing, Options
from tools.bench.machine import facts, versions
from tools.bench.results import Measured
from tools.bench.timing import Comparison


def fake_run(name: str, options: Options) -> Group:
    if name == "training":
        raise Missing("training needs --images")
    rows = [Comparison(name, f"{options.rounds} rounds", [1.0], "peer", [2.0])]
    return Group(name, name.capitalize(), "2026-01-02", facts(), versions(), Measured(rows))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command with groups that measure nothing; the groups that are kept."""
    monkeypatch.setattr(groups, "run", fake_run)

    def call(*arguments: str) -> dict[str, Group]:
        __main__.main([*arguments, "--output", str(tmp_path / "performance.md")])
        return results.load(tmp_path / "performance.json")

    return call


def test_an_unknown_group_is_refused_with_the_names_of_those_that_there_are():
    with pytest.raises(UserError, match=f"no group speed: expected {', '.join(GROUPS)}"):
        groups.named(["data", "speed"])


def test_every_group_is_a_module_that_says_what_it_measures():
    for name in GROUPS:
        module = importlib.import_module(f"tools.bench.{name}")
        title, _, about = module.__doc__.partition("\n\n")
        assert callable(module.run) and title and "\n" not in title and about


def test_a_group_that_lacks_what_it_needs_is_left_out_unless_it_was_asked_for(run, capsys):
    assert list(run()) == [name for name in GROUPS if name != "training"]
    assert "training is left out: training needs --images" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: training needs --images"):
        run("--groups", "training")


def test_a_group_that_is_run_again_replaces_its_own_results_alone(run, tmp_path):
    run("--groups", "data", "loading")
    kept = run("--groups", "loading", "--rounds", "3")
    assert {name: of.measured.comparisons[0].work for name, of in kept.items()} == {
        "data": "5 rounds",
        "loading": "3 rounds",
    }
    text = (tmp_path / "performance.md").read_text()
    assert text.index("## Data") < text.index("## Loading")


def test_rendering_measures_nothing(run, tmp_path, monkeypatch):
    run("--groups", "data")
    (tmp_path / "performance.md").unlink()
    monkeypatch.setattr(groups, "run", None)
    assert list(run("--render")) == ["data"]
    assert "## Data" in (tmp_path / "performance.md").read_text()
