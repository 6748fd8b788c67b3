"""make verify reads what dvc believes unread: raw data, outs and cache."""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests import ROOT
from tests.made_project import Project
from tools.verify import __main__ as verify
from tools.verify import recorded
from tools.verify.hashes import Hashes

DVC_YAML = """
stages:
  ingest:
    foreach: [mine, other]
    do:
      cmd: "true"
      deps: [code.py, "data/raw/${item}"]
      outs: ["data/${item}/cases", "data/${item}/cases.csv"]
      metrics: [{"metrics/${item}/ingest.json": {cache: false}}]
"""
RAW, OUT, SINGLE = "data/raw/mine/a.png", "data/mine/cases/0.h5", "data/mine/cases.csv"
METRIC, ADDED = "metrics/mine/ingest.json", "data/raw/other/a.png"
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # inside dvc


class Made(Project):
    def __init__(self, root: Path, config: str = "") -> None:
        super().__init__(root)
        self.write(".dvc/config", f"[core]\n    analytics = false\n{config}")
        shutil.copy(ROOT / ".gitignore", root)
        self.write("dvc.yaml", DVC_YAML)
        for name in ("mine", "other"):
            for path in ("raw/{}/a.png", "raw/{}/b/c.png", "{}/cases/0.h5", "{}/cases/1.h5", "{}/cases.csv"):
                self.write("data/" + path.format(name), f"{path} of {name}\n")
            self.write(f"metrics/{name}/ingest.json", f"of {name}\n")
        with self.repo() as repo:
            repo.add("data/raw/other")
        self.commit()

    @contextlib.contextmanager
    def repo(self) -> Iterator[Repo]:
        with contextlib.chdir(self.root), warnings.catch_warnings(), Repo() as repo:
            warnings.simplefilter("ignore")
            yield repo

    def object(self, path: str) -> str:
        """The cache's copy of a file."""
        value = hashlib.md5((self.root / path).read_bytes()).hexdigest()
        return f".dvc/cache/files/md5/{value[:2]}/{value[2:]}"

    def verify(self, monkeypatch, capsys, *datasets: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.chdir(self.root)
        monkeypatch.setattr(sys, "argv", ["verify", *datasets])
        status = verify.main()
        return status, capsys.readouterr().out

    def flip(self, path: str, position: int = 0) -> None:
        """Changes a byte, and leaves size, time, inode and mode as they were."""
        place = self.root / path
        before = place.stat()
        place.chmod(0o644)
        content = bytearray(place.read_bytes())
        content[position] ^= 1
        with open(place, "r+b") as file:
            file.write(content)
        place.chmod(before.st_mode & 0o777)
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        with self.repo() as repo:
            assert repo.status() == {}  # dvc believes that all is as it was

    def mend(self, said: str) -> None:
        """Follows the first way out of each finding, in order."""
        for remedy in re.findall(r"to mend it: (.*)", said):
            for command in re.findall(
                r"`([^`]+)`", remedy.partition(", if ")[0].partition(", or ")[0].partition(";")[0]
            ):
                program, *rest = shlex.split(command)
                if program == "dvc":
                    with self.repo() as repo:
                        getattr(repo, rest[0])(rest[1], force=True)
                else:
                    subprocess.run([program, *rest], cwd=self.root, check=True)


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path / "project")


def test_what_is_as_recorded_passes(made, monkeypatch, capsys):
    status, said = made.verify(monkeypatch, capsys)
    assert status == 0
    assert re.fullmatch(r"2\d files, 0 MB in .* s \(0 MB/s\): all as recorded\n", said)


@pytest.mark.parametrize("path", [OUT, SINGLE, METRIC, ADDED])
def test_a_byte_flipped_behind_dvcs_back_is_named_and_mended_as_it_says(path, made, monkeypatch, capsys):
    before = (made.root / path).read_bytes()
    made.flip(path)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{path}: not the bytes that were recorded" in said
    assert "1 differ" in said
    made.mend(said)
    assert (made.root / path).read_bytes() == before
    assert made.verify(monkeypatch, capsys)[0] == 0


def test_raw_data_that_were_added_are_found_by_dvc_itself_too(made):
    with made.repo() as repo:  # as `dvc push` and `dvc status` look for them
        assert "data/raw/other.dvc" in [stage.addressing for stage in repo.index.stages]


def test_raw_data_that_dvc_keeps_no_copy_of_are_named_file_by_file(made, monkeypatch, capsys):
    made.flip(RAW)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{RAW}: not the bytes that were recorded, though size, time and inode are as they were" in said
    assert "restore data/raw/mine" in said and "`touch`" in said
    with made.repo() as repo:
        repo.state.hashes.clear()  # as in a clone that never hashed them
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert "data/raw/mine: 2 files; some are new, missing or changed" in said


@pytest.mark.parametrize("path", [OUT, ADDED])
def test_a_damaged_object_of_the_cache_is_named_and_made_again_from_the_sound_out(path, made, monkeypatch, capsys):
    kept = made.object(path)
    made.flip(kept)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{kept}: not the bytes that were recorded" in said
    made.mend(said)
    assert made.object(path) == kept and (made.root / kept).read_bytes() == (made.root / path).read_bytes()
    assert made.verify(monkeypatch, capsys)[0] == 0


def test_a_damaged_manifest_is_named_and_the_folder_is_still_checked(made, monkeypatch, capsys):
    manifests = sorted((made.root / ".dvc/cache").rglob("*.dir"))
    (of_cases,) = [
        path for path in manifests if "0.h5" in path.read_text() and made.object(OUT)[-30:] in path.read_text()
    ]
    made.flip(str(of_cases.relative_to(made.root)), of_cases.read_text().index(".h5"))
    status, said = made.verify(monkeypatch, capsys)
    assert (status, said.count("not the bytes that were recorded")) == (1, 1) and of_cases.name in said
    made.flip(OUT)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{OUT}: not the bytes" in said and "`dvc repro --force ingest@mine`" in said


def test_a_damaged_object_of_an_earlier_commit_is_named_too(made, monkeypatch, capsys):
    old = made.object(OUT)
    made.write(OUT, "new\n")
    made.commit()
    made.flip(old)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{old}: not the bytes" in said and "dvc fetch --all-commits" in said
    assert made.verify(monkeypatch, capsys, "mine")[0] == 0


def test_out_and_object_that_are_one_file_are_read_once_and_both_named(tmp_path, monkeypatch, capsys):
    made = Made(tmp_path / "project", "[cache]\n    type = hardlink\n")
    kept = made.object(OUT)
    assert (made.root / kept).stat().st_nlink == 2
    made.flip(OUT)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert said.index(kept) < said.index(OUT + ":")  # the object goes first, or dvc would take it again
    folders = [made.root / folder for folder in ("data", "metrics", ".dvc/cache/files")]
    files = {path.stat().st_ino for folder in folders for path in folder.rglob("*") if path.suffix not in ("", ".dvc")}
    kept_files = {path.stat().st_ino for path in folders[2].rglob("*") if path.is_file()}
    assert f"{len(files | kept_files)} files" in said


def test_a_cache_elsewhere_is_found(tmp_path, monkeypatch, capsys):
    made = Made(tmp_path / "project", f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    kept = made.object(OUT).replace(".dvc/cache", "../shared")
    made.flip(kept)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{kept}: not the bytes" in said


def test_what_is_missing_or_new_or_of_another_kind_is_named(made, monkeypatch, capsys):
    (made.root / OUT).unlink()
    made.write("data/mine/cases/new.h5", "new")
    (made.root / SINGLE).unlink()
    (made.root / SINGLE).mkdir()
    made.write(SINGLE + "/a", "")
    shutil.rmtree(made.root / "data/raw/other")
    (made.root / made.object("data/mine/cases/1.h5")).unlink()
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    for line in (
        f"{OUT}: missing",
        "data/mine/cases/new.h5: not recorded",
        f"{SINGLE}: a folder, and was a file",
        "data/raw/other: missing",
        f"{made.object('data/mine/cases/1.h5')}: missing",
    ):
        assert line in said
    assert "6 differ" in said or "5 differ" in said


def test_a_pipe_in_the_place_of_a_file_does_not_make_it_wait_for_ever(made, monkeypatch, capsys):
    (made.root / SINGLE).unlink()
    os.mkfifo(made.root / SINGLE)
    status, said = made.verify(monkeypatch, capsys)
    assert status == 1
    assert f"{SINGLE}: can't be read (is no file)" in said


def test_one_dataset_alone_is_checked_where_it_is_named(made, monkeypatch, capsys):
    made.flip(ADDED)
    assert made.verify(monkeypatch, capsys, "mine")[0] == 0
    assert made.verify(monkeypatch, capsys, "other")[0] == 1
    with pytest.raises(SystemExit, match="no stage for the dataset nobodys"):
        made.verify(monkeypatch, capsys, "nobodys")


def test_a_torn_dvc_lock_is_one_message(made, monkeypatch, capsys):
    lock = made.root / "dvc.lock"
    lock.write_bytes(lock.read_bytes()[:300] + b"\0{")
    with pytest.raises(SystemExit, match="dvc.lock.*git checkout"):
        made.verify(monkeypatch, capsys)


def test_hashes_are_those_of_dvc_for_either_of_its_formats(tmp_path):
    (tmp_path / "a").write_bytes(b"one\r\ntwo\r\n")
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    os.link(tmp_path / "a", tmp_path / "b")
    hashes = Hashes(2)
    files = [(str(tmp_path / "a"), "md5"), (str(tmp_path / "b"), "md5"), (str(tmp_path / "a"), "md5-dos2unix")]
    hashes.read([*files, (str(tmp_path / "big"), "md5"), (str(tmp_path / "none"), "md5")])
    plain, unix = (hashlib.md5(text).hexdigest() for text in (b"one\r\ntwo\r\n", b"one\ntwo\n"))
    assert [hashes.found[file] for file in files] == [plain, plain, unix]
    assert hashes.found[str(tmp_path / "big"), "md5"] == hashlib.md5(big).hexdigest()
    assert isinstance(hashes.found[str(tmp_path / "none"), "md5"], FileNotFoundError)
    assert hashes.files == 3


def test_stages_of_a_study_are_of_the_dataset_that_studies_yaml_says(made):
    more = """
  member:
    foreach: [mine-fold0, other-mine]
    do:
      cmd: "true"
      outs: ["models/${item}"]
"""
    made.write("dvc.yaml", f"vars: [studies.yaml]\n{DVC_YAML}{more}")
    entry = "{name: fold0, fold: 0, dataset: %s}"
    members = f"members:\n  mine-fold0: {entry % 'mine'}\n  other-mine: {entry % 'other'}\n"
    made.write("studies.yaml", f"studies: {{}}\n{members}exports: {{}}\nexternals: {{}}\n")
    for name in ("mine-fold0", "other-mine"):
        made.write(f"models/{name}", name)
    made.commit()
    with made.repo() as repo:
        found = {record.path for record in recorded.recorded(repo, ["mine"])[0]}
    assert "models/mine-fold0" in found and "models/other-mine" not in found
