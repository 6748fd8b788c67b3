"""`split.by`: the test split is one or more whole sites, named or dealt, and no site is on two sides."""

import numpy as np
import pandas as pd
import pytest

from stages import split
from stages.lib import splits
from stages.lib.core.errors import UserError
from stages.lib.ingest.labels import own_columns
from stages.lib.params.split import SplitParams
from tests.raw_data import ingest, write_pictures

SITES = {"north": 60, "south": 40, "east": 30, "west": 20}


def table(sites=SITES, per_group: int = 2, given: str = "") -> pd.DataFrame:
    """Cases of two classes in groups, group by group in one site."""
    rows = [(site, i // per_group) for site, number in sites.items() for i in range(number)]
    found = pd.DataFrame({"case": [f"{i:04d}" for i in range(len(rows))]})
    found["group"] = [f"{site[:5]}{group}" for site, group in rows]
    found["label"] = ["ab"[group % 2] for _, group in rows]
    if given:
        found["split"] = ""
    return found.assign(**{"labels.site": [site for site, _ in rows]})


def run(folder, cases: pd.DataFrame, **params) -> pd.DataFrame:
    cases.to_csv(folder / "cases.csv", index=False)
    split.main(folder / "cases.csv", folder / "split.csv", SplitParams(**({"by": "site"} | params)))
    return pd.read_csv(folder / "split.csv", dtype=str).assign(site=cases["labels.site"])


def sites_tested(found: pd.DataFrame) -> set[str]:
    """The sites of the test split, of which no case is elsewhere."""
    sites = set(found["site"][found["split"] == "test"])
    assert set(found["split"][found["site"].isin(sites)]) <= {"test"}
    return sites


def test_the_sites_that_are_named_are_the_test_split_and_the_rest_is_dealt_by_group_and_class(tmp_path, capsys):
    found = run(tmp_path, table(), test_sites=("east", "west"), validation=0.2)
    assert sites_tested(found) == {"east", "west"}
    assert "the test split is whole: site 'east', 'west', 50 of 150 cases (33.3%)" in capsys.readouterr().out
    rest = found[found["split"] != "test"]
    assert rest.groupby("group")["split"].nunique().max() == 1
    assert rest["split"].value_counts().to_dict() == {"train": 80, "validation": 20}
    assert set(rest["label"][rest["split"] == "validation"]) == {"a", "b"}


def test_sites_that_nobody_named_are_dealt_by_the_seed_near_the_fraction_that_test_asks_for(tmp_path):
    chosen = [sites_tested(run(tmp_path, table(), seed=seed, test=0.2)) for seed in range(30)]
    assert {"north", "south", "east", "west"} >= set().union(*chosen) >= {"east", "west"}
    for sites in chosen:
        assert 0 < sum(SITES[site] for site in sites) <= 50
    assert len({frozenset(sites) for sites in chosen}) > 1
    assert sites_tested(run(tmp_path, table(), seed=3)) == sites_tested(run(tmp_path, table(), seed=3))


def test_a_further_site_leaves_the_dealt_ones_where_they_were_or_takes_a_place_beside_them(tmp_path):
    same = 0
    for seed in range(20):
        before = sites_tested(run(tmp_path, table({f"s{i}": 10 for i in range(20)}), seed=seed, test=0.2))
        after = sites_tested(run(tmp_path, table({f"s{i}": 10 for i in range(21)}), seed=seed, test=0.2))
        assert len(before - after) <= 1
        same += before <= after
    assert same >= 10


@pytest.mark.parametrize("seed", range(6))
def test_a_site_that_holds_most_of_a_class_is_for_training(tmp_path, seed):
    found = table({"big": 200, "one": 20, "two": 20, "three": 20})
    assert "big" not in sites_tested(run(tmp_path, found, seed=seed))


def test_no_fraction_for_the_test_leaves_no_site_out(tmp_path):
    assert sites_tested(run(tmp_path, table(), test=0.0)) == set()


def test_a_given_split_stays_and_open_cases_of_its_test_sites_join_the_test(tmp_path, capsys):
    cases = table(given="yes")
    west = cases["labels.site"] == "west"
    cases.loc[west & (cases.index % 4 < 2), "split"] = "test"
    cases.loc[(cases["labels.site"] == "north") & (cases["label"] == "a"), "split"] = "train"
    found = run(tmp_path, cases)
    assert sites_tested(found) == {"west"}
    assert set(found["split"][cases["split"] == "train"]) == {"train"}
    assert "cases without a given split are dealt" in capsys.readouterr().out


def test_of_a_given_split_without_a_test_a_whole_site_of_its_training_cases_is_left_out(tmp_path):
    cases = table(given="yes")
    cases["split"] = np.where(cases["labels.site"] == "north", "validation", "train")
    found = run(tmp_path, cases)
    assert len(sites_tested(found)) >= 1 and "north" not in sites_tested(found)
    assert set(found["split"][found["site"] == "north"]) == {"validation"}


def test_a_site_on_two_sides_of_a_given_split_is_an_error(tmp_path):
    cases = table(given="yes")
    cases["split"] = np.where(cases["group"].str.endswith(("1", "3")), "test", "train")
    with pytest.raises(UserError, match="site leaves whole ones out, and the given split has 'east', 'north'"):
        run(tmp_path, cases)
    cases["split"] = np.where(cases["labels.site"] == "west", "test", "train")
    assert sites_tested(run(tmp_path, cases)) == {"west"}
    with pytest.raises(UserError, match="test_sites does not name 'west', of which cases are in the test split"):
        run(tmp_path, cases, test_sites=("east",))


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        (lambda c: c.drop(columns="labels.site"), {}, r"has no column labels.site: ingest.columns: \[site\] keeps"),
        (lambda c: c.assign(**{"labels.site": ["", *c["labels.site"][1:]]}), {}, "1 of 150 cases have no site"),
        (lambda c: c, {"test_sites": ("nort",)}, r"names 'nort': did you mean north\?"),
        (lambda c: c, {"test_sites": tuple(SITES)}, "would be every site, and nothing is left to train on"),
        (lambda c: c.assign(**{"labels.site": "one"}), {}, r"site has 1 value\(s\), 1 of them free to be left out"),
        (lambda c: c.assign(group=(c.index // 2 % 60).astype(str)), {}, r"15 group\(s\) .* are of two or more: case"),
    ],
)
def test_what_makes_whole_sites_impossible_is_an_error_with_a_way_out(tmp_path, change, params, message):
    original = table()
    changed = change(original)
    changed.to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(UserError, match=message):
        split.main(tmp_path / "cases.csv", tmp_path / "split.csv", SplitParams(by="site", **params))


def test_sites_that_are_spelt_nearly_alike_are_told(tmp_path, capsys):
    cases = table({"north": 30, "south": 30, "west": 30})
    renamed = cases["labels.site"].map({"north": "St. Anna", "south": "st anna", "west": "Köln"})
    assert sites_tested(run(tmp_path, cases.assign(**{"labels.site": renamed}), test_sites=("Köln",))) == {"Köln"}
    printed = capsys.readouterr().out
    assert "warning: split.by: 'St. Anna' and 'st anna' are different values, and may mean one" in printed
    run(tmp_path, table())
    assert "may mean one" not in capsys.readouterr().out


def test_a_class_that_only_the_left_out_site_has_is_an_error_that_names_it(tmp_path):
    cases = table()
    cases.loc[cases["labels.site"] == "west", "label"] = "c"
    with pytest.raises(UserError, match="class 'c' has no case in the training split: .*test_sites"):
        run(tmp_path, cases, test_sites=("west",))


def test_sites_without_a_column_are_refused_with_the_params():
    with pytest.raises(ValueError, match="test_sites is given, and by is not"):
        SplitParams(test_sites=("north",))
    assert SplitParams(by=" Site").by == "site"


def test_from_a_column_of_labels_csv_to_a_split_without_a_site_on_two_sides(tmp_path):
    write_pictures(tmp_path / "raw", each=12)
    paths = sorted(path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.*"))
    lines = [f"{path},{path[:3]},Klinik {'ABC'[i % 3]}" for i, path in enumerate(paths)]
    (tmp_path / "raw" / "labels.csv").write_text("path,label,Hospital\n" + "\n".join(lines) + "\n")
    done = ingest(tmp_path / "raw", tmp_path / "out", columns=("hospital",))
    params = SplitParams(by="hospital", test_sites=("Klinik B",), validation=0.25)
    split.main(done.cases_csv, tmp_path / "split.csv", params)
    found = splits.read(tmp_path / "split.csv")
    is_b = (done.table["labels.hospital"] == "Klinik B").to_numpy()
    assert ((found.split_of == splits.SPLITS.index("test")) == is_b).all()
    assert own_columns.PREFIX == splits.KEPT
