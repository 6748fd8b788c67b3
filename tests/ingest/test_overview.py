"""metrics/<ds>/ingest.png, and which figures may show cases."""

import stat

import numpy as np
import pytest
from PIL import Image

from stages.lib import drawing
from stages.lib.cases import Cases, write_cases
from stages.lib.drawing.charts import Histogram, Pictures, Ranges
from stages.lib.ingest.results import overview
from tests.raw_data import ingest, scan, write_pictures, write_series

COUNTS = {
    "cases": 3,
    "groups": 2,
    "classes": {"cat": 2, "dog": 1},
    "files": {"in_cases": 3},
    "rejected": {"corrupt": 2},
    "set_aside": {"localizer": 5},
    "ignored": {"litter": 1},
}


@pytest.fixture
def drawn(monkeypatch):
    """The charts of each page that is drawn, by kind."""
    pages = []
    page = overview.charts.page

    def noted(title, rows):
        pages.append({type(chart): chart for row in rows for chart in row} | {"title": title, "rows": rows})
        return page(title, rows)

    monkeypatch.setattr(overview.charts, "page", noted)
    return pages


def height(png):
    with Image.open(png) as picture:
        return picture.height


@pytest.mark.parametrize("ends", [(1e9, 1e9 + 64), (2**24, 2**24 + 50), (-3e38, 3e38), (3e38, 3e38), (0, 1e-40)])
def test_intensities_of_any_size_are_drawn(ends, tmp_path, drawn):
    pixels = {"0000000000000001": np.resize(np.float32(ends), (1, 3, 4, 5))}
    write_cases(tmp_path / "cases", pixels, "CDHW", spacings_mm=[(1, 1, 1)])
    overview.draw(tmp_path / "ingest.png", tmp_path / "local", tmp_path / "cases", ["cat"], COUNTS, True)
    assert sum(drawn[0][Histogram].counts[0]) == 20


@pytest.mark.parametrize(("channels", "told"), [(4, ""), (5, ", the first 4 of 5 channels")])
def test_the_figure_says_which_channels_it_leaves_out(channels, told, tmp_path, drawn):
    write_cases(tmp_path / "cases", {"0": np.arange(16 * channels, dtype=np.uint16).reshape(channels, 4, 4)}, "CHW")
    overview.draw(tmp_path / "ingest.png", tmp_path, tmp_path / "cases", ["cat"], COUNTS, may_show=True)
    assert drawn[0][Histogram].title == f"Intensities of 1 pictures{told}, logarithmic"


def test_the_figure_says_what_became_of_every_file_and_how_cases_differ(tmp_path, drawn):
    pixels = {f"{i:016x}": np.full((1, 4, 10 * i), 100 * i, np.uint16) for i in (1, 2, 3)}
    write_cases(tmp_path / "cases", pixels, "CHW", spacings_mm=[(0.5, 0.5), (1, 1), (2, 2)])
    overview.draw(tmp_path / "ingest.png", tmp_path / "local", tmp_path / "cases", ["cat", "dog", "cat"], COUNTS, True)
    (page,) = drawn
    assert page["title"] == "3 cases of 2 groups"
    classes, files = page["rows"][0]
    assert [row[:2] for row in classes.rows] == [("cat", 2), ("dog", 1)]
    assert [row[:2] for row in files.rows] == [
        ("in cases", 3),
        ("rejected cases: corrupt", 2),
        ("set aside: localizer", 5),
        ("ignored: litter", 1),
    ]
    assert page[Ranges].rows == [("H", 4, 4, 4), ("W", 10, 20, 30), ("H mm", 0.5, 1, 2), ("W mm", 0.5, 1, 2)]
    assert (page[Histogram].low, page[Histogram].high) == ("100", "300")
    (line,) = page[Histogram].counts
    assert [(i, count) for i, count in enumerate(line) if count] == [(0, 40), (40, 80), (79, 120)]
    assert [caption for _, caption in page[Pictures].pictures] == ["cat", "dog"]
    assert height(tmp_path / "ingest.png") > 300


def test_a_volume_is_shown_by_its_middle_slice_as_wide_as_it_is_in_millimetres(tmp_path):
    volume = np.zeros((1, 5, 10, 10), np.int16)
    volume[0, 2, :, 5:] = 1000
    write_cases(tmp_path / "cases", {"0" * 16: volume}, "CDHW", "HU", [(1.0, 1.0, 2.0)])
    with Cases(tmp_path / "cases") as cases:
        picture = np.asarray(overview._small(cases, 0))
    assert picture.shape == (42, 84)
    assert (picture[:, 42:] == 255).all() and (picture[:, :42] == 128).all(), "1000 HU are white, 0 half way"


def test_pictures_of_cases_stay_on_the_machine_unless_identifiers_are_open_or_params_allow_it(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTIFIER_KEY", "a key of the tests")
    write_pictures(tmp_path / "raw")
    folder = tmp_path / "out"
    shown = ingest(tmp_path / "raw", folder, identifiers="open").folder / "ingest.png"
    high = height(shown)
    assert not (folder / drawing.LOCAL).exists()
    ingest(tmp_path / "raw", folder, identifiers="keyed")
    local = folder / drawing.LOCAL
    assert height(shown) < high == height(local / "ingest.png")
    assert stat.S_IMODE(local.stat().st_mode) == 0o700
    ingest(tmp_path / "raw", folder, identifiers="keyed", pictures=True)
    assert height(shown) == high and not local.exists()
    ingest(tmp_path / "raw", folder, identifiers="open", pictures=False)
    assert height(shown) < high


def test_the_same_raw_data_give_the_same_figure(tmp_path):
    write_series(tmp_path / "raw" / "a" / "1")
    write_series(tmp_path / "raw" / "b" / "1", scan(seed=1), series="two", patient="Roe")
    first, second = (ingest(tmp_path / "raw", tmp_path / name) for name in ("x", "y"))
    assert first.bytes()["ingest.png"] == second.bytes()["ingest.png"]
