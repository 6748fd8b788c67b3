import numpy as np
import pandas as pd
import pytest

from stages import split
from stages.lib import splits
from stages.lib.core.errors import UserError
from stages.lib.params.split import SplitParams
from stages.lib.split import dealing
from tests.raw_data import ingest, write_pictures

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def cases(groups: int, per_group: int = 1, weights=(0.6, 0.3, 0.1)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labels = rng.choice(list("abc"), groups, p=weights)
    return pd.DataFrame(
        [
            (f"c{g:04d}{i}", f"g{g:04d}", labels[g])
            for g in range(groups)
            for i in range(rng.integers(1, per_group + 1))
        ],
        columns=["case", "group", "label"],
    )


@pytest.mark.parametrize("per_group", [1, 4])
def test_every_class_gets_its_fraction_of_every_split(per_group):
    table = cases(400, per_group)
    table["split"] = dealing.assign(table, FRACTIONS, seed=0)
    found = pd.crosstab(table["label"], table["split"], normalize="index")
    for name, fraction in FRACTIONS.items():
        assert (found[name] - fraction).abs().max() < 0.04


def test_a_group_is_never_on_two_sides():
    table = cases(200, 6)
    table["split"] = dealing.assign(table, FRACTIONS, seed=3)
    assert table.groupby("group")["split"].nunique().max() == 1
    splits.assert_no_leakage(table)


def test_groups_of_every_size_are_on_every_side():
    table = cases(2000, 2)
    table["split"] = dealing.assign(table, FRACTIONS, seed=0)
    sizes = table.groupby("group").agg(size=("case", "size"), split=("split", "first"))
    assert (sizes.groupby("split")["size"].mean() > 1.4).all()
    assert (sizes.groupby("split")["size"].mean() < 1.6).all()


def test_a_group_of_several_classes_stays_whole():
    table = cases(100, 5)
    table["label"] = np.random.default_rng(1).choice(list("ab"), len(table))
    table["split"] = dealing.assign(table, FRACTIONS, seed=0)
    assert table.groupby("group")["split"].nunique().max() == 1


def test_a_leak_is_noticed():
    leaking = pd.DataFrame({"group": ["g", "g"], "split": ["train", "test"]})
    with pytest.raises(AssertionError, match="group g is in two splits"):
        splits.assert_no_leakage(leaking)


def test_the_split_follows_from_the_seed_and_not_from_the_order_of_the_cases():
    table = cases(100, 3)
    shuffled = table.sample(frac=1, random_state=1)
    first, again, other = (dealing.assign(t, FRACTIONS, s) for t, s in ((table, 0), (shuffled, 0), (table, 1)))
    assert first.equals(again.sort_index())
    assert not first.equals(other)


def test_few_cases_change_sides_when_some_are_added_or_relabelled():
    before = cases(400, 3)
    grown = pd.concat([before, cases(440, 3).iloc[-60:].assign(group=lambda t: "new" + t["group"])], ignore_index=True)
    relabelled = before.copy()
    changed = np.random.default_rng(0).random(len(before)) < 0.1
    relabelled.loc[changed, "label"] = "a"
    first = dealing.assign(before, FRACTIONS, seed=0)
    for table in (grown, relabelled):
        again = dealing.assign(table, FRACTIONS, seed=0).iloc[: len(before)]
        assert (again.to_numpy() == first.to_numpy()).mean() > 0.9


def test_a_fraction_of_zero_leaves_that_split_empty():
    found = dealing.assign(cases(60), {"train": 0.8, "validation": 0.2, "test": 0.0}, seed=0)
    assert set(found) == {"train", "validation"}


def test_a_class_of_too_few_patients_is_named():
    table = pd.DataFrame({"case": list("abcdef"), "group": list("abcdee"), "label": ["x"] * 4 + ["rare"] * 2})
    with pytest.raises(UserError, match="class 'rare' has 1 group.* train, validation, test"):
        dealing.assign(table, FRACTIONS, seed=0)


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match="needs two classes, the cases have but 'a': .* a labels.csv at its top"):
        dealing.assign(cases(10, weights=(1, 0, 0)), FRACTIONS, seed=0)


def test_the_stage_writes_one_row_a_case_and_keeps_labels_that_look_like_numbers_or_nothing(tmp_path):
    table = cases(60)
    table["label"] = table["label"].map({"a": "007", "b": "NA", "c": "1.50"})
    table.to_csv(tmp_path / "cases.csv", index=False)
    split.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams())
    written = splits.read(tmp_path / "split.csv")
    assert written.columns.tolist() == ["case", "group", "label", "split"]
    assert written["label"].tolist() == table["label"].tolist()


def test_labels_that_a_spreadsheet_would_evaluate_are_guarded_in_the_files_and_the_same_after_them(tmp_path):
    write_pictures(tmp_path / "raw", classes=("=1+1", "-1", "@crack", "'a"), each=4)
    ingested = ingest(tmp_path / "raw", tmp_path / "out")
    split.main(ingested.cases_csv, tmp_path / "split.csv", SplitParams(validation=0.25, test=0.25))
    for path in (ingested.cases_csv, tmp_path / "split.csv"):
        assert set(pd.read_csv(path, dtype=str)["label"]) == {"'=1+1", "-1", "'@crack", "'a"}
    table = splits.read(tmp_path / "split.csv")
    assert set(table["label"]) == set(ingested.counts["classes"]) == {"=1+1", "-1", "@crack", "'a"}
