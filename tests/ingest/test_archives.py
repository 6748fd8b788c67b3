"""Archives below data/raw stand for their folders: the same outs, and whatever is wrong with one has its reason."""

import bz2
import gzip
import io
import lzma
import random
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest

from stages import check
from stages.lib.core.errors import UserError
from stages.lib.ingest import raw_files
from stages.lib.ingest.archives import entries as archive_entries
from stages.lib.ingest.archives import members, tar_index, zip_index
from stages.lib.ingest.archives.entries import BadArchive
from stages.lib.ingest.archives.members import Archive
from tests import ROOT
from tests.raw_data import ingest, scan, settle, write_pictures, write_series

NAMES = ("x.zip", "stored.ZIP", "x.tar", "x.tar.gz", "x.tgz")


def pack(folder, target, below=""):
    """Packs what lies in a folder, in an order that is not the names'."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name)
    if target.suffix.lower() == ".zip":
        with zipfile.ZipFile(
            target, "w", zipfile.ZIP_STORED if target.stem == "stored" else zipfile.ZIP_DEFLATED
        ) as to:
            for path in files:
                to.write(path, f"{below}{path.relative_to(folder)}")
    else:
        with tarfile.open(target, "w" if target.suffix == ".tar" else "w:gz") as to:
            for path in files:
                to.add(path, f"./{below}{path.relative_to(folder)}")


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """The bytes of a ZIP, from contents by names or ZipInfos."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as to:
        for name, content in members:
            to.writestr(name, content)
    return target.getvalue()


def tarred(members, **given):
    """The bytes of a tar, from pairs of a name or a TarInfo, and a content."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", **given) as to:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            to.addfile(info, io.BytesIO(content))
    return target.getvalue()


def picture(seed=0):
    target = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8), np.uint8)
    imageio.imwrite(target, pixels, extension=".png")
    return target.getvalue()


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures, with litter and a file that is none; and the outs of its ingest."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder / "raw", each=6)
    (folder / "raw/cat/.DS_Store").write_bytes(b"x")
    (folder / "raw/dog/words.txt").write_text("no picture")
    return folder / "raw", ingest(folder / "raw", folder / "out").bytes()


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder / "raw/a/s")
    write_series(folder / "raw/b/s", scan(seed=3), series="two", patient="Roe")
    return folder / "raw", ingest(folder / "raw", folder / "out").bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pictures", "series"])
def test_an_archive_gives_the_same_bytes_in_every_out_as_its_folder(raw, tmp_path, request, kind, name):
    folder, expected = request.getfixturevalue(kind)
    pack(folder, raw / name)
    assert ingest(raw, tmp_path / "out").bytes() == expected


def test_several_workers_read_one_packed_archive(raw, tmp_path, pictures):
    pack(pictures[0], raw / "x.tar.gz")
    assert ingest(raw, tmp_path / "out", workers=2).bytes() == pictures[1]


@pytest.mark.parametrize("below", ["", "cat/"])
def test_an_archive_among_others_is_the_folder_of_its_name_which_is_not_doubled(raw, tmp_path, pictures, below):
    folder, expected = pictures
    pack(folder / "cat", raw / "cat.zip", below)
    pack(folder / "dog", raw / "dog.tar")
    assert ingest(raw, tmp_path / "out").bytes() == expected


def test_an_archive_deep_in_the_folders_stands_beside_itself(raw, tmp_path, pictures):
    shutil.copytree(pictures[0], raw, dirs_exist_ok=True)
    (raw / "cat/more").mkdir()
    pack(pictures[0] / "dog", raw / "cat/more/day 1.tar.gz")
    assert "cat/more/day 1/0.png" in raw_files.scan(raw).paths
    (raw / "cat/more/day 1.tar.gz").unlink()
    assert raw_files.scan(raw).paths == raw_files.scan(pictures[0]).paths


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_labels_and_corrections_may_lie_in_the_archive(raw, tmp_path, pictures, name):
    folder = tmp_path / "folder"
    shutil.copytree(pictures[0], folder)
    rows = "".join(f"{label}/{i}.png,{'odd' if i else 'even'}\n" for label in ("cat", "dog") for i in (0, 2, 4))
    (folder / "labels.csv").write_text(f"path,label\n{rows}*/*.jpg,odd\ndog/words.txt,odd\n")
    (folder / "corrections.csv").write_text("path,label\ncat/2.png,even\n")
    expected = ingest(folder, tmp_path / "expected")
    assert expected.counts["corrected"]["relabelled"] == {"odd -> even": 1}
    pack(folder, raw / name)
    assert ingest(raw, tmp_path / "out").bytes() == expected.bytes()
    (raw / "labels.csv").write_text("path,label\ncat,x\n")
    with pytest.raises(UserError, match=r"raw/labels.csv is there, and .*raw/x\..* stands for the same: keep one"):
        raw_files.scan(raw)


def test_labels_beside_the_only_archive_name_what_is_in_it(raw, tmp_path, pictures):
    pack(pictures[0], raw / "x.zip")
    (raw / "labels.csv").write_text("path,label\ncat,wild\ndog,tame\n")
    assert ingest(raw, tmp_path / "out").counts["classes"] == {"tame": 6, "wild": 6}


def test_a_row_about_an_archive_is_told_to_name_its_folder(raw, tmp_path, pictures):
    for label in ("cat", "dog"):
        pack(pictures[0] / label, raw / f"{label}.zip")
    (raw / "labels.csv").write_text("path,label\ncat.zip,p\ndog.zip,q\n")
    with pytest.raises(UserError, match="row 2: path 'cat.zip' is an archive, which .*: write cat in its place"):
        ingest(raw, tmp_path / "out")


def test_a_row_about_the_archive_that_is_the_whole_data_set_is_told_to_name_what_is_in_it(raw, tmp_path, pictures):
    pack(pictures[0], raw / "x.zip")
    (raw / "labels.csv").write_text("path,label\nx.zip,p\ncat/0.png,q\n")
    with pytest.raises(UserError, match="row 2: path 'x.zip' is the archive that .*raw is: write what lies in it"):
        ingest(raw, tmp_path / "out")


def test_an_archive_beside_its_folder_and_two_of_one_name_are_errors_that_name_both(raw, pictures):
    shutil.copytree(pictures[0] / "dog", raw / "dog")
    pack(pictures[0] / "cat", raw / "dog.zip")
    with pytest.raises(UserError, match="raw/dog/0.png is there, and .*raw/dog.zip stands for the same: keep one of"):
        raw_files.scan(raw)
    (raw / "dog").rename(raw / "cow")
    shutil.copy(raw / "dog.zip", raw / "dog.ZIP")
    with pytest.raises(UserError, match="raw/dog.ZIP and .*raw/dog.zip stand for the same folder: keep one of them"):
        raw_files.scan(raw)
    (raw / "dog.ZIP").unlink()
    (raw / "dog.tar").write_bytes(tarred([("a file of its own.png", picture())]))
    with pytest.raises(UserError, match="raw/dog.tar and .*raw/dog.zip stand for the same folder: keep one of them"):
        raw_files.scan(raw)
    (raw / "dog.tar").unlink()
    (raw / "dog").mkdir()
    pack(pictures[0], raw / "dog/x.zip")
    (raw / "dog.zip").write_bytes(zipped([("x/cat/0.png", picture())]))
    with pytest.raises(UserError, match="raw/dog/x/cat/0.png is in two archives, dog.zip and dog/x.zip: keep one of"):
        raw_files.scan(raw)


def test_a_zip_that_begins_with_members_of_another_one_ends_ingest_and_one_behind_a_program_does_not(raw):
    whole = zipped([GOOD])
    (raw / "x.zip").write_bytes(zipped([("a/lost.png", picture(1))]) + whole)
    with pytest.raises(UserError, match="raw/x.zip begins with members that its index doesn't list, as .* joined"):
        raw_files.scan(raw)
    (raw / "x.zip").write_bytes(b"MZ" + bytes(1000) + whole)  # a ZIP that unpacks itself
    assert len(raw_files.scan(raw).members) == 1


def test_an_archive_that_can_not_be_read_is_named(raw, monkeypatch):
    (raw / "x.zip").write_bytes(zipped([GOOD]))

    def refused(path, *flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(members.os, "open", refused)  # root may read all
    with pytest.raises(UserError, match=r"raw/x.zip can't be read \(Permission denied\): mend or remove it"):
        raw_files.scan(raw)


def test_a_table_in_an_archive_that_is_no_text_is_told_where_it_is(raw, tmp_path):
    (raw / "x.zip").write_bytes(zipped([GOOD, ("labels.csv", b"\xff\xfe")]))
    with pytest.raises(UserError, match="raw/labels.csv in .*raw/x.zip is not UTF-8"):
        ingest(raw, tmp_path / "out")


@pytest.mark.parametrize("listed", [(), ("b/",), ("b/.hidden/",)])
def test_a_folder_of_litter_alone_is_a_class_folder_without_files_in_an_archive_too(raw, listed):
    litter = () if listed else ("b/.hidden/1.png",)
    (raw / "x.zip").write_bytes(zipped([GOOD, *((name, b"") for name in (*listed, *litter))]))
    with pytest.raises(UserError, match="class folder .*raw/b holds no files"):
        ingest(raw, raw.parent / "out")


@pytest.mark.parametrize("pattern", ["[z-a].png", "*\\"])
def test_a_pattern_that_can_not_be_read_is_told_wherever_it_is_given(raw, tmp_path, pictures, pattern):
    shutil.copytree(pictures[0], raw, dirs_exist_ok=True)
    told = "the pattern '.*' can't be read as those of .gitignore are "
    with pytest.raises(UserError, match=told):
        ingest(raw, tmp_path / "out", exclude=(pattern,))
    (raw / "labels.csv").write_text(f"path,label\ncat,a\n{pattern},b\n")
    with pytest.raises(UserError, match=rf"labels.csv.* row 3: {told}"):
        ingest(raw, tmp_path / "out")
    pack(pictures[0], raw / "cat/x.zip")
    with pytest.raises(UserError, match=told):
        ingest(raw, tmp_path / "out", include=("*.png",), exclude=(pattern,))


@pytest.mark.parametrize("exclude", [("docs/",), ("docs/*.zip",), ("*.zip",)])
def test_an_archive_that_is_left_out_by_its_own_path_is_not_read(raw, tmp_path, pictures, exclude):
    shutil.copytree(pictures[0], raw, dirs_exist_ok=True)
    (raw / "docs").mkdir()
    (raw / "docs/broken.zip").write_bytes(zipped([("../out.png", picture())])[:-9])
    with pytest.raises(UserError, match="docs/broken.zip is damaged"):
        ingest(raw, tmp_path / "out")
    done = ingest(raw, tmp_path / "out", exclude=exclude)
    assert done.counts["ignored"]["excluded"] == 1 and done.counts["classes"] == {"cat": 6, "dog": 6}


def test_an_archive_is_read_where_only_its_members_are_left_out(raw, tmp_path, pictures):
    pack(pictures[0] / "cat", raw / "cat.zip")
    pack(pictures[0] / "dog", raw / "dog.zip")
    assert ingest(raw, tmp_path / "out", exclude=("dog/",)).counts["classes"] == {"cat": 6}


def test_an_archive_in_an_archive_is_rejected_with_a_way_out(raw, tmp_path, pictures):
    folder = tmp_path / "folder"
    shutil.copytree(pictures[0], folder)
    pack(pictures[0] / "dog", folder / "cat/inner.zip")
    pack(folder, raw / "x.zip")
    done = ingest(raw, tmp_path / "out")
    assert done.reason("cat/inner.zip") == "unsupported_format" and done.counts["classes"] == {"cat": 6, "dog": 6}


def test_a_zarr_store_in_an_archive_is_to_be_unpacked(raw, tmp_path, pictures):
    folder = tmp_path / "folder"
    shutil.copytree(pictures[0], folder)
    (folder / "cat/x.zarr/c").mkdir(parents=True)
    (folder / "cat/x.zarr/zarr.json").write_text("{}")
    (folder / "cat/x.zarr/c/0").write_bytes(b"0")
    pack(folder, raw / "x.zip")
    with pytest.raises(
        UserError, match="cat/x.zarr/.* lies in a Zarr store, and that in .*raw/x.zip: .*unpack the archive"
    ):
        ingest(raw, tmp_path / "out")


def test_documents_and_arrays_that_are_zips_inside_are_no_archives(raw, tmp_path, pictures):
    shutil.copytree(pictures[0], raw, dirs_exist_ok=True)
    for name in ("a.docx", "a.npz", "zip"):
        pack(pictures[0] / "dog", raw / "cat/a.zip")
        (raw / "cat/a.zip").rename(raw / "cat" / name)
    assert not raw_files.scan(raw).members
    (raw / "cat/page.zip").write_text("<html>404")
    assert ingest(raw, tmp_path / "out").reason("cat/page.zip") == "not_an_image"


def test_an_archive_in_place_of_the_folder_is_told_where_to_go(tmp_path, pictures):
    pack(pictures[0], tmp_path / "mine.tar.gz")
    with pytest.raises(
        UserError, match="mine not found: .*mine.tar.gz is read .*: mkdir .*mine && mv .*mine.tar.gz .*mine/"
    ):
        raw_files.scan(tmp_path / "mine")


def tar_by(pack):
    return pack(tarred([GOOD]))


ZIPPED = zipped([("a/0.png", b"x" * 3000), ("b/0.png", b"y")], zipfile.ZIP_STORED)
FOREIGN = {
    ("x.tar.bz2", r"tar packed by bzip2, .*`bzip2 -dc \S*/x.tar.bz2 > \S*/x.tar && rm"): lambda: tar_by(bz2.compress),
    ("day 1.txz", "tar packed by xz, .*`xz -dc '.*/day 1.txz' > '.*/day 1.tar' && rm"): lambda: tar_by(lzma.compress),
    ("x.tar.zst", "tar packed by zstd, .*`zstd -dc "): lambda: b"\x28\xb5\x2f\xfd" + bytes(9),
    ("x.7z", r"7-Zip archive, which is not read: `7z x \S*/x.7z -o\S*/x && rm"): lambda: (
        b"7z\xbc\xaf\x27\x1c" + bytes(9)
    ),
    ("x", "RAR archive, which is not read: `7z x .*/x -o.*/x_unpacked && rm "): lambda: b"Rar!\x1a\x07\0",
    ("x.dat", r"zip, and .*: `mv \S*/x.dat \S*/x.zip`"): lambda: zipped([GOOD]),
    ("download", r"zip, and .*: `mv \S*/download \S*/download.zip`"): lambda: zipped([GOOD]),
    ("x.zip", r"tar, and .*: `mv \S*/x.zip \S*/x.tar`"): lambda: tarred([GOOD]),
    ("x.tar", r"zip, and .*: `mv \S*/x.tar \S*/x.zip`"): lambda: zipped([GOOD]),
    ("x.gz", r"tar.gz, and .*: `mv \S*/x.gz \S*/x.tar.gz`"): lambda: tar_by(gzip.compress),
    ("x.zip.001", r"part of a split archive: `cat \S*/x.zip.\* > \S*/x.zip && rm"): lambda: ZIPPED[:2000],
    ("x.7z.001", r"part of a split archive: `7z x \S*/x.7z.001 -o\S*/x && rm \S*/x.7z.\*`"): lambda: b"7z",
    ("x.z01", r"part of a split ZIP: `zip -s 0 \S*/x.zip --out \S*/x-whole.zip && rm"): lambda: (
        b"PK\7\x08" + ZIPPED[:9]
    ),
}


@pytest.mark.parametrize(("name", "said", "content"), [(*key, content) for key, content in FOREIGN.items()])
def test_an_archive_that_is_not_read_is_named_with_the_command_that_makes_one_that_is(raw, name, said, content):
    (raw / name).write_bytes(content())
    (raw / "labels.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=f"raw/{name} is a .*{said}"):
        raw_files.scan(raw)
    (raw / name).rename(raw.with_name(f"mine.{name}"))
    if not name.startswith("x.z"):  # whose parts belong to another name
        with pytest.raises(UserError, match=rf"mine not found: .*mine\.{name} is a "):
            raw_files.scan(raw.with_name("mine"))


def test_the_last_part_of_a_split_zip_is_told_how_to_be_joined(raw):
    end = bytearray(ZIPPED)
    end[-18:-16] = b"\6\0"  # the number of the part
    (raw / "x.zip").write_bytes(end[2000:])
    (raw / "x.z01").write_bytes(b"PK\7\x08" + ZIPPED[:2000])
    with pytest.raises(UserError, match=r"raw/x.zip is the last part of a split ZIP: `zip -s 0 \S*/x.zip --out"):
        raw_files.scan(raw)


@pytest.mark.parametrize(
    ("name", "content"), [("x.bz2", bz2.compress(b"text")), ("x.h5", bytes(512) + b"HDF"), ("x.tar", b"")]
)
def test_files_that_are_no_archives_are_not_taken_for_such(raw, name, content):
    (raw / name).write_bytes(content)
    assert raw_files.scan(raw).paths == [name]


def test_the_check_before_the_stages_tells_of_it_too(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "studies.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    sections = "ingest: {}, split: {}, statistics: {}, dataset: {}, train: {}, validate: {}, export: {}"
    (tmp_path / "params.yaml").write_text(f"datasets:\n  mine: {{{sections}}}\n")
    (tmp_path / "data/raw").mkdir(parents=True)
    check.main()
    pack(pictures[0], tmp_path / "data/raw/mine.zip")
    with pytest.raises(SystemExit, match=r"data/raw/mine not found: .*mkdir data/raw/mine && mv data/raw/mine.zip"):
        check.main()


def test_only_an_archive_that_has_changed_is_read_again_and_what_it_holds_is_not_decoded_again(raw, tmp_path, decoded):
    write_pictures(tmp_path / "folder", each=3)
    pack(tmp_path / "folder", raw / "x.zip")
    settle()
    before = ingest(raw, tmp_path / "out").bytes()
    assert len(decoded) == 6
    decoded.clear()
    (raw / "x.zip").unlink()
    pack(tmp_path / "folder", raw / "stored.zip")
    assert ingest(raw, tmp_path / "out").bytes() == before and decoded == []
    imageio.imwrite(tmp_path / "folder/cat/new.png", np.zeros((7, 7), np.uint8))
    pack(tmp_path / "folder", raw / "stored.zip")
    assert len(ingest(raw, tmp_path / "out").pixels) == 7 and decoded == ["cat/new.png"]


def test_an_archive_that_is_replaced_while_it_is_read_is_not_taken_for_damaged(raw, tmp_path, pictures):
    pack(pictures[0], raw / "x.zip")
    member = raw_files.scan(raw).members.get("cat/0.png")
    settle()
    pack(pictures[0] / "dog", raw / "x.zip")
    with pytest.raises(members.Rejected) as refused:
        members.read(member, 1 << 20)
    assert refused.value.reason == "changed"


def test_a_hard_link_in_a_tar_is_the_file_that_it_leads_to(raw, tmp_path):
    link = tarfile.TarInfo("b/1.png")
    link.type, link.linkname = tarfile.LNKTYPE, "a/0.png"
    (raw / "x.tar").write_bytes(tarred([("a/0.png", picture()), ("b/0.png", picture(1)), (link, b"")]))
    (raw / "labels.csv").write_text("path,label\na,same\nb,same\n")
    assert ingest(raw, tmp_path / "out").counts["duplicates"] == 1


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_foreign_names_in_tar_are_read(raw, form):
    name = f"{'n' * 90}/{'m' * 60}/o.png" if form == tarfile.USTAR_FORMAT else f"ä/{'n' * 200}/{'m' * 200}.png"
    (raw / "x.tar").write_bytes(tarred([(name, picture())], format=form))
    assert raw_files.scan(raw).paths == [name]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_headers_of_most_files_are_read_as_tarfile_reads_them_and_others_are_left_to_it(form):
    rng = random.Random(1)
    for _ in range(300):
        info = tarfile.TarInfo("ä/" + "x" * rng.randrange(1, 90))
        info.size, info.mtime, info.uid = rng.randrange(8**11), rng.randrange(2**32), rng.randrange(2**20)
        block = info.tobuf(form)
        known = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        assert tar_index._usual(block) == (known.name, known.size, known.type, known.linkname)
        place = rng.choice([*range(148), *range(156, 257), *range(345, 512)])
        assert tar_index._usual(block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :]) is None
    for change in ({"type": tarfile.DIRTYPE}, {"size": 8**11}, {"name": "y" * 60 + "/" + "x" * 60}):
        info = tarfile.TarInfo("x")
        for key, value in change.items():
            setattr(info, key, value)
        last = info.tobuf(tarfile.USTAR_FORMAT if "name" in change else tarfile.GNU_FORMAT)[-512:]
        assert tar_index._usual(last) is None


def test_an_incremental_archive_of_gnu_tar_is_read_without_its_times_and_lists(raw):
    listed = of_type(b"D", "a/")
    content = tarred([(listed, b""), GOOD, ("a/deep/1.png", picture(1))], format=tarfile.GNU_FORMAT)
    content = patched(content, b"a/\0", 124, b"%011o\0" % 8)
    content = content[:512] + b"Y0.png\0\0".ljust(512, b"\0") + content[512:]
    for name in (b"a/\0", b"a/0.png", b"a/deep/1.png"):
        content = patched(content, name, 345, b"15113614552\00015113614551\0")
    (raw / "x.tar").write_bytes(repaired(content))
    assert raw_files.scan(raw).paths == ["a/0.png", "a/deep/1.png"] and raw_files.scan(raw).folders == ["a"]


def test_zip64_data_descriptors_and_foreign_names_are_read(raw, tmp_path):
    class Stream(io.BytesIO):
        def seekable(self):
            return False

    target = Stream()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as to:
        for i, name in enumerate(("a/ä.png", "b/x.png")):
            with to.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(picture(i))
    (raw / "x.zip").write_bytes(target.getvalue())
    assert len(ingest(raw, tmp_path / "out").pixels) == 2


def named(name, system, extra=b""):
    """The bytes of a ZIP with a picture, of whose name nothing says what it is."""
    info = zipfile.ZipInfo("?" * len(name))
    info.create_system, info.extra = system, extra
    return zipped([(info, picture())]).replace(b"?" * len(name), name)


@pytest.mark.parametrize("system", [0, 3])
def test_names_in_utf_8_are_read_as_such_where_no_flag_says_so(raw, capsys, system):
    (raw / "x.zip").write_bytes(named("Käfer/日本.png".encode(), system))
    assert raw_files.scan(raw).paths == ["Käfer/日本.png"] and "CP437" not in capsys.readouterr().out


def test_names_of_dos_are_cp437_which_is_said(raw, capsys):
    (raw / "x.zip").write_bytes(named(b"a/\x84.png", 0))
    assert raw_files.scan(raw).paths == ["a/ä.png"]
    assert "raw/x.zip: 1 names are no UTF-8, and read as CP437" in capsys.readouterr().out


def test_names_of_which_nothing_says_what_they_are_end_ingest(raw):
    (raw / "x.zip").write_bytes(named(b"K\xe4fer/0.png", 3))
    with pytest.raises(UserError, match=r"raw/x.zip has names that are no UTF-8.*: pack it anew with names in UTF-8"):
        raw_files.scan(raw)


def test_the_unicode_path_of_info_zip_counts_where_it_is_of_this_name(raw):
    name, field = b"K\xe4fer/0.png", "Käfer/0.png".encode()
    extra = struct.pack("<HHBL", 0x7075, 5 + len(field), 1, zlib.crc32(name)) + field
    (raw / "x.zip").write_bytes(named(name, 3, b"\x01\x99\0\0" + extra))
    assert raw_files.scan(raw).paths == ["Käfer/0.png"]
    (raw / "x.zip").write_bytes(named(name, 3, extra[:5] + b"0000" + field))
    with pytest.raises(UserError, match="no UTF-8"):
        raw_files.scan(raw)
    out = extra.replace(field, b"../fer/0.png")
    (raw / "x.zip").write_bytes(named(name, 3, out))
    with pytest.raises(UserError, match="leads out of the archive"):
        raw_files.scan(raw)


def with_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def of_type(kind, name="a/odd.png", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = ("a/0.png", picture())
TWO = [GOOD, ("b/1.png", picture(1))]


def patched(content, signature, at, value, which=0):
    """An archive with other bytes in one of its headers."""
    changed, start = bytearray(content), -1
    for _ in range(which + 1):
        start = content.index(signature, start + 1)
    changed[start + at : start + at + len(value)] = value
    return bytes(changed)


def bomb_of_shared_bytes():
    """Every entry of the index leads to the first member."""
    return patched(zipped(TWO), b"PK\1\2", 42, b"\0\0\0\0", 1)


HOSTILE = {
    "x.zip": {
        "leads out of the archive": zipped([GOOD, ("../../out.png", picture())]),
        "holds '/out.png', which has a name that leads out": zipped([GOOD, ("/out.png", picture())]),
        "holds 'C:/out.png', which has a name that leads out": zipped([GOOD, ("C:/out.png", picture())]),
        "has a name with a backslash": zipped([GOOD, ("a\\out.png", picture())]),
        "has a name with a NUL": zipped([GOOD, ("a/xx.png", picture())]).replace(b"a/xx.png", b"a/x\0.png"),
        "has a longer name than systems take": zipped([GOOD, (f"a/{'n' * 256}.png", picture())]),
        "is a link": zipped([GOOD, (with_mode("a/link.png", stat.S_IFLNK | 0o777), b"/etc/passwd")]),
        "is neither file nor folder": zipped([GOOD, (with_mode("a/pipe.png", stat.S_IFIFO), b"")]),
        "holds two members called 'a/0.png'": zipped(TWO).replace(b"b/1.png", b"a/0.png"),
        "as a file, and as a folder": zipped([("a", picture()), GOOD]),
        "members that share bytes, as bombs do": bomb_of_shared_bytes(),
        "is damaged or cut short": zipped(TWO)[:-30],
        "lie where it has no bytes": patched(zipped(TWO), b"PK\1\2", 20, b"\xff\xff\xff\0"),
        "said to be stored, in another number": patched(zipped(TWO, 0), b"PK\1\2", 20, b"\x09\0\0\0"),
    },
    "x.tar": {
        "leads out of the archive": tarred([GOOD, ("../out.png", picture())]),
        "holds '/out.png'": tarred([GOOD, ("/out.png", picture())]),
        "which is a link": tarred([GOOD, (of_type(tarfile.SYMTYPE, link="/etc/passwd"), b"")]),
        "a link to what is not in the archive": tarred([GOOD, (of_type(tarfile.LNKTYPE, link="/etc/passwd"), b"")]),
        "is a device": tarred([GOOD, (of_type(tarfile.CHRTYPE), b"")]),
        "is a pipe": tarred([GOOD, (of_type(tarfile.FIFOTYPE), b"")]),
        "holds sparse files": patched(tarred(TWO), b"b/1.png", 156, b"S", 0),
        "holds two members called": tarred([GOOD, GOOD]),
        "ends within a member": tarred(TWO)[:600],
        "ends without the mark of its end": tarred([GOOD])[:1024],
        "goes on behind the mark of its end": tarred([GOOD]) + tarred(TWO),
        "no header of a member at byte": patched(tarred(TWO), b"b/1.png", 0, b"c"),
        "gives all members one name or size": tarred([GOOD], format=tarfile.PAX_FORMAT, pax_headers={"path": "x"}),
        "a header of 8589934591 bytes": patched(
            tarred([("n" * 200, b"x")], format=tarfile.GNU_FORMAT), b"././@LongLink", 124, b"77777777777\0"
        ),
    },
    "x.tar.gz": {
        "leads out of the archive": gzip.compress(tarred([GOOD, ("../out.png", picture())])),
        "is cut short": gzip.compress(tarred(TWO))[:-200],
        "(gzip's data are no such)": gzip.compress(tarred(TWO))[:-8] + bytes(8),
        "is damaged or cut short": gzip.compress(tarred(TWO))[:-6],
        "cut short": gzip.compress(tarred([GOOD])[:1024]),
        "damaged": patched(gzip.compress(tarred(TWO)), b"\x1f\x8b", 300, b"\xff\xff\xff\xff"),
    },
}  # fmt: skip


def repaired(content):
    """A tar whose headers have right checksums again."""
    changed = bytearray(content)
    for at in range(0, len(content), 512):
        block = changed[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(changed)


@pytest.mark.parametrize(("name", "said"), [(name, said) for name, kinds in HOSTILE.items() for said in kinds])
def test_an_archive_that_can_not_be_trusted_ends_ingest_with_its_name_and_a_way_out(raw, name, said):
    content = HOSTILE[name][said]
    if said in ("holds sparse files", "a header of 8589934591 bytes"):
        content = repaired(content)
    (raw / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        raw_files.scan(raw)
    assert said in str(refused.value) and f"raw/{name} " in str(refused.value)
    assert str(refused.value).endswith("unpack it, look at what it holds, and remove it; or pack it anew")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_an_archive_that_unpacks_to_a_hundred_times_its_bytes_is_a_bomb(raw, monkeypatch, name):
    monkeypatch.setattr(archive_entries, "MAX_UNPACKED", 1 << 20)
    zeros = ("a/0.bmp", bytes(4 << 20))
    (raw / name).write_bytes(zipped([zeros]) if name == "x.zip" else gzip.compress(tarred([zeros])))
    with pytest.raises(UserError, match="unpacks to more than 100 times its"):
        raw_files.scan(raw)


def test_hard_links_to_one_large_file_are_a_bomb(raw, monkeypatch):
    monkeypatch.setattr(archive_entries, "MAX_UNPACKED", 1 << 20)
    links = [(of_type(tarfile.LNKTYPE, f"a/{i}.png", "a/large.png"), b"") for i in range(300)]
    (raw / "x.tar").write_bytes(tarred([("a/large.png", bytes(1 << 20)), *links]))
    with pytest.raises(UserError, match="unpacks to more than 100 times its"):
        raw_files.scan(raw)


REFUSED = {
    ("unsupported_format", "encrypted in its archive: pack it anew without a password"): patched(
        zipped(TWO), b"PK\1\2", 8, b"\1"
    ),
    ("unsupported_format", "packed by method 14 of ZIP"): zipped(TWO, zipfile.ZIP_LZMA),
    ("corrupt", "another checksum (CRC-32)"): patched(zipped(TWO), b"PK\1\2", 16, b"\0\0\0\0"),
    ("corrupt", "it does not unpack to the"): patched(zipped(TWO), b"PK\1\2", 24, b"\x10\0\0\0"),
    ("corrupt", "nothing begins where"): patched(zipped(TWO), b"PK\3\4", 0, b"XX"),
    ("corrupt", "it can't be unpacked"): patched(zipped(TWO), b"PK\3\4", 37, b"\xff" * 20),
    ("corrupt", "what it was packed to has no end"): patched(zipped(TWO), b"PK\1\2", 20, b"\x20\0\0\0"),
    ("too_large", "bytes unpack to 1000000, expected 100 times at most: unpack it"): zipped(
        [("a/0.png", bytes(1000000)), TWO[1], ("a/2.png", picture(2))]
    ),
}


@pytest.mark.parametrize("reason", REFUSED, ids=lambda reason: reason[1])
def test_a_member_that_can_not_be_read_is_rejected_with_its_reason_and_the_others_are_cases(
    raw, tmp_path, reason, monkeypatch
):
    monkeypatch.setattr(members, "ANY_RATIO_BYTES", 1 << 16)
    (raw / "x.zip").write_bytes(REFUSED[reason])
    (raw / "labels.csv").write_text("path,label\na,x\nb,x\n")
    if reason[1].startswith("packed by"):
        with pytest.raises(UserError, match="no case could be read"):
            ingest(raw, tmp_path / "out")
    else:
        assert len(ingest(raw, tmp_path / "out").pixels) >= 1
    rows = (tmp_path / "out/rejected.csv").read_text()
    assert "a/0.png" in rows and reason[0] in rows and reason[1] in rows


def test_an_empty_member_that_is_said_to_be_deflated_to_no_byte_is_empty(raw):
    (raw / "x.zip").write_bytes(patched(zipped([("a/0.png", b""), TWO[1]], 0), b"PK\1\2", 10, b"\x08"))
    assert members.read(raw_files.scan(raw).members.get("a/0.png"), 1 << 20)[0] == b""


def test_seek_points_of_an_archive_that_packs_closely_stay_few(raw, monkeypatch):
    monkeypatch.setattr(tar_index, "MAX_SEEK_POINTS", 4)
    pixels = np.random.default_rng(0).integers(0, 2, 20 << 20, np.uint8).tobytes()
    (raw / "x.tar.gz").write_bytes(gzip.compress(tarred([("a/large.png", pixels), *TWO]), 1))
    found = raw_files.scan(raw, raw.parent / "points").members
    assert members.read(found.get("b/1.png"), 1 << 20)[0] == picture(1)
    assert members.read(found.get("a/large.png"), 1 << 30)[0] == pixels
    (points,) = (raw.parent / "points").iterdir()
    assert points.stat().st_size < 5 * 33000


def mutated(content, rng):
    """An archive with some of its bytes changed, cut, doubled or overwritten by its own."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed))
        size = min(rng.choice((1, 1, 2, 4, 30)), len(changed) - at)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at : at + size] = rng.randbytes(size)
        elif kind == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del changed[at : at + size]
        else:
            other = rng.randrange(len(changed))
            changed[at : at + size] = changed[other : other + size]
    return bytes(changed)


def outcome(raw, name, content):
    """What comes of an archive: what scan says, or how many of its members can be read."""
    (raw / name).write_bytes(content)
    try:
        found = raw_files.scan(raw)
    except UserError as error:
        return "an error" if f"raw/{name}" in str(error) or "holds no files" in str(error) else str(error)
    if not found.members:
        return "no archive"
    refused = 0
    for path in found.paths:
        if member := found.members.get(path):
            try:
                assert len(members.read(member, 1 << 20)[0]) == member.size
            except members.Rejected:
                refused += 1
    return "members refused" if refused else "read"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_archives_with_random_damage_end_in_a_reason(raw, name):
    rng = random.Random(0)
    content = zipped(TWO) if name == "x.zip" else tarred(TWO)
    content = gzip.compress(content) if name == "x.tar.gz" else content
    outcomes = {outcome(raw, name, mutated(content, rng)) for _ in range(150)}
    assert outcomes <= {"an error", "no archive", "members refused", "read"} and "an error" in outcomes


def large_zip(tmp_path):
    """A ZIP whose numbers are all written as those beyond 4 GiB are."""
    path = tmp_path / "large.zip"
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as to:
        to.writestr("a/0.png", b"x" * 100)
        to.writestr("b/1.png", b"y" * 50)
        start = file.tell()
        for info in to.infolist():
            extra = struct.pack("<2H3Q", 1, 24, info.file_size, info.compress_size, info.header_offset)
            fixed = (b"PK\1\2", 45, 3, 45, 0, 0, 0, 0, info.CRC, 0xFFFFFFFF, 0xFFFFFFFF)
            file.write(struct.pack("<4s2B5H3L", *fixed))
            file.write(struct.pack("<5H2L", len(info.filename), len(extra), 0, 0, 0, 0, 0xFFFFFFFF))
            file.write(info.filename.encode() + extra)
        size = file.tell() - start
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, size, start))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
        to._didModify = False  # it has its end
    return path.read_bytes()


def commented(members):
    target = io.BytesIO(zipped(members))
    with zipfile.ZipFile(target, "a") as to:
        to.comment = b"a comment" * 100
        for name, info in to.NameToInfo.items():
            info.comment = name.encode()
    return target.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda tmp_path: zipped([GOOD, ("b/ü.png", b"z" * 300), ("empty/", b""), ("c/0.png", b"")]),
        lambda tmp_path: zipped([GOOD], zipfile.ZIP_STORED),
        lambda tmp_path: commented([GOOD, ("b/1.png", b"y" * 99)]),
        lambda tmp_path: b"#!/bin/sh\n" + bytes(5000) + zipped([GOOD, ("b/1.png", b"y" * 99)]),
        lambda tmp_path: zipped([]),
        large_zip,
    ],
)
def test_the_index_of_a_zip_is_what_pythons_zipfile_reads_of_it(make, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(make(tmp_path))
    with open(path, "rb") as file:
        found = list(zip_index.entries(file, Archive(str(path), "zip", (0, 0, 0, 0))))
    with zipfile.ZipFile(path) as theirs:
        listed = theirs.infolist()
    assert [entry.name for entry in found] == [info.orig_filename for info in listed]
    numbers = [
        (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC) for info in listed
    ]
    assert [tuple(entry.member[1:]) for entry in found] == numbers


def test_an_index_cut_anywhere_is_damaged_and_no_traceback(tmp_path):
    whole = large_zip(tmp_path)
    path = tmp_path / "x.zip"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with open(path, "rb") as file, pytest.raises(BadArchive, match="damaged or cut short"):
            list(zip_index.entries(file, Archive(str(path), "zip", (0, 0, 0, 0))))
