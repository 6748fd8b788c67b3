"""The ensemble of a study's trainings, or the best of them, as one file in each format."""

import json

import numpy as np
import pytest
import torch

from stages import export_study as stage
from stages.lib import params, tensors
from stages.lib.core.errors import DamagedOut
from stages.lib.export import validation
from stages.lib.export.formats import FORMATS, file_format
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from stages.lib.model.ensemble import Ensemble
from stages.lib.params.export import ExportParams
from stages.lib.params.ingest import IngestParams
from stages.lib.params.study import StudyParams
from tests.conftest import write_cases_of, write_dataset_h5
from tests.studies.test_study import gather

pytestmark = pytest.mark.slow
STUDY = {"folds": 2, "seeds": (0, 1)}
OUTS = ("model.torchscript", "model.onnx", "model.pt2", "variants", "card.md", "export.json")


@pytest.fixture(scope="module", params=[(1, 8, 8), (1, 6, 8, 8)], ids=["pictures", "volumes"])
def made(request, tmp_path_factory):
    """A study of a tiny dataset, gathered, and its cases."""
    folder = tmp_path_factory.mktemp("study")
    write_dataset_h5(folder / "images.h5", request.param)
    write_cases_of(folder / "cases", folder / "images.h5")
    gather(folder, STUDY)
    return folder


def export(folder, what: str, of: dict = STUDY, **given):
    outs = [folder / what / name for name in OUTS]
    section, study = params.check(ExportParams, given), StudyParams(**of, export=what)
    read = (folder / name for name in ("cases", "images.h5", "members", "study.json", "scores.csv"))
    stage.main(*read, *outs, section, IngestParams(), study, "tiny")
    return folder / what


def members(folder, settings: Settings, unlike: bool = False):
    names = sorted(path.name for path in (folder / "members").iterdir())
    return {
        n: Deployed(checkpoint.load(folder / "members" / n / "model.pt")[0], settings, unlike).eval() for n in names
    }


def test_every_file_of_the_ensemble_gives_the_mean_of_the_trainings_probabilities(made, capsys):
    written = export(made, "ensemble")
    report = json.loads((made / "study.json").read_text())
    test = tensors.read_split(made / "images.h5", "test")
    x = torch.from_numpy(np.array(test.x))
    with torch.inference_mode():
        of_each = {n: model(x).numpy() for n, model in members(made, Settings(**report["deployed"])).items()}
    assert len(of_each) == 4 and np.ptp([p[0, 0] for p in of_each.values()]) > 1e-3  # they do differ
    mean = np.mean(list(of_each.values()), axis=0)
    for suffix in FORMATS:
        (said,) = file_format(suffix).load(written / f"model{suffix}", any_operator=True)(test.x)
        np.testing.assert_allclose(said, mean, atol=1e-5)
    checked = json.loads((written / "export.json").read_text())
    assert checked["model.onnx"]["difference_below"] <= 1e-5 and checked["test_cases"] == 24
    card = (written / "card.md").read_text()
    assert "The mean of the probabilities of 4 trainings, side by side in one file" in card
    one, together = (int(cell.replace(",", "")) for cell in row(card, "multiply-adds of a sample"))
    assert together == 4 * one > 0
    assert "| score | held out | test |" in card and f"| accuracy | {report['out_of_fold']['accuracy']:.4g} |" in card
    assert "ms a sample as model.onnx" in capsys.readouterr().out
    assert all(f"| {name}_sha256 |" in card for name in of_each)


def row(card: str, name: str) -> list[str]:
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_best_training_is_exported_alone_with_what_it_would_be_deployed_with(made):
    written = export(made, "best")
    about = json.loads((made / "study.json").read_text())["best"]
    test = tensors.read_split(made / "images.h5", "test")
    with torch.inference_mode():
        model = members(made, Settings(**about["deployed"]))[about["member"]]
        expected = model(torch.from_numpy(np.array(test.x))).numpy()
    (said,) = file_format(".onnx").load(written / "model.onnx")(test.x)
    np.testing.assert_allclose(said, expected, atol=1e-5)
    assert float((said.argmax(1) == test.y).mean()) == pytest.approx(about["test"]["accuracy"])
    assert f"The training {about['member']} of a study" in (written / "card.md").read_text()


def test_an_ensemble_tells_what_is_unlike_by_the_mean_of_its_trainings(made):
    written = export(made, "ensemble", unlike=True)
    report = json.loads((made / "study.json").read_text())
    test = tensors.read_split(made / "images.h5", "test")
    with torch.inference_mode():
        each = [m(torch.from_numpy(np.array(test.x)))[1].numpy()
                for m in members(made, Settings(**report["deployed"]), unlike=True).values()]  # fmt: skip
    _, unlike = file_format(".onnx").load(written / "model.onnx")(test.x)
    np.testing.assert_allclose(unlike, np.mean(each, axis=0), rtol=1e-3, atol=1e-3)


def test_an_ensemble_of_one_is_that_one(made):
    report = json.loads((made / "study.json").read_text())
    model = next(iter(members(made, Settings(**report["deployed"])).values()))
    x = torch.from_numpy(np.array(tensors.read_split(made / "images.h5", "test").x))
    with torch.inference_mode():
        torch.testing.assert_close(Ensemble([model])(x), model(x), rtol=0, atol=0)


def test_a_study_json_without_what_is_exported_is_named(tmp_path):
    (tmp_path / "study.json").write_text('{"best": {"member": "fold0"}}')
    with pytest.raises(DamagedOut, match=r"study.json.*validation"):
        validation.read_study(tmp_path / "study.json", "best")
