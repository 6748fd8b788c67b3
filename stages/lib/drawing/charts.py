"""Bars, histograms and ranges beside each other, as a PNG: the same bytes for the same numbers.

Drawn by Pillow in hundredths of a second, for a stage that takes seconds; to import matplotlib takes half of one.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image, ImageDraw

from stages.lib.drawing.sheets import font, printable, short, text_width

WIDTH, MARGIN, GAP = 960, 16, 28  # pixels
TITLE_SIZE, HEAD_SIZE, SIZE, LINE = 17, 13, 11, 17  # pixels
NAME = 36  # characters
BLACK, GREY, PALE, WHITE = (0, 0, 0), (120, 120, 120), (222, 222, 222), (255, 255, 255)
BLUE, SKY, VERMILION, GREEN = (0, 114, 178), (86, 180, 233), (213, 94, 0), (0, 158, 115)  # Okabe and Ito 2008
COLOURS = (VERMILION, GREEN, BLUE, GREY)  # of the lines of a histogram
HIGH = 150  # pixels, of a histogram

Colour = tuple[int, int, int]


class Chart(Protocol):
    """What is drawn into a box of a given width; it says how high it is."""

    @property
    def title(self) -> str: ...

    @property
    def height(self) -> int: ...

    def draw(self, canvas: Image.Image, left: int, top: int, width: int) -> None: ...


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, one below the other, each with its name and its number."""

    title: str
    rows: Sequence[tuple[str, float, Colour]]

    @property
    def height(self) -> int:
        return LINE * max(1, len(self.rows))

    def draw(self, canvas: Image.Image, left: int, top: int, width: int) -> None:
        on = ImageDraw.Draw(canvas)
        names = [short(printable(name), NAME) for name, _, _ in self.rows]
        numbers = [f"{value:,g}" for _, value, _ in self.rows]
        begin = left + _widest(names) + 8
        room = left + width - begin - _widest(numbers) - 6
        most = max((value for _, value, _ in self.rows), default=0) or 1
        for i, (name, number, (_, value, colour)) in enumerate(zip(names, numbers, self.rows, strict=True)):
            y = top + i * LINE
            end = begin + max(round(room * value / most), 1 if value else 0)
            on.text((begin - 8, y + LINE // 2), name, BLACK, font(SIZE), "rm")
            if end > begin:
                on.rectangle((begin, y + 3, end - 1, y + LINE - 3), colour)
            on.text((end + 6, y + LINE // 2), number, BLACK, font(SIZE), "lm")


@dataclass(frozen=True)
class Histogram:
    """Counts of equal bins as outlines, one a line, on a logarithmic axis: what is rare is seen, too."""

    title: str
    counts: Sequence[Sequence[int]]  # of each line
    low: str  # what stands below the first bin's lower edge
    high: str  # and below the last one's upper edge

    @property
    def height(self) -> int:
        return HIGH + LINE

    def draw(self, canvas: Image.Image, left: int, top: int, width: int) -> None:
        on = ImageDraw.Draw(canvas)
        bottom, right = top + HIGH, left + width - 1
        most = math.log1p(max((max(line, default=0) for line in self.counts), default=0)) or 1
        colours = [BLUE] if len(self.counts) == 1 else COLOURS
        for line, colour in zip(self.counts, colours, strict=False):
            points = [(left, bottom)]
            for i, count in enumerate(line):
                y = bottom - round(HIGH * math.log1p(count) / most)
                points += [(left + round(width * (i + at) / len(line)), y) for at in (0, 1)]
            on.line([*points, (right, bottom)], colour, 2)
        on.line((left, bottom, right, bottom), GREY)
        on.text((left, bottom + 3), self.low, BLACK, font(SIZE), "la")
        on.text((right, bottom + 3), self.high, BLACK, font(SIZE), "ra")


@dataclass(frozen=True)
class Ranges:
    """Of each quantity its least, median and largest value, on one logarithmic axis."""

    title: str
    rows: Sequence[tuple[str, float, float, float]]  # positive

    @property
    def height(self) -> int:
        return LINE * max(1, len(self.rows))

    def draw(self, canvas: Image.Image, left: int, top: int, width: int) -> None:
        on = ImageDraw.Draw(canvas)
        texts = [_between(*values) for _, *values in self.rows]
        begin = left + _widest([name for name, *_ in self.rows]) + 8
        room = max(1, left + width - begin - _widest(texts) - 14)
        low, high = (math.log(choose(values)) for choose, values in ((min, self._values()), (max, self._values())))
        for i, ((name, *values), text) in enumerate(zip(self.rows, texts, strict=True)):
            y = top + i * LINE + LINE // 2
            scale = room / (high - low) if high > low else 0
            first, middle, last = (begin + round(scale * (math.log(value) - low)) for value in values)
            on.text((begin - 8, y), name, BLACK, font(SIZE), "rm")
            on.line((begin, y, begin + room, y), PALE)
            on.line((first, y, last, y), SKY, 5)
            on.line((middle, y - 5, middle, y + 5), BLUE, 3)
            on.text((left + width, y), text, BLACK, font(SIZE), "rm")

    def _values(self) -> list[float]:
        return [value for _, *values in self.rows for value in values]


@dataclass(frozen=True)
class Pictures:
    """Small pictures in a row, each with its caption; a picture is (H, W) or (H, W, 3), of 8 bits."""

    title: str
    pictures: Sequence[tuple[Image.Image, str]]
    side: int = 84
    gap: int = 9

    @property
    def height(self) -> int:
        return self.side + LINE

    def draw(self, canvas: Image.Image, left: int, top: int, width: int) -> None:
        on = ImageDraw.Draw(canvas)
        step = self.side + self.gap
        for i, (picture, caption) in enumerate(self.pictures[: (width + self.gap) // step]):
            x = left + i * step
            fitted = picture.convert("RGB")
            canvas.paste(fitted, (x + (self.side - fitted.width) // 2, top + (self.side - fitted.height) // 2))
            on.text((x + self.side // 2, top + self.side + 3), short(printable(caption), 13), BLACK, font(SIZE), "ma")


def page(title: str, rows: Sequence[Sequence[Chart]]) -> bytes:
    """A PNG of charts, row by row, those of a row beside each other in equal widths."""
    heads = MARGIN + TITLE_SIZE + 8
    tall = [max(chart.height for chart in row) + HEAD_SIZE + 10 for row in rows]
    canvas = Image.new("RGB", (WIDTH, heads + sum(high + GAP for high in tall)), WHITE)
    on = ImageDraw.Draw(canvas)
    on.text((MARGIN, MARGIN), printable(title), BLACK, font(TITLE_SIZE), "la")
    top = heads + 12
    for row, high in zip(rows, tall, strict=True):
        width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) // len(row)
        for i, chart in enumerate(row):
            left = MARGIN + i * (width + GAP)
            on.text((left, top), printable(chart.title), BLACK, font(HEAD_SIZE), "la")
            chart.draw(canvas, left, top + HEAD_SIZE + 10, width)
        top += high + GAP
    written = io.BytesIO()
    canvas.save(written, format="png", compress_level=6)  # a palette would halve it, and take longer than all the rest
    return written.getvalue()


def _widest(texts: Sequence[str]) -> int:
    return math.ceil(max((text_width(text, SIZE) for text in texts), default=0))


def _between(low: float, middle: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} - {middle:g} - {high:g}"
