"""A pickle of tensors is followed without unpickling it: what it names, and that its tensors lie in their records."""

import io
import pickle
import zipfile

import pytest
import torch

from stages.lib.model import archive

ONE = torch.arange(12, dtype=torch.float32).reshape(3, 4)


def members(value: object) -> dict[str, bytes]:
    """What torch.save writes, by name."""
    content = io.BytesIO()
    torch.save(value, content)
    with zipfile.ZipFile(content) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def check(found: dict[str, bytes]) -> None:
    archive.check_pickle(found, "data.pkl", archive.TENSORS)


@pytest.mark.parametrize(
    "value",
    [
        {"weights": {"a": ONE, "b": ONE[1:, ::2], "c": ONE.t()}, "recipe": {"x": [1, 2.5, "y", None, True]}},
        {"tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "lists": [[], [1], [1, 2]]},
        {"empty": torch.zeros(0, 3), "one": torch.tensor(1), "same": [ONE, ONE]},
        [torch.zeros(2, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.int64, torch.bool, torch.complex64)],
        {"large": 2**40, "negative": -5, "names": ["n" * 300] * 300},
    ],
)  # fmt: skip
def test_what_torch_writes_is_accepted(value):
    check(members(value))


@pytest.mark.parametrize("cut", [0, 1, 47])
def test_a_record_that_is_shorter_than_its_tensor_is_refused(cut):
    found = members(ONE)
    found["data/0"] = found["data/0"][:cut]
    with pytest.raises(ValueError, match=f"a tensor of 12 numbers in {cut} bytes"):
        check(found)


def test_a_record_that_is_missing_is_refused():
    found = members(ONE)
    del found["data/0"]
    with pytest.raises(ValueError, match="broken pickle"):
        check(found)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused():
    found = members(ONE)
    shape, strides = pickle.dumps((3, 4), 2)[2:-3], pickle.dumps((4, 1), 2)[2:-3]
    assert shape in found["data.pkl"]
    for before, after in (((3, 4), (4, 4)), ((4, 1), (5, 1)), ((4, 1), (4, 2))):
        assert {(3, 4): shape, (4, 1): strides}[before] in found["data.pkl"]
        changed = found["data.pkl"].replace(pickle.dumps(before, 2)[2:-3], pickle.dumps(after, 2)[2:-3])
        with pytest.raises(ValueError, match="outside of its record"):
            check(found | {"data.pkl": changed})


def test_a_negative_size_or_offset_is_refused():
    found = members(ONE)
    changed = found["data.pkl"].replace(pickle.dumps((3, 4), 2)[2:-3], b"J\xff\xff\xff\xffK\x04\x86")
    with pytest.raises(ValueError, match="outside of its record"):
        check(found | {"data.pkl": changed})


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'x'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"c",
        b"\xff",
        b"",
        b"\x80\x02.",
        b"\x80\x02}}u.",
        b"\x80\x02(((t.",
        b"\x80\x02K\x01K\x02\x85b.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02h\x05.",
        b"\x80\x02K\x01K\x02Q.",
    ],
)
def test_a_pickle_that_names_more_than_tensors_or_is_broken_is_refused(pickled):
    with pytest.raises(ValueError):
        check({"data.pkl": pickled})


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02)" + b"\x85" * 100_000 + b".",  # too deep
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}(K\x01\x85K\x02u.",  # a tuple as a key
        b"\x80\x02(X\x07\0\0\0storageK\x01X\x01\0\0\x000X\x03\0\0\0cpuK\0tQ.",  # a number for a class
    ],
)
def test_a_pickle_that_readers_would_not_come_to_an_end_with_is_refused(pickled):
    with pytest.raises(ValueError):
        check({"data.pkl": pickled})


def test_values_that_hold_each_other_twice_are_refused_once_they_are_too_many():
    def doubled(times: int) -> bytes:
        each = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times))
        return b"\x80\x02N" + b"".join(each) + b"."

    check({"data.pkl": doubled(10)})
    with pytest.raises(ValueError, match="too often"):
        check({"data.pkl": doubled(60)})
