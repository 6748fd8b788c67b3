"""Damages the outs that lie between the stages, and runs the stages that read them: each must say what is wrong.

    python -m tools.fuzz_outs --files 5000 --seed 0
    python -m tools.fuzz_outs --files 5000 --seed 0 --stages train validate

Of tiny datasets of pictures, of volumes, and of pictures with a number or labels to be told, each stage gets its deps
with one of them damaged: bytes, cells and rows of CSV files, leaves of JSON files, arrays and attributes of HDF5 files,
the recipe and weights of model.pt. It may then do its work, or refuse with a message. Exits 1, naming seed and number,
when a stage ends in anything else, runs code that it does not run on sound files, changes outs though it refuses, or
takes too long or too much memory.
"""

import argparse
import copy
import csv
import inspect
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from stages.lib import cases, command, params
from stages.lib.core import terminal
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.workers import Workers, count
from tools.mutations import Result, Watch, fuzz, measured, report, spoilt

MAX_SECONDS = 60  # of processor time: an export takes ten
OFTEN = {"split": 10, "statistics": 10, "dataset": 10, "train": 10, "validate": 4, "export": 1}
"""The stages, and how often the turn of each comes: export takes a hundred times as long as split."""
NETWORK = {"name": "fully_connected", "arguments": {"widths": [4]}}
GIVEN: dict[str, dict[str, Any]] = {
    "split": {"validation": 0.25, "test": 0.25},
    "statistics": {},
    "dataset": {},
    "train": {"network": NETWORK, "epochs": 1, "threads": 1},
    "validate": {"resamples": 20, "worst": 2, "threads": 1},
    "export": {"unlike": True, "threads": 1},
}
CASES, CLASSES = 36, ("a", "b, c", "NA")
DATASETS = ("volumes", "pictures", "numbers", "labels")
Damage = Callable[[Path, np.random.Generator], None]


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=OFTEN, default=list(OFTEN))
    parser.add_argument("--workers", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Workers(count(given.workers)) as crew:
        results = fuzz(Attempt(Path(folder), given.stages), given.files, given.seed, crew)
    report(results, given.seed)


class Attempt:
    """What a worker does: it makes the datasets once, then damages copies of them."""

    def __init__(self, folder: Path, stages: list[str]) -> None:
        self.folder = folder
        self.turns = [stage for stage in stages for _ in range(OFTEN[stage])]

    def __call__(self, seed: int, number: int) -> Result:
        self.prepared()  # before the clock starts
        return measured(lambda: self._outcome(seed, number), MAX_SECONDS)

    def prepared(self) -> tuple[Watch, Path]:
        return prepared(self.folder, tuple(dict.fromkeys(self.turns)))

    def _outcome(self, seed: int, number: int) -> str:
        watch, made = self.prepared()
        rng = np.random.default_rng([seed, number])
        stage = self.turns[int(rng.integers(len(self.turns)))]
        folder = made / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made / str(rng.choice(DATASETS)), folder)
        target = folder / str(rng.choice(reads(stage)))
        done = damage(target, rng)
        before = contents(folder)
        outcomes: list[str] = []
        strange = watch.strange(lambda: outcomes.append(outcome_of(stage, folder, target)))
        (outcome,) = outcomes
        if strange:
            return f"CODE {stage}, {target.name}, {done}: {'; '.join(strange)}"
        if outcome.startswith("refused") and contents(folder) != before:
            return f"LOST {stage}, {target.name}, {done}: outs changed, though it refused"
        return f"{outcome}, {done}" if outcome.startswith("TRACEBACK") else f"{stage}: {outcome}"


@cache
def prepared(folder: Path, stages: tuple[str, ...]) -> tuple[Watch, Path]:
    """The watch of this process, and a folder of its own with all datasets; it has seen every stage run on them."""
    torch.set_num_threads(1)  # there is a worker for each core
    watch, made = Watch(), folder / str(os.getpid())
    for name in DATASETS:
        make(made / name, name == "volumes", of=name)
        for stage in [*stages, *stages]:  # some code runs at the second time only
            watch.learn(partial(run, stage, made / name))
    return watch, made


def outcome_of(stage: str, folder: Path, target: Path) -> str:
    try:
        run(stage, folder)
    except DamagedOut as error:
        named = any(target == path or target in path.parents or path in target.parents for path in error.paths)
        return "refused" if named else "refused, but naming another file"
    except UserError:
        return "refused for another reason"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__} {stage}, {target.name}"
    return "done"


def run(stage: str, folder: Path) -> None:
    """Runs a stage whose deps and outs all lie in one folder."""
    main = import_module(f"stages.{stage}").main
    given: dict[str, Any] = {"params": params.check(params.SECTIONS[stage], GIVEN[stage]), "dataset": "tiny"}
    given["ingest"] = params.IngestParams()
    deps, outs = paths(stage)
    given |= {name: folder / path.name for name, path in (deps | outs).items()}
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main(**{name: value for name, value in given.items() if name in inspect.signature(main).parameters})


@cache
def paths(stage: str) -> tuple[dict[str, Path], dict[str, Path]]:
    return command.stage_paths(stage, "tiny")


def reads(stage: str) -> list[str]:
    """The names of the data that a stage reads."""
    return [path.name for path in paths(stage)[0].values() if path.parts[0] in ("data", "models", "metrics")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make(folder: Path, volumes: bool = False, last: str = "validate", of: str = "") -> None:
    """cases/ and cases.csv as ingest would write them, and the outs of the stages up to the last one.

    Args:
        of: "numbers" or "labels" are what is asked of each case; else its class.
    """
    rng = np.random.default_rng(0)
    ids = [f"{i * (2**64 // CASES):016x}" for i in range(CASES)]
    shape, dtype = ((1, 4, 6, 5), "int16") if volumes else ((3, 6, 5), "uint8")
    pixels = {
        case: rng.integers(0, 200, np.add(shape, [0, *rng.integers(0, 2, len(shape) - 1)])).astype(dtype)
        for case in ids
    }
    for piece in (0, 1):
        part = {case: pixels[case] for case in ids if int(case[0], 16) // 8 == piece}
        about = ("CDHW", "HU", [(2.0, 1.0, 1.5)] * len(part)) if volumes else ("CHW",)
        cases.write_cases(folder / "one", part, *about)
        (folder / "cases").mkdir(exist_ok=True)
        (folder / "one" / "0.h5").rename(folder / "cases" / f"{piece}.h5")
    (folder / "one").rmdir()
    header, answers = (
        ["case", "group", "label", "channels"],
        [[CLASSES[i // 2 % len(CLASSES)], "1"] for i in range(CASES)],
    )
    if of == "numbers":
        header, answers = [*header, "target.regression.size [mm]"], [["size", "1", f"{i + 1}.5"] for i in range(CASES)]
    elif of == "labels":
        header += [f"target.multilabel.{name}" for name in CLASSES]
        answers = [
            ["multilabel", "1", *("01"[i // step % 2] for step in (2, 4)), ("", "0", "1")[i % 3]] for i in range(CASES)
        ]
    rows = [[case, f"{i // 2:016x}", *answer] for i, (case, answer) in enumerate(zip(ids, answers, strict=True))]
    write_rows(folder / "cases.csv", [header, *rows])
    for stage in list(OFTEN)[: list(OFTEN).index(last) + 1]:
        run(stage, folder)


def damage(path: Path, rng: np.random.Generator) -> str:
    """Damages an out in one way, and says in which."""
    if path.is_dir():
        if rng.random() < 0.1:
            return damage_place(path, rng)
        path = path / str(rng.choice(sorted(os.listdir(path))))
    if rng.random() < 0.05:
        return damage_place(path, rng)
    own = {".csv": damage_csv, ".json": damage_json, ".h5": damage_hdf5, ".pt": damage_checkpoint}[path.suffix]
    if rng.random() < 0.6:
        return own(path, rng)
    path.write_bytes(spoilt(path.read_bytes(), rng))
    return "bytes"


def damage_place(path: Path, rng: np.random.Generator) -> str:
    """Puts something else in the place of a file or folder."""
    way = str(rng.choice(["missing", "empty", "a folder", "a link to nothing", "a link to itself", "another file"]))
    sound = path.read_bytes() if path.is_file() else b""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if way == "empty":
        path.write_bytes(b"")
    elif way == "a folder":
        path.mkdir()
    elif way.startswith("a link"):
        path.symlink_to(path.name if way.endswith("itself") else "nothing")
    elif way == "another file":
        others = [other for other in path.parent.iterdir() if other.is_file()]
        path.write_bytes(others[int(rng.integers(len(others)))].read_bytes() if others else sound[::-1])
    return way


WORDS = (
    "",
    " ",
    "nan",
    "None",
    "-1",
    "0",
    "1e999",
    "trian",
    "test",
    "=1+1",
    "\x00",
    "\n",
    '"',
    ",",
    "\ufeff",
    "x" * 100_000,
)


def damage_csv(path: Path, rng: np.random.Generator) -> str:
    """Edits a cell, a row or a column."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    way = str(
        rng.choice(
            ["cell", "cell of another row", "drop row", "repeat row", "swap rows", "drop column", "header", "more"]
        )
    )
    i, j = (int(n) for n in rng.integers(1, len(rows), 2))
    k = int(rng.integers(len(rows[0])))
    if way == "cell":
        rows[i][k] = str(rng.choice(WORDS))
    elif way == "cell of another row":
        rows[i][k] = rows[j][k]
    elif way == "drop row":
        del rows[i : i + int(rng.choice([1, len(rows)]))]
    elif way == "repeat row":
        rows.insert(j, list(rows[i]))
    elif way == "swap rows":
        rows[i], rows[j] = rows[j], rows[i]
    elif way == "drop column":
        rows = [row[:k] + row[k + 1 :] for row in rows]
    elif way == "header":
        rows[0][k] = str(rng.choice([*WORDS, *rows[0]]))
    else:
        rows[i].append("more")
    write_rows(path, rows)
    return f"csv {way}"


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


LEAVES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    0.5,
    1e300,
    10**30,
    2**62,
    float("nan"),
    float("inf"),
    "",
    "x",
    "uint8",
    "NCHW",
    "../x",
    [],
    {},
    [1],
    {"x": 1},
)


def damage_json(path: Path, rng: np.random.Generator) -> str:
    tree = json.loads(path.read_text())
    done = damage_tree(tree, rng)
    path.write_text(json.dumps(tree))
    return f"json {done}"


def damage_tree(tree: dict[str, Any], rng: np.random.Generator) -> str:
    """Edits one place in nested mappings and lists."""
    places = list(branches(tree))
    parent, key = places[int(rng.integers(len(places)))]
    way = str(rng.choice(["leaf", "another leaf", "drop", "more", "deep", "rename"]))
    if way == "leaf":
        parent[key] = LEAVES[int(rng.integers(len(LEAVES)))]
    elif way == "another leaf":
        other, of = places[int(rng.integers(len(places)))]
        parent[key] = copy.deepcopy(other[of])
    elif way == "drop":
        del parent[key]
    elif way == "more":
        parent.append(1) if isinstance(parent, list) else parent.update(more=1)
    elif way == "deep":
        for _ in range(100):
            parent[key] = [parent[key]]
    elif isinstance(parent, dict):
        parent["renamed"] = parent.pop(key)
    return way


def branches(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested mappings and lists: what holds it, and its key or index."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from branches(tree[key])


def damage_hdf5(path: Path, rng: np.random.Generator) -> str:
    """Edits an array or attribute, or puts one of another kind in its place."""
    with h5py.File(path, "r+", libver="v110") as file:
        arrays: list[h5py.Dataset] = []
        file.visititems(lambda name, member: arrays.append(member) if isinstance(member, h5py.Dataset) else None)
        array = arrays[int(rng.integers(len(arrays)))]
        if rng.random() < 0.1 and file.attrs:
            name = str(rng.choice(list(file.attrs)))
            odd = [1, "x", "CHW", np.zeros(1000), [b"CHW"], h5py.Empty("S1"), "\u00e9", b"\xff"]
            file.attrs[name] = odd[int(rng.integers(len(odd)))]
            return f"hdf5 attribute {name}"
        if rng.random() < 0.4 and array.size:
            return f"hdf5 value of {array.name}, {edit_value(array, rng)}"
        ways = list(STRANGE)
        way = ways[int(rng.integers(len(ways)))]
        name, parent, sound = array.name, array.parent, array[()]
        del file[name]
        STRANGE[way](parent, name.rpartition("/")[2], sound)
        return f"hdf5 {way} for {name}"


def edit_value(array: h5py.Dataset, rng: np.random.Generator) -> str:
    """Changes one element, or one field of it."""
    if array.shape == ():
        tree = json.loads(array[()])
        done = damage_tree(tree, rng)
        array[()] = json.dumps(tree)
        return done
    values = array[()]
    flat = values.reshape(-1)
    i, j = (int(n) for n in rng.integers(len(flat), size=2))
    name = str(rng.choice(flat.dtype.names)) if flat.dtype.names else ""
    field = flat[name] if name else flat
    extremes = {"i": [-1, 2**62, 0], "u": [255], "f": [np.nan, -1.0, np.inf], "S": [b"", b"\xff\xfe", b"uint32"]}
    with np.errstate(over="ignore"):
        new = np.array(extremes[field.dtype.kind], object)
        chosen = new[int(rng.integers(len(new)))]
        if field.dtype.kind in "iu":
            chosen = int(np.clip(chosen, np.iinfo(field.dtype).min, np.iinfo(field.dtype).max))
        field[i] = field[j] if rng.random() < 0.5 else chosen
    array[()] = values
    return name


def _as_type(dtype: Any) -> Callable[[h5py.Group, str, Any], Any]:
    return lambda parent, name, sound: parent.create_dataset(name, np.shape(sound), dtype)


STRANGE: dict[str, Callable[[h5py.Group, str, Any], Any]] = {
    "nothing": lambda parent, name, sound: None,
    "float64": _as_type("float64"),
    "a string of any length": _as_type(h5py.string_dtype()),
    "an array of any length": _as_type(h5py.vlen_dtype(np.int32)),
    "a reference": _as_type(h5py.ref_dtype),
    "big endian": _as_type(">i8"),
    "one more axis": lambda parent, name, sound: parent.create_dataset(name, (*np.shape(sound), 1), "uint8"),
    "a huge shape in chunks": lambda parent, name, sound: parent.create_dataset(
        name, (1 << 40, *np.shape(sound)[1:]), getattr(sound, "dtype", "u1"), chunks=True
    ),
    "a huge shape": lambda parent, name, sound: parent.create_dataset(
        name, (1 << 40, *np.shape(sound)[1:]), getattr(sound, "dtype", "u1")
    ),
    "packed": lambda parent, name, sound: parent.create_dataset(
        name, data=np.atleast_1d(sound), compression="gzip", shuffle=True
    ),
    "bytes of another file": lambda parent, name, sound: (
        parent.create_dataset(
            name, np.shape(sound), getattr(sound, "dtype", "u1"), external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
        )
        if np.ndim(sound)
        else None
    ),
    "a link to another file": lambda parent, name, sound: parent.__setitem__(
        name, h5py.ExternalLink("/dev/zero", "/train/x")
    ),
    "a link to nothing": lambda parent, name, sound: parent.__setitem__(name, h5py.SoftLink("/nowhere")),
    "a link to itself": lambda parent, name, sound: parent.__setitem__(name, h5py.SoftLink(f"{parent.name}/{name}")),
    "a group": lambda parent, name, sound: parent.create_group(name),
    "its own parent": lambda parent, name, sound: parent.__setitem__(name, parent),
    "a type": lambda parent, name, sound: parent.__setitem__(name, np.dtype("f8")),
    "an empty one": lambda parent, name, sound: parent.create_dataset(name, data=h5py.Empty("f4")),
    "a virtual one": lambda parent, name, sound: parent.create_virtual_dataset(name, _virtual(np.shape(sound), sound)),
}
"""What may stand in an array's place."""


def _virtual(shape: tuple[int, ...], sound: Any) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(shape or (1,), getattr(sound, "dtype", "u1"))
    layout[...] = h5py.VirtualSource("/dev/zero", "x", shape or (1,))
    return layout


def damage_checkpoint(path: Path, rng: np.random.Generator) -> str:
    """Edits the recipe or the weights, and writes the file as torch does."""
    content = torch.load(path, weights_only=True)
    done = damage_tree(content, rng) if rng.random() < 0.7 else damage_weights(content["weights"], rng)
    torch.save(content, path)
    return f"checkpoint {done}"


def damage_weights(weights: dict[str, Any], rng: np.random.Generator) -> str:
    name = str(rng.choice(list(weights)))
    ways: dict[str, Callable[[Any], Any]] = {
        "nan": lambda value: value * float("nan"),
        "huge": lambda value: value * 1e38,
        "integers": lambda value: value.to(torch.int64),
        "complex": lambda value: value.to(torch.complex64),
        "flat": lambda value: value.flatten(),
        "sparse": lambda value: value.to_sparse(),
        "without memory": lambda value: value.to("meta"),
        "one number for all": lambda value: torch.zeros(1).expand(1 << 20, 1 << 20),
    }
    way = str(rng.choice(list(ways)))
    weights[name] = ways[way](weights[name])
    return f"weights {way}"


if __name__ == "__main__":
    main()
