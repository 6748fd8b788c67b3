"""`split.freeze`: no frozen test case ever moves, and nothing of its group is trained on."""

import numpy as np
import pandas as pd
import pytest

from stages import split
from stages.lib.core.errors import UserError
from stages.lib.params.split import SplitParams
from stages.lib.split import freezing
from tests.split.test_given import table as given_table
from tests.split.test_sites import table as table_of_sites
from tests.split.test_split import cases, sized

FREEZE = "mine.csv"


def run(folder, table: pd.DataFrame, **params) -> pd.Series:
    """The split of each case, by its name."""
    table.sort_values("case").to_csv(folder / "cases.csv", index=False)
    split.main(folder / "cases.csv", folder / "split.csv", SplitParams(**params), folder / "frozen")
    return pd.read_csv(folder / "split.csv", dtype=str).set_index("case")["split"]


def freeze(folder, table: pd.DataFrame, **params) -> set[str]:
    """Writes down the test cases as they are dealt now; their names."""
    table.sort_values("case").to_csv(folder / "cases.csv", index=False)
    dealt = split.deal(folder / "cases.csv", SplitParams(**params), folder / "frozen")
    freezing.write(folder / "frozen" / FREEZE, dealt)
    return {name.decode() for name in dealt.case[dealt.rows("test")]}


def changed(table: pd.DataFrame, rng: np.random.Generator, step: int) -> pd.DataFrame:
    """Some cases gone, some relabelled, and new ones: of groups that are there, and of new groups."""
    table = table[rng.random(len(table)) > rng.choice([0.0, 0.1, 0.4])].reset_index(drop=True)
    relabelled = rng.random(len(table)) < rng.choice([0.0, 0.1, 0.5])
    table.loc[relabelled, "label"] = rng.choice(list("abc"), int(relabelled.sum()))
    groups = [
        *rng.choice(table["group"], int(rng.integers(0, 30))),
        *(f"n{step}{i}" for i in range(rng.integers(0, 200))),
    ]
    labels = rng.choice(list("abc"), len(groups))
    new = pd.DataFrame({"case": [f"n{step}{i:05d}" for i in range(len(groups))], "group": groups, "label": labels})
    return pd.concat([table, new], ignore_index=True)


@pytest.mark.parametrize("seed", range(20))
def test_added_removed_and_relabelled_data_and_another_seed_move_no_frozen_case(tmp_path, seed):
    rng = np.random.default_rng(seed)
    table = cases(300, int(rng.integers(1, 5)))
    frozen = freeze(tmp_path, table, seed=seed)
    groups = set(table["group"][table["case"].isin(frozen)])
    for step in range(4):
        table = changed(table, rng, step)
        found = run(tmp_path, table, freeze=FREEZE, seed=seed + step, validation=float(rng.choice([0.0, 0.1, 0.2])))
        split_of = table["case"].map(found)
        assert set(split_of[table["case"].isin(frozen)]) == {"test"}
        assert ((split_of == "test") == table["group"].isin(groups)).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_freezing_by_itself_changes_nothing(tmp_path, seed):
    """So that nothing is trained again for it."""
    rng = np.random.default_rng(seed)
    uneven = pd.concat([sized("a", np.ceil(rng.pareto(1.5, 90)).astype(int)), sized("b", [2, 1] * 40)])
    fractions = {"validation": float(rng.choice([0.0, 0.1, 0.15, 0.25])), "test": float(rng.choice([0.1, 0.15, 0.3]))}
    for table in (cases(int(rng.integers(60, 300)), int(rng.integers(1, 4))), uneven):
        before = run(tmp_path, table, seed=seed, **fractions)
        assert freeze(tmp_path, table, seed=seed, **fractions) == set(before.index[before == "test"])
        assert run(tmp_path, table, freeze=FREEZE, seed=seed, **fractions).equals(before)


def test_validation_keeps_its_share_of_grown_data(tmp_path):
    table = cases(200)
    freeze(tmp_path, table)
    grown = pd.concat([table, cases(1000).iloc[200:]], ignore_index=True)
    found = run(tmp_path, grown, freeze=FREEZE)
    assert (found == "test").sum() == pytest.approx(30, abs=2)
    assert (found == "validation").sum() == pytest.approx(150, abs=3)


def test_what_is_gone_and_what_joins_is_said(tmp_path, capsys):
    table = cases(100)
    frozen = sorted(freeze(tmp_path, table))
    groups = dict(zip(table["case"], table["group"], strict=True))
    gone, beside = frozen[0], frozen[1]
    new = pd.DataFrame({"case": ["x1", "x2"], "group": [groups[gone], groups[beside]], "label": ["a", "b"]})
    capsys.readouterr()
    found = run(tmp_path, pd.concat([table[table["case"] != gone], new]), freeze=FREEZE)
    assert found["x1"] == found["x2"] == "test"
    said = (
        f"{len(frozen) - 1} frozen test cases, 1 more of {tmp_path}/frozen/mine.csv are gone; 2 other case(s) of their"
    )
    assert said in capsys.readouterr().out


def test_a_class_that_came_later_has_no_frozen_case_which_is_said(tmp_path, capsys):
    table = cases(100)
    freeze(tmp_path, table)
    new = sized("z", [1] * 20)
    found = run(tmp_path, pd.concat([table, new]), freeze=FREEZE)
    assert set(found[new["case"]]) == {"train", "validation"}
    printed = capsys.readouterr().out
    assert "warning: no frozen test case is of class z: nothing is measured of it" in printed
    assert "z 0: their scores can say little; add cases\n" in printed  # split.test decides nothing here


@pytest.mark.parametrize(
    "given",
    [
        given_table(train=(40, 40), validation=(8, 8), test=(10, 10)),
        given_table(train=(40, 40), test=(10, 10)),
        given_table(train=(60, 60)),
        given_table(train=(60, 60), validation=(10, 10)),
        given_table(test=(12, 12), open=(60, 60)),
        given_table(train=(30, 30), open=(60, 60)),
    ],
)
def test_a_given_split_and_a_frozen_one_go_together_and_freezing_changes_nothing(tmp_path, given):
    before = run(tmp_path, given)
    frozen = freeze(tmp_path, given)
    assert frozen == set(before.index[before == "test"])
    assert run(tmp_path, given, freeze=FREEZE).equals(before)
    other = run(tmp_path, given, freeze=FREEZE, seed=7)
    assert set(other.index[other == "test"]) == frozen
    kept = given[given["split"] != ""]
    if {"validation", "test"} <= set(kept["split"]):
        assert (kept["case"].map(other) == kept["split"]).all()


def test_a_frozen_case_that_the_raw_data_put_elsewhere_is_an_error(tmp_path):
    table = given_table(open=(60, 60))
    one = min(freeze(tmp_path, table))
    table.loc[table["case"] == one, "split"] = "train"
    table.loc[table["case"] == "0000", "split"] = "test"
    with pytest.raises(
        UserError, match=rf"1 case\(s\) of frozen test groups, as {one} .*, are in another split by the raw"
    ):
        run(tmp_path, table, freeze=FREEZE)


def test_frozen_sites_stay_left_out_and_their_new_cases_join_them(tmp_path):
    table = table_of_sites()
    params = {"by": "site", "test_sites": ("west",)}
    frozen = freeze(tmp_path, table, **params)
    assert frozen == set(table["case"][table["labels.site"] == "west"])
    before = run(tmp_path, table, **params)
    assert run(tmp_path, table, freeze=FREEZE, **params).equals(before)
    new = pd.DataFrame({"case": ["x1", "x2"], "group": ["x1", "x2"], "label": ["a", "b"]})
    grown = pd.concat([table, new.assign(**{"labels.site": ["west", "north"]})])
    found = run(tmp_path, grown, freeze=FREEZE, by="site", seed=5)
    assert found["x1"] == "test" and found["x2"] != "test"
    assert set(found[list(frozen)]) == {"test"}


def test_a_list_that_is_missing_damaged_or_of_other_data_is_an_error_with_a_way_out(tmp_path):
    table = cases(60)
    with pytest.raises(UserError, match=r"frozen/mine.csv not found: `python -m tools.freeze` .*`git checkout` brings"):
        run(tmp_path, table, freeze=FREEZE)
    freeze(tmp_path, table)
    path = tmp_path / "frozen" / FREEZE
    sound = path.read_text()
    for damaged, message in (
        ("case\nx\n", "columns are case, not case, group"),
        (sound + sound.splitlines()[1] + "\n", "is there twice"),
        (sound[:-1], "its last line is cut short"),
        ("case,group\nx,y\n", "none of its 1 frozen test cases is among the 60 cases"),
        (sound + "é,g\n", "is not of 1 to 16 ASCII characters"),
    ):
        path.write_text(damaged)
        with pytest.raises(UserError, match=f"mine.csv.*{message}"):
            run(tmp_path, table, freeze=FREEZE)


@pytest.mark.parametrize("name", ["../x.csv", "a/b.csv", "mine", ".csv", "", "x.txt"])
def test_a_list_is_a_csv_file_of_the_folder(name):
    with pytest.raises(ValueError, match="expected the name of a file in frozen/, such as mine.csv"):
        SplitParams(freeze=name)
