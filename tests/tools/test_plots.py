"""The page of `make plots`, opened in a real browser without a network."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.cbook import pts_to_prestep

from stages.lib.core import outs
from stages.lib.validate import curves, figures, scores
from tests import HANG_SECONDS, ROOT
from tests.made_project import DVC_YAML, Project
from tools import plots

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PLOTS = [plot for stage in ("train", "validate") for plot in STAGES[stage]["do"]["plots"]]
"""Of the project's own dvc.yaml."""


ACCURACY = {"train_accuracy": 0.5, "validation_accuracy": 0.5}
HOSTILE = (
    "</script><script>ran()</script>",
    "<img src=x onerror=ran()>",
    "<!--<script>",
    "'\"><svg onload=ran()>",
    "{vega}",
)
"""Names of classes; ran() would be noticed."""


@pytest.fixture(scope="module")
def plotted(tmp_path_factory):
    """A project with two datasets, one well and one badly predicted, whose plots page was made."""
    project = Project(tmp_path_factory.mktemp("plots") / "project")
    project.write(
        "dvc.yaml", DVC_YAML.replace('[{"metrics/${key}/predictions.csv": {cache: false}}]', json.dumps(PLOTS))
    )
    shutil.copytree(ROOT / ".dvc" / "plots", project.root / ".dvc" / "plots")
    for dataset in ("digits", "phantoms"):
        project.dataset(dataset)
        folder = project.root / "metrics" / dataset
        history = {"epoch": [1, 2, 3], "train_loss": [0.8, 0.4, 0.2], "validation_loss": [0.9, 0.5, 0.4]}
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
        y, p, names = predicted(dataset)
        told = {"actual": np.array(names)[y], "predicted": np.array(names)[p.argmax(1)]}
        outs.write_csv(folder / "confusion.csv", pd.DataFrame(told))
        for name, points in curves_of(dataset).items():
            outs.write_csv(folder / f"{name}.csv", points)
        (folder / "figures").mkdir()
        figures.save(
            folder / "figures" / "history", figures.history(pd.read_csv(folder / "history.csv").assign(**ACCURACY))
        )
        for name in ("worst", "samples"):
            iio.imwrite(folder / "figures" / f"{name}.png", np.arange(1024, dtype=np.uint8).reshape(32, 32))
    project.commit()
    done = run(project)
    assert done.returncode == 0, done.stderr
    return project


def predicted(dataset):
    """Labels, (60,), probabilities, (60, K), and classes: without a mistake for digits."""
    names = ("cat", "dog") if dataset == "digits" else HOSTILE
    y = np.arange(60) % len(names)
    noise = np.random.default_rng(0).normal(size=(60, len(names)))
    raw = np.exp(0.1 * noise + 2 * np.eye(len(names))[y] if dataset == "digits" else noise + np.eye(len(names))[y])
    return y, raw / raw.sum(1, keepdims=True), names


def curves_of(dataset):
    y, p, names = predicted(dataset)
    points = {
        "roc": curves.roc(curves.one_against_the_rest(y, p, names)),
        "precision_recall": curves.precision_recall(curves.one_against_the_rest(y, p, names)),
    }
    return points | {"reliability": curves.reliability(p.max(1), p.argmax(1) == y)}


def run(project, *arguments):
    command = [sys.executable, "-m", "tools.plots", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(project.root)}
    return subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_page_names_no_other_file_and_no_server(plotted):
    page = (plotted.root / "plots.html").read_text()
    elements = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", elements)
    assert "<script src" not in page
    assert page.count('<img src="data:image/png;base64,') == 4
    assert page.count('<img src="data:image/svg+xml;base64,') == 2, "a figure is there once, as SVG if it has one"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_every_chart_is_drawn_in_a_browser_and_no_request_leaves_the_page(plotted, tmp_path):
    page = (plotted.root / "plots.html").read_text()
    dom, requested = opened(page, tmp_path / "page")
    assert len(charts(dom)) == 10, "a loss, a matrix and three curves of each dataset, each of them once"
    assert requested == []
    for name in HOSTILE:
        assert f">{shown_as_text(name)}</text>" in dom, "a class's name is text of the chart"
    assert "data-ran" not in dom
    leaking = page.replace("</body>", '<script>ran()</script><img src="http://127.0.0.1:9/leak.png"></body>')
    dom, requested = opened(leaking, tmp_path / "leaking")
    assert set(requested) == {"inline", "http://127.0.0.1:9/leak.png"}
    assert "data-ran" not in dom, "the policy stops what gets into the page's HTML all the same"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_draws_the_curves_that_the_figure_draws(plotted, tmp_path):
    drawn = charts(opened((plotted.root / "plots.html").read_text(), tmp_path / "page")[0])
    for dataset in ("digits", "phantoms"):
        y, p, names = predicted(dataset)
        figure = figures.evidence(y, p.argmax(1), names, list(curves_of(dataset).values()), scores.per_class(y, p))
        for title, axes in zip(("ROC", "precision and recall"), figure.axes[1:3], strict=True):
            found = lines(drawn[f"{dataset}: {title}"])
            expected = [corners(line) for line in axes.lines]
            assert len(found) == len(names) and len(expected) == (1 if dataset == "digits" else len(names))
            for name, curve in zip(names, found, strict=True):
                line = expected[0 if dataset == "digits" else names.index(name)]  # curves that coincide are one line
                assert curve == pytest.approx(line, abs=1e-4), (dataset, title)
    perfect = lines(drawn["digits: precision and recall"])
    assert [curve.tolist() for curve in perfect] == [pytest.approx(np.array([[0, 1], [1, 1]]), abs=1e-5)] * 2
    reliability = drawn["digits: reliability"]
    assert re.search(r'<line [^>]*x2="288.46\d*"[^>]*y2="-288.46\d*"[^>]*stroke-dasharray', reliability), "no diagonal"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_charts_are_titled_in_words_and_nothing_is_cut_off_in_a_narrow_window(plotted, tmp_path):
    dom, _ = opened((plotted.root / "plots.html").read_text(), tmp_path / "page", "--window-size=500,900")
    kinds = ("loss", "confusion", "ROC", "precision and recall", "reliability")
    assert set(charts(dom)) == {f"{dataset}: {kind}" for dataset in ("digits", "phantoms") for kind in kinds}
    for text in ("train", "validation", "loss", "false positive rate", "100%"):
        assert re.search(f">{text}</t(ext|span)>", dom), text
    for text in ("y", "true_positive_rate", "metrics/digits/roc.csv"):
        assert f">{text}</text>" not in dom
    assert {"digits: worst", "phantoms: samples"} < set(re.findall("<figcaption>(.*?)</figcaption>", dom))
    assert re.search(r'<body[^>]* data-wider="0"', dom), "the page is wider than the window"


def charts(dom):
    """The SVG of each chart, by title."""
    found = re.findall(r'<svg[^>]*class="marks".*?</svg>', dom, re.DOTALL)
    titles = [re.search(r"<text[^>]*>(\w+: [^<]*)</text>", chart) for chart in found]
    return {title[1]: chart for title, chart in zip(titles, found, strict=True)}


def lines(chart):
    """The points of each line of a chart, (P, 2) each, in the axes' units."""
    paths = re.findall(r'aria-roledescription="line mark" d="M([^"]*)"', chart)
    pixels = [np.array([point.split(",") for point in path.split("L")], float) for path in paths]
    return [without_repeats(np.array([0, 1]) + np.array([1, -1]) * (1.04 * one / 300 - 0.02)) for one in pixels]


def corners(line):
    """The points that matplotlib draws a line through, (P, 2)."""
    x, y = line.get_data()
    if line.get_drawstyle() == "steps-pre":
        x, y = pts_to_prestep(x, y)
    return without_repeats(np.stack([x, y], 1))


def without_repeats(points):
    same = np.append(False, (np.abs(np.diff(points, axis=0)) < 1e-5).all(1))
    return points[~same]


def shown_as_text(name):
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def opened(page, folder, *more):
    """The DOM after a browser ran the page, and all addresses that it requested, blocked requests included."""
    folder.mkdir()
    watch = """
        const asked = [];
        window.ran = () => { document.body.dataset.ran = "yes"; };
        addEventListener("securitypolicyviolation", (event) => asked.push(event.blockedURI));
        addEventListener("load", () => setTimeout(() => {
            const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
            document.body.dataset.wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
            document.body.dataset.asked = [...asked, ...fetched.filter((name) => !name.startsWith("data:"))].join(" ");
        }, 1000));
    """
    digest = base64.b64encode(hashlib.sha256(watch.encode()).digest()).decode()
    watched = page.replace("<title>", f"<script>{watch}</script><title>", 1)
    watched = watched.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (folder / "page.html").write_text(watched)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom", *more]
    address = (folder / "page.html").as_uri()
    done = subprocess.run([BROWSER, *flags, address], capture_output=True, text=True, timeout=HANG_SECONDS)
    found = re.search(r'<body[^>]* data-asked="([^"]*)"', done.stdout.replace("<body ", "<body  "))
    assert found, done.stderr
    return done.stdout, found[1].split()


@pytest.mark.slow
def test_what_is_put_into_the_page_ends_no_element_and_fills_no_other_place(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    hostile = [*HOSTILE, "\u2028", "&lt;", "{figures}", "\ud800"]
    page = plots.fill([{"title": name, "data": {"values": [{name: name}]}} for name in hostile], [])
    (data,) = re.findall(r'<script type="application/json" id="specifications">(.*?)</script>', page)
    assert [one["title"] for one in json.loads(data)] == hostile
    assert not re.search(r"[<>&\u2028]", data)
    drawn = [plots.fill([], [(name, tmp_path / "a.png")]) for name in HOSTILE]
    for name, page in zip(HOSTILE, drawn, strict=True):
        assert html.unescape(re.findall("<figcaption>(.*?)</figcaption>", page)[0]) == name
        figure = page.partition("<figure>")[2].partition("</figure>")[0]
        assert re.findall("<[a-z!]+", figure) == ["<figcaption", "<img"]


@pytest.mark.slow
def test_the_policy_lets_run_the_pages_own_scripts_and_nothing_else():
    page = plots.fill([], [])
    policy = re.findall(r'content="(default-src[^"]*)"', page)[0]
    elements = re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    for kind, text in elements:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in next(part for part in policy.split("; ") if part.startswith(kind))
    assert [kind for kind, _ in elements] == ["style", "script", "script"]
    assert policy.count("sha256-") == 3 and "unsafe" not in policy
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'"} < set(policy.split("; "))


@pytest.mark.slow
def test_a_project_without_plots_says_what_to_do(tmp_path):
    project = Project(tmp_path / "project")
    project.params["datasets"]["digits"] = {"train": {}}
    project.commit(lock=False)
    done = run(project)
    assert done.returncode == 1 and "dvc has no plots to show: run dvc repro first" in done.stderr
    assert not (project.root / "plots.html").exists()


@pytest.mark.parametrize(
    ("path", "caption"),
    [
        ("metrics/mine/figures/worst.png", "mine: worst"),
        ("metrics/mine/external/clinic/figures/worst.png", "mine, external, clinic: worst"),
        ("metrics/mine/members/fold0/figures/training.svg", "mine, members, fold0: training"),
        ("plots/curve.png", "plots: curve"),
    ],
)
def test_a_figure_of_a_study_is_not_called_as_that_of_its_dataset(path, caption):
    assert plots._caption(path, ["workspace"]) == caption
