import json

import numpy as np
import pytest
from PIL import Image

from stages.lib import params
from stages.lib.core.errors import UserError
from tools.bench import end_to_end
from tools.bench.end_to_end import ABSENT, CHANGES, PEERS, Peer, Round, Run, block, lay_out, rows, run_peer


@pytest.fixture
def few(monkeypatch):
    """Few pictures, and a training of one epoch."""
    monkeypatch.setattr(end_to_end, "PARTS", {"train": 4, "val": 2, "test": 3})
    monkeypatch.setattr(end_to_end, "TASK", end_to_end.TASK | {"epochs": 1, "batch_size": 4})


def pictures(folder, number: int, side: int = 8) -> None:
    for label in "ab":
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.fromarray(np.full((side, side, 3), i, np.uint8)).save(folder / label / f"{i}.png")


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def round_of(seconds: float, theirs: float | str) -> Round:
    """Each peer with the same result, but for a text: it has none, and is fastai."""
    results: dict[str, Run | str] = {name: Run(40.0, 0.75) for name in PEERS}
    results["timm"] = Run(30.0, 0.5)
    results["fastai"] = Run(theirs, 0.5) if isinstance(theirs, float) else theirs
    return Round(Run(seconds, 0.5), dict.fromkeys(CHANGES, 3.0), results)


def test_given_pictures_are_dealt_by_class_and_none_is_in_two_parts(tmp_path, few):
    pictures(tmp_path / "given", 10)
    assert lay_out(tmp_path / "given", tmp_path / "made") == 2
    assert len(names(tmp_path / "made/train")) == 8 and len(names(tmp_path / "made/val")) == 4
    parts = [set(names(tmp_path / "made" / part)) for part in end_to_end.PARTS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 18


def test_pictures_are_made_where_none_are_given(tmp_path, few):
    assert lay_out(None, tmp_path) == end_to_end.CLASSES
    made = names(tmp_path)
    assert len(made) == 9 * end_to_end.CLASSES
    assert len({(tmp_path / name).read_bytes() for name in made}) == len(made)


def test_too_few_pictures_or_several_sizes_are_refused(tmp_path, few):
    pictures(tmp_path / "few", 8)
    with pytest.raises(UserError, match="few/a has too few pictures: expected 9"):
        lay_out(tmp_path / "few", tmp_path / "made")
    pictures(tmp_path / "sizes", 9)
    pictures(tmp_path / "sizes", 1, side=9)
    with pytest.raises(UserError, match="have 2 sizes: expected one"):
        lay_out(tmp_path / "sizes", tmp_path / "made_too")


def test_the_block_and_its_changes_are_valid_and_each_change_changes_it():
    blocks = [block(1, 2, change) for change in CHANGES.values()]
    for one in blocks:
        for name, section in one.items():
            params.check(params.SECTIONS[name], section)
    assert blocks[0] == block(1, 2) and blocks[0]["train"]["seed"] == 1
    assert [one == blocks[0] for one in blocks] == [True, *[False] * (len(CHANGES) - 1)]


def test_every_peer_has_a_row_for_seconds_and_one_for_errors():
    found = rows([round_of(20.0, 60.0), round_of(10.0, 50.0)])
    fastai = [of for of in found if of.peer == "fastai"]
    assert [(of.ours, of.theirs, of.unit) for of in fastai] == [
        ([20.0, 10.0], [60.0, 50.0], "s"),
        ([50.0, 50.0], [50.0, 50.0], "%"),
    ]
    assert {of.peer for of in found} >= {peer.name for peer in PEERS.values()} | set(ABSENT)


def test_a_peer_without_a_result_in_one_round_has_none_and_says_why():
    found = rows([round_of(20.0, 60.0), round_of(10.0, "failed: no memory")])
    assert [(of.theirs, of.absent) for of in found if of.peer == "fastai"] == [([], "failed: no memory")] * 2


def test_reruns_are_against_the_quickest_script():
    reruns = rows([round_of(20.0, 31.0)])[-len(CHANGES) :]
    assert [(of.ours, of.peer, of.theirs) for of in reruns] == [([3.0], "timm, all of it", [30.0])] * len(CHANGES)


def test_a_peer_that_is_not_installed_is_not_run_and_says_how_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(PEERS, "other", Peer("Other", "no_such_package", "by hand"))
    assert run_peer("other", tmp_path, tmp_path / "out", 0, 1) == "not installed: by hand"
    assert not (tmp_path / "out").exists()


def test_a_script_that_fails_says_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(end_to_end, "SCRIPT", "no_such_script")
    said = run_peer("plain", tmp_path, tmp_path / "out", 0, 1)
    assert isinstance(said, str) and said.startswith("failed: ") and said.endswith("No module named no_such_script")


@pytest.mark.slow
def test_the_plain_script_makes_a_checked_file(tmp_path, few):
    lay_out(None, tmp_path / "pictures")
    done = run_peer("plain", tmp_path / "pictures", tmp_path / "out", 0, 1)
    assert isinstance(done, Run) and 0 <= done.accuracy <= 1, done
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (tmp_path / "out/model.onnx").exists() and 0 <= result["difference"] < end_to_end.TOLERANCE
