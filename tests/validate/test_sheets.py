import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from stages.lib.drawing import sheets
from stages.lib.drawing.sheets import Sheet, Tile
from stages.lib.tensors import Asked, Split
from stages.lib.validate.case_sheets import CaseSheets
from stages.lib.validate.kinds.classes import Classes

VERMILION = (213, 94, 0)


def colours(sheet):
    with Image.open(io.BytesIO(sheet.png())) as picture:
        return np.asarray(picture.convert("RGB"))


def embedded(sheet):
    """The pictures of a sheet's SVG."""
    for data in re.findall(r'href="data:image/png;base64,([^"]*)"', sheet.svg()):
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            yield np.asarray(picture.convert("RGB"))


def split_of(labels):
    rng = np.random.default_rng(0)
    names = np.array([f"{i:06d}cdef".encode() for i in range(len(labels))])
    return Split(rng.integers(0, 255, (len(labels), 1, 8, 8), np.uint8), np.array(labels), names, names)


def test_a_long_name_is_shortened_in_the_middle_and_keeps_both_ends():
    assert sheets.short("no_nodule", 18) == "no_nodule"
    assert sheets.short("adenocarcinoma_grade_2", 16) == "adenocar…grade_2"


def caption(label, probabilities, classes):
    return Classes(Asked("classes", classes)).caption(split_of([label]), probabilities[None], 0)


def test_a_caption_names_what_a_case_was_taken_for_and_fits_a_tile():
    names = ["cat", "dog"]
    assert caption(0, np.array([0.96, 0.04]), names) == ("cat: 96%", True)
    assert caption(0, np.array([0.04, 0.96]), names) == ("cat: 4%\nas dog: 96%", False)
    long, _ = caption(0, np.array([0.04, 0.96]), [f"{name}{'x' * 80}" for name in names])
    assert max(map(len, long.splitlines())) <= 30


def test_a_sheet_of_photographs_is_written_small_and_the_same_twice(tmp_path):
    ramp = np.linspace(0, 1, 32)
    photograph = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 0.5), -1)
    for name in "ab":
        sheets.save(tmp_path / name, Sheet("Title", [Tile(photograph, "class: 90%")] * 20))
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
        assert (tmp_path / f"a.{kind}").stat().st_size < 60_000
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        drawn = np.asarray(picture.convert("RGB"))
    assert drawn[..., 0].max() == 255 and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("side", [8, 30, 224])
def test_a_pixel_of_a_sample_is_a_square_of_whole_pixels_of_the_sheet_and_one_of_the_svg(side):
    board = np.indices((side, side)).sum(0) % 2.0
    sheet = Sheet("", [Tile(board, "")])
    (picture,) = embedded(sheet)
    assert (picture[..., 0] == 255 * board).all()
    drawn = colours(sheet)[..., 0]
    assert set(np.unique(drawn)) == {0, 255}, "nothing between the two is blurred"
    black = np.argwhere(drawn == 0)
    (top, left), (bottom, right) = black.min(0), black.max(0) + 1
    times = max(1, round(sheets.TILE / side))
    assert (bottom - top, right - left) == (side * times, side * times)
    assert (drawn[top:bottom, left:right] == 255 * board.repeat(times, 0).repeat(times, 1)).all()


def test_large_samples_are_averaged_so_that_git_can_keep_the_sheet():
    sheet = Sheet("", [Tile(np.full((512, 512), 0.5), "")] * 20)
    assert sum(picture[..., 0].size for picture in embedded(sheet)) <= sheets.SHEET_PIXELS
    assert len(sheet.png()) < 100_000


def test_right_and_wrong_are_told_apart_by_a_sign_and_a_frame():
    tile = np.zeros((8, 8))
    right, wrong = (Sheet("", [Tile(tile, "a", answer)]) for answer in (True, False))
    assert ">✓ a</text>" in right.svg() and ">✗ a</text>" in wrong.svg()
    assert "d55e00" in wrong.svg() and "d55e00" not in right.svg()
    framed = [(colours(sheet) == VERMILION).all(-1).sum() for sheet in (right, wrong)]
    assert framed == [0, 166**2 - 160**2]
    assert (colours(Sheet("", [Tile(np.stack([tile] * 3, -1), "", False)])) == VERMILION).all(-1).sum() == framed[1]


def test_a_class_called_as_markup_or_as_no_character_is_text():
    drawn = Sheet("</text><script>", [Tile(np.zeros((2, 2)), "<a>&\x00 \ud800 _$x$")]).svg()
    assert "&lt;/text&gt;&lt;script&gt;" in drawn and "&lt;a&gt;&amp;\ufffd \ufffd _$x$</text>" in drawn


def test_the_worst_are_wrong_without_exception_and_the_title_says_how_many_there_are():
    split = split_of([0, 0, 1, 1])
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    drawn = CaseSheets(None, [0], [255], Classes(Asked("classes", ["a", "b"])))
    worst = drawn.worst(split, chances, 20)
    assert worst.title == "All that are wrong: 2 wrong of 4 test cases"
    assert [(tile.caption, tile.right) for tile in worst.tiles] == [
        ("000001\na: 20%\nas b: 80%", False),
        ("000002\nb: 30%\nas a: 70%", False),
    ]
    assert drawn.worst(split, chances, 1).title == "The 1 most wrong: 2 wrong of 4 test cases"
    none = drawn.worst(split, np.eye(2)[split.y], 20)
    assert none.title == "All that are wrong: 0 wrong of 4 test cases" and not none.tiles
    assert colours(none).min() == 0, "the title of an empty sheet"
    assert [tile.right for tile in drawn.uncertain(split, chances, 20).tiles] == [True, False, False, True]
