import json

import pytest

from stages.lib import params
from stages.lib.core.errors import UserError

GOOD = """
datasets:
  digits:
    ingest: {}
    split: {validation: 2e-1, test: 0.1}
    statistics: {percentiles: [1, 99.5]}
    dataset: {}
    train: {}
    validate: {}
    export:
"""


def load(folder, text=GOOD):
    (folder / "params.yaml").write_text(text)
    return params.load(folder / "params.yaml")


def test_sections_become_frozen_dataclasses_with_defaults(tmp_path):
    split = load(tmp_path).section("digits", "split")
    assert (split.validation, split.test, split.seed) == (0.2, 0.1, 0)
    with pytest.raises(AttributeError):
        split.seed = 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "train: {}",
            "train: {epochs: 3, progressive: {epochs: 3}}",
            "progressive.epochs is 3 of 3 epochs: expected some",
        ),
        ("test: 0.1", "test: much", "datasets.digits.split.test is 'much': expected a valid number"),
        ("test: 0.1", "test: 1.5", "datasets.digits.split.test is 1.5: expected less than 1"),
        ("test: 0.1", "tests: 0.1", "datasets.digits.split.tests is unknown: did you mean test?"),
        ("test: 0.1", "test: 0.9", "datasets.digits.split: validation + test is 1.1: nothing is left to train on"),
        ("test: 0.1", "seed: 1.5", "datasets.digits.split.seed is 1.5: expected a valid integer"),
        ("test: 0.1", "seed: true", "datasets.digits.split.seed is True: expected a valid integer"),
        ("[1, 99.5]", "[1, 101]", "datasets.digits.statistics.percentiles.1 is 101: expected less than or equal"),
        ("dataset: {}", "datset: {}", "datasets.digits.datset is unknown: did you mean dataset?"),
        ("dataset: {}", "", "datasets.digits.dataset is missing: add `dataset: {}`"),
        ("train: {}", "train: {lr: .nan}", "datasets.digits.train.lr"),
        (
            "train: {}",
            "train: {network: {name: resnet}}",
            "network.name is 'resnet': expected 'fully_connected', 'conv",
        ),
        (
            "train: {}",
            "train: {optimizer: {name: Adamm}}",
            "optimizer.name is 'Adamm': expected Adam, or another of 'ASGD'",
        ),
        (
            "train: {}",
            "train: {schedule: {name: CosineLR}}",
            "schedule.name is 'CosineLR': expected CosineAnnealingLR, or",
        ),
        (
            "ingest: {}",
            "ingest: {target: {kind: multilabel, columns: a}}",
            "datasets.digits.ingest.target.columns is 'a': expected a list, as [a]",
        ),
        (
            "ingest: {}",
            "ingest: {target: {kind: regression, column: a, range: [3]}}",
            "datasets.digits.ingest.target.range is [3]: expected a list of 2 numbers, as [1, 2]",
        ),
        (
            "ingest: {}",
            "ingest: {target: {kind: regression, column: a, range: [3, 4, 5]}}",
            "datasets.digits.ingest.target.range is [3, 4, 5]: expected a list of 2 numbers",
        ),
        ("ingest: {}", "ingest: {columns: sex}", "datasets.digits.ingest.columns is 'sex': expected a list, as [sex]"),
        ("digits:", "digits: 3\n  other:", "datasets.digits: expected sections"),
        ("datasets:", "dataset:", "expected `datasets:` with one block per dataset"),
        ("datasets:", "datasets: [", "is no valid YAML"),
    ],
)
def test_a_mistake_is_named_as_it_was_typed(tmp_path, old, new, message):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    assert message in str(caught.value)


def test_an_operating_point_of_a_number_is_refused_before_any_work(tmp_path):
    point = "validate: {operating_point: {positive: a, sensitivity: 0.9}}"
    text = GOOD.replace("validate: {}", point)
    load(tmp_path, text)
    load(tmp_path, text.replace("ingest: {}", "ingest: {target: {kind: multilabel, columns: [a, b]}}"))
    with pytest.raises(UserError, match="digits.validate.operating_point finds a class or a label, and a, which .* is"):
        load(tmp_path, text.replace("ingest: {}", "ingest: {target: {kind: regression, column: a}}"))


def test_a_list_that_is_two_numbers_short_is_told_once(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace("ingest: {}", "ingest: {spacing_mm: [1]}"))
    assert str(caught.value).count("spacing_mm") == 1 and "as [1, 2, 3]" in str(caught.value)


def test_a_mistake_in_another_datasets_block_is_a_warning_to_who_wants_this_one(tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(GOOD.replace("datasets:", "datasets:\n  other: {ingest: {knd: images}}"))
    found = params.load(tmp_path / "params.yaml", "digits")
    assert "digits" in found.datasets and "other" not in found.datasets
    assert "warning: " in (said := capsys.readouterr().err) and "datasets.other.ingest.knd is unknown" in said
    for wanted in ("other", "", "nowhere"):
        with pytest.raises(UserError, match="datasets.other.ingest.knd is unknown: did you mean kind"):
            params.load(tmp_path / "params.yaml", wanted)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace("test: 0.1", "test: 1.5, sed: 1"))
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_dataset_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="no datasets.digit: did you mean digits?"):
        load(tmp_path).section("digit", "train")


def test_a_missing_file_tells_where_to_run(tmp_path):
    with pytest.raises(UserError, match="run from the repository's root"):
        params.load(tmp_path / "params.yaml")


def test_the_reports_gates_are_checked_like_the_rest(tmp_path):
    gates = "\nreport: {gates: [fresh, test.accuracy no_worse, rejected <= 0.02, phantoms.test.auroc >= .9]}"
    with pytest.raises(UserError, match="'phantoms.test.auroc >= .9' is no gate: write fresh, `<metric> no_worse`"):
        load(tmp_path, GOOD + gates)
    assert load(tmp_path, GOOD + gates.replace(" .9", " 0.9")).report.gates[2] == "rejected <= 0.02"
    with pytest.raises(UserError, match="report.gate is unknown: did you mean gates?"):
        load(tmp_path, GOOD + "\nreport: {gate: []}")
    with pytest.raises(UserError, match="reports is unknown: did you mean report?"):
        load(tmp_path, GOOD + "\nreports: {}")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("ingest: {}", "ingest: {workers: 2}", "datasets.digits.ingest.workers is now machine.workers"),
        ("train: {}", "train: {checkpoint_minutes: 5}", "train.checkpoint_minutes is now machine.checkpoint_minutes"),
    ],
)
def test_a_key_that_moved_is_answered_with_its_place(tmp_path, old, new, place):
    with pytest.raises(UserError, match=place):
        load(tmp_path, GOOD.replace(old, new))


def test_what_changes_no_byte_has_a_section_of_its_own(tmp_path):
    assert load(tmp_path).machine == params.MachineParams(workers=0, checkpoint_minutes=10)
    assert load(tmp_path, GOOD + "\nmachine: {workers: 3}").machine.workers == 3
    with pytest.raises(UserError, match="machine.workers is -1: expected greater than or equal to 0"):
        load(tmp_path, GOOD + "\nmachine: {workers: -1}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw", "and is not raw"),
        ("sub/ds", "is not raw: call it sub-ds, and its folder in data/raw likewise"),
        ("my data", "call it my-data"),
        ("Mine", "call it mine"),
        ("Über", "call it uber"),
        ("a.b", "call it a-b"),
        ("-a", "call it a"),
        ("_a", "call it a"),
        ("../x", "call it x"),
        ("$(touch x)", "call it touch-x"),
        ("'", "is not raw"),
        ("数", "is not raw"),
        ("a" * 65, f"call it {'a' * 64},"),
        ("", "is not raw"),
    ],
)
def test_a_name_that_no_dataset_can_have_is_refused_with_one_that_it_can_have(tmp_path, name, message):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace("digits:", f"{json.dumps(name)}:"))
    assert f"datasets.{name}: a dataset's name is of lower-case letters, digits, _ and -" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["2024", "1.5", "true", "~", "2024-01-01", "0x10", "[a, b]"])
def test_a_name_that_yaml_takes_for_no_text_is_refused_as_dvc_would_make_no_stage_of_it(tmp_path, key):
    with pytest.raises(UserError, match="YAML takes this name for no text: put it into quotes"):
        load(tmp_path, GOOD.replace("digits:", f"? {key}\n  :"))
    with pytest.raises(UserError, match='datasets.2024: .* put it into quotes, "2024"'):
        load(tmp_path, GOOD.replace("digits:", "2024:"))


def test_names_of_up_to_64_letters_digits_and_lines_are_taken(tmp_path):
    for name in ("a", "2024", "0", "mine-2_b", "a" * 64, "raw2", "true", "no"):
        assert load(tmp_path, GOOD.replace("digits:", f'"{name}":')).section(name, "split")


def test_a_name_with_a_line_end_or_an_escape_sequence_is_shown_on_one_line(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace("digits:", '"a\\n\\e[2Jb":'))
    assert "datasets.a\\n\\u001b[2Jb: a dataset's name" in str(caught.value)
