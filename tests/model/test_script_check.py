import io
import zipfile
from pathlib import Path

import pytest
import torch

from stages.lib.core.errors import UserError
from stages.lib.export.formats import torchscript
from stages.lib.model import archive, script_check

CODE = """
class Native(Module):
  __parameters__ = []
  def forward(self: __torch__.Native, x: Tensor) -> Tensor:
    sizes = annotate(List[Tensor], [])
    if torch.eq(ops.prim.dtype(x), 0):
      y = torch.to(x, 6)
    else:
      y = torch.clamp(torch.fft_fft2(x), 0., 255.)
    for i in range(torch.len(sizes)):
      _0 = torch.append(sizes, y)
    LINE
    return torch.mul_(y, CONSTANTS.c0)
"""


def checked(code, any_operator=False):
    content = archive.packed({"code/__torch__.py": code.encode(), "version": b"3"})
    return script_check.read(Path("m.torchscript"), content, any_operator)["code/__torch__.py"].decode()


def test_code_that_only_computes_is_kept():
    code = checked(CODE.replace("LINE", "z = x"))
    assert code == checked(code) and "torch.append(sizes, y)" in code


@pytest.mark.parametrize(
    "line",
    [
        "torch.save(x, 'harm')",
        "x.save('harm')",
        "ops.aten.save(x, 'harm')",
        "z = torch.from_file('harm', True, 8)",
        "z = ops.aten.from_file.default('harm')",
        "z = torch.fbgemm_linear_fp16_weight(x, x, x)",
        "z = ops.quantized.add(x, x, 1., 0)",
        "z = ops.prim.rpc_sync('worker', x)",
        "z = __torch__.torch.classes.any.Class(x)",
        "z = fork(x)",
        "z = (lambda y: y)(x)",
        "z = [torch.save][0](x, 'harm')",
        "import os",
        "z = x if torch.__import__('os') else x",
    ],
)
@pytest.mark.parametrize("any_operator", [False, True])
def test_code_that_could_do_more_is_refused(line, any_operator):
    if any_operator and "fbgemm" in line:  # somebody vouches for it
        assert "fbgemm" in checked(CODE.replace("LINE", line), any_operator)
        return
    with pytest.raises(UserError, match=r"m\.torchscript is no TorchScript file of this project: its code"):
        checked(CODE.replace("LINE", line), any_operator)


def test_a_method_that_runs_while_the_file_is_loaded_is_refused():
    with pytest.raises(UserError, match="method __setstate__"):
        checked(CODE.replace("LINE", "z = x").replace("forward", "__setstate__"))


def test_what_libtorch_may_parse_differently_is_written_anew():
    code = checked(CODE.replace("LINE", "z = x  # torch.save(x, 'harm')"))
    assert "#" not in code and "harm" not in code


def test_objects_of_libtorchs_own_classes_are_refused():
    pickled = b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n."
    with pytest.raises(UserError, match="holds a pickled"):
        script_check.read(Path("m"), archive.packed({"data.pkl": pickled}))


class Writing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(x, "harm")
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_file_whose_code_writes_files_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(Writing()), content)
    with zipfile.ZipFile(content) as file:
        members = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    members = {name: member for name, member in members.items() if not name.endswith(archive.DROPPED_ENDINGS)}
    (tmp_path / "m.torchscript").write_bytes(archive.packed(members))
    assert torch.jit.load(tmp_path / "m.torchscript")(torch.zeros(1)) is not None
    (tmp_path / "harm").unlink()  # without the check it was written
    with pytest.raises(UserError, match=r"calls torch\.save"):
        torchscript.load(tmp_path / "m.torchscript")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("operator", ["native_batch_norm", "_native_batch_norm_legit", "_upsample_bilinear2d_aa"])
def test_operators_that_trust_the_sizes_they_are_given_are_called_only_if_somebody_vouches(operator):
    code = CODE.replace("LINE", f"z = torch.{operator}(x)")
    with pytest.raises(UserError, match="not known to be harmless"):
        checked(code)
    assert operator in checked(code, any_operator=True)
