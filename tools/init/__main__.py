"""Begins a data set of your own: looks at a folder, shows what is there, and writes its block into params.yaml.

    python -m tools.init mine ~/photographs --dry-run    # look, and print what would be written
    python -m tools.init mine ~/photographs              # copy it to data/raw/mine, and write the block
    python -m tools.init mine ~/photographs.zip          # likewise, to data/raw/mine/photographs.zip
    python -m tools.init data/raw/mine.zip               # move it to data/raw/mine/mine.zip, and write the block
    python -m tools.init --own                           # take the demo data sets out of a clone, and commit that

A folder that is data/raw/<name> already stays where it is, and an archive in data/raw is moved into the folder of the
data set, as it can't be read in its place; `--move` moves another folder or archive there instead of copying it. Only
headers are read, and of many files only some. Nothing is changed where the data can't be used as they are: the message
says what to do.
"""

import argparse
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib import params
from stages.lib.command import PARAMS_YAML
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.opening import kind_of
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.ingest.archives import foreign, places
from stages.lib.ingest.litter import is_litter, lies_in_litter
from tools.init import block, look, own

RAW = Path("data/raw")


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.init", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "name",
        nargs="?",
        help="what the data set shall be called: lower-case letters, digits, _ and -; left out, as what is given",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="the folder or archive of its pictures or DICOM files")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; print the block")
    parser.add_argument("--move", action="store_true", help="move it to data/raw/<name>, do not copy it")
    parser.add_argument("--own", action="store_true", help="take the demo data sets out first; alone, do no more")
    arguments = parser.parse_args(argv)
    if arguments.name and arguments.folder is None and os.path.exists(arguments.name):
        arguments.folder = Path(arguments.name)
        # As it is called, not as what a link leads to is; and . has a name, too.
        arguments.name = places.without_ending(os.path.basename(os.path.abspath(arguments.name)))
    if arguments.folder is None and (arguments.name or not arguments.own):
        parser.error("expected NAME and a folder or archive, or --own")
    if arguments.own:
        if arguments.dry_run:
            parser.error("--own has no --dry-run")
        own.own()
    if arguments.folder is not None:
        begin(arguments.name, arguments.folder, arguments.dry_run, arguments.move)


def begin(name: str, folder: Path, dry_run: bool = False, move: bool = False) -> None:
    """As the command line.

    Raises:
        UserError: There is such a data set already, or the data can't be used as they are.
    """
    params.check_names([_as_yaml(name)], "the name")
    is_archive = _is_archive(folder)
    known = params.load(PARAMS_YAML)
    if name in known.datasets:
        raise UserError(f"{PARAMS_YAML} has a data set {name} already: take another name, or edit its block")
    place = RAW / name
    is_there = place.exists() and place.samefile(folder)
    if os.path.lexists(place) and not is_there:
        raise UserError(f"{place} is there already: take another name, or give that folder")
    if not is_there and folder.resolve() in place.resolve().parents:
        raise UserError(f"{folder} holds {place}, where its files would go: give a folder that doesn't")
    move = move or is_archive and RAW.exists() and folder.parent.samefile(RAW)
    target = place / folder.name if is_archive else place
    if move and (tracked := Path(f"{folder}.dvc")).exists():
        first = f"mkdir {place} && " if is_archive else ""
        raise UserError(f"dvc keeps {folder}, as {tracked} says: {first}dvc move {folder} {target}, and give {place}")
    found = look.Found()
    try:
        with _linked(folder, place) if is_archive else nullcontext():
            look.look(place if is_archive else folder, found)
    finally:
        for row in found.rows:
            say(row)
    text = block.text(name, found)
    if dry_run:
        say(f"\nWould be written into {PARAMS_YAML}:\n\n{text}")
        return
    if not is_there:
        _bring(folder, place, target, move, found.litter)
    block.insert(PARAMS_YAML, text)
    say(
        f"\nWritten into {PARAMS_YAML}:\n\n{text}\n{_next(name, found)}\n"
        f"To keep the data in versions, too: dvc add {place}; then commit {place}.dvc with {PARAMS_YAML}, dvc.lock and "
        "metrics/"
    )


def _as_yaml(name: str) -> object:
    """What params.yaml would make of a name: of 2024 a number."""
    try:
        return YAML(typ="safe", pure=True).load(name) if name else name
    except YAMLError:
        return name


def _is_archive(given: Path) -> bool:
    """Whether an archive is given, and no folder.

    Raises:
        UserError: It is neither, or can't be read.
    """
    if os.path.isdir(given):
        return False
    try:
        mode = os.stat(given).st_mode
        is_read = stat.S_ISREG(mode) and places.find("", [str(given)])
    except FileNotFoundError:
        raise UserError(f"{given} not found: give a folder or an archive") from None
    except OSError as error:
        raise UserError(f"{given} can't be read ({error.strerror}): give a folder or an archive") from None
    if not is_read:
        what = foreign.told(str(given)) or "is a file" if stat.S_ISREG(mode) else f"is {kind_of(mode)}"
        raise UserError(f"{given} {what}: give the folder with the files, or an archive of them (zip, tar, tar.gz)")
    if is_litter(given.name):
        raise UserError(f"{given} is hidden, and would not be read: rename it")
    return True


@contextmanager
def _linked(archive: Path, place: Path) -> Iterator[None]:
    """An archive in a folder of its own by a link, so that it is looked at as it will be read; nothing of it stays."""
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    place.mkdir(parents=True)
    link = place / archive.name
    try:
        link.symlink_to(archive.absolute())
        yield
    finally:
        link.unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()


def _next(name: str, found: look.Found) -> str:
    command = f"dvc repro export@{name} validate@{name}"
    return f"First: {found.trouble}\nThen: {command}" if found.trouble else f"Next: {command}"


def _bring(given: Path, place: Path, target: Path, move: bool, litter: Sequence[str]) -> None:
    """Args:
        place: The folder of the data set.
        target: What is given becomes this: the same, or an archive in it.
        litter: The files below a folder that are not copied.

    Raises:
        UserError: The disk has no room for a copy, or something can't be copied or moved.
    """
    partial = place.with_name(f".{place.name}.partial")
    try:
        (target if move else place).parent.mkdir(parents=True, exist_ok=True)
        if move:
            _move(given, target)
            say(f"{shown(given)} is now {shown(target)}")
            return
        files = [given] if given.is_file() else given.rglob("*")
        size = sum(path.stat().st_size for path in files if path.is_file())
        if size > shutil.disk_usage(place.parent).free:
            raise UserError(f"the disk has no room for a copy of {given}: give --move, or put it at {target} yourself")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        if given.is_file():
            partial.mkdir()
            shutil.copy2(given, partial)
        else:
            shutil.copytree(given, partial, ignore=_but_for(given, litter))
        partial.rename(place)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        path, _, why = error.args[0][0] if isinstance(error, shutil.Error) else (given, "", error.strerror)
        raise UserError(f"{path} can't be {'moved' if move else 'copied'} ({why}): mend or remove it") from None
    left = f", without {len(litter)} hidden files and the like" * bool(litter)
    say(f"{shown(given)} is copied to {shown(target)}{left}")


def _move(given: Path, target: Path) -> None:
    """Moves a folder or archive; of a link, which leads on to the same, the link."""
    if given.is_symlink():
        target.symlink_to(given.resolve())
        given.unlink()
    else:
        shutil.move(given, target)


def _but_for(given: Path, litter: Sequence[str]) -> Callable[[str, list[str]], set[str]]:
    """What `shutil.copytree` is to leave out: litter may hold pipes, and links that lead nowhere or round."""
    left_out = {
        path for file in litter for path in (file, *map(str, PurePosixPath(file).parents)) if lies_in_litter(path)
    }

    def ignore(folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(given)
        return {name for name in names if (below / name).as_posix() in left_out}

    return ignore


if __name__ == "__main__":
    main()
