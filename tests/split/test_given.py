"""A split that raw data bring is kept; what it leaves open is dealt, and too little to say anything is said."""

import pandas as pd
import pytest

from stages import split
from stages.lib.core.errors import UserError
from stages.lib.params.split import SplitParams
from stages.lib.split import amounts
from tests.split.test_split import table_of


def table(**counts: tuple[int, int]) -> pd.DataFrame:
    """Cases of the classes a and b: so many of each, by given split ("open": none)."""
    rows = [
        (given.replace("open", ""), label)
        for given, numbers in counts.items()
        for label, number in zip("ab", numbers, strict=True)
        for _ in range(number)
    ]
    names = [f"{i:04d}" for i in range(len(rows))]
    found = pd.DataFrame({"case": names, "group": names, "label": [label for _, label in rows]})
    return found.assign(split=[given for given, _ in rows])


def run(folder, cases, **params):
    cases.to_csv(folder / "cases.csv", index=False)
    split.main(folder / "cases.csv", folder / "split.csv", SplitParams(**params))
    return pd.read_csv(folder / "split.csv", dtype=str)


def test_a_whole_given_split_is_kept(tmp_path):
    given = table(train=(20, 10), validation=(5, 5), test=(7, 3))
    assert run(tmp_path, given)["split"].tolist() == given["split"].tolist()
    assert run(tmp_path, given, seed=9)["split"].tolist() == given["split"].tolist()


def test_a_validation_split_that_is_not_given_is_dealt_from_training_unless_it_is_not_wanted(tmp_path, capsys):
    given = table(train=(40, 40), test=(10, 10))
    found = run(tmp_path, given, validation=0.25)
    assert "no validation cases: 20 of its training cases" in capsys.readouterr().out
    assert found["split"].value_counts().to_dict() == {"train": 60, "validation": 20, "test": 20}
    assert (found["split"] == "test").tolist() == (given["split"] == "test").tolist()
    assert run(tmp_path, given, validation=0.0)["split"].tolist() == given["split"].tolist()


def test_cases_without_a_given_split_are_dealt(tmp_path, capsys):
    given = table(test=(30, 30), open=(40, 40))
    found = run(tmp_path, given, validation=0.25, test=0.0)
    assert found["split"].value_counts().to_dict() == {"train": 60, "test": 60, "validation": 20}
    assert "80 cases without a given split are dealt" in capsys.readouterr().out


def test_a_class_without_training_cases_is_refused(tmp_path):
    with pytest.raises(UserError, match="class 'b' has no case in the training split"):
        run(tmp_path, table(train=(10, 0), validation=(3, 3), test=(3, 3)))


def test_few_test_cases_and_a_class_that_is_nearly_everything_are_said(tmp_path, capsys):
    run(tmp_path, table(train=(400, 10), validation=(12, 12), test=(12, 3)))
    printed = capsys.readouterr().out
    assert "fewer than 10 test cases: b 3" in printed and "validation cases" not in printed
    assert "warning: 94" not in printed
    (few, most) = amounts.warnings(table_of(table(train=(400, 1), test=(12, 3))))
    assert "b 3" in few and "99.0% of the cases are 'a'" in most
    assert amounts.warnings(table_of(table(train=(40, 40), validation=(10, 10), test=(10, 10)))) == []
