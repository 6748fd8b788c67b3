"""Folds: each case outside of the test split is held out once, groups whole, classes even, sites whole."""

import numpy as np
import pandas as pd
import pytest

from stages import folds as stage
from stages import split
from stages.lib import splits
from stages.lib.core.errors import UserError
from stages.lib.params.split import SplitParams
from stages.lib.params.study import StudyParams
from stages.lib.split import folding
from tests.split.test_sites import table as sites_table
from tests.split.test_split import cases, table_of


def deal(frame: pd.DataFrame, folds: int = 5, seed: int = 0) -> pd.Series:
    return pd.Series(folding.deal(table_of(frame), folds, seed), frame.index)


def run(folder, frame: pd.DataFrame, study: dict, **params) -> pd.DataFrame:
    """The stages split and folds; the cases with both."""
    frame = frame.sort_values("case").reset_index(drop=True)
    frame.to_csv(folder / "cases.csv", index=False)
    given = SplitParams(**params)
    split.main(folder / "cases.csv", folder / "split.csv", given)
    stage.main(folder / "cases.csv", folder / "split.csv", folder / "folds.csv", given, StudyParams(**study))
    both = [pd.read_csv(folder / name, dtype=str, keep_default_na=False) for name in ("split.csv", "folds.csv")]
    return both[0].merge(both[1], "left", "case", validate="1:1").assign(site=frame.get("labels.site"))


@pytest.mark.parametrize("folds", [2, 5, 10])
@pytest.mark.parametrize("per_group", [1, 4])
def test_every_class_is_spread_evenly_over_the_folds_and_groups_stay_whole(folds, per_group):
    frame = cases(400, per_group)
    frame["fold"] = deal(frame, folds)
    assert sorted(set(frame["fold"])) == list(range(folds))
    assert frame.groupby("group")["fold"].nunique().max() == 1
    shares = pd.crosstab(frame["label"], frame["fold"], normalize="index")
    assert (shares - 1 / folds).abs().max().max() < 0.06


def test_without_groups_no_two_folds_differ_by_more_than_a_case_of_a_class():
    frame = cases(203)
    counted = pd.crosstab(frame["label"], deal(frame))
    assert (counted.max(axis=1) - counted.min(axis=1)).max() <= 1


def test_nearly_all_cases_keep_their_fold_when_some_are_added():
    frame = cases(1000)
    before, after = deal(frame.iloc[:950]), deal(frame)
    assert (before == after.iloc[:950]).mean() > 0.9
    assert (deal(frame) == after).all()
    assert (deal(frame, seed=1) != after).mean() > 0.5


def test_the_order_of_the_rows_decides_nothing():
    frame = cases(300, 3)
    mixed = frame.sample(frac=1, random_state=0)
    assert (deal(mixed).sort_index() == deal(frame)).all()


def test_a_group_of_most_of_its_class_has_a_fold_for_itself_and_the_others_are_spread_over_the_rest():
    frame = pd.DataFrame({"case": [f"c{i:03d}" for i in range(200)], "label": ["a"] * 100 + ["b"] * 100})
    frame["group"] = frame["case"]
    frame.loc[:82, "group"] = "giant"
    frame["fold"] = deal(frame, 5)
    counted = pd.crosstab(frame["label"], frame["fold"])
    assert sorted(counted.loc["a"]) == [4, 4, 4, 5, 83]
    assert counted.loc["b"].tolist() == [20] * 5


def test_giants_of_two_classes_are_held_out_in_different_folds():
    frame = pd.DataFrame({"case": [f"c{i:03d}" for i in range(200)], "label": ["a"] * 100 + ["b"] * 100})
    frame["group"] = frame["case"]
    frame.loc[:59, "group"], frame.loc[100:159, "group"] = "giant a", "giant b"
    fold_of = deal(frame, 4)
    assert fold_of[0] != fold_of[100]


def test_a_class_of_fewer_groups_than_folds_is_told_and_one_of_a_single_group_is_an_error():
    frame = cases(60, weights=(0.9, 0.1, 0.0))
    rare = pd.DataFrame({"case": ["x1", "x2", "x3"], "group": ["x1", "x2", "x2"], "label": "rare"})
    both = pd.concat([frame, rare], ignore_index=True)
    counted = pd.crosstab(both["label"], fold_of := deal(both))
    found = folding.warnings(counted, np.bincount(fold_of))
    assert found == ["warning: classes that are not in all 5 folds, as their groups are too few: rare in 2"]
    with pytest.raises(UserError, match=r"class 'rare' is in fold \d alone.*needs cases of two groups"):
        deal(pd.concat([frame, rare.iloc[1:]], ignore_index=True))
    with pytest.raises(UserError, match=r"study.folds is 5: there are only 4 groups \(patients\)"):
        deal(cases(4))


def test_each_case_outside_of_the_test_split_is_in_one_fold_and_split_csv_is_that_of_no_study(tmp_path):
    frame = cases(200, 3)
    found = run(tmp_path, frame, {"folds": 5})
    text = (tmp_path / "split.csv").read_bytes()
    outside = found["split"] != "test"
    assert (found["fold"].notna() == outside).all() and set(found["fold"][outside]) == set("01234")
    assert found[outside].groupby("group")["fold"].nunique().max() == 1
    run(tmp_path, frame, {"seeds": (0, 1)})
    assert (tmp_path / "split.csv").read_bytes() == text


def test_seeds_alone_hold_out_the_validation_split(tmp_path):
    found = run(tmp_path, cases(200, 3), {"seeds": (0, 1)})
    assert (found["fold"] == "0").tolist() == (found["split"] == "validation").tolist()
    assert set(found["fold"][found["split"] == "train"]) == {""}
    with pytest.raises(UserError, match="has no validation case, on which trainings of several seeds are compared"):
        run(tmp_path, cases(200, 3), {"seeds": (0, 1)}, validation=0.0)


def test_with_as_many_folds_as_sites_each_site_is_left_out_once(tmp_path):
    found = run(tmp_path, sites_table(), {"folds": 4}, by="site", test=0.0)
    assert found.groupby("site")["fold"].unique().map(list).to_dict() == {
        "east": ["0"],
        "north": ["1"],
        "south": ["2"],
        "west": ["3"],
    }


def test_sites_of_the_test_split_are_in_no_fold_and_the_others_are_dealt_whole_and_evenly(tmp_path, capsys):
    found = run(tmp_path, sites_table(), {"folds": 2}, by="site", test_sites=("west",))
    outside = found[found["site"] != "west"]
    assert found["fold"][found["site"] == "west"].isna().all()
    assert outside.groupby("fold")["site"].unique().map(sorted).tolist() == [["north"], ["east", "south"]]
    assert "warning" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"study.folds is 4, and outside of the test split site has 3 value\(s\)"):
        run(tmp_path, sites_table(), {"folds": 4}, by="site", test_sites=("west",))


def test_the_only_site_that_is_not_the_test_split_is_dealt_to_folds_by_group(tmp_path, capsys):
    sites = sites_table({"north": 60, "south": 40})
    found = run(tmp_path, sites, {"folds": 5}, by="site", test_sites=("south",))
    assert "folds are of groups: outside of the test split all cases are of site 'north'" in capsys.readouterr().out
    north = found[found["site"] == "north"]
    assert north.groupby("group")["fold"].nunique().max() == 1
    assert north["fold"].value_counts().tolist() == [12] * 5
    assert found["fold"][found["site"] == "south"].isna().all()


def test_a_class_of_one_site_alone_is_an_error_that_names_it(tmp_path):
    frame = sites_table().assign(label=lambda rows: np.where(rows["labels.site"] == "east", "c", rows["label"]))
    with pytest.raises(UserError, match=r"class 'c' is in fold 0 alone.*\(of two sites, where split.by is set\)"):
        run(tmp_path, frame, {"folds": 4}, by="site", test=0.0)


def test_folds_of_very_different_size_are_told(tmp_path, capsys):
    run(tmp_path, sites_table({"big": 100, "small": 20, "tiny": 10}), {"folds": 3}, by="site", test=0.0)
    assert "warning: folds of 10 to 100 cases, as groups (patients, or whole sites" in capsys.readouterr().out


def test_folds_csv_that_no_stage_wrote_is_named(tmp_path):
    from stages.lib.core.errors import DamagedOut
    from stages.lib.studies import folds

    for text, said in (
        ("case,fold\nb,0\na,1\n", "the cases are not in order"),
        ("case,fold\na,x\n", "the fold is 'x': expected a number"),
        ("case\na\n", "it has no column fold"),
    ):
        (tmp_path / "folds.csv").write_text(text)
        with pytest.raises(DamagedOut, match=f"folds.csv.*{said}"):
            folds.read(tmp_path / "folds.csv")
    assert splits.NAME.itemsize == 16


@pytest.mark.parametrize(("groups", "folds"), [(2, 5), (3, 5), (2, 3), (3, 4), (7, 10)])
def test_classes_of_fewer_groups_than_folds_are_not_all_in_the_same_folds(groups, folds):
    rows = [(f"c{k}{i}", f"g{k}{i}", f"k{k}") for k in range(10) for i in range(groups)]
    dealt = deal(pd.DataFrame(rows, columns=["case", "group", "label"]), folds)
    sizes = np.bincount(dealt, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
