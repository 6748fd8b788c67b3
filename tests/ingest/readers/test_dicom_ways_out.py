"""Series with a fault that a parameter, or nothing that has to be guessed, lets in: what then comes out is right."""

import math

import numpy as np
import pytest

from tests.raw_data import ingest, scan, write_series

DEPTH, ROWS, COLUMNS = 8, 12, 10


def field(x, y, z):
    """Hounsfield units that are linear in space, so that linear interpolation brings them exactly."""
    return 4 * x + 2 * y + 20 * z


def volume_at(positions, tilt=0.0):
    """Slices of the field, of pixels of 0.75 x 0.5 mm, at these positions (D, 3) of their first pixels."""
    h, w = np.meshgrid(0.75 * np.arange(ROWS), 0.5 * np.arange(COLUMNS), indexing="ij")
    found = [field(x + w, y + h * math.cos(tilt), z + h * math.sin(tilt)) for x, y, z in np.asarray(positions, float)]
    return np.rint(np.stack(found)).astype(np.int16)


def at(places, tilt=0.0):
    """Changes the slices' positions, and their orientation for a rotation about the x axis."""

    def change(slices):
        for image, place in zip(slices, places, strict=True):
            image.ImagePositionPatient = [round(float(mm), 6) for mm in place]
            cosines = round(math.cos(tilt), 8), round(math.sin(tilt), 8)
            image.ImageOrientationPatient = [1, 0, 0, 0, *cosines]

    return change


def write(raw, spoil, pixels=None):
    """A series with a fault in class a, and a sound one in class b."""
    write_series(raw / "a", pixels if pixels is not None else scan(DEPTH, seed=3), spoil)
    write_series(raw / "b", scan(DEPTH, seed=4), series="two", patient="Roe")
    write_series(raw / "a" / "sound", scan(DEPTH, seed=5), series="three", patient="Poe")


def of_patient(done, slices=None):
    """The row and pixels of the case that is neither sound one."""
    i = next(i for i, line in enumerate((done.folder / "files.csv").read_text().splitlines()[1:]) if ",a/0" in line)
    name = (done.folder / "files.csv").read_text().splitlines()[1:][i][:16]
    row = done.table.set_index("case").loc[name]
    return row, done.pixels[done.table["case"].tolist().index(name)][0]


def test_uneven_slices_are_resampled_onto_an_even_grid_linearly_between_their_true_positions(tmp_path):
    z = [0, 2.5, 5, 7.5, 12.5, 17.5, 22.5, 27.5]  # a head: thin slices, then thick ones
    places = [(-10, -20, mm) for mm in z]
    write(tmp_path / "raw", at(places), volume_at(places))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["rejected"] == {"uneven_gaps": 1}
    assert done.rejected["detail"].str.contains("ingest.uneven can be resample").all()
    done = ingest(tmp_path / "raw", tmp_path / "even", uneven="resample", max_rejected=0.0)
    row, pixels = of_patient(done)
    assert row["resampled"] == "uneven" and row["spacing_z_mm"] == "2.5" and done.counts["resampled"] == 1
    assert np.array_equal(pixels, volume_at([(-10, -20, 2.5 * i) for i in range(12)]))
    assert set(done.table["resampled"]) == {"", "uneven"}


def test_a_missing_slice_is_no_uneven_gap_and_stays_rejected(tmp_path):
    write(tmp_path / "raw", lambda slices: slices.pop(4))
    done = ingest(tmp_path / "raw", tmp_path / "out", uneven="resample")
    assert done.counts["rejected"] == {"missing_slices": 1}


@pytest.mark.parametrize("degrees", [-14, 3, 20])
def test_slices_of_a_tilted_gantry_are_moved_until_they_are_stacked_along_their_normal(tmp_path, degrees):
    tilt = math.radians(degrees)
    places = [(-10, -20, 2.5 * i) for i in range(DEPTH)]  # the table moves along z, the slices lean
    write(tmp_path / "raw", at(places, tilt), volume_at(places, tilt))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["rejected"] == {"tilted": 1}
    assert done.rejected["detail"].str.contains("ingest.tilt can be resample").all()
    done = ingest(tmp_path / "raw", tmp_path / "straight", tilt="resample", max_rejected=0.0)
    row, pixels = of_patient(done)
    assert row["resampled"] == "tilt"
    assert float(row["spacing_z_mm"]) == pytest.approx(2.5 * math.cos(tilt), rel=1e-5)
    grown = math.ceil((DEPTH - 1) * 2.5 * abs(math.sin(tilt)) / 0.75 - 1e-6)
    assert pixels.shape == (DEPTH, ROWS + grown, COLUMNS)
    # Every voxel with anatomy holds the field at the place that the affine says.
    affine = np.array(list(map(float, row["affine"].split()))).reshape(3, 4)
    index = np.stack(np.meshgrid(*map(np.arange, pixels.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(index @ affine[:, :3].T + affine[:, 3], -1, 0)
    expected = field(x, y, z)
    inside = np.abs(pixels - expected) <= 1.0  # each given pixel was rounded, and is mixed with others
    assert inside.sum() >= DEPTH * (ROWS - 1) * COLUMNS
    assert (pixels[~inside] < expected[~inside]).all()  # air, or mixed with it at the edge
    edges = affine[:, :3].T @ affine[:, :3]
    assert np.allclose(edges, np.diag(np.diag(edges)), atol=1e-3)  # right angles


def test_a_tilt_that_only_its_tag_tells_of_is_rejected_and_let_in_as_it_is(tmp_path):
    def spoil(slices):
        for image in slices:
            image.GantryDetectorTilt = 12

    write(tmp_path / "raw", spoil)
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["rejected"] == {"tilted": 1}
    done = ingest(tmp_path / "raw", tmp_path / "let", tilt="resample", max_rejected=0.0)
    row, pixels = of_patient(done)
    assert np.array_equal(pixels, scan(DEPTH, seed=3)) and row["resampled"] == ""


def test_slices_that_lean_and_are_uneven_are_resampled_in_both_ways(tmp_path):
    tilt = math.radians(10)
    z = np.array([0, 2.5, 5, 7.5, 12.5, 17.5, 22.5, 27.5])
    places = [(-10, -20, mm) for mm in z]
    write(tmp_path / "raw", at(places, tilt), volume_at(places, tilt))
    done = ingest(tmp_path / "raw", tmp_path / "out", tilt="resample", uneven="resample", max_rejected=0.0)
    row, pixels = of_patient(done)
    assert row["resampled"] == "uneven tilt" and pixels.shape[0] == 12
    affine = np.array(list(map(float, row["affine"].split()))).reshape(3, 4)
    middle = np.array([5, pixels.shape[1] // 2, COLUMNS // 2])
    x, y, z_mm = affine[:, :3] @ middle + affine[:, 3]
    assert pixels[tuple(middle)] == pytest.approx(field(x, y, z_mm), abs=1)


def nearly(keyword, i, value):
    return lambda slices: setattr(slices[i], keyword, value)


@pytest.mark.parametrize(
    ("spoil", "reason", "params"),
    [
        (
            nearly("ImageOrientationPatient", 3, [1, 0.002, 0, -0.002, 1, 0]),
            "mixed_orientations",
            {"orientation_tolerance": 0.2},
        ),
        (nearly("PixelSpacing", 3, [0.7515, 0.5]), "mixed_spacing", {"spacing_tolerance": 0.005}),
    ],
)
def test_what_is_just_above_a_tolerance_names_the_parameter_that_lets_it_in(tmp_path, spoil, reason, params):
    write(tmp_path / "raw", spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["rejected"] == {reason: 1}
    assert done.rejected["detail"].str.contains("ingest." + next(iter(params))).all()
    done = ingest(tmp_path / "raw", tmp_path / "let", max_rejected=0.0, **params)
    assert np.array_equal(of_patient(done)[1], scan(DEPTH, seed=3))


def one_decimal(slices):
    for i, image in enumerate(slices):
        image.ImagePositionPatient = [-10, -20, round(0.625 * i, 1)]


def without_frame_of_reference(slices):
    del slices[3].FrameOfReferenceUID


def with_voltages(slices):
    for image in slices:
        image.KVP = ["80", "140"]


def with_fewer_bits(slices):
    """As an MR: every second slice states two bits less, as its values need no more."""
    for image in slices:
        image.Modality = "MR"
    for image in slices[::2]:
        values = np.frombuffer(image.PixelData, "<u2") & 0x3FF
        image.PixelData, image.BitsStored, image.HighBit = values.tobytes(), 10, 9


@pytest.mark.parametrize(
    "spoil",
    [
        nearly("ImageOrientationPatient", 3, [1, 0.0002, 0, -0.0002, 1, 0]),
        nearly("PixelSpacing", 3, [0.7501, 0.5]),
        one_decimal,
        without_frame_of_reference,
        with_voltages,
    ],
)
def test_what_leaves_nothing_to_guess_is_taken_as_it_is(tmp_path, spoil):
    write(tmp_path / "raw", spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    row, pixels = of_patient(done)
    assert np.array_equal(pixels, scan(DEPTH, seed=3)) and row["resampled"] == ""
    if spoil is with_voltages:
        assert row["kvp"] == "80\\140"


def test_positions_of_one_decimal_excuse_no_slice_that_lies_elsewhere(tmp_path):
    def spoil(slices):
        one_decimal(slices)
        slices[4].ImagePositionPatient[2] = 2.8  # where 2.5 is the place

    write(tmp_path / "raw", spoil)
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["rejected"] == {"uneven_gaps": 1}


def test_slices_that_state_different_bits_each_keep_their_values(tmp_path):
    raw = tmp_path / "raw"
    for label, seed in (("a", 3), ("b", 4)):
        write_series(raw / label, scan(DEPTH, seed=seed), with_fewer_bits, label, label)
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    for label, pixels in zip(done.table["label"], done.pixels, strict=True):
        expected = scan(DEPTH, seed={"a": 3, "b": 4}[label])
        expected[::2] = ((expected[::2].astype(int) + 1024) & 0x3FF) - 1024
        assert np.array_equal(pixels[0], expected)


def test_two_frames_of_reference_are_rejected(tmp_path):
    write(tmp_path / "raw", nearly("FrameOfReferenceUID", 3, "1.2.3"))
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["rejected"] == {"mixed_frames_of_reference": 1}


@pytest.mark.parametrize("uid", ["1.2.3", ""])
@pytest.mark.parametrize("kind", ["volumes", "images"])
def test_blanked_instance_uids_are_let_in_where_they_are_to_be_ignored(tmp_path, uid, kind):
    def spoil(slices):
        for image in slices:
            image.SOPInstanceUID = uid
            image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"

    write(tmp_path / "raw", spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out", kind=kind)
    if uid:
        assert done.counts["rejected"] == {"instance_twice": 1}
        assert done.rejected["detail"].str.contains("ingest.instance_uids can be ignore").any()
    done = ingest(tmp_path / "raw", tmp_path / "let", kind=kind, instance_uids="ignore", max_rejected=0.0)
    assert len(done.table) == (3 if kind == "volumes" else 3 * DEPTH)


def test_a_file_that_is_there_twice_is_one_also_where_uids_are_ignored(tmp_path):
    write(tmp_path / "raw", None)
    content = (tmp_path / "raw" / "a" / "000").read_bytes()
    (tmp_path / "raw" / "a" / "again").write_bytes(content)
    done = ingest(tmp_path / "raw", tmp_path / "out", instance_uids="ignore", max_rejected=0.0)
    assert len(done.table) == 3 and done.counts["ignored"] == {"same_instance": 1}
