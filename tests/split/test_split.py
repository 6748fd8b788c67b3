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


def table_of(frame: pd.DataFrame) -> splits.Table:
    """Rows of case, group, label, and of split if that is there."""
    classes = sorted(set(frame["label"]))
    names = ("", *splits.SPLITS)
    given = frame["split"].map(names.index) - 1 if "split" in frame else np.full(len(frame), splits.OPEN)
    return splits.Table(
        np.array(frame["case"].tolist(), splits.NAME),
        np.array(frame["group"].tolist(), splits.NAME),
        classes,
        frame["label"].map(classes.index).to_numpy(np.int32),
        np.asarray(given, np.int8),
    )


def assign(frame: pd.DataFrame, fractions=FRACTIONS, seed: int = 0) -> pd.Series:
    found = dealing.assign(table_of(frame), fractions, seed)
    return pd.Series([splits.SPLITS[i] for i in found], frame.index)


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
    table["split"] = assign(table)
    found = pd.crosstab(table["label"], table["split"], normalize="index")
    for name, fraction in FRACTIONS.items():
        assert (found[name] - fraction).abs().max() < 0.04


def test_a_group_is_never_on_two_sides():
    table = cases(200, 6)
    table["split"] = assign(table, seed=3)
    assert table.groupby("group")["split"].nunique().max() == 1
    splits.assert_no_leakage(table_of(table))


def test_groups_of_every_size_are_on_every_side():
    table = cases(2000, 2)
    table["split"] = assign(table)
    sizes = table.groupby("group").agg(size=("case", "size"), split=("split", "first"))
    assert (sizes.groupby("split")["size"].mean() > 1.4).all()
    assert (sizes.groupby("split")["size"].mean() < 1.6).all()


def sized(label: str, sizes, first: int = 0) -> pd.DataFrame:
    """A class in groups of these sizes."""
    rows = [
        (f"{label}{g:05d}{i:05d}"[-16:], f"{label}{g:05d}", label) for g, n in enumerate(sizes, first) for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["case", "group", "label"])


def counts(table: pd.DataFrame, label: str, **given) -> dict[str, int]:
    return assign(table, **given)[table["label"] == label].value_counts().to_dict()


@pytest.mark.parametrize("seed", range(8))
def test_one_group_of_83_percent_of_a_class_goes_to_training_and_the_others_are_shared(seed):
    table = pd.concat([sized("a", [83] + [1] * 17), sized("b", [1] * 60)], ignore_index=True)
    assert counts(table, "a", seed=seed) == {"train": 83, "validation": 8, "test": 9}
    uneven = {"train": 0.75, "validation": 0.05, "test": 0.2}
    assert counts(table, "a", fractions=uneven, seed=seed) == {"train": 83, "validation": 3, "test": 14}


@pytest.mark.parametrize("seed", range(8))
def test_a_group_of_83_percent_of_a_class_goes_to_training_where_most_of_it_is_of_another_class(seed):
    mixed = pd.concat([sized("a", [83]), sized("b", [150])], ignore_index=True).assign(group="mixed")
    table = pd.concat([mixed, sized("a", [1] * 17, 9), sized("b", [2] * 500, 9)], ignore_index=True)
    assert set(assign(table, seed=seed)[table["group"] == "mixed"]) == {"train"}


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_met_wherever_smaller_groups_can_meet_them(seed):
    sizes = [330, 340, *np.random.default_rng(seed).integers(1, 5, 150)]
    table = pd.concat([sized("a", sizes), sized("b", [1] * 50)], ignore_index=True)
    found = pd.Series(counts(table, "a", seed=seed)) / sum(sizes)
    for name, fraction in FRACTIONS.items():
        assert abs(found[name] - fraction) < 0.02


def test_groups_of_one_size_are_dealt_by_their_hashes_whatever_that_size_is():
    found = []
    for size in (1, 40):
        table = pd.concat([sized(label, [size] * n) for label, n in (("a", 3), ("b", 5), ("c", 9))], ignore_index=True)
        found.append(assign(table).groupby(table["group"]).first().to_dict())
    assert found[0] == found[1] and set(found[0].values()) == set(splits.SPLITS)


def test_a_group_that_is_too_large_for_validation_alone_may_be_for_the_test():
    fractions = {"train": 0.57, "validation": 0.03, "test": 0.4}
    sides = set()
    for seed in range(30):
        table = pd.concat([sized("a", [15] + [1] * 85), sized("b", [1] * 60)], ignore_index=True)
        found = assign(table, fractions, seed)
        assert abs((found[table["label"] == "a"] == "validation").sum() - 3) <= 1
        sides.add(found[table["group"] == "a00000"].iloc[0])
    assert sides == {"train", "test"}


@pytest.mark.parametrize("seed", range(25))
def test_new_cases_move_no_more_than_the_groups_at_the_borders(seed):
    """Whatever the sizes: what changes sides is about as much as was added, and the groups at the two borders."""
    rng = np.random.default_rng(seed)
    sizes = np.ceil(rng.pareto(1.2, 120)).astype(int).clip(1, 400)
    before = pd.concat([sized("a", sizes), sized("b", [1] * 80)], ignore_index=True)
    added = [int(n) for n in rng.integers(1, 4, int(rng.integers(1, 4)))]
    after = pd.concat([before, sized("a", added, 500)], ignore_index=True)
    first, again = assign(before, seed=seed), assign(after, seed=seed).iloc[: len(before)]
    moved = (first != again) & (before["label"] == "a")
    largest = before[moved].groupby("group").size().max() if moved.any() else 0
    assert moved.sum() <= 3 * (sum(added) + largest)
    assert before[moved]["group"].nunique() <= 2 * sum(added) + 6


def test_what_large_groups_leave_unmet_is_said_with_figures(tmp_path, capsys):
    table = pd.concat([sized("a", [83] + [1] * 17), sized("b", [2] * 30)], ignore_index=True).sort_values("case")
    table.to_csv(tmp_path / "cases.csv", index=False)
    split.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams())
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "asked for" in line]
    assert "15% validation and 15% test were asked for" in said
    assert "a: 8 validation and 9 test of 100, the largest group has 83;" in said and "b:" not in said
    cases(60).to_csv(tmp_path / "cases.csv", index=False)
    split.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams())
    assert "asked for" not in capsys.readouterr().out


def test_a_group_of_several_classes_stays_whole():
    table = cases(100, 5)
    table["label"] = np.random.default_rng(1).choice(list("ab"), len(table))
    table["split"] = assign(table)
    assert table.groupby("group")["split"].nunique().max() == 1


def test_a_leak_is_noticed():
    leaking = pd.DataFrame({"case": ["1", "2"], "group": ["g", "g"], "label": ["a", "b"], "split": ["train", "test"]})
    with pytest.raises(AssertionError, match="group g is in two splits"):
        splits.assert_no_leakage(table_of(leaking))


def test_the_split_follows_from_the_seed_and_not_from_the_order_of_the_cases():
    table = cases(100, 3)
    shuffled = table.sample(frac=1, random_state=1)
    first, again, other = (assign(t, FRACTIONS, s) for t, s in ((table, 0), (shuffled, 0), (table, 1)))
    assert first.equals(again.sort_index())
    assert not first.equals(other)


def test_few_cases_change_sides_when_some_are_added_or_relabelled():
    before = cases(400, 3)
    grown = pd.concat([before, cases(440, 3).iloc[-60:].assign(group=lambda t: "new" + t["group"])], ignore_index=True)
    relabelled = before.copy()
    changed = np.random.default_rng(0).random(len(before)) < 0.1
    relabelled.loc[changed, "label"] = "a"
    first = assign(before)
    for table in (grown, relabelled):
        again = assign(table).iloc[: len(before)]
        assert (again.to_numpy() == first.to_numpy()).mean() > 0.9


def test_a_fraction_of_zero_leaves_that_split_empty():
    found = assign(cases(60), {"train": 0.8, "validation": 0.2, "test": 0.0})
    assert set(found) == {"train", "validation"}


def test_a_class_of_too_few_patients_is_named():
    table = pd.DataFrame({"case": list("abcdef"), "group": list("abcdee"), "label": ["x"] * 4 + ["rare"] * 2})
    with pytest.raises(UserError, match="class 'rare' has 1 group.* train, validation, test"):
        assign(table)


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match="needs two classes, the cases have but 'a': .* a labels.csv at its top"):
        assign(cases(10, weights=(1, 0, 0)))


def test_the_stage_writes_one_row_a_case_and_keeps_labels_that_look_like_numbers_or_nothing(tmp_path):
    table = cases(60)
    table["label"] = table["label"].map({"a": "007", "b": "NA", "c": "1.50"})
    table.to_csv(tmp_path / "cases.csv", index=False)
    split.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams())
    assert (tmp_path / "split.csv").read_text().startswith("case,group,label,split\n")
    written = splits.read(tmp_path / "split.csv")
    assert [written.classes[label] for label in written.label_of] == table["label"].tolist()


def test_labels_that_a_spreadsheet_would_evaluate_are_guarded_in_the_files_and_the_same_after_them(tmp_path):
    write_pictures(tmp_path / "raw", classes=("=1+1", "-1", "@crack", "'a"), each=4)
    ingested = ingest(tmp_path / "raw", tmp_path / "out")
    split.main(ingested.cases_csv, tmp_path / "split.csv", SplitParams(validation=0.25, test=0.25))
    for path in (ingested.cases_csv, tmp_path / "split.csv"):
        assert set(pd.read_csv(path, dtype=str)["label"]) == {"'=1+1", "-1", "'@crack", "'a"}
    table = splits.read(tmp_path / "split.csv")
    assert set(table.classes) == set(ingested.counts["classes"]) == {"=1+1", "-1", "@crack", "'a"}


def test_groups_whose_hashes_begin_alike_are_ordered_by_the_rest(monkeypatch):
    monkeypatch.setattr(dealing, "_hash", lambda seed, group: b"12345678" + group[::-1])
    groups = np.array([b"a3", b"b1", b"c2"])
    assert dealing._in_order_of_hashes(groups, 0).tolist() == [1, 2, 0]
