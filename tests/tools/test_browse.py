"""tools.browse: what the page shows, what it writes, and whom it answers; clicked through in a real browser."""

import csv
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.lib import command, params
from stages.lib.core.errors import UserError
from stages.lib.ingest.labels import corrections
from tests import HANG_SECONDS, ROOT
from tests.demos import needs_demos
from tests.raw_data import scan, write_pictures, write_series
from tools import agree
from tools.browse import __main__ as program
from tools.browse import listing
from tools.browse.pictures import Pictures

WEB = ROOT / "examples" / "web"
CHROMIUM = agree.chromium()
STAGES = ("ingest", "split", "statistics", "dataset", "train", "validate")
HOSTILE = "<img src=x onerror=alert(1)>"
EACH = 8


def write_params(**sections):
    block = {name: {} for name in (*STAGES, "export")} | {"ingest": {"identifiers": "open"}} | sections
    Path("params.yaml").write_text(yaml.safe_dump({"datasets": {"mine": block}}))


def run(*stages):
    """Runs stages of the data set mine in this process, as dvc.yaml wires them."""
    for stage in stages:
        main = importlib.import_module(f"stages.{stage}").main
        given = command.sections(params.load(command.PARAMS_YAML), stage, "mine")
        main(**command.arguments(main, stage, "mine", given))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose data set `mine`, of volumes, has been trained for an epoch and validated."""
    root = tmp_path_factory.mktemp("browse") / "project"
    root.mkdir()
    before = os.getcwd()
    os.chdir(root)
    try:
        shutil.copy(ROOT / "dvc.yaml", root)
        rows = [("path", "label")]
        for k, label in enumerate(("solid", HOSTILE)):
            for i in range(EACH):
                folder = f"{'=' if i == 0 else ''}{k}{i}"  # a path that a spreadsheet would take for a formula
                write_series(root / "data/raw/mine" / folder, scan(seed=10 * k + i) // 2, None, folder, folder)
                rows.append((folder, label))
        with open(root / "data/raw/mine/labels.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        train = {"epochs": 1, "device": "cpu", "threads": 1, "network": {"name": "fully_connected"}}
        split = {"validation": 0.25, "test": 0.25}
        write_params(split=split, train=train)
        run(*STAGES)
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it, to be corrected."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def address(project):
    with serving() as found:
        yield found


@contextmanager
def serving():
    """The address that the program prints, while it runs."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [sys.executable, "-m", "tools.browse", "mine"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, encoding="utf-8", env=environment) as process:
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0


def ask(address, given=None, **headers):
    """Status and content of an answer; posts what is given."""
    data = None if given is None else json.dumps(given).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def read():
    return listing.read(program.paths_of("mine"))


def test_a_case_has_its_files_its_answer_and_its_probabilities(project):
    found = read()
    content = found.content()
    with open("metrics/mine/predictions.csv", newline="") as file:
        told = {row["case"]: row for row in csv.DictReader(file)}
    assert len(told) and set(content["split"]) == {"train", "validation", "test"}
    for i, case in enumerate(content["case"]):
        assert content["files"][i] == 8 and content["path"][i].count("/") == 1
        if case in told:
            values = [float(told[case][name]) for name in ("solid", HOSTILE)]
            assert content["now"]["p"][i] == max(values) and content["now"]["predicted"][i] == told[case]["predicted"]
            assert content["now"]["p_label"][i] == float(told[case][content["label"][i]])
            assert content["now"]["lead"][i] == pytest.approx(abs(values[0] - values[1]))
        else:
            assert content["split"][i] == "train" and content["now"]["p"][i] is None


def test_before_anything_is_trained_there_are_cases_and_no_answers(project):
    shutil.rmtree("metrics")
    os.remove("data/mine/split.csv")
    content = read().content()
    assert content["now"] is None and set(content["split"]) == {""} and len(content["case"]) == 2 * EACH
    assert content["classes"] == sorted(["solid", HOSTILE])


def test_two_revisions_stand_side_by_side(project):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "metrics"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    table = project / "metrics/mine/predictions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], ""]))  # a case that is predicted no longer
    found = listing.read(program.paths_of("mine"), "HEAD")
    content = found.content()
    assert content["revisions"] == ["now", "HEAD"]
    lost = content["case"].index(lines[-1].partition(",")[0])
    assert content["now"]["p"][lost] is None and content["before"]["p"][lost] is not None
    with pytest.raises(UserError, match="is not there at nowhere"):
        listing.read(program.paths_of("mine"), "nowhere")
    with pytest.raises(UserError, match="is no revision"):
        listing.read(program.paths_of("mine"), "--help")


def test_a_mark_is_a_row_of_corrections_csv_that_ingest_applies(project):
    found = read()
    marks = listing.Marks(project / "data/raw/mine", found)
    case = next(case for case, paths in found.paths.items() if paths[0].startswith("=00/"))
    first, second, *_ = found.paths[case]
    marks.mark(first, HOSTILE, False, "looks\nlike the other")
    assert [(row["label"], row["note"], row["cases"]) for row in marks.all()] == [
        (HOSTILE, "looks like the other", [case])
    ]
    marks.mark(second, HOSTILE, True, "")  # another file of the same case
    assert [(row["path"], row["excluded"]) for row in marks.all()] == [(second, True)]
    assert "'=00/" in (project / "data/raw/mine/corrections.csv").read_text()
    other = next(case for case, paths in found.paths.items() if paths[0].startswith("11/"))
    marks.mark(found.paths[other][0], "solid", False, "")
    run("ingest")
    counts = json.loads((project / "metrics/mine/ingest.json").read_text())
    assert counts["corrected"] == {"relabelled": {f"{HOSTILE} -> solid": 1}, "excluded": 1, "without_case": 0}
    again = listing.Marks(project / "data/raw/mine", read())
    assert [row["cases"] for row in again.all()] == [[], [other]]
    again.mark(second, "", False, "")  # the case is none any more, but its row can be taken back
    again.mark(found.paths[other][0], "", False, "")
    assert not (project / "data/raw/mine/corrections.csv").exists()


def test_what_somebody_wrote_into_corrections_csv_by_hand_stays_in_its_order(project):
    raw = project / "data/raw/mine"
    found = read()
    one, two, three = (found.paths[case][0] for case in found.cases[:3])
    (raw / "corrections.csv").write_text(f"note,path,excluded\nfirst,{one},yes\nsecond,{two},\nthird,gone/x.dcm,\n")
    listing.Marks(raw, found).mark(two, "", True, "second")
    listing.Marks(raw, found).mark(three, "", True, "new")
    kept = [(row.path, row.excluded, row.note) for row in corrections.read(raw)]
    assert kept == [(one, True, "first"), (two, True, "second"), ("gone/x.dcm", False, "third"), (three, True, "new")]


@pytest.mark.parametrize(
    ("path", "label", "said"), [("nothing.png", "solid", "no file of a case"), (None, "liquid", "'liquid' is no class")]
)
def test_a_mark_that_ingest_would_refuse_is_refused(project, path, label, said):
    found = read()
    with pytest.raises(UserError, match=said):
        listing.Marks(project / "data/raw/mine", found).mark(path or found.paths[found.cases[0]][0], label, False, "")
    assert not (project / "data/raw/mine/corrections.csv").exists()


def test_pictures_have_their_own_pixels_and_those_that_look_alike_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    raw = tmp_path / "data/raw/mine"
    write_pictures(raw)
    pixels = np.random.default_rng(1).integers(0, 256, (300, 200), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((20, 30)).resize((200, 300))
    smooth.save(raw / "cat" / "whole.png")
    smooth.convert("L").resize((100, 150)).save(raw / "dog" / "half.jpg", quality=70)
    write_params(ingest={"identifiers": "open", "colour": "rgb"})
    run("ingest")
    paths = program.paths_of("mine")
    found = read()
    with program.Cases(paths.cases) as cases:
        pictures = Pictures(cases, paths.statistics_json)
        place = {found.paths[case][0]: i for i, case in enumerate(found.cases)}
        whole, half = place["cat/whole.png"], place["dog/half.jpg"]
        assert pictures.slice(found.cases[whole], 0) == cases[whole].tobytes()
        likeness = pictures.alike()
        assert likeness[whole][0] == half and likeness[half][0] == whole and likeness[whole][1] > 0.95
        assert all(likeness[i][1] < 0.95 for i in place.values() if i not in (whole, half))
        with Image.open(io.BytesIO(pictures.small(found.cases[whole]))) as small:
            assert max(small.size) == 160
        assert pictures.about(found.cases[whole])["shape"] == [3, 300, 200]


@pytest.mark.slow
def test_a_page_that_is_loaded_again_shows_what_has_run_meanwhile(project, address):
    before = json.loads(ask(f"{address}cases.json")[1])
    marks = listing.Marks(project / "data/raw/mine", read())
    case = next(i for i, label in enumerate(before["label"]) if label == "solid")
    marks.mark(before["path"][case], HOSTILE, False, "")
    run("ingest", "split", "statistics", "dataset", "train", "validate")
    after = json.loads(ask(f"{address}cases.json")[1])
    assert after["label"][case] == HOSTILE and after["case"] == before["case"]
    assert ask(f"{address}heat/{before['case'][case]}?class=solid")[0] == 200


@pytest.mark.parametrize("place", ["", "nowhere/cases.html"])
def test_a_file_to_share_needs_a_folder_that_is_there_and_a_name(project, place):
    with pytest.raises(SystemExit, match="expected the name of a file in a folder that is there"):
        program.main(["mine", "--write", str(project / place)])
    assert not (project / "nowhere").exists()


@pytest.mark.parametrize("arguments", [["--most", "0", "--write", "a.html"], ["--most", "5"]])
def test_a_number_of_cases_without_a_file_is_an_error(project, arguments):
    with pytest.raises(SystemExit, match="2"):
        program.main(["mine", *arguments])


def test_nobody_else_is_answered(address):
    page, _, token = address.rstrip("/").rpartition("/")
    assert len(token) > 30 and page.startswith("http://127.0.0.1:")
    port = page.rpartition(":")[2]
    assert ask(f"{address}cases.json")[0] == 200
    other = "y" if token.endswith("x") else "x"
    assert ask(f"{page}/{token[:-1]}{other}/cases.json")[0] == 404
    assert ask(page)[0] == 404
    assert ask(f"{address}cases.json", Host="example.org")[0] == 403
    assert ask(f"{address}cases.json", Host=f"example.org:{port}")[0] == 403
    mark = {"path": "x", "label": "", "excluded": True, "note": ""}
    assert ask(f"{address}marks", mark, Origin="http://example.org")[0] == 403
    assert ask(f"{address}marks", mark, Origin="null")[0] == 403
    assert ask(f"{address}marks", mark) == (409, b"'x' is no file of a case")
    assert ask(f"{address}marks", [])[0] == 400
    assert ask(f"{address}marks", {"note": "x" * 100_000})[0] == 413
    case = json.loads(ask(f"{address}cases.json")[1])["case"][0]
    assert len(ask(f"{address}slice/{case}/7")[1]) == 7 * 6 * 2
    for missing in (f"slice/{case}/8", f"slice/{case}/-9", f"slice/{case}/x", "small/none", "..%2f..%2fparams.yaml"):
        assert ask(address + missing)[0] == 404, missing


def in_a_browser(test):
    """Marks what needs Chromium, node and puppeteer."""
    test = pytest.mark.skipif(not (WEB / "node_modules").is_dir(), reason="run `npm ci --prefix examples/web`")(test)
    is_there = CHROMIUM and shutil.which("node")
    return pytest.mark.skipif(not is_there, reason="chromium and node are not installed")(test)


def click(url, what):
    """What was seen in a real browser, of which nothing was strange."""
    puppeteer = WEB / "node_modules" / "puppeteer-core" / "lib" / "esm" / "puppeteer" / "puppeteer-core.js"
    script = ROOT / "tests" / "tools" / "browse_page.mjs"
    command_line = ["node", script, puppeteer, CHROMIUM, url, what]
    done = subprocess.run(command_line, capture_output=True, encoding="utf-8", timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("strange") == []
    return seen


@pytest.mark.slow
@in_a_browser
class TestInABrowser:
    def test_filters_slices_explanation_and_correction_by_keys_alone(self, project, address):
        seen = click(address, "12/")
        content = read().content()
        counts = {"all": 2 * EACH, "test": content["split"].count("test"), "found": 1, "marked": 1}
        assert {name: seen[name] for name in counts} == counts
        right = zip(content["now"]["predicted"], content["label"], content["split"], strict=True)
        assert seen["wrong"] == sum(p != label for p, label, split in right if split == "test")
        assert seen["name"].startswith("12/") and seen["depth"] == "5 of 8" and seen["above"] == "4 of 8"
        assert "evidence for" in seen["heat"]
        assert seen["unanswered"] == 0
        assert seen["training"] == seen["unlike"] == seen["alike"] == seen["lead"] == 2 * EACH
        (row,) = corrections.read(project / "data/raw/mine")
        assert (row.label, row.excluded, row.note) == (sorted(["solid", HOSTILE])[1], True, 'blurred, "twice"')
        assert row.path.startswith("12/")

    def test_the_page_in_one_file_shows_the_same_and_corrects_nothing(self, project, capsys):
        browse_to = project / "cases.html"
        program.main(["mine", "--write", str(browse_to), "--most", "12"])
        assert "12 cases; 4 others are not in it" in capsys.readouterr().out
        seen = click(browse_to.as_uri(), "one file")
        assert seen["all"] == 12 and not seen["correct"] and "files" in seen["facts"]
        assert seen["orders"] == ["", "wrong", "lead"]
        assert not re.search(r"https?://", browse_to.read_text())


def test_keyed_data_are_written_into_no_file_to_share(project):
    text = (project / "params.yaml").read_text().replace("identifiers: open", "identifiers: keyed")
    (project / "params.yaml").write_text(text)
    with pytest.raises(SystemExit, match="identifiers keyed"):
        program.main(["mine", "--write", "cases.html"])
    assert not (project / "cases.html").exists()


@needs_demos
def test_a_demo_is_shown_and_not_corrected_as_its_pictures_are_made_anew(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "makes it anew" in program._frozen("digits", Path("data/raw/digits"))
    assert program._frozen("mine", Path("data/raw/mine")) == ""


@pytest.mark.parametrize(
    ("arguments", "said"), [(["nothing"], "has no data set nothing"), (["mine", "--compare", "main"], "not there at")]
)
def test_what_is_not_there_is_named(project, arguments, said):
    with pytest.raises(SystemExit, match=said):
        program.main(arguments)
