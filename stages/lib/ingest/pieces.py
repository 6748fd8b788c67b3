"""The second pass of ingest: all cases cut into the pieces of cases/, and those made that the store does not have."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.cases import allocate, piece_bits, piece_name
from stages.lib.core.progress import progress
from stages.lib.ingest import piece_jobs
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.case_table import CaseTable, repeated
from stages.lib.ingest.file_table import DIGEST
from stages.lib.ingest.piece_jobs import Common, Done, Job, index, joined, offsets, piece_key
from stages.lib.ingest.readers.contract import Case, Options, Refusal
from stages.lib.ingest.store import Store, Stored, keep
from stages.lib.workers import Workers

SMALL_PIECE_BYTES = 16 << 20  # of pixels: what a worker may hold in memory
RUN_BYTES = 4 << 20  # of pixels that a worker brings at once of a large piece, if a single block has not more


class Filled(NamedTuple):
    """What became of the cases."""

    cases: CaseTable  # those that could be read
    digests: np.ndarray  # (N,) DIGEST: of the pixels of each
    pieces: dict[str, Path]  # of cases/, by their names there
    refused: list[Refusal]


def _stored_again(cases: CaseTable, digests: np.ndarray) -> dict[int, int]:
    """Scans that are there as single slices, and as a multi-frame object with a series of its own: object to slices.

    They have equal pixels, at one place in one patient: a conversion, and no second case.
    """
    found = {}
    for members in repeated(cases, digests):
        of = {i: cases.template(i).case for i in members}
        slices = [i for i, case in of.items() if len(case.files) == case.blocks > 1]
        for i, case in of.items() if slices else ():
            same = next((j for j in slices if _is_one_scan(of[j], case)), None)
            if len(case.files) == 1 < case.blocks and same is not None:
                found[i] = same
    return found


def _is_one_scan(one: Case, other: Case) -> bool:
    place = dict(one.attributes).get("affine")
    return bool(place) and place == dict(other.attributes).get("affine") and one.patient == other.patient is not None


def _conversion(cases: CaseTable, i: int, of: int) -> Refusal:
    """A multi-frame object that shows the slices of another case."""
    detail = f"the same scan as {cases.path(of)} and others, in one object"
    return Refusal((cases.path(i),), "same_scan", detail, ignored=True, copy_of=cases.path(of))


class Piece(NamedTuple):
    """A file of cases/, and which cases are in it."""

    name: str  # of the file
    key: str  # in the store
    start: int  # position of its first case
    stop: int


def fill(
    raw: Path,
    cases: CaseTable,
    raw_bytes: int,
    store: Store,
    options: Options,
    workers: Workers,
    members: Members = NONE,
) -> Filled:
    """Makes the pieces that the store does not have.

    A case that turns out to be damaged is left out, and what it would have been part of is cut anew.

    Args:
        raw_bytes: Of all files, which decides with the number of cases how many pieces there are.
        members: Of archives, that stand for some of the files.
    """
    store.drop_damaged(workers.number)
    contents = cases.contents(options.params.colour)
    refused: list[Refusal] = []
    while True:
        if store.refusals:
            why = [store.refusals.get(content.tobytes()) for content in contents]
            refused += [_refusal(one.case, *reason) for one, reason in zip(cases, why, strict=True) if reason]
            good = np.array([i for i, reason in enumerate(why) if not reason], np.int64)
            cases, contents = cases.select(good), contents[good]
        pieces = _cut(cases, contents, raw_bytes)
        missing = [piece for piece in pieces if not store.has(piece.key)]
        if not missing:
            digests = np.concatenate([np.empty(0, DIGEST), *(store.digests(piece.key) for piece in pieces)])
            if not (again := _stored_again(cases, digests)):
                break
            refused += [_conversion(cases, i, of) for i, of in again.items()]
            rest = np.setdiff1d(np.arange(len(cases)), list(again))
            cases, contents = cases.select(rest), contents[rest]
            continue
        axes = "CDHW" if len(cases.templates[0].case.shape) == 4 else "CHW"
        common = Common(str(raw), options, store.turn, axes, cases.units())
        _make(missing, cases, contents, store, common, workers, members)
    return Filled(cases, digests, {piece.name: store.piece(piece.key) for piece in pieces}, refused)


def _refusal(case: Case, reason: str, detail: str) -> Refusal:
    """Of a case whose pixels can't be read."""
    where = f"{case.part}: " if case.part else ""
    return Refusal(tuple(file.path for file in case.files), reason, where + detail)


def _cut(cases: CaseTable, contents: np.ndarray, raw_bytes: int) -> list[Piece]:
    """The pieces, which follow from the cases and the files' bytes alone."""
    if not len(cases):
        return []
    bits = piece_bits(raw_bytes, len(cases))
    numbers = cases.ids >> np.uint64(64 - bits) if bits else np.zeros(len(cases), np.uint64)
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(cases)]
    units = cases.units()  # once, as it looks at all templates
    pieces = []
    for start, stop in zip(edges, edges[1:], strict=False):
        piece_index, _ = index(cases.select(np.arange(start, stop)))
        name = piece_name(int(numbers[start]), bits)
        pieces.append(Piece(name, piece_key(piece_index, contents[start:stop], units), start, stop))
    return pieces


def _make(
    missing: list[Piece],
    cases: CaseTable,
    contents: np.ndarray,
    store: Store,
    common: Common,
    workers: Workers,
    members: Members,
) -> None:
    """Makes pieces, or finds out which of their cases can't be read."""
    large: dict[str, _LargePiece] = {}
    find = store.finder()

    def jobs() -> Iterator[Job]:
        for piece in missing:
            selected = cases.select(np.arange(piece.start, piece.stop))
            theirs = contents[piece.start : piece.stop]
            # With this run's number: a worker whose parent was killed may still be writing the piece for a moment.
            target = f"{store.piece(piece.key)}.partial{os.getpid()}"
            if int(selected.pixel_bytes().sum()) <= SMALL_PIECE_BYTES:
                yield Job(target, selected, theirs, find(theirs), members=_among(members, selected))
            else:
                large[target] = _LargePiece(target, selected, theirs, find(theirs), common, members)
                yield from large[target].jobs

    total = sum(piece.stop - piece.start for piece in missing)
    done = workers.run(partial(piece_jobs.run, common), jobs(), _split, _crashed)
    for job, result in progress(done, "read pixels", "case", total, _finished_cases):
        for content, reason in result.refused.items():
            store.refuse(content, *reason)
        key = large[job.target].add(job, result) if job.stop else result.key
        if key:
            store.load(key)


def _among(members: Members, cases: CaseTable) -> Members:
    """The members that stand for files of some cases."""
    if not members:
        return NONE
    several = (file.path for template in cases.templates if template.is_whole for file in template.case.files)
    return members.among(sorted({*filter(None, cases.paths), *several}, key=members.place))


def _finished_cases(done: tuple[Job, Done]) -> int:
    job, _ = done
    return len(job.cases) if job.stop == 0 else int(job.stop == job.cases.template(0).case.blocks)


class _LargePiece:
    """A piece that several workers fill."""

    def __init__(
        self,
        target: str,
        cases: CaseTable,
        contents: np.ndarray,
        stored: dict[int, Stored],
        common: Common,
        members: Members,
    ) -> None:
        self._target, self._cases, self._contents = Path(target), cases, contents
        self._members = members
        piece_index, elements = index(cases)
        self._key = piece_key(piece_index, contents, common.units)
        starts = allocate(self._target, piece_index, elements, common.axes, common.units)
        self._offsets = offsets(piece_index, starts)
        self.jobs = [job for i in range(len(cases)) for job in self._runs(i, stored.get(i))]
        self._left = len(self.jobs)
        self._sound = True
        self._digests: list[list[bytes]] = [[b""] * cases.template(i).case.blocks for i in range(len(cases))]

    def _runs(self, i: int, stored: Stored | None) -> Iterator[Job]:
        """The jobs of a case: one where it is to be copied, or unpacked as a whole, else runs of its blocks."""
        only = self._cases.select(np.array([i]))
        (template,) = only
        blocks = template.case.blocks
        block_bytes = int(only.pixel_bytes()[0]) // blocks
        members = _among(self._members, only)
        step = blocks if stored or piece_jobs.unpacked_bytes(template) else max(1, RUN_BYTES // block_bytes)
        for start in range(0, blocks, step):
            yield Job(
                target=str(self._target),
                cases=only,
                contents=self._contents[i : i + 1],
                stored={0: stored} if stored else {},
                number=i,
                start=start,
                stop=min(start + step, blocks),
                offset=int(self._offsets[i]) + start * block_bytes,
                members=members,
            )

    def add(self, job: Job, done: Done) -> str:
        """Notes what came of a job; after the last one the piece is kept, if nothing was refused, and has its key."""
        self._left -= 1
        self._sound = self._sound and not done.refused
        if self._sound:
            self._digests[job.number][job.start : job.stop] = done.digests
        if self._left:
            return ""
        if not self._sound:
            self._target.unlink()
            return ""
        digests = np.frombuffer(b"".join(map(joined, self._digests)), DIGEST)
        keep(self._target, self._key, self._contents, self._offsets, digests)
        return self._key


def _split(job: Job) -> list[Job]:
    """What to try one by one when a job has crashed."""
    if job.stop:
        return [job]
    return [
        Job(f"{job.target}.{i}", job.cases.select(np.array([i])), job.contents[i : i + 1], {}, members=job.members)
        for i in range(len(job.cases))
    ]


def _crashed(job: Job) -> Done:
    return Done({job.contents[0].tobytes(): ("crashed", "the process that decoded it came to its end")})
