"""Where the network looked, of each kind of answer, without an exported file."""

import numpy as np
import pytest

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.export import metadata
from stages.lib.validate import gradcam
from tests.conftest import write_dataset_h5, write_model_pt
from tools import answers
from tools.explanation import Explanations
from tools.raw_cases import RawCase

SAID = {  # what is answered of two cases, and which output each is explained by
    "classes": ([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [2, 0]),
    "ordinal": ([[0.1, 0.7, 0.2], [0.1, 0.2, 0.7]], [1, 2]),
    "multilabel": ([[0.1, 0.9, 0.8], [0.3, 0.1, 0.4]], [1, 2]),
    "regression": ([[3.0, 2.0, 4.0], [1.0, 0.0, 9.0]], [0, 0]),
}


def facts_of(dataset_h5):
    about = tensors.read_description(dataset_h5).plain()
    return {"classes": about["classes"], "deployed": {}} | metadata.answer(about)


@pytest.mark.parametrize("kind", SAID)
def test_a_case_is_explained_by_the_output_that_is_told_of_it(tmp_path, monkeypatch, kind):
    write_dataset_h5(tmp_path / "d.h5", kind=kind)
    write_model_pt(tmp_path / "model.pt", tmp_path / "d.h5", trained=True)
    facts, asked_of, explain = facts_of(tmp_path / "d.h5"), [], gradcam.explain

    def explained(classifier, sample, k):
        asked_of.append(k)
        return explain(classifier, sample, k)

    monkeypatch.setattr(gradcam, "explain", explained)
    words = answers.wording(facts, 3)
    found = Explanations(tmp_path / "heat.png", tmp_path / "model.onnx", facts, words)
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    for i, said in enumerate(SAID[kind][0]):
        found.add(RawCase(f"{i}.png", x[i]), np.array(said, np.float32))
    found.add(RawCase("no picture"), None)
    texts = [tile.caption for tile in found._tiles]
    assert found.finish() == "" and (tmp_path / "heat.png").stat().st_size > 1000
    assert asked_of == SAID[kind][1]
    what = "diameter: 3 mm" if kind == "regression" else f"class{asked_of[0]}: {max(SAID[kind][0][0]):.0%}"
    assert texts[0] == f"0.png\n{what}"


@pytest.mark.parametrize("other", ["classes", "ordinal", "multilabel"])
def test_a_network_that_answers_something_else_under_the_same_names_explains_nothing(tmp_path, other):
    kinds = {"classes", "ordinal", "multilabel"} - {other}
    for kind in (other, *kinds):
        write_dataset_h5(tmp_path / f"{kind}.h5", kind=kind)
    write_model_pt(tmp_path / "model.pt", tmp_path / f"{other}.h5")
    for kind in kinds:
        facts = facts_of(tmp_path / f"{kind}.h5")
        with pytest.raises(UserError, match="model.pt answers something else than model.onnx: --explain needs its own"):
            Explanations(tmp_path / "heat.png", tmp_path / "model.onnx", facts, answers.wording(facts, 3))
