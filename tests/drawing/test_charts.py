import io

import numpy as np
import pytest
from PIL import Image

from stages.lib.drawing import charts
from stages.lib.drawing.charts import BLUE, GREY, VERMILION, Bars, Histogram, Pictures, Ranges


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def wide(drawn, colour):
    """The length of each stretch of a colour, a row of bars each."""
    rows = (drawn == colour).all(-1).sum(1)
    starts = np.flatnonzero((rows > 0) & (np.roll(rows, 1) == 0))
    return rows[starts].tolist()


def test_bars_are_as_long_as_their_numbers_are_large_and_a_small_one_is_seen():
    drawn = pixels(
        charts.page("", [[Bars("", [("a", 300, BLUE), ("b", 100, BLUE), ("c", 0.001, BLUE), ("d", 0, BLUE)])]])
    )
    first, second, third = wide(drawn, BLUE)
    assert second == pytest.approx(first / 3, abs=1) and third == 1


def test_the_same_numbers_give_the_same_bytes_and_others_give_others():
    def page(number):
        return charts.page("t", [[Bars("b", [("a", number, BLUE)]), Ranges("r", [("H", 1, 2, 30)])]])

    assert page(1) == page(1) != page(2)


def test_a_histogram_stands_on_its_axis_and_its_highest_bin_reaches_the_top():
    drawn = pixels(charts.page("", [[Histogram("", [[0, 1000, 0, 1]], "0", "3")]]))
    blue = (drawn == BLUE).all(-1)
    rows = np.flatnonzero(blue.any(1))
    assert rows[-1] - rows[0] == pytest.approx(charts.HIGH, abs=2)
    high = blue[: rows[0] + 3].any(0)
    inside = np.flatnonzero(high) / drawn.shape[1]
    assert inside.min() > 0.25 and inside.max() < 0.51, "the second bin of four is the highest"


def test_what_is_empty_or_all_the_same_is_drawn_without_an_error():
    empty = [Bars("", []), Histogram("", [[]], "", ""), Ranges("", [("H", 8, 8, 8)]), Pictures("", [])]
    assert pixels(charts.page("nothing", [empty])).shape[1] == charts.WIDTH


def test_a_row_holds_ten_pictures_and_shows_their_colours():
    shown = [(Image.new("RGB", (84, 84), VERMILION), f"class {i}") for i in range(10)]
    drawn = pixels(charts.page("", [[Pictures("", shown)]]))
    assert (drawn == VERMILION).all(-1).sum() == 10 * 84 * 84


def test_a_name_that_is_no_character_or_too_long_is_drawn_all_the_same():
    name = "\ud800\x00" + "w" * 500
    drawn = pixels(charts.page(name, [[Bars(name, [(name, 1, GREY)])]]))
    assert max(wide(drawn, GREY)) > 100, "the name leaves room for the bar"
