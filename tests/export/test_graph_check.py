import json
from pathlib import Path

import pytest

from stages.lib.core.errors import UserError
from stages.lib.export.formats import graph_check
from stages.lib.model import archive

NODE = {
    "target": "torch.ops.aten.add.Tensor",
    "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
    "outputs": [{"as_tensor": {"name": "add"}}],
    "metadata": {"stack_trace": "__import__('os')"},
    "name": "add",
}
SIZE = {"as_expr": {"expr_str": "Add(Integer(32), Mul(Integer(-1), Symbol('s0', positive=True, integer=True)))"}}
LEAF = {"type": None, "context": None, "children_spec": []}
TABLE = {"path_name": "weight_0", "use_pickle": False, "tensor_meta": {"sizes": [{"as_int": 4}]}}


def program(node=None, size=None, tree=LEAF, name="x", symbol="s0"):
    return {
        "graph_module": {
            "graph": {"nodes": [NODE | (node or {})], "tensor_values": {name: {"sizes": [size or SIZE]}}},
            "signature": {"input_specs": []},
            "module_call_graph": [{"fqn": "first.0", "signature": {"in_spec": json.dumps([1, tree])}}],
            "metadata": {"custom": "{}"},
        },
        "range_constraints": {symbol: {"min_val": 1, "max_val": None}},
        "guards_code": ["__import__('os').system('harm')"],
    }


def read(program, table=None, any_operator=False, **members):
    content = {
        "models/model.json": json.dumps(program),
        "data/weights/model_weights_config.json": json.dumps({"config": {"a.weight": TABLE | (table or {})}}),
        "data/constants/model_constants_config.json": json.dumps({"config": {}}),
        "data/weights/weight_0": "0123",
        "data/sample_inputs/model.pt": "a pickle",
    }
    packed = archive.packed({name: text.encode() for name, text in (content | members).items()})
    return graph_check.read(Path("m.pt2"), packed, any_operator)


def test_what_running_does_not_need_is_left_out():
    members = read(program())
    loaded = json.loads(members["models/model.json"])
    assert loaded["guards_code"] == [] and members["data/sample_inputs/model.pt"] == b""
    assert loaded["graph_module"]["graph"]["nodes"] == [NODE | {"metadata": {}}]
    assert b"__import__" not in members["models/model.json"]


@pytest.mark.parametrize(
    "target",
    [
        "torch.serialization.os.system",
        "torch.load",
        "torch.ops.aten.save.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "_operator.attrgetter",
        "math.__loader__.load_module",
        "torch.ops.aten.add.Tensor.__globals__",
        "torch.ops.aten.add.Tensor\n",
        "#custom",
    ],
)
def test_a_target_that_is_no_harmless_operator_is_refused(target):
    for broken in (program({"target": target}), program({"inputs": [{"name": "", "arg": {"as_operator": target}}]})):
        with pytest.raises(UserError, match=r"m\.pt2 is no \.pt2 file of this project: it calls"):
            read(broken)


def test_an_operator_that_is_not_known_to_be_harmless_is_called_only_if_somebody_vouches():
    unknown = program({"target": "torch.ops.aten._fused_dropout.default"})
    with pytest.raises(UserError, match="it calls"):
        read(unknown)
    assert b"_fused_dropout" in read(unknown, any_operator=True)["models/model.json"]


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('harm')",
        "Symbol('s0').__class__",
        "Symbol('s0' if print(1) else 's1')",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        "lambda: 1",
        "eval('1')",
        "Symbol('__import__')",
        "Pow(Integer(9), Integer(99999999))",
        "Pow(Symbol('s0', integer=True), Integer(99999999))",
        "9**9**9",
        "Integer(99999999999999999999999999)",
        "f'{print(1)}'",
        "s0 s1",
        "s0\x00",
        "(" * 5000,
        "(" * 200 + ")" * 200,
        "Add(Integer(1))" + " " * 10_000,
    ],
)
def test_an_expression_that_is_not_one_of_sizes_is_refused(expression):
    with pytest.raises(UserError, match="is no .pt2 file of this project"):
        read(program(size={"as_expr": {"expr_str": expression}}))


@pytest.mark.parametrize(
    "given",
    [
        {"name": "x=__import__('os')"},
        {"name": "a\nb"},
        {"name": "__class__.forward"},
        {"symbol": "u99999999999"},  # torch counts up to it
        {"symbol": "__import__('os')"},
        {"tree": {"type": "builtins.dict", "context": '{"__enum__": 1, "fqn": "antigravity:x"}', "children_spec": []}},
        {"tree": {"type": "collections.namedtuple", "context": "null", "children_spec": []}},
    ],
)
def test_names_and_trees_that_would_become_code_or_imports_are_refused(given):
    with pytest.raises(UserError, match="is no .pt2 file of this project"):
        read(program(**given))


@pytest.mark.parametrize("name", ["a.block1-0.weight", "a-b"])
def test_a_weight_may_have_a_hyphen_in_its_name_and_a_variable_none(name):
    def signed(parameter, variable="p"):
        given = program()
        spec = {"parameter": {"arg": {"name": variable}, "parameter_name": parameter}}
        given["graph_module"]["signature"] = {"input_specs": [spec]}
        return given

    assert name.encode() in read(signed(name))["models/model.json"]
    for broken in (
        signed("p", name),
        signed(f"{name} or 1"),
        signed(f"__{name}"),
        signed(f"{name}.__class__"),
        signed(f"-{name}"),
    ):
        with pytest.raises(UserError, match="is not what torch writes there"):
            read(broken)


@pytest.mark.parametrize(
    "table, message",
    [
        ({"use_pickle": True}, "holds a pickled tensor"),
        ({"path_name": "../sample_inputs/model.pt"}, "not there|larger"),
        ({"path_name": "weight_1"}, "not there"),
        ({"tensor_meta": {"sizes": [{"as_int": 10**6}, {"as_int": 10**6}]}}, "larger than its bytes"),
        ({"tensor_meta": {"sizes": [{"as_int": -1}]}}, "not there"),
        ({"tensor_meta": None}, "is no .pt2 file"),
    ],
)
def test_a_table_of_weights_that_names_more_than_the_archive_has_is_refused(table, message):
    with pytest.raises(UserError, match=message):
        read(program(), table)


@pytest.mark.parametrize(
    "name", ["data/aotinductor/model/a.so", "data/weights/model.pt", "data/constants/opaque_obj_0"]
)
def test_members_that_torch_would_run_or_unpickle_are_refused(name):
    with pytest.raises(UserError, match="which such a file does not have"):
        read(program(), **{name: "x"})


def test_json_of_another_encoding_which_torch_reads_otherwise_is_refused():
    text = json.dumps({"config": {}}).encode("utf-16-le")
    with pytest.raises(UserError, match="is no JSON"):
        read(program(), **{"data/weights/model_weights_config.json": text.decode()})


def test_json_that_is_no_program_or_nested_without_end_is_refused():
    for text in ("[]", "1", "{}", "{", "[" * 100_000, '{"graph_module": ' * 500 + "1" + "}" * 500):
        with pytest.raises(UserError, match=r"m\.pt2|JSON"):
            read(program(), **{"models/model.json": text})
