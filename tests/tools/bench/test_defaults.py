"""Training without choices against a plain recipe, on data of a moment."""

import pytest

from tests.raw_data import write_pictures
from tools.bench import defaults

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.slow
def test_both_sides_are_judged_on_the_same_test_split_and_the_peer_takes_no_longer(images_h5, tmp_path):
    ours, theirs = defaults.race("tiny", images_h5, tmp_path, 0, 1)
    assert ours.accuracy > 0.8 and theirs.accuracy >= 0
    rows = defaults.rows_of("tiny", [(ours, theirs)])
    assert [row.work for row in rows] == [f"{of}, tiny" for of in defaults.SCORES.values()]
    assert rows[0].ours == pytest.approx([100 * (1 - ours.accuracy)])
    assert rows[0].theirs == pytest.approx([100 * (1 - theirs.accuracy)])


def test_each_folder_is_a_task_made_without_choices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no demo dataset has been made
    write_pictures(tmp_path / "tasks" / "pets", each=8)
    found = defaults.tasks(tmp_path / "tasks", tmp_path / "out")
    assert list(found) == ["pets"] and found["pets"].exists()


def test_the_peers_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [defaults.rate(i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates.index(max(rates)) == pytest.approx(30, abs=1)
    assert rates[0] < 0.05 and rates[-1] == pytest.approx(0.0, abs=1e-9)
