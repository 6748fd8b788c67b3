"""Opens and runs mutated .pt2, .torchscript, .onnx and model.pt files: none may crash, hang, or run code.

    python -m tools.fuzz_exports --files 5000 --seed 0

Their bytes, archives, JSON, code, pickles and protobuf messages are changed. Exits 1, naming seed and number, when a
file ends its process, gives an error without a message for people, takes more than 10 seconds or more than 2 GiB, or
does what the sound files do not: Python's audit events tell of code, processes, modules and files. Linux only: the
peak memory of a process is read from /proc.
"""

import copy
import io
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.core import terminal
from tools.mutations import Result, command, measured, spoilt

CODE = "__import__('sys').audit('mutated.code')"
WATCHED = {
    *("mutated.code", "exec", "compile", "import", "open", "os.system", "os.exec", "os.fork", "os.posix_spawn"),
    *("subprocess.Popen", "socket.connect", "ctypes.dlopen", "os.remove", "os.rename", "os.mkdir", "pickle.find_class"),
}
HOSTILE: list[Any] = [
    *(0, -1, 1, 3, 2**31, 2**40, 2**63, 1e308, None, True, "", "x" * 10_000, [], {}, [[]], "metadata", "../../x"),
    *(CODE, f"Symbol({CODE})", f"s0 if {CODE} else 1", "os.system", "torch.serialization.os.system", "torch.load"),
    *("torch.ops.aten.from_file.default", "torch.ops.aten.full.default", "Pow(Integer(9), Integer(10000000))"),
    *("save", "from_file", "cpu", "cuda", "float128", "as_expr", "as_string", "__class__", "a\nb", "\x00", "é"),
]


def try_file(sound: str, seed: int, number: int) -> Result:
    """Makes the file of this seed and number, opens it, and runs it on zeros.

    Args:
        sound: The folder of the files that are mutated.
    """
    rng = np.random.default_rng([seed, number])
    samples = _read(sound)
    watch = _watch(sound)
    name = list(samples)[number % len(samples)]
    content = mutated(name, samples, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        before = os.getcwd()
        os.chdir(folder)  # what code writes, it most likely writes here
        try:
            watch.begin()
            result = measured(lambda: run(path))
            done = watch.end()
        finally:
            os.chdir(before)
        if more := [left for left in os.listdir(folder) if left != name]:
            done.append(f"wrote {more}")
    return result._replace(outcome=f"{name} DID {done[0]}".upper()) if done else result


def run(path: Path) -> str:
    """What becomes of a file: that it ran, or by which of the checks it was refused."""
    from stages.lib.core.errors import UserError
    from stages.lib.export.formats import file_format
    from stages.lib.export.metadata_check import checked
    from stages.lib.model import checkpoint
    from tools import predict

    suffix = path.suffix
    try:
        if suffix == ".pt":
            classifier, recipe = checkpoint.load(path)
            shape, dtype = recipe.description["shape"], recipe.description["dtype"]
            import torch

            classifier(torch.zeros(2, *shape, dtype=getattr(torch, dtype)))
        else:
            model = file_format(suffix).load(path)  # as if it were vouched for, but for its operators
            contract = checked(model.metadata, path)["input"]
            if np.prod(contract["shape"]) > 2**22:
                return f"{suffix} opened, for samples that are too large for this test"
            predict.outputs(model, np.zeros((2, *contract["shape"]), contract["dtype"]), None)
    except UserError as error:
        first = str(error).removeprefix(str(path))[:60]
        kinds = ("of this project", "that this torch reads", "ONNX Runtime reads", "is no ONNX file", "metadata")
        return f"{suffix} refused: {next((kind for kind in kinds if kind in first), 'when it ran')}"
    except MemoryError:
        return f"{suffix} REFUSED WITHOUT A MESSAGE: MEMORY".upper()
    except Exception as error:
        return f"{suffix} gave no message: {type(error).__name__}: {str(error)[:100]}".upper()
    return f"{suffix} ran"


class _Watch:
    """Python's audit events that a sound file does not cause."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: list[str] = []
        self._on = False
        sys.addaudithook(self._hook)

    def learn(self, function: Callable[[], object]) -> None:
        self.begin()
        function()
        self._known |= set(self.end())

    def begin(self) -> None:
        self._seen, self._on = [], True

    def end(self) -> list[str]:
        self._on = False
        return [event for event in self._seen if event not in self._known]

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event in WATCHED and (said := _said(event, arguments)):
            self._seen.append(said)


def _said(event: str, arguments: tuple[Any, ...]) -> str:
    """An event without what differs from file to file; empty if it is harmless."""
    if event == "exec" and "/encodings/" in str(getattr(arguments[0], "co_filename", "")):
        return ""  # a codec by its name
    if event == "exec":
        return f"{event} {re.sub('[0-9]+', '#', str(getattr(arguments[0], 'co_filename', '')))}"
    if event == "compile":
        return f"{event} {re.sub('[0-9]+', '#', str(arguments[1]))}"
    if event == "import":
        package = arguments[0].partition(".")[0]
        return "" if package == "encodings" else f"{event} {package}"  # a codec by its name
    if event == "open":
        writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
        return f"open {arguments[0]!r} for writing" if writes else ""
    return f"{event} {str(arguments)[:100]}"


@cache
def _watch(sound: str) -> _Watch:
    """Watches for what the sound files do not do, when their modules have been imported."""
    watch = _Watch()
    for path in sorted(Path(sound).iterdir()):
        run(path)
        watch.learn(partial(measured, partial(run, path)))
    return watch


@cache
def _read(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def mutated(name: str, samples: dict[str, bytes], rng: np.random.Generator) -> bytes:
    content = samples[name]
    if rng.random() < 0.15:
        return spoilt(content, rng)
    return _mutated_onnx(content, rng) if name.endswith(".onnx") else _mutated_zip(content, samples, rng)


def _mutated_zip(content: bytes, samples: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """Members with right checksums, but other contents, names, and numbers."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    for _ in range(rng.integers(1, 4)):
        i = _weighted(members, rng)
        name, member = members[i]
        change = rng.integers(0, 12)
        if change < 7:
            members[i] = name, _mutated_member(name, member, rng)
        elif change == 7:
            members.append((name, _mutated_member(name, member, rng)))  # twice
        elif change == 8 and len(members) > 1:
            del members[i]
        elif change == 9:
            members[i] = name, members[int(rng.integers(len(members)))][1]
        elif change == 10:
            members.append((f"archive/{_hostile_name(rng)}", member))
        else:
            members[i] = name, _member_of_another(name, member, samples, rng)
    result = io.BytesIO()
    compression = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(result, "w", compression) as target:
        for name, member in members:
            target.writestr(name, member)
    more = rng.bytes(30) if rng.random() < 0.05 else b""
    return more + result.getvalue()


def _weighted(members: list[tuple[str, bytes]], rng: np.random.Generator) -> int:
    """A member's place; what is no tensor is chosen most often."""
    told = [i for i, (name, _) in enumerate(members) if re.search(r"json|pkl|py$|version|txt", name)]
    return int(rng.choice(told)) if told and rng.random() < 0.9 else int(rng.integers(len(members)))


def _hostile_name(rng: np.random.Generator) -> str:
    names = (
        "data/aotinductor/model/a.so",
        "data/constants/opaque_obj_0",
        "data/weights/model.pt",
        "../x",
        "models/b.json",
    )
    return str(
        rng.choice([*names, "serialized_exported_program.json", "constants.pkl", "data.pkl", "code/__torch__/a.py"])
    )


def _member_of_another(name: str, member: bytes, samples: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """A member that has the same ending in another file, if one has."""
    other = samples[str(rng.choice(list(samples)))]
    if not zipfile.is_zipfile(io.BytesIO(other)):
        return member
    with zipfile.ZipFile(io.BytesIO(other)) as file:
        same = [one for one in file.namelist() if one.rpartition(".")[2] == name.rpartition(".")[2]]
        return file.read(str(rng.choice(same))) if same else member


def _mutated_member(name: str, member: bytes, rng: np.random.Generator) -> bytes:
    if name.endswith(".json") and rng.random() < 0.9:
        return _mutated_json(member, rng)
    if name.endswith(".py") and rng.random() < 0.9:
        return _mutated_code(member, rng)
    return spoilt(member, rng)


def _mutated_json(member: bytes, rng: np.random.Generator) -> bytes:
    try:
        tree = json.loads(member)
    except ValueError:  # spoilt before
        return spoilt(member, rng)
    for _ in range(rng.integers(1, 5)):
        places = _places(tree)
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        change = rng.random()
        if change < 0.6:
            holder[key] = _hostile(holder[key], rng)
        elif change < 0.75:
            del holder[key]
        else:
            other, place = places[int(rng.integers(len(places)))]
            holder[key] = json.loads(json.dumps(other[place]))
    return json.dumps(tree).encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree] if isinstance(tree, (dict, list)) else []
    while waiting:
        node = waiting.pop()
        for key in node if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], (dict, list)):
                waiting.append(node[key])
    return found


def _hostile(value: Any, rng: np.random.Generator) -> Any:
    like = [one for one in HOSTILE if type(one) is type(value)]
    if isinstance(value, str) and value and rng.random() < 0.3:
        at = int(rng.integers(len(value)))
        return value[:at] + str(rng.choice(["(", "'", '"', ",", CODE, ".", "\n", "__"])) + value[at:]
    pool = like if like and rng.random() < 0.7 else HOSTILE
    return copy.deepcopy(pool[int(rng.integers(len(pool)))])


def _mutated_code(member: bytes, rng: np.random.Generator) -> bytes:
    """Calls other operators, or the same with other numbers and strings."""
    lines = member.decode(errors="replace").split("\n")
    at = int(rng.integers(len(lines)))
    words = (
        "save",
        "from_file",
        "full",
        "zeros",
        "as_strided",
        "reshape",
        "rand",
        "expand",
        "set_data",
        "tensor",
        "mul",
    )
    change = rng.integers(0, 5)
    if change == 0:
        lines[at] = re.sub(r"torch\.\w+", f"torch.{rng.choice(words)}", lines[at])
    elif change == 1:
        numbers = ("0", "-1", "100000", "9223372036854775807", "1e400", "'x'", "None", "[]", CODE)
        lines[at] = re.sub(r"\b\d+\b", str(rng.choice(numbers)), lines[at], count=1)
    elif change == 2:
        indent = re.match(" *", lines[at])
        more = ("torch.save(x, 'harm')", "ops.aten.save(x, 'harm')", "x.save('harm')", CODE, "print(1)", "raise x")
        lines.insert(at, (indent.group() if indent else "") + str(rng.choice(more)))
    elif change == 3:
        lines[at] = lines[int(rng.integers(len(lines)))]
    else:
        lines.insert(len(lines) - 1, "  def __setstate__(self, x: Tensor) -> None:\n    torch.save(x, 'harm')")
    return "\n".join(lines).encode()


def _mutated_onnx(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes fields of messages anywhere in the model."""
    import onnx

    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.integers(1, 5)):
        messages = _messages(model)
        message = messages[int(rng.integers(len(messages)))]
        fields = list(message.DESCRIPTOR.fields)
        field = fields[int(rng.integers(len(fields)))]
        if isinstance(message, onnx.TensorProto) and rng.random() < 0.3:
            message.data_location = onnx.TensorProto.EXTERNAL
            message.external_data.add(key="location", value="/etc/passwd")
        elif rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            _change_field(message, field, rng)
    if rng.random() < 0.1:
        (note,) = model.metadata_props or [model.metadata_props.add()]
        note.value = _mutated_json(note.value.encode() or b"{}", rng).decode()
    return model.SerializeToString()


def _messages(model: Any) -> list[Any]:
    found, waiting = [], [model]
    while waiting:
        message = waiting.pop()
        found.append(message)
        for field, value in message.ListFields():
            if field.message_type:
                waiting += value if field.is_repeated else [value]
    return found


def _change_field(message: Any, field: Any, rng: np.random.Generator) -> None:
    if field.message_type:
        if field.is_repeated and len(getattr(message, field.name)):
            parts = getattr(message, field.name)
            one = parts[int(rng.integers(len(parts)))]
            parts.add().CopyFrom(one) if rng.random() < 0.5 else parts.remove(one)
        return
    values: list[Any] = [0, -1, 1, 3, 7, 2**31 - 1, 2**40, 2**63 - 1]
    if field.type == field.TYPE_STRING:
        values = [CODE, "com.microsoft", "save", "", "x" * 10_000]
    elif field.type == field.TYPE_BYTES:
        values = [b"", b"\xff" * 9]
    value = values[int(rng.integers(len(values)))]
    try:
        if field.is_repeated:
            repeated = getattr(message, field.name)
            repeated.append(value)
        else:
            setattr(message, field.name, value)
    except (TypeError, ValueError):  # too large for it
        pass


def write_sound(folder: Path) -> None:
    """Sound files of every format, exported from an untrained network for pictures."""
    import torch

    from stages.lib.export.end_to_end import Native
    from stages.lib.export.formats import FORMATS, file_format
    from stages.lib.export.formats.program import Program
    from stages.lib.export.metadata import contract
    from stages.lib.geometry import Geometry
    from stages.lib.model import checkpoint
    from stages.lib.model.deployed import Deployed, Settings

    torch.manual_seed(0)
    about: dict[str, Any] = {
        "classes": ["a", "b"],
        "axes": "NCHW",
        "shape": [1, 8, 8],
        "dtype": "uint8",
        "units": "",
        "spacing_mm": None,
    }
    about["geometry"] = {
        "colour": "keep",
        "resize": None,
        "spacing_mm": None,
        "shape": [8, 8],
        "fill": 0.0,
        "dtype": "uint8",
    }
    about["moments"] = {"minimum": [0.0], "maximum": [255.0], "mean": [100.0], "deviation": [50.0]}
    normalise: dict[str, Any] = {"low": [0.0], "high": [255.0], "shift": [0.0], "scale": [1 / 255], "dims": 2}
    recipe = checkpoint.Recipe("convolutional", {"width": 4}, normalise, about)
    classifier = checkpoint.build(recipe).eval()
    facts = {"classes": about["classes"], "input": contract(about, "fitted"), "geometry": about["geometry"]}
    native = Native(Geometry(**about["geometry"]), Deployed(classifier, Settings())).eval()
    for suffix in FORMATS:
        file_format(suffix).write(folder / f"model{suffix}", Program(native, (1, 8, 8), "uint8", facts))
    checkpoint.save(folder / "model.pt", recipe, classifier)


@terminal.program()
def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_sound(Path(folder))
        command(__doc__ or "", partial(try_file, folder), 5000)


if __name__ == "__main__":
    main()
