"""One picture, or one scan, in every format that keeps it: equal cases, which join one group."""

import io
import shutil
import tarfile
import zipfile

import imagecodecs
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from tests.raw_data import SHARED, ingest


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_same_case_in_every_lossless_format(channels, tmp_path):
    folder = tmp_path / "raw" / "cat"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 11) if channels == 1 else (9, 11, 3), np.uint8)
    picture = Image.fromarray(pixels)
    for name in ("png", "bmp", "ppm", "jp2", "tga"):
        picture.save(folder / f"x.{name}", **({"irreversible": False} if name == "jp2" else {}))
    tifffile.imwrite(folder / "x.tif", pixels, compression="zlib", photometric="rgb" if channels == 3 else "minisblack")
    np.save(folder / "x.npy", pixels)
    np.savez_compressed(folder / "y.npz", picture=pixels)
    (folder / "x.jxl").write_bytes(bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)))
    if channels == 3:  # WebP has no grey pictures
        picture.save(folder / "x.webp", lossless=True)
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)
    with tarfile.open(folder / "shard.tar", "w") as archive:
        member = tarfile.TarInfo("z.png")
        member.size = len(png.getvalue())
        archive.addfile(member, io.BytesIO(png.getvalue()))
    with zipfile.ZipFile(folder / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.png", png.getvalue())
    (tmp_path / "raw" / "dog").mkdir()
    Image.fromarray(255 - pixels).save(tmp_path / "raw" / "dog" / "other.png")
    made = ingest(tmp_path / "raw", tmp_path, include=("*",))
    expected = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    same = [np.array_equal(found, expected) for found in made.pixels]
    assert sum(same) == (12 if channels == 3 else 11)
    assert made.table["group"][same].nunique() == 1
    assert made.counts["duplicates"] == sum(same) - 1


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "ct-chest-dicom.zip").exists(), reason="the chest CT is not on this machine")
def test_the_chest_ct_is_one_case_as_a_zip_of_dicom_files_and_in_every_format_of_volumes(tmp_path):
    raw = tmp_path / "raw" / "ill"
    raw.mkdir(parents=True)
    shutil.copy(SHARED / "ct-chest-dicom.zip", raw / "scan.zip")
    with zipfile.ZipFile(raw / "scan.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    reader = SimpleITK.ImageSeriesReader()
    (folder,) = {path.parent for path in (tmp_path / "unpacked").rglob("*") if path.is_file()}
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    image = SimpleITK.Cast(reader.Execute(), SimpleITK.sitkInt16)
    for name in ("scan.nii.gz", "scan.nrrd", "scan.mha"):
        SimpleITK.WriteImage(image, str(raw / name), True)
    made = ingest(tmp_path / "raw", tmp_path, intensity="hu")
    assert len(made.pixels) == 4
    assert all(np.array_equal(made.pixels[0], pixels) for pixels in made.pixels)
    assert np.allclose(made.spacings_mm, made.spacings_mm[0], rtol=1e-6, atol=0)
    assert made.table["copy_of"].tolist().count("") == 1
    assert made.table["affine"].nunique() == 1
