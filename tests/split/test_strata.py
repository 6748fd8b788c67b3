"""Cases that are of no one class are dealt alike, too: each label and the whole range of a number in every split."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages import split as split_stage
from stages.lib import splits, targets
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.params.split import SplitParams
from stages.lib.split import amounts, dealing, folding, freezing, strata

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
NAMES = ("common", "half", "rare", "rarest")


def names(number: int, of: str = "c") -> np.ndarray:
    return np.array([f"{of}{i:08d}" for i in range(number)], splits.NAME)


def of_labels(number: int, seed: int = 0) -> splits.Table:
    rng = np.random.default_rng(seed)
    severity = rng.random((number, 1))  # labels go together, as findings of the sick do
    values = (rng.random((number, 4)) * 0.6 + severity * 0.4 > [0.3, 0.5, 0.75, 0.88]).astype(np.float32)
    values[rng.random((number, 4)) < 0.05] = np.nan
    target = targets.Target("multilabel", NAMES)
    case = names(number)
    none = np.zeros(number, np.int32)
    return splits.Table(case, case, ["multilabel"], none, np.full(number, splits.OPEN, np.int8), target, values)


def of_numbers(number: int, seed: int = 0) -> splits.Table:
    values = np.random.default_rng(seed).lognormal(0, 1, (number, 1)).astype(np.float32)
    case = names(number)
    none, split_of = np.zeros(number, np.int32), np.full(number, splits.OPEN, np.int8)
    return splits.Table(case, case, ["size"], none, split_of, targets.Target("regression", ("size",), "mm"), values)


def shares(cases: splits.Table, split_of: np.ndarray) -> np.ndarray:
    """Of the cases with each label, the fraction in validation and in test: (labels, 2)."""
    there = cases.values == 1
    return np.array([[(there[:, k] & (split_of == s)).sum() / there[:, k].sum() for s in (1, 2)] for k in range(4)])


@pytest.mark.parametrize("seed", range(5))
def test_every_label_has_about_the_same_share_of_each_split(seed):
    cases = of_labels(2000)
    found = np.abs(shares(cases, dealing.assign(cases, FRACTIONS, seed)) - 0.15)
    assert found[3].max() < 1 / (cases.values[:, 3] == 1).sum(), "the rarest is dealt first, to less than a case"
    assert found.max() < 0.03


def test_labels_are_spread_better_than_by_chance():
    cases = of_labels(600)
    dealt = [np.abs(shares(cases, dealing.assign(cases, FRACTIONS, seed)) - 0.15).mean() for seed in range(20)]
    chance = []
    for seed in range(20):
        drawn = np.random.default_rng(seed).choice(3, len(cases), p=[0.7, 0.15, 0.15])
        chance.append(np.abs(shares(cases, drawn) - 0.15).mean())
    assert np.mean(dealt) < 0.6 * np.mean(chance)


@pytest.mark.parametrize("seed", range(5))
def test_a_number_has_its_whole_range_in_each_split(seed):
    cases = of_numbers(1000)
    split_of = dealing.assign(cases, FRACTIONS, seed)
    whole = np.quantile(cases.values[:, 0], [0.1, 0.5, 0.9])
    for split in range(3):
        of_split = np.quantile(cases.values[split_of == split, 0], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(np.log(of_split), np.log(whole), atol=0.25)
        assert abs((split_of == split).mean() - [0.7, 0.15, 0.15][split]) < 0.01


@pytest.mark.parametrize(("number", "most"), [(30, 0.25), (60, 0.12), (100, 0.08), (300, 0.06)])
def test_few_numbers_are_spread_much_better_than_by_chance_and_in_the_shares_that_were_asked_for(number, most):
    """The Kolmogorov-Smirnov distance of validation and test from all; by chance it is 0.37, 0.26, 0.21 and 0.11."""
    cases, found = of_numbers(number, 1), []
    values = cases.values[:, 0]
    for seed in range(20):
        split_of = dealing.assign(cases, FRACTIONS, seed)
        for split in (1, 2):
            own = np.sort(values[split_of == split])
            assert abs(len(own) / number - 0.15) < 0.02
            ranks = np.arange(1, number + 1) / number
            found.append(np.abs(np.searchsorted(own, np.sort(values), side="right") / len(own) - ranks).max())
    assert np.mean(found) < most


def test_common_labels_are_spread_as_evenly_as_rare_ones():
    """Measured in points: 0.18, 0.21, 1.0 and 1.3; of the rarest label alone 0.39, 0.47, 1.0 and 1.3."""
    off = [
        np.abs(shares(cases, dealing.assign(cases, FRACTIONS, seed)) - 0.15).mean(axis=1)
        for cases in (of_labels(600, 0), of_labels(600, 1), of_labels(600, 2))
        for seed in range(20)
    ]
    assert (np.mean(off, axis=0) < [0.003, 0.003, 0.013, 0.016]).all()


def test_a_stratum_is_named_by_the_labels_that_its_cases_have_and_have_not():
    cases = of_labels(600)
    found = strata.stratified(cases, 0.15)
    there = cases.values == 1
    for k, name in enumerate(found.classes):
        own = there[found.label_of == k]
        assert len(own) and (not own.any() if name == strata.NOTHING else True)
        for part in name.split(", ") if name else ():
            label = NAMES.index(part.removeprefix("not "))
            assert (own[:, label] == (not part.startswith("not "))).all()
    assert len(found.classes) > len(NAMES) + 1
    many = strata.stratified(cases, 0.0)
    assert sorted(many.classes) == sorted([strata.NOTHING, *NAMES]), "nothing is dealt: by the rarest label alone"


def test_labels_and_not_their_strata_are_what_messages_count():
    """Two patients have all of a rare label, and most cases have none: a message has no line without a name."""
    there = np.zeros((60, 2), np.float32)
    there[:20, 0] = there[:30, 1] = 1
    groups = np.array([f"p{i:02d}" for i in np.repeat(np.arange(42), [10, 10] + [1] * 40)], splits.NAME)
    target = targets.Target("multilabel", ("a", "b"))
    table = replace(of_labels(60), group=groups, values=there, target=target)
    dealt = table.with_splits(np.repeat(np.arange(3), [40, 10, 10]))
    said = amounts.unmet(strata.stratified(dealt, 0.15), {"train": 0.7, "validation": 0.15, "test": 0.15})
    assert said == [
        "warning: 15% validation and 15% test were asked for, and groups stay whole: a: 0 validation and 0 test of 20, "
        "the largest group has 10; b: 0 validation and 0 test of 30, the largest group has 10; add groups, or, if they "
        "are not the true ones, say which files belong together (labels.csv's column group, ingest.group)"
    ]
    folds = strata.tally(table, np.repeat([0, 1, -1], 20), pd.Index(range(2), name="fold"))
    assert folds.to_dict("split")["data"] == [[20, 0], [0, 20], [20, 10], [0, 10]]
    assert folds.index.tolist() == ["a", "a: not", "b", "b: not"]


@pytest.mark.parametrize("make", [of_labels, of_numbers])
def test_nearly_all_cases_keep_their_split_when_cases_are_added(make):
    many = make(1000)
    few = many.select(np.arange(1000) < 950)
    before, after = dealing.assign(few, FRACTIONS, 0), dealing.assign(many, FRACTIONS, 0)[:950]
    assert (before != after).mean() < 0.04


@pytest.mark.parametrize("make", [of_labels, of_numbers])
def test_groups_stay_whole(make):
    cases = make(600)
    cases = replace(cases, group=names(200, "g")[np.random.default_rng(0).integers(0, 200, 600)])
    split_of = dealing.assign(cases, FRACTIONS, 0)
    for group in np.unique(cases.group):
        assert len(np.unique(split_of[cases.group == group])) == 1
    assert [abs((split_of == s).mean() - FRACTIONS[splits.SPLITS[s]]) < 0.05 for s in range(3)] == [True] * 3


@pytest.mark.parametrize("number", [3, 5, 12])
def test_few_numbers_are_dealt_too(number):
    split_of = dealing.assign(of_numbers(number), FRACTIONS, 0)
    assert set(split_of.tolist()) == {0, 1, 2}


def test_equal_numbers_are_one_stratum():
    cases = of_numbers(100)
    cases = replace(cases, values=np.ones((100, 1), np.float32))
    assert len(strata.stratified(cases, 0.15).classes) <= 2
    assert np.bincount(dealing.assign(cases, FRACTIONS, 0)).tolist() == [70, 15, 15]


def test_a_label_that_training_could_not_learn_is_an_error():
    cases = of_labels(100)
    values = np.array(cases.values)
    values[:, 3] = 0
    with pytest.raises(UserError, match="'rarest' has no training case with it: add cases, or take it out"):
        strata.check_training(replace(cases, values=values, split_of=np.zeros(100, np.int8)))
    values[:, 3] = 1
    with pytest.raises(UserError, match="'rarest' has no training case without it"):
        strata.check_training(replace(cases, values=values, split_of=np.zeros(100, np.int8)))


@pytest.mark.parametrize("make", [of_labels, of_numbers])
def test_targets_and_weights_come_back_from_split_csv_as_they_were(tmp_path, make, capsys):
    cases = replace(make(300), weight=np.random.default_rng(1).random(300).astype(np.float32))
    open_ = (block.drop(columns="split").assign(split="") for block in cases.blocks())
    outs.write_csv(tmp_path / "cases.csv", open_)
    split_stage.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams())
    found = splits.read(tmp_path / "split.csv")
    assert found.target == cases.target
    np.testing.assert_array_equal(found.values, cases.values)
    np.testing.assert_array_equal(found.weight, cases.weight)
    assert ("rare: not" in capsys.readouterr().out) == (make is of_labels)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (",1,", ",2,", "are no answer to multilabel"),
        ("target.multilabel.half", "target.regression.half", "are of several targets"),
        (",0,", ",x,", "a number is none"),
    ],
)
def test_damaged_targets_are_found(tmp_path, old, new, message):
    cases = of_labels(50).with_splits(np.arange(50) % 3)
    outs.write_csv(tmp_path / "split.csv", cases.blocks())
    splits.read(tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_text().replace(old, new, 1)
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DamagedOut, match=message):
        splits.read(tmp_path / "split.csv")


def test_training_cases_that_do_not_count_are_an_error():
    cases = replace(of_numbers(30), weight=np.zeros(30, np.float32), split_of=np.zeros(30, np.int8))
    with pytest.raises(UserError, match="all training cases have a weight of 0"):
        strata.check_training(cases)


def written(folder, cases: splits.Table, sites=None) -> None:
    """cases.csv of cases of which none has a split, and the site of each."""
    table = pd.concat(cases.blocks()).drop(columns="split")
    table = table.map(lambda cell: cell.decode() if isinstance(cell, bytes) else cell)
    (table if sites is None else table.assign(**{"labels.site": sites})).to_csv(folder / "cases.csv", index=False)


def in_validation(found: splits.Table) -> np.ndarray:
    """The mean of each column's known values in validation, over that in training and validation."""
    rest = found.split_of != splits.SPLITS.index("test")
    own = found.split_of == splits.SPLITS.index("validation")
    return np.nanmean(found.values[own], axis=0) / np.nanmean(found.values[rest], axis=0)


@pytest.mark.parametrize("make", [of_labels, of_numbers])
def test_whole_sites_are_left_out_and_labels_or_the_range_of_a_number_are_dealt_among_the_rest(tmp_path, make):
    cases = make(600)
    sites = np.array(["north", "south", "east"])[np.arange(600) % 3]
    written(tmp_path, cases, sites)
    split_stage.main(
        tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams(by="site", test_sites=("east",), validation=0.2)
    )
    found = splits.read(tmp_path / "split.csv")
    assert ((found.split_of == splits.SPLITS.index("test")) == (sites == "east")).all()
    assert (found.split_of == splits.SPLITS.index("validation")).sum() == pytest.approx(80, abs=1)
    assert np.abs(in_validation(found)[:2] - 1).max() < 0.1
    np.testing.assert_array_equal(found.values, cases.values)


@pytest.mark.parametrize("make", [of_labels, of_numbers])
def test_a_frozen_test_split_of_labels_or_numbers_stays_while_cases_and_answers_change(tmp_path, make):
    written(tmp_path, make(200))
    params, frozen = SplitParams(freeze="mine.csv"), tmp_path / "frozen"
    dealt = split_stage.deal(tmp_path / "cases.csv", SplitParams(), frozen)
    freezing.write(frozen / "mine.csv", dealt)
    split_stage.main(tmp_path / "cases.csv", tmp_path / "split.csv", params, frozen)
    same = splits.read(tmp_path / "split.csv")
    np.testing.assert_array_equal(same.split_of, dealt.split_of, "freezing alone moves nothing")
    grown = make(400, seed=1)  # the first 200 are called as before, and answer otherwise
    written(tmp_path, grown)
    split_stage.main(tmp_path / "cases.csv", tmp_path / "split.csv", replace(params, seed=5), frozen)
    found = splits.read(tmp_path / "split.csv")
    test = splits.SPLITS.index("test")
    assert set(found.case[found.split_of == test]) == set(dealt.case[dealt.split_of == test])
    assert (found.split_of == splits.SPLITS.index("validation")).sum() == pytest.approx(60, abs=3)
    np.testing.assert_array_equal(found.values, grown.values)
    assert np.abs(in_validation(found)[:2] - 1).max() < 0.15


def test_a_fold_that_leaves_nothing_to_learn_is_an_error_that_names_it():
    folds = np.arange(12) % 3
    cases = of_numbers(12)
    folding.check_trainings(cases, folds, 3)
    values = np.where(folds == 1, cases.values[:, 0], 5)[:, None].astype(np.float32)
    with pytest.raises(UserError, match="while fold 1 is held out have the same size: add cases, take fewer folds"):
        folding.check_trainings(replace(cases, values=values), folds, 3)
    with pytest.raises(UserError, match="while fold 2 is held out have a weight of 0"):
        folding.check_trainings(replace(cases, weight=(folds == 2).astype(np.float32)), folds, 3)
    with pytest.raises(UserError, match="while fold 0 is held out have the same size"):  # of those that count
        folding.check_trainings(replace(cases, weight=(np.arange(12) < 2).astype(np.float32)), folds, 3)


def test_a_label_of_one_fold_alone_is_told():
    folds = np.arange(12) % 3
    cases = of_labels(12)
    values = np.tile([[0.0, 1.0]], (6, 2)).astype(np.float32)
    values = np.concatenate([values, 1 - values])
    assert folding.untaught(replace(cases, values=values), folds, 3) == []
    values[:, 2] = np.where(np.arange(12) == 4, 1, np.nan)
    (told,) = folding.untaught(replace(cases, values=values), folds, 3)
    assert "'rare' (with it: only in fold 1), 'rare' (without it: only in fold 0), 'rare' (without it" in told


def test_of_many_equal_numbers_no_stratum_is_without_a_case():
    cases = of_numbers(30)
    values = np.float32([5] * 24 + [6, 7, 8, 9, 10, 11])[:, None]
    found = strata.stratified(replace(cases, values=values), 0.2)
    assert np.bincount(found.label_of).min() > 0 and len(found.classes) == found.label_of.max() + 1 > 1


@pytest.mark.parametrize("make", [of_labels, of_numbers])
@pytest.mark.parametrize("number", [60, 150, 160, 400])
def test_strata_that_are_too_small_for_their_share_leave_no_split_short(make, number):
    fractions = {"train": 0.7, "validation": 0.15, "test": 0.15}
    for seed in range(5):
        found = np.bincount(dealing.assign(make(number), fractions, seed), minlength=3)
        assert np.abs(found[1:] - 0.15 * number).max() <= 1
