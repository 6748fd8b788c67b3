"""What ingest remembers from run to run, beside the outs and out of git, so that only what changed is decoded.

A folder of its own for each state of code, libraries, key and params that matter (its name is their fingerprint):

    files.jsonl         what inspecting each file gave, by hashed path, with size, times and inode to notice a change by
    files.new.jsonl     the same, noted while files are inspected
    refused.jsonl       contents that could not be decoded, and why
    turn.lock           held by the worker whose file takes much memory
    pieces/<key>.h5     pieces of cases/, read-only; the key is of all that is in one
    pieces/<key>.json   its checksum, and of each case where it lies, its checksum and the content it was decoded from

A piece is in its place only when it is whole, so a run that was killed has lost no more than those under way. Every
ingest reads all pieces before it takes any: one that is not byte for byte what was written is made again. That costs
0.12 s of processor per GB, a tenth of what dvc's md5 of the same files takes. Size and time are not asked, as they say
nothing of a failing disk, or of an edit of the out, which may be one file with the piece (publishing.py).

The folder is open to its owner alone (mode 700), as it holds hashes of paths and contents.
"""

import base64
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress, say
from stages.lib.ingest import journal
from stages.lib.ingest.file_table import DIGEST, FileTable, Reason, Shared
from stages.lib.ingest.raw_files import STAMP_FIELDS

LINE_FILES = 4096  # files that one line of files.jsonl holds, at most
READ_ONLY = 0o555  # what a mode may keep
CHUNK_BYTES = 1 << 18  # read at once of a piece: it stays in the processor's cache
NOTED = {"contents": DIGEST, "offsets": np.dtype(np.int64), "digests": DIGEST}  # of each case in a piece
PASSING_REASONS = ("crashed", "changed", "too_large", "io_error")  # reasons that the next ingest may not find again


class Stored(NamedTuple):
    """Where a case's pixels lie."""

    path: str
    offset: int  # bytes
    digest: bytes


class Store:
    """The memory of one dataset's ingest."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        self.pieces = self.folder / "pieces"
        self.turn = self.folder / "turn.lock"
        for private in (folder, self.folder, self.pieces):
            _make_private(private)
        for other in folder.iterdir():
            if other.is_dir() and not other.is_symlink() and other != self.folder:
                shutil.rmtree(other)
        self.close()  # what a run that was killed has left
        self._known = 0  # files
        self.refusals: dict[bytes, tuple[str, str]] = {
            bytes.fromhex(content): (reason, detail)
            for content, reason, detail in journal.read(self.folder / "refused.jsonl")
        }
        self._notes: dict[str, _Notes] = {}
        for path in self.pieces.glob("*.json"):
            self.load(path.stem)

    def close(self) -> None:
        """Removes unfinished pieces, which would fill a full disk, once no worker writes any more."""
        for partial in self.pieces.glob("*.partial*"):
            partial.unlink()

    # What inspecting the files gave

    def take_files(self, names: np.ndarray, stamps_now: Callable[[], np.ndarray], files: FileTable) -> np.ndarray:
        """Fills in what is known of the files with these hashed paths, if their stamps are as they were.

        Args:
            stamps_now: Gives their stamps, (N, STAMP_FIELDS); not called where nothing is known.

        Returns:
            Which files are known, (N,) bool.
        """
        known = np.zeros(len(names), bool)
        stamps: np.ndarray | None = None
        order = np.argsort(names)
        ordered = names[order]
        for name in ("files.jsonl", "files.new.jsonl"):
            for record in journal.read(self.folder / name):
                theirs, table = _unpacked(record["names"], np.uint64), _table(record)
                self._known += len(theirs)
                stamps = stamps_now() if stamps is None else stamps
                at = np.minimum(np.searchsorted(ordered, theirs), len(names) - 1)
                positions = order[at]
                same = (names[positions] == theirs) & (stamps[positions] == table.stamps).all(1)
                files.take(positions[same], table, np.flatnonzero(same))
                known[positions[same]] = True
        return known

    def knows_more(self, files: int) -> bool:
        """Whether it holds files that are gone, or have changed since."""
        return self._known != files

    def note_files(self, names: np.ndarray, files: FileTable) -> None:
        """Appends what inspecting some files gave."""
        journal.append(self.folder / "files.new.jsonl", _record(names, files))
        self._known += len(names)

    def keep_files(self, names: np.ndarray, files: FileTable) -> None:
        """Replaces what it holds of files by what is there now."""
        runs = (np.arange(at, min(at + LINE_FILES, len(names))) for at in range(0, len(names), LINE_FILES))
        records = (_record(names[run], files.select(run)) for run in runs)
        journal.write(self.folder / "files.jsonl", records)
        (self.folder / "files.new.jsonl").unlink(missing_ok=True)

    # Pixels

    def refuse(self, content: bytes, reason: str, detail: str) -> None:
        """Notes that a case of this content can't be decoded: on disk, unless it may be the machine's fault."""
        self.refusals[content] = (reason, detail)
        if reason not in PASSING_REASONS:
            journal.append(self.folder / "refused.jsonl", [content.hex(), reason, detail])

    def piece(self, key: str) -> Path:
        return self.pieces / f"{key}.h5"

    def has(self, key: str) -> bool:
        """Whether a piece is there, and sound since `drop_damaged` looked."""
        return key in self._notes

    def drop_damaged(self, threads: int) -> int:
        """Reads every piece, forgets those that are not what was written, and says how many were damaged.

        One of which there are only the notes is forgotten, too, but not damaged: a kill may have come in between.
        """
        noted = {path.stem for path in self.pieces.glob("*.json")}
        there = sorted(key for key in noted if os.path.lexists(self.piece(key)))
        with ThreadPoolExecutor(threads) as pool:  # reading and hashing leave the interpreter to the others
            sound = list(progress(pool.map(self._is_sound, there), "check the store", "piece", len(there)))
        damaged = [key for key, is_sound in zip(there, sound, strict=True) if not is_sound]
        for key in noted.difference(there).union(damaged):
            self._forget(key)
        if damaged:
            say(f"{self.pieces}: damaged and made again: {len(damaged)} of {len(there)} pieces")
        return len(damaged)

    def _is_sound(self, key: str) -> bool:
        try:
            return key in self._notes and _checksum(self.piece(key)) == self._notes[key].checksum
        except OSError:  # what a failing disk says
            return False

    def digests(self, key: str) -> np.ndarray:
        """Of the pixels of each case in a piece, (n,) of 16 bytes."""
        return self._notes[key].digests

    def finder(self) -> Callable[[np.ndarray], dict[int, Stored]]:
        """Gives a function that finds where the pixels of given contents lie, by position among the contents."""
        notes = list(self._notes.values())
        paths = [str(self.piece(key)) for key in self._notes]
        contents = np.concatenate([np.empty(0, DIGEST), *(note.contents for note in notes)])
        halves = contents.view(np.uint64)[::2]
        order = np.argsort(halves)
        ordered = halves[order]
        starts = np.cumsum([0, *(len(note.contents) for note in notes)])

        def find(wanted: np.ndarray) -> dict[int, Stored]:
            found: dict[int, Stored] = {}
            if not len(contents):
                return found
            at = order[np.minimum(np.searchsorted(ordered, wanted.view(np.uint64)[::2]), len(order) - 1)]
            there = np.flatnonzero(contents[at] == wanted)
            pieces = np.searchsorted(starts, at[there], side="right") - 1
            rows = at[there] - starts[pieces]
            for i, piece, row in zip(there.tolist(), pieces.tolist(), rows.tolist(), strict=True):
                note = notes[piece]
                found[i] = Stored(paths[piece], int(note.offsets[row]), note.digests[row].tobytes())
            return found

        return find

    def forget_all_but(self, pieces: Iterable[Path]) -> None:
        """Removes the pieces that are in the data set no more."""
        for key in {path.stem for path in self.pieces.iterdir()} - {piece.stem for piece in pieces}:
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._notes.pop(key, None)
        for ending in ("json", "h5"):
            (self.pieces / f"{key}.{ending}").unlink(missing_ok=True)

    def load(self, key: str) -> None:
        """Reads the notes of a piece that `keep` has put into its place."""
        for note in journal.read(self.pieces / f"{key}.json"):
            arrays = (_unpacked(note[name], dtype) for name, dtype in NOTED.items())
            self._notes[key] = _Notes(note["checksum"], *arrays)


def keep(made: Path, key: str, contents: np.ndarray, offsets: np.ndarray, digests: np.ndarray) -> None:
    """Moves a finished piece from `made` into its place, read-only; any process may call this.

    Args:
        contents: (n,) of 16 bytes: what the pixels of each case depend on; offsets: (n,) int64: its first byte;
        digests: (n,) of 16 bytes: of its pixels.
    """
    arrays = {"contents": contents, "offsets": offsets, "digests": digests}
    note = {"checksum": _checksum(made)} | {name: _packed(array) for name, array in arrays.items()}
    made.chmod(made.stat().st_mode & READ_ONLY)
    journal.write(made.with_name(f"{key}.json"), [note])
    os.replace(made, made.with_name(f"{key}.h5"))


class _Notes(NamedTuple):
    """What is known of a piece; arrays as `keep` takes them."""

    checksum: str
    contents: np.ndarray
    offsets: np.ndarray
    digests: np.ndarray


def _checksum(path: Path) -> str:
    """Of a file's bytes. They are read, not mapped: a disk's fault would end a process that has mapped them."""
    found, chunk = xxhash.xxh3_128(), memoryview(bytearray(CHUNK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(chunk):
            found.update(chunk[:size])
    return found.hexdigest()


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _unpacked(text: str, dtype: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def _record(names: np.ndarray, files: FileTable) -> dict[str, Any]:
    """A line of files.jsonl, which `_table` reads back."""
    return {
        "names": _packed(names),
        "ids": _packed(files.ids),
        "stamps": _packed(files.stamps),
        "digests": _packed(files.digests),
        "which": _packed(files.which),
        "shared": files.shared,
        "own": list(files.own.items()),
        "reasons": list(files.reasons.items()),
    }


def _table(record: dict[str, Any]) -> FileTable:
    """The files of a line, without their paths."""
    files = FileTable([])
    files.ids = _unpacked(record["ids"], np.uint64)
    files.stamps = _unpacked(record["stamps"], np.int64).reshape(-1, STAMP_FIELDS)
    files.digests = _unpacked(record["digests"], DIGEST)
    files.which = _unpacked(record["which"], np.int32)
    files.shared = [Shared(reader, _tuples(common)) for reader, common in record["shared"]]
    files.own = {i: _tuples(own) for i, own in record["own"]}
    files.reasons = {i: Reason(*reason) for i, reason in record["reasons"]}
    return files


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _make_private(folder: Path) -> None:
    """Makes a folder that its owner alone may use, or makes it one.

    Raises:
        UserError: The system refuses that.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"{folder}: {os.strerror(error.errno or 0)}: ingest keeps there what it has decoded; make it a folder that "
            "belongs to you and can be written to, or remove it, which costs time and nothing else"
        ) from None
