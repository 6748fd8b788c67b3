from pathlib import Path

import pytest

from stages.lib.core.errors import UserError
from tests import ROOT
from tools.bench import kept, page, results
from tools.bench.machine import Machine
from tools.bench.results import Group, Growth, Measured
from tools.bench.timing import Comparison

LOSING = Comparison("loading", "an epoch", [4.0, 2.0, 3.0], "other", [1.5, 1.5, 1.5], "s", 600, "samples", "It caches.")
WINNING = LOSING._replace(peer="slow", theirs=[6.0, 6.0, 6.0], why="It has no cache.")
ABSENT = LOSING._replace(peer="absent", theirs=[])
GROWTH = Growth("split", [1000, 10000], [0.5, 5.0], [100.0, 200.0], [1 << 20, 10 << 20])
MACHINE = Machine("A processor", 2, 24.0, "Linux 6.1", "3.11.7")


def group(measured: Measured) -> Group:
    return Group("loading", "Loading\n\nWhat is measured.", "2026-01-02", MACHINE, {"numpy": "2.0"}, measured)


def rendered(measured: Measured) -> list[str]:
    return page.render([group(measured)], {"loading": ["loading.png"]}, "performance").splitlines()


def test_a_row_has_medians_with_their_range_a_rate_and_the_ratio():
    row = "| an epoch | 3 s (2 to 4), 200 samples/s | slow | 6 s (6 to 6), 100 samples/s | 2.00 |"
    assert row in rendered(Measured([WINNING]))


def test_short_times_are_milliseconds_and_large_numbers_whole():
    short = WINNING._replace(ours=[0.0123456], theirs=[0.5], things="")
    large = WINNING._replace(unit="bytes", ours=[123456.0], theirs=[999.5], things="")
    assert [page.amounts(of.ours, of) for of in (short, large)] == ["12.3 ms", "123,456 bytes"]


def test_a_row_in_which_ours_is_not_ahead_has_a_sentence_that_says_why():
    lines = rendered(Measured([WINNING, LOSING, ABSENT]))
    assert [line for line in lines if line.startswith("- ")] == [
        "- an epoch: other takes 0.50 times what ours takes (s). It caches."
    ]


def test_a_peer_that_is_not_installed_is_a_row_that_says_so():
    assert "| an epoch | 3 s (2 to 4), 200 samples/s | absent | not installed |  |" in rendered(Measured([ABSENT]))


def test_a_peer_of_which_there_is_nothing_for_another_reason_has_it_in_its_row():
    assert "| an epoch | 3 s (2 to 4), 200 samples/s | absent | failed: a\\|b |  |" in rendered(
        Measured([ABSENT._replace(absent="failed: a|b")])
    )


def test_the_page_ends_with_what_is_kept_by_hand_and_every_module_there_is_one():
    lines = rendered(Measured([WINNING]))
    rows = lines[lines.index(f"## {kept.TITLE}") :]
    assert len([line for line in rows if line.startswith("| ")]) == len(kept.KEPT) + 1
    for of in kept.KEPT:
        folder = ROOT if of.module == "dvc.yaml" else ROOT / "stages/lib"
        first, *others = of.module.split(", ")
        for module in (first, *(str(Path(first).with_name(other)) for other in others)):
            assert list(folder.glob(module.rstrip("/"))), module
        assert of.library and of.cost and of.decision


def test_a_group_says_when_and_where_it_was_measured_and_shows_its_figure():
    lines = rendered(Measured([WINNING], remarks=["Something was left out."]))
    assert "## Loading" in lines and "What is measured." in lines and "- Something was left out." in lines
    assert "![Loading](performance/loading.png)" in lines
    measured = "Measured on 2026-01-02: 2 cores of A processor, 24 GiB of memory, Linux 6.1, Python 3.11.7; numpy 2.0."
    assert measured in lines


def test_growth_has_a_row_for_each_size_and_a_slope_for_each_stage():
    lines = rendered(Measured(growth=[GROWTH, Growth("dataset", [10], [1.0], [1.0], [1])]))
    assert "| split | 10,000 | 5 | 200 | 10 |" in lines
    assert "- split: time grows as cases to the power of 1.00." in lines
    assert "- dataset: one size, which has no slope." in lines


def test_the_page_is_written_with_a_figure_for_each_table(tmp_path):
    page.write(tmp_path / "performance.md", [group(Measured([LOSING, ABSENT], [GROWTH]))])
    figures = sorted(path.name for path in (tmp_path / "performance").iterdir())
    assert figures == ["loading.png", "loading_growth.png"]
    assert all(f"(performance/{name})" in (tmp_path / "performance.md").read_text() for name in figures)


def test_what_was_measured_comes_back_from_its_json_file(tmp_path):
    groups = {"loading": group(Measured([LOSING, ABSENT], [GROWTH], ["A remark."]))}
    results.save(tmp_path / "performance.json", groups)
    assert results.load(tmp_path / "performance.json") == groups
    assert results.load(tmp_path / "none.json") == {}


def test_a_file_of_other_json_is_refused(tmp_path):
    (tmp_path / "performance.json").write_text('{"loading": 1}')
    with pytest.raises(UserError, match="is not as python -m tools.bench writes it"):
        results.load(tmp_path / "performance.json")


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
def test_the_slope_of_a_power_law_is_its_exponent(exponent):
    cases = [1000, 10_000, 100_000]
    growth = Growth("ingest", cases, [3e-4 * n**exponent for n in cases], [], [])
    assert growth.slope == pytest.approx(exponent)
