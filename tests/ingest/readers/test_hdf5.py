"""Arrays of HDF5 files, as labels.csv names them: right, with little memory, and nothing of another file."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.lib.core import opening
from stages.lib.core.errors import UserError
from stages.lib.ingest import in_place
from stages.lib.ingest.readers import hdf5
from tests.ingest.readers.test_npy import COLOUR, GREY, VOLUME, Harmful, files, label
from tests.raw_data import ingest, settle

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), np.uint8)


def write(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.fixture(params=["in memory", "in place"])
def way(request, monkeypatch) -> str:
    """Both ways in which a file is read: as a whole, and where it lies."""
    if request.param == "in place":
        monkeypatch.setattr(in_place, "SMALL_BYTES", 100)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "packed", [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf", "chunks": True}]
)
@pytest.mark.parametrize("userblock", [512, 4096, 65536])
def test_pictures_are_cases_by_their_index_and_arrays_by_their_name(userblock, packed, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    with h5py.File(raw / "x.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("train/images", data=PICTURES, **packed)
        file.create_dataset("one", data=GREY.astype(">u2"), **packed)
        file["text"] = "of no interest"
    label(raw, *(f"x.h5::train/images[{i}],{'ab'[i % 2]}" for i in range(39)), "x.h5::one,a")
    made = ingest(raw, tmp_path, colour="rgb", max_rejected=0.0)
    assert len(made.pixels) == 40
    for name, of, pixels in zip(files(made), made.table["label"], made.pixels, strict=True):
        if name == "x.h5::one":
            assert np.array_equal(pixels, np.stack([GREY] * 3))
            continue
        at = int(name.removeprefix("x.h5::train/images[")[:-1])
        assert np.array_equal(pixels, PICTURES[at].transpose(2, 0, 1))
        assert of == "ab"[at % 2]
    assert made.table["group"].nunique() == 40
    assert made.counts["files"]["in_cases"] == 1


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_a_file_in_an_archive_is_the_cases_that_it_is_in_a_folder(kind, tmp_path):
    write(tmp_path / "raw" / "s" / "x.h5", images=PICTURES)
    write(tmp_path / "raw" / "s" / "y.h5", volume=VOLUME)
    label(tmp_path / "raw", *(f"s/{name}[{i}],a" for i in range(2) for name in ("x.h5::images", "y.h5::volume")))
    shutil.make_archive(str(tmp_path / "packed" / "x"), kind, tmp_path / "raw")
    plain, made = (ingest(tmp_path / raw, tmp_path / f"of_{raw}", colour="rgb") for raw in ("raw", "packed"))
    assert len(made.pixels) == 4 and made.counts["rejected"] == {}
    assert made.bytes() == plain.bytes()


@pytest.mark.usefixtures("way")
def test_a_volume_is_read_slice_by_slice(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "x.hdf5", volume=VOLUME.transpose(1, 2, 0), more=np.stack([VOLUME, VOLUME + 1]).astype(np.float64))
    label(raw, "x.hdf5::volume,a")
    made = ingest(raw, tmp_path, axes="HWD")
    assert np.array_equal(made.pixels[0][0], VOLUME)
    label(raw, "x.hdf5::more[1],a", "x.hdf5::more[0],a")
    made = ingest(raw, tmp_path, axes="DHW")
    assert {name: pixels[0].tolist() for name, pixels in zip(files(made), made.pixels, strict=True)} == {
        "x.hdf5::more[0]": VOLUME.tolist(),
        "x.hdf5::more[1]": (VOLUME + 1).tolist(),
    }


def test_a_file_of_many_cases_is_opened_and_read_a_few_times_and_never_as_a_whole(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    monkeypatch.setattr(in_place, "SMALL_BYTES", 100)
    many = np.random.default_rng(0).integers(0, 256, (3000, 6, 6), np.uint8)
    write(raw / "x.h5", images=many)
    label(raw, *(f"x.h5::images[{i}],{'ab'[i % 2]}" for i in range(3000)))
    opened, digested = [], []
    sound, digest = h5py.File, in_place.stamped
    monkeypatch.setattr(h5py, "File", lambda *given, **named: opened.append(given[0]) or sound(*given, **named))
    monkeypatch.setattr(in_place, "stamped", lambda path: digested.append(path) or digest(path))
    sizes, whole = [], opening._read
    monkeypatch.setattr(opening, "_read", lambda file, size: sizes.append(size) or whole(file, size))
    made = ingest(raw, tmp_path)
    assert len(made.pixels) == 3000
    of_raw = [path for path in opened if str(path).endswith("x.h5") and "raw" in str(path)]
    assert len(of_raw) == 2 and len(digested) == 2  # to inspect it, and to read it
    assert (raw / "x.h5").stat().st_size not in sizes


@pytest.mark.usefixtures("way")
def test_only_what_changed_is_noticed_and_read_again(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "x.h5", images=PICTURES)
    write(raw / "y.h5", images=PICTURES + 1)
    label(raw, *(f"{name}.h5::images[{i}],a" for name in "xy" for i in range(5)))
    ingest(raw, tmp_path)
    settle()
    changed = PICTURES + 1
    changed[2] = 9
    write(tmp_path / "new.h5", images=changed)
    (tmp_path / "new.h5").replace(raw / "y.h5")
    made = ingest(raw, tmp_path)
    found = dict(zip(files(made), made.pixels, strict=True))
    assert (found["y.h5::images[2]"] == 9).all()
    assert np.array_equal(found["x.h5::images[2]"], PICTURES[2].transpose(2, 0, 1))


@pytest.mark.usefixtures("way")
def test_whether_all_chunks_were_written_is_asked_once_for_an_array(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    with h5py.File(raw / "x.h5", "w") as file:
        file.create_dataset("x", data=PICTURES, chunks=(1, 8, 6, 3))
        file.create_dataset("y", PICTURES.shape, "u1", chunks=(1, 8, 6, 3))[:10] = PICTURES[:10]
    label(raw, *(f"x.h5::{name}[{i}],a" for name in "xy" for i in range(9)))
    asked, count = [], hdf5._is_complete
    monkeypatch.setattr(hdf5, "_is_complete", lambda *given: asked.append(given) or count(*given))
    assert len(ingest(raw, tmp_path).pixels) == 18
    assert len(asked) == 2


def test_all_names_that_hard_links_give_an_array_are_its_names(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "x.h5", **{"z/one/deep": PICTURES})
    with h5py.File(raw / "x.h5", "r+") as file:
        file["a"] = file["z"]
        file["b"] = file["z/one/deep"]
        file["z/one/above"] = file["z"]
        file["z/one/itself"] = file["z/one"]
    names = ("z/one/deep", "a/one/deep", "b")
    label(raw, *(f"x.h5::{name}[{i}],a" for i, name in enumerate(names)))
    made = ingest(raw, tmp_path)
    found = dict(zip(files(made), made.pixels, strict=True))
    for i, name in enumerate(names):
        assert np.array_equal(found[f"x.h5::{name}[{i}]"], PICTURES[i].transpose(2, 0, 1))


def test_names_that_hard_links_multiply_are_bounded(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    write(raw / "a" / "good.h5", x=GREY)
    with h5py.File(raw / "a" / "x.h5", "w") as file:
        above = file
        for _ in range(30):  # 2 ** 30 names
            below = above.create_group("l")
            above["r"] = below
            above = below
        above["x"] = GREY
    monkeypatch.setattr(hdf5, "MOST_ARRAYS", 1000)
    label(raw, "a/good.h5::x,a")
    made = ingest(raw, tmp_path)
    assert made.reason("a/x.h5") == "too_large"


def hostile(folder: Path) -> None:
    """A file of everything that leads elsewhere, or holds no numbers."""
    write(folder / "secret.h5", data=GREY)
    (folder / "secret.bin").write_bytes(GREY.tobytes())
    with h5py.File(folder / "x.h5", "w") as file:
        file["good"] = GREY
        file["external"] = h5py.ExternalLink(str(folder / "secret.h5"), "data")
        file["soft"] = h5py.SoftLink("/good")
        layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "data", GREY.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", GREY.shape, GREY.dtype, external=[(str(folder / "secret.bin"), 0, GREY.nbytes)])
        group = file.create_group("group")
        group["above"] = file["/"]
        file["text"] = np.array([["a", "b"], ["c", "d"]], h5py.string_dtype())
        file["fixed"] = np.array([[b"a", b"b"]] * 3)
        file["reference"] = np.full((3, 3), file["good"].ref, h5py.ref_dtype)
        file["fields"] = np.zeros((4, 4), [("a", "u1"), ("b", "f4")])
        file["complex"] = GREY.astype(np.complex64)
        file["empty"] = h5py.Empty("f4")
        file["number"] = 3
        file["line"] = GREY[0]
        file["nan"] = np.where(GREY > 9, np.nan, 1.0)
        file["wide"] = GREY.astype(np.int64) + 2**24
        file.create_dataset("unwritten", (9, 7), "u1")
        file.create_dataset("chunks", (40, 9, 7), "u1", chunks=(1, 9, 7))[3] = GREY
        file.create_dataset("huge", (1 << 40, 9, 7), "u1", chunks=(1, 9, 7))[5] = GREY + 1
        file.create_dataset("chunk", (8, 9), "u1", chunks=(8, 9), maxshape=(None, 9))
        file.create_dataset("wide_chunk", (9, 7), "u1", chunks=(30_000, 7), maxshape=(None, 7))[:] = GREY


@pytest.mark.usefixtures("way")
def test_what_leads_elsewhere_or_is_no_picture_is_rejected_alone(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    hostile(raw)
    expected = {
        **dict.fromkeys(("external", "soft", "virtual", "outside"), "unsupported_format"),
        **dict.fromkeys(("text", "fixed", "reference", "fields", "complex"), "unsupported_depth"),
        **dict.fromkeys(("empty", "number", "line"), "not_an_image"),
        **{"nan": "not_finite", "wide": "out_of_range", "unwritten": "truncated", "chunks[4]": "truncated"},
        **{"huge": "too_large", "wide_chunk": "too_large", "chunk": "truncated"},
    }
    label(raw, *(f"x.h5::{name},a" for name in (*expected, "good", "chunks[3]", "huge[5]")))
    made = ingest(raw, tmp_path, max_voxels=100_000, axes="DHW")
    assert sorted(files(made)) == ["x.h5::chunks[3]", "x.h5::good", "x.h5::huge[5]"]
    found = {detail.partition(": ")[0]: reason for detail, reason in made.rejected[["detail", "reason"]].values}
    assert found.pop("an HDF5 file of 1 arrays") == "several_arrays"  # secret.h5
    assert {name: reason for name, reason in found.items() if name in expected} == expected


def test_a_filter_that_is_a_plugin_is_rejected_by_its_name(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    with h5py.File(raw / "x.h5", "w") as file:
        file.create_dataset("packed", data=GREY, compression="lzf")
        file["plain"] = GREY
    monkeypatch.setattr(hdf5, "FILTERS", hdf5.FILTERS - {hdf5.LZF})
    label(raw, "x.h5::packed,a", "x.h5::plain,a")
    made = ingest(raw, tmp_path)
    (detail,) = made.rejected["detail"]
    assert "packed by a plugin" in detail and "h5repack" in detail


def test_a_file_without_labels_csv_is_rejected_with_the_way_out(tmp_path):
    write(tmp_path / "raw" / "a" / "x.h5", images=PICTURES)
    write(tmp_path / "raw" / "a" / "y.h5", one=GREY)
    np.save(tmp_path / "raw" / "a" / "z.npy", GREY)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.counts["rejected"] == {"several_arrays": 2}
    assert "file::name[3]" in made.rejected["detail"][0]


@pytest.mark.usefixtures("way")
def test_a_damaged_file_is_rejected_or_gives_what_is_sound(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    with h5py.File(raw / "sum.h5", "w") as file:
        file.create_dataset("x", data=PICTURES[:2], chunks=(1, 8, 6, 3), fletcher32=True)
    content = bytearray((raw / "sum.h5").read_bytes())
    content[content.find(PICTURES[1].tobytes()) + 3] ^= 1
    (raw / "sum.h5").write_bytes(content)
    write(raw / "cut.h5", x=PICTURES)
    (raw / "cut.h5").write_bytes((raw / "cut.h5").read_bytes()[:-1000])
    label(raw, "sum.h5::x[0],a", "sum.h5::x[1],a", "cut.h5::x[0],a")
    made = ingest(raw, tmp_path)
    assert files(made) == ["sum.h5::x[0]"]
    assert made.counts["rejected"] == {"corrupt": 2}


def test_a_row_about_an_array_that_is_not_there_is_an_error_that_names_it(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "x.h5", images=PICTURES)
    for name, said in (("image[0]", "no array of this name among its 1"), ("images[40]", "the array's shape is")):
        label(raw, "x.h5::images[0],a", f"x.h5::{name},b")
        with pytest.raises(UserError, match=f"row 3: .*{said}"):
            ingest(raw, tmp_path)


def test_python_objects_are_never_unpickled(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    import pickle

    with h5py.File(raw / "x.h5", "w") as file:
        file["opaque"] = np.void(pickle.dumps(Harmful()))
        file["colour"] = COLOUR
    label(raw, "x.h5::opaque,a", "x.h5::colour,a")
    made = ingest(raw, tmp_path)
    assert made.counts["rejected"] == {"unsupported_depth": 1}
