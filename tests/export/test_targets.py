"""Files of models that answer something else than one class: each gives what the deployed model says."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from stages import export
from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.export import formats, metadata, parity, variants
from stages.lib.export.end_to_end import Native
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from tests.conftest import write_cases_of, write_dataset_h5, write_model_pt
from tests.export.test_export import NAMED

pytestmark = [
    pytest.mark.slow,  # of exporting every format
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
]
UNLIKE = {"unlike_means": [0.0] * 4, "unlike_deviations": [1.0] * 4, "unlike_threshold": -1.0}
FITTED = {
    "classes": {"temperature": 2.0},
    "ordinal": {"temperature": 0.5},
    "multilabel": {"temperatures": [2.0, 0.5, 1.0], "thresholds": [0.25, 0.5, 0.75]},
    "regression": {"half_width": 1.5},
    "log_regression": {"half_width": 0.125},
}
SCORES = {
    "classes": {"accuracy": 0.5},
    "ordinal": {"accuracy": 0.5, "quadratic_kappa": 0.25},
    "multilabel": {"macro_auroc": 0.5},
    "regression": {"mae": 0.75, "r2": 0.25},
    "log_regression": {"mae": 0.75, "r2": 0.25},
}
CASES = [(kind, shape) for kind in FITTED for shape in ((1, 8, 8), (1, 6, 8, 8))]


def measured(kind, **given):
    """validate.json of a kind of target."""
    settings = {"temperature": 1.0, "flips": "W"} | UNLIKE | FITTED[kind] | given
    found = SCORES[kind]
    return {"validation": found, "test": found, "test_interval": {}, "deployed": settings, "unlike": {}}


def run(folder, kind, validate_json, **given):
    """Exports the model of a folder."""
    names = ["class0", "class1", "class2"] if kind in ("classes", "ordinal", "multilabel") else []
    rows = [f"test,{name},{row},," for name in names for row in ("recall,0.75", "cases,8")]
    (folder / "scores.csv").write_text("\n".join(["split,class,score,value,low,high", "test,,mae,0.75,,", *rows, ""]))
    (folder / "validate.json").write_text(json.dumps(validate_json))
    export.main(
        folder / "cases",
        folder / "dataset.h5",
        folder / "model.pt",
        **{name.replace(".", "_"): folder / name for name in NAMED},
        params=params.check(params.ExportParams, given),
        ingest=params.IngestParams(),
        dataset="stripes",
    )
    return json.loads((folder / "export.json").read_text())


@pytest.fixture(scope="module", params=CASES, ids=[f"{kind}-{len(shape) - 1}d" for kind, shape in CASES])
def done(request, tmp_path_factory):
    """A folder in which an export has run, and the kind of its target."""
    kind, shape = request.param
    folder = tmp_path_factory.mktemp("exported")
    write_dataset_h5(folder / "dataset.h5", shape, kind=kind, weighted=True)
    write_model_pt(folder / "model.pt", folder / "dataset.h5", trained=True)
    write_cases_of(folder / "cases", folder / "dataset.h5")
    run(folder, kind, measured(kind), variants=["half", "int8"], unlike=True)
    return folder, kind


def asked_of(folder):
    return tensors.read_description(folder / "dataset.h5").asked


def said(folder, kind, x, spacing=None):
    """What the deployed model says, (N, K) and (N,)."""
    classifier, recipe = checkpoint.load(folder / "model.pt")
    asked = tensors.Description(**recipe.description).asked
    settings = Settings(**measured(kind)["deployed"])
    model = Native(
        Geometry(**recipe.description["geometry"]), deployed(classifier, asked, settings, unlike=True)
    ).eval()
    with torch.no_grad():
        return [output.numpy() for output in model(torch.from_numpy(x), spacing)]


def test_every_format_says_what_the_deployed_model_says_of_samples_of_any_size(done):
    folder, kind = done
    rng = np.random.default_rng(0)
    x = np.array(tensors.read_split(folder / "dataset.h5", "test").x)
    spaced = x.ndim == 5
    spacing = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64) if spaced else None
    other = rng.integers(0, 255, (2, 1, *([5] if spaced else []), 9, 17)).astype(x.dtype)
    for given in (x, x[:1], other):
        wanted, strange = said(folder, kind, given, spacing)
        for suffix in formats.FORMATS:
            found, away = formats.file_format(suffix).load(folder / f"model{suffix}")(given, spacing)
            assert found.shape == wanted.shape == (len(given), 3)
            assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5), suffix
            assert np.allclose(away, strange, rtol=1e-3, atol=1e-3), suffix
    wanted = said(folder, kind, x, spacing)[0]
    if kind in ("classes", "ordinal"):
        assert np.allclose(wanted.sum(1), 1, atol=1e-5)
    elif kind != "multilabel":
        value, low, high = wanted.T
        reach = FITTED[kind]["half_width"]
        bounds = (
            (value - reach, value + reach) if kind == "regression" else (value * np.exp(-reach), value * np.exp(reach))
        )
        assert np.allclose(bounds, (low, high), rtol=1e-4)
        truth = tensors.read_split(folder / "dataset.h5", "test").target[:, 0]
        assert np.abs(value - truth).mean() < 1.3, "it has learnt the place of the stripe"


def test_every_file_says_what_its_output_is_an_answer_to(done):
    folder, kind = done
    asked = asked_of(folder)
    number = kind in ("regression", "log_regression")
    names = ["diameter", "diameter low", "diameter high"] if number else ["class0", "class1", "class2"]
    for suffix in formats.FORMATS:
        facts = formats.open_model(folder / f"model{suffix}", trust=True)[1]
        assert facts["target"] == {
            name: getattr(asked, name) for name in ("kind", "names", "unit", "mean", "deviation")
        }
        assert facts["outputs"] == names and facts["classes"] == asked.names
        assert facts["deployed"] == measured(kind)["deployed"] | {"unlike_means": [0.0] * 4}
    session = onnx.load(folder / "model.onnx")
    assert [one.name for one in session.graph.output] == ["number" if number else "probabilities", "unlike"]
    extra = {"classes.txt": "", "target.txt": ""}
    torch.jit.load(folder / "model.torchscript", _extra_files=extra)
    in_mm = [f"{name} [mm]" for name in names] if number else names
    assert extra["classes.txt"].decode().splitlines() == in_mm and extra["target.txt"].decode() == f"{kind}\n"
    counted = facts["cases"]["train"]
    if number:
        assert counted == {"cases": 24, "mean": 12.0, "minimum": 10.0, "maximum": 14.0}
    elif kind == "multilabel":
        assert counted == {"cases": 24, "known": [24, 24, 19], "positive": [8, 8, 6]}
    else:
        assert counted == [8, 8, 8]


def test_smaller_variants_are_measured_by_what_the_kind_of_answer_can_be_measured_by(done):
    folder, kind = done
    report = json.loads((folder / "export.json").read_text())
    table = pd.read_csv(folder / "variants" / "accuracy.csv")
    score = {"multilabel": "label_accuracy", "regression": "mae", "log_regression": "mae"}.get(kind, "accuracy")
    assert list(table.columns) == ["file", "bytes", score, "difference_below"]
    split = tensors.read_split(folder / "dataset.h5", "test")
    weights = 1.0 + np.arange(24) % 2
    for row in table.to_dict("records"):
        path = folder / "variants" / row["file"] if "." in row["file"].removesuffix(".onnx") else folder / row["file"]
        answers = formats.onnx.load(path)(np.array(split.x))[0].astype(float)
        if score == "accuracy":
            wanted = np.average(answers.argmax(1) == split.y, weights=weights)
        elif score == "mae":
            wanted = np.average(np.abs(answers[:, 0] - split.target[:, 0]), weights=weights)
        else:
            known = np.isfinite(split.target)
            right = (answers >= np.array(FITTED[kind]["thresholds"])) == (split.target == 1)
            wanted = np.average(right[known], weights=np.broadcast_to(weights[:, None], known.shape)[known])
        assert row[score] == pytest.approx(wanted, rel=1e-5)
        if row["file"] != "model.onnx":
            assert report["variants"][row["file"]][score] == pytest.approx(wanted, rel=1e-5)
            assert 0 < row["difference_below"] <= 1


def test_the_card_says_what_is_asked_and_claims_nothing_of_another_kind(done):
    folder, kind = done
    text = (folder / "card.md").read_text()
    _, front, body = text.split("---\n", 2)
    front = YAML(typ="safe").load(front)
    assert front["pipeline_tag"] == "image-classification"
    metrics = {one["type"]: one["value"] for one in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == SCORES[kind]
    number = kind in ("regression", "log_regression")
    for word, of_kinds in {
        "softmax": ("classes", "ordinal"),
        "each row sums to 1": ("classes", "ordinal"),
        "Each class on the test split": ("classes", "ordinal"),
        "which are in this order": ("ordinal",),
        "each to a share": ("classes",),
        "Each label on the test split": ("multilabel",),
        "sigmoid": ("multilabel",),
        "| class2 | 0.75 | 1 |": ("multilabel",),
        "8 of 24": ("multilabel",),
        "Gives one number, diameter, in mm, and an interval": ("regression", "log_regression"),
        "number, (N, 3), in mm: diameter, diameter low, diameter high": ("regression", "log_regression"),
        "| train | 12 | 10 | 14 | 24 |": ("regression", "log_regression"),
        "The numbers in training were 10 to 14 mm": ("regression", "log_regression"),
        "Errors are in mm": ("regression", "log_regression"),
        "1.5 mm to both sides": ("regression",),
        "0.8825 to 1.133 times": ("log_regression",),
        "mae on test": ("regression", "log_regression"),
        "deviations of the logarithms": ("log_regression",),
    }.items():
        assert (word in body) == (kind in of_kinds), word
    assert ("probabilit" in body) != number and "Measured on 24 test cases" in body


@pytest.mark.parametrize(
    "kind, given, message",
    [
        ("multilabel", {"thresholds": [0.5]}, "thresholds"),
        ("multilabel", {"thresholds": [0.5, 0.5, 1.5]}, "impossible"),
        ("multilabel", {"temperatures": [1.0, 1.0, 0.0]}, "impossible"),
        ("multilabel", {"temperatures": [1.0]}, "temperatures"),
        ("multilabel", {"half_width": 1.0}, "half_width"),
        ("regression", {"half_width": -1.0}, "impossible"),
        ("regression", {"thresholds": [0.5]}, "thresholds"),
        ("ordinal", {"temperatures": [1.0, 1.0, 1.0]}, "temperatures"),
    ],
)
def test_settings_of_another_kind_of_answer_are_refused_by_their_names(tmp_path, kind, given, message):
    write_dataset_h5(tmp_path / "dataset.h5", kind=kind)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5")
    write_cases_of(tmp_path / "cases", tmp_path / "dataset.h5")
    with pytest.raises(UserError, match=rf"validate\.json.*{message}"):
        run(tmp_path, kind, measured(kind, **given))


@pytest.mark.parametrize("kind", ["regression", "log_regression"])
def test_a_number_beyond_the_tolerance_in_deviations_of_training_is_refused(tmp_path, monkeypatch, kind):
    write_dataset_h5(tmp_path / "dataset.h5", kind=kind)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5", trained=True)
    write_cases_of(tmp_path / "cases", tmp_path / "dataset.h5")
    load = formats.onnx.load

    def load_something_else(path, **options):
        runner = load(path, **options)
        return lambda *given: tuple(output * 1.001 for output in runner(*given))

    monkeypatch.setattr(formats.onnx, "load", load_something_else)
    with pytest.raises(UserError, match=r"model\.onnx gives a number that is 0\.0\S* deviations of .*in training off"):
        run(tmp_path, kind, measured(kind))
    assert not (tmp_path / "model.onnx").exists()


def test_how_far_a_number_is_off_is_counted_in_deviations_and_what_float32_cannot_hold_is_allowed():
    asked = tensors.Asked("regression", ["year"], "", 1980.0, 0.01)
    wanted = np.array([[1980.0, 1979.0, 1981.0]])
    found = wanted.astype(np.float32).astype(float) + np.spacing(np.float32(1980))
    apart = parity.off(found, wanted, asked)
    assert apart.largest == pytest.approx(np.spacing(np.float32(1980)) / 0.01) and apart.beyond == 0
    assert parity.off(wanted + 1, wanted, asked).beyond == pytest.approx(100, rel=1e-2)
    logarithm = tensors.Asked("log_regression", ["volume"], "ml", 0.0, 2.0)
    apart = parity.off(np.array([[np.e, 1.0, 1.0]]), np.ones((1, 3)), logarithm)
    assert apart.largest == pytest.approx(0.5) and apart.beyond == pytest.approx(0.5, rel=1e-5)
    labels = tensors.Asked("multilabel", ["a", "b"])
    assert parity.off(np.array([[0.25, 1.0]]), np.array([[0.5, 1.0]]), labels) == (0.25, 0.25)


def test_a_variant_whose_answers_are_no_finite_numbers_is_refused_by_name(tmp_path, monkeypatch):
    write_dataset_h5(tmp_path / "dataset.h5", kind="regression")
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5", trained=True)
    write_cases_of(tmp_path / "cases", tmp_path / "dataset.h5")

    def load_beyond(path, **options):
        runner = formats.onnx.load(path, **options)
        return lambda *given: tuple(output * (np.inf if "half" in path.name else 1) for output in runner(*given))

    monkeypatch.setattr(variants, "load", load_beyond)
    with pytest.raises(UserError, match=r"model\.half\.onnx gives outputs that are no finite .*export\.variants"):
        run(tmp_path, "regression", measured("regression"), variants=["half"])
    assert not (tmp_path / "model.onnx").exists()


def test_a_split_of_which_nothing_is_known_has_no_score():
    nothing = np.full((2, 2), np.nan)
    split = tensors.Split(
        np.zeros((2, 1, 1, 1)), np.zeros(2, int), np.array([b"a", b"b"]), np.array([b"a", b"b"]), nothing
    )
    name, value = variants.measured(np.ones((2, 2)), split, tensors.Asked("multilabel", ["a", "b"]))
    assert name == "label_accuracy" and np.isnan(value)


def test_plain_classes_say_nothing_of_a_target():
    assert metadata.answer({"classes": ["a", "b"]}) == {}
