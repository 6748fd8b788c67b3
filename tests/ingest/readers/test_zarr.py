"""Zarr stores: the numbers that the zarr package reads, folders that count as one file, chunks that are no bombs."""

import json
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from stages.lib.core.errors import UserError
from stages.lib.ingest import in_place
from stages.lib.ingest.readers import zarr as reader
from tests.ingest.readers.test_npy import COLOUR, GREY, VOLUME, files, label
from tests.raw_data import ingest, settle

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 3), np.uint8)


def create(store: Path, name: str, array: np.ndarray, version: int = 3, **given: Any) -> None:
    group = zarr.open_group(store, mode="a", zarr_format=version)
    group.create_array(name, shape=array.shape, dtype=array.dtype, **given)[...] = array


def of_version_2(compressor: Any, **given: Any) -> dict[str, Any]:
    return {"version": 2, "compressors": compressor, "chunks": (3, 5, 4), **given}


V3: list[dict[str, Any]] = [
    {"chunks": (3, 5, 4), "compressors": None},
    {"chunks": (3, 5, 4), "compressors": GzipCodec()},
    {"chunks": (3, 5, 4), "compressors": ZstdCodec()},
    {"chunks": (5, 9, 7), "compressors": [ZstdCodec(), Crc32cCodec()]},
    {"chunks": (3, 5, 4), "compressors": BloscCodec(typesize=2, cname="lz4")},
    {"chunks": (3, 5, 4), "filters": TransposeCodec(order=(2, 0, 1))},
    {"chunks": (3, 5, 4), "serializer": BytesCodec(endian="big")},
    {"chunks": (1, 3, 4), "shards": (2, 9, 8), "compressors": ZstdCodec()},
    {
        "chunks": (4, 6, 8),
        "compressors": None,
        "serializer": ShardingCodec(chunk_shape=(2, 3, 4), codecs=[BytesCodec(), GzipCodec()], index_location="start"),
    },
    {"chunks": (3, 5, 4), "chunk_key_encoding": {"name": "v2", "separator": "."}},
]
V2 = [
    of_version_2(None),
    of_version_2(numcodecs.Zlib()),
    of_version_2(numcodecs.GZip()),
    of_version_2(numcodecs.BZ2()),
    of_version_2(numcodecs.LZMA()),
    of_version_2(numcodecs.LZ4()),
    of_version_2(numcodecs.Zstd()),
    *(
        of_version_2(numcodecs.Blosc(cname, shuffle=shuffle))
        for cname in ("lz4", "zstd", "zlib")
        for shuffle in range(3)
    ),
    of_version_2(numcodecs.Blosc(), order="F"),
    of_version_2(numcodecs.Blosc(), chunk_key_encoding={"name": "v2", "separator": "/"}),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [*V3, *V2], ids=range(len(V3) + len(V2)))
@pytest.mark.parametrize("dtype", ["int16", "float64", "bool"])
def test_numbers_are_those_that_the_zarr_package_reads(given, dtype, tmp_path):
    store = tmp_path / "raw" / "x.zarr"
    create(store, "volumes/one", (VOLUME % 100).astype(dtype), **given)
    label(tmp_path / "raw", "x.zarr::volumes/one,a")
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW")
    expected = zarr.open_group(store, mode="r")["volumes/one"][...]
    assert np.array_equal(made.pixels[0][0], expected * 255 if dtype == "bool" else expected)
    assert np.array_equal(expected, (VOLUME % 100).astype(dtype))


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_is_one_file_and_its_pictures_are_cases_by_their_index(version, tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    checked, check = [], in_place.Places.check
    monkeypatch.setattr(in_place.Places, "check", lambda *given: checked.append(given) or check(*given))
    create(raw / "x.zarr", "images", PICTURES, version, chunks=(6, 8, 6, 3))
    create(raw / "x.zarr", "other", GREY, version)
    label(raw, *(f"x.zarr::images[{i}],{'ab'[i % 2]}" for i in range(20)))
    made = ingest(raw, tmp_path)
    assert made.counts["files"] == {"total": 1, "in_cases": 1, "rejected": 0, "ignored": 0, "set_aside": 0}
    assert len(checked) == 1  # not for each of the cases
    for name, pixels in zip(files(made), made.pixels, strict=True):
        at = int(name.removeprefix("x.zarr::images[")[:-1])
        assert np.array_equal(pixels, PICTURES[at].transpose(2, 0, 1))


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_that_is_one_array_is_a_case_without_a_name(version, tmp_path):
    for i in range(2):
        (tmp_path / "raw" / "ab"[i]).mkdir(parents=True)
        zarr.create_array(tmp_path / "raw" / "ab"[i] / "x.zarr", data=COLOUR + i, zarr_format=version)
    made = ingest(tmp_path / "raw", tmp_path)
    assert sorted(made.table["label"]) == ["a", "b"]
    for name, pixels in zip(files(made), made.pixels, strict=True):
        assert np.array_equal(pixels, (COLOUR + (name[0] == "b")).transpose(2, 0, 1))


def test_leading_axes_of_one_are_left_out(tmp_path):
    create(tmp_path / "raw" / "x.ome.zarr", "0", VOLUME[None, None])
    label(tmp_path / "raw", "x.ome.zarr::0,a")
    made = ingest(tmp_path / "raw", tmp_path, axes="DHW")
    assert np.array_equal(made.pixels[0][0], VOLUME)


def test_a_chunk_that_is_not_there_is_of_the_fill_value(tmp_path):
    raw = tmp_path / "raw"
    for name, version in (("x.zarr", 3), ("y.zarr", 2)):
        group = zarr.open_group(raw / name, mode="a", zarr_format=version)
        group.create_array("x", shape=(9, 7), dtype="u1", chunks=(3, 7), fill_value=7)[:3] = GREY[:3]
        group.create_array("nan", shape=(9, 7), dtype="f4", chunks=(3, 7), fill_value=np.nan)[:3] = GREY[:3]
    label(raw, *(f"{name}.zarr::{array},a" for name in "xy" for array in ("x", "nan")))
    made = ingest(raw, tmp_path)
    assert made.counts["rejected"] == {"not_finite": 2}
    for pixels in made.pixels:
        assert np.array_equal(pixels[0, :3], GREY[:3]) and (pixels[0, 3:] == 7).all()


def test_a_fill_value_that_the_numbers_cannot_be_is_malformed(tmp_path):
    raw = tmp_path / "raw"
    wrong = {"u1": (1.7, 256, -1, "NaN"), "f4": (1e300,), "b1": (2, 0.5)}
    right = {"u1": (3.0, 255), "f4": (0.1, "NaN", 7), "b1": (True, 0)}
    named = {}
    for expected, values in (("malformed", wrong), ("", right)):
        for dtype, fills in values.items():
            for i, fill in enumerate(fills):
                for version, file in ((2, ".zarray"), (3, "zarr.json")):
                    name = f"{dtype}_{i}_{expected}"
                    create(raw / f"{version}.zarr", name, GREY.astype(dtype), version)
                    edited(raw / f"{version}.zarr" / name / file, fill_value=fill)
                    named[f"{version}.zarr::{name}"] = expected
    label(raw, *(f"{name},a" for name in named))
    made = ingest(raw, tmp_path)
    assert sorted(files(made)) == sorted(name for name, expected in named.items() if not expected)
    assert set(made.rejected["reason"]) == {"malformed"}


@pytest.mark.parametrize("codec", [numcodecs.GZip(), numcodecs.Zlib(), numcodecs.BZ2(), numcodecs.LZMA()])
@pytest.mark.filterwarnings("ignore")
def test_a_packed_chunk_without_its_checksum_is_corrupt(codec, tmp_path):
    raw = tmp_path / "raw"
    for name in ("good", "cut"):
        create(raw / "x.zarr", name, GREY, 2, chunks=(9, 7), compressors=codec)
    path = raw / "x.zarr" / "cut" / "0.0"
    path.write_bytes(path.read_bytes()[:-4])
    label(raw, *(f"x.zarr::{name},a" for name in ("good", "cut")))
    made = ingest(raw, tmp_path)
    assert files(made) == ["x.zarr::good"]
    assert made.counts["rejected"] == {"corrupt": 1}


def test_a_chunk_that_changes_is_noticed_and_no_other_store_is_read_again(tmp_path, decoded):
    raw = tmp_path / "raw"
    for name in "xy":
        create(raw / f"{name}.zarr", "images", PICTURES + ord(name), chunks=(1, 8, 6, 3))
    label(raw, *(f"{name}.zarr::images[{i}],a" for name in "xy" for i in range(5)))
    ingest(raw, tmp_path)
    settle()
    ingest(raw, tmp_path)
    decoded.clear()
    zarr.open_group(raw / "y.zarr", mode="r+")["images"][2] = 9
    made = ingest(raw, tmp_path)
    assert set(decoded) == {"y.zarr"}
    found = dict(zip(files(made), made.pixels, strict=True))
    assert (found["y.zarr::images[2]"] == 9).all()
    assert np.array_equal(found["x.zarr::images[2]"], (PICTURES[2] + ord("x")).transpose(2, 0, 1))


def chunk(store: Path, name: str) -> Path:
    (found,) = (path for path in (store / name / "c").rglob("*") if path.is_file())
    return found


def edited(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_store_whose_files_are_links_into_the_cache_of_dvc_is_the_store(tmp_path):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    create(raw / "x.zarr", "x", VOLUME, chunks=(1, 9, 7))
    label(raw, "x.zarr::x[0],a", "x.zarr::x[1],a")
    expected = ingest(raw, tmp_path / "plain").bytes()
    cache.mkdir()
    for i, path in enumerate([path for path in (raw / "x.zarr").rglob("*") if path.is_file()]):
        path.rename(cache / str(i))
        path.symlink_to(cache / str(i))
    assert ingest(raw, tmp_path / "linked").bytes() == expected
    place = (raw / "x.zarr/x/c/1/0/0").resolve()
    settle()
    place.write_bytes((raw / "x.zarr/x/c/2/0/0").read_bytes())  # what a link leads to is part of the store's content
    made = ingest(raw, tmp_path / "linked")
    assert np.array_equal(made.pixels[files(made).index("x.zarr::x[1]")][0], VOLUME[2])


@pytest.mark.parametrize("where", ["inside", "elsewhere"])
def test_a_store_with_a_link_to_a_folder_is_refused(where, tmp_path):
    raw = tmp_path / "raw"
    for name in ("good", "bad"):
        create(raw / f"{name}.zarr", "x", VOLUME, chunks=(1, 9, 7), compressors=None)
    path = raw / "bad.zarr" / "x" / "c" / "1"
    target = path.with_name("2") if where == "inside" else tmp_path / "elsewhere"
    path.rename(path.with_name("old") if where == "inside" else target)
    path.symlink_to(target)
    label(raw, "good.zarr::x[1],a", "bad.zarr::x[1],a")
    made = ingest(raw, tmp_path)
    assert files(made) == ["good.zarr::x[1]"]
    assert made.reason("bad.zarr") == "unsupported_format"
    assert "symbolic link to a folder" in made.rejected["detail"][0] and "cp -RL" in made.rejected["detail"][0]


def test_damage_and_bombs_are_rejected_without_being_unpacked(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    store = raw / "x.zarr"
    one = {"chunks": (9, 7), "compressors": GzipCodec()}
    for name in ("good", "bomb", "cut", "text", "long", "huge", "json", "codec"):
        create(store, name, GREY, **one)
    create(store, "small", GREY, chunks=(1, 1))
    create(store, "sum", GREY, chunks=(9, 7), compressors=Crc32cCodec())
    create(store, "shard", GREY, chunks=(3, 7), shards=(9, 7), compressors=None)
    chunk(store, "bomb").write_bytes(zlib.compress(bytes(1 << 26)))
    chunk(store, "cut").write_bytes(chunk(store, "cut").read_bytes()[:-20])
    chunk(store, "text").write_text("not packed at all")
    chunk(store, "long").write_bytes(bytes(1 << 18))
    content = bytearray(chunk(store, "sum").read_bytes())
    content[3] ^= 1
    chunk(store, "sum").write_bytes(content)
    chunk(store, "shard").write_bytes(chunk(store, "shard").read_bytes()[-60:])
    edited(store / "huge" / "zarr.json", shape=[1 << 40, 1 << 40])
    (store / "json" / "zarr.json").write_text("[" * 100_000)
    edited(store / "small" / "zarr.json", shape=[3000, 3000])
    edited(store / "codec" / "zarr.json", codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle"}])
    expected = {
        **dict.fromkeys(("bomb", "cut", "text", "sum"), "corrupt"),
        **{"long": "too_large", "shard": "truncated", "huge": "too_large", "small": "too_large", "json": "malformed"},
        "codec": "unsupported_format",
    }
    label(raw, *(f"x.zarr::{name},a" for name in (*expected, "good")))
    unpacked = []
    sound = reader._unpack
    monkeypatch.setattr(reader, "_unpack", lambda *given: unpacked.append(sound(*given)) or unpacked[-1])
    made = ingest(raw, tmp_path)
    assert files(made) == ["x.zarr::good"]
    found = {detail.partition(": ")[0]: reason for detail, reason in made.rejected[["detail", "reason"]].values}
    assert found == expected
    assert max(map(len, unpacked)) <= 2 * GREY.nbytes


@pytest.mark.filterwarnings("ignore")
def test_objects_filters_and_types_that_are_no_numbers_are_rejected_by_what_they_are(tmp_path):
    raw = tmp_path / "raw"
    create(raw / "x.zarr", "delta", GREY, 2, filters=numcodecs.Delta("u1"))
    create(raw / "x.zarr", "complex", GREY.astype(np.complex64), 2)
    create(raw / "x.zarr", "fields", np.zeros((4, 4), [("a", "u1"), ("b", "f4")]), 2)
    create(raw / "x.zarr", "object", GREY, 2)
    create(raw / "x.zarr", "good", GREY, 2)
    edited(raw / "x.zarr" / "object" / ".zarray", dtype="|O", filters=None)
    label(raw, *(f"x.zarr::{name},a" for name in ("delta", "complex", "fields", "object", "good")))
    made = ingest(raw, tmp_path)
    found = {detail.partition(": ")[0]: reason for detail, reason in made.rejected[["detail", "reason"]].values}
    assert found == {
        **{"delta": "unsupported_format", "fields": "unsupported_format"},
        **{"complex": "unsupported_depth", "object": "unsupported_depth"},
    }


def test_codecs_that_are_not_read_are_an_unsupported_format(tmp_path):
    raw = tmp_path / "raw"
    inner = [{"name": "bytes"}]
    of_shards = {"chunk_shape": [9, 7], "codecs": inner, "index_codecs": inner}
    shards = {"name": "sharding_indexed", "configuration": of_shards}
    nested = {"name": "sharding_indexed", "configuration": of_shards | {"codecs": [shards]}}
    turned = {"name": "transpose", "configuration": {"order": [1, 0]}}
    codecs = {"nested": [nested], "turned": [turned, shards], "no_bytes": [{"name": "vlen-utf8"}]}
    for name, given in codecs.items():
        create(raw / "x.zarr", name, GREY, chunks=(9, 7))
        edited(raw / "x.zarr" / name / "zarr.json", codecs=given)
    create(raw / "x.zarr", "good", GREY)
    label(raw, *(f"x.zarr::{name},a" for name in (*codecs, "good")))
    made = ingest(raw, tmp_path)
    assert made.counts["rejected"] == {"unsupported_format": 3}
    assert all(reader.COPY in detail for detail in made.rejected["detail"])


def test_a_store_of_several_arrays_without_labels_csv_is_rejected_with_the_way_out(tmp_path):
    create(tmp_path / "raw" / "a" / "x.zarr", "images", PICTURES)
    np.save(tmp_path / "raw" / "a" / "z.npy", GREY)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.reason("a/x.zarr") == "several_arrays"
    assert "file::name[3]" in made.rejected["detail"][0]


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_in_place_of_the_data_folder_is_told_where_to_go(version, tmp_path):
    zarr.create_array(tmp_path / "raw", data=GREY, zarr_format=version)
    with pytest.raises(UserError, match=r"raw is a Zarr store: .*mv \S*raw \S*raw.zarr && mkdir \S*raw && mv "):
        ingest(tmp_path / "raw", tmp_path)


@pytest.mark.parametrize("others", [(), ("a/0.npy", "b/0.npy")])
def test_a_store_in_place_of_a_class_folder_is_told_how_to_be_labelled(others, tmp_path):
    create(tmp_path / "raw" / "cow", "images", PICTURES)
    for path in others:
        (tmp_path / "raw" / path).parent.mkdir()
        np.save(tmp_path / "raw" / path, GREY)
    with pytest.raises(UserError, match=r"raw/cow is a Zarr store and no class folder: .*cow::name\[3\]"):
        ingest(tmp_path / "raw", tmp_path)


def test_a_row_about_an_array_that_is_not_there_is_an_error(tmp_path):
    create(tmp_path / "raw" / "x.zarr", "images", PICTURES)
    label(tmp_path / "raw", "x.zarr::../../elsewhere,a")
    with pytest.raises(UserError, match="no array of this name"):
        ingest(tmp_path / "raw", tmp_path)


def test_a_store_that_a_system_has_hidden_is_none(tmp_path):
    zarr.create_array(tmp_path / "raw" / "a" / ".cache" / "x.zarr", data=GREY, zarr_format=2)
    np.save(tmp_path / "raw" / "a" / "y.npy", GREY)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.counts["ignored"]["litter"] > 1
    assert len(made.pixels) == 1


def test_the_digest_of_a_file_read_where_it_lies_is_that_of_its_bytes(tmp_path, monkeypatch):
    import xxhash

    monkeypatch.setattr(in_place, "RUN_BYTES", 7)
    (tmp_path / "x").write_bytes(GREY.tobytes())
    assert in_place.stamped(str(tmp_path / "x"))[0] == xxhash.xxh3_128_digest(GREY.tobytes())


def test_the_checksum_is_that_of_its_standard():
    assert reader.crc32c(b"123456789") == 0xE3069283  # RFC 3720 B.4 has others; this is the check value of CRC-32C
