"""Every picture that the installed packages ship is read as Pillow reads it, or refused with a true reason."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.lib.ingest.readers import READERS
from tests import ROOT
from tests.ingest.readers.test_image import tiff
from tools import compare_pictures
from tools.compare_pictures import ALONE, DIFFERENT, EQUAL, compare, files

PACKAGES = ("PIL", "imageio", "skimage", "tifffile", "matplotlib", "sklearn", "torchvision")
# Why a file of these packages may be no case, beside those that are no pictures at all.
REASONS = {"empty", "not_an_image", "unsupported_format", "float_pixels", "unsupported_depth", *READERS}
FAULTS = ROOT.parent / "shared" / "faults"


def folders() -> list[Path]:
    found = [importlib.util.find_spec(name) for name in PACKAGES]
    return [Path(spec.origin).parent for spec in found if spec and spec.origin]


@pytest.mark.slow
def test_every_picture_that_packages_ship_is_equal_or_refused_with_a_reason_from_the_list():
    pictures = 0
    for path in files(folders()):
        if path.suffix in (".py", ".pyc", ".pyi", ".so"):
            continue
        verdict = compare(path.read_bytes())
        assert verdict.outcome in {EQUAL} | REASONS, path
        assert not verdict.wrong, path
        pictures += verdict.outcome == EQUAL
    assert pictures >= 20


@pytest.mark.skipif(not FAULTS.is_dir(), reason="the faulty pictures are not here")
@pytest.mark.parametrize("name", ["00", "02", "03", "05", "07", "08", "12"])
def test_the_pictures_that_were_once_read_wrong_are_read_right(name):
    (folder,) = FAULTS.glob(f"{name}-*")
    for path in files([folder]):
        if path.name != "README":
            verdict = compare(path.read_bytes())
            assert (verdict.outcome in (EQUAL, ALONE)) and not verdict.wrong, (path, verdict)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_numbers_without_black_and_white_are_compared_as_they_are_and_channels_of_several_pages_are_not():
    pixels = np.arange(64).reshape(8, 8)
    for dtype in ("int16", "int32", "float32"):
        assert compare(tiff((pixels - 9).astype(dtype))).outcome == EQUAL
    pages = np.stack([pixels, pixels + 1]).astype(np.uint8)
    assert compare(tiff(pages, imagej=True, metadata={"axes": "CYX"})).outcome == ALONE
    assert compare(tiff(pages.astype(np.float32), photometric="minisblack", planarconfig="separate")).outcome == ALONE


def test_a_picture_that_is_read_otherwise_is_named_and_the_exit_status_is_1(tmp_path, monkeypatch, capsys):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (tmp_path / "a.png").write_bytes(png(pixels))
    with pytest.raises(SystemExit) as ended:
        compare_pictures.main([str(tmp_path)])
    assert ended.value.code == 0
    monkeypatch.setattr(compare_pictures, "by_ingest", lambda content: pixels[..., None] + np.uint8(9))
    with pytest.raises(SystemExit) as ended:
        compare_pictures.main([str(tmp_path), "--output", "markdown"])
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert f"| {DIFFERENT} | 1 |" in out
    assert "a.png: different" in err


def test_a_sound_picture_that_is_called_damaged_is_wrong(monkeypatch):
    def refuse(content: bytes) -> np.ndarray:
        raise compare_pictures.Rejected("corrupt", "so it says")

    monkeypatch.setattr(compare_pictures, "by_ingest", refuse)
    assert compare(png(np.zeros((4, 4), np.uint8))).wrong
    assert not compare(b"no picture").wrong
