"""NIfTI files: the same case as the DICOM series that they were made of, or a reason."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stages.lib import cases
from stages.lib.core.errors import UserError
from stages.lib.ingest import piece_jobs, pieces
from stages.lib.ingest.decoding import MemoryTurn
from stages.lib.ingest.readers import packed
from tests.raw_data import ingest, scan, write_pictures, write_series

# From (i, j, k) to RAS, of the series that raw_data.write_series writes: W runs to the left, H to the back, D to the
# head; 0.5 mm apart along W, 0.75 along H, 2.5 along D.
SERIES = np.array([[-0.5, 0, 0, 10.0], [0, -0.75, 0, 20.0], [0, 0, 2.5, 0], [0, 0, 0, 1]])
PHASES = np.stack([scan(seed=i) for i in range(3)])  # (phases, D, H, W)


def save(
    path: Path,
    pixels: np.ndarray,
    affine: np.ndarray | None = SERIES,
    kind: type = nibabel.Nifti1Image,
    codes: tuple[int, int] = (1, 1),
    sform: np.ndarray | None = None,
    **header: object,
) -> None:
    """Writes (D, H, W) or (phases, D, H, W) as they are; `codes` are those of sform and qform."""
    image = kind(pixels.T, affine, dtype=pixels.dtype)
    image.header.set_slope_inter(1, 0)
    if affine is not None:
        image.header.set_sform(affine if sform is None else sform, codes[0])
        image.header.set_qform(affine, codes[1])
    for name, value in header.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    block = image.header
    block["vox_offset"] = 352 if kind is nibabel.Nifti1Image else 544
    content = block.binaryblock.ljust(int(block["vox_offset"]), b"\0") + pixels.astype(block.get_data_dtype()).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def turned(pixels: np.ndarray, affine: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored in the other direction along some of its axes (0 for i, which is W)."""
    affine = affine.copy()
    for axis in axes:
        size = pixels.shape[2 - axis]
        affine[:, 3] += affine[:, axis] * (size - 1)
        affine[:, axis] *= -1
        pixels = np.flip(pixels, 2 - axis)
    return pixels, affine


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_volume_is_the_case_that_its_dicom_series_makes(axes, suffix, tmp_path):
    raw = tmp_path / "raw"
    pixels = write_series(raw / "ill" / "slices")
    save(raw / "ill" / f"scan.{suffix}", *turned(pixels, SERIES, axes))
    made = ingest(raw, tmp_path, intensity="hu")
    assert made.units == "HU"
    assert len(made.pixels) == 2
    assert all(np.array_equal(of[0], pixels) for of in made.pixels)
    assert np.allclose(made.spacings_mm, [2.5, 0.75, 0.5], rtol=1e-6, atol=0)
    assert made.table["orientation"].tolist() == ["HPL", "HPL"]
    assert made.table["affine"].nunique() == 1
    assert made.table["copy_of"].tolist().count("") == 1  # the one is a copy of the other
    assert made.table["group"].nunique() == 1


@pytest.mark.parametrize(
    ("i", "j", "k", "expected"),
    [  # where i, j and k point, in RAS, and what becomes of it
        ((0, -1, 0), (0, 0, -1), (-1, 0, 0), "LFP"),  # sagittal, as it is shown
        ((0, 1, 0), (0, 0, 1), (1, 0, 0), "RFP"),
        ((-1, 0, 0), (0, 0, -1), (0, -1, 0), "PFL"),  # coronal
        ((1, 0, 0), (0, 0, 1), (0, 1, 0), "PFL"),
        ((1, 0, 0), (0, 1, 0), (0, 0, 1), "HPL"),
    ],
)
def test_slices_lie_as_a_viewer_shows_them_whatever_the_plane(i, j, k, expected, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = np.array([i, j, k]).T
    save(tmp_path / "raw" / "a" / "scan.nii", scan(), affine)
    (found,) = ingest(tmp_path / "raw", tmp_path).table["orientation"]
    assert found[1:] == expected[1:]
    w, h, d = ("LPHRAF".index(letter) for letter in found[::-1])
    axes = np.vstack([np.eye(3), -np.eye(3)])
    assert np.array_equal(np.cross(axes[w], axes[h]), axes[d])


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        ("int16", None, 0, "int16"),
        ("uint16", None, 0, "uint16"),
        ("uint8", None, 0, "uint8"),
        ("uint8", 2, -100, "int16"),
        ("uint16", 1, -1024, "int16"),
        ("int32", None, 0, "int16"),
        ("uint32", None, 0, "uint16"),
        ("int64", 1, 0, "int16"),
        ("int8", None, 0, "int16"),
        ("int32", 200, 0, "uint16"),
        ("int16", 300, 40000, "float32"),
        ("uint16", 300, 0, "uint16"),
        ("int16", 0.5, 0, "float32"),
        ("uint8", 1, 0.25, "float32"),
        ("float32", None, 0, "float32"),
        ("float64", 3, 1, "float32"),
        (">i2", None, 0, "int16"),
        (">f4", 2, 0, "float32"),
    ],
)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_values_are_those_that_nibabel_gives_in_the_smallest_dtype_that_keeps_them(
    stored, slope, intercept, dtype, kind, tmp_path
):
    pixels = (scan() % 200).astype(stored)
    path = tmp_path / "raw" / "a" / "scan.nii"
    path.parent.mkdir(parents=True)
    header = (nibabel.Nifti1Header if kind is nibabel.Nifti1Image else nibabel.Nifti2Header)(
        endianness=">" if stored.startswith(">") else "<"
    )
    image = kind(pixels.T, SERIES, header, dtype=pixels.dtype)
    image.header.set_slope_inter(1 if slope is None else slope, intercept)
    image.to_filename(path)
    written = nibabel.load(path)
    made = ingest(tmp_path / "raw", tmp_path)
    expected = np.asarray(written.dataobj).T
    assert made.table["dtype"].tolist() == [dtype]
    assert np.array_equal(made.pixels[0][0], expected.astype(dtype))
    assert made.units == ""


@pytest.mark.parametrize(
    ("split_4d", "expected"),
    [
        ("all", [0, 1, 2]),
        (True, [0, 1, 2]),
        ("first", [0]),
        (2, [2]),
    ],
)
def test_phases_become_volumes_of_one_group(split_4d, expected, tmp_path):
    save(tmp_path / "raw" / "a" / "scan.nii.gz", PHASES)
    made = ingest(tmp_path / "raw", tmp_path, split_4d=split_4d)
    assert sorted(made.table["phase"]) == [str(i) for i in expected]
    for phase, pixels in zip(made.table["phase"], made.pixels, strict=True):
        assert np.array_equal(pixels[0], PHASES[int(phase)])
    assert made.table["group"].nunique() == 1


def test_a_packed_file_is_unpacked_once_for_all_of_its_phases(tmp_path, monkeypatch):
    unpacked = []
    sound = packed.unpack
    monkeypatch.setattr(
        packed, "unpack", lambda content, kind, size, start: unpacked.append(size) or sound(content, kind, size, start)
    )
    monkeypatch.setattr(cases, "MIN_PIECE_BYTES", 1)
    for i in range(4):
        phases = np.stack([scan(seed=10 * i + phase) for phase in range(9)])
        save(tmp_path / "raw" / "a" / f"{i}.nii.gz", phases)
    made = ingest(tmp_path / "raw", tmp_path, split_4d="all")
    assert len(made.pixels) == 36
    assert len(list((tmp_path / "cases").iterdir())) > 1
    assert unpacked == [352 + 9 * 8 * 7 * 6 * 2] * 4


def test_a_large_packed_volume_is_unpacked_by_one_worker(tmp_path, monkeypatch):
    unpacked = []
    sound = packed.unpack
    monkeypatch.setattr(packed, "unpack", lambda content, *rest: unpacked.append(rest) or sound(content, *rest))
    monkeypatch.setattr(pieces, "SMALL_PIECE_BYTES", 1)
    monkeypatch.setattr(pieces, "RUN_BYTES", 1)
    jobs = []
    run = piece_jobs.run
    monkeypatch.setattr(piece_jobs, "run", lambda common, job: jobs.append(job) or run(common, job))
    save(tmp_path / "raw" / "a" / "packed.nii.gz", pixels := scan(9, 8, 7))
    save(tmp_path / "raw" / "a" / "plain.nii", scan(9, 8, 7, seed=1))
    made = ingest(tmp_path / "raw", tmp_path)
    assert any(np.array_equal(found[0], pixels) for found in made.pixels)
    assert len(unpacked) == 1
    assert sorted(job.stop - job.start for job in jobs) == [1] * 9 + [9]


def test_memory_is_bounded_by_what_a_packed_file_unpacks_to(tmp_path, monkeypatch):
    save(tmp_path / "raw" / "a" / "scan.nii.gz", np.zeros((2, 30, 40, 50), np.int16))
    told = []
    beside = MemoryTurn.beside
    monkeypatch.setattr(MemoryTurn, "beside", lambda self, number: told.append(number) or beside(self, number))
    ingest(tmp_path / "raw", tmp_path, split_4d="first")
    assert told and all(number > 352 + 2 * 30 * 40 * 50 * 2 for number in told)


def test_the_mean_of_phases_is_rounded(tmp_path):
    save(tmp_path / "raw" / "a" / "scan.nii", PHASES)
    made = ingest(tmp_path / "raw", tmp_path, split_4d="mean")
    assert np.array_equal(made.pixels[0][0], np.rint(PHASES.mean(axis=0)).astype(np.int16))


def test_units_of_length_become_millimetres(tmp_path):
    metres = np.diag([0.001, 0.001, 0.001, 1]) @ SERIES
    save(tmp_path / "raw" / "a" / "metres.nii", scan(), metres, xyzt_units=1)
    save(tmp_path / "raw" / "a" / "microns.nii", scan(seed=1), np.diag([1000, 1000, 1000, 1]) @ SERIES, xyzt_units=3)
    made = ingest(tmp_path / "raw", tmp_path)
    assert np.allclose(made.spacings_mm, [2.5, 0.75, 0.5], rtol=1e-6, atol=0)


def slanted(amount: float, axis: int) -> np.ndarray:
    affine = SERIES.copy()
    affine[0, axis] += amount
    return affine


REFUSED = {
    "orientation_missing": lambda path: save(path, scan(), codes=(0, 0)),
    "sheared": lambda path: save(path, scan(), slanted(0.5, 2), codes=(1, 0)),
    "malformed": lambda path: save(path, scan(), xyzt_units=5),
    "spacing_missing": lambda path: save(path, scan(), np.diag([1.0, 1, 1, 1]), codes=(1, 0), srow_z=[0, 0, 0, 0]),
    "single_slice": lambda path: save(path, scan(depth=1)),
    "too_small": lambda path: save(path, scan(rows=1)),
    "several_at_a_place": lambda path: save(path, PHASES),
    "several_numbers": lambda path: save(path, PHASES.reshape(3, 1, *PHASES.shape[1:])),
    "unsupported_depth": lambda path: save(path, scan().astype(np.complex64)),
    "not_finite": lambda path: save(path, np.where(scan() > 0, np.nan, 1).astype(np.float32)),
    "out_of_range": lambda path: save(path, scan().astype(np.int32) * 100_000),
    "truncated": lambda path: (save(path, scan()), path.write_bytes(path.read_bytes()[:-1])),
    "unsupported_format": lambda path: save(path, scan(), magic=b"ni1"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_certain_is_refused(reason, tmp_path, monkeypatch):
    write_series(tmp_path / "raw" / "a" / "sound")
    path = tmp_path / "raw" / "a" / "scan.nii"
    REFUSED[reason](path)
    if reason == "unsupported_format":
        path.write_bytes(path.read_bytes().replace(b"n+1\0", b"ni1\0"))
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason("a/scan.nii") == reason
    assert len(made.pixels) == 1


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("pixels", "slope", "reason"),
    [
        (np.float64([2.0**24 + 1, 0]), 1, "out_of_range"),
        (np.float64([2.0**24 + 1.5, 0]), 1, None),  # no whole number: it is rounded as fractions are
        (np.float64([2.0**24 + 2, 0]), 1, None),
        (np.int32([2**26 + 4, 0]), 0.5, "out_of_range"),
        (np.int32([2**24 + 1, 0]), 0.5, None),  # a fraction, as of a PET: it is rounded
        (np.int32([2**30 + 1, 7]), 1e-6, None),
        (np.int32([2**24 + 1, 0]), 1, "out_of_range"),
        (np.int32([2**24, -5]), 1, None),
        (np.uint64([2**63, 0]), 1, "out_of_range"),
    ],
)
def test_whole_numbers_that_float32_would_round_are_refused(pixels, slope, reason, suffix, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    save(tmp_path / "raw" / "a" / f"scan.{suffix}", np.resize(pixels, (3, 4, 5)), scl_slope=slope)
    made = ingest(tmp_path / "raw", tmp_path)
    if reason:
        assert made.reason(f"a/scan.{suffix}") == reason
    else:
        assert len(made.pixels) == 2


SOUND = {
    "no pixdim[0]": {"pixdim": [0, 0.5, 0.75, 2.5, 1, 1, 1, 1], "codes": (0, 1)},
    "quaternion too long": {"quatern_b": 2},
    "quaternion of nan": {"quatern_c": np.nan},
    "negative pixdim": {"pixdim": [1, -0.5, 0.75, 2.5, 1, 1, 1, 1]},
    "sform of nan": {"srow_x": [np.nan, 0, 0, 0]},
    "sform of zeros": {"srow_x": [0, 0, 0, 0], "srow_y": [0, 0, 0, 0], "srow_z": [0, 0, 0, 0]},
}


@pytest.mark.parametrize("fault", SOUND)
def test_a_volume_with_one_sound_affine_is_read_by_it(fault, tmp_path):
    save(tmp_path / "raw" / "a" / "scan.nii", pixels := scan(), **SOUND[fault])
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.pixels[0].size == pixels.size
    assert np.allclose(made.spacings_mm, [2.5, 0.75, 0.5], rtol=1e-6, atol=0)
    assert made.counts["affines_differ"] == (fault != "no pixdim[0]")


def test_affines_that_lie_apart_are_counted_and_sform_is_taken(tmp_path):
    moved = SERIES.copy()
    moved[:3, 3] += 500
    save(tmp_path / "raw" / "a" / "scan.nii", scan(), sform=moved)
    save(tmp_path / "raw" / "a" / "other.nii", scan(seed=1))
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.counts["affines_differ"] == 1
    assert sum("-510" in affine.split() for affine in made.table["affine"]) == 1


@pytest.mark.parametrize("code", [-1, 6])
@pytest.mark.parametrize("name", ["sform_code", "qform_code"])
def test_a_code_that_the_standard_has_not_is_refused(name, code, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    save(tmp_path / "raw" / "a" / "scan.nii", scan(), **{name: code})
    assert ingest(tmp_path / "raw", tmp_path).reason("a/scan.nii") == "malformed"


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1, 1e3])
def test_the_affine_of_cases_csv_is_exact_at_any_scale(scale, tmp_path):
    steps = np.diag([scale, scale, scale, 1]) @ SERIES
    steps[:3, 3] = [123.456 * scale, -54321.123 * scale, 0.07 * scale]
    save(tmp_path / "raw" / "a" / "scan.nii", scan(), steps)
    found = np.array(ingest(tmp_path / "raw", tmp_path).table["affine"][0].split(), float).reshape(3, 4)
    lps = np.diag([-1, -1, 1]) @ steps[:3, [2, 1, 0, 3]]
    assert np.allclose(found[:, :3], lps[:, :3], rtol=0, atol=1e-6 * scale)
    assert np.allclose(found[:, 3], lps[:, 3], rtol=0, atol=5e-3 * scale)


def test_each_axis_has_a_letter_of_its_own_at_45_degrees(tmp_path):
    half = np.sqrt(0.5)
    for number, (i, j) in enumerate([((half, half, 0), (-half, half, 0)), ((half, 0, half), (0, 1, 0))]):
        affine = np.eye(4)
        affine[:3, :3] = np.array([i, j, np.cross(i, j)]).T
        save(tmp_path / "raw" / "a" / f"{number}.nii", scan(seed=number), affine)
    for letters in ingest(tmp_path / "raw", tmp_path).table["orientation"]:
        assert sorted("LPHLPH"["LPHRAF".index(letter)] for letter in letters) == ["H", "L", "P"]


def test_pixels_begin_behind_the_header_where_it_does_not_say_so(tmp_path):
    save(tmp_path / "raw" / "a" / "scan.nii", pixels := scan())
    path = tmp_path / "raw" / "a" / "scan.nii"
    content = bytearray(path.read_bytes())
    content[108:112] = bytes(4)  # vox_offset
    path.write_bytes(content)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path).pixels[0][0], pixels)


def test_one_slice_is_a_picture_where_pictures_are_asked_for(tmp_path):
    for i in range(2):
        save(tmp_path / "raw" / "a" / f"{i}.nii.gz", scan(depth=1, seed=i))
    made = ingest(tmp_path / "raw", tmp_path, kind="images")
    assert made.axes == "CHW"
    assert {pixels.tobytes() for pixels in made.pixels} == {scan(depth=1, seed=i).tobytes() for i in range(2)}
    with pytest.raises(UserError, match="2 single_slice.*set ingest.kind"):
        ingest(tmp_path / "raw", tmp_path / "volumes")


def test_a_header_whose_two_affines_differ_is_refused(tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    for name, other in (("spacing", SERIES @ np.diag([2, 1, 1, 1])), ("side", SERIES @ np.diag([-1, 1, 1, 1]))):
        save(tmp_path / "raw" / "a" / f"{name}.nii", scan(), sform=other)
    made = ingest(tmp_path / "raw", tmp_path)
    assert [made.reason(f"a/{name}.nii") for name in ("spacing", "side")] == ["malformed", "malformed"]
    assert made.rejected["detail"].str.contains("LPH in steps of .* by sform but").sum() == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-40], "truncated"),
        (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "corrupt"),  # the checksum
        (lambda content: content[:200] + bytes(20) + content[220:], None),
    ],
)
def test_a_damaged_gzip_file_is_refused(spoil, reason, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    path = tmp_path / "raw" / "a" / "scan.nii.gz"
    save(path, scan(20, 30, 30))
    path.write_bytes(spoil(path.read_bytes()))
    found = ingest(tmp_path / "raw", tmp_path).reason("a/scan.nii.gz")
    assert found == reason if reason else found in ("corrupt", "truncated", "not_an_image", "malformed")


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "raw" / "a" / "scan.nii"
    save(path, pixels := scan())
    content = path.read_bytes()
    path.unlink()
    cuts = [content[at : at + 500] for at in range(0, len(content), 500)]
    path.with_suffix(".nii.gz").write_bytes(b"".join(gzip.compress(cut) for cut in cuts))
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path).pixels[0][0], pixels)


def packed_file(folder: Path, pack: Callable[[bytes], bytes]) -> np.ndarray:
    path = folder / "raw" / "a" / "scan.nii"
    save(path, pixels := scan())
    path.with_suffix(".nii.gz").write_bytes(pack(path.read_bytes()))
    path.unlink()
    return pixels


@pytest.mark.parametrize(
    "pack",
    [
        lambda content: gzip.compress(b"") + gzip.compress(content),
        lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
        lambda content: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 17) + b"\0" + gzip.compress(content)[10:],
        lambda content: gzip.compress(content + bytes(3 << 20)),
        lambda content: gzip.compress(content) + bytes(512),
    ],
    ids=["empty member", "header in two members", "long name", "zeros behind the pixels", "padding"],
)
def test_whatever_gzip_unpacks_is_read(pack, tmp_path):
    pixels = packed_file(tmp_path, pack)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path).pixels[0][0], pixels)


@pytest.mark.parametrize(
    "pack",
    [
        lambda content: gzip.compress(content + bytes(packed.MOST_BEHIND + 1000)),
        lambda content: gzip.compress(b"") * 1000 + gzip.compress(content),
    ],
    ids=["far more than the header says", "a thousand members of nothing"],
)
def test_a_bomb_is_no_volume(pack, tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    packed_file(tmp_path, pack)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason("a/scan.nii.gz") in ("corrupt", "unsupported_format")


def test_a_volume_that_promises_more_than_it_may_hold_is_refused_before_it_is_unpacked(tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    path = tmp_path / "raw" / "a" / "scan.nii.gz"
    save(path, np.zeros((100, 200, 200), np.uint8))
    made = ingest(tmp_path / "raw", tmp_path, max_voxels=100 * 200 * 200 - 1)
    assert made.reason("a/scan.nii.gz") == "too_large"


def test_volumes_among_pictures_are_no_cases(tmp_path):
    write_pictures(tmp_path / "raw")
    save(tmp_path / "raw" / "cat" / "scan.nii", scan())
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason("cat/scan.nii") == "volume_among_pictures"


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(tmp_path):
    for i in range(6):
        save(tmp_path / "raw" / "ab"[i % 2] / f"{i}.nii.gz", scan(9, 8, 7, seed=i))
    one = ingest(tmp_path / "raw", tmp_path / "one").bytes()
    two = ingest(tmp_path / "raw", tmp_path / "two", workers=2).bytes()
    assert one == two


def own_files() -> list[Path]:
    """The volumes that nibabel's own tests read."""
    folder = Path(nibabel.__file__).parent / "tests" / "data"
    return sorted(path for path in folder.glob("*.nii*") if not path.name.endswith(".img"))


@pytest.mark.skipif(not own_files(), reason="nibabel was installed without its tests")
def test_nibabels_own_files_are_read_as_nibabel_reads_them_or_refused(tmp_path):
    write_series(tmp_path / "raw" / "a" / "sound")
    read = 0
    for path in own_files():
        folder = tmp_path / path.name
        (folder / "raw" / "a").mkdir(parents=True)
        (folder / "raw" / "a" / path.name).write_bytes(path.read_bytes())
        write_series(folder / "raw" / "a" / "sound")
        made = ingest(folder / "raw", folder, split_4d="first")
        theirs = [i for i, found in enumerate(made.pixels) if found.shape[1:] != (8, 7, 6)]
        if not theirs:
            assert made.reason(f"a/{path.name}")
            continue
        expected = np.asarray(nibabel.load(path).dataobj)
        expected = expected[..., 0] if expected.ndim > 3 else expected
        (found,) = (made.pixels[i][0] for i in theirs)
        assert sorted(found.shape) == sorted(expected.shape)
        assert np.allclose(np.sort(found, axis=None), np.sort(expected.astype(found.dtype), axis=None))
        read += 1
    assert read


def test_sidecars_are_ignored_and_a_damaged_volume_is_not(tmp_path):
    for i in range(2):
        save(tmp_path / "raw" / "a" / f"sub-{i}" / "anat" / "scan.nii.gz", scan(seed=i))
        (tmp_path / "raw" / "a" / f"sub-{i}" / "anat" / "scan.json").write_text('{"EchoTime": 0.01}')
        (tmp_path / "raw" / "a" / f"sub-{i}" / "anat" / "scan.bval").write_text("0 1000\n")
    (tmp_path / "raw" / "a" / "sub-2").mkdir()
    (tmp_path / "raw" / "a" / "sub-2" / "scan.nii.gz").write_text("502 Bad Gateway")
    (tmp_path / "raw" / "a" / "sub-2" / "scan.nii").write_text("502 Bad Gateway")
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.counts["ignored"] == {"no_picture": 4}
    assert made.reason("a/sub-2/scan.nii.gz") == made.reason("a/sub-2/scan.nii") == "not_an_image"
    assert len(made.pixels) == 2


def test_volumes_of_several_dtypes_become_one_with_the_same_numbers(tmp_path):
    volumes = [scan(seed=i) % 200 for i in range(3)]
    for i, dtype in enumerate(("uint8", "int16", "float32")):
        save(tmp_path / "raw" / "a" / f"{i}.nii", volumes[i].astype(dtype))
    slices = write_series(tmp_path / "raw" / "a" / "slices", scan(seed=9))
    made = ingest(tmp_path / "raw", tmp_path)
    assert set(made.table["dtype"]) == {"float32"}
    for expected in (*volumes, slices):
        assert sum(np.array_equal(found[0], expected) for found in made.pixels) == 1


def turned_by(degrees: float, axis: int) -> np.ndarray:
    radians = np.deg2rad(degrees)
    rotation = np.eye(3)
    one, other = (i for i in range(3) if i != axis)
    rotation[one, one] = rotation[other, other] = np.cos(radians)
    rotation[one, other], rotation[other, one] = -np.sin(radians), np.sin(radians)
    return np.vstack([np.hstack([rotation @ SERIES[:3, :3], SERIES[:3, 3:]]), [0, 0, 0, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [1, 44, 45, 46, 89, 91, 135, 180])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_oblique_volume_is_read_whatever_its_angle(degrees, axis, tmp_path):
    save(tmp_path / "raw" / "a" / "scan.nii", pixels := scan(), turned_by(degrees, axis))
    made = ingest(tmp_path / "raw", tmp_path)
    assert np.array_equal(np.sort(made.pixels[0], axis=None), np.sort(pixels, axis=None))
    assert np.allclose(made.spacings_mm, [2.5, 0.75, 0.5], rtol=1e-6)


def test_whole_numbers_that_float32_would_round_are_refused_beside_volumes_of_another_dtype(tmp_path):
    save(tmp_path / "raw" / "a" / "sound.nii", scan(seed=1))
    save(tmp_path / "raw" / "a" / "scan.nii", scan(), scl_slope=-2, scl_inter=1e9)
    assert ingest(tmp_path / "raw", tmp_path).reason("a/scan.nii") == "out_of_range"


@pytest.mark.parametrize(
    ("image", "mask", "pattern"),
    [
        ("p{}/scan.nii.gz", "p{}/scan_seg.nii.gz", "*_seg.nii.gz"),
        ("scan_{}.nii", "scan_{}_mask.nii", "*_mask.nii"),
        ("imagesTr/scan_{}.nii.gz", "labelsTr/scan_{}.nii.gz", "labelsTr/"),
        ("image_{}.nii.gz", "label_{}.nii.gz", "label*[0-9].nii.gz"),
        ("p{}/BraTS_00{}_t1.nii.gz", "p{}/BraTS_00{}_seg.nii.gz", "*_seg.nii.gz"),
        ("sub-0{}/anat/sub-0{}_T1w.nii.gz", "sub-0{}/anat/sub-0{}_dseg.nii.gz", "*_dseg.nii.gz"),
        ("case_0{}/imaging.nii.gz", "case_0{}/segmentation.nii.gz", "segmentation.nii.gz"),
        ("p{}/image.nii", "p{}/mask.nii", "mask.nii"),
        ("imagesTr/{}.nii.gz", "masksTr/{}.nii.gz", "masksTr/"),
        ("imagesTr/c{}_0000.nii.gz", "labelsTr/c{}.nii.gz", "labelsTr/"),
        ("c{}_0000.nii.gz", "masks/c{}.nii.gz", "masks/"),
        ("p{}/images/1.nii", "p{}/masks/1.nii", "masks/"),
    ],
)
def test_ingest_stops_where_segmentations_lie_beside_volumes(image, mask, pattern, tmp_path):
    for i in range(3):
        save(tmp_path / "raw" / "a" / image.format(i, i), scan(seed=i))
        save(tmp_path / "raw" / "a" / mask.format(i, i), (scan(seed=i) > 0).astype(np.uint8))
    with pytest.raises(UserError, match="3 of 6 files look like masks") as stopped:
        ingest(tmp_path / "raw", tmp_path)
    assert f'"{pattern}"' in str(stopped.value)
    assert len(ingest(tmp_path / "raw", tmp_path, exclude=(pattern,)).pixels) == 3


@pytest.mark.parametrize(
    ("kind", "suffix", "way"),
    [
        (nibabel.MGHImage, ".mgz", "mri_convert"),
        (nibabel.MGHImage, ".mgh", "mri_convert"),
        (nibabel.Spm2AnalyzeImage, ".img", "fslchfiletype"),
        (nibabel.AnalyzeImage, ".img", "fslchfiletype"),
    ],
)
def test_other_formats_of_such_volumes_are_refused_by_their_names(kind, suffix, way, tmp_path):
    (tmp_path / "raw" / "a").mkdir(parents=True)
    nibabel.save(kind(np.ones((5, 6, 7), np.float32), np.eye(4)), tmp_path / "raw" / "a" / f"scan{suffix}")
    with pytest.raises(UserError, match="1 unsupported_format"):
        ingest(tmp_path / "raw", tmp_path)
    assert way in (tmp_path / "rejected.csv").read_text()
