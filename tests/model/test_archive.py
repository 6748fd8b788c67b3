import io
import os
import warnings
import zipfile

import pytest

from stages.lib.core.errors import UserError
from stages.lib.model import archive

KNOWN = r"data\.pkl|data/[0-9]+"


def zipped(*members, compression=zipfile.ZIP_STORED, folder="archive/"):
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as file:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, member in members:
            file.writestr(folder + name, member)
    return content.getvalue()


def read(content):
    return archive.read(content, KNOWN, "m.pt is no checkpoint")


def test_members_are_read_without_their_folder_whatever_it_is_called():
    assert read(zipped(("data.pkl", b"a"), ("data/0", b"b"), folder="model/")) == {"data.pkl": b"a", "data/0": b"b"}


@pytest.mark.parametrize(
    "content, message",
    [
        (zipped(("data/0", b"checked"), ("data/0", b"loaded")), "'data/0' twice"),
        (zipped(("data/x.so", b"")), "'archive/data/x.so', which such a file does not have"),
        (zipped(("../data/0", b"")), "does not have"),
        (zipped(("data/0\n", b"")), "does not have"),
        (zipped(("data/0", bytes(10**6)), compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zipped(("0", b""), folder=""), "does not have"),
        (zipped(("data/0", b"abc"))[:-30], "is no checkpoint"),
        (zipped(("data/0", b"abc")).replace(b"abc", b"abd"), "CRC"),
        (b"", "is no checkpoint"),
    ],
    ids=["twice", "library", "outside", "line end", "compressed", "no folder", "cut", "checksum", "empty"],
)
def test_an_archive_that_readers_may_understand_differently_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        read(content)


def test_two_members_whose_headers_have_two_names_but_whose_directory_has_one_are_refused():
    content = zipped(("data/0", b"checked"), ("data/1", b"loaded"))
    directory = content.index(b"PK\1\2")
    with pytest.raises(UserError):
        read(content[:directory] + content[directory:].replace(b"data/1", b"data/0"))


def test_a_size_that_the_directory_makes_up_is_refused():
    content = bytearray(zipped(("data/0", b"abc")))
    directory = content.index(b"PK\1\2")
    for at in (directory + 20, directory + 24):
        content[at : at + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(UserError, match="larger than itself"):
        read(bytes(content))


def test_what_stands_around_an_archive_is_not_handed_on():
    first, second = zipped(("data/0", b"one")), zipped(("data/0", b"two"))
    members = read(first + second)
    with zipfile.ZipFile(io.BytesIO(archive.packed(members))) as file:
        assert [file.read(name) for name in file.namelist()] == [members["data/0"]]
    assert first not in archive.packed(members)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="is no file"):
        archive.read_file(tmp_path / "model.onnx")
