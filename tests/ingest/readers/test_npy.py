"""NumPy's files: arrays as pictures and volumes, whole or by the part that labels.csv names, or a reason."""

import io
import pickle
import zipfile
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers import npy
from tests.raw_data import ingest, write_series

GREY = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
VOLUME = np.random.default_rng(2).integers(-1000, 1000, (5, 9, 7)).astype(np.int16)  # (D, H, W)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=array.dtype.hasobject)


def savez(path: Path, packed: bool = False, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if packed else np.savez)(path, allow_pickle=True, **arrays)


def label(raw: Path, *rows: str) -> None:
    (raw / "labels.csv").write_text("\n".join(("path,label", *rows)) + "\n")


@pytest.mark.parametrize("picture", [GREY, COLOUR, GREY.astype(np.uint16) * 200], ids=["grey", "colour", "16 bits"])
def test_a_picture_is_the_case_that_its_png_makes_and_in_its_group(picture, tmp_path):
    raw = tmp_path / "raw"
    save(raw / "a" / "one.npy", picture)
    savez(raw / "a" / "two.npz", picture=picture)
    savez(raw / "a" / "three.npz", packed=True, picture=picture)
    imageio.imwrite(raw / "a" / "four.png", picture)
    made = ingest(raw, tmp_path)
    expected = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]
    assert len(made.pixels) == 4
    assert all(np.array_equal(of, expected) and of.dtype == picture.dtype for of in made.pixels)
    assert made.table["group"].nunique() == 1
    assert made.counts["duplicates"] == 3


def test_truth_values_are_the_case_that_a_picture_of_one_bit_makes(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "a" / "mask.npy", GREY > 100)
    imageio.imwrite(raw / "a" / "other.png", GREY > 100)
    made = ingest(raw, tmp_path)
    assert made.counts["duplicates"] == 1
    assert set(np.unique(made.pixels[0])) == {0, 255}


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        *(("uint8", "uint8"), ("uint16", "uint16"), ("int16", "int16"), ("int8", "int16"), ("int32", "float32")),
        *(("int64", "float32"), ("uint32", "float32"), ("uint64", "float32"), ("float16", "float32")),
        *(("float32", "float32"), ("float64", "float32"), (">i2", "int16"), (">u4", "float32"), (">f8", "float32")),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_stay_what_they_are_in_8_or_16_bits_or_float32(stored, dtype, order, tmp_path):
    array = np.asarray(VOLUME % 100, dtype=stored, order=order)
    save(tmp_path / "raw" / "a" / "volume.npy", array)
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW")
    assert made.table["dtype"].tolist() == [dtype]
    assert np.array_equal(made.pixels[0][0], VOLUME % 100)


@pytest.mark.parametrize("axes", ["HWC", "CHW", "WHC", "CWH", "DHW", "DWH", "HWD", "WHD"])
def test_axes_say_what_the_three_of_an_array_are(axes, tmp_path):
    wanted = VOLUME.astype(np.float32) + 0.5  # (D, H, W), or as many channels
    first = "DHW" if "D" in axes else "CHW"
    save(tmp_path / "raw" / "a" / "x.npy", wanted.transpose([first.index(axis) for axis in axes]))
    made = ingest(tmp_path / "raw", tmp_path, axes=axes)
    assert made.axes == ("CDHW" if "D" in axes else "CHW")
    assert np.array_equal(made.pixels[0].reshape(wanted.shape), wanted)


@pytest.mark.parametrize("axes", ["CDHW", "DHWC"])
def test_a_volume_has_channels_where_four_axes_say_so(axes, tmp_path):
    wanted = np.stack([VOLUME, VOLUME + 1])
    save(tmp_path / "raw" / "a" / "x.npy", wanted.transpose(["CDHW".index(axis) for axis in axes]))
    save(tmp_path / "raw" / "a" / "y.npy", VOLUME)
    made = ingest(tmp_path / "raw", tmp_path, axes=axes)
    assert np.array_equal(made.pixels[0], wanted)
    assert made.counts["rejected"] == {"unknown_axes": 1}


def test_spacing_is_unknown_and_counted_unless_params_give_it(tmp_path):
    save(tmp_path / "raw" / "a" / "x.npy", VOLUME)
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW")
    assert np.isnan(made.spacings_mm).all()
    assert made.counts["spacing_unknown"] == 1
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW", spacing_mm=(3, 1, 0.5))
    assert made.spacings_mm.tolist() == [[3, 1, 0.5]]
    assert "spacing_unknown" not in made.counts


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY[None], (1, 9, 7)), (GREY[..., None], (1, 9, 7)), (COLOUR, (3, 9, 7)), (VOLUME[:1], (1, 9, 7))],
)
def test_three_axes_are_a_picture_unasked_where_no_other_reading_gives_one(array, shape, tmp_path):
    save(tmp_path / "raw" / "a" / "x.npy", array)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.pixels[0].shape == shape


def test_a_volume_of_whole_numbers_beside_one_of_floating_point_keeps_its_numbers(tmp_path):
    save(tmp_path / "raw" / "a" / "whole.npy", VOLUME)
    save(tmp_path / "raw" / "a" / "float.npy", VOLUME + 0.25)
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW")
    assert {of.dtype.name for of in made.pixels} == {"float32"}
    assert sorted(float(of.ravel()[0]) for of in made.pixels) == [float(VOLUME[0, 0, 0]), VOLUME[0, 0, 0] + 0.25]
    assert np.isnan(made.spacings_mm).all()


class Harmful:
    def __reduce__(self):
        return open, ("/nowhere/at/all",)


REFUSED = {
    "an array of objects": (np.array([[Harmful()] * 3] * 3), "unsupported_depth"),
    "complex numbers": (GREY.astype(np.complex64), "unsupported_depth"),
    "text": (GREY.astype(str), "unsupported_depth"),
    "several fields": (np.zeros((4, 4), [("a", "u1"), ("b", "u1")]), "unsupported_depth"),
    "names of fields in Unicode": (np.zeros((4, 4), [("\u00e4\u4e2d", "u1")]), "unsupported_depth"),
    "more bits than are read": (GREY.astype(np.longdouble), "unsupported_depth"),
    "one axis": (GREY[0], "not_an_image"),
    "no axis": (np.array(3), "not_an_image"),
    "three axes that may be anything": (VOLUME, "unknown_axes"),
    "three channels of 16 bits": (COLOUR.astype(np.uint16), "unknown_axes"),
    "four axes": (np.zeros((2, 5, 9, 7)), "unknown_axes"),
    "a number that is none": (np.where(GREY > 100, np.nan, 1.0), "not_finite"),
    "a number of 32 bits that is none": (np.where(GREY > 100, np.inf, 1.0).astype(np.float32), "not_finite"),
    "a number beyond float32": (np.where(GREY > 100, 1e300, 1.0), "not_finite"),
    "whole numbers that float32 would round": (GREY.astype(np.int32) + 2**24, "out_of_range"),
    "whole numbers that float32 would round, as fractions": (GREY + 2.0**24 + 1, "out_of_range"),
    "a short side": (GREY[:1], "too_small"),
    "no number": (GREY[:0], "too_small"),
}


@pytest.mark.filterwarnings("ignore:Stored array in format")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_picture_for_certain_is_rejected_with_its_reason(what, tmp_path):
    array, reason = REFUSED[what]
    raw = tmp_path / "raw"
    save(raw / "a" / "bad.npy", array)
    savez(raw / "a" / "bad.npz", packed=True, x=array)
    save(raw / "a" / "good.npy", GREY)
    made = ingest(raw, tmp_path)
    assert made.counts["rejected"] == {reason: 2}
    assert len(made.pixels) == 1


def test_sizes_are_bounded_before_anything_is_read_or_unpacked(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 1000000)}".ljust(
        118
    )
    for name, member in (
        ("bomb.npz", header + bytes(1 << 20)),
        ("tall.npz", npy_bytes(np.zeros((2000, 30), np.uint8))),
    ):
        (raw / "a").mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(raw / "a" / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", member)
    save(raw / "a" / "volume.npy", np.zeros((60, 30, 30), np.uint8))
    save(raw / "a" / "good.npy", np.zeros((60, 30), np.uint8))
    monkeypatch.setattr(npy._Unpacked, "of", None)
    made = ingest(raw, tmp_path, max_pixels=2000, max_voxels=40_000, axes="DHW")
    assert made.counts["rejected"] == {"too_large": 3}


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_damaged_file_is_rejected_by_what_is_wrong_with_it(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "a" / "good.npy", GREY)
    whole = npy_bytes(COLOUR)
    (raw / "a" / "cut.npy").write_bytes(whole[:-1])
    (raw / "a" / "header.npy").write_bytes(whole[:60])
    (raw / "a" / "version.npy").write_bytes(whole[:6] + b"\x07" + whole[7:])
    (raw / "a" / "pickle.npy").write_bytes(pickle.dumps(GREY))
    savez(raw / "a" / "sum.npz", x=COLOUR)
    content = bytearray((raw / "a" / "sum.npz").read_bytes())
    content[content.find(COLOUR.tobytes()) + 5] ^= 1
    (raw / "a" / "sum.npz").write_bytes(content)
    (raw / "a" / "table.npz").write_bytes(content[:-30])
    with zipfile.ZipFile(raw / "a" / "long.npz", "w") as archive:
        archive.writestr("x.npy", whole + b"more")
    with zipfile.ZipFile(raw / "a" / "short.npz", "w") as archive:
        archive.writestr("x.npy", whole[:-1])
    with zipfile.ZipFile(raw / "a" / "others.npz", "w") as archive:
        archive.writestr("x.npy", whole)
        archive.writestr("readme.txt", "no array")
    made = ingest(raw, tmp_path)
    reasons = {path.removeprefix("a/"): made.reason(path) for path in made.rejected["path"]}
    assert reasons == {
        **{"cut.npy": "truncated", "header.npy": "malformed", "version.npy": "malformed"},
        **{"pickle.npy": "not_an_image", "sum.npz": "corrupt", "table.npz": "corrupt", "long.npz": "corrupt"},
        **{"short.npz": "truncated", "others.npz": "unsupported_format"},
    }


def test_a_header_of_version_3_is_judged_by_its_dtype(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "a" / "one.npy", GREY)
    with open(raw / "a" / "three.npy", "wb") as file:
        np.lib.format.write_array(file, GREY + 1, version=(3, 0))
    save(raw / "a" / "raw.npy", GREY.view("V1"))
    made = ingest(raw, tmp_path)
    assert sorted(files(made)) == ["a/one.npy", "a/three.npy"]
    assert made.reason("a/raw.npy") == "unsupported_depth"
    (detail,) = made.rejected["detail"]
    assert "bfloat16" in detail and "several fields" not in detail


def test_what_macos_or_a_folder_leaves_in_an_npz_is_no_array(tmp_path):
    raw = tmp_path / "raw"
    (raw / "a").mkdir(parents=True)
    with zipfile.ZipFile(raw / "a" / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy_bytes(GREY))
        archive.writestr("__MACOSX/", b"")
        archive.writestr("__MACOSX/._x.npy", b"\0\5\x16\7")
    made = ingest(raw, tmp_path)
    assert np.array_equal(made.pixels[0][0], GREY)


@pytest.mark.parametrize("first", ["arrays/", "__MACOSX/._x.npy"])
def test_a_folder_or_what_macos_leaves_may_come_first_in_an_npz(first, tmp_path):
    raw = tmp_path / "raw"
    (raw / "a").mkdir(parents=True)
    for name, inner in (("x.npz", "arrays/x.npy"), ("other.npz", "arrays/x.txt")):
        with zipfile.ZipFile(raw / "a" / name, "w") as archive:
            archive.writestr(first, b"" if first.endswith("/") else b"\0\5\x16\7")
            archive.writestr(inner, npy_bytes(GREY))
    content = (raw / "a" / "x.npz").read_bytes()
    (raw / "a" / "cut.npz").write_bytes(content[:-40])
    made = ingest(raw, tmp_path, max_rejected=0.9)
    assert files(made) == ["a/x.npz"] and np.array_equal(made.pixels[0][0], GREY)
    assert made.reason("a/other.npz") == made.reason("a/cut.npz") == "unsupported_format"


def test_bytes_behind_an_array_are_not_passed_over(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "a" / "good.npy", GREY)
    (raw / "a" / "twice.npy").write_bytes(npy_bytes(GREY) + npy_bytes(GREY + 1))
    (raw / "a" / "more.npy").write_bytes(npy_bytes(GREY) + b"more")
    made = ingest(raw, tmp_path)
    assert len(made.pixels) == 1
    assert made.reason("a/twice.npy") == "several_arrays" and made.reason("a/more.npy") == "corrupt"
    assert all("file of its own" in detail or "save it again" in detail for detail in made.rejected["detail"])


def test_one_of_several_arrays_is_named_in_labels_csv(tmp_path):
    raw = tmp_path / "raw"
    savez(raw / "x.npz", grey=GREY, colour=COLOUR)
    savez(raw / "y.npz", packed=True, grey=GREY + 1, other=np.array("text"))
    label(raw, "x.npz::grey,a", "y.npz::grey,b", "x.npz::colour,b")
    made = ingest(raw, tmp_path)
    found = {of: made.pixels[i] for i, of in enumerate(files(made))}
    assert np.array_equal(found["x.npz::grey"][0], GREY)
    assert np.array_equal(found["y.npz::grey"][0], GREY + 1)
    assert np.array_equal(found["x.npz::colour"], COLOUR.transpose(2, 0, 1))
    assert made.table["group"].nunique() == 3
    assert made.counts["files"]["in_cases"] == 2


def files(made) -> list[str]:
    """What files.csv says of each case."""
    lines = (made.folder / "files.csv").read_text().splitlines()[1:]
    of = dict(line.split(",", 1) for line in lines)
    return [of[case] for case in made.table["case"]]


@pytest.mark.parametrize("packed", [False, True])
def test_the_pictures_of_an_array_are_cases_by_their_index(packed, tmp_path):
    raw = tmp_path / "raw"
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3), np.uint8)
    savez(raw / "x.npz", packed, train=pictures)
    save(raw / "y.npy", pictures[:, :, :, 0] // 2)
    label(
        raw,
        *(f"x.npz::train[{i}],{'ab'[i % 2]}" for i in range(30) if i != 7),
        *(f"y.npy::[{i}],{'ab'[i % 2]}" for i in range(5)),
    )
    made = ingest(raw, tmp_path)
    assert len(made.pixels) == 34
    for name, of, pixels in zip(files(made), made.table["label"], made.pixels, strict=True):
        at = int(name.partition("[")[2][:-1])
        expected = (
            pictures[at].transpose(2, 0, 1) if name.startswith("x") else np.stack([pictures[at, ..., 0] // 2] * 3)
        )
        assert np.array_equal(pixels, expected)
        assert of == "ab"[at % 2]
    assert made.table["group"].nunique() == 34


def test_a_part_can_be_corrected_or_left_out_by_the_name_that_files_csv_gives_it(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "x.npy", np.stack([GREY, GREY + 1, GREY + 2, GREY + 3]))
    label(raw, "x.npy::[0],a", "x.npy::[1],b", "x.npy::[2],b", "x.npy::[3],a")
    (raw / "corrections.csv").write_text("path,label,excluded,note\nx.npy::[0],b,,\nx.npy::[1],,yes,\n")
    made = ingest(raw, tmp_path)
    assert sorted(files(made)) == ["x.npy::[0]", "x.npy::[2]", "x.npy::[3]"]
    assert made.counts["classes"] == {"a": 1, "b": 2}


def test_a_file_of_several_arrays_of_which_none_is_named_is_rejected_with_the_way_out(tmp_path):
    savez(tmp_path / "raw" / "a" / "x.npz", one=GREY, two=COLOUR)
    save(tmp_path / "raw" / "a" / "y.npy", GREY)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason("a/x.npz") == "several_arrays"
    assert "file::name" in made.rejected["detail"][0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x.npz::three,a", "there is no array of this name among its 2"),
        ("x.npz::one[9],a", r"row 3: path 'x.npz::one\[9\]': the array's shape is \(9, 7\)"),
        ("x.npz::,a", "expected an array's name"),
        ("x.npz::one[-1],a", "there is no array of this name among its 2; an index is a whole number from 0 on"),
        ("z.npz::one,a", "is no file or folder"),
        ("x.npz,a", "as a whole and about parts"),
        ("x.npz::/one,a", "was in row 2 already"),
        ("y.png::one,a", "no file of arrays"),
    ],
)
def test_a_row_about_a_part_that_is_not_there_is_an_error_that_names_it(row, said, tmp_path):
    raw = tmp_path / "raw"
    savez(raw / "x.npz", one=GREY, two=COLOUR)
    imageio.imwrite(raw / "y.png", GREY)
    label(raw, "x.npz::one,a", row)
    with pytest.raises(UserError, match=said):
        ingest(raw, tmp_path)


def test_an_array_of_exactly_the_written_name_is_meant(tmp_path):
    raw = tmp_path / "raw"
    savez(raw / "x.npz", **{"a[0]": GREY, "l[0][b]": COLOUR, "many[1]": np.stack([GREY + 1, GREY + 2])})
    label(raw, "x.npz::a[0],a", "x.npz::l[0][b],b", "x.npz::many[1][0],a")
    made = ingest(raw, tmp_path, colour="rgb")
    found = dict(zip(files(made), made.pixels, strict=True))
    assert np.array_equal(found["x.npz::a[0]"][0], GREY)
    assert np.array_equal(found["x.npz::l[0][b]"], COLOUR.transpose(2, 0, 1))
    assert np.array_equal(found["x.npz::many[1][0]"][0], GREY + 1)


def test_a_name_that_may_be_an_array_or_an_index_of_another_is_an_error(tmp_path):
    raw = tmp_path / "raw"
    savez(raw / "x.npz", **{"a[0]": GREY, "a": np.stack([GREY + 1, GREY + 2])})
    label(raw, "x.npz::a[0],a", "x.npz::a[1],b")
    with pytest.raises(UserError, match=r"row 2: .*both an array of this name and .*rename"):
        ingest(raw, tmp_path)
    label(raw, "x.npz::a[1],b")
    assert np.array_equal(ingest(raw, tmp_path).pixels[0][0], GREY + 2)


def test_a_part_that_is_no_picture_is_rejected_alone(tmp_path):
    raw = tmp_path / "raw"
    savez(raw / "x.npz", good=GREY, bad=VOLUME, worse=np.where(GREY > 9, np.nan, 1))
    label(raw, "x.npz::good,a", "x.npz::bad,a", "x.npz::worse,a")
    made = ingest(raw, tmp_path)
    assert len(made.pixels) == 1
    details = made.rejected.set_index("reason")["detail"]
    assert details["unknown_axes"].startswith("bad: ") and "ingest.axes" in details["unknown_axes"]
    assert details["not_finite"].startswith("worse: ")
    assert made.counts["files"] == {"total": 1, "in_cases": 1, "rejected": 0, "ignored": 0, "set_aside": 0}


def test_hounsfield_units_are_the_users_word_for_volumes_and_no_units_of_pictures(tmp_path, capsys):
    raw = tmp_path / "raw"
    save(raw / "a" / "volume.npy", VOLUME)
    save(raw / "b" / "picture.npy", VOLUME[0])
    write_series(raw / "b" / "scan")
    made = ingest(raw, tmp_path / "hu", axes="DHW", intensity="hu")
    assert len(made.pixels) == 2 and made.units == "HU"
    assert made.reason("b/picture.npy") == "no_hounsfield_units"
    assert "several units" not in capsys.readouterr().out
    ingest(raw, tmp_path / "stored", axes="DHW", exclude=("**/picture.npy",))
    assert "several units" in capsys.readouterr().out
