"""Sheets of pictures with captions, as PNG and as SVG: the same bytes for the same pictures.

Every pixel of a sample is a square of whole pixels of the sheet, so that nothing is blurred or left out; only where a
sheet would have more than `SHEET_PIXELS` of them, neighbours are averaged, since git keeps the figures.
"""

import base64
import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 5
TILE = 160  # pixels: a smaller sample is enlarged to about this
GAP, MARGIN, TITLE, LINE = 16, 8, 34, 15  # pixels
TITLE_SIZE, CAPTION_SIZE = 15, 11  # pixels
SHEET_PIXELS = 1_500_000  # of samples, before they are enlarged
GREYS = 250  # of a grey sheet's palette: the others are for frames
FRAME = 3  # pixels
WRONG_COLOUR = (213, 94, 0)  # vermilion, told from grey with any colour vision (Okabe and Ito 2008)
MARKS = {True: "✓ ", False: "✗ ", None: ""}
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Tile:
    image: np.ndarray  # (H, W) or (H, W, 3), in [0, 1]
    caption: str  # lines
    right: bool | None = None  # whether the answer is: marked in the caption, and by a frame where it is wrong


@dataclass(frozen=True)
class Sheet:
    title: str
    tiles: Sequence[Tile]
    columns: int = COLUMNS

    def png(self) -> bytes:
        """With a palette of 256 colours, all that greys need: it is a third as large."""
        pictures, places, size = self._laid_out()
        grey = all(picture.mode == "L" for picture in pictures)
        canvas = Image.new("L" if grey else "RGB", size, 255 if grey else (255, 255, 255))
        draw = ImageDraw.Draw(canvas)
        black = 0 if grey else (0, 0, 0)
        draw.text((size[0] / 2, MARGIN), printable(self.title), black, font(TITLE_SIZE), "ma")
        for tile, picture, (left, top, side) in zip(self.tiles, pictures, places, strict=True):
            box = (left, top, left + picture.width * side, top + picture.height * side)
            canvas.paste(picture.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.NEAREST), box[:2])
            for i, line in enumerate(_lines(tile)):
                at = ((box[0] + box[2]) / 2, self._caption_top(top) + i * LINE)
                draw.text(at, line, black, font(CAPTION_SIZE), "ma")
        if grey:
            levels = np.arange(256) * (GREYS - 1) / 255
            canvas = canvas.point(levels.round().astype(int).tolist())
            greys = np.linspace(0, 255, GREYS).round().astype(np.uint8)
            canvas.putpalette(np.repeat(greys, 3).tobytes() + bytes(WRONG_COLOUR))
        else:
            canvas = canvas.quantize(254, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        frames = ImageDraw.Draw(canvas)
        for tile, picture, (left, top, side) in zip(self.tiles, pictures, places, strict=True):
            if tile.right is False:
                box = (
                    left - FRAME,
                    top - FRAME,
                    left + picture.width * side + FRAME - 1,
                    top + picture.height * side + FRAME - 1,
                )
                frames.rectangle(box, outline=WRONG_COLOUR, width=FRAME)
        return encoded(canvas)

    def svg(self) -> str:
        """With the samples' own pixels, which a viewer enlarges without blurring, and captions that are text."""
        pictures, places, (width, height) = self._laid_out()
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif;text-anchor:middle}"
            "image{image-rendering:crisp-edges;image-rendering:pixelated}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            _text(width / 2, MARGIN + TITLE_SIZE, TITLE_SIZE, printable(self.title)),
        ]
        for tile, picture, (left, top, side) in zip(self.tiles, pictures, places, strict=True):
            wide, high = picture.width * side, picture.height * side
            if picture.mode == "RGB":
                picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            data = base64.b64encode(encoded(picture)).decode()
            place = f'x="{left}" y="{top}" width="{wide}" height="{high}"'
            parts.append(f'<image {place} href="data:image/png;base64,{data}"/>')
            if tile.right is False:
                edge = FRAME / 2
                parts.append(
                    f'<rect x="{left - edge}" y="{top - edge}" width="{wide + FRAME}" height="{high + FRAME}" '
                    f'fill="none" stroke="#{bytes(WRONG_COLOUR).hex()}" stroke-width="{FRAME}"/>'
                )
            for i, line in enumerate(_lines(tile)):
                y = self._caption_top(top) + i * LINE + CAPTION_SIZE
                parts.append(_text(left + wide / 2, y, CAPTION_SIZE, line))
        return "\n".join([*parts, "</svg>", ""])

    def _laid_out(self) -> tuple[list[Image.Image], list[tuple[int, int, int]], tuple[int, int]]:
        """The pictures, of each left, top and how many pixels one of its pixels is wide, and the sheet's size."""
        pixels = sum(math.prod(tile.image.shape[:2]) for tile in self.tiles)
        together = math.ceil(math.sqrt(pixels / SHEET_PIXELS)) or 1
        pictures = [_picture(tile.image, together) for tile in self.tiles]
        sides = [max(1, round(TILE / max(picture.size))) for picture in pictures]
        cell = max([TILE, *(max(picture.size) * side for picture, side in zip(pictures, sides, strict=True))])
        places = []
        for i, (picture, side) in enumerate(zip(pictures, sides, strict=True)):
            row, column = divmod(i, self.columns)
            left = MARGIN + column * (cell + GAP) + (cell - picture.width * side) // 2
            top = TITLE + row * (cell + self._caption_height + GAP) + self._caption_height
            places.append((left, top + (cell - picture.height * side) // 2, side))
        rows = math.ceil(len(pictures) / self.columns)
        width = 2 * MARGIN + self.columns * (cell + GAP) - GAP
        return pictures, places, (width, TITLE + rows * (cell + self._caption_height + GAP))

    @cached_property
    def _caption_height(self) -> int:
        return LINE * max((len(_lines(tile)) for tile in self.tiles), default=0) + FRAME + 1

    def _caption_top(self, picture_top: int) -> int:
        return picture_top - self._caption_height


def save(stem: Path, sheet: Sheet) -> None:
    """Writes `stem`.png and `stem`.svg."""
    stem.with_suffix(".png").write_bytes(sheet.png())
    stem.with_suffix(".svg").write_text(sheet.svg(), encoding="utf-8")


def short(name: str, length: int) -> str:
    """A name of at most so many characters that keeps both ends, as "adenocar…grade_2"."""
    head = length // 2
    return name if len(name) <= length else f"{name[:head]}…{name[head + 1 - length :]}"


def displayable(sample: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """A sample as an image in [0, 1], in the network's intensity window; of a volume, the middle slice.

    Args:
        sample: (C, H, W) or (C, D, H, W).
        low, high: The window, one number per channel (or one for all).

    Returns:
        (H, W, 3), the first three channels; of fewer the first, (H, W).
    """
    sample = np.asarray(sample, np.float64)
    if sample.ndim == 4:
        sample = sample[:, sample.shape[1] // 2]  # (C, H, W)
    bottom, top = (np.asarray(bound, np.float64).reshape(-1, 1, 1) for bound in (low, high))
    image = ((sample - bottom) / np.maximum(top - bottom, 1e-12)).clip(0, 1)
    return np.moveaxis(image[:3], 0, -1) if len(image) >= 3 else image[0]


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A grey image with a heat map in red: (H, W) or (H, W, 3), and (H, W), both in [0, 1] -> (H, W, 3)."""
    grey = image.mean(-1) if image.ndim == 3 else image
    coloured = np.stack([grey] * 3, -1)  # (H, W, 3)
    weight = 0.6 * heat[..., None]
    return (coloured * (1 - weight) + np.array([1.0, 0.1, 0.0]) * weight).clip(0, 1)  # rounding may exceed 1


def as_picture(image: np.ndarray) -> Image.Image:
    """(H, W) as L or (H, W, 3) as RGB, from numbers in [0, 1]."""
    return Image.fromarray((image * 255).round().astype(np.uint8))


def _picture(image: np.ndarray, together: int) -> Image.Image:
    """L or RGB; `together` neighbours along each side are averaged."""
    picture = as_picture(image)
    return picture.reduce(together) if together > 1 else picture


def encoded(picture: Image.Image) -> bytes:
    """As PNG."""
    written = io.BytesIO()
    picture.save(written, format="png", compress_level=9)
    return written.getvalue()


def _lines(tile: Tile) -> list[str]:
    return (MARKS[tile.right] + printable(tile.caption)).split("\n")


def printable(text: str) -> str:
    """Without the characters that XML has no word for."""
    return NOT_XML.sub("\ufffd", text)


def _text(x: float, y: float, size: int, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}">{html.escape(text)}</text>'


def text_width(text: str, size: int) -> float:
    """In pixels, of a font of so many pixels."""
    return font(size).getlength(text)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's figures, found without matplotlib, which takes half a second to import."""
    package = find_spec("matplotlib")
    assert package and package.origin
    file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
