"""Where files differ from what is recorded of them, and how to mend that."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dvc.fs import localfs
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from tools.verify import remedies
from tools.verify.hashes import Hashes
from tools.verify.recorded import FOLDER, Recorded, manifest, objects
from tools.verify.remedies import MISSING, Faults

OTHER_BYTES = "not the bytes that were recorded"


class Finding(NamedTuple):
    """What is wrong with an out, raw data or the cache's copy of them."""

    faults: Faults
    remedy: str


def findings(repo: Repo, records: Sequence[Recorded], hashes: Hashes, whole_cache: bool) -> Iterator[Finding]:
    """Compares everything; the cache comes first, as what is damaged there must go before it can mend the rest.

    Args:
        whole_cache: Also objects that none of the records is about, such as those of earlier commits.
    """
    here = {record: _files(repo, record) for record in records}
    hashes.read((path, record.hash_name) for record in records for path in here[record].values())
    wanted = {record: _wanted(record, hashes) for record in records}
    cached = {record: _objects(record, wanted[record]) for record in records}
    hashes.read((path, record.hash_name) for record in records for path in cached[record])
    wrong = {record: _compare(repo, record, here[record], wanted[record], hashes) for record in records}
    unsound = {record.by for record in records if wrong[record]}

    seen: set[str] = set()
    for record in records:
        lost = _faulty({path: of for path, of in cached[record].items() if path not in seen}, record.hash_name, hashes)
        seen.update(cached[record])
        if lost:
            lost = {os.path.relpath(path, repo.root_dir): why for path, why in lost.items()}
            yield Finding(lost, remedies.of_cache(record, lost, record.by not in unsound))
    if whole_cache:
        yield from _others(repo, seen, hashes)
    for record, faults in wrong.items():
        if faults:
            sound = wanted[record] is not None and not _faulty(cached[record], record.hash_name, hashes)
            yield Finding(faults, remedies.of_files(record, faults, sound))


def _files(repo: Repo, record: Recorded) -> dict[str, str]:
    """The files that are there, by path below the record's ("": its own)."""
    path = os.path.join(repo.root_dir, record.path)
    if os.path.isdir(path):
        start = len(path) + 1
        return {file[start:].replace(os.sep, "/"): file for file in repo.dvcignore.find(localfs, path)}
    return {"": path} if os.path.lexists(path) else {}


def _wanted(record: Recorded, hashes: Hashes) -> dict[str, str] | None:
    """The hashes that the files should have; None for a folder of which there is no sound list."""
    if not record.is_folder:
        return {"": record.value}
    if record.cache is None:
        return None
    path = record.cache.oid_to_path(record.value)
    hashes.read([(path, record.hash_name)])
    return None if _faulty({path: record.value}, record.hash_name, hashes) else manifest(path)


def _objects(record: Recorded, wanted: Mapping[str, str] | None) -> dict[str, str]:
    """The objects of the cache that belong to a record: paths and hashes."""
    if record.cache is None:
        return {}
    values = {record.value, *(wanted or {}).values()}
    return {record.cache.oid_to_path(value): value for value in sorted(values)}


def _faulty(expected: Mapping[str, str], hash_name: str, hashes: Hashes) -> Faults:
    """What is wrong with objects of the cache."""
    return {path: why for path, value in expected.items() if (why := _differs((path, hash_name), value, hashes))}


def _differs(file: tuple[str, str], value: str, hashes: Hashes) -> str:
    found = hashes.found[file]
    if isinstance(found, FileNotFoundError):
        return MISSING
    if isinstance(found, OSError):
        return f"can't be read ({found.strerror or found})"
    return OTHER_BYTES if found != value.removesuffix(FOLDER) else ""


def _compare(
    repo: Repo, record: Recorded, here: Mapping[str, str], wanted: Mapping[str, str] | None, hashes: Hashes
) -> Faults:
    """What is wrong with a record's files in the working tree."""
    if not here:
        return {record.path: MISSING}
    if record.is_folder == ("" in here):
        return {record.path: "a file, and was a folder" if record.is_folder else "a folder, and was a file"}
    if wanted is None:
        return _compare_whole(repo, record, here, hashes)
    faults = {}
    for name in sorted(wanted.keys() | here.keys()):
        if name not in here:
            why = MISSING
        elif name not in wanted:
            why = "not recorded"
        else:
            why = _differs((here[name], record.hash_name), wanted[name], hashes)
        if why:
            faults[os.path.join(record.path, name) if name else record.path] = why
    return faults


def _compare_whole(repo: Repo, record: Recorded, here: Mapping[str, str], hashes: Hashes) -> Faults:
    """The same for a folder of which only one hash is known. dvc remembers those of its files on this machine."""
    tree, faults = Tree(), {}
    for name, path in here.items():
        found = hashes.found[path, record.hash_name]
        _, remembered = repo.state.get(path, localfs)
        if isinstance(found, OSError):
            faults[os.path.join(record.path, name)] = _differs((path, record.hash_name), "", hashes)
        else:
            tree.add(tuple(name.split("/")), None, HashInfo(record.hash_name, found))
            if remembered and remembered.value != found:
                faults[os.path.join(record.path, name)] = f"{OTHER_BYTES}, though size, time and inode are as they were"
    value = hashlib.md5(tree.as_bytes(), usedforsecurity=False).hexdigest() + FOLDER
    if value == record.value:
        return {}
    return faults or {record.path: f"{len(here)} files; some are new, missing or changed (dvc keeps no list of them)"}


def _others(repo: Repo, seen: set[str], hashes: Hashes) -> Iterator[Finding]:
    """The rest of the cache."""
    for cache in {one.path: one for one in (repo.cache.local, repo.cache.legacy)}.values():
        rest = {path: value for path, value in objects(cache.path) if path not in seen}
        hashes.read((path, cache.hash_name) for path in rest)
        if lost := _faulty(rest, cache.hash_name, hashes):
            lost = {os.path.relpath(path, repo.root_dir): why for path, why in lost.items()}
            yield Finding(lost, remedies.of_others(lost))
