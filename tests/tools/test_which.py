import pytest

from tests.raw_data import ingest, scan, write_pictures, write_series
from tools import which


@pytest.fixture
def done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "raw", each=2)
    (tmp_path / "raw/cat/broken.png").write_text("no picture")
    return ingest(tmp_path / "raw", tmp_path / "data" / "mine")


def test_a_case_leads_to_its_file_and_a_file_to_its_case(done, capsys):
    case = done.table["case"][0]
    with pytest.raises(SystemExit, match="0"):
        which.main([case[:6]])
    (line,) = capsys.readouterr().out.splitlines()
    dataset, name, path, label = line.split()
    assert (dataset, name, label) == ("mine", case, done.table["label"][0])
    with pytest.raises(SystemExit, match="0"):
        which.main([path])
    assert capsys.readouterr().out.splitlines() == [line]


def test_a_file_without_a_case_leads_to_the_reason_and_an_unknown_word_to_exit_1(done, capsys):
    with pytest.raises(SystemExit, match="1"):
        which.main(["broken", "nowhere"])
    printed = capsys.readouterr()
    assert "rejected: not_an_image" in printed.out and "'nowhere'" in printed.err


def test_every_slice_of_a_series_is_listed_and_no_file_twice(tmp_path):
    write_series(tmp_path / "raw/a", scan(5, seed=1))
    write_series(tmp_path / "raw/b", scan(4, seed=2), series="two")
    ingest(tmp_path / "raw", tmp_path / "data" / "mine")
    table = which.read(tmp_path / "data")
    assert len(table) == 9 and table["path"].is_unique and table["case"].nunique() == 2


def test_without_an_ingest_it_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="files.csv not found: run `dvc repro --force ingest@"):
        which.main(["x"])
