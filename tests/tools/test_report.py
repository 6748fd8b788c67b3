import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from stages.lib.core import outs
from stages.lib.core.errors import UserError
from tests import ROOT
from tests.made_project import DVC_YAML, Project, git
from tools.report import contents, page, revisions, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # inside dvc


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project whose branch main holds two datasets with results; the branch topic, for changes, is checked out."""
    project = Project(tmp_path_factory.mktemp("made") / "project")
    project.dataset("digits")
    project.dataset("phantoms", groups_of=2)
    project.commit("Train two classifiers")
    project.git("checkout", "-q", "-b", "topic")
    return project


@pytest.fixture
def project(template, tmp_path):
    shutil.copytree(template.root, tmp_path / "project")
    copy = object.__new__(Project)
    copy.root, copy.params = tmp_path / "project", json.loads(json.dumps(template.params))
    return copy


def report(project, base="main", head=None):
    return contents.gather(*revisions.resolve_pair(project.root, base, head))


def run(folder, *arguments):
    """Runs the command in a process of its own, as people do."""
    return subprocess.run(
        [sys.executable, "-m", "tools.report", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_an_unchanged_project_passes_and_says_that_nothing_changed(project):
    done = run(project.root, "main")
    assert (done.returncode, done.stderr) == (0, "")
    assert "**Passes.** digits: the same predictions of all 300 cases; phantoms: the same" in done.stdout
    assert done.stdout.count("Nothing changed.") == 2


@pytest.mark.slow
def test_the_page_is_the_same_bytes_twice_and_its_json_holds_the_figures(project):
    project.dataset("digits", wrong=range(0, 300, 9), train={"epochs": 3})
    project.commit()
    pages = []
    for name in ("first", "second"):
        done = run(project.root, "main", "--markdown", f"{name}.md", "--json", f"{name}.json")
        assert done.returncode == 3
        pages.append(((project.root / f"{name}.md").read_bytes(), (project.root / f"{name}.json").read_bytes()))
        for suffix in ("md", "json"):
            (project.root / f"{name}.{suffix}").unlink()
    assert pages[0] == pages[1]
    figures = json.loads(pages[0][1])
    assert figures["datasets"]["digits"]["comparison"]["test"]["case_by_case"]["accuracy"]["verdict"] == "worse"
    assert figures["datasets"]["digits"]["params"] == {"datasets.digits.train.epochs": [10, 3]}
    assert done.stdout.startswith("**Refused by 1 of 3 gates.** digits: worse on 300 cases (accuracy 0.95 -> 0.8867)")


def test_an_improvement_and_noise_are_told_apart(project):
    project.dataset("digits", wrong=range(0, 300, 100))
    project.dataset("phantoms", wrong=range(5, 300, 20), groups_of=2)
    project.commit()
    found = report(project)
    assert found["passed"]
    verdict = page.verdict(found)
    assert "digits: better on 300 cases (accuracy 0.95 -> 0.99)" in verdict
    assert "phantoms: no difference that 300 cases can show (accuracy 0.95 -> 0.95; " in verdict


def test_sizes_parity_and_the_diagnosis_of_training_are_told(project):
    for file, old, new in (
        ("export", "12345", "54321"),
        ("train", "sound: both losses fall", "overfitting: they part"),
    ):
        path = f"metrics/digits/{file}.json"
        project.write(path, (project.root / path).read_text().replace(old, new))
    text = page.render(report(project), "")
    assert "| model.onnx | 12,345    | 54,321    | 1e-07 " in text
    assert "Training: overfitting: they part. Before: sound: both losses fall." in text
    assert "Training: sound: both losses fall." in text.split("## phantoms")[1]


def test_changed_data_is_told_by_counts_rejects_and_intensities(project):
    project.dataset("digits", shift=40, rejected=50, raw="more pictures")
    project.commit()
    found = report(project)["datasets"]["digits"]["data"]
    assert not found["same_raw"] and found["raw"]["size"] == [8, 13]
    assert found["rejected"] == [{"cases": 2, "share": 0.000999001}, {"cases": 50, "share": 0.0243902}]
    assert found["channels"][0]["p"] < 1e-6
    text = page.render(report(project), "")
    assert "Rejected: 2 (0.1%) -> 50 (2.4%)." in text and "drifted" in text and "raw md5" in text


def test_a_test_set_that_changed_is_said_plainly_and_compared_where_it_overlaps(project):
    project.dataset("digits", cases=range(100, 400), wrong=range(100, 400, 6))
    project.commit()
    found = report(project)
    assert found["datasets"]["digits"]["comparison"]["test"]["shared"] == 200
    text = page.render(found, "")
    assert "of 300 and 300 cases, 200 are in both." in text
    assert "The test set changed: 300 cases -> 300, 200 of them in both, 100 new, 100 gone." in text
    assert "Case by case, on the 200 cases in both" in text


def test_test_sets_with_few_common_cases_are_judged_by_all_of_them_and_that_is_said(project):
    project.dataset("digits", cases=range(1000, 1300), wrong=range(1000, 1300, 3))
    project.dataset("phantoms", cases=range(200, 500), wrong=range(200, 500, 3), groups_of=2)
    project.commit()
    found = report(project)
    verdict = page.verdict(found)
    assert "digits: worse on two test sets of 300 and 300 cases that share 0 cases (accuracy 0.95 -> 0.6667)" in verdict
    assert "phantoms: worse on two test sets of 300 and 300 cases that share 100 cases" in verdict
    assert [gate["passed"] for gate in found["gates"]] == [True, False, False]
    assert "too few to judge by" in page.render(found, "")


def test_changed_labels_are_counted_and_both_models_judged_by_the_new_ones(project):
    project.dataset("digits", relabelled=range(5, 300, 10))
    project.commit()
    found = report(project)["datasets"]["digits"]["comparison"]["test"]
    assert found["relabelled"] == 30
    assert found["case_by_case"]["accuracy"]["verdict"] == "worse"
    assert found["by_new_labels"]["accuracy"]["verdict"] == "no difference"
    assert "30 cases of these changed their label" in page.render(report(project), "")


def test_a_dataset_without_a_baseline_is_new_and_one_that_went_is_removed(project):
    project.dataset("birds")
    del project.params["datasets"]["phantoms"]
    shutil.rmtree(project.root / "metrics" / "phantoms")
    project.commit()
    found = report(project)
    assert found["passed"]
    assert "birds: a new dataset, accuracy 0.95" in page.verdict(found)
    assert "phantoms: removed" in page.verdict(found)
    assert "## phantoms: removed" in page.render(found, "")


def test_a_first_commit_without_results_is_no_baseline(tmp_path):
    project = Project(tmp_path / "project")
    project.commit("Begin", lock=False)
    project.dataset("digits")
    project.commit("Train")
    assert "digits: a new dataset, accuracy 0.95" in page.verdict(report(project, "HEAD^"))


def test_a_dataset_that_was_never_run_is_no_error(project):
    project.params["datasets"]["birds"] = {"train": {}}
    project.commit(lock=False)
    found = report(project)
    assert "birds: in params.yaml, not run" in page.verdict(found)
    assert found["stale"]["train@birds"] == ["it has not been run"]


@pytest.mark.slow
def test_missing_metrics_are_an_error_and_no_empty_table(project):
    (project.root / "metrics/digits/validate.json").unlink()
    (project.root / "metrics/digits/predictions.csv").unlink()
    project.commit(lock=False)
    done = run(project.root, "main", "HEAD")
    assert done.returncode == 1 and done.stdout == ""
    assert "has no metrics/digits/validate.json, metrics/digits/predictions.csv" in done.stderr
    assert "dvc repro validate@digits" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("metrics/digits/train.json", "{", "metrics/digits/train.json of working tree is no valid JSON"),
        ("metrics/digits/train.json", "<<<<<<< HEAD\n{}", "marks of a merge conflict"),
        ("dvc.lock", "<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> topic\n", "marks of a merge conflict"),
        ("params.yaml", "a: [", "params.yaml of working tree is no valid YAML"),
        ("metrics/digits/predictions.csv", "case,label\na,b\n", "is not as the validate stage writes it"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(project, path, text, message):
    project.write(path, text)
    with pytest.raises(UserError, match=message):
        report(project)


def test_stale_results_are_told_with_their_reasons_and_refused(project):
    project.params["datasets"]["digits"]["train"]["epochs"] = 20
    project.commit(lock=False)
    project.write("code.py", "version = 2\n")
    found = report(project)
    assert not found["passed"]
    assert found["stale"] == {
        "train@digits": ["code.py is modified", "datasets.digits.train is modified"],
        "train@phantoms": ["code.py is modified"],
        "validate@digits": ["follows train@digits"],
        "validate@phantoms": ["follows train@phantoms"],
    }
    committed = report(project, "main", "HEAD")["stale"]
    assert committed == {
        "train@digits": ["datasets.digits.train is modified"],
        "validate@digits": ["follows train@digits"],
    }


def test_data_that_is_not_here_is_not_stale(project):
    shutil.rmtree(project.root / "data")
    assert report(project)["stale"] == {}


def test_a_stage_that_makes_nothing_is_never_stale(project):
    project.write("dvc.yaml", DVC_YAML.replace("stages:", 'stages:\n  check: {cmd: "true", params: [datasets]}', 1))
    assert report(project)["stale"] == {}


def test_a_name_that_no_dataset_can_have_is_refused_and_in_a_former_revision_compared(project):
    text = json.dumps(project.params)
    project.write("params.yaml", text.replace('"datasets": {', '"datasets": {2024: {}, ', 1))
    with pytest.raises(UserError, match=r"params.yaml of working tree: 2024: YAML takes this name for no text"):
        report(project)
    project.git("commit", "-qam", "A number")
    project.write("params.yaml", text)
    assert report(project, "HEAD")["datasets"]["2024"]["state"] == "removed"


def test_edited_metrics_are_stale(project):
    path = "metrics/digits/validate.json"
    project.write(path, (project.root / path).read_text().replace("0.95", "0.99"))
    assert report(project)["stale"]["validate@digits"] == [f"{path} is modified"]


def test_gates_say_what_they_found(project):
    gates = ["fresh", "rejected <= 0.02", "phantoms.test.accuracy >= 0.97", "export.model.onnx.bytes < 2e4"]
    gates += [
        "validation.accuracy no_worse",
        "test.acuracy no_worse",
        "test.aurok >= 0.5",
        "train.diagnosis.verdict > 1",
    ]
    project.params["report"] = {"gates": gates}
    project.commit()
    found = {(gate["gate"], gate["dataset"]): (gate["passed"], gate["why"]) for gate in report(project)["gates"]}
    assert found["fresh", ""] == (True, "dvc.lock is up to date")
    assert found["rejected <= 0.02", "digits"] == (True, "rejected is 0.000999")
    assert found["phantoms.test.accuracy >= 0.97", "phantoms"] == (False, "test.accuracy is 0.95")
    assert ("phantoms.test.accuracy >= 0.97", "digits") not in found
    assert found["export.model.onnx.bytes < 2e4", "digits"][0]
    assert found["validation.accuracy no_worse", "digits"] == (True, "the same predictions")
    misspelt = (False, "test has no score acuracy to compare: did you mean accuracy?")
    assert found["test.acuracy no_worse", "digits"] == misspelt
    assert found["test.aurok >= 0.5", "digits"][1].startswith("there is no number test.aurok")
    assert not found["train.diagnosis.verdict > 1", "digits"][0]


@pytest.mark.slow
def test_a_shallow_clone_says_what_to_fetch_and_then_works(project, tmp_path):
    project.dataset("digits", wrong=range(0, 300, 9))
    project.commit()
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=topic", project.root.as_uri(), "shallow")
    clone = tmp_path / "shallow"
    done = run(clone, "main")
    assert done.returncode == 1
    assert "main is not in this clone, which is shallow: git fetch --depth=1 origin main:refs/" in done.stderr
    with pytest.raises(UserError, match=r"git fetch --deepen=1 \(on GitHub Actions: .* fetch-depth: 2\)"):
        revisions.resolve_pair(clone, "HEAD^", None)
    git(clone, "fetch", "-q", "--depth=1", "origin", "main:refs/remotes/origin/main")
    assert "digits: worse" in page.verdict(contents.gather(*revisions.resolve_pair(clone, "origin/main", None)))
    with pytest.raises(UserError, match="git fetch --unshallow"):
        revisions.resolve_pair(clone, "origin/main...", None)


def test_the_merge_commit_of_a_pull_request_compares_with_its_first_parent(project, tmp_path):
    project.dataset("digits", wrong=range(0, 300, 9))
    project.commit()
    project.git("checkout", "-q", "main")
    project.write("README.md", "main went on\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "Describe")
    project.git("merge", "-q", "--no-ff", "-m", "Merge", "topic")
    git(tmp_path, "clone", "-q", "--depth=2", project.root.as_uri(), "clone")
    found = contents.gather(*revisions.resolve_pair(tmp_path / "clone", "HEAD^1", "HEAD"))
    assert "digits: worse" in page.verdict(found)
    assert found["stale"] == {} and found["base_is_ahead_by"] == 0


def test_a_base_that_moved_on_is_said_and_three_dots_leave_it_out(project):
    project.dataset("digits", wrong=range(0, 300, 9))
    project.commit()
    project.git("checkout", "-q", "main")
    project.params["datasets"]["digits"]["train"]["epochs"] = 10
    project.dataset("phantoms", wrong=(), groups_of=2)
    project.commit("Improve the phantoms")
    against_main = report(project, "main", "topic")
    assert "phantoms: worse" in page.verdict(against_main)
    assert "has 1 commit that this has not: they show here as taken back" in page.render(against_main, "")
    parted = report(project, "main...topic")
    assert "digits: worse" in page.verdict(parted) and "phantoms: the same predictions" in page.verdict(parted)


def test_an_unknown_revision_is_one_message(project, tmp_path):
    with pytest.raises(UserError, match="mian is no branch, tag, commit or experiment here"):
        revisions.resolve_pair(project.root, "mian", None)
    with pytest.raises(UserError, match="this is no git repository"):
        revisions.find_root(tmp_path)


def test_pictures_are_links_or_inline(project):
    project.write("metrics/digits/figures/worst.png", "a picture")
    found = report(project)
    assert "- [worst.png (new)](metrics/digits/figures/worst.png)" in page.render(found, "")
    assert "![worst.png (new)](https://example.org/raw/1/metrics/digits/figures/worst.png)" in page.render(
        found, "https://example.org/raw/1/"
    )


def test_a_class_name_cannot_break_the_page(project):
    table = (project.root / "metrics/digits/predictions.csv").read_text().replace("owl", "<b>@owl|*_x_*")
    project.write(
        "metrics/digits/predictions.csv",
        table.replace("te00001,teg00001,test,dog,dog", "te00001,teg00001,test,dog,cat"),
    )
    text = page.render(report(project), "")
    assert "te00001" in text and "<b>" not in text


def test_a_class_that_would_open_as_a_formula_is_guarded_in_the_file_and_read_as_it_is(project):
    path = project.root / "metrics/digits/predictions.csv"
    table = pd.read_csv(path, dtype=str).rename(columns={"cat": "=1+1", "dog": "-1"})
    outs.write_csv(path, table.replace({"cat": "=1+1", "dog": "-1"}))
    assert ",'=1+1,-1,owl\n" in path.read_text()
    predictions = snapshot.load(revisions.resolve(project.root, None)).results["digits"].predictions
    assert list(predictions["label"].unique()) == ["=1+1", "-1", "owl"]
    assert [name.removeprefix(snapshot.PROBABILITY_OF) for name in predictions.columns[5:]] == ["=1+1", "-1", "owl"]


def test_classes_may_be_called_as_the_columns_are_and_labels_may_look_like_numbers_or_nothing(project):
    path = project.root / "metrics/digits/predictions.csv"
    table = path.read_text().replace("cat", "case").replace("dog", "NA").replace("owl", "01")
    for commit in ("first", "second"):
        project.write("metrics/digits/predictions.csv", table)
        project.commit(commit)
        table = table.replace(",NA,NA,", ",NA,case,", 3)
    found = report(project, "HEAD^")["datasets"]["digits"]["comparison"]["test"]
    assert [row["predicted"] for row in found["flips"]] == ["case"] * 3
    assert {row["label"] for row in found["flips"]} == {"NA"}
    assert found["case_by_case"]["auroc"]["old"] == pytest.approx(found["case_by_case"]["auroc"]["new"])


def test_a_project_without_a_test_split_is_reported(project):
    lines = (project.root / "metrics/digits/predictions.csv").read_text().splitlines()
    kept = [line for line in lines if ",test," not in line]
    project.write("metrics/digits/predictions.csv", "\n".join(kept) + "\n")
    verdict = page.verdict(report(project))
    assert "digits: no test case to compare" in verdict


@pytest.mark.slow
def test_neither_torch_nor_the_network_is_needed(project):
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('the report asked the network')\n"
        "socket.socket.connect = refuse\n"
        "sys.argv = ['report', 'main']\n"
        "from tools.report import __main__\n"
        "assert __main__.main() == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(project.root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def spread(value: float) -> dict:
    return {"accuracy": {"mean": value, "deviation": 0.01, "lowest": value - 0.02, "highest": value + 0.02}}


def study_json(accuracy: float) -> str:
    tree = {"trainings": 10, "folds": 5, "cases": {"out_of_fold": 400, "test": 100}}
    for name in ("out_of_fold", "test"):
        tree |= {name: {"accuracy": accuracy}, f"{name}_interval": {"accuracy": [accuracy - 0.03, accuracy + 0.03]}}
    tree |= {"over_folds": spread(accuracy), "over_seeds": spread(accuracy), "test_over_trainings": spread(accuracy)}
    return json.dumps(tree)


def external_json(accuracy: float) -> str:
    channel = {"mean": [100.0, 130.0], "deviation": [30.0, 31.0], "distance": 0.4, "p": 0.001}
    tree = {"model": "digits/study", "cases": 80, "groups": 40, "left_out": {"classes": 0, "trained_on": 3}}
    tree |= {"external": {"accuracy": accuracy}, "external_interval": {"accuracy": [0.6, 0.9]}}
    tree |= {"classes": {"cat": [0.3, 0.5]}, "intensities": [channel], "unlike": None}
    return json.dumps(tree)


def test_a_study_and_each_external_dataset_have_a_section_and_their_numbers_are_gates(project):
    project.write("metrics/digits/study/study.json", study_json(0.9))
    project.params["report"] = {"gates": ["digits.external.clinic.external.accuracy >= 0.8", "digits.study.folds >= 5"]}
    project.commit()
    project.write("metrics/digits/study/study.json", study_json(0.94))
    project.write("metrics/digits/external/clinic/external.json", external_json(0.75))
    project.commit()
    found = report(project, "HEAD^", "HEAD")
    assert [gate["passed"] for gate in found["gates"]] == [False, True]
    text = page.render(found, "")
    assert "10 trainings over 5 folds: 400 cases held out once, 100 test cases by the mean of all." in text
    row = next(line for line in text.splitlines() if line.startswith("| accuracy") and "±" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    held, of_folds = "0.94 (0.91 to 0.97)", "0.94 ± 0.01 (0.92 to 0.96)"
    assert cells == ["accuracy", "0.9", held, of_folds, of_folds, held, of_folds]
    assert "### External: clinic\n\n80 cases of 40 groups, asked of the exported file of digits/study" in text
    assert "; left out: 3 of patients that were trained on." in text and "another distribution" in text
    assert "0.75 (0.6 to 0.9)" in text and "50.0%" in text
    assert "### Study" not in page.render(report(project, "main", "main"), "")


def test_a_study_that_was_taken_out_is_said(project):
    project.write("metrics/digits/study/study.json", study_json(0.9))
    project.write("metrics/digits/external/clinic/external.json", external_json(0.75))
    project.commit()
    shutil.rmtree(project.root / "metrics/digits/study")
    shutil.rmtree(project.root / "metrics/digits/external")
    project.commit()
    text = page.render(report(project, "HEAD^", "HEAD"), "")
    assert "There is none any more." in text and "### External: clinic\n\nIt is not asked any more." in text


def test_a_study_and_an_external_dataset_of_labels_or_a_number_are_told_by_their_own_score(project):
    number = json.loads(study_json(0.9).replace('"accuracy"', '"mae"'))
    number["target"] = {"kind": "regression", "names": ["diameter"], "unit": "mm", "weighted": False}
    project.write("metrics/digits/study/study.json", json.dumps(number))
    other = json.loads(external_json(0.75).replace('"accuracy"', '"mae"')) | {"target": number["target"]}
    del other["classes"]
    other["number"] = {"mean": [12.0, 13.5], "lower_quartile": [10.0, 11.25]}
    project.write("metrics/digits/external/clinic/external.json", json.dumps(other))
    labels = json.loads(external_json(0.75).replace('"accuracy"', '"auroc"'))
    del labels["classes"]
    labels |= {"labels": {"mass": [0.25, 0.5], "edema": [0.1, None]}, "target": {"kind": "multilabel", "unit": ""}}
    project.write("metrics/phantoms/external/clinic/external.json", json.dumps(labels))
    project.commit()
    text = page.render(report(project, "HEAD^", "HEAD"), "")
    assert "by the mean of all. Main score: mae 0.9 (0.87 to 0.93) mm held out, 0.9 (0.87 to 0.93) mm of the" in text
    assert all(f"Main score: {told}\n" in text for told in ("mae 0.75 (0.6 to 0.9) mm.", "auroc 0.75 (0.6 to 0.9)."))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    for row in (["mean", "12", "13.5"], ["lower quartile", "10", "11.25"], ["mass", "25.0%", "50.0%"]):
        assert row in rows
    assert ["edema", "10.0%", "-"] in rows


def test_a_dataset_that_is_there_to_be_asked_about_needs_ingest_alone(project):
    project.params["datasets"]["clinic"] = project.params["datasets"]["digits"]
    project.write("metrics/clinic/ingest.json", (project.root / "metrics/digits/ingest.json").read_text())
    project.write("metrics/digits/external/clinic/external.json", external_json(0.75))
    project.commit(lock=False)
    found = report(project, "HEAD^", "HEAD")
    assert found["datasets"]["clinic"]["state"] == "not run"
    assert "### External: clinic" in page.render(found, "")


def test_the_verdict_of_a_number_has_its_unit():
    change = {"old": 0.25, "new": 0.4, "verdict": "worse", "smallest": 0.05}
    test = {"identical": False, "judged": "both", "shared": 40, "cases": [40, 40], "both": {"mae": change}}
    found = {"score": "mae", "unit": "mm", "comparison": {"test": test}}
    assert "scans: worse on 40 cases (mae 0.25 -> 0.4 mm)." in page.verdict({"gates": [], "datasets": {"scans": found}})
    added = {"score": "mae", "unit": "mm", "state": "added", "test": {"mae": 0.25}}
    assert "mae 0.25 mm." in page.verdict({"gates": [], "datasets": {"scans": added}})
