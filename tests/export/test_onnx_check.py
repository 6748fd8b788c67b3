import sys

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from stages.lib import workers
from stages.lib.core.errors import UserError
from stages.lib.export.formats import onnx as onnx_format


def outside(name):
    """A tensor whose bytes are those of a file beside the model."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def model(*nodes, initializers=(), domains=("",), functions=()):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([*nodes, helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y], initializers)
    imports = [helper.make_opsetid(domain, 20 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)


def branch():
    inside = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["v"])],
        "inside",
        [],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])],
        [outside("w")],
    )
    return helper.make_node("If", ["x"], ["v"], then_branch=inside, else_branch=inside)


def sparse():
    node = helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(outside("v"))
    return node


FUNCTION = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [])
UNMARKED = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
UNMARKED.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    "given, message",
    [
        (model(initializers=[outside("w")]), "keeps the tensor 'w' in another file"),
        (model(initializers=[UNMARKED]), "in another file"),
        (model(helper.make_node("Constant", [], ["c"], value=outside("v"))), "in another file"),
        (model(branch()), "in another file"),
        (model(sparse()), "in another file"),
        (model(helper.make_node("EPContext", [], ["c"], domain="com.microsoft")), "'com.microsoft'"),
        (model(domains=("", "com.others")), "'com.others'"),
        (model(functions=[FUNCTION]), "beside ONNX's own"),
    ],
)
def test_what_names_other_files_or_operators_of_others_is_refused(tmp_path, given, message):
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    (tmp_path / "m.onnx").write_bytes(given.SerializeToString())
    for reading in (onnx_format.load, onnx_format.read_metadata):
        with pytest.raises(UserError, match=message):
            reading(tmp_path / "m.onnx")


def test_a_model_that_is_complete_in_itself_runs(tmp_path):
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    loaded = onnx_format.load(tmp_path / "m.onnx")
    assert loaded.metadata == {} and loaded.run.__name__ == "run"


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\xff" * 100])
def test_what_is_no_onnx_gives_one_message(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"m\.onnx is no ONNX"):
        onnx_format.load(tmp_path / "m.onnx")


def test_a_file_whose_first_bytes_are_those_of_onnx_runtimes_own_format_is_read_as_what_was_checked(tmp_path):
    made = model()
    made.ir_version, made.producer_name = 8, "ORTM"
    content = made.SerializeToString(deterministic=True)
    assert content[4:8] == b"ORTM"
    (tmp_path / "m.onnx").write_bytes(content)
    loaded = onnx_format.load(tmp_path / "m.onnx")  # which ONNX Runtime would take for a flatbuffer otherwise
    assert loaded.metadata == {}


def test_onnx_runtime_takes_as_many_threads_as_torch_and_one_a_core_where_torch_is_not_imported(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert onnx_format._threads() == 3
    finally:
        torch.set_num_threads(before)
    monkeypatch.delitem(sys.modules, "torch")
    assert onnx_format._threads() == workers.count(0)
