import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml

from stages import export
from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.export import formats, metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import archive, checkpoint
from stages.lib.model.deployed import Deployed, Settings
from tests.conftest import write_cases_of, write_dataset_h5, write_model_pt
from tools.bench import export as bench_export

MODELS = [f"model{suffix}" for suffix in formats.FORMATS]
FILES = (*MODELS, "card.md", "export.json", "variants/accuracy.csv")
NAMED = (*FILES[:-1], "variants", "validate.json", "scores.csv")
MEASURED = {
    "validation": {"accuracy": 0.5},
    "test": {"accuracy": 0.25, "auroc": None},
    "test_interval": {"accuracy": [0.125, 0.375]},
    "deployed": {
        "temperature": 2.0,
        "flips": "W",
        "unlike_means": [0, 0, 0, 0],
        "unlike_deviations": [1, 1, 1, 1],
        "unlike_threshold": -1.0,
    },
    "unlike": {},
}

# torch deprecates TorchScript in favour of torch.export; .pt2 stands beside it.
pytestmark = [
    pytest.mark.slow,  # most of it for the fixture `done`, which exports every format
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
]


ROWS = [f"test,class{label},{row},," for label in range(3) for row in ("recall,0.75", "cases,8")]
SCORES = "\n".join(["split,class,score,value,low,high", *ROWS, ""])


def run(folder, dataset_h5, model_pt, **given):
    folder.mkdir(exist_ok=True)
    (folder / "validate.json").write_text(json.dumps(MEASURED))
    (folder / "scores.csv").write_text(SCORES)
    paths = {name.replace(".", "_"): folder / name for name in NAMED}
    write_cases_of(folder / "cases", dataset_h5)
    export.main(
        folder / "cases",
        dataset_h5,
        model_pt,
        **paths,
        params=params.check(params.ExportParams, given),
        ingest=params.IngestParams(),
        dataset="stripes",
    )
    return json.loads((folder / "export.json").read_text())


@pytest.fixture(scope="module", params=[(1, 8, 8), (1, 6, 8, 8)], ids=["images", "volumes"])
def done(request, tmp_path_factory):
    """A folder in which an export has run."""
    folder = tmp_path_factory.mktemp("exported")
    write_dataset_h5(folder / "dataset.h5", request.param)
    write_model_pt(folder / "model.pt", folder / "dataset.h5", trained=True)
    run(folder, folder / "dataset.h5", folder / "model.pt")
    return folder


@pytest.mark.parametrize("suffix", formats.FORMATS)
def test_every_format_gives_the_networks_probabilities_for_any_batch_size(done, suffix):
    classifier, _ = checkpoint.load(done / "model.pt")
    x = np.array(tensors.read_split(done / "dataset.h5", "test").x)
    views = [classifier(torch.from_numpy(x)), classifier(torch.from_numpy(x).flip(-1))]
    wanted = torch.stack([(logits / 2.0).softmax(1) for logits in views]).mean(0).detach().numpy()
    runner = formats.file_format(suffix).load(done / f"model{suffix}")
    for size in (1, 2, 3, 24):
        assert np.abs(runner(x[:size])[0] - wanted[:size]).max() < 1e-6


def test_the_files_run_without_this_projects_code(done, tmp_path):
    x = np.array(tensors.read_split(done / "dataset.h5", "test").x)
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, warnings; warnings.simplefilter("ignore")
import numpy, onnxruntime, torch
folder, x = sys.argv[1], numpy.load("x.npy")
given = [x] + [numpy.array([2.0, 1.0, 1.0])] * (x.ndim == 5)
tensors = [torch.from_numpy(one) for one in given]
a = onnxruntime.InferenceSession(folder + "/model.onnx").run(None, dict(zip(["input", "spacing_mm"], given)))[0]
b = torch.jit.load(folder + "/model.torchscript")(*tensors).numpy()
c = torch.export.load(folder + "/model.pt2").module()(*tensors).detach().numpy()
assert abs(a.sum(1) - 1).max() < 1e-5 and abs(a - b).max() < 1e-5 and abs(a - c).max() < 1e-5
assert not [name for name in sys.modules if name.startswith("stages")]
"""
    subprocess.run([sys.executable, "-c", code, str(done)], cwd=tmp_path, check=True)


def test_the_files_name_no_path_of_the_machine(done):
    root = str(Path(export.__file__).parents[1]).encode()
    for name in ("model.onnx", "card.md", "export.json"):
        assert root not in (done / name).read_bytes(), name
    for name in ("model.torchscript", "model.pt2"):
        with zipfile.ZipFile(done / name) as file:
            for member in file.namelist():
                content = file.read(member)
                assert root not in content and b"site-packages" not in content, member


def test_every_file_says_what_it_takes_and_what_it_was_made_from(done):
    (note,) = onnx.load(done / "model.onnx").metadata_props
    facts = json.loads(note.value)
    assert facts["classes"] == ["class0", "class1", "class2"]
    contract = facts["input"]
    assert contract["dtype"] == tensors.read_description(done / "dataset.h5").dtype
    extra = {"metadata.json": ""}
    torch.jit.load(done / "model.torchscript", _extra_files=extra)
    assert json.loads(extra["metadata.json"])["input"] == contract
    extra = {"metadata.json": ""}
    torch.export.load(done / "model.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"])["model_sha256"] == facts["model_sha256"]


def test_an_export_beyond_the_tolerance_is_refused_and_the_former_files_stay(done, tmp_path, monkeypatch):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    load = formats.pt2.load

    def load_something_else(path, **options):
        runner = load(path, **options)
        return lambda *given: tuple(output * 0.999 for output in runner(*given))

    monkeypatch.setattr(formats.pt2, "load", load_something_else)
    with pytest.raises(UserError, match=r"model\.pt2 gives .* export\.tolerance is 1e-05"):
        run(tmp_path, done / "dataset.h5", done / "model.pt")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("suffix", formats.FORMATS)
def test_every_format_brings_what_it_is_given_to_the_datasets_size_and_spacing(done, suffix):
    classifier, recipe = checkpoint.load(done / "model.pt")
    settings = Settings(**MEASURED["deployed"] | {"unlike_threshold": 0.0})
    model = Native(Geometry(**recipe.description["geometry"]), Deployed(classifier, settings)).eval()
    runner = formats.file_format(suffix).load(done / f"model{suffix}")
    rng = np.random.default_rng(0)
    spaced = len(recipe.description["shape"]) == 4
    for size in ((8, 8), (1, 1), (3, 40), (17, 9)):
        x = rng.integers(0, 255, (2, 1, *([5] if spaced else []), *size)).astype(recipe.description["dtype"])
        spacing = torch.tensor([1.5, 0.7, 1.0], dtype=torch.float64) if spaced else None
        wanted = model(torch.from_numpy(x), spacing).detach().numpy()
        assert np.abs(runner(x, spacing)[0] - wanted).max() < 1e-6


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("suffix", formats.FORMATS)
def test_every_format_pads_or_stretches_as_the_dataset_was(tmp_path, images_h5, suffix, fit):
    write_model_pt(tmp_path / "model.pt", images_h5)
    classifier, recipe = checkpoint.load(tmp_path / "model.pt")
    geometry = Geometry(**recipe.description["geometry"], fit=fit)
    recipe.description["geometry"]["fit"] = fit
    module = Native(geometry, Deployed(classifier, Settings())).eval()
    facts = metadata.collect("tiny", recipe, Settings(), images_h5, tmp_path / "model.pt")
    program = Program(module, tuple(recipe.description["shape"]), facts["input"]["dtype"], facts, 18, 1)
    formats.file_format(suffix).write(tmp_path / f"model{suffix}", program)
    runner = formats.file_format(suffix).load(tmp_path / f"model{suffix}")
    for size in ((8, 8), (1, 1), (3, 40), (17, 9)):
        x = np.random.default_rng(0).integers(0, 255, (2, 1, *size)).astype(recipe.description["dtype"])
        wanted = module(torch.from_numpy(x)).detach().numpy()
        assert np.abs(runner(x, None)[0] - wanted).max() < 1e-6


def attacked(program, mark):
    """Programs whose code makes the file `mark` where torch's own loader is given them."""
    code = f"__import__('os').system('touch {mark}')"
    text = json.dumps(program)
    symbol = "Symbol('s77', positive=True, integer=True)"
    assert symbol in text
    yield json.loads(text.replace(symbol, f"{symbol} if {code} == 0 else 1", 1))  # an expression of sizes
    yield program | {"guards_code": [f"[{code}] and True"]}


def test_a_pt2_file_runs_no_code_that_torchs_loader_would_run(done, tmp_path):
    mark = tmp_path / "mark"
    with zipfile.ZipFile(done / "model.pt2") as file:
        members = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    for number, program in enumerate(attacked(json.loads(members["models/model.json"]), mark)):
        path = tmp_path / f"{number}.pt2"
        path.write_bytes(archive.packed(members | {"models/model.json": json.dumps(program).encode()}))
        loaded = torch.export.load(path)
        loaded.module()(*loaded.example_inputs[0])
        assert mark.exists()
        mark.unlink()
        try:
            formats.file_format(".pt2").load(path)(*(x.numpy() for x in loaded.example_inputs[0]))
        except UserError as error:
            assert "is no expression of sizes" in str(error)
        assert not mark.exists()


def test_a_file_that_other_sizes_are_too_much_for_is_refused(done, tmp_path, monkeypatch):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    load = formats.onnx.load
    shape = tensors.read_description(done / "dataset.h5").shape

    def load_something_else(path, **options):
        runner = load(path, **options)
        return lambda x, *spacing: runner(x if list(x.shape[1:]) == shape else np.zeros_like(x), *spacing)

    monkeypatch.setattr(formats.onnx, "load", load_something_else)
    with pytest.raises(UserError, match=r"model\.onnx .*(a sample one pixel larger|export\.tolerance)"):
        run(tmp_path, done / "dataset.h5", done / "model.pt")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_a_fully_convolutional_network_runs_on_the_size_that_it_is_given(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, "compact", {"widths": [4], "whiten": False})
    run(tmp_path, images_h5, tmp_path / "model.pt", size="any")
    model = Deployed(checkpoint.load(tmp_path / "model.pt")[0], Settings(temperature=2.0, flips="W")).eval()
    for size in ((8, 8), (21, 13), (40, 8)):
        x = np.random.default_rng(0).integers(0, 255, (3, 1, *size), np.uint8)
        wanted = model(torch.from_numpy(x)).detach().numpy()
        for suffix in formats.FORMATS:
            assert np.abs(formats.file_format(suffix).load(tmp_path / f"model{suffix}")(x)[0] - wanted).max() < 1e-6
    assert "the network runs on what it gets" in (tmp_path / "card.md").read_text()


def test_a_network_of_one_size_or_one_spacing_is_not_exported_for_any(done, tmp_path):
    message = "has one spacing" if "CDHW" in tensors.read_description(done / "dataset.h5").axes else r"\(8, 8\) alone"
    with pytest.raises(UserError, match=f"export.size is any, but .*{message}"):
        run(tmp_path, done / "dataset.h5", done / "model.pt", size="any")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("colour", ["rgb", "grey_mean", "grey_luminance"])
def test_pictures_in_colour_and_in_grey_are_taken_where_the_dataset_recolours_them(tmp_path, colour):
    geometry = Geometry(colour, None, None, (8, 8), 0.0, "uint16")
    channels = 3 if colour == "rgb" else 1
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * 64, 2), torch.nn.Softmax(1))
    module = Native(geometry, network).eval()
    facts = {"classes": ["a", "b"], "input": {"inputs": ["input"], "channels": [1, 3], "dtype": "uint16"}}
    for suffix in formats.FORMATS:
        file_format = formats.file_format(suffix)
        file_format.write(tmp_path / f"m{suffix}", Program(module, (channels, 8, 8), "uint16", facts))
        runner = file_format.load(tmp_path / f"m{suffix}")
        for size in ((1, 8, 8), (3, 8, 8), (1, 9, 31), (3, 5, 4)):
            x = np.random.default_rng(0).integers(0, 65536, (2, *size)).astype(np.uint16)
            assert np.abs(runner(x)[0] - module(torch.from_numpy(x)).detach().numpy()).max() < 1e-6
        if colour != "grey_mean":  # two channels have no red, green and blue
            with pytest.raises(Exception, match=r"(?i)indices|index|interpreter"):
                runner(np.zeros((1, 2, 8, 8), np.uint16))


def test_the_card_has_front_matter_that_model_hubs_read(done):
    """As huggingface_hub's ModelCard splits and reads it, with the keys and types of the hub's model-index."""
    card = (done / "card.md").read_text()
    front, body = re.match(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(?:\r\n|\n|$)([\S\s]*)", card).groups()
    about = yaml.safe_load(front)
    assert set(about) == {"pipeline_tag", "tags", "model-index"}
    assert about["pipeline_tag"] == "image-classification"
    assert about["tags"] and all(isinstance(tag, str) for tag in about["tags"])
    (model,) = about["model-index"]
    (result,) = model["results"]
    assert model == {"name": "stripes", "results": [result]}
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "stripes", "type": "stripes", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": 0.25}]  # auroc has no value, so no entry
    assert set(result) == {"task", "dataset", "metrics"}
    assert body.startswith("\n# stripes: a classifier of ") and "class0, class1, class2" in body


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model").write_bytes(b"no model at all")
    for suffix in formats.FORMATS:
        with pytest.raises(UserError, match="is no"):
            formats.file_format(suffix).load(tmp_path / "model")


def test_pickled_code_inside_a_model_file_does_not_run(done, tmp_path):
    harmful = io.BytesIO()
    torch.save(Harm(tmp_path / "harm"), harmful)
    for suffix, member in ((".torchscript", "data.pkl"), (".pt2", "data/sample_inputs/model.pt")):
        path = tmp_path / f"model{suffix}"
        with zipfile.ZipFile(done / path.name) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                spoilt = pickle.dumps(Harm(tmp_path / "harm")) if suffix == ".torchscript" else harmful.getvalue()
                target.writestr(name, spoilt if name.endswith(member) else source.read(name))
        if suffix == ".pt2":
            formats.file_format(suffix).load(path)  # the example inputs are left out
            continue
        with pytest.raises(UserError):
            formats.file_format(suffix).load(path)
    path.write_bytes(harmful.getvalue())  # a whole module as torch.save writes it
    for suffix in formats.FORMATS:
        with pytest.raises(UserError):
            formats.file_format(suffix).load(path)
    assert not (tmp_path / "harm").exists()


class Harm:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 8, 8)], ids=["images", "volumes"])
def test_smaller_variants_are_written_with_their_accuracy_beside_the_originals(tmp_path, shape):
    write_dataset_h5(tmp_path / "dataset.h5", shape)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5", trained=True)
    report = run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt", variants=["half", "int8"], unlike=True)
    test = tensors.read_split(tmp_path / "dataset.h5", "test")
    original, unlike = formats.onnx.load(tmp_path / "model.onnx")(np.array(test.x))
    assert unlike.shape == (24,)
    for name in ("half", "int8"):
        path = tmp_path / "variants" / f"model.{name}.onnx"
        said = formats.onnx.load(path)(np.array(test.x))[0]
        noted = report["variants"][path.name]
        assert noted["accuracy"] == pytest.approx((said.argmax(1) == test.y).mean(), rel=1e-5)
        assert 0 < np.abs(said - original).max() <= noted["difference_below"] < 0.2
        assert noted["bytes"] < report["model.onnx"]["bytes"]
        assert noted["sha256"] == metadata.sha256(path)
        assert formats.onnx.read_metadata(path) == formats.onnx.read_metadata(tmp_path / "model.onnx")
    assert "model.int8.onnx" in (tmp_path / "card.md").read_text()
    run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt")  # without variants, none of before are left
    assert [path.name for path in (tmp_path / "variants").iterdir()] == ["accuracy.csv"]


def test_volumes_of_a_single_slice_have_the_score_of_unlike_data_in_every_format(tmp_path):
    write_dataset_h5(tmp_path / "dataset.h5", (1, 1, 8, 8))
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5")
    run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt", unlike=True)
    x = np.array(tensors.read_split(tmp_path / "dataset.h5", "test").x)
    scores = [formats.file_format(suffix).load(tmp_path / f"model{suffix}")(x)[1] for suffix in formats.FORMATS]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4) and scores[2] == pytest.approx(scores[0], abs=1e-4)


def test_what_belongs_to_other_tensors_or_was_not_validated_is_refused(done, tmp_path):
    write_dataset_h5(tmp_path / "other.h5", (1, 8, 8), classes=2)
    with pytest.raises(UserError, match=r"other\.h5 is not what the model was trained on \(.*classes"):
        run(tmp_path, tmp_path / "other.h5", done / "model.pt")
    paths = {name.replace(".", "_"): tmp_path / "none" / name for name in NAMED}
    with pytest.raises(UserError, match="validate.json: not found"):
        export.main(
            done / "cases",
            done / "dataset.h5",
            done / "model.pt",
            **paths,
            params=params.ExportParams(),
            ingest=params.IngestParams(),
            dataset="stripes",
        )


class Choosing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if int(x.sum()) > 100:
            return x.float()
        return -x.float()


def test_a_choice_that_depends_on_the_input_stays_one_in_torchscript(tmp_path):
    program = Program(Choosing().eval(), (1, 2, 2), "uint8", {"classes": ["a"]})
    formats.torchscript.write(tmp_path / "model.torchscript", program)
    run = formats.torchscript.load(tmp_path / "model.torchscript")
    for value in (1, 200):
        x = np.full((1, 1, 2, 2), value, np.uint8)
        assert (run(x)[0] == (value if value == 200 else -value)).all()


def test_a_network_that_cannot_be_exported_gives_one_line():
    with pytest.raises(UserError, match="torch.export can't export this network") as refused:
        _ = Program(Choosing(), (1, 8, 8), "uint8", {}).exported
    assert "\n" not in str(refused.value)


def test_the_benchmark_has_a_row_for_the_network_and_every_file_at_both_batch_sizes(done, monkeypatch):
    monkeypatch.setattr(bench_export, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(bench_export, "TURN_SECONDS", 0)
    rows = bench_export.compare(done, rounds=1)
    names = sorted(MODELS)
    sizes = {row.work: row.ours[0] for row in rows if row.unit == "bytes"}
    assert sizes == {f"{done.name}, size of {name}": (done / name).stat().st_size for name in names}
    timed = [row for row in rows if row.unit == "s"]
    files = [row for row in timed if row.peer == bench_export.NETWORK]
    assert [row.work for row in files] == [f"{done.name}, {n}, batch of {b}" for b in (1, 64) for n in names]
    assert all(row.ours[0] > 0 and row.theirs[0] > 0 for row in files)
    runtimes = [row for row in timed if row not in files]
    peers = [peer.name for peer in bench_export.PEERS]
    assert [(row.work.rpartition(" ")[2], row.peer) for row in runtimes] == [(b, p) for b in ("1", "64") for p in peers]
    assert all(row.theirs or row.absent for row in runtimes)


def test_the_benchmark_refuses_a_folder_without_exported_files(done, tmp_path):
    shutil.copy(done / "model.pt", tmp_path)
    with pytest.raises(UserError, match="run the export stage first"):
        bench_export.compare(tmp_path, rounds=1)
