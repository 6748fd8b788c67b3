"""What an exported model of any format says of pictures and DICOM series: percentages, labels or a number.

    python -m tools.predict models/digits/model.onnx data/raw/digits/images/0001.png
    python -m tools.predict models/phantoms/model.pt2 "data/raw/phantoms/P00*/S0" --top 3 --output csv
    find scans -name "*.png" | python -m tools.predict model.onnx - more.zip --output jsonl --to answers.jsonl

Files, folders, globs and archives (zip, tar, tar.gz) are read, and a list of paths on stdin (-). Cases are read, given
to the model and printed a batch at a time: in memory are no more pixels than a batch's, however many cases there are.

A file is checked before it is loaded. A .pt2 of others is refused: torch may run code when it loads one. The project's
own are known by their sha256 in metrics/<dataset>/export.json; --trust loads any.

The model's file resamples what was read to its own size and spacing. A case that can't be read for certain, or that
the model does not take, is named with the reason (in csv and json in a row of its own, else on stderr), the others are
answered, and the exit code is 1.

`--raw` writes the cases for examples/cpp and examples/web, one after the other: a line of text, then the numbers of
(C, H, W) or (C, D, H, W), in C order and the machine's byte order. The line has the dtype, the sizes, and, where the
model takes it, the spacing in mm along D, H, W:

    int16 1 99 512 512 3.0 0.564453 0.564453
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress
from stages.lib.core.terminal import shown
from stages.lib.export.formats import Model, Runner, open_model
from stages.lib.export.formats.runner import target
from tools import raw_inputs
from tools.answers import FORMS, Answer, Batches, wording
from tools.raw_cases import RawCase, read_files
from tools.raw_inputs import File

BATCH = 32
BATCH_BYTES = 64 << 20  # of pixels: 32 volumes would be gigabytes
GREY, RGB = 1, 3  # channels
SAVED_IN_COLOUR = "grey pictures saved in colour, given to the model as grey"


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    run, metadata = open_model(arguments.model, arguments.trust)
    if arguments.hu:
        metadata = _in_hounsfield_units(metadata)
    words = wording(metadata, arguments.top)
    files, number = raw_inputs.find(arguments.files)
    watched = arguments.to is not None or not sys.stdout.isatty()  # else a bar would stand between the answers
    with _errors_of_files(), ExitStack() as opened:
        tally = Tally(named=arguments.output == "table")
        observers: list[Callable[[Answer], None]] = [tally.add]
        if arguments.raw:
            observers.append(opened.enter_context(_raw_file(arguments.raw, metadata)))
        if arguments.explain:
            from tools import explanation  # with torch, which takes seconds

            explained = explanation.Explanations(arguments.explain, arguments.model, metadata, words, arguments.trust)
            observers.append(lambda one: explained.add(one.case, one.values))
        write = opened.enter_context(_output(arguments.to))
        left_out = Counter[str]()
        batches: Batches = answered(run, taken(files, metadata, watched, left_out))
        if watched:
            batches = progress(batches, "predict", "file", number, lambda batch: sum(one.case.files for one in batch))
        for text in FORMS[arguments.output](_observed(batches, observers), words):
            write(text)
        if arguments.explain:
            tally.sentences.append(explained.finish())
    tally.sentences += [f"{number} files left out: {what.replace('_', ' ')}" for what, number in left_out.items()]
    tally.tell()
    sys.exit(1 if tally.bad else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="an exported file, such as model.onnx")
    parser.add_argument(
        "files", nargs="+", help="pictures, DICOM and NIfTI files, folders, archives, globs; -: a list on stdin"
    )
    parser.add_argument("--top", type=int, default=3, help="how many classes per case, or labels in a table (3)")
    parser.add_argument("--output", choices=FORMS, default="table", help="the form of the answers (table)")
    parser.add_argument("--to", type=Path, help="write the answers to this file instead of stdout")
    parser.add_argument("--raw", type=Path, help="also write what the model is given")
    parser.add_argument("--hu", action="store_true", help="numbers of NIfTI files are Hounsfield units")
    parser.add_argument("--trust", action="store_true", help="run a file of others although it might run code")
    parser.add_argument(
        "--explain", type=Path, help="also write where the network looked (needs model.pt): a PNG, or a folder of them"
    )
    return parser


class Tally:
    """Counts cases, and tells at the end what people should know of all of them."""

    def __init__(self, named: bool) -> None:
        """Args: named: Whether a case without an answer is named on stderr, as the answers have no row for it."""
        self._named = named
        self._notes = Counter[str]()
        self.cases = self.bad = 0
        self.sentences: list[str] = []

    def add(self, one: Answer) -> None:
        self.cases += 1
        if one.case.note:
            self._notes[one.case.note] += 1
        if one.trouble:
            self.bad += 1
            if self._named:
                with tqdm.external_write_mode(file=terminal.raw(sys.stderr)):  # not behind the bar
                    print(f"error: {shown(one.case.name)}: {shown(one.trouble)}", file=sys.stderr)

    def tell(self) -> None:
        self.sentences += [f"{number} of {self.cases} cases: {note}" for note, number in self._notes.items()]
        if self.bad:
            self.sentences.append(f"no answer for {self.bad} of {self.cases} cases")
        for sentence in filter(None, self.sentences):
            print(sentence, file=sys.stderr)


def _observed(batches: Batches, observers: Sequence[Callable[[Answer], None]]) -> Iterator[Sequence[Answer]]:
    for batch in batches:
        for one in batch:
            for observe in observers:
                observe(one)
        yield batch


@contextmanager
def _raw_file(path: Path, metadata: dict[str, Any]) -> Iterator[Callable[[Answer], None]]:
    with outs.replacing(path) as partial, open(partial, "wb") as file:

        def add(one: Answer) -> None:
            if one.case.pixels is not None:
                file.write(as_raw(one.case, metadata))

        yield add


@contextmanager
def _output(to: Path | None) -> Iterator[Callable[[str], object]]:
    """Writes text to a file, or to stdout: the same, but that a file is there only when it is whole."""
    if to is None:
        yield _print
        return
    with outs.replacing(to) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        yield lambda text: file.write("\n".join("\t".join(map(shown, line.split("\t"))) for line in text.split("\n")))


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def _errors_of_files() -> Iterator[None]:
    """Around the writing of files: what the system says becomes a message."""
    try:
        yield
    except BrokenPipeError:  # as of `| head`: `terminal.program` ends the program
        raise
    except OSError as error:
        raise UserError(f"{error.filename or 'the output'} can't be written: {error.strerror or error}") from None


def taken(
    files: Iterable[File], metadata: dict[str, Any], watched: bool = False, left_out: Counter[str] | None = None
) -> Iterator[RawCase]:
    """The cases of the files, of their own size; one that the model does not take has the reason instead of pixels.

    Args:
        files: As `raw_inputs.find` gives them.
        watched, left_out: As of `read_files`.
    """
    contract = metadata["input"]
    wanted: Literal["images", "volumes"] = "images" if len(contract["shape"]) == 3 else "volumes"
    for read in read_files(files, wanted, min(contract["channels"]), _as_in_training(contract), watched, left_out):
        case = _grey(read, contract["channels"])
        if case.pixels is None:
            yield case
        elif trouble := _trouble(case, case.pixels, contract):
            yield case._replace(pixels=None, trouble=trouble, note="")
        else:
            yield case._replace(pixels=case.pixels.astype(contract["dtype"]))


def _in_hounsfield_units(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a model whose NIfTI files hold Hounsfield units, though they don't say so.

    Raises:
        UserError: It takes others.
    """
    contract = metadata["input"]
    if contract["units"] != "HU":
        raise UserError("--hu: the model does not take Hounsfield units")
    return metadata | {"input": contract | {"reading": contract.get("reading", {}) | {"intensity": "hu"}}}


def _as_in_training(contract: dict[str, Any]) -> dict[str, Any]:
    """The params of ingest that say how pictures and scans are read."""
    pictures = {name: contract[name] for name in ("transparency", "colour") if name in contract}
    return pictures | contract.get("reading", {})


def _grey(case: RawCase, channels: Sequence[int]) -> RawCase:
    """A picture of three equal channels as the grey one that it is, for a model of grey ones: as examples/web does."""
    x = case.pixels
    if x is None or x.ndim != 3 or len(x) != RGB or RGB in channels or GREY not in channels:
        return case
    return case._replace(pixels=x[:GREY], note=SAVED_IN_COLOUR) if (x == x[:GREY]).all() else case


def _trouble(case: RawCase, pixels: np.ndarray, contract: dict[str, Any]) -> str:
    """Why the model does not take a case; empty if it does."""
    if case.units != contract["units"]:
        units = [units or "numbers without a unit" for units in (case.units, contract["units"])]
        way = "; --hu says that numbers of NIfTI files are in it" if contract["units"] and not case.units else ""
        return f"it holds {units[0]}, the model takes {units[1]}{way}"
    if pixels.ndim != len(contract["shape"]):
        return "it is a picture, the model takes volumes"
    if len(pixels) == RGB and contract["channels"] == [GREY]:
        return "it is in colour, the model takes grey ones (dataset.colour: grey_luminance makes one that takes both)"
    if len(pixels) not in contract["channels"]:
        return f"it has {len(pixels)} channels, the model takes {' or '.join(map(str, contract['channels']))}"
    dtype = np.dtype(contract["dtype"])
    is_of_other_range = (
        pixels.ndim == 3 and dtype.kind in "iu" and pixels.dtype != dtype
    )  # 255 is white, or nearly black
    if is_of_other_range or not np.can_cast(pixels.dtype, dtype):
        return f"it holds {pixels.dtype} numbers, the model takes {contract['dtype']}"
    if "spacing_mm" in contract["inputs"] and not np.all(np.array(case.spacing_mm or 0.0) > 0):  # nan, too
        return "its spacing is unknown, which the model needs"
    return ""


def as_raw(case: RawCase, metadata: dict[str, Any]) -> bytes:
    """A case for the programs in examples/, as the top of this file describes it."""
    assert case.pixels is not None
    spacing = case.spacing_mm or () if "spacing_mm" in metadata["input"]["inputs"] else ()
    line = " ".join(map(str, (case.pixels.dtype, *case.pixels.shape, *map(float, spacing))))
    return line.encode() + b"\n" + case.pixels.tobytes()


def answered(run: Runner, cases: Iterable[RawCase]) -> Iterator[list[Answer]]:
    """The model's answer for each case, in order, a batch at a time; a case that it can't run on has the reason.

    Raises:
        UserError: Its outputs are not those in its metadata.
    """
    for batch in _batches(cases):
        if batch[0].pixels is None:
            yield [Answer(case, trouble=case.trouble) for case in batch]
        else:
            yield _answers(run, batch)


def _batches(cases: Iterable[RawCase]) -> Iterator[list[RawCase]]:
    """Neighbours of one size and spacing, or without pixels."""
    batch: list[RawCase] = []
    held = 0
    for case in cases:
        number = 0 if case.pixels is None else case.pixels.nbytes
        if batch and (_size(case) != _size(batch[0]) or len(batch) == BATCH or held + number > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(case)
        held += number
    if batch:
        yield batch


def _size(case: RawCase) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """What the cases of a batch have in common: shape and spacing; the shape is () without pixels."""
    return (() if case.pixels is None else case.pixels.shape), case.spacing_mm


def _answers(run: Runner, batch: Sequence[RawCase]) -> list[Answer]:
    pixels = np.stack([case.pixels for case in batch if case.pixels is not None])
    try:
        values, *unlike = outputs(run, pixels, batch[0].spacing_mm)
    except CannotRun as error:
        if len(batch) == 1:
            return [Answer(batch[0], trouble=str(error))]
        return [answer for case in batch for answer in _answers(run, [case])]  # it may be one of them, or their number
    strange = unlike[0] > 0 if unlike else [None] * len(batch)
    return [
        Answer(case, one, None if is_unlike is None else bool(is_unlike))
        for case, one, is_unlike in zip(batch, values, strange, strict=True)
    ]


class CannotRun(UserError):
    """The model fails on what it is given; it may run on other cases."""


def outputs(run: Runner, x: np.ndarray, spacing: Any) -> tuple[np.ndarray, ...]:
    """The model's outputs for a batch, (N, C, ...).

    Raises:
        CannotRun: It can't run on these.
        UserError: Its outputs are not those in its metadata.
    """
    try:
        found = run(x, spacing)
    except Exception as error:  # every runtime has a class of its own
        reason = str(error).strip().partition("\n")[0][:300]
        raise CannotRun(f"the model can't run on {' x '.join(map(str, x.shape[1:]))}: {reason}") from None
    of = target(run.metadata) if isinstance(run, Model) else None
    wanted = [(len(x), len(of.outputs) if of else found[0].shape[-1]), (len(x),)]
    if [np.shape(output) for output in found] != wanted[: len(found)] or found[0].dtype.kind != "f":
        what = "number with its interval, as" if of and of.of_number else "probabilities of the classes"
        raise UserError(f"the model's outputs are no {what} in its metadata")
    return found


if __name__ == "__main__":
    main()
