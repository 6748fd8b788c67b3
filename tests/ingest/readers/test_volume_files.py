"""NRRD and MetaImage files: the same case as the DICOM series that they were made of, or a reason."""

from collections.abc import Callable
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK

from stages.lib.core.errors import UserError
from tests.ingest.readers.test_nifti import SERIES, turned
from tests.raw_data import Ingested, ingest, scan, write_pictures, write_series

PHASES = np.stack([scan(seed=i) for i in range(3)])  # (phases, D, H, W)
LPS = np.diag([-1, -1, 1, 1]) @ SERIES  # as (i, j, k) of the series lie in the patient
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 7 8\n"
    "space directions: (0.5,0,0) (0,0.75,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    "space origin: (-10,-20,0)\n\n"
)
MHA = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -10 -20 0\nElementSpacing = 0.5 0.75 2.5\nDimSize = 6 7 8\n"
    "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
HEADERS = {"nrrd": NRRD, "mha": MHA}


def itk(pixels: np.ndarray, affine: np.ndarray = SERIES) -> SimpleITK.Image:
    """(D, H, W) or (phases, D, H, W) as an image; `affine` is from (i, j, k) to RAS."""
    image = SimpleITK.GetImageFromArray(pixels, isVector=False)
    lps = np.diag([-1, -1, 1]) @ affine[:3]
    steps = np.linalg.norm(lps[:, :3], axis=0)
    rest = pixels.ndim - 3
    direction = np.eye(pixels.ndim)
    direction[:3, :3] = lps[:, :3] / steps
    image.SetSpacing([*steps.tolist(), *[1.0] * rest])
    image.SetOrigin([*lps[:, 3].tolist(), *[0.0] * rest])
    image.SetDirection(direction.ravel().tolist())
    return image


def write_by_hand(path: Path, change: Callable[[str], str] = str, pixels: np.ndarray | None = None) -> None:
    """A file whose header is that of HEADERS, changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = change(HEADERS[path.suffix[1:]])
    path.write_bytes(header.encode() + (scan() if pixels is None else pixels).astype("<i2").tobytes())


@pytest.mark.parametrize("axes", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_volume_is_the_case_that_its_dicom_series_makes(suffix, is_packed, axes, tmp_path):
    raw = tmp_path / "raw"
    pixels = write_series(raw / "ill" / "slices")
    SimpleITK.WriteImage(itk(*turned(pixels, SERIES, axes)), str(raw / "ill" / f"scan.{suffix}"), is_packed)
    made = ingest(raw, tmp_path, intensity="hu")
    assert all(np.array_equal(of[0], pixels) for of in made.pixels)
    assert np.allclose(made.spacings_mm, [2.5, 0.75, 0.5], rtol=1e-6, atol=0)
    assert made.table["orientation"].tolist() == ["HPL", "HPL"]
    assert made.table["affine"].nunique() == 1
    assert made.table["copy_of"].tolist().count("") == 1
    assert made.units == "HU"


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_oblique_volumes_lie_where_simpleitk_has_them(suffix, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        directions, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = directions * rng.uniform(0.3, 4, 3)
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        (tmp_path / "raw" / "a").mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(itk(scan(seed=i), affine), str(tmp_path / "raw" / "a" / f"{i}.{suffix}"))
    made = ingest(tmp_path / "raw", tmp_path)
    files = (tmp_path / "files.csv").read_text().splitlines()[1:]
    paths = dict(line.split(",")[:2] for line in files)
    for pixels, (_, row) in zip(made.pixels, made.table.iterrows(), strict=True):
        image = SimpleITK.ReadImage(str(tmp_path / "raw" / paths[row["case"]]))
        theirs = SimpleITK.GetArrayFromImage(image)
        ours = np.array(row["affine"].split(), float).reshape(3, 4)
        for at in ((0, 0, 0), (7, 6, 5), (3, 0, 4)):
            place = ours @ [*at, 1]
            i, j, k = image.TransformPhysicalPointToIndex(place.tolist())
            assert theirs[k, j, i] == pixels[0][at]


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_values_are_those_that_simpleitk_reads(suffix, dtype, tmp_path):
    path = tmp_path / "raw" / "a" / f"scan.{suffix}"
    path.parent.mkdir(parents=True)
    pixels = (scan() % 100).astype(dtype) * (1.5 if dtype.startswith("f") else 1)
    SimpleITK.WriteImage(itk(pixels.astype(dtype)), str(path))
    made = ingest(tmp_path / "raw", tmp_path)
    assert np.array_equal(made.pixels[0][0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    assert made.units == ""


@pytest.mark.parametrize(("split_4d", "expected"), [("all", [0, 1, 2]), ("first", [0]), (2, [2]), ("mean", None)])
@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_four_axes_are_phases(suffix, split_4d, expected, tmp_path):
    path = tmp_path / "raw" / "a" / f"scan.{suffix}"
    path.parent.mkdir(parents=True)
    if suffix == "mha":
        SimpleITK.WriteImage(itk(PHASES), str(path))
    else:
        directions = [[np.nan] * 3, [0.5, 0, 0], [0, 0.75, 0], [0, 0, 2.5]]
        header = {"space": "LPS", "space directions": directions, "space origin": [-10, -20, 0]}
        kinds = {"kinds": ["list", "domain", "domain", "domain"]}
        nrrd.write(str(path), np.moveaxis(PHASES, 0, 3), header | kinds, index_order="C")
    made = ingest(tmp_path / "raw", tmp_path, split_4d=split_4d)
    wanted = [np.rint(PHASES.mean(axis=0))] if expected is None else [PHASES[i] for i in expected]
    found = [made.pixels[i][0] for i in np.argsort(made.table["phase"])]
    assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
    assert made.table["group"].nunique() == 1


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize(
    "space", ["right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "RAS"]
)
def test_spaces_and_encodings_of_nrrd(space, encoding, tmp_path):
    path = tmp_path / "raw" / "a" / "scan.nrrd"
    path.parent.mkdir(parents=True)
    signs = {"r": [-1, -1, 1], "lef": [1, 1, 1]}["lef" if space.startswith("left-p") else "r"]
    signs = [1, -1, 1] if space.startswith("left-a") else signs
    directions = np.diag(signs) @ LPS[:3, :3]
    header = {"space": space, "space directions": directions.T, "space origin": np.diag(signs) @ LPS[:3, 3]}
    pixels = scan()
    nrrd.write(str(path), pixels, header | {"encoding": encoding, "endian": "big"}, index_order="C")
    made = ingest(tmp_path / "raw", tmp_path)
    assert np.array_equal(made.pixels[0][0], pixels)
    assert made.table["affine"].tolist() == ["0 0 0.5 -10 0 0.75 0 -20 2.5 0 0 0"]


def test_lengths_of_nrrd_become_millimetres(tmp_path):
    write_by_hand(
        tmp_path / "raw" / "a" / "scan.nrrd", lambda text: text.replace("endian", 'space units: "cm" "cm" "cm"\nendian')
    )
    assert ingest(tmp_path / "raw", tmp_path).spacings_mm.tolist() == [[25, 7.5, 5]]


REFUSED = {
    "nrrd": [
        ("no space", "space: left-posterior-superior\n", "", "orientation_missing"),
        ("another space", "left-posterior-superior", "scanner-xyz", "orientation_missing"),
        ("no directions", "space directions: (0.5,0,0) (0,0.75,0) (0,0,2.5)\n", "", "orientation_missing"),
        ("no origin", "space origin: (-10,-20,0)\n", "", "orientation_missing"),
        ("a direction of none", "(0,0,2.5)", "none", "spacing_missing"),
        ("a direction of nan", "(0,0,2.5)", "(0,0,nan)", "spacing_missing"),
        ("slices at an angle", "(0,0,2.5)", "(0,0.5,2.5)", "sheared"),
        ("a slice at an angle", "(0,0.75,0)", "(0.1,0.75,0)", "sheared"),
        ("another file", "encoding", "data file: x.raw\nencoding", "unsupported_format"),
        ("text", "encoding: raw", "encoding: text", "unsupported_format"),
        ("a line skip", "encoding", "line skip: 1\nencoding", "unsupported_format"),
        ("pixels at the end", "encoding", "byte skip: -1\nencoding", "unsupported_format"),
        ("blocks", "type: short", "type: block\nblock size: 2", "unsupported_depth"),
        ("no endian", "endian: little\n", "", "malformed"),
        ("sizes of two axes", "sizes: 6 7 8", "sizes: 6 7", "malformed"),
        ("no size", "sizes: 6 7 8", "sizes: 6 7 0", "malformed"),
        ("words for sizes", "sizes: 6 7 8", "sizes: 6 7 x", "malformed"),
        ("no type", "type: short\n", "", "malformed"),
        ("a key twice", "type: short\n", "type: short\ntype: short\n", "malformed"),
        ("too many", "sizes: 6 7 8", "sizes: 6000 7000 8000", "too_large"),
        ("a segment", "encoding", "Segment0_ID:=Segment_1\nencoding", "segmentation"),
        ("a segment in a layer", "encoding", "Segment12_ID:=Segment_1\nSegment12_Layer:=1\nencoding", "segmentation"),
        ("a unit of time", "encoding", 'space units: "s" "s" "s"\nencoding', "malformed"),
        ("more than there is", "sizes: 6 7 8", "sizes: 6 7 9", "truncated"),
        ("no end of the header", "\n\n", "\n", "malformed"),
    ],
    "mha": [
        ("no directions", "TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "", "orientation_missing"),
        ("no origin", "Offset = -10 -20 0\n", "", "orientation_missing"),
        ("no spacing", "ElementSpacing = 0.5 0.75 2.5\n", "", "spacing_missing"),
        ("spacing of nothing", "0.5 0.75 2.5", "0.5 0.75 0", "spacing_missing"),
        ("spacing of nan", "0.5 0.75 2.5", "0.5 0.75 nan", "spacing_missing"),
        ("slices at an angle", "1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0.1 1", "sheared"),
        ("colours", "DimSize", "ElementNumberOfChannels = 3\nDimSize", "several_numbers"),
        ("another file", "LOCAL", "scan.raw", "unsupported_format"),
        ("text", "BinaryData = True", "BinaryData = False", "unsupported_format"),
        ("another object", "= Image", "= Mesh", "unsupported_format"),
        ("another type", "MET_SHORT", "MET_STRING", "unsupported_depth"),
        ("a slope", "DimSize", "ElementToIntensityFunctionSlope = 2\nDimSize", "malformed"),
        ("two axes", "NDims = 3", "NDims = 2", "malformed"),
        ("a key twice", "NDims = 3", "NDims = 3\nNDims = 3", "malformed"),
        ("no size", "6 7 8", "6 7 0", "malformed"),
        ("negative size", "6 7 8", "6 -7 -8", "malformed"),
        ("words for sizes", "6 7 8", "6 7 x", "malformed"),
        ("too many", "6 7 8", "6000 7000 8000", "too_large"),
        ("more than there is", "6 7 8", "6 7 9", "truncated"),
        ("no end of the header", "ElementDataFile", "ElementFile", "malformed"),
    ],
}


@pytest.mark.parametrize("kind", ["", "none domain domain domain", "??? domain domain domain"])
def test_a_fourth_axis_of_which_nrrd_says_nothing_is_refused(kind, tmp_path):
    def with_axis(text: str) -> str:
        text = text.replace("dimension: 3", "dimension: 4").replace("sizes: 6 7 8", "sizes: 2 6 7 4")
        text = text.replace("directions: (", "directions: none (")
        return text.replace("kinds: domain domain domain\n", f"kinds: {kind}\n" if kind else "")

    write_by_hand(tmp_path / "raw" / "a" / "scan.nrrd", with_axis)
    with pytest.raises(UserError, match="1 several_numbers"):
        ingest(tmp_path / "raw", tmp_path, split_4d="all")
    assert "list or time" in (tmp_path / "rejected.csv").read_text()


@pytest.mark.parametrize(
    ("suffix", "old", "new", "reason"),
    [pytest.param(suffix, *rest, id=f"{suffix}: {name}") for suffix, rows in REFUSED.items() for name, *rest in rows],
)
def test_what_is_not_certain_is_refused(suffix, old, new, reason, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    assert old in HEADERS[suffix]
    write_by_hand(tmp_path / "raw" / "a" / f"scan.{suffix}", lambda text: text.replace(old, new, 1))
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason(f"a/scan.{suffix}") == reason
    assert len(made.pixels) == 1


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_headers_written_by_hand_are_read(suffix, tmp_path):
    """So that REFUSED tests what it changes."""
    write_by_hand(tmp_path / "raw" / "a" / f"scan.{suffix}")
    write_by_hand(tmp_path / "raw" / "a" / f"windows.{suffix}", lambda text: text.replace("\n", "\r\n"), scan(seed=1))
    made = ingest(tmp_path / "raw", tmp_path)
    assert {pixels.tobytes() for pixels in made.pixels} == {scan().tobytes(), scan(seed=1).tobytes()}


def damaged(suffix: str, spoil: Callable[[bytes], bytes], folder: Path) -> Ingested:
    write_series(folder / "raw" / "a" / "sound")
    path = folder / "raw" / "a" / f"scan.{suffix}"
    SimpleITK.WriteImage(itk(scan(20, 30, 30)), str(path), True)
    path.write_bytes(spoil(path.read_bytes()))
    return ingest(folder / "raw", folder)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_packed_volume_that_is_cut_off_or_damaged_is_refused(suffix, tmp_path):
    assert damaged(suffix, lambda c: c[:-40], tmp_path / "cut").reason(f"a/scan.{suffix}") == "truncated"
    changed = damaged(suffix, lambda c: c[:-100] + bytes([c[-100] ^ 255]) + c[-99:], tmp_path / "changed")
    assert changed.reason(f"a/scan.{suffix}") in ("corrupt", "truncated")


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_pixels_that_only_claim_to_be_packed_are_refused(suffix, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    claims = {"nrrd": ("encoding: raw", "encoding: gzip"), "mha": ("CompressedData = False", "CompressedData = True")}
    write_by_hand(tmp_path / "raw" / "a" / f"scan.{suffix}", lambda text: text.replace(*claims[suffix]))
    assert ingest(tmp_path / "raw", tmp_path).reason(f"a/scan.{suffix}") == "corrupt"


def test_segmentations_of_3d_slicer_beside_volumes_stop_ingest(tmp_path):
    for i in range(2):
        write_by_hand(tmp_path / "raw" / "a" / f"{i}.nrrd", pixels=scan(seed=i))
        write_by_hand(tmp_path / "raw" / "a" / f"{i}.seg.nrrd", pixels=scan(seed=i) > 0)
    with pytest.raises(UserError, match="2 of 4 files look like masks"):
        ingest(tmp_path / "raw", tmp_path)


def test_a_picture_format_is_not_taken_for_a_header(tmp_path):
    """A text that speaks of NDims is no volume."""
    write_pictures(tmp_path / "raw")
    (tmp_path / "raw" / "cat" / "notes.txt").write_text("Comment = see below\nNothing of axes\n")
    assert ingest(tmp_path / "raw", tmp_path).reason("cat/notes.txt") == "not_an_image"
