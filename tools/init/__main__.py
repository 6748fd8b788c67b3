"""Begins a data set of your own: looks at a folder, shows what is there, and writes its block into params.yaml.

    python -m tools.init mine ~/photographs --dry-run    # look, and print what would be written
    python -m tools.init mine ~/photographs              # copy it to data/raw/mine, and write the block
    python -m tools.init --own                           # take the demo data sets out of a clone, and commit that

A folder that is data/raw/<name> already stays where it is; `--move` moves another one there instead of copying it. Only
headers are read, and of many files only some. Nothing is changed where the data can't be used as they are: the message
says what to do.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.command import PARAMS_YAML
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from tools.init import block, look, own

RAW = Path("data/raw")


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.init", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "name", nargs="?", help="what the data set shall be called: lower-case letters, digits, _ and -"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="where its pictures or DICOM files are now")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; print the block")
    parser.add_argument("--move", action="store_true", help="move the folder to data/raw/<name>, do not copy it")
    parser.add_argument("--own", action="store_true", help="take the demo data sets out first; alone, do no more")
    arguments = parser.parse_args(argv)
    if arguments.folder is None and (arguments.name or not arguments.own):
        parser.error("expected NAME and FOLDER, or --own")
    if arguments.own:
        if arguments.dry_run:
            parser.error("--own has no --dry-run")
        own.own()
    if arguments.name:
        begin(arguments.name, arguments.folder, arguments.dry_run, arguments.move)


def begin(name: str, folder: Path, dry_run: bool = False, move: bool = False) -> None:
    """As the command line.

    Raises:
        UserError: There is such a data set already, or the data can't be used as they are.
    """
    params.check_names([YAML(typ="safe", pure=True).load(name) if name else name], "the name")
    if folder.is_file():
        raise UserError(
            f"{folder} is a file: give the folder with the files; an archive (zip, tar, tar.gz) is read in place, from "
            "a folder of its own: move it into one, and give that"
        )
    known = params.load(PARAMS_YAML)
    if name in known.datasets:
        raise UserError(f"{PARAMS_YAML} has a data set {name} already: take another name, or edit its block")
    place = RAW / name
    if place.exists() and not place.samefile(folder):
        raise UserError(f"{place} is there already: take another name, or give that folder")
    found = look.Found()
    try:
        look.look(folder, found)
    finally:
        for row in found.rows:
            say(row)
    text = block.text(name, found)
    if dry_run:
        say(f"\nWould be written into {PARAMS_YAML}:\n\n{text}")
        return
    if not place.exists():
        _bring(folder, place, move)
    block.insert(PARAMS_YAML, text)
    say(
        f"\nWritten into {PARAMS_YAML}:\n\n{text}\n{_next(name, found)}\n"
        f"To keep the data in versions, too: dvc add {place}; then commit {place}.dvc with {PARAMS_YAML}, dvc.lock and "
        "metrics/"
    )


def _next(name: str, found: look.Found) -> str:
    command = f"dvc repro export@{name} validate@{name}"
    return f"First: {found.trouble}\nThen: {command}" if found.trouble else f"Next: {command}"


def _bring(folder: Path, place: Path, move: bool) -> None:
    """Raises:
    UserError: The disk has no room for a copy.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if move:
        shutil.move(folder, place)
        say(f"{shown(str(folder))} is now {place}")
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > shutil.disk_usage(place.parent).free:
        raise UserError(f"the disk has no room for a copy of {folder}: give --move, or put it at {place} yourself")
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    shutil.copytree(folder, partial)
    partial.rename(place)
    say(f"{shown(str(folder))} is copied to {place}")


if __name__ == "__main__":
    main()
