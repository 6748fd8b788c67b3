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

from tests import HANG_SECONDS, ROOT
from tests.made_project import DVC_YAML, Project
from tools import plots

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PLOTS = """plots:
        - metrics/${key}/history.csv: {cache: false, x: epoch, y: validation_loss}
        - metrics/${key}/confusion.csv: {cache: false, x: predicted, y: actual, template: confusion}
        - metrics/${key}/roc.csv: {cache: false, x: false_positive_rate, y: true_positive_rate, template: curve_a_class}
        - metrics/${key}/figures: {cache: false}
"""


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
    """A project with two datasets whose plots page was made."""
    project = Project(tmp_path_factory.mktemp("plots") / "project")
    project.write("dvc.yaml", DVC_YAML.replace('plots: [{"metrics/${key}/predictions.csv": {cache: false}}]', PLOTS))
    shutil.copytree(ROOT / ".dvc" / "plots", project.root / ".dvc" / "plots")
    for dataset in ("digits", "phantoms"):
        project.dataset(dataset)
        folder = project.root / "metrics" / dataset
        pd.DataFrame({"epoch": [1, 2, 3], "validation_loss": [0.9, 0.5, 0.4]}).to_csv(folder / "history.csv")
        names = ("cat", "dog") if dataset == "digits" else HOSTILE
        answers = {"actual": names, "predicted": names}
        pd.DataFrame(answers).to_csv(folder / "confusion.csv", index=False)
        curve = {"class": names * 2, "false_positive_rate": [0, 1] * len(names)}
        curve["true_positive_rate"] = curve["false_positive_rate"]
        pd.DataFrame(curve).to_csv(folder / "roc.csv", index=False)
        (folder / "figures").mkdir()
        for name in ("worst", "samples"):
            iio.imwrite(folder / "figures" / f"{name}.png", np.arange(1024, dtype=np.uint8).reshape(32, 32))
    project.commit()
    done = run(project)
    assert done.returncode == 0, done.stderr
    return project


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


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_every_chart_is_drawn_in_a_browser_and_no_request_leaves_the_page(plotted, tmp_path):
    page = (plotted.root / "plots.html").read_text()
    dom, requested = opened(page, tmp_path / "page")
    assert len(re.findall(r'<(?:canvas|svg)[^>]*class="marks"', dom)) == 6, "two curves and a matrix of each dataset"
    assert requested == []
    for name in HOSTILE:
        assert f">{shown_as_text(name)}</text>" in dom, "a class's name is text of the chart"
    assert "data-ran" not in dom
    leaking = page.replace("</body>", '<script>ran()</script><img src="http://127.0.0.1:9/leak.png"></body>')
    dom, requested = opened(leaking, tmp_path / "leaking")
    assert set(requested) == {"inline", "http://127.0.0.1:9/leak.png"}
    assert "data-ran" not in dom, "the policy stops what gets into the page's HTML all the same"


def shown_as_text(name):
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def opened(page, folder):
    """The DOM after a browser ran the page, and all addresses that it requested, blocked requests included."""
    folder.mkdir()
    watch = """
        const asked = [];
        window.ran = () => { document.body.dataset.ran = "yes"; };
        addEventListener("securitypolicyviolation", (event) => asked.push(event.blockedURI));
        addEventListener("load", () => setTimeout(() => {
            const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
            document.body.dataset.asked = [...asked, ...fetched.filter((name) => !name.startsWith("data:"))].join(" ");
        }, 1000));
    """
    digest = base64.b64encode(hashlib.sha256(watch.encode()).digest()).decode()
    watched = page.replace("<title>", f"<script>{watch}</script><title>", 1)
    watched = watched.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (folder / "page.html").write_text(watched)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom"]
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
